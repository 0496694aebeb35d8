//! What a node thinks, without threads, sockets or signatures: one period of its protocol, and thousands of events in a
//! row. `cargo bench --bench node`.
//!
//! The node has a network of members around it that only say what they must: whoever is dialled answers, whoever is told
//! something acknowledges it. So it comes by its edges in the way it would in earnest, and keeps them.

#[allow(dead_code, reason = "shared with other benches, each of which uses a part of it")]
mod members;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kithd::protocol::bucket::Rate;
use kithd::protocol::identity::{ControllerId, Label, PeerId};
use kithd::protocol::key_mark::KeyMark;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, Purpose, Statement, TailMessage};
use kithd::protocol::node::{Action, Event, Input, Link, Memory, Node, Phase, Settings};
use kithd::protocol::peer_state::{Command, NewsKind, PeerEvent, PeerTimes, Tidings};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Signature, Signer, VerifiedItem};
use kithd::protocol::report::Direction;
use kithd::protocol::rng::Rng;
use kithd::protocol::time::{Now, Time};

use members::{ISSUED, NETWORK, address, id, record};

const SIZES: [u16; 2] = [128, 1024];
const OUT_DEGREE: usize = 8;
const TAILS: usize = 8;
const EVENTS: usize = 10_000;
const MIXTURES: [(&str, [usize; 3]); 3] =
    [("heartbeats", [100, 0, 0]), ("pushes", [0, 0, 100]), ("all kinds", [70, 10, 17])];
