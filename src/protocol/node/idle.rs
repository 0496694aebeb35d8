//! Monitor idle's thinking: whom to dial now.
//!
//! In this order, each only if node and address are not kept out (`access`), and the address has no
//! [`Obstacle`](crate::protocol::address_book::Obstacle) (not this node itself, no dial under way, no breach of the
//! protocol lately, backoff over):
//!
//! 1. probes: nodes that are missed, and nodes that want to know whether their address works; they take no place,
//! 2. configured addresses whose node is not up in the view: for ever,
//!    and expected nodes that are not up, wherever they were found last: for ever as well,
//! 3. ring successors without an edge from here,
//! 4. nodes that are long known, until there are edges to two of them: newcomers alone shall not surround this node,
//! 5. while below the out-degree: up to two random live nodes not linked either way, one more for each dial that is slow
//!    (whoever answers first has the place), and, while few nodes are known, addresses others told of,
//! 6. nodes that are down (`heal`).
//!
//! Before all these: neighbours whose connection was made with an older network key (`rotation`).
//!
//! Dials to addresses that nobody has answered at and no user configured are ten a second in all, with so many at once
//! that a network of a thousand forms without ever meeting the bound: others must not be able to aim a network's dials at
//! somebody. An address from a signed record counts like one that was only told of (whoever signs may lie about it); but
//! that it may be tried again sooner. Free are those that have answered, failure detection's probes (one for each failed dial), and dialling back to
//! where a tail comes from: it can only aim at itself.
//!
//! Above the out-degree a random edge that is neither ring, nor configured, nor asked for by the user, nor one of the last
//! two to long-known nodes is closed; at the out-degree, random dials that are still under way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Link, Phase};
use super::{Action, Actions, MAX_DIAL_BACKS, MAX_DIAL_BACKS_WAITING, Node, Outcome, Ticket};
use crate::protocol::address::{HostPort, is_fit_to_learn};
use crate::protocol::address_book::{Obstacle, until};
use crate::protocol::bucket::Rate;
use crate::protocol::heartbeat::PROBE;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::message::{Purpose, TailMessage};
use crate::protocol::peer_state::{Command, Greeting};
use crate::protocol::reason::Reason;
use crate::protocol::record::RecordState;
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};

/// Dials under way to addresses others told of.
const HEARSAY_DIALS: usize = 8;
/// While fewer nodes are known, addresses others told of are dialled too.
const FEW_NODES: usize = 24;

/// A newcomer whose address nobody is known to have reached is dialled back after this long.
const DIAL_BACK_DELAY: Duration = Duration::from_millis(1500);

/// Edges to long-known nodes that a node keeps if it can: with one, that node's end would be this one's eclipse.
const LONG_KNOWN: usize = 2;
/// Dials to addresses that nobody has answered at yet. A node in a network of a thousand that forms makes about thirty.
const UNPROVEN_DIALS: Rate = Rate { per_second: 10, burst: 128 };
/// The same in need, which others can hardly bring about. Three that are left of a thousand nodes have to find out alone who
/// lives, within a dozen seconds.
const UNPROVEN_IN_NEED: Rate = Rate { per_second: 64, burst: 128 };

/// What a tick has found out.
pub(super) struct Tick {
    pub(super) now: Now,
    /// When something that has to wait now is possible.
    next: Option<Time>,
    /// Somebody could still be dialled, or is being dialled.
    pub(super) unsettled: bool,
}

impl Tick {
    pub(super) fn wait(&mut self, moment: Option<Time>) {
        self.next = [self.next, moment].into_iter().flatten().min();
    }
}

impl Node {
    pub(super) fn idle(&mut self, now: Now, actions: &mut Actions) {
        self.last_idle = now.mono;
        self.idle_due = None;
        if self.state == RecordState::Left {
            return;
        }
        let mut tick = Tick { now, next: None, unsettled: false };
        if self.bans.expire(now) {
            self.rings.doubt();
        }
        // Whoever is banned may be wanted again then.
        tick.wait(self.bans.next_end(now));
        self.tend_rings(now);
        self.renew_links(&mut tick, actions);
        self.volunteer_again(&mut tick);
        self.doubt_slow_dials(&mut tick, actions);
        self.dial_probes(&mut tick, actions);
        self.dial_configured(&mut tick, actions);
        self.dial_expected(&mut tick, actions);
        self.dial_rings(&mut tick, actions);
        self.dial_long_known(&mut tick, actions);
        self.dial_random(&mut tick, actions);
        self.dial_hearsay(&mut tick, actions);
        self.dial_down(&mut tick, actions);
        self.close_surplus(&mut tick, actions);
        let edges = self.links.values().filter(|link| link.is_outgoing_edge() && !self.is_second(link)).count();
        let under_way = self.links.values().any(|link| self.may_become_edge(link));
        self.settled = edges >= self.settings.out_degree || !(tick.unsettled || under_way);
        self.choose_eager(actions);
        // Not more often than a tick: what is possible at once was done, or waits for the next tick's turn.
        self.idle_due = tick.next.map(|next| next.max(now.mono + self.settings.idle_period / 4));
    }

