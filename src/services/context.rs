//! In whose service a thread works: what a request that it makes is an effect of.
//!
//! A handler that asks another node goes one step deeper, and no later than its own deadline; one that runs where answers
//! arrive cannot wait for any.

use std::cell::Cell;
use std::time::Instant;

/// What this thread does now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// How many requests its work is an effect of.
    pub depth: u8,
    /// When that has to be done.
    pub deadline: Option<Instant>,
    /// It runs where answers arrive: it must not wait for one.
    pub is_inline: bool,
}

thread_local! {
    static CONTEXT: Cell<Context> = const { Cell::new(Context { depth: 0, deadline: None, is_inline: false }) };
}

/// What this thread does now; nothing in particular, if nobody has said so.
pub fn current() -> Context {
    CONTEXT.get()
}

/// Does something in this context, and is then again in the one before.
pub fn within<T>(context: Context, work: impl FnOnce() -> T) -> T {
    let _guard = Guard(CONTEXT.replace(context));
    work()
}

/// Does something that must not wait for answers.
pub fn inline<T>(work: impl FnOnce() -> T) -> T {
    within(Context { is_inline: true, ..current() }, work)
}

struct Guard(Context);

impl Drop for Guard {
    /// Also when the work has panicked.
    fn drop(&mut self) {
        CONTEXT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_context_ends_with_its_work_even_if_that_panics() {
        let deep = Context { depth: 2, ..Context::default() };
        assert_eq!(within(deep, || inline(|| (current().depth, current().is_inline))), (2, true));
        assert!(catch_unwind(|| within(deep, || panic!("as the test wants it"))).is_err());
        assert_eq!((current().depth, current().is_inline), (0, false));
    }
}
