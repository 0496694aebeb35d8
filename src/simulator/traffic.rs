//! How events happen: connections between processes, and what passes on them.

use std::net::SocketAddr;
use std::time::Duration;

use super::job::{Job, Sequel, Word};
use super::links::{Fate, Segment, Stream};
use super::parcel::{Parcel, Spoken};
use super::process::Effect;
use super::world::{Host, WEAR, World, address_of};
use crate::protocol::address::HostPort;
use crate::protocol::codec::MAX_FRAME;
use crate::protocol::heartbeat::Side;
use crate::protocol::identity::PeerId;
use crate::protocol::node::Input;
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;

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
    pub(super) peer: Option<PeerId>,
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
    /// What an event does before a process has to think about it, if one has to; [`World::conclude`] does what follows.
    pub(super) fn begin(&mut self, event: Event) -> Option<Job> {
        match event {
            Event::Syn(id, pause) => self.send_syn(id, pause),
            Event::Retry(id, side) => self.retry(id, side),
            Event::Wear => {
                self.wear();
                self.at(self.now + WEAR, Event::Wear);
            }
            Event::Mischief(time) => self.mischief(time),
            Event::SynArrives(id) => return self.syn_arrives(id),
            Event::Accept(id) => return self.accept(id),
            Event::Answered(id, refusal) => return self.answered(id, refusal),
            Event::Arrives(id, side, segment) => return self.arrives(id, side, segment),
            Event::Alarm(host, at) => {
                let alarm = &mut self.machine_mut(host).alarm;
                return alarm.take_if(|set| *set == at).and_then(|_| self.wake(host));
            }
            Event::Rested(host) => return self.rested(host),
            Event::Resolved(host, run, name) => return self.resolved(host, run, name),
        }
        None
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
    fn rested(&mut self, host: Host) -> Option<Job> {
        let machine = self.machine_mut(host);
        let event = machine.backlog.pop_front()?;
        machine.serves = true;
        let mut job = self.begin(event);
        self.machine_mut(host).serves = false;
        match &mut job {
            Some(job) => job.waited = true,
            None => self.go_on(host),
        }
        job
    }

    /// One of those that waited has happened; the next one may.
    pub(super) fn go_on(&mut self, host: Host) {
        let machine = self.machine(host);
        if !machine.backlog.is_empty() {
            let at = machine.busy_until.max(self.now);
            self.at(at, Event::Rested(host));
        }
    }

    fn resolved(&mut self, host: Host, run: u64, name: HostPort) -> Option<Job> {
        if self.machine(host).run != run || self.hold(host, || Event::Resolved(host, run, name.clone())) {
            return None;
        }
        let found = self.names.get(&name).cloned().unwrap_or_default();
        self.job(host, Word::Tell(Input::Resolved(name, found)), Sequel::Nothing)
    }

    /// Its timers are looked at; if it is busy, after that.
    pub(super) fn wake(&mut self, host: Host) -> Option<Job> {
        let now = self.now;
        let machine = self.machine_mut(host);
        if machine.busy_until > now && machine.process.is_some() {
            let later = machine.busy_until;
            machine.alarm = Some(later);
            self.at(later, Event::Alarm(host, later));
            return None;
        }
        if machine.held.is_some() {
            return None;
        }
        self.job(host, Word::Tick, Sequel::Nothing)
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

    fn syn_arrives(&mut self, id: u64) -> Option<Job> {
        let connection = self.connections.get_mut(&id)?;
        let (from, to) = (connection.tail.host, connection.head.host);
        let machine = &self.machines[to.0];
        if machine.dark {
            return None;
        }
        let back = self.now + self.links.latency(from, to);
        if machine.process.is_none() {
            self.at(back, Event::Answered(id, Some(Reason::ConnectionRefused)));
            return None;
        }
        connection.head.run = machine.run;
        connection.head.open = true;
        self.at(back, Event::Answered(id, None));
        if self.hold(to, || Event::Accept(id)) { None } else { self.accept(id) }
    }

    fn accept(&mut self, id: u64) -> Option<Job> {
        let Connection { tail, head, .. } = self.connections.get(&id)?;
        let (host, from) = (head.host, address_of(tail.host.0));
        let from = SocketAddr::new(from.ip(), 40_000 + (id % 20_000) as u16);
        self.job(host, Word::Accept(from), Sequel::Joins(id, None))
    }

    fn answered(&mut self, id: u64, refusal: Option<Reason>) -> Option<Job> {
        let tail = self.connections.get(&id).map(|one| &one.tail).filter(|tail| tail.open)?;
        let (host, run, peer) = (tail.host, tail.run, tail.peer);
        let peer = peer.filter(|_| self.machine(host).run == run && self.machine(host).process.is_some())?;
        if self.hold(host, || Event::Answered(id, refusal)) {
            return None;
        }
        match refusal {
            None => self.job(host, Word::Connected(peer), Sequel::Nothing),
            Some(reason) => self.job(host, Word::Refused(peer, reason), Sequel::Leaves(id, Side::Tail, peer)),
        }
    }

    fn arrives(&mut self, id: u64, side: Side, segment: Segment) -> Option<Job> {
        let connection = self.connections.get_mut(&id)?;
        let End { host, run, peer, open, .. } = *connection.end(side);
        let machine = &self.machines[host.0];
        if machine.dark || !open {
            return None;
        }
        if machine.process.is_none() || machine.run != run {
            // The system of a restarted host knows nothing of this connection.
            connection.end(side).open = false;
            self.send(id, other(side), Segment::Reset);
            return None;
        }
        let mut waits = Some(segment);
        if self.hold(host, || Event::Arrives(id, side, waits.take().unwrap_or(Segment::End))) {
            return None;
        }
        let (peer, segment) = (peer?, waits?);
        let reset = matches!(segment, Segment::Reset);
        let Segment::Parcel(parcel) = segment else {
            return self.job(host, Word::Ended(peer, reset), Sequel::Leaves(id, side, peer));
        };
        self.owe_ack(id, side);
        let word = match self.taken_apart(parcel) {
            Ok(messages) => Word::Told(peer, messages),
            Err(pieces) => Word::Received(peer, pieces),
        };
        self.job(host, word, Sequel::Nothing)
    }

    /// A parcel as it arrives: whole, or in pieces.
    fn taken_apart(&mut self, parcel: Parcel) -> Result<Vec<Spoken>, Vec<Vec<u8>>> {
        let whole = if self.machines.len() <= SMALL { 0.5 } else { 1.0 - 1.0 / SMALL as f64 };
        let mut uncut = self.rng.chance(whole);
        let parcel = match uncut {
            true => match parcel.messages() {
                Ok(messages) => return Ok(messages),
                Err(parcel) => parcel,
            },
            false => parcel,
        };
        let (mut rest, mut pieces) = (parcel.into_bytes(), Vec::new());
        while !rest.is_empty() {
            let length = if uncut { rest.len() } else { 1 + self.rng.below(rest.len()) };
            let behind = rest.split_off(length);
            pieces.push(std::mem::replace(&mut rest, behind));
            uncut = rest.is_empty() || self.rng.chance(whole);
        }
        Err(pieces)
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
            !end.open || machine.dark || (machine.runs() && machine.run != end.run)
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
    pub(super) fn close(&mut self, id: u64, side: Side) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.end(side).open = false;
            self.send(id, other(side), Segment::End);
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