/// From one event to the next.
const BETWEEN: Duration = Duration::from_millis(1);
const PERIOD: Duration = Duration::from_secs(1);

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a second with eight edges each way");
    for size in SIZES {
        let mut around = Around::settled(size);
        group.bench_function(format!("{size} nodes, at rest"), |bench| bench.iter(|| around.period()));
        group.bench_function(format!("{size} nodes, one of which changes"), |bench| {
            bench.iter(|| {
                around.changes(3);
                around.period();
            });
        });
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("{EVENTS} events"));
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(10);
    for size in SIZES {
        for (name, shares) in MIXTURES {
            let storm = storm(size, shares);
            let befall = |around: &mut Around| storm.iter().for_each(|event| around.befall(event));
            let mut first = Around::settled(size);
            befall(&mut first);
            first.pass(5 * PERIOD);
            first.assert_whole();
            group.bench_function(format!("{size} nodes, {name}"), |bench| {
                bench.iter_batched_ref(|| Around::settled(size), befall, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

/// What happens on one of the node's connections, whichever that is then.
enum Stroke {
    Beat,
    Watch,
    Push(VerifiedItem),
    /// The connection breaks. A tail dials again.
    Break,
}

/// The same events each time. Of a hundred so many are heartbeats, watches, and pushes; the rest are connections that break.
fn storm(size: u16, [beats, watches, pushes]: [usize; 3]) -> Vec<(usize, Stroke)> {
    let (mut rng, mut versions) = (Rng::new(7), vec![1; usize::from(size)]);
    let mut below = |most: usize| (rng.next_u64() % most as u64) as usize;
    let mut stroke = || match below(100) {
        at if at < beats => Stroke::Beat,
        at if at < beats + watches => Stroke::Watch,
        at if at < beats + watches + pushes => {
            let number = 1 + below(usize::from(size) - 1);
            versions[number] += 1;
            Stroke::Push(VerifiedItem::Record(record(number as u16, versions[number])))
        }
        _ => Stroke::Break,
    };
    let strokes: Vec<Stroke> = (0..EVENTS).map(|_| stroke()).collect();
    strokes.into_iter().enumerate().map(|(at, stroke)| (at.wrapping_mul(7_919), stroke)).collect()
}

/// A node, and the members it has to do with.
struct Around {
    node: Node,
    now: Now,
    size: u16,
    /// Of those that have changed.
    versions: BTreeMap<u16, u64>,
    actions: Vec<Action>,
}

impl Around {
    /// Has edges to others, others have edges to it, and it has heard of all.
    fn settled(size: u16) -> Self {
        let now = Now { mono: Time(1_000_000), wall_ms: u64::from(ISSUED) * 3_600_000 };
        let node = Node::new(settings(), Box::new(Unsigned(id(0))), &Memory::default(), 7, now);
        let mut around = Self { node, now, size, versions: BTreeMap::new(), actions: Vec::new() };
        around.pass(PERIOD);
        let first = around.peer(0);
        around.tell(first, news((1..size).map(|number| VerifiedItem::Record(record(number, 1))).collect()));
        (0..TAILS).for_each(|tail| around.dialled_by(size / 2 + tail as u16));
        around.pass(10 * PERIOD);
        around.assert_whole();
        around
    }

    fn assert_whole(&self) {
        let edges = |direction| self.edges().filter(|(_, link)| link.direction == direction).count();
        let (heads, tails) = (edges(Direction::Outgoing), edges(Direction::Incoming));
        // One that has just broken may have no successor yet.
        assert!(heads >= OUT_DEGREE - 2 && tails == TAILS, "{heads} heads and {tails} tails");
        assert_eq!(self.node.view().up_count(), usize::from(self.size));
    }

    /// Each neighbour gives a sign of life, and gets one; then time passes, with all that becomes due.
    fn period(&mut self) {
        let peers: Vec<PeerId> = self.edges().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.tell(peer, self.beat());
            self.tell(peer, PeerEvent::RoundTrip(Duration::from_millis(20)));
            black_box(self.node.claim(self.now).statement(self.now.mono));
        }
        self.pass(PERIOD);
    }

    /// A member says something new of itself, to one neighbour first.
    fn changes(&mut self, number: u16) {
        let version = self.versions.entry(number).or_insert(1);
        *version += 1;
        let item = VerifiedItem::Record(record(number, *version));
        self.tell(self.peer(0), news(vec![item]));
    }

    fn befall(&mut self, (at, stroke): &(usize, Stroke)) {
        self.pass(BETWEEN);
        let peer = self.peer(*at);
        match stroke {
            Stroke::Beat => self.tell(peer, self.beat()),
            Stroke::Watch => self.tell(peer, PeerEvent::Watch),
            Stroke::Push(item) => self.tell(peer, news(vec![item.clone()])),
            Stroke::Break => {
                let link = self.node.link(peer);
                let tail = link.filter(|link| link.direction == Direction::Incoming).map(|link| link.address);
                self.tell(peer, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: true });
                if let Some(tail) = tail {
                    self.dialled_by(number_at(tail));
                }
            }
        }
    }

    fn edges(&self) -> impl Iterator<Item = (PeerId, &Link)> {
        let is_edge = |link: &Link| link.phase == Phase::Established && link.purpose.is_of_discovery();
        self.node.links().filter(move |(_, link)| is_edge(link))
    }

    /// One of its edges.
    fn peer(&self, at: usize) -> PeerId {
        let number = at % self.edges().count().max(1);
        self.edges().map(|(peer, _)| peer).nth(number).expect("a member of a network has an edge")
    }

    /// Agrees with the node on whatever it holds.
    fn beat(&self) -> Event {
        let statement = Statement { digest: self.node.digest().half(), ages: [1, 2].into_iter().collect() };
        PeerEvent::Statement(statement, Some(self.now.mono))
    }

    fn dialled_by(&mut self, number: u16) {
        let peer = self.node.accepted(self.now, address(number), &mut self.actions).expect("room");
        let record = record(number, self.versions.get(&number).copied().unwrap_or(1));
        let (clock_ms, purpose) = (self.now.wall_ms, Purpose::Overlay);
        self.tell(peer, PeerEvent::Hello { record, clock_ms, purpose, dialled: address(0) });
    }

    fn tell(&mut self, peer: PeerId, event: Event) {
        self.handle(Input::Peer(peer, event));
    }

    /// Lets the node think, and those it has to do with answer at once.
    fn handle(&mut self, input: Input) {
        self.node.handle(self.now, input, &mut self.actions);
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                for (peer, event) in self.answers(action) {
                    self.node.handle(self.now, Input::Peer(peer, event), &mut self.actions);
                }
            }
        }
    }

    fn answers(&self, action: Action) -> Vec<(PeerId, Event)> {
        let closed = |peer, reason| vec![(peer, PeerEvent::Closed { reason, by_remote: false })];
        match action {
            Action::Dial(peer, greeting) => {
                let number = number_at(greeting.address);
                let record = record(number, self.versions.get(&number).copied().unwrap_or(1));
                let welcome = PeerEvent::Welcome { record, clock_ms: self.now.wall_ms };
                let events = [PeerEvent::Connected, PeerEvent::Secured(KeyMark([0; 8])), welcome];
                events.map(|event| (peer, event)).to_vec()
            }
            Action::Command(peer, Command::Close(reason) | Command::Answer(HeadMessage::Goodbye(reason))) => {
                closed(peer, reason)
            }
            Action::Command(peer, Command::Answer(HeadMessage::Busy { .. })) => closed(peer, Reason::Busy),
            Action::Command(peer, Command::Issue(TailMessage::Push(_))) => {
                vec![(peer, PeerEvent::News(nothing(), NewsKind::Acknowledged))]
            }
            Action::Command(peer, Command::Issue(TailMessage::Sync { .. })) => {
                vec![(peer, PeerEvent::Differences(u8::MAX, List::new(), List::new()))]
            }
            other => {
                drop(black_box(other));
                Vec::new()
            }
        }
    }

    /// As the node's loops do: each tick at the moment it is due.
    fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        loop {
            let (idle, discovery) = (self.node.idle_due(), self.node.discovery_due());
            let Some(due) = idle.into_iter().chain(discovery).min().filter(|due| *due <= end) else { break };
            self.set_clock(due.max(self.now.mono));
            self.handle(if idle == Some(due) { Input::Idle } else { Input::Discovery });
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, mono: Time) {
        self.now = Now { mono, wall_ms: self.now.wall_at(mono) };
    }
}

fn number_at(address: SocketAddr) -> u16 {
    match address.ip() {
        IpAddr::V4(ip) => u16::from_be_bytes([ip.octets()[2], ip.octets()[3]]),
        IpAddr::V6(_) => 0,
    }
}

fn nothing() -> Tidings<VerifiedItem> {
    Tidings { items: Vec::new(), announcements: Vec::new(), want: Vec::new(), roll: None }
}

/// Over an edge of either direction: what a head says is `News`, and who is a tail pushes. The node takes in both alike.
fn news(items: Vec<VerifiedItem>) -> Event {
    PeerEvent::Push(Tidings { items, ..nothing() })
}

/// Signs nothing: what a signature costs is another bench's.
struct Unsigned(ControllerId);

impl Signer for Unsigned {
    fn id(&self) -> ControllerId {
        self.0
    }

    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 32], [0; 32])
    }
}

