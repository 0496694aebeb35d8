//! Monitor idle, `ctl-idle`: on a tick or a wake-up it analyses the list of addresses, and where the conditions are met it
//! creates a peer, spawns its main loop and sends it `Connect`. The conditions: `protocol/node/idle.rs`. It does as well
//! what others have left to a moment: `alarms.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::lines::IdleCall;
use super::registry::Registry;
use crate::protocol::node::Input;

/// Runs until it is told to stop. While there is nobody to dial and nothing to be done at a moment it does not wake up.
pub fn run(registry: &Arc<Registry>, calls: &Receiver<IdleCall>) {
    loop {
        let call = match sleep(registry) {
            Some(span) => match calls.recv_timeout(span) {
                Err(RecvTimeoutError::Timeout) => IdleCall::Wake,
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(call) => call,
            },
            None => calls.recv().unwrap_or(IdleCall::Stop),
        };
        registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
        match call {
            IdleCall::Stop => return,
            IdleCall::Connect(address, answer) => registry.connect(address, answer),
            // Dialling is the registry's to carry out, on this thread: `Registry::start_peer`.
            IdleCall::Wake => {
                registry.alarms.ring(Instant::now());
                if registry.idle_sleeps_until().is_some_and(|due| due <= registry.around.clock.time()) {
                    registry.handle(Input::Idle);
                }
            }
        }
    }
}

/// Until the first of all that is due.
fn sleep(registry: &Registry) -> Option<Duration> {
    let dial = registry.idle_sleeps_until().map(|moment| registry.around.clock.until(moment));
    let alarm = registry.alarms.next().map(|moment| moment.saturating_duration_since(Instant::now()));
    dial.into_iter().chain(alarm).min()
}
