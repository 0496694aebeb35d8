//! A connection as the controller sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::protocol::address::HostPort;
use crate::protocol::bucket::Bucket;
use crate::protocol::identity::{ControllerId, Identity, Label, PeerId, ShortId};
use crate::protocol::key_mark::KeyMark;
use crate::protocol::message::{Part, Purpose, Roll};
use crate::protocol::node::Ticket;
use crate::protocol::node::rotation::Ageing;
use crate::protocol::numbers::Numbers;
use crate::protocol::reason::Reason;
use crate::protocol::report::Direction;
use crate::protocol::time::Time;

/// A dial for a random edge is not waited for any longer: it takes three round trips, and on most links these are over by
/// then. Sooner, a network that forms would dial nearly everybody twice; later, its slowest links would decide when it agrees.
const SLOW_DIAL: Duration = Duration::from_millis(300);

/// Nodes that may be wanted of one link, 8 bytes each and a little. A remote that never answers cannot make the list of what
/// it was told to want grow further; what found no place differs still, and the next comparison of views finds it.
pub(super) const MAX_WANTED: usize = 4096;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The dial is under way.
    Connecting,
    /// The stream stands, the other end is not yet known.
    Handshaking,
    /// An edge.
    Established,
}

impl Phase {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Handshaking => "handshaking",
            Self::Established => "established",
        }
    }
}

/// One open connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who dialled.
    pub direction: Direction,
    /// What it is for.
    pub purpose: Purpose,
    /// How far it has come.
    pub phase: Phase,
    /// Since when.
    pub since: Time,
    /// When it was dialled or accepted.
    pub(super) begun: Time,
    /// The socket's other end.
    pub address: SocketAddr,
    /// The remote node, once it is known (or, of a dial, expected).
    pub node: Option<ControllerId>,
    /// Its label and advertised address, once they are known.
    pub said: Option<(Label, SocketAddr)>,
    /// Smoothed, at the tail.
    pub round_trip: Option<Duration>,
    pub(super) least_round_trip: Option<Duration>,
    /// The network key it was made with, once the handshake is over.
    pub key: Option<KeyMark>,
    pub(super) ageing: Ageing,
    /// Of a dial that is to take the place of a connection with an older key: which one's.
    pub(super) in_place_of: Option<PeerId>,
    pub(super) target: Option<HostPort>,
    pub(super) pinned: bool,
    pub(super) ticket: Option<Ticket>,
    /// Of a dial: another node would have done as well.
    pub(super) any: bool,
    /// Of a dial: who waits to ask which node something over it.
    pub(super) callers: Vec<(Ticket, ControllerId)>,
    /// Of a dial for applications: discovery wants the edge too, for this.
    pub(super) wanted_as: Option<Purpose>,
    /// Told to close, and not yet gone.
    pub(super) dismissed: bool,
    /// What it may still bring that is outdated.
    pub(super) outdated: Bucket,
    /// Censuses that it may still bring.
    pub(super) censuses: Bucket,
    pub(super) silent: bool,
    /// Changes are passed on at once; else after a while, to a remote that still lacks them.
    pub(super) eager: bool,
    /// Held open by the head, for this node to answer or to be answered.
    pub(super) watches: u8,
    /// Of a tail: when it sent those pushes that are not acknowledged.
    pub(super) pushes: VecDeque<Time>,
    /// Of a head: pushes that it has not acknowledged.
    pub(super) unacknowledged: u8,
    pub(super) owed: BTreeSet<(ShortId, Part)>,
    pub(super) announce: Numbers,
    /// To be announced later, unless the remote shows that it knows.
    pub(super) held: Numbers,
    pub(super) held_until: Option<Time>,
    pub(super) want: BTreeMap<ShortId, Part>,
    pub(super) roll: Option<Roll>,
    pub(super) differing: u8,
    pub(super) last_sync: Option<Time>,
}

/// A connection as reports show it.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Its number.
    pub peer: PeerId,
    /// Who dialled.
    pub direction: Direction,
    /// What it is for.
    pub purpose: Purpose,
    /// The remote node, once it is known (or, of a dial, expected).
    pub node: Option<ControllerId>,
    /// Its label, once it is known.
    pub label: Option<Label>,
    /// Its advertised address, or the socket's other end as long as that is not known.
    pub address: SocketAddr,
    /// The network key it was made with, once the handshake was over.
    pub key: Option<KeyMark>,
    /// Smoothed, at the tail.
    pub round_trip: Option<Duration>,
}

/// A connection that is over: who it was, and not what it was about.
#[derive(Clone, Debug)]
pub struct ClosedPeer {
    /// Who it was.
    pub contact: Contact,
    /// When it ended.
    pub at: Time,
    /// Why.
    pub reason: Reason,
}

