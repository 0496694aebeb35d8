//! One simulated process: a node's machines as its daemon runs them, in one loop instead of threads.
//!
//! Like them it answers heartbeats where frames are taken off, drains whatever follows from an input before it rests, and
//! then asks each machine when it wants to be woken.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::door::{Door, StandIn};
use super::hostile::Liar;
use super::parcel::{Parcel, Spoken};
use super::ring::Ring;
use super::sieve::{HANDSHAKE, Said, Sieve};
use crate::protocol::address::HostPort;
use crate::protocol::census_report::CensusReport;
use crate::protocol::codec::{FrameSplitter, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, Preamble, frame};
use crate::protocol::heartbeat::{Answers, Side};
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::key_mark::KeyMark;
use crate::protocol::list::List;
use crate::protocol::message::{HeadMessage, Purpose, TailMessage};
use crate::protocol::node::{Action, Input, Memory, Node, Notice, Settings};
use crate::protocol::peer_state::{self, Command, Peer, PeerEvent, PeerState, PeerTimes};
use crate::protocol::reason::Reason;
use crate::protocol::record::{Item, NetworkId, Record, VerifiedItem, WitnessBody};
use crate::protocol::time::{Now, Time};

/// A leaving node waits this long for its neighbours to have heard.
const FAREWELL: Duration = Duration::from_secs(1);
/// A machine that still wants something after so many turns at one moment never rests: a bug, and better loud.
const MAX_TURNS: usize = 10_000;

/// What a process wants of the world around it.
#[derive(Debug)]
pub(super) enum Effect {
    /// Open a connection for this peer.
    Dial(PeerId, SocketAddr),
    /// Send this on this peer's connection.
    Write(PeerId, Parcel),
    /// End this peer's connection after what was written.
    Shut(PeerId),
    /// Ask the resolver.
    Resolve(HostPort),
    /// The node told its user something.
    Notice(Notice),
    /// A census of this node's user is over.
    Counted(Result<Box<CensusReport>, Reason>),
    /// A witness came by: for the truth's sake, not the node's.
    Overheard(WitnessBody),
    /// The process ends by itself.
    Exit,
}

/// A running node.
pub(super) struct Process {
    node: Node,
    times: PeerTimes,
    network: NetworkId,
    ring: Ring,
    ends: BTreeMap<PeerId, End>,
    /// When each end wants to be woken, if it does.
    alarms: BTreeSet<(Time, PeerId)>,
    inbox: VecDeque<Input>,
    written: BTreeMap<PeerId, Parcel>,
    effects: Vec<Effect>,
    leaving: Option<Time>,
    door: Door,
    checks: u32,
    liar: Option<Liar>,
}

/// The lengths of the messages of the stand-in handshake: those of the real ones, less the seal that is counted with every packet, but that they do
/// not have. The third goes along with what is sealed.
const FIRST: usize = 28;
const SECOND: usize = 181;
const THIRD: usize = 168;

/// One end of a connection.
struct End {
    side: Side,
    peer: Peer,
    answers: Answers,
    splitter: FrameSplitter,
    limit: usize,
    /// Of a tail, where it has dialled.
    dialled: Option<SocketAddr>,
    key: Option<KeyMark>,
}

impl Process {
    pub(super) fn new(settings: Settings, door: Door, signer: StandIn, memory: &Memory, seed: u64, now: Now) -> Self {
        let (times, network, ring) = (settings.peer, settings.network, Ring::default());
        let mut node = Node::new(settings, Box::new(signer), memory, seed, now);
        node.handle(now, Input::Keys(ring.marks().to_vec()), &mut Vec::new());
        Self {
            node,
            times,
            network,
            ring,
            ends: BTreeMap::new(),
            alarms: BTreeSet::new(),
            inbox: VecDeque::new(),
            written: BTreeMap::new(),
            effects: Vec::new(),
            leaving: None,
            door,
            checks: 0,
            liar: None,
        }
    }

    /// From now on it lies.
    pub(super) fn corrupt(&mut self, liar: Liar) {
        self.liar = Some(liar);
    }

