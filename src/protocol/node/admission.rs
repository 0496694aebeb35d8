//! Who may become a peer, and what it means when one is gone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::link::{ClosedPeer, Contact, Link, Phase};
use super::{Action, Actions, MAX_CLOSED, Node, Notice, Outcome};
use crate::protocol::address::{HostPort, is_fit_to_learn};
use crate::protocol::codec::{MAX_FRAME_BEFORE_HELLO, encode_frame, encoded_len};
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::list::List;
use crate::protocol::message::{HeadMessage, MAX_HINTS, Purpose};
use crate::protocol::neighbourhood::Neighbourhood;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Record, RecordState, Verified, VerifiedItem};
use crate::protocol::report::Direction;
use crate::protocol::time::Now;

/// Clocks further apart than this make `issued` meaningless.
const MAX_CLOCK_SKEW_MS: u64 = 30 * 60 * 1000;

impl Node {
    /// A peer could not be started: it is gone before it was there.
    pub fn not_started(&mut self, now: Now, peer: PeerId, actions: &mut Actions) {
        self.closed(now, peer, Reason::Internal, false, actions);
    }

    pub(super) fn add_link(&mut self, link: Link) -> PeerId {
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.links.insert(peer, Box::new(link));
        peer
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn hello(
        &mut self,
        now: Now,
        peer: PeerId,
        record: Verified<Record>,
        clock_ms: u64,
        purpose: Purpose,
        dialled: SocketAddr,
        actions: &mut Actions,
    ) {
        let id = record.body.id;
        if let Err(reason) = self.is_welcome(now, peer, id, clock_ms) {
            self.note_refused(now, id, reason);
            return actions.push(Action::Command(peer, Command::Answer(HeadMessage::Goodbye(reason))));
        }
        self.introduced(now, peer, &record, purpose, actions);
        if dialled == self.settings.advertise {
            self.reached_here(now);
        }
        if !record.body.reach.is_proven() {
            self.want_dial_back(now, peer, id, record.body.address);
        }
        self.book.alive(record.body.address);
        self.lives(now, id, actions);
        if !self.has_overlay_room(peer, id, purpose) {
            let record = self.record.shared();
            let hints = fitting(&record, self.hints(id).into_vec());
            let busy = HeadMessage::Busy { record, hints };
            return actions.push(Action::Command(peer, Command::Answer(busy)));
        }
        if let Err(reason) = self.claim_place(peer, id, actions) {
            return actions.push(Action::Command(peer, Command::Answer(HeadMessage::Goodbye(reason))));
        }
        let welcome = HeadMessage::Welcome { record: self.record.shared(), clock_ms: now.wall_ms };
        actions.push(Action::Command(peer, Command::Answer(welcome)));
        self.established(now, peer, id, actions);
    }

    pub(super) fn welcome(
        &mut self,
        now: Now,
        peer: PeerId,
        record: Verified<Record>,
        clock_ms: u64,
        actions: &mut Actions,
    ) {
        let id = record.body.id;
        if let Err(reason) = self.is_welcome(now, peer, id, clock_ms) {
            self.note_who_answers(peer, id, now);
            return actions.push(Action::Command(peer, Command::Close(reason)));
        }
        let Some(link) = self.links.get(&peer) else { return };
        let (purpose, ticket) = (link.purpose, link.ticket);
        if purpose == Purpose::Application && link.node != Some(id) && link.wanted_as.is_none() {
            // Somebody else listens there now, whom nobody wants to ask.
            self.note_who_answers(peer, id, now);
            self.carries_requests(now, peer, id, actions);
            return actions.push(Action::Command(peer, Command::Close(Reason::Surplus)));
        }
        self.reached(now, peer, &record);
        self.introduced(now, peer, &record, purpose, actions);
        if purpose == Purpose::Probe {
            self.lives(now, id, actions);
            return actions.push(Action::Command(peer, Command::Close(Reason::ProbeOver)));
        }
        if let Some(ticket) = ticket {
            let outcome = Outcome::Edge(id, record.body.label.clone(), false);
            actions.push(Action::Connected(ticket, outcome));
        }
        self.renewed(now, peer, id, actions);
        self.established(now, peer, id, actions);
        if purpose.is_of_discovery() {
            self.sync(now, peer, actions);
        }
        self.carries_requests(now, peer, id, actions);
    }

    pub(super) fn busy(
        &mut self,
        now: Now,
        peer: PeerId,
        record: Verified<Record>,
        hints: &[SocketAddr],
        actions: &mut Actions,
    ) {
        let id = record.body.id;
        let Some(address) = self.links.get(&peer).map(|link| link.address) else { return };
        if id == self.me {
            return;
        }
        if let Err(reason) = self.may_come_in(now, id, address) {
            // What it says of others is not asked for; it has closed the connection itself.
            self.note_who_answers(peer, id, now);
            return self.count_refused(reason);
        }
        let purpose = self.links.get(&peer).map_or(Purpose::Overlay, |link| link.purpose);
        self.reached(now, peer, &record);
        self.introduced(now, peer, &record, purpose, actions);
        let own = self.settings.advertise;
        let source = self.links.get(&peer).map(|link| Neighbourhood::of(link.address.ip()));
        for hint in hints.iter().filter(|hint| **hint != own && is_fit_to_learn(**hint, own)) {
            self.book.learn(*hint, source, now.mono);
        }
        self.lives(now, id, actions);
    }

    /// The connection is over: frees its place, and draws the conclusions.
    pub(super) fn closed(&mut self, now: Now, peer: PeerId, reason: Reason, by_remote: bool, actions: &mut Actions) {
        let Some(mut link) = self.links.remove(&peer) else { return };
        self.not_reached(now, &mut link, reason, actions);
        self.replace_by_application(now, &link, reason, actions);
        self.feed.part(peer);
        self.wants.part(peer, now.mono);
        if let Some(id) =
            link.node.filter(|id| !self.links.values().any(|other| other.is_edge() && other.node == Some(*id)))
        {
            self.agreement.part(&id);
        }
        self.give_up_censuses(now, peer, actions);
        if link.phase == Phase::Established && reason == Reason::HeartbeatTimeout && !by_remote {
            self.timed_out += 1;
        }
        if reason.is_misbehaviour() || reason.is_refusal() {
            self.count_refused(reason);
        }
        if let Some(id) = link.node.filter(|_| link.said.is_some() && !by_remote)
            && (reason.is_misbehaviour() || reason == Reason::Stale)
        {
            self.conduct.breach(id, now.mono);
        }
        self.not_renewed(now, &link);
        self.note_closed(now, &link, reason);
        self.note_at_address(now, &link, reason, by_remote);
        if let Some(id) = link.node.filter(|_| link.is_edge() && reason.is_break()) {
            self.lose(now, id);
        }
        if let Some(id) = link.node {
            self.note_of_node(now, id, &link, reason, by_remote, actions);
        }
        if let Some(ticket) = link.ticket.filter(|_| link.phase != Phase::Established) {
            actions.push(Action::Connected(ticket, Outcome::Failed(reason)));
        }
        if link.phase == Phase::Established {
            actions.push(Action::Notify(Notice::EdgeDown(peer, link.node, reason)));
        }
        if self.closed.len() == MAX_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(ClosedPeer { contact: Contact::of(peer, &link), at: now.mono, reason });
        self.heads_changed(now);
        self.stir(now);
    }

    /// What the end of a connection means for the address that was dialled.
    fn note_at_address(&mut self, now: Now, link: &Link, reason: Reason, by_remote: bool) {
        let Some(target) = &link.target else { return };
        if link.in_place_of.is_some() && link.phase != Phase::Established && !reason.is_misbehaviour() {
            // The connection it was to replace tells more about the address.
            return;
        }
        let served = if link.phase == Phase::Established { now.mono.since(link.since) } else { Duration::ZERO };
        match reason {
            Reason::Myself => self.book.mark_myself(target, now.mono),
            Reason::Busy | Reason::Local | Reason::Remote => self.book.busy(target, now.mono, &mut self.rng),
            Reason::ProbeOver | Reason::Surplus | Reason::Idle | Reason::Replaced | Reason::Leaving => {
                self.book.ended(target);
            }
            Reason::NoAnswer => self.book.unanswered(target, now.mono, &mut self.rng),
            _ if reason.is_misbehaviour() && !by_remote => self.book.ban(target, now.mono),
            _ => self.book.failed(target, served, self.is_alone(), now.mono, &mut self.rng),
        }
    }

    /// What it means for the node at the other end: silence, death, or nothing.
    fn note_of_node(
        &mut self,
        now: Now,
        id: ControllerId,
        link: &Link,
        reason: Reason,
        by_remote: bool,
        actions: &mut Actions,
    ) {
        let linked = self.links.values().any(|other| other.is_edge() && other.node == Some(id) && !other.silent);
        let up = self.view.get(&id).is_some_and(|entry| entry.is_up());
        if linked || !up || self.state != RecordState::Up || self.is_kept_out(now, id) {
            return;
        }
        let is_dial = link.direction == Direction::Outgoing && link.phase != Phase::Established;
        if is_dial && reason == Reason::Surplus && !by_remote {
            // Nobody waited for its answer.
            self.detector.not_asked(&id, now.mono);
        }
        if is_dial && reason.is_want() && !by_remote {
            self.detector.cannot_ask(&id);
        }
        // A stopped process accepts as well, but says nothing.
        // Whom nobody has ever reached, this node need not reach either.
        let reach = self.view.get(&id).map(|entry| entry.record().body.reach);
        let (proven, may_be_dialled) =
            reach.map(|reach| (reach.is_proven(), reach.may_be_dialled())).unwrap_or_default();
        let is_unanswered =
            is_dial && proven && !by_remote && (reason.is_death() || reason == Reason::HandshakeTimeout);
        match reason {
            // For a probe that settles it, for an overlay edge it begins the silence.
            _ if is_unanswered && link.purpose == Purpose::Probe => {
                self.detector.evidence(id, now.mono);
                self.close_silent(id, actions);
            }
            _ if is_unanswered => self.miss_silent(now, Some(id)),
            // Whoever cannot be dialled may be dialling.
            Reason::HeartbeatTimeout if link.is_edge() && !by_remote && may_be_dialled && self.detector.misses(&id) => {
                self.detector.evidence(id, now.mono);
            }
            // The node has shown elsewhere that it lives: this connection alone is wedged.
            Reason::HeartbeatTimeout if link.is_edge() && !by_remote => self.miss_silent(now, Some(id)),
            // Connections break for many causes: whether this one is death, the probe's whole dial may show.
            Reason::EndOfStream | Reason::Reset | Reason::EofInFrame if link.is_edge() => {
                self.miss(now, Some(id), self.settings.peer.dial);
            }
            _ => {}
        }
    }

    /// The node answered on another connection: its silent ones are given time to show themselves.
    fn lives(&mut self, now: Now, id: ControllerId, actions: &mut Actions) {
        if self.detector.life(&id, now.mono) {
            self.place_on_rings(now, &id);
        }
        let silent = self.links.iter().filter(|(_, link)| link.silent && link.node == Some(id));
        actions.extend(silent.map(|(peer, _)| Action::Command(*peer, Command::Spare)));
    }

    fn close_silent(&self, id: ControllerId, actions: &mut Actions) {
        let silent = self.links.iter().filter(|(_, link)| link.silent && link.node == Some(id));
        let close = Command::Close(Reason::HeartbeatTimeout);
        actions.extend(silent.map(|(peer, _)| Action::Command(*peer, close.clone())));
    }

    fn is_welcome(&mut self, now: Now, peer: PeerId, id: ControllerId, clock_ms: u64) -> Result<(), Reason> {
        if id == self.me {
            return Err(Reason::Myself);
        }
        if let Some(address) = self.links.get(&peer).map(|link| link.address) {
            self.may_come_in(now, id, address)?;
        }
        if self.conduct.is_silenced(&id, now.mono) {
            return Err(Reason::Misbehaved);
        }
        if clock_ms.abs_diff(now.wall_ms) > MAX_CLOCK_SKEW_MS {
            let text = format!("the clock of node {} differs by more than 30 minutes: set one of them", &id.hex()[..8]);
            self.warn("clock-skew", Some(text));
            return Err(Reason::ClockSkew);
        }
        Ok(())
    }

    /// Ring edges have places of their own, so that the rings close whatever the random edges do.
    pub(super) fn has_overlay_room(&self, peer: PeerId, id: ControllerId, purpose: Purpose) -> bool {
        let limit = match purpose {
            // These have the places that all connections share.
            Purpose::Probe | Purpose::Application => return true,
            Purpose::Overlay => self.settings.accept,
            Purpose::Ring => self.settings.accept + self.settings.accept_ring,
        };
        let edges = self.links().filter(|(other, link)| {
            *other != peer && link.direction == Direction::Incoming && link.is_edge() && !link.dismissed
        });
        let is_held = |(_, link): (_, &Link)| link.node == Some(id);
        // Whoever has a place keeps it: its new connection takes that of the old one.
        edges.clone().any(is_held) || edges.count() < limit
    }

    /// Other addresses for a node that found no room here, those that joined last first.
    fn hints(&mut self, for_whom: ControllerId) -> List<SocketAddr, MAX_HINTS> {
        let recent: Vec<ControllerId> = self.recent.iter().rev().copied().collect();
        let mut chosen: BTreeSet<ControllerId> = BTreeSet::from([self.me, for_whom]);
        let mut hints = List::new();
        for turn in 0..MAX_HINTS * 4 {
            let id = match recent.get(turn).filter(|_| turn < MAX_HINTS / 2) {
                Some(id) => Some(*id),
                None => self.view.any(&mut self.rng).map(|entry| entry.record().body.id),
            };
            let entry = id.and_then(|id| self.view.get(&id)).filter(|entry| entry.is_up());
            let Some(record) = entry.map(|entry| &entry.record().body) else { continue };
            if chosen.insert(record.id) && hints.push(record.address).is_err() {
                break;
            }
        }
        hints
    }

    fn introduced(
        &mut self,
        now: Now,
        peer: PeerId,
        record: &Verified<Record>,
        purpose: Purpose,
        actions: &mut Actions,
    ) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.node = Some(record.body.id);
            link.said = Some((record.body.label.clone(), record.body.address));
            link.purpose = purpose;
        }
        self.merge(now, Some(peer), VerifiedItem::Record(record.clone()), actions);
    }

    /// Whoever is kept out is known again where he was found, and not dialled there meanwhile.
    fn note_who_answers(&mut self, peer: PeerId, id: ControllerId, now: Now) {
        if self.is_kept_out(now, id)
            && let Some(target) = self.links.get(&peer).and_then(|link| link.target.as_ref())
        {
            self.book.found(target, id);
        }
    }

    fn reached(&mut self, now: Now, peer: PeerId, record: &Verified<Record>) {
        let Some(link) = self.links.get(&peer) else { return };
        let (Some(target), source) = (link.target.clone(), Neighbourhood::of(link.address.ip())) else { return };
        self.book.reached(&target, record.body.id, now);
        let advertised = record.body.address;
        if target != HostPort::Ip(advertised) && is_fit_to_learn(advertised, self.settings.advertise) {
            self.book.learn(advertised, Some(source), now.mono);
        }
    }

    fn established(&mut self, now: Now, peer: PeerId, id: ControllerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.enter(Phase::Established, now.mono);
        if !link.stands() {
            return;
        }
        let (is_of_discovery, key) = (link.is_edge(), link.key);
        // Only the head replaces: if both ends did, each by the order it saw, two dials at once could end each other.
        let is_head = link.direction == Direction::Incoming;
        let older = self.links.iter().filter(|(other, link)| {
            is_head
                && **other != peer
                && link.stands()
                && link.direction == Direction::Incoming
                && link.node == Some(id)
        });
        // One with another key was made in place of an edge that is sound, and that may have answers under way.
        let end = |older: &Link| if older.key == key { Command::Close(Reason::Replaced) } else { Command::Drain };
        actions.extend(older.map(|(other, link)| Action::Command(*other, end(link))));
        if is_of_discovery {
            self.joins_overlay(now, peer);
        }
        self.note_edge(now, peer, id);
        actions.push(Action::Notify(Notice::EdgeUp(peer, id)));
    }
}

/// As many hints as fit, with the record, in the frame that a tail takes before it is welcome.
pub(super) fn fitting(record: &Arc<Record>, hints: Vec<SocketAddr>) -> List<SocketAddr, MAX_HINTS> {
    let bare = HeadMessage::Busy { record: Arc::clone(record), hints: List::new() };
    let mut room = MAX_FRAME_BEFORE_HELLO.saturating_sub(encode_frame(&bare).len());
    let fits = |hint: &SocketAddr| {
        let rest = room.checked_sub(encoded_len(hint));
        room = rest.unwrap_or(room);
        rest.is_some()
    };
    hints.into_iter().take_while(fits).collect()
}
