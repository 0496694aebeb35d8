//! How events happen: connections between processes, and what passes on them.

use std::net::SocketAddr;
use std::time::Duration;

use super::links::{Fate, Segment, Stream};
use super::parcel::Parcel;
use super::process::{Effect, Process};
use super::world::{Host, WEAR, World, address_of};
use crate::protocol::address::HostPort;
use crate::protocol::codec::MAX_FRAME;
use crate::protocol::heartbeat::Side;
use crate::protocol::identity::PeerId;
use crate::protocol::node::Input;
use crate::protocol::reason::Reason;
use crate::protocol::time::{Now, Time};

/// TCP and IP headers, counted with every packet.
const HEADERS: u64 = 40;
/// The length and the tag of each sealed record.
const SEAL: u64 = 20;
/// What one packet carries on an Ethernet: longer writes are several.
const SEGMENT: u64 = 1448;
/// So long TCP waits for something to send along with an acknowledgement (Linux: 40 ms).
const ACK_DELAY: Duration = Duration::from_millis(40);
/// In small networks every second packet arrives in pieces, as any may: nothing may hang on where a stream is cut. In large
/// ones, which are there for their size, one in 64.
const SMALL: usize = 64;
const FIRST_SYN_RETRY: Duration = Duration::from_secs(1);
/// What a name costs.
const RESOLVING: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) enum Event {
    Syn(u64, Duration),
    SynArrives(u64),
    Accept(u64),
    Answered(u64, Option<Reason>),
    Arrives(u64, Side, Segment),
    Retry(u64, Side),
    Alarm(Host, Time),
    Resolved(Host, u64, HostPort),
    /// A busy process has time for what came meanwhile.
    Rested(Host),
    /// Some connections break.
    Wear,
    /// One of those who lie speaks up, the so manyth time.
    Mischief(usize),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) tail: End,
    pub(super) head: End,
    to_tail: Stream,
    to_head: Stream,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) host: Host,
    run: u64,
    peer: Option<PeerId>,
    pub(super) open: bool,
    /// Since when something that arrived here is not acknowledged.
    owes_ack: Option<Time>,
}

impl Connection {
    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Tail => &mut self.tail,
            Side::Head => &mut self.head,
        }
    }

    fn stream_to(&mut self, side: Side) -> &mut Stream {
        match side {
            Side::Tail => &mut self.to_tail,
            Side::Head => &mut self.to_head,
        }
    }
}

