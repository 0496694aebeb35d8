//! When many neighbours fall silent at once.
//!
//! Edges that are no ring edges are asked only every few heartbeats, so that one node's death is found by those on the rings.
//! If half a network is gone, so are the ring neighbours of many that are: their deaths would be found seconds later than the
//! others'. So one silence makes a node look after all its neighbours:
//!
//! ```text
//!   one neighbour silent  ──▶ a heartbeat on every edge out that is seldom asked
//!   many are missed       ──▶ besides, a probe for every tail that seldom asks,
//!                             and a dial that is not answered counts like a probe that is not
//! ```

use std::time::Duration;

use super::idle::{NEED, Tick};
use super::link::Phase;
use super::{Action, Actions, Node};
use crate::protocol::heartbeat::PROBE;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::message::Purpose;
use crate::protocol::peer_state::Command;
use crate::protocol::report::Direction;
use crate::protocol::time::Now;

/// Whoever cannot be dialled shows that it lives by a dial of its own, after it has noticed as well that nothing passes: from
/// its last word on it has so many times as long as others (`discovery.md` 2.6: 2.5), in halves.
const HALVES_UNREACHABLE: u32 = 5;

impl Node {
    /// Misses a node that takes part and says nothing: a probe has so long to find it, or it has so long to dial.
    pub(super) fn miss_silent(&mut self, now: Now, id: Option<ControllerId>) {
        let entry = id.and_then(|id| self.view.get(&id));
        let waits = entry.is_some_and(|entry| !entry.record().body.reach.may_be_dialled());
        let silence = self.settings.peer.interval + self.settings.peer.timeout;
        let longer = if waits { silence * (HALVES_UNREACHABLE - 2) / 2 } else { Duration::ZERO };
        self.miss(now, id, PROBE + longer);
    }

    /// A neighbour has fallen silent. Once in a heartbeat's interval, others are looked after.
    pub(super) fn look_around(&mut self, now: Now, actions: &mut Actions) {
        if self.looked_around.is_some_and(|last| now.mono.since(last) < self.settings.peer.interval) {
            return;
        }
        self.looked_around = Some(now.mono);
        let edges = self.links.iter().filter(|(_, link)| link.is_edge() && link.purpose == Purpose::Overlay);
        let (heads, tails): (Vec<_>, Vec<_>) = edges
            .map(|(peer, link)| (*peer, link.node, link.direction))
            .partition(|(.., direction)| *direction == Direction::Outgoing);
        let beat = |(peer, ..): (PeerId, Option<ControllerId>, Direction)| Action::Command(peer, Command::Beat);
        actions.extend(heads.into_iter().map(beat));
        if self.detector.missing() >= NEED {
            for (_, id, _) in tails {
                self.miss_silent(now, id);
            }
        }
    }

    /// While many are missed, whoever does not answer a dial is missed as well, as soon as a probe would miss it.
    pub(super) fn doubt_slow_dials(&mut self, tick: &mut Tick) {
        if self.detector.missing() < NEED {
            return;
        }
        let mut silent = Vec::new();
        for link in self.links.values().filter(|link| link.is_any_dial() && link.phase == Phase::Connecting) {
            match link.begun + PROBE {
                due if due <= tick.now.mono => silent.extend(link.node),
                due => tick.wait(Some(due)),
            }
        }
        for id in silent {
            if self.view.get(&id).is_some_and(|entry| entry.record().body.reach.is_proven()) {
                self.miss_silent(tick.now, Some(id));
            }
        }
    }
}
