//! A node's whole thinking, behind its peers' state machines, under any sequence of what remotes, its user, the network
//! and the clock may do: it never panics, always comes to rest, says nothing that does not fit a frame, and everything it
//! keeps stays within its bound.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kithd::protocol::address::HostPort;
use kithd::protocol::bans::{Ban, Target};
use kithd::protocol::bucket::Rate;
use kithd::protocol::codec::{MAX_FRAME, MAX_FRAME_BEFORE_HELLO, encode_frame};
use kithd::protocol::hash::hash_parts;
use kithd::protocol::heartbeat::{Answers, Side};
use kithd::protocol::identity::{ControllerId, Label, PeerId};
use kithd::protocol::key_mark::KeyMark;
use kithd::protocol::message::{HeadMessage, TailMessage};
use kithd::protocol::node::{Action, Input, Memory, Node, Notice, Settings};
use kithd::protocol::peer_state::{self, Command, Peer, PeerState, PeerTimes};
use kithd::protocol::prefix::Prefix;
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Signature, Signer, Verified};
use kithd::protocol::testimony::Mode;
use kithd::protocol::time::{Now, Time};

use super::bytes::Bytes;
use super::made::{Maker, NETWORK, WALL_MS, address, any_id, id, nonce, reason, vouched};

/// A node that wants something after so many turns at one moment never rests.
const MOST_TURNS: usize = 2_000;

/// Stands in for a key.
pub struct Key(pub ControllerId);

impl Signer for Key {
    fn id(&self) -> ControllerId {
        self.0
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(hash_parts(b"fuzz", &[&self.0.0, bytes]).0, [0; 32])
    }
}

/// Bounds so small that a short input reaches them.
pub fn settings() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        label: Label::from_lossy("n0"),
        network: NETWORK,
        advertise: SocketAddr::from(([10, 0, 0, 0], 7100)),
        tags: BTreeMap::new(),
        connect: vec![HostPort::Name { host: "seed.example".to_owned(), port: 7100 }],
        expect: ["a", "b"].map(|name| name.parse().expect("a label")).into(),
        allow: Vec::new(),
        peer: PeerTimes { interval: ms(1000), timeout: ms(500), dial: ms(2000), handshake: ms(5000) },
        idle_period: ms(1000),
        out_degree: 3,
        accept: 2,
        accept_ring: 1,
        flush_first: ms(5),
        flush_interval: ms(100),
        publish_stability: ms(250),
        publish_interval: ms(1000),
        refute_window: ms(2000),
        max_outgoing: 5,
        max_incoming: 4,
        arrivals: Rate { per_second: 16, burst: 24 },
        admission: Rate { per_second: 4, burst: 6 },
        exempt_loopback: false,
        max_pending: 4,
        max_pending_per_prefix: 2,
        max_nodes: 12,
        max_addresses: 8,
        max_addresses_per_source: 4,
        max_bans: 3,
        max_events: 24,
    }
}

/// Everything the node keeps is within its bound.
pub fn bounded(node: &Node) {
    for (what, held, bound) in node.sizes() {
        assert!(held <= bound, "{what}: {held} are held, {bound} at most may be");
    }
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let now = Now { mono: Time(1_000_000), wall_ms: WALL_MS };
    let seed = bytes.byte().into();
    let node = Node::new(settings(), Box::new(Key(id(0))), &Memory::default(), seed, now);
    let mut trial =
        Trial { node, ends: BTreeMap::new(), inbox: VecDeque::new(), names: Vec::new(), maker: Maker::default(), now };
    while !bytes.is_empty() {
        trial.step(&mut bytes);
        trial.settle();
        bounded(&trial.node);
    }
    trial.node.network_report(trial.now);
    trial.node.view_counts(trial.now);
    trial.node.memory();
    trial.node.warnings();
    trial.node.warnings_of_absence(trial.now);
    let known: Vec<_> = trial.node.view().iter().map(|(id, _)| *id).collect();
    for id in known {
        assert!(trial.node.why(&id, trial.now).is_some(), "of every node in the view there is something to tell");
    }
}

/// One end of a connection.
struct End {
    side: Side,
    address: SocketAddr,
    peer: Peer,
    answers: Answers,
    /// The last heartbeat that was sent.
    beat: u32,
    /// Who has proved its key.
    remote: Option<ControllerId>,
    open: bool,
}

struct Trial {
    node: Node,
    ends: BTreeMap<PeerId, End>,
    inbox: VecDeque<Input>,
    names: Vec<HostPort>,
    maker: Maker,
    now: Now,
}

