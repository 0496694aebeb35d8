//! Edges that applications ask for: dialled when something is to be asked, shared by all who ask, closed by their peer when
//! nobody has asked for a while.
//!
//! ```text
//!   reach(node) ── an edge of any purpose stands ────────────────────▶ reached: this peer
//!              ├── a dial to it is under way: wait for it ───────┐
//!              ├── a dial to it has failed a moment ago ─────────┼───▶ not reached: why
//!              └── dial it, for applications ────────────────────┴─ stands ─▶ reached
//!
//!   application ── discovery wants an edge there ─────▶ overlay, ring     (repurposed, not dialled again)
//!   overlay ────── one too many, and in use ──────────▶ application       (kept by its peer, not closed)
//! ```
//!
//! Such an edge is in no record, counts for no degree and carries no news: however much applications ask of whom, the graph
//! that discovery has made stays as it is. What it says of its node's life counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::{Link, Phase};
use super::spreading::REACH_PATIENCE;
use super::{Action, Actions, Node, Ticket};
use crate::protocol::address::HostPort;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::message::{HeadMessage, Purpose, TailMessage};
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Reach, RecordState};
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};

/// So long a failed dial answers for the next: a caller that tries again and again costs one dial a second. Longer would keep
/// a node that has just come back from being asked.
const UNREACHED: Duration = Duration::from_secs(1);
/// Nodes of which that is remembered, 48 bytes each: as many as a caller tries in a second and more.
const MAX_UNREACHED: usize = 1024;

/// Nodes that could not be reached a moment ago, and why.
pub(super) type Unreached = BTreeMap<ControllerId, (Time, Reason)>;

