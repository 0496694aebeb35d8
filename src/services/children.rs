//! The programs that a node runs at the moment, so that none outlives it.

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

use super::said::LogRoom;

/// The process groups that run now: as many as there are threads that wait for one.
#[derive(Debug)]
pub struct Children {
    /// `None`: the node ends, and there will be no more.
    running: Mutex<Option<Vec<Pid>>>,
    /// What all of them together may write into the log.
    pub(super) log: LogRoom,
}

impl Children {
    /// None yet.
    pub fn new() -> Self {
        Self { running: Mutex::new(Some(Vec::new())), log: LogRoom::new() }
    }

    /// Kills all that run, with what they have started; from now on none begins.
    pub fn kill_all(&self) {
        let mut running = self.running.lock();
        for group in running.take().into_iter().flatten() {
            kill(group);
        }
    }

    /// How many run; `None` once the node ends.
    pub fn count(&self) -> Option<usize> {
        self.running.lock().as_ref().map(Vec::len)
    }

    /// True unless the node ends.
    pub(super) fn may_begin(&self) -> bool {
        self.running.lock().is_some()
    }

    /// One has begun. If the node has come to its end meanwhile, so has the program.
    ///
    /// Not while it is started, for that takes as long as its disk does, and the lock is what the node's end waits for.
    pub(super) fn add(&self, group: Pid) {
        match &mut *self.running.lock() {
            Some(running) => running.push(group),
            None => kill(group),
        }
    }

    /// One is about to be reaped. Once it is, its number may be given to a stranger, so this comes before.
    pub(super) fn forget(&self, group: Pid) {
        if let Some(running) = &mut *self.running.lock() {
            running.retain(|known| *known != group);
        }
    }
}

impl Default for Children {
    fn default() -> Self {
        Self::new()
    }
}

/// Kills a group whose leader is not reaped: until then its number belongs to nobody else.
pub(super) fn kill(group: Pid) {
    // Fails if all of it has ended, or if it may not be killed: a program that has become another user's.
    let _ = kill_process_group(group, Signal::KILL);
}