    /// The resolver has answered: dial what it found, or wait.
    pub(super) fn resolved(&mut self, now: Now, address: HostPort, found: Vec<SocketAddr>, actions: &mut Actions) {
        let first = found.first().copied();
        if found.is_empty() {
            let alone = self.is_alone();
            self.book.failed(&address, Duration::ZERO, alone, now.mono, &mut self.rng);
            self.count_refused(Reason::NameNotResolved);
        } else {
            self.book.set_resolved(&address, found);
        }
        for ticket in self.waiting_for_names.remove(&address).unwrap_or_default() {
            match first {
                Some(_) => self.connect_for_user(now, address.clone(), ticket, actions),
                None => actions.push(Action::Connected(ticket, Outcome::Failed(Reason::NameNotResolved))),
            }
        }
        self.stir(now);
    }

    /// The user wants an edge: dialled at once, whatever the backoff says, but not to this node itself.
    pub(super) fn connect_for_user(&mut self, now: Now, address: HostPort, ticket: Ticket, actions: &mut Actions) {
        let Some(resolved) = self.book.resolved(&address) else {
            self.book.begin(&address, now.mono);
            self.waiting_for_names.entry(address.clone()).or_default().push(ticket);
            return actions.push(Action::Resolve(address));
        };
        let linked = self.links.values().filter(|link| link.is_outgoing_edge()).find(|link| {
            link.address == resolved || link.said.as_ref().is_some_and(|(_, advertised)| *advertised == resolved)
        });
        let outcome = match linked.and_then(|link| Some((link.node?, link.said.clone()?.0))) {
            Some((id, label)) => Outcome::Edge(id, label, true),
            None if self.may_connect(now, resolved.ip()).is_err() => Outcome::Failed(Reason::Banned),
            None if resolved == self.settings.advertise => Outcome::Failed(Reason::Myself),
            None if self.book.obstacle(&address, now.mono) == Some(Obstacle::Myself) => Outcome::Failed(Reason::Myself),
            None if self.outgoing() >= self.settings.max_outgoing => Outcome::Failed(Reason::TooManyPeers),
            None => return self.dial(now, address, resolved, Purpose::Overlay, None, Some(ticket), actions),
        };
        actions.push(Action::Connected(ticket, outcome));
    }

    /// An accusation that is neither refuted nor believed, because too few have looked, calls for more to look.
    fn volunteer_again(&mut self, tick: &mut Tick) {
        let open = self.view.accused().filter(|(id, _)| **id != self.me && !self.detector.misses(id));
        let open: Vec<ControllerId> = open.map(|(id, _)| *id).collect();
        if open.is_empty() {
            return;
        }
        let period = if self.is_in_need(tick.now.mono) { PROBE } else { self.settings.idle_period };
        tick.wait(Some(tick.now.mono + period));
        if tick.now.mono >= self.volunteers_due {
            self.volunteers_due = tick.now.mono + period;
            let sound = self.sound();
            for id in open {
                self.volunteer(tick.now, id, sound);
            }
        }
    }