    /// If it lies, it may do so now.
    pub(super) fn tempt(&mut self) {
        if let Some(liar) = &mut self.liar {
            liar.take_turn();
        }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// How many signatures it has checked since it was last asked.
    pub(super) fn take_checks(&mut self) -> u32 {
        std::mem::take(&mut self.checks)
    }

    /// When it wants [`Process::tick`].
    pub(super) fn deadline(&self) -> Option<Time> {
        let own = [self.node.idle_due(), self.node.discovery_due(), self.leaving].into_iter().flatten();
        own.chain(self.alarms.first().map(|(due, _)| *due)).min()
    }

    /// Perhaps a deadline has come.
    pub(super) fn tick(&mut self, now: Now) -> Vec<Effect> {
        let due: BTreeSet<PeerId> =
            self.alarms.iter().take_while(|(due, _)| *due <= now.mono).map(|(_, p)| *p).collect();
        for peer in due {
            self.feed(now, peer, peer_state::Input::Tick);
        }
        self.settle(now)
    }

    /// The node's user, or the resolver, has something for it.
    pub(super) fn tell(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if matches!(input, Input::Leave) {
            self.leaving = Some(now.mono + FAREWELL);
        }
        if let Input::Keys(keys) = &input {
            self.ring.replace(keys);
        }
        self.inbox.push_back(input);
        self.settle(now)
    }

    /// A connection has come in; which peer it became, if it was let in.
    pub(super) fn accepted(&mut self, now: Now, from: SocketAddr) -> (Result<PeerId, Reason>, Vec<Effect>) {
        let mut actions = Vec::new();
        let accepted = self.node.accepted(now, from, &mut actions);
        for action in actions {
            self.act(now, action);
        }
        if let Ok(peer) = accepted {
            self.add_end(peer, Side::Head, None);
            self.feed(now, peer, peer_state::Input::Command(Command::Accept));
        }
        (accepted, self.settle(now))
    }

    /// A dial succeeded.
    pub(super) fn connected(&mut self, now: Now, peer: PeerId) -> Vec<Effect> {
        self.feed(now, peer, peer_state::Input::Connected);
        self.settle(now)
    }

    /// A dial failed.
    pub(super) fn refused(&mut self, now: Now, peer: PeerId, reason: Reason) -> Vec<Effect> {
        self.feed(now, peer, peer_state::Input::Ended(reason));
        self.settle(now)
    }

    /// A connection is over; `reset` tells how.
    pub(super) fn ended(&mut self, now: Now, peer: PeerId, reset: bool) -> Vec<Effect> {
        let partial = self.ends.get(&peer).is_some_and(|end| end.splitter.is_partial());
        let reason = match (reset, partial) {
            (true, _) => Reason::Reset,
            (false, true) => Reason::EofInFrame,
            (false, false) => Reason::EndOfStream,
        };
        if let Some(End { dialled: Some(address), key: Some(key), peer, .. }) = self.ends.get(&peer)
            && matches!(peer.state(), PeerState::Handshaking { remote: None, .. })
        {
            self.ring.learn(*address, *key, false);
        }
        self.feed(now, peer, peer_state::Input::Ended(reason));
        self.settle(now)
    }

    /// Some bytes came in.
    pub(super) fn received(&mut self, now: Now, peer: PeerId, bytes: &[u8]) -> Vec<Effect> {
        let Some(end) = self.ends.get_mut(&peer) else { return Vec::new() };
        let mut sieve = Sieve { limit: end.limit, side: end.side, said: Vec::new() };
        let split = end.splitter.split(bytes, &mut sieve);
        for said in sieve.said {
            if let Err(reason) = self.heard(now, peer, said) {
                self.feed(now, peer, peer_state::Input::Ended(reason));
            }
        }
        if let Err(reason) = split {
            self.feed(now, peer, peer_state::Input::Ended(reason));
        }
        self.settle(now)
    }

    /// The same of messages that were not written out.
    pub(super) fn told(&mut self, now: Now, peer: PeerId, messages: Vec<Spoken>) -> Vec<Effect> {
        for Spoken { said, length } in messages {
            let Some(end) = self.ends.get(&peer) else { break };
            let said = match (said, end.side) {
                _ if length > end.limit => Err(Reason::FrameTooLarge),
                (Said::Request(_), Side::Tail) | (Said::Answer(_), Side::Head) => Err(Reason::WrongDirection),
                (said, _) => Ok(said),
            };
            if let Err(reason) = said.and_then(|said| self.heard(now, peer, said)) {
                self.feed(now, peer, peer_state::Input::Ended(reason));
            }
        }
        self.settle(now)
    }

    /// Stands in for the handshake: its messages with their lengths, and so its round trips, but each end is believed who it
    /// says it is, and a key's mark is as good as the key.
    fn shake_hands(&mut self, now: Now, peer: PeerId, said: &[u8]) -> Result<(), Reason> {
        let Some(end) = self.ends.get_mut(&peer) else { return Ok(()) };
        let is_first = end.side == Side::Head && end.key.is_none();
        if is_first {
            let mark = KeyMark(*said.first_chunk().ok_or(Reason::Malformed)?);
            end.key = Some(mark).filter(|mark| self.ring.marks().contains(mark));
            end.key.ok_or(Reason::NetworkKey)?;
        }
        if end.side == Side::Tail || is_first {
            let length = if is_first { SECOND } else { THIRD };
            let proof = handshake(&self.node.id().0, length);
            self.written.entry(peer).or_default().write(&frame(&proof));
        }
        if !is_first {
            let id = ControllerId(*said.first_chunk().ok_or(Reason::Malformed)?);
            let key = end.key.ok_or(Reason::Unexpected)?;
            if let Some(address) = end.dialled {
                self.ring.learn(address, key, true);
            }
            self.checks += 1;
            self.feed(now, peer, peer_state::Input::Secured(id, key));
        }
        Ok(())
    }

    /// The tail's first words.
    fn begin(&mut self, peer: PeerId, purpose: Purpose, first_key: bool) {
        let Some(end) = self.ends.get_mut(&peer) else { return };
        let Some(address) = end.dialled else { return };
        let key = self.ring.for_dial(address, first_key);
        end.key = Some(key);
        let written = self.written.entry(peer).or_default();
        written.write(&Preamble::of(0, purpose).to_bytes());
        written.write(&frame(&handshake(&key.0, FIRST)));
    }

    fn heard(&mut self, now: Now, peer: PeerId, said: Said) -> Result<(), Reason> {
        let message = match said {
            Said::Handshake(said) => return self.shake_hands(now, peer, &said),
            Said::Answer(message) => {
                self.feed(now, peer, peer_state::Input::Answer(message));
                return Ok(());
            }
            Said::Request(message) => message,
            Said::Nonsense(reason) => return Err(reason),
        };
        let Some(end) = self.ends.get_mut(&peer) else { return Ok(()) };
        let mut dated = None;
        if let (TailMessage::Heartbeat { seq, echo, .. }, PeerState::Established { .. }) = (&message, end.peer.state())
        {
            dated = end.answers.answer(*seq, *echo, now.mono);
            let statement = self.node.claim(now).statement(now.mono);
            self.answer(peer, HeadMessage::Heartbeat { seq: *seq, statement });
        }
        self.feed(now, peer, peer_state::Input::Request { message, dated });
        Ok(())
    }

    /// One input for a peer, and what follows from it, up to what it tells its controller.
    fn feed(&mut self, now: Now, peer: PeerId, input: peer_state::Input) {
        let Some(end) = self.ends.get_mut(&peer) else { return };
        let (mut actions, before) = (Vec::new(), end.peer.deadline());
        end.peer.handle(now.mono, input, &mut actions);
        let after = end.peer.deadline();
        if before != after {
            before.map(|due| self.alarms.remove(&(due, peer)));
            after.map(|due| self.alarms.insert((due, peer)));
        }
        for action in actions {
            match action {
                peer_state::Action::Dial(address) => self.effects.push(Effect::Dial(peer, address)),
                peer_state::Action::Secure { purpose, first_key } => self.begin(peer, purpose, first_key),
                peer_state::Action::Issue(message) => self.request(peer, message),
                peer_state::Action::Answer(message) => self.answer(peer, message),
                peer_state::Action::Beat { seq, echo } => {
                    let statement = self.node.claim(now).statement(now.mono);
                    self.request(peer, TailMessage::Heartbeat { seq, statement, echo });
                }
                peer_state::Action::Open => {
                    if let Some(end) = self.ends.get_mut(&peer) {
                        end.limit = MAX_FRAME;
                    }
                }
                peer_state::Action::Report(event) => self.report(now, peer, event),
                peer_state::Action::Shut => {
                    self.send_written();
                    self.effects.push(Effect::Shut(peer));
                }
            }
        }
    }

    fn report(&mut self, now: Now, peer: PeerId, event: PeerEvent<Arc<Record>, Item>) {
        if matches!(event, PeerEvent::Closed { .. })
            && let Some(due) = self.ends.remove(&peer).and_then(|end| end.peer.deadline())
        {
            self.alarms.remove(&(due, peer));
        }
        if let PeerEvent::Push(said) | PeerEvent::News(said, _) = &event {
            let witnesses = said.items.iter().filter_map(|item| match item {
                Item::Witness(witness) => Some(Effect::Overheard(witness.body.clone())),
                Item::Record(_) | Item::Forget(_) => None,
            });
            self.effects.extend(witnesses);
        }
        let (node, door, network, checks) = (&self.node, &self.door, self.network, Cell::new(self.checks));
        let checked = event.check(
            |record| {
                let record = VerifiedItem::Record(door.record(record)?);
                checks.set(checks.get() + u32::from(is_news(node, &record)));
                let VerifiedItem::Record(record) = record else { return Err(Reason::Malformed) };
                Ok(record)
            },
            |item| {
                let item = door.item(item)?;
                checks.set(checks.get() + u32::from(is_news(node, &item)));
                Ok(item)
            },
            |nonce, said| {
                checks.set(checks.get() + 1);
                door.testimony(network, nonce, said)
            },
        );
        self.checks = checks.into_inner();
        match checked {
            Ok(event) => self.inbox.push_back(Input::Peer(peer, event)),
            Err(reason) => self.feed(now, peer, peer_state::Input::Ended(reason)),
        }
    }

    /// Handles whatever waits, and whatever is due, until the node rests.
    fn settle(&mut self, now: Now) -> Vec<Effect> {
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now.mono);
        for turn in 0.. {
            assert!(turn < MAX_TURNS, "a node never rests at {:?}", now.mono);
            let input = match self.inbox.pop_front() {
                Some(input) => input,
                None if is_due(self.node.idle_due()) => Input::Idle,
                None if is_due(self.node.discovery_due()) => Input::Discovery,
                None if self.may_go(now) => {
                    self.leaving = None;
                    self.effects.push(Effect::Exit);
                    Input::CloseAll(Reason::Leaving)
                }
                None => break,
            };
            let mut actions = Vec::new();
            self.node.handle(now, input, &mut actions);
            for action in actions {
                self.act(now, action);
            }
        }
        self.send_written();
        // Whoever leaves has said goodbye on every connection before it exits.
        self.effects.sort_by_key(|effect| matches!(effect, Effect::Exit));
        std::mem::take(&mut self.effects)
    }