impl Node {
    /// An application wants to ask a node something.
    pub(super) fn reach(
        &mut self,
        now: Now,
        id: ControllerId,
        (stale, idlest): (Option<PeerId>, Option<PeerId>),
        ticket: Ticket,
        actions: &mut Actions,
    ) {
        if let Some(peer) = self.way_to(&id, stale) {
            return actions.push(Action::Reached(ticket, Ok(peer)));
        }
        match self.dial_for_applications(now, id, idlest, actions) {
            Ok(peer) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    // It is no longer a matter of chance whether somebody waits for its answer.
                    link.any = false;
                    link.callers.push((ticket, id));
                }
            }
            Err(reason) => actions.push(Action::Reached(ticket, Err(reason))),
        }
    }

    /// The peer over which a node can be asked now, but for this one: of several the newest, since older ones are about to be
    /// replaced.
    pub fn way_to(&self, id: &ControllerId, but: Option<PeerId>) -> Option<PeerId> {
        let carries = |link: &Link| {
            link.direction == Direction::Outgoing && link.stands() && link.node == Some(*id) && !link.dismissed
        };
        self.links.iter().rev().find(|(peer, link)| carries(link) && Some(**peer) != but).map(|(peer, _)| *peer)
    }

    fn dial_for_applications(
        &mut self,
        now: Now,
        id: ControllerId,
        idlest: Option<PeerId>,
        actions: &mut Actions,
    ) -> Result<PeerId, Reason> {
        if self.state == RecordState::Left {
            return Err(Reason::Leaving);
        }
        if id == self.me {
            return Err(Reason::Myself);
        }
        let address = self.view.get(&id).ok_or(Reason::Unreachable)?.record().body.address;
        let leads_there = |link: &Link| link.node == Some(id) || link.node.is_none() && link.address == address;
        let under_way = |link: &Link| {
            let dials = link.direction == Direction::Outgoing && link.phase != Phase::Established;
            dials && link.purpose != Purpose::Probe && !link.dismissed
        };
        if let Some((peer, _)) = self.links.iter().find(|(_, link)| under_way(link) && leads_there(link)) {
            return Ok(*peer);
        }
        self.unreached.retain(|_, (until, _)| *until > now.mono);
        if let Some((_, reason)) = self.unreached.get(&id) {
            return Err(*reason);
        }
        self.may_come_in(now, id, address)?;
        self.may_connect(now, address.ip())?;
        self.find_place(idlest, actions)?;
        self.dial(now, HostPort::Ip(address), address, Purpose::Application, Some(id), None, actions);
        // What was dialled last has the highest number.
        self.links.last_key_value().map(|(peer, _)| *peer).ok_or(Reason::Internal)
    }

    /// Discovery keeps its places: what applications may have is what it leaves of `max_outgoing`.
    fn find_place(&mut self, idlest: Option<PeerId>, actions: &mut Actions) -> Result<(), Reason> {
        let held = self.links.values().filter(|link| link.is_for_applications() && !link.dismissed).count();
        let places = self.settings.max_outgoing.saturating_sub(self.settings.out_degree).max(1);
        if held < places {
            return Ok(());
        }
        let link = idlest.and_then(|peer| Some((peer, self.links.get_mut(&peer)?)));
        let (peer, link) =
            link.filter(|(_, link)| link.is_for_applications() && link.stands()).ok_or(Reason::TooManyPeers)?;
        link.dismissed = true;
        actions.push(Action::Command(peer, Command::Close(Reason::Idle)));
        Ok(())
    }

    /// A dial has found this node: whoever waited for it may ask; an edge that discovery wanted meanwhile is its own.
    pub(super) fn carries_requests(&mut self, now: Now, peer: PeerId, id: ControllerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        for (ticket, wanted) in std::mem::take(&mut link.callers) {
            let reached = if wanted == id { Ok(peer) } else { Err(Reason::IdentityMismatch) };
            actions.push(Action::Reached(ticket, reached));
        }
        if let Some(purpose) = link.wanted_as.take() {
            self.promote(now, peer, purpose, actions);
        }
    }

    /// A dial came to nothing.
    pub(super) fn not_reached(&mut self, now: Now, link: &mut Link, reason: Reason, actions: &mut Actions) {
        for (ticket, wanted) in std::mem::take(&mut link.callers) {
            if self.unreached.len() < MAX_UNREACHED {
                self.unreached.insert(wanted, (now.mono + UNREACHED, reason));
            }
            actions.push(Action::Reached(ticket, Err(reason)));
        }
    }

    /// The application's edge to this node or address, or its dial: discovery takes it over and dials none of its own, for a
    /// node takes one connection of another in each direction.
    pub(super) fn take_over_application(
        &mut self,
        now: Now,
        node: Option<ControllerId>,
        address: std::net::SocketAddr,
        purpose: Purpose,
        ticket: Option<Ticket>,
        actions: &mut Actions,
    ) -> bool {
        let same = |link: &Link| if node.is_some() { link.node == node } else { link.address == address };
        let mut own = self.links.iter_mut().filter(|(_, link)| link.is_for_applications() && !link.dismissed);
        let Some((peer, link)) = own.find(|(_, link)| same(link)) else { return false };
        link.pinned |= ticket.is_some();
        match link.phase {
            Phase::Established => {
                let peer = *peer;
                self.promote(now, peer, purpose, actions);
                let known = self.links.get(&peer).and_then(|link| Some((link.node?, link.said.clone()?.0)));
                if let (Some(ticket), Some((id, label))) = (ticket, known) {
                    actions.push(Action::Connected(ticket, super::Outcome::Edge(id, label, false)));
                }
            }
            _ => {
                link.wanted_as = Some(purpose);
                link.ticket = link.ticket.or(ticket);
            }
        }
        true
    }

    /// What applications asked for becomes discovery's.
    fn promote(&mut self, now: Now, peer: PeerId, purpose: Purpose, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_for_applications()) else { return };
        link.purpose = purpose;
        actions.push(Action::Command(peer, Command::Issue(TailMessage::Repurpose(purpose))));
        self.joins_overlay(now, peer);
        self.sync(now, peer, actions);
    }

    /// An edge was closed since a newer connection took its place, which was dialled for applications: that is the edge now.
    pub(super) fn replace_by_application(&mut self, now: Now, gone: &Link, reason: Reason, actions: &mut Actions) {
        if reason != Reason::Replaced || !gone.is_outgoing_edge() {
            return;
        }
        let (Some(id), purpose) = (gone.node, gone.purpose) else { return };
        let mut own = self.links.iter().filter(|(_, link)| link.is_for_applications() && link.stands());
        if let Some(peer) = own.find(|(_, link)| link.node == Some(id)).map(|(peer, _)| *peer) {
            self.promote(now, peer, purpose, actions);
        }
    }

    /// This end wanted it closed as one too many; its peer has told the head that it is for applications now.
    pub(super) fn kept(&mut self, now: Now, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.is_outgoing_edge()) else { return };
        link.purpose = Purpose::Application;
        self.leaves_overlay(now, peer);
    }

    /// The tail wants the edge for something else.
    pub(super) fn repurposed(&mut self, now: Now, peer: PeerId, purpose: Purpose, actions: &mut Actions) {
        let Some(link) = self.links.get(&peer) else { return };
        let (before, id) = (link.purpose, link.node);
        // A look takes no place and is no edge: it would slip past the bounds of those that are.
        let (true, true, Some(id)) = (link.stands(), purpose != Purpose::Probe, id) else {
            return actions.push(Action::Command(peer, Command::Close(Reason::Unexpected)));
        };
        match (before.is_of_discovery(), purpose.is_of_discovery()) {
            (false, true) if !self.has_overlay_room(peer, id, purpose) => {
                actions.push(Action::Command(peer, Command::Answer(HeadMessage::Goodbye(Reason::Busy))));
            }
            (was, is) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.purpose = purpose;
                }
                if is && !was {
                    self.joins_overlay(now, peer);
                } else if was && !is {
                    self.leaves_overlay(now, peer);
                }
            }
        }
    }

    /// An edge that discovery uses from now on.
    pub(super) fn joins_overlay(&mut self, now: Now, peer: PeerId) {
        self.feed.join(peer);
        if self.reach == Reach::Unproven {
            self.reach_due.get_or_insert(now.mono + REACH_PATIENCE);
        }
        self.heads_changed(now);
        self.stir(now);
    }

    fn leaves_overlay(&mut self, now: Now, peer: PeerId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.leave_overlay();
        let id = link.node;
        self.feed.part(peer);
        self.wants.part(peer, now.mono);
        if let Some(id) = id.filter(|id| !self.links.values().any(|link| link.is_edge() && link.node == Some(*id))) {
            self.agreement.part(&id);
        }
        self.heads_changed(now);
        self.stir(now);
    }
}