    fn dial_probes(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let missed = self.detector.take_probes();
        let under_way = self.links.values().filter(|link| link.is_look()).count();
        let ripe = self.dial_backs.iter().take_while(|(due, _)| *due <= tick.now.mono).count();
        let room = self.settings.max_looks(MAX_DIAL_BACKS).saturating_sub(under_way).min(ripe);
        // The others get their turn when one of these is over, which calls for the next tick.
        let untested: Vec<ControllerId> = self.dial_backs.drain(..room).map(|(_, id)| id).collect();
        tick.wait(self.dial_backs.front().map(|(due, _)| *due));
        for id in missed.into_iter().chain(untested) {
            let Some(entry) = self.view.get(&id) else { continue };
            let (address, reach) = (entry.record().body.address, entry.record().body.reach);
            let probing = self.links.values().any(|link| link.purpose == Purpose::Probe && link.node == Some(id));
            let missed = self.detector.misses(&id);
            let kept_out = self.may_come_in(tick.now, id, address).is_err();
            let unfit = kept_out || !is_fit_to_learn(address, self.settings.advertise);
            if address == self.settings.advertise
                || unfit
                || probing
                || missed && !reach.may_be_dialled()
                || !missed && reach.is_proven()
            {
                continue;
            }
            // The backoff is for hopes, not for questions that must be answered now.
            self.dial(tick.now, HostPort::Ip(address), address, Purpose::Probe, Some(id), None, actions);
        }
    }

    fn dial_configured(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let alone = self.is_alone();
        let configured: Vec<_> = self.book.configured().map(|(address, node)| (address.clone(), node)).collect();
        for (address, node) in configured {
            if node.is_some_and(|id| self.bans.of_node(id, tick.now).is_some()) {
                // Not so whoever is merely not on the list, which does not end: somebody else may be there by now.
                continue;
            }
            let member = node.and_then(|id| self.view.get(&id)).is_some_and(|entry| entry.is_up());
            if (alone || !member) && !self.is_linked_at(&address) {
                self.dial_hope(tick, address, Purpose::Overlay, None, actions);
            }
        }
    }

    fn dial_rings(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let links = &self.links;
        let outgoing = |id: &ControllerId| links.values().any(|link| link.takes_slot() && link.node == Some(*id));
        let missing = self.rings.missing(outgoing, tick.now.mono);
        for (id, from) in missing {
            tick.unsettled = true;
            if from > tick.now.mono {
                tick.wait(Some(from));
                continue;
            }
            let Some(entry) = self.view.get(&id) else { continue };
            let resolved = entry.record().body.address;
            if !self.dial_hope(tick, HostPort::Ip(resolved), Purpose::Ring, Some(id), actions)
                && !self.has_all_outgoing()
                && self.book.is_merely_busy(&HostPort::Ip(resolved))
                && matches!(self.book.obstacle(&HostPort::Ip(resolved), tick.now.mono), Some(Obstacle::Backoff(_)))
                && self.rings.insists(&id, tick.now.mono)
            {
                self.dial(tick.now, HostPort::Ip(resolved), resolved, Purpose::Ring, Some(id), None, actions);
            }
        }
        self.repurpose_rings(actions);
    }

    /// An edge that has become a ring edge, or is one no more, is told so: heads count them apart.
    fn repurpose_rings(&mut self, actions: &mut Actions) {
        let successors: BTreeSet<ControllerId> = self.rings.successors().collect();
        for (peer, link) in self.links.iter_mut().filter(|(_, link)| link.is_outgoing_edge()) {
            let is_ring = link.node.is_some_and(|id| successors.contains(&id));
            let purpose = if is_ring { Purpose::Ring } else { Purpose::Overlay };
            if link.purpose != purpose {
                link.purpose = purpose;
                actions.push(Action::Command(*peer, Command::Issue(TailMessage::Repurpose(purpose))));
            }
        }
    }

    /// A tail's address is unproven: it is dialled back, so that it learns whether it can be reached.
    pub(super) fn want_dial_back(&mut self, now: Now, peer: PeerId, id: ControllerId, address: SocketAddr) {
        let from = self.links.get(&peer).map(|link| link.address.ip().to_canonical());
        let at_itself = from == Some(address.ip().to_canonical());
        if self.dial_backs.iter().any(|(_, waiting)| *waiting == id) {
            return;
        }
        if self.dial_backs.len() >= MAX_DIAL_BACKS_WAITING
            || !at_itself && !self.dial_rate.take(UNPROVEN_DIALS, now.mono)
        {
            // Somebody else whom it dials will find it out.
            return self.count_dropped(Reason::TooFast);
        }
        // Most are reached by others meanwhile.
        self.dial_backs.push_back((now.mono + DIAL_BACK_DELAY, id));
        self.stir(now);
    }

