//! Places: connections are bounded by kind, and here is who gets one and who has to go for it.
//!
//! ```text
//!   accepted ──▶ banned?             an address that is kept out costs nothing more
//!            ──▶ too-fast?           a bucket per /24 or /64, and one for all but the known, before a thread or a key is
//!                                    spent
//!            ──▶ too-many-pending?   the oldest stranger goes: of the newcomer's own network if that has its share,
//!                                    else of the network that has most
//!   Hello    ──▶ every place taken?  the evicted one is chosen by what cannot be faked, or the newcomer is refused
//! ```
//!
//! Loopback is exempt from what is counted by network unless `exempt_loopback` is off: all that come from this machine
//! share one address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::link::{Link, Phase};
use super::{Action, Actions, Node};
use crate::protocol::eviction::{self, Candidate};
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::message::Purpose;
use crate::protocol::neighbourhood::Neighbourhood;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::report::Direction;
use crate::protocol::time::Now;

impl Node {
    /// A connection was accepted from this address. Another one may have to go for it.
    ///
    /// # Errors
    /// The ban of the address, or the bound that it would exceed; it is counted.
    pub fn accepted(&mut self, now: Now, address: SocketAddr, actions: &mut Actions) -> Result<PeerId, Reason> {
        if let Err(reason) = self.make_room(now, address.ip(), actions) {
            self.count_refused(reason);
            return Err(reason);
        }
        let link = Link::new(Direction::Incoming, Purpose::Overlay, address, now.mono);
        Ok(self.add_link(link))
    }

    fn make_room(&mut self, now: Now, ip: IpAddr, actions: &mut Actions) -> Result<(), Reason> {
        self.may_connect(now, ip)?;
        let own = Neighbourhood::of(ip);
        let exempt = self.settings.exempt_loopback && own.is_loopback();
        if !exempt && !self.admission_rate.admits(ip, now.mono) {
            return Err(Reason::TooFast);
        }
        if !exempt && !self.arrival_rate.take(self.settings.arrivals, now.mono) && !self.lives_at(ip) {
            return Err(Reason::TooFast);
        }
        let unknown = |link: &&Link| link.direction == Direction::Incoming && link.phase != Phase::Established;
        // Those that were told to go have not all gone yet: as many again, and no more.
        if self.links.values().map(Box::as_ref).filter(unknown).count() >= self.settings.max_pending.saturating_mul(2) {
            return Err(Reason::TooManyPending);
        }
        let pending = self.links().filter(|(_, link)| unknown(link) && !link.dismissed);
        let pending: Vec<(PeerId, Neighbourhood)> =
            pending.map(|(peer, link)| (peer, Neighbourhood::of(link.address.ip()))).collect();
        let mut same = pending.iter().filter(|(_, prefix)| *prefix == own);
        let crowded = !exempt
            && pending.len() * 2 >= self.settings.max_pending
            && same.clone().count() >= self.settings.max_pending_per_prefix;
        let victim = if crowded {
            same.next().map(|(peer, _)| *peer)
        } else if pending.len() >= self.settings.max_pending {
            eviction::oldest_of_largest(&pending, own)
        } else {
            None
        };
        if let Some(victim) = victim {
            self.dismiss(victim, Reason::TooManyPending, actions);
        }
        Ok(())
    }

    /// True if a node that is up says that this is its address: a crowd of strangers must not keep it out.
    fn lives_at(&self, ip: IpAddr) -> bool {
        self.view.up().any(|(_, entry)| entry.record().body.address.ip() == ip)
    }

    /// A tail has shown who it is and is to stay: if every place is taken, one that counts for less goes.
    ///
    /// # Errors
    /// None does.
    pub(super) fn claim_place(&mut self, peer: PeerId, id: ControllerId, actions: &mut Actions) -> Result<(), Reason> {
        let Some(from) = self.links.get(&peer).map(|link| link.address.ip()) else { return Ok(()) };
        let stays = |link: &Link| {
            let stands = link.direction == Direction::Incoming && link.phase == Phase::Established;
            // An older connection of the same node is about to be replaced.
            stands && !link.dismissed && link.node != Some(id)
        };
        // Only counted as long as there is room, for each that comes.
        if self.links.values().filter(|link| stays(link)).count() < self.settings.max_incoming {
            return Ok(());
        }
        let measured = self.measured();
        let candidate = |(peer, link): (PeerId, &Link)| {
            let round_trip = link.node.and_then(|id| measured.get(&id).copied());
            Candidate { peer, ip: link.address.ip(), since: link.since, round_trip }
        };
        let candidates: Vec<Candidate> = self.links().filter(|(_, link)| stays(link)).map(candidate).collect();
        let victim = eviction::select(&candidates, from).ok_or(Reason::TooManyPeers)?;
        self.dismiss(victim, Reason::Evicted, actions);
        Ok(())
    }

    /// The round trips to nodes by edges that this node dialled: a head measures none, and what a tail says of itself can be
    /// made up.
    fn measured(&self) -> BTreeMap<ControllerId, Duration> {
        let mut measured = BTreeMap::new();
        for link in self.links.values() {
            if let (Some(id), Some(round_trip)) = (link.node, link.round_trip) {
                measured.entry(id).or_insert(round_trip);
            }
        }
        measured
    }

    fn dismiss(&mut self, peer: PeerId, reason: Reason, actions: &mut Actions) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.dismissed = true;
            actions.push(Action::Command(peer, Command::Close(reason)));
        }
    }
}
