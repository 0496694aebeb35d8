//! The main loop, `ctl-main`: the events of all peers, one pure call each. It goes on until the last peer has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, select};

use super::lines::Call;
use super::registry::Registry;
use crate::peer::main_loop::Checked;
use crate::protocol::identity::PeerId;
use crate::protocol::node::Input;
use crate::protocol::peer_state::PeerEvent;
use crate::protocol::reason::Reason;

/// Runs until it is told to stop and the last peer has ended.
pub fn run(registry: &Arc<Registry>, events: &Receiver<(PeerId, Checked)>, calls: &Receiver<Call>) {
    let mut stopping = false;
    while !(stopping && registry.peer_count() == 0) {
        select! {
            recv(events) -> event => {
                if let Ok((peer, event)) = event {
                    one_event(registry, peer, event);
                }
            }
            recv(calls) -> call => match call {
                Ok(Call::Resolved(address, found)) => registry.handle(Input::Resolved(address, found)),
                Ok(Call::Stop) | Err(_) => stopping = true,
            },
        }
        registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
    }
}

fn one_event(registry: &Arc<Registry>, peer: PeerId, event: Checked) {
    let last = matches!(event, PeerEvent::Closed { .. });
    if let PeerEvent::Closed { reason, by_remote } = &event {
        log_end(registry, peer, *reason, *by_remote);
    }
    registry.handle(Input::Peer(peer, event));
    if last {
        // Not before: as long as the thinking has the peer, others may be told to ask over it.
        registry.part(peer);
    }
}

/// What counts as a refusal is worth a line; being busy is not, since a head that sends a tail on is in good order.
fn log_end(registry: &Arc<Registry>, peer: PeerId, reason: Reason, by_remote: bool) {
    log::debug!("peer {peer} closed: {reason}");
    if !(reason.is_refusal() || reason.is_misbehaviour()) || reason == Reason::Busy {
        return;
    }
    let who = registry.read(|node, _| node.link(peer).map(|link| (link.address, link.node)));
    let Some((address, node)) = who else { return };
    let node = node.map(|id| format!(" ({})", &id.hex()[..8])).unwrap_or_default();
    registry.log_refusal(reason, &format!("{}{address}{node}", if by_remote { "by " } else { "" }));
}