    fn dial_long_known(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let mut known = self.long_known(tick.now);
        let held = |id: &ControllerId| self.links.values().any(|link| link.takes_slot() && link.node == Some(*id));
        let mut lacking = LONG_KNOWN.saturating_sub(known.values().filter(|id| held(id)).count());
        // Whoever is known to be gone may wait until nobody better is left.
        let is_gone = |id: &ControllerId| self.view.get(id).is_some_and(|entry| !entry.is_up());
        known.retain(|_, id| !held(id) && !is_gone(id) && *id != self.me);
        let mut free: Vec<_> = known.into_iter().collect();
        while lacking > 0 {
            let Some((address, id)) = self.rng.take(&mut free) else { break };
            lacking -= usize::from(self.dial_hope(tick, address, Purpose::Overlay, Some(id), actions));
        }
    }

    fn long_known(&self, now: Now) -> BTreeMap<HostPort, ControllerId> {
        self.book.long_known(now.wall_ms).map(|(address, id)| (address.clone(), id)).collect()
    }

    fn dial_hearsay(&mut self, tick: &mut Tick, actions: &mut Actions) {
        if !self.is_hearsay_wanted(tick.now.mono) {
            return;
        }
        let known: BTreeSet<SocketAddr> = self.view.iter().map(|(_, entry)| entry.record().body.address).collect();
        let is_new = |address: &HostPort| matches!(address, HostPort::Ip(address) if !known.contains(address));
        let wanted = |node: Option<ControllerId>| !node.is_some_and(|id| self.is_kept_out(tick.now, id));
        let hearsay = self.book.learned().filter(|(address, node)| is_new(address) && wanted(*node));
        let hearsay: Vec<_> = hearsay.map(|(address, _)| address.clone()).collect();
        for address in hearsay {
            let under_way = self.links.values().filter(|link| link.takes_slot() && link.phase != Phase::Established);
            if under_way.count() >= HEARSAY_DIALS || self.random_lacking(tick.now.mono) == 0 {
                break;
            }
            if !self.is_linked_at(&address) {
                self.dial_hope(tick, address, Purpose::Overlay, None, actions);
            }
        }
    }

    /// Addresses that others told of are dialled while neighbours are lacking and few nodes are known.
    pub(super) fn is_hearsay_wanted(&self, now: Time) -> bool {
        self.random_lacking(now) > 0 && self.view.up_count() < FEW_NODES
    }

    fn close_surplus(&mut self, tick: &mut Tick, actions: &mut Actions) {
        if self.is_in_need(tick.now.mono) {
            // Its edges may all be dead.
            return;
        }
        let edges = self.links.values().filter(|link| link.is_outgoing_edge() && !self.is_second(link)).count();
        if edges >= self.settings.out_degree {
            let successors: BTreeSet<ControllerId> = self.rings.successors().collect();
            let is_ring = |link: &Link| link.node.is_some_and(|id| successors.contains(&id));
            let late = self.links.iter().filter(|(_, link)| link.is_any_dial() && !is_ring(link));
            actions.extend(late.map(|(peer, _)| Action::Command(*peer, Command::Close(Reason::Surplus))));
        }
        if edges <= self.settings.out_degree {
            return;
        }
        let known: BTreeSet<ControllerId> = self.long_known(tick.now).into_values().collect();
        let is_known = |link: &Link| link.node.is_some_and(|id| known.contains(&id));
        let last = self.links.values().filter(|link| link.is_outgoing_edge() && is_known(link)).count() <= LONG_KNOWN;
        let spare = |link: &Link| {
            let random = link.is_outgoing_edge() && link.purpose == Purpose::Overlay && !link.pinned;
            random && !self.is_second(link) && !(last && is_known(link))
        };
        let mut spare: Vec<_> = self.links.iter().filter(|(_, link)| spare(link)).map(|(peer, _)| *peer).collect();
        if let Some(peer) = self.rng.take(&mut spare) {
            actions.push(Action::Command(peer, Command::Close(Reason::Surplus)));
            tick.wait(Some(tick.now.mono + self.settings.idle_period));
        }
    }

    /// Dials an address if nothing is in the way; true if it did.
    pub(super) fn dial_hope(
        &mut self,
        tick: &mut Tick,
        address: HostPort,
        purpose: Purpose,
        node: Option<ControllerId>,
        actions: &mut Actions,
    ) -> bool {
        if !self.may_dial(tick, &address) {
            return false;
        }
        match self.book.resolved(&address) {
            Some(resolved) => self.dial(tick.now, address, resolved, purpose, node, None, actions),
            None => {
                self.book.begin(&address, tick.now.mono);
                actions.push(Action::Resolve(address));
            }
        }
        true
    }

