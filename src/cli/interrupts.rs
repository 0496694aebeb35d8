//! Signals to commands that have nodes of their own, which must not leave these nodes' directories behind.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// The thread `signals`: a signal becomes a word in a channel.
pub(super) struct Interrupts {
    pub(super) received: Receiver<()>,
    /// True once there was one.
    pub(super) seen: Arc<AtomicBool>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Interrupts {
    /// From now on a signal does not end this process.
    pub(super) fn start() -> io::Result<Self> {
        // A terminal that is closed must not leave the nodes' directories behind.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let (sender, received) = bounded(1);
        let seen = Arc::new(AtomicBool::new(false));
        let sees = Arc::clone(&seen);
        let pass_on = move || {
            for _ in signals.forever() {
                sees.store(true, Ordering::Relaxed);
                // Full: it is known already.
                let _ = sender.try_send(());
            }
        };
        let thread = thread::Builder::new().name("signals".into()).spawn(pass_on)?;
        Ok(Self { received, seen, handle, thread: Some(thread) })
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Its panic would have been told by the hook.
            let _ = thread.join();
        }
    }
}
