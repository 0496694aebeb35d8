//! Network keys that change: every edge is made anew with the new key, and is never missing meanwhile.
//!
//! ```text
//!                 first key is another one                     dialled anew, head has answered
//!   edge (old key) ───── 0 to 10 s ─────▶ second dial, first key ───────▶ edge (first key)
//!        │      ▲                                 │                          the tail closes the old one: replaced,
//!        │      │                                 │                          when what it had asked there is answered
//!        │      └──── 1 s, 2 s, … 10 s ───────────┘ the head does not take that key yet
//!        └─── key no more held: 45 s ──▶ closed (old-key), at either end
//! ```
//!
//! The tail dials anew, for it knows where; the head has only to wait, since it takes all keys it holds. The dials are
//! spread by chance: a network whose operator reloads all nodes at once must not spend that second on handshakes. Forty-five
//! seconds after a key is gone its connections are closed: time for a dial and some retries, and so that within a minute none is
//! left. Whoever does not have the new key then stays outside.

use std::time::Duration;

use super::idle::Tick;
use super::link::{Link, Phase};
use super::{Action, Actions, Node};
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::key_mark::KeyMark;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};

/// The first dials anew are spread over this: longer loads a network less, shorter leaves more of the grace for retries.
const SPREAD: Duration = Duration::from_secs(10);
/// The longest pause between two tries. A head that lacks the key costs one lost handshake in so long, and within the grace a
/// reload that comes late is still found.
const RETRY_MOST: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// So long a connection outlives its key: with a minute promised, what is left is for ticks that are late.
const GRACE: Duration = Duration::from_secs(45);
/// Second dials under way at once. Each is a socket and a thread above `max_outgoing` for a second or two, and their number
/// keeps one reload from costing a busy tail hundreds.
const MOST_UNDER_WAY: usize = 8;

/// What a connection has before it because of its key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ageing {
    /// When it is to be dialled anew.
    redial: Option<Time>,
    /// How often that has failed.
    failures: u32,
    /// When it is closed, since its key is held no more.
    end: Option<Time>,
}

impl Node {
    /// These keys are in force from now on.
    pub(super) fn hold_keys(&mut self, now: Now, keys: Vec<KeyMark>) {
        if self.keys == keys {
            return;
        }
        self.keys = keys;
        for link in self.links.values_mut() {
            let end = link.ageing.end;
            link.ageing = Ageing { end: ended(link.key, &self.keys, end, now), ..Ageing::default() };
        }
        self.book.forgive_unanswered();
        self.stir(now);
    }

    /// A handshake was made with this key.
    pub(super) fn secured(&mut self, now: Now, peer: PeerId, key: KeyMark) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.key = Some(key);
        // The keys may have changed while it was under way.
        link.ageing.end = ended(link.key, &self.keys, None, now);
        if link.ageing.end.is_some() {
            self.stir(now);
        }
    }

    /// Dials anew where the key is an old one, and closes where it is none any more.
    pub(super) fn renew_links(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let Some(first) = self.keys.first().copied() else { return };
        let is_old = |link: &Link| link.key.is_some_and(|key| key != first) && !link.dismissed;
        let old: Vec<PeerId> = self.links.iter().filter(|(_, link)| is_old(link)).map(|(peer, _)| *peer).collect();
        for peer in old {
            if !self.close_ended(peer, tick, actions) {
                self.renew(peer, tick, actions);
            }
        }
    }

    /// A second dial has reached this node: is it the one that was meant?
    pub(super) fn renewed(&mut self, now: Now, peer: PeerId, id: ControllerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let Some(old) = link.in_place_of else { return };
        if self.links.get(&old).is_some_and(|old| old.node != Some(id))
            && let Some(link) = self.links.get_mut(&peer)
        {
            // Somebody else listens there now. The edge that stands has nothing to do with this one.
            link.in_place_of = None;
            self.try_again(now, old);
        } else {
            actions.push(Action::Command(old, Command::Drain));
        }
    }

    /// A connection is gone: if it was a second dial without success, the first one's turn comes again.
    pub(super) fn not_renewed(&mut self, now: Now, gone: &Link) {
        if let Some(old) = gone.in_place_of {
            self.try_again(now, old);
        }
    }

    /// True for a connection beside the one whose place it takes: both together are one edge.
    pub(super) fn is_second(&self, link: &Link) -> bool {
        link.in_place_of.is_some_and(|old| self.links.contains_key(&old))
    }

    /// True for a dial that has outlived the connection it was made for. The head's goodbye on the one may be heard before
    /// its welcome on the other; the edge has stood all the time, and its tail must not say otherwise.
    pub(super) fn takes_over(&self, link: &Link) -> bool {
        let under_way = link.takes_slot() && link.phase != Phase::Established;
        under_way && link.in_place_of.is_some_and(|old| !self.links.contains_key(&old))
    }

    fn close_ended(&mut self, peer: PeerId, tick: &mut Tick, actions: &mut Actions) -> bool {
        let Some(link) = self.links.get_mut(&peer) else { return true };
        let is_ended = link.ageing.end.is_some_and(|end| end <= tick.now.mono);
        if is_ended {
            link.dismissed = true;
            actions.push(Action::Command(peer, Command::Close(Reason::OldKey)));
        } else {
            tick.wait(link.ageing.end);
        }
        is_ended
    }

    fn renew(&mut self, peer: PeerId, tick: &mut Tick, actions: &mut Actions) {
        let seconds = || self.links.values().filter(|link| link.in_place_of.is_some());
        let under_way = seconds().filter(|link| link.phase != Phase::Established).count();
        if seconds().any(|link| link.in_place_of == Some(peer)) {
            // Until one of the two is gone.
            return;
        }
        let spread = Duration::from_millis(self.rng.below(SPREAD.as_millis() as usize) as u64);
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.direction != Direction::Outgoing || !link.stands() {
            return;
        }
        let due = *link.ageing.redial.get_or_insert(tick.now.mono + spread);
        if due > tick.now.mono || under_way >= MOST_UNDER_WAY {
            return tick.wait(Some(due.max(tick.now.mono)));
        }
        let mut second = Link::new(Direction::Outgoing, link.purpose, link.address, tick.now.mono);
        second.in_place_of = Some(peer);
        second.pinned = link.pinned;
        second.target = link.target.clone();
        second.node = link.node;
        let second = self.add_link(second);
        self.greet(tick.now, second, true, actions);
    }

    fn try_again(&mut self, now: Now, old: PeerId) {
        let Some(link) = self.links.get_mut(&old) else { return };
        let pause = (RETRY_FIRST * 2u32.pow(link.ageing.failures.min(10))).min(RETRY_MOST);
        link.ageing.failures = link.ageing.failures.saturating_add(1);
        link.ageing.redial = Some(now.mono + self.rng.jitter(pause).min(RETRY_MOST));
    }
}

/// When a connection with this key has to end, if it has to.
fn ended(key: Option<KeyMark>, keys: &[KeyMark], before: Option<Time>, now: Now) -> Option<Time> {
    let is_gone = !keys.is_empty() && key.is_some_and(|key| !keys.contains(&key));
    is_gone.then(|| before.unwrap_or(now.mono + GRACE))
}