    fn may_dial(&mut self, tick: &mut Tick, address: &HostPort) -> bool {
        let obstacle = self.book.obstacle(address, tick.now.mono);
        if obstacle.is_some() || self.outgoing() >= self.settings.max_outgoing {
            tick.wait(until(obstacle, tick.now).filter(|_| obstacle.is_some()));
            return false;
        }
        if matches!(address, HostPort::Ip(own) if *own == self.settings.advertise) {
            self.book.mark_myself(address, tick.now.mono);
            return false;
        }
        let resolved = self.book.resolved(address);
        if resolved.is_some_and(|resolved| self.may_connect(tick.now, resolved.ip()).is_err()) {
            // The end of the ban is waited for already. A name may have another address before that.
            if matches!(address, HostPort::Name { .. }) {
                self.book.failed(address, Duration::ZERO, false, tick.now.mono, &mut self.rng);
                tick.wait(until(self.book.obstacle(address, tick.now.mono), tick.now));
            }
            return false;
        }
        if self.book.is_proven(address) {
            return true;
        }
        let fit = !matches!(address, HostPort::Ip(ip) if !is_fit_to_learn(*ip, self.settings.advertise));
        let rate = if self.is_in_need(tick.now.mono) { UNPROVEN_IN_NEED } else { UNPROVEN_DIALS };
        if fit && !self.dial_rate.take(rate, tick.now.mono) {
            tick.unsettled = true;
            tick.wait(Some(self.dial_rate.ready(rate)));
            return false;
        }
        fit
    }

    #[allow(clippy::too_many_arguments, reason = "what distinguishes one dial from another")]
    pub(super) fn dial(
        &mut self,
        now: Now,
        target: HostPort,
        address: SocketAddr,
        purpose: Purpose,
        node: Option<ControllerId>,
        ticket: Option<Ticket>,
        actions: &mut Actions,
    ) {
        if purpose.is_of_discovery() && self.take_over_application(now, node, address, purpose, ticket, actions) {
            return;
        }
        self.book.begin(&target, now.mono);
        if node.is_some() {
            self.book.vouch(&target);
        }
        let mut link = Link::new(Direction::Outgoing, purpose, address, now.mono);
        link.pinned = ticket.is_some() || self.book.configured().any(|(configured, _)| *configured == target);
        link.target = Some(target);
        link.node = node;
        link.ticket = ticket;
        let peer = self.add_link(link);
        self.greet(now, peer, false, actions);
    }

    /// Has a link dialled that has just been added.
    pub(super) fn greet(&self, now: Now, peer: PeerId, first_key: bool, actions: &mut Actions) {
        let Some(Link { address, purpose, .. }) = self.link(peer) else { return };
        let (record, clock_ms) = (self.record.shared(), now.wall_ms);
        let greeting = Greeting { address: *address, record, clock_ms, purpose: *purpose, first_key };
        actions.push(Action::Dial(peer, Box::new(greeting)));
    }

    fn is_linked_at(&self, address: &HostPort) -> bool {
        self.links.values().any(|link| link.takes_slot() && link.target.as_ref() == Some(address))
    }

    /// Outgoing edges that stand or may in the end.
    pub(super) fn under_way(&self) -> usize {
        let counts = |link: &&Link| link.is_outgoing_edge() || self.may_become_edge(link);
        self.links.values().map(Box::as_ref).filter(counts).filter(|link| !self.is_second(link)).count()
    }

    /// A dial that is likely to succeed: what is configured or down may be dead for ever, and must keep neither the
    /// living from being dialled nor this node's record from being settled.
    pub(super) fn may_become_edge(&self, link: &Link) -> bool {
        let likely = match link.node {
            Some(id) => self.view.get(&id).is_some_and(|entry| entry.is_up()),
            None => !link.pinned,
        };
        likely && link.takes_slot() && link.phase != Phase::Established
    }

    pub(super) fn is_alone(&self) -> bool {
        !self.links.values().any(|link| link.is_edge())
    }

    pub(super) fn has_all_outgoing(&self) -> bool {
        self.outgoing() >= self.settings.max_outgoing
    }

    /// Looks take no place: there are as many as nodes are missed.
    fn outgoing(&self) -> usize {
        self.links.values().filter(|link| link.direction == Direction::Outgoing && !link.is_look()).count()
    }
}