pub(super) fn other(side: Side) -> Side {
    match side {
        Side::Tail => Side::Head,
        Side::Head => Side::Tail,
    }
}

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Syn(id, pause) => self.send_syn(id, pause),
            Event::SynArrives(id) => self.syn_arrives(id),
            Event::Accept(id) => self.accept(id),
            Event::Answered(id, refusal) => self.answered(id, refusal),
            Event::Arrives(id, side, segment) => self.arrives(id, side, segment),
            Event::Retry(id, side) => self.retry(id, side),
            Event::Alarm(host, at) => {
                if self.machine(host).alarm == Some(at) {
                    self.machine_mut(host).alarm = None;
                    self.tick(host);
                }
            }
            Event::Rested(host) => self.rested(host),
            Event::Wear => {
                self.wear();
                self.at(self.now + WEAR, Event::Wear);
            }
            Event::Mischief(time) => self.mischief(time),
            Event::Resolved(host, run, name) => {
                if self.machine(host).run == run {
                    let found = self.names.get(&name).cloned().unwrap_or_default();
                    self.tell_or_hold(host, Event::Resolved(host, run, name.clone()), Input::Resolved(name, found));
                }
            }
        }
    }

    /// True if the host's process is stopped or busy: the event waits for it.
    fn hold(&mut self, host: Host, event: impl FnOnce() -> Event) -> bool {
        let now = self.now;
        let machine = self.machine_mut(host);
        if let Some(held) = &mut machine.held {
            held.push_back(event());
            return true;
        }
        let first = machine.backlog.is_empty();
        if machine.serves || (machine.busy_until <= now && first) {
            return false;
        }
        machine.backlog.push_back(event());
        if first {
            let at = machine.busy_until;
            self.at(at, Event::Rested(host));
        }
        true
    }

    /// The next of what came while the process was busy.
    fn rested(&mut self, host: Host) {
        let machine = self.machine_mut(host);
        let Some(event) = machine.backlog.pop_front() else { return };
        machine.serves = true;
        self.happen(event);
        let machine = self.machine_mut(host);
        machine.serves = false;
        if !machine.backlog.is_empty() {
            let at = machine.busy_until.max(self.now);
            self.at(at, Event::Rested(host));
        }
    }

    /// What the process has just checked keeps it busy: what it says follows after that.
    fn work(&mut self, host: Host) {
        let (now, cost) = (self.now, self.signature_cost);
        let machine = self.machine_mut(host);
        let checks = machine.process.as_mut().map_or(0, Process::take_checks);
        if checks > 0 && cost > Duration::ZERO {
            machine.busy_until = machine.busy_until.max(now) + cost * checks;
        }
    }

    fn tell_or_hold(&mut self, host: Host, event: Event, input: Input) {
        let now = self.now_at(host);
        if !self.hold(host, || event) {
            self.with_process(host, |process| process.tell(now, input));
        }
    }

    pub(super) fn tick(&mut self, host: Host) {
        let now = self.now_at(host);
        let machine = self.machine_mut(host);
        if machine.busy_until > now.mono && machine.process.is_some() {
            let later = machine.busy_until;
            machine.alarm = Some(later);
            self.at(later, Event::Alarm(host, later));
        } else if machine.held.is_none() {
            self.with_process(host, |process| process.tick(now));
        }
    }

    fn send_syn(&mut self, id: u64, pause: Duration) {
        let Some(Connection { tail, head, .. }) = self.connections.get(&id).filter(|one| one.tail.open) else { return };
        let (from, to) = (tail.host, head.host);
        if self.links.pass(from, to) && self.links.pass(to, from) {
            self.at(self.now + self.links.latency(from, to), Event::SynArrives(id));
        } else {
            self.at(self.now + pause, Event::Syn(id, pause * 2));
        }
    }

    fn syn_arrives(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (from, to) = (connection.tail.host, connection.head.host);
        let machine = &self.machines[to.0];
        if machine.dark {
            return;
        }
        let back = self.now + self.links.latency(from, to);
        if machine.process.is_none() {
            return self.at(back, Event::Answered(id, Some(Reason::ConnectionRefused)));
        }
        connection.head.run = machine.run;
        connection.head.open = true;
        self.at(back, Event::Answered(id, None));
        if !self.hold(to, || Event::Accept(id)) {
            self.accept(id);
        }
    }

    fn accept(&mut self, id: u64) {
        let Some(Connection { tail, head, .. }) = self.connections.get(&id) else { return };
        let (host, from) = (head.host, address_of(tail.host.0));
        let now = self.now_at(host);
        let Some(process) = self.machine_mut(host).process.as_mut() else { return };
        let (accepted, effects) = process.accepted(now, SocketAddr::new(from.ip(), 40_000 + (id % 20_000) as u16));
        match accepted {
            Ok(peer) => {
                self.machine_mut(host).connections.insert(peer, id);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.head.peer = Some(peer);
                }
            }
            Err(_) => self.close(id, Side::Head),
        }
        self.apply(host, effects);
    }

    fn answered(&mut self, id: u64, refusal: Option<Reason>) {
        let Some(tail) = self.connections.get(&id).map(|one| &one.tail).filter(|tail| tail.open) else { return };
        let (host, run, peer) = (tail.host, tail.run, tail.peer);
        let Some(peer) = peer.filter(|_| self.machine(host).run == run && self.machine(host).process.is_some()) else {
            return;
        };
        if self.hold(host, || Event::Answered(id, refusal)) {
            return;
        }
        let now = self.now_at(host);
        match refusal {
            None => self.with_process(host, |process| process.connected(now, peer)),
            Some(reason) => {
                self.with_process(host, |process| process.refused(now, peer, reason));
                self.ended(id, Side::Tail, peer, true);
            }
        }
    }

    fn arrives(&mut self, id: u64, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let End { host, run, peer, open, .. } = *connection.end(side);
        let machine = &self.machines[host.0];
        if machine.dark || !open {
            return;
        }
        if machine.process.is_none() || machine.run != run {
            // The system of a restarted host knows nothing of this connection.
            connection.end(side).open = false;
            return self.send(id, other(side), Segment::Reset);
        }
        let mut waits = Some(segment);
        if self.hold(host, || Event::Arrives(id, side, waits.take().unwrap_or(Segment::End))) {
            return;
        }
        let (Some(peer), Some(segment)) = (peer, waits) else { return };
        let now = self.now_at(host);
        match segment {
            Segment::End => self.ended(id, side, peer, false),
            Segment::Reset => self.ended(id, side, peer, true),
            Segment::Parcel(parcel) => {
                self.owe_ack(id, side);
                self.unpack(host, now, peer, parcel);
            }
        }
    }

    fn unpack(&mut self, host: Host, now: Now, peer: PeerId, parcel: Parcel) {
        let whole = if self.machines.len() <= SMALL { 0.5 } else { 1.0 - 1.0 / SMALL as f64 };
        let mut uncut = self.rng.chance(whole);
        let parcel = match uncut {
            true => match parcel.messages() {
                Ok(messages) => return self.with_process(host, |process| process.told(now, peer, messages)),
                Err(parcel) => parcel,
            },
            false => parcel,
        };
        let bytes = parcel.into_bytes();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = if uncut { rest.len() } else { 1 + self.rng.below(rest.len()) };
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            self.with_process(host, |process| process.received(now, peer, piece));
            uncut = rest.is_empty() || self.rng.chance(whole);
        }
    }

    fn ended(&mut self, id: u64, side: Side, peer: PeerId, reset: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let host = connection.end(side).host;
        let now = self.now_at(host);
        self.with_process(host, |process| process.ended(now, peer, reset));
        self.machine_mut(host).connections.remove(&peer);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end(side).open = false;
            self.drop_if_over(id);
        }
    }

    /// Something arrived at this side: every second packet is acknowledged at once, one alone after a while, unless
    /// something goes the same way before that.
    fn owe_ack(&mut self, id: u64, side: Side) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let end = connection.end(side);
        let host = end.host;
        match end.owes_ack.replace(now) {
            None => return,
            Some(since) if now.since(since) < ACK_DELAY => end.owes_ack = None,
            Some(_) => {}
        }
        self.machine_mut(host).sent.acks += HEADERS;
    }

    fn retry(&mut self, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (from, to) = (connection.end(other(side)).host, connection.end(side).host);
        if self.machines[from.0].dark {
            return;
        }
        let latency = self.links.latency(from, to);
        let links = &mut self.links;
        for fate in connection.stream_to(side).retry(self.now, || links.pass(from, to), latency) {
            self.meet(id, side, fate);
        }
    }

    /// Sends something to this side of a connection, as soon as the sender is done with what it does.
    pub(super) fn send(&mut self, id: u64, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (from, to) = (connection.end(other(side)).host, connection.end(side).host);
        let machine = &mut self.machines[from.0];
        let at = machine.busy_until.max(self.now);
        if let Segment::Parcel(parcel) = &segment {
            let length = parcel.len() as u64;
            let length = length + SEAL * length.div_ceil(MAX_FRAME as u64);
            let packets = length.div_ceil(SEGMENT);
            machine.sent.packets += packets;
            machine.sent.bytes += length + HEADERS * packets;
            let owed = connection.end(other(side)).owes_ack.take();
            machine.sent.acks += if owed.is_some_and(|since| at.since(since) > ACK_DELAY) { HEADERS } else { 0 };
        }
        let (passes, latency) = (self.links.pass(from, to), self.links.latency(from, to));
        let fate = connection.stream_to(side).send(segment, at, passes, latency);
        if let Some(fate) = fate {
            self.meet(id, side, fate);
        }
        self.drop_if_over(id);
    }

    /// Nobody is left at either end who could hear of it.
    pub(super) fn drop_if_over(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let is_over = |end: &End| {
            let machine = &self.machines[end.host.0];
            !end.open || machine.dark || (machine.process.is_some() && machine.run != end.run)
        };
        let (tail, head) = (&connection.tail, &connection.head);
        // A head that has not yet accepted is not open, and may be soon.
        let under_way = tail.open && head.run == 0 && !self.machines[head.host.0].dark;
        if is_over(tail) && is_over(head) && !under_way {
            for host in [tail.host, head.host] {
                self.machines[host.0].ends.remove(&id);
            }
            self.connections.remove(&id);
        }
    }

    fn meet(&mut self, id: u64, side: Side, fate: Fate) {
        match fate {
            Fate::Arrives(at, segment) => self.at(at, Event::Arrives(id, side, segment)),
            Fate::RetryAt(at) => self.at(at, Event::Retry(id, side)),
        }
    }

    /// This side ends the connection.
    fn close(&mut self, id: u64, side: Side) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end(side).open = false;
            self.send(id, other(side), Segment::End);
        }
    }

    pub(super) fn with_process(&mut self, host: Host, act: impl FnOnce(&mut Process) -> Vec<Effect>) {
        if let Some(process) = self.machine_mut(host).process.as_mut() {
            let effects = act(process);
            self.work(host);
            self.apply(host, effects);
        }
    }

    pub(super) fn apply(&mut self, host: Host, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial(peer, address) => self.dial(host, peer, address),
                Effect::Write(peer, parcel) => {
                    if let Some((id, side)) = self.connection_of(host, peer) {
                        self.send(id, other(side), Segment::Parcel(parcel));
                    }
                }
                Effect::Shut(peer) => {
                    if let Some((id, side)) = self.connection_of(host, peer) {
                        self.close(id, side);
                    }
                    self.machine_mut(host).connections.remove(&peer);
                }
                Effect::Resolve(name) => {
                    let run = self.machine(host).run;
                    self.at(self.now + RESOLVING, Event::Resolved(host, run, name));
                }
                Effect::Notice(notice) => self.note(host, &notice),
                Effect::Counted(counted) => self.findings.censuses.push((host, counted.map(|report| *report))),
                Effect::Overheard(witness) => self.overhear(&witness),
                Effect::Exit => {
                    self.end_process(host);
                    self.break_connections(host, Segment::End);
                }
            }
        }
        self.watch(host);
    }

    /// After whatever a process did: what it holds now is noted, and its next deadline is an event.
    fn watch(&mut self, host: Host) {
        let (now, heartbeat) = (self.now, self.heartbeat);
        self.ledger.touch(host);
        let machine = &mut self.machines[host.0];
        let Some(process) = &machine.process else { return };
        machine.history.note(now, Some(process.node().view().sketch()), heartbeat);
        if let Some(spread) = &mut self.spread {
            spread.look(host, process.node(), now);
        }
        if let Some(deadline) = process.deadline() {
            let deadline = deadline.max(now);
            if machine.alarm.is_none_or(|alarm| deadline < alarm) {
                machine.alarm = Some(deadline);
                self.at(deadline, Event::Alarm(host, deadline));
            }
        }
    }

    fn dial(&mut self, from: Host, peer: PeerId, address: SocketAddr) {
        // Where no host is, nothing ever answers.
        let Some(to) = self.addresses.get(&address).copied() else { return };
        let id = self.next_connection;
        self.next_connection += 1;
        let run = self.machine(from).run;
        let tail = End { host: from, run, peer: Some(peer), open: true, owes_ack: None };
        let head = End { host: to, run: 0, peer: None, open: false, owes_ack: None };
        let streams = (Stream::default(), Stream::default());
        self.connections.insert(id, Connection { tail, head, to_tail: streams.0, to_head: streams.1 });
        for host in [from, to] {
            self.machine_mut(host).ends.insert(id);
        }
        self.machine_mut(from).connections.insert(peer, id);
        self.send_syn(id, FIRST_SYN_RETRY);
    }

    fn connection_of(&self, host: Host, peer: PeerId) -> Option<(u64, Side)> {
        let id = *self.machine(host).connections.get(&peer)?;
        let connection = self.connections.get(&id)?;
        let is_tail = connection.tail.host == host && connection.tail.peer == Some(peer);
        Some((id, if is_tail { Side::Tail } else { Side::Head }))
    }
}