impl Trial {
    /// Something happens to the node.
    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(16) {
            0 | 1 => self.accept(address(bytes)),
            2 | 3 => self.pass(bytes),
            4..=11 => self.remote(bytes),
            12 | 13 => self.fate(bytes),
            14 => self.user(bytes),
            _ => self.resolve(bytes),
        }
    }

    fn accept(&mut self, from: SocketAddr) {
        let mut actions = Vec::new();
        let accepted = self.node.accepted(self.now, from, &mut actions);
        assert!(accepted.is_err() || self.node.may_connect(self.now, from.ip()).is_ok());
        if let Ok(peer) = accepted {
            self.begin(peer, Side::Head, from, Command::Accept);
        }
        self.act_all(actions);
    }

    fn begin(&mut self, id: PeerId, side: Side, address: SocketAddr, first: Command) {
        let peer = Peer::new(side, settings().peer);
        self.ends
            .insert(id, End { side, address, peer, answers: Answers::default(), beat: 0, remote: None, open: false });
        self.feed(id, peer_state::Input::Command(first));
    }

    /// Time passes: to the next deadline of all, or by a span of its own.
    fn pass(&mut self, bytes: &mut Bytes<'_>) {
        let own = [self.node.idle_due(), self.node.discovery_due()].into_iter().flatten();
        let next = own.chain(self.ends.values().filter_map(|end| end.peer.deadline())).min();
        let then = match (bytes.below(8), next) {
            (0..=4, Some(next)) => self.now.mono.max(next),
            (7, _) => self.now.mono + Duration::from_secs(3600 * u64::from(bytes.byte())),
            _ => self.now.mono + Duration::from_millis(20 * u64::from(bytes.byte())),
        };
        let passed = then.since(self.now.mono).as_millis() as u64;
        self.now = Now { mono: then, wall_ms: self.now.wall_ms + passed };
    }

    fn any_end(&self, bytes: &mut Bytes<'_>) -> Option<PeerId> {
        let at = bytes.below(self.ends.len().clamp(1, 256));
        self.ends.keys().nth(at).copied()
    }

    /// The other end of a connection says something.
    fn remote(&mut self, bytes: &mut Bytes<'_>) {
        let Some(id) = self.any_end(bytes) else { return };
        self.maker.know_digest(self.node.digest());
        let end = self.ends.get_mut(&id).expect("one of them");
        self.maker.speaker = end.remote;
        let input = match end.side {
            Side::Tail => peer_state::Input::Answer(self.maker.head_message(end.beat, bytes)),
            Side::Head => {
                let message = self.maker.tail_message(bytes);
                let dated = match (&message, end.peer.state()) {
                    (TailMessage::Heartbeat { seq, echo, .. }, PeerState::Established { .. }) => {
                        end.answers.answer(*seq, *echo, self.now.mono)
                    }
                    _ => None,
                };
                peer_state::Input::Request { message, dated }
            }
        };
        self.feed(id, input);
    }

    /// A dial succeeds, a handshake does, a remote takes nothing any more, or a stream ends.
    fn fate(&mut self, bytes: &mut Bytes<'_>) {
        let Some(id) = self.any_end(bytes) else { return };
        let end = self.ends.get_mut(&id).expect("one of them");
        let input = match (bytes.chance(4), end.peer.state()) {
            (true, _) => peer_state::Input::Ended(reason(bytes)),
            (false, PeerState::Handshaking { remote: None, .. }) => {
                let remote = any_id(bytes);
                end.remote = Some(remote);
                peer_state::Input::Secured(remote, key(remote.0[0]))
            }
            (false, PeerState::Established { .. }) => peer_state::Input::Stalled(bytes.chance(2)),
            (false, _) => peer_state::Input::Connected,
        };
        self.feed(id, input);
    }

    fn user(&mut self, bytes: &mut Bytes<'_>) {
        let input = match bytes.below(16) {
            0..=5 => Input::Connect(HostPort::Ip(address(bytes)), bytes.byte().into()),
            6 | 7 => {
                let host = bytes.pick(&["a.example", "b.example", "seed.example"]).to_owned();
                Input::Connect(HostPort::Name { host, port: 7100 }, bytes.byte().into())
            }
            8 | 9 => Input::Disconnect(self.any_end(bytes).into_iter().collect()),
            10 | 11 => Input::Forget(any_id(bytes)),
            12 => Input::Keys((bytes.byte() % 3..3).map(key).collect()),
            13 => return self.access(bytes),
            14 => Input::CloseAll(Reason::Local),
            _ if bytes.chance(2) => Input::Census(nonce(bytes), bytes.pick(&[Mode::Count, Mode::Prove]), 0),
            _ => Input::Leave,
        };
        self.inbox.push_back(input);
    }

    /// The user says who may come in, or reloads the configuration.
    fn access(&mut self, bytes: &mut Bytes<'_>) {
        let mut actions = Vec::new();
        let target = match bytes.chance(2) {
            true => Target::Addresses(Prefix::around(address(bytes).ip().to_canonical(), 8 * (1 + bytes.byte() % 4))),
            false => Target::Node(any_id(bytes)),
        };
        match bytes.below(8) {
            0..=3 => {
                // From long ended to the longest that may be asked for.
                let until_ms = self.now.wall_ms - 10_000 + bytes.number() % Ban::LONGEST.as_millis() as u64;
                let _ = self.node.ban(self.now, Ban { target, label: None, until_ms, note: None }, &mut actions);
            }
            4 | 5 => drop(self.node.unban(self.now, &target)),
            6 => {
                let ids: Vec<_> = (0..bytes.below(4)).map(|_| any_id(bytes)).collect();
                self.node.allow(self.now, ids, &mut actions);
            }
            _ => {
                let addresses: Vec<_> = (0..bytes.below(4)).map(|_| HostPort::Ip(address(bytes))).collect();
                self.node.configure(self.now, &addresses);
            }
        }
        self.act_all(actions);
    }

    fn resolve(&mut self, bytes: &mut Bytes<'_>) {
        let Some(name) = self.names.pop() else { return };
        let found = (0..bytes.below(4)).map(|_| address(bytes)).collect();
        self.inbox.push_back(Input::Resolved(name, found));
    }

    /// All that follows, until the node rests.
    fn settle(&mut self) {
        let is_due = |due: Option<Time>, now: Now| due.is_some_and(|due| due <= now.mono);
        for turn in 0.. {
            assert!(turn < MOST_TURNS, "the node never rests");
            let late = self.ends.iter().find(|(_, end)| is_due(end.peer.deadline(), self.now)).map(|(id, _)| *id);
            let input = match self.inbox.pop_front() {
                Some(input) => input,
                None if late.is_some() => {
                    self.feed(late.expect("just looked at"), peer_state::Input::Tick);
                    continue;
                }
                None if is_due(self.node.idle_due(), self.now) => Input::Idle,
                None if is_due(self.node.discovery_due(), self.now) => Input::Discovery,
                None => break,
            };
            let mut actions = Vec::new();
            self.node.handle(self.now, input, &mut actions);
            self.act_all(actions);
        }
    }

    fn act_all(&mut self, actions: Vec<Action>) {
        assert!(actions.len() <= 512, "one input, {} actions", actions.len());
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial(peer, greeting) => {
                assert_eq!(
                    self.node.may_connect(self.now, greeting.address.ip()),
                    Ok(()),
                    "a banned address is dialled"
                );
                self.begin(peer, Side::Tail, greeting.address, Command::Connect(greeting));
            }
            Action::Command(peer, command) => self.feed(peer, peer_state::Input::Command(command)),
            Action::Resolve(name) => {
                self.names.push(name);
                // The resolver's own queue is bounded by the node's user.
                self.names.dedup();
            }
            Action::Notify(Notice::EdgeUp(peer, id)) => {
                let address = self.ends.get(&peer).expect("an edge has a connection").address;
                assert_eq!(self.node.may_come_in(self.now, id, address), Ok(()), "an edge with whom is kept out");
            }
            Action::Notify(_)
            | Action::Connected(..)
            | Action::Reached(..)
            | Action::Counted(..)
            | Action::Fatal(_) => {}
        }
    }

    /// One input for a peer, and what it tells its controller.
    fn feed(&mut self, id: PeerId, input: peer_state::Input) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        let mut actions = Vec::new();
        end.peer.handle(self.now.mono, input, &mut actions);
        let mut is_over = false;
        for action in actions {
            match action {
                peer_state::Action::Issue(message) => end.fits(encode_frame(&message).len()),
                peer_state::Action::Answer(message) => {
                    let first = matches!(message, HeadMessage::Welcome { .. } | HeadMessage::Busy { .. });
                    end.open &= !first;
                    end.fits(encode_frame(&message).len());
                    end.open |= matches!(message, HeadMessage::Welcome { .. });
                }
                peer_state::Action::Beat { seq, echo } => {
                    end.beat = seq;
                    let statement = self.node.claim(self.now).statement(self.now.mono);
                    end.fits(encode_frame(&TailMessage::Heartbeat { seq, statement, echo }).len());
                }
                peer_state::Action::Open => end.open = true,
                peer_state::Action::Report(event) => {
                    is_over |= matches!(event, peer_state::PeerEvent::Closed { .. });
                    let event = event.check::<_, _, _, Reason>(
                        |record| Ok(Verified::vouch(record)),
                        |item| Ok(vouched(item)),
                        |_, said| Ok(Verified::vouch(Arc::new(said))),
                    );
                    self.inbox.extend(event.into_iter().map(|event| Input::Peer(id, event)));
                }
                peer_state::Action::Dial(_) | peer_state::Action::Secure { .. } | peer_state::Action::Shut => {}
            }
        }
        if is_over {
            self.ends.remove(&id);
        }
    }
}

/// One of three network keys.
fn key(number: u8) -> KeyMark {
    KeyMark([number % 3; 8])
}

impl End {
    /// A remote that obeys the rules must be able to take what is sent to it.
    fn fits(&self, frame: usize) {
        let limit = if self.open { MAX_FRAME } else { MAX_FRAME_BEFORE_HELLO };
        assert!(frame <= limit + 4, "a frame of {frame} bytes where {limit} may be");
    }
}
