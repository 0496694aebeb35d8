//! When many neighbours fall silent at once.
//!
//! Edges that are no ring edges are asked only every few heartbeats, so that one node's death is found by those on the rings.
//! If half a network is gone, so are the ring neighbours of many that are: their deaths would be found seconds later than the
//! others'. So one silence makes a node look after all its neighbours:
//!
//! ```text
//!   one neighbour silent    ──▶ a heartbeat on every edge out that is seldom asked
//!   four nodes are missed   ──▶ besides, a probe for every tail that seldom asks,
//!                               and a dial that is not answered counts like a probe that is not
//!   and few edges are left  ──▶ need: many dials at once, four times as many a second to unproven addresses
//! ```
//!
//! Need lasts for ten seconds after four were missed, or until there are edges again: of a thousand nodes all but three may be
//! gone, and most of these were nobody's neighbours who lives.

use std::collections::BTreeMap;
use std::time::Duration;

use super::idle::Tick;
use super::link::{Link, Phase};
use super::{Action, Actions, Node};
use crate::protocol::chronicle::What;
use crate::protocol::heartbeat::PROBE;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::message::Purpose;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};

/// Whoever cannot be dialled shows that it lives by a dial of its own, after it has noticed as well that nothing passes: from
/// its last word on it has so many times as long as others (`discovery.md` 2.6: 2.5), in halves.
const HALVES_UNREACHABLE: u32 = 5;

/// So many nodes missed at once are more than a few that failed by themselves.
const MANY: usize = 4;
/// In need are nodes with fewer edges than this that carry anything.
const FEW_EDGES: usize = 4;
/// So many nodes on average look for a node that somebody suspects (`discovery.md` 2.6).
const VOLUNTEERS: f64 = 6.0;
/// In need a node looks for so many others at once, each of which takes 700 ms and a thread meanwhile.
const MAX_LOOKS: usize = 64;
/// A tick that comes so late says that this process has more to do than it can.
const LATE_TICK: Duration = Duration::from_millis(100);
/// So long after many were missed a node that has few edges is in need.
const NEED_LASTS: Duration = Duration::from_secs(10);

/// When neighbours were looked after, and many were missed, the last time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    heads_asked: Option<Time>,
    tails_doubted: Option<Time>,
    many_missed: Option<Time>,
    late: Option<Time>,
}

impl Node {
    /// Misses a node that takes part and says nothing: a probe has so long to find it, or it has so long to dial.
    pub(super) fn miss_silent(&mut self, now: Now, id: Option<ControllerId>) {
        let entry = id.and_then(|id| self.view.get(&id));
        let waits = entry.is_some_and(|entry| !entry.record().body.reach.may_be_dialled());
        let silence = self.settings.peer.interval + self.settings.peer.timeout;
        let longer = if waits { silence * (HALVES_UNREACHABLE - 2) / 2 } else { Duration::ZERO };
        self.miss(now, id, PROBE + longer);
    }

    /// A dial is under way that is as good as a probe.
    pub(super) fn miss_unless_it_answers(&mut self, now: Now, id: ControllerId) {
        if self.detector.asked(id, PROBE, now.mono) {
            self.note(now, id, What::Missed, None, &[]);
        }
    }

    /// A neighbour has fallen silent: others are looked after, once in a heartbeat's interval.
    pub(super) fn look_around(&mut self, now: Now, actions: &mut Actions) {
        let interval = self.settings.peer.interval;
        let is_due = |last: Option<Time>| last.is_none_or(|last| now.mono.since(last) >= interval);
        let edges = |links: &BTreeMap<PeerId, Box<Link>>, direction| -> Vec<(PeerId, Option<ControllerId>)> {
            let edges = links.iter().filter(|(_, link)| link.is_edge() && link.purpose == Purpose::Overlay);
            edges.filter(|(_, link)| link.direction == direction).map(|(peer, link)| (*peer, link.node)).collect()
        };
        if is_due(self.alarm.heads_asked) {
            self.alarm.heads_asked = Some(now.mono);
            let heads = edges(&self.links, Direction::Outgoing).into_iter();
            actions.extend(heads.map(|(peer, _)| Action::Command(peer, Command::Beat)));
        }
        if self.misses_many(now.mono) && is_due(self.alarm.tails_doubted) {
            self.alarm.tails_doubted = Some(now.mono);
            for (_, id) in edges(&self.links, Direction::Incoming) {
                self.miss_silent(now, id);
            }
        }
    }

    fn misses_many(&mut self, now: Time) -> bool {
        let many = self.detector.missing() >= MANY && self.sees_well(now);
        if many {
            self.alarm.many_missed = Some(now);
        }
        many
    }

    /// False for a node that accused the living a moment ago, or came late to its own deadlines: it is slow itself, and more
    /// dials would make it slower.
    fn sees_well(&self, now: Time) -> bool {
        self.detector.alarms(now) == 0 && self.alarm.late.is_none_or(|at| now.since(at) >= NEED_LASTS)
    }

    /// A tick that was due then.
    pub(super) fn note_tick(&mut self, due: Option<Time>, now: Time) {
        if due.is_some_and(|due| now.since(due) >= LATE_TICK) {
            self.alarm.late = Some(now);
        }
    }

    /// Many are missed, or were lately, and few edges are left.
    pub(super) fn is_in_need(&mut self, now: Time) -> bool {
        let lately = self.misses_many(now) || self.alarm.many_missed.is_some_and(|at| now.since(at) < NEED_LASTS);
        lately
            && self.sees_well(now)
            && self.links.values().filter(|link| link.is_outgoing_edge() && !link.silent).count() < FEW_EDGES
    }

    /// Somebody suspects this node: with a chance that makes six volunteers on average, look for oneself. In need without
    /// fail: of those who could few are left.
    pub(super) fn volunteer(&mut self, now: Now, id: ControllerId, live: usize) {
        let linked = self.links.values().any(|link| link.is_outgoing_edge() && link.node == Some(id));
        let must = self.is_in_need(now.mono) && self.detector.looking() < self.settings.max_looks(MAX_LOOKS);
        if !linked && (must || self.rng.chance(VOLUNTEERS / live.max(1) as f64)) {
            self.miss_silent(now, Some(id));
        }
    }

    /// While many are missed, whoever does not answer a dial is missed as well, as soon as a probe would miss it.
    pub(super) fn doubt_slow_dials(&mut self, tick: &mut Tick, actions: &mut Actions) {
        if !self.misses_many(tick.now.mono) && !self.is_in_need(tick.now.mono) {
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
                // The probe asks the same; this one's turn is another's.
                let asked = self.links.iter().filter(|(_, link)| link.is_any_dial() && link.node == Some(id));
                actions.extend(asked.map(|(peer, _)| Action::Command(*peer, Command::Close(Reason::Surplus))));
            }
        }
    }
}
