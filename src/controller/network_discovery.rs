//! Network discovery, `ctl-discovery`: on a tick or news it broadcasts to the peers what the discovery protocol says is due:
//! records, witnesses, flushes of the change feed, heartbeats that show agreement. What is due: `protocol/node/rounds.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::registry::Registry;
use crate::protocol::node::Input;

/// Runs until it hears `false`. While nothing is due it does not wake up.
pub fn run(registry: &Arc<Registry>, news: &Receiver<bool>) {
    loop {
        let go_on = match registry.discovery_sleeps_until() {
            Some(moment) => match news.recv_timeout(registry.around.clock.until(moment)) {
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
                Ok(go_on) => go_on,
            },
            None => news.recv().unwrap_or(false),
        };
        registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
        if !go_on {
            return;
        }
        if registry.discovery_sleeps_until().is_some_and(|due| due <= registry.around.clock.time()) {
            registry.handle(Input::Discovery);
        }
    }
}
