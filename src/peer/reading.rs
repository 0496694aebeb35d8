//! What the thread that reads does not do at each message, but once all of a read is gone through.
//!
//! ```text
//!   read ─▶ message ─▶ within(its connection) ── answers, asks: queued, not written
//!           message ─▶ within(its connection) ── has something for a thread that sleeps: noted, not woken
//!           ...
//!           flush ────▶ one write, and wake_all
//! ```

use std::cell::{Cell, RefCell};
use std::sync::Arc;

thread_local! {
    /// Of what this thread goes through what was read: where that lies, or 0.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// Whether it does, for any.
    static READS: Cell<bool> = const { Cell::new(false) };
    /// Whom this thread has something for, while it does.
    static SLEEPERS: RefCell<Vec<Arc<dyn Sleeper>>> = const { RefCell::new(Vec::new()) };
}

/// Somebody who sleeps until something is there for him.
pub trait Sleeper: Send + Sync {
    /// It is.
    fn wake(&self);
}

/// Wakes somebody, or has him woken with all others.
pub fn wake(sleeper: Arc<dyn Sleeper>) {
    if !READS.get() {
        return sleeper.wake();
    }
    SLEEPERS.with_borrow_mut(|sleepers| {
        // Many answers for the same one, as a rule.
        if !sleepers.last().is_some_and(|last| Arc::ptr_eq(last, &sleeper)) {
            sleepers.push(sleeper);
        }
    });
}

/// Does something for a message of what lies there. From now on until [`wake_all`] this thread wakes nobody: whoever is woken
/// at the first of a hundred answers interrupts this thread, takes that one, sleeps, and is woken for the next.
pub(super) fn within<T>(place: usize, work: impl FnOnce() -> T) -> T {
    READS.set(true);
    let _read = Read(READ.replace(place));
    work()
}

/// True while this thread goes through what was read of that.
pub(super) fn is_of(place: usize) -> bool {
    READ.get() == place
}

/// Wakes all for whom there is something.
pub(super) fn wake_all() {
    if !READS.take() {
        return;
    }
    // Taken out first: who is woken is none of the cell's business. The room for them is kept.
    let mut sleepers = SLEEPERS.take();
    sleepers.drain(..).for_each(|sleeper| sleeper.wake());
    SLEEPERS.with_borrow_mut(|kept| {
        if kept.is_empty() {
            *kept = sleepers;
        }
    });
}

/// What was gone through before.
struct Read(usize);

impl Drop for Read {
    fn drop(&mut self) {
        READ.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Sleeper for Counting {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_has_many_answers_of_one_read_is_woken_once_at_its_end() {
        let (one, other) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let woken = || (one.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed));
        wake(one.clone());
        assert_eq!(woken(), (1, 0));
        within(1, || wake(one.clone()));
        for _ in 0..3 {
            within(1, || wake(one.clone()));
        }
        wake(other.clone());
        assert_eq!(woken(), (1, 0), "the read goes on");
        wake_all();
        assert_eq!(woken(), (2, 1));
        wake(other.clone());
        assert_eq!(woken(), (2, 2), "the read is over");
    }

    #[test]
    fn what_is_gone_through_is_known_until_that_is_over_even_if_it_panics() {
        assert!(!is_of(1));
        within(1, || {
            assert!(is_of(1) && !is_of(2));
            assert!(std::panic::catch_unwind(|| within(2, || panic!("as the test wants it"))).is_err());
            assert!(is_of(1));
        });
        assert!(!is_of(1));
    }
}