    fn may_go(&self, now: Now) -> bool {
        self.leaving.is_some_and(|deadline| deadline <= now.mono || self.node.farewell_delivered())
    }

    fn act(&mut self, now: Now, action: Action) {
        match action {
            Action::Dial(peer, greeting) => {
                self.add_end(peer, Side::Tail, Some(greeting.address));
                self.feed(now, peer, peer_state::Input::Command(Command::Connect(greeting)));
            }
            Action::Command(peer, Command::Answer(HeadMessage::Welcome { record, .. }))
                if self.liar.as_mut().is_some_and(Liar::turns_away) =>
            {
                let busy = HeadMessage::Busy { record, hints: List::new() };
                self.feed(now, peer, peer_state::Input::Command(Command::Answer(busy)));
            }
            Action::Command(peer, command) => self.feed(now, peer, peer_state::Input::Command(command)),
            Action::Resolve(name) => self.effects.push(Effect::Resolve(name)),
            Action::Notify(notice) => self.effects.push(Effect::Notice(notice)),
            Action::Connected(..) | Action::Reached(..) => {}
            Action::Counted(_, counted) => self.effects.push(Effect::Counted(counted)),
            Action::Fatal(_) => self.effects.push(Effect::Exit),
        }
    }

    fn add_end(&mut self, peer: PeerId, side: Side, dialled: Option<SocketAddr>) {
        let splitter = if side == Side::Head { FrameSplitter::with_preamble() } else { FrameSplitter::new() };
        let end = End {
            side,
            peer: Peer::new(side, self.times),
            answers: Answers::default(),
            splitter,
            limit: MAX_FRAME_BEFORE_HELLO,
            dialled,
            key: None,
        };
        self.ends.insert(peer, end);
    }

