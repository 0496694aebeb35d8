//! The listen loop, `ctl-listen`: accepts, asks the node whether there is room, creates the peer and spawns its main loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registry::Registry;
use crate::protocol::heartbeat::Side;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::reactor::{Accepted, Acceptor};

/// Without descriptors nothing can be accepted until somebody closes one.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs until the acceptor's waker is used.
pub fn run(registry: &Arc<Registry>, mut acceptor: Acceptor) {
    loop {
        let accepted = acceptor.accept(None);
        registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
        match accepted {
            Accepted::Connection(stream, from) => {
                match registry.think(|node, now, actions| node.accepted(now, from, actions)) {
                    Ok(peer) => registry.start_peer(peer, Side::Head, Some(stream), Command::Accept),
                    Err(reason) => registry.log_refusal(reason, &from.to_string()),
                }
            }
            Accepted::Exhausted(error) => {
                let cure = "raise the limit of open files; trying again every 100 ms";
                registry.log_refusal(Reason::Overloaded, &format!("to accept connections ({error}: {cure})"));
                registry.think(|node, _, _| node.count_refused(Reason::Overloaded));
                acceptor.pause(PAUSE);
            }
            Accepted::TimedOut => {}
            Accepted::Woken => return,
        }
    }
}