impl Contact {
    pub(super) fn of(peer: PeerId, link: &Link) -> Self {
        let (label, address) = link.said.clone().filter(|_| link.node.is_some()).unzip();
        Self {
            peer,
            direction: link.direction,
            purpose: link.purpose,
            node: link.node,
            label,
            address: address.unwrap_or(link.address),
            key: link.key,
            round_trip: link.round_trip,
        }
    }
}

impl Link {
    pub(super) fn new(direction: Direction, purpose: Purpose, address: SocketAddr, now: Time) -> Self {
        let phase = match direction {
            Direction::Outgoing => Phase::Connecting,
            Direction::Incoming => Phase::Handshaking,
        };
        Self {
            direction,
            purpose,
            phase,
            since: now,
            begun: now,
            address,
            node: None,
            said: None,
            round_trip: None,
            least_round_trip: None,
            key: None,
            ageing: Ageing::default(),
            in_place_of: None,
            target: None,
            pinned: false,
            ticket: None,
            any: false,
            callers: Vec::new(),
            wanted_as: None,
            dismissed: false,
            outdated: Bucket::full(now),
            censuses: Bucket::full(now),
            silent: false,
            eager: true,
            watches: 0,
            pushes: VecDeque::new(),
            unacknowledged: 0,
            owed: BTreeSet::new(),
            announce: Numbers::default(),
            held: Numbers::default(),
            held_until: None,
            want: BTreeMap::new(),
            roll: None,
            differing: 0,
            last_sync: None,
        }
    }

    /// The four fields by which the peer is known, once the remote has introduced itself.
    pub fn identity(&self, peer: PeerId) -> Option<Identity> {
        let (label, address) = self.said.clone()?;
        Some(Identity { peer, controller: self.node?, label, address })
    }

    /// A dial for a random edge that is still waited for.
    pub(super) fn is_any_dial(&self) -> bool {
        self.any && self.phase != Phase::Established && !self.dismissed
    }

    /// When somebody else is to be dialled besides: whoever answers first has the place.
    pub(super) fn overdue_at(&self) -> Time {
        self.begun + SLOW_DIAL
    }

    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.is_any_dial() && self.overdue_at() <= now
    }

    /// Takes note that this is to be asked for, if there is room.
    pub(super) fn wish(&mut self, short: ShortId, part: Part) {
        if self.want.len() < MAX_WANTED {
            let wanted = self.want.entry(short).or_insert(part);
            *wanted = part.min(*wanted);
        }
    }

    /// The remote has shown that it has of this node what this one has.
    pub(super) fn knows(&mut self, short: &ShortId, number: u32) {
        self.owed.remove(&(*short, Part::All));
        self.announce.remove(number);
        self.held.remove(number);
    }

    /// True if anything is to be said now.
    pub(super) fn has_news(&self) -> bool {
        !(self.owed.is_empty() && self.announce.is_empty() && self.want.is_empty()) || self.roll.is_some()
    }

    pub(super) fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
        self.least_round_trip = Some(self.least_round_trip.map_or(round_trip, |least| least.min(round_trip)));
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Time) {
        self.phase = phase;
        self.since = now;
    }

    /// True for an established connection that discovery uses.
    pub(super) fn is_edge(&self) -> bool {
        self.phase == Phase::Established && self.purpose.is_of_discovery()
    }

    /// True for an established connection that is more than a look: applications may ask over it.
    pub(super) fn stands(&self) -> bool {
        self.phase == Phase::Established && self.purpose != Purpose::Probe
    }

    /// True for a connection that this node dialled, or dials, to carry what applications ask.
    pub fn is_for_applications(&self) -> bool {
        self.direction == Direction::Outgoing && self.purpose == Purpose::Application
    }

    /// Discovery uses it no more: what it still had to say here is said over other edges.
    pub(super) fn leave_overlay(&mut self) {
        self.owed.clear();
        self.want.clear();
        (self.announce, self.held, self.held_until) = (Numbers::default(), Numbers::default(), None);
        (self.roll, self.differing) = (None, 0);
    }

    /// A dial that only looks who is there.
    pub(super) fn is_look(&self) -> bool {
        self.direction == Direction::Outgoing && self.purpose == Purpose::Probe
    }

    pub(super) fn is_outgoing_edge(&self) -> bool {
        self.is_edge() && self.direction == Direction::Outgoing
    }

    /// Counts towards the out-degree: stands, or may soon.
    pub(super) fn takes_slot(&self) -> bool {
        self.direction == Direction::Outgoing && self.purpose.is_of_discovery()
    }
}

/// The node at the other end, if it is known.
pub(super) fn id_of(links: &BTreeMap<PeerId, Box<Link>>, peer: PeerId) -> Option<ControllerId> {
    links.get(&peer)?.node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_silent_remote_makes_us_want_is_bounded() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7100));
        let mut link = Link::new(Direction::Outgoing, Purpose::Overlay, address, Time::ZERO);
        for number in 0..2 * MAX_WANTED as u64 {
            link.wish(ShortId(number.to_le_bytes()), Part::All);
        }
        assert_eq!(link.want.len(), MAX_WANTED);
    }
}