    fn request(&mut self, peer: PeerId, request: TailMessage) {
        let request = match &mut self.liar {
            Some(liar) => liar.twist_request(&self.node, request),
            None => request,
        };
        self.written.entry(peer).or_default().say(request, Said::Request);
    }

    fn answer(&mut self, peer: PeerId, answer: HeadMessage) {
        let answer = match &mut self.liar {
            Some(liar) => liar.twist_answer(&self.node, answer),
            None => answer,
        };
        self.written.entry(peer).or_default().say(answer, Said::Answer);
    }

    /// All that one turn has for a connection is one packet, as the daemon's sink does it.
    fn send_written(&mut self) {
        let written = std::mem::take(&mut self.written);
        self.effects.extend(written.into_iter().map(|(peer, parcel)| Effect::Write(peer, parcel)));
    }
}

fn handshake(said: &[u8], length: usize) -> Vec<u8> {
    let mut message = [&[HANDSHAKE][..], said].concat();
    message.resize(length, 0);
    message
}

/// True for what a node has not checked before, as far as it can remember: what it holds, it has checked.
fn is_news(node: &Node, item: &VerifiedItem) -> bool {
    let view = node.view();
    match item {
        VerifiedItem::Record(record) => view.get(&record.body.id).is_none_or(|entry| entry.record() != record),
        VerifiedItem::Witness(witness) => {
            let entry = view.resolve(&witness.body.subject).and_then(|id| view.get(&id));
            let mut held = entry.into_iter().flat_map(|entry| entry.certificate().iter().chain(entry.suspicions()));
            !held.any(|held| held == witness)
        }
        VerifiedItem::Forget(_) => true,
    }
}
