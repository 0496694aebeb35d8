//! How the controller's loops become threads: named, with a chosen stack, and never silently gone.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;

use super::lines::End;
use crate::scheduling::interrupt_nobody;

/// A loop's stack: reports and the whole view's merge run here, JSON included.
const STACK: usize = 512 * 1024;

/// Starts a loop. A loop that panics ends the node: half a node would be worse than none, and a supervisor restarts it.
///
/// # Errors
/// The system has no thread to give.
pub fn start(name: &'static str, end: Sender<End>, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
        interrupt_nobody();
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let _ = end.try_send(End::Panicked(name));
        }
    })
}