/// The defaults, but that nobody is too fast: virtual time is short.
fn settings() -> Settings {
    let ms = Duration::from_millis;
    Settings {
        label: Label::from_lossy("node-0"),
        network: NETWORK,
        advertise: address(0),
        tags: BTreeMap::new(),
        connect: vec![address(1).into()],
        expect: Vec::new(),
        allow: Vec::new(),
        peer: PeerTimes { interval: ms(1000), timeout: ms(500), dial: ms(2000), handshake: ms(5000) },
        idle_period: ms(1000),
        out_degree: OUT_DEGREE,
        accept: 16,
        accept_ring: 4,
        flush_first: ms(5),
        flush_interval: ms(50),
        publish_stability: ms(30),
        publish_interval: ms(1000),
        refute_window: ms(2000),
        max_outgoing: 64,
        max_incoming: 1024,
        arrivals: Rate { per_second: 100_000, burst: 100_000 },
        admission: Rate { per_second: 100_000, burst: 100_000 },
        exempt_loopback: true,
        max_pending: 128,
        max_pending_per_prefix: 128,
        max_nodes: 16_384,
        max_addresses: 4096,
        max_addresses_per_source: 256,
        max_bans: 1024,
        max_events: 64,
    }
}

fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
}

criterion_group! { name = node; config = brief(); targets = rounds, events }
criterion_main!(node);
