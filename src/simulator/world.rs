//! The world: a queue of events, ordered by time and then by the order in which they were made, and the hosts they
//! happen to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{RangeInclusive, Sub};
use std::time::Duration;

use super::checks::Findings;
use super::crew::Crew;
use super::door::Door;
use super::history::History;
use super::ledger::Ledger;
use super::links::Links;
use super::process::Process;
use super::queue::Queue;
use super::spread::Spread;
use super::traffic::{Connection, Event};
use crate::protocol::address::HostPort;
use crate::protocol::bucket::Rate;
use crate::protocol::hash::hash_parts;
use crate::protocol::identity::{ControllerId, Label, PeerId};
use crate::protocol::node::{Memory, Settings};
use crate::protocol::peer_state::PeerTimes;
use crate::protocol::record::NetworkId;
use crate::protocol::rng::Rng;
use crate::protocol::time::{Now, Time};

/// The wall clock at the world's start: 2026-01-01, so that versions and hours look as they do.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// How often in a heartbeat the nodes' claims are compared with the truth.
const SAMPLES: u32 = 10;
/// How often connections may break.
pub(super) const WEAR: Duration = Duration::from_millis(100);
/// How often one of those who lie speaks up by itself: seldom enough that a network can agree meanwhile.
pub(super) const MISCHIEF: Duration = Duration::from_secs(6);
/// How finely [`World::run_until`] looks.
const STEP: Duration = Duration::from_millis(10);
/// So long after a host's last trouble others may still rightly speak of it.
pub(super) const AFTERMATH: Duration = Duration::from_secs(10);

/// What holds for the whole world.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// One way; each pair of hosts has its own, fixed.
    pub latency: RangeInclusive<Duration>,
    /// Of every packet.
    pub loss: f64,
    /// The share of connections that break in a second, as a middle box breaks them: with a reset at both ends.
    pub broken: f64,
    /// What checking a signature costs the process that checks: so much later it does the next thing. A process has one core
    /// here; what it has checked before costs nothing.
    pub signature_cost: Duration,
    /// How far wall clocks are off, at most, to either side.
    pub skew: Duration,
    /// The share of members that lie, never the first one.
    pub hostile: f64,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How many threads let the processes think. What becomes of the world does not depend on it.
    pub threads: usize,
}

impl Conditions {
    /// 1 to 100 ms one way, no loss, signatures that cost nothing, and clocks that keep time: off by a second or two.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_millis(1)..=Duration::from_millis(100),
            loss: 0.0,
            broken: 0.0,
            signature_cost: Duration::ZERO,
            skew: Duration::from_secs(2),
            hostile: 0.0,
            heartbeat: Duration::from_secs(1),
            threads: 1,
        }
    }
}

/// A host, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Host(pub usize);

/// A host and the process on it.
pub(super) struct Machine {
    pub(super) id: ControllerId,
    pub(super) settings: Settings,
    pub(super) process: Option<Box<Process>>,
    /// True while its process is elsewhere, with something to think about.
    pub(super) thinks: bool,
    /// What came while the process was stopped; `None` while it is not.
    pub(super) held: Option<VecDeque<Event>>,
    /// Since when its process runs without a stop.
    pub(super) alive_since: Time,
    /// From when on it has been as well as any other.
    pub(super) undisturbed: Time,
    /// Until when it has something to do, and what waits for that.
    pub(super) busy_until: Time,
    pub(super) backlog: VecDeque<Event>,
    /// True while it takes from its backlog.
    pub(super) serves: bool,
    pub(super) history: History,
    pub(super) sent: Sent,
    pub(super) memory: Memory,
    pub(super) dark: bool,
    pub(super) run: u64,
    pub(super) clock_ms: i64,
    pub(super) alarm: Option<Time>,
    pub(super) connections: BTreeMap<PeerId, u64>,
    /// All connections that have an end here, also those its process has never seen.
    pub(super) ends: BTreeSet<u64>,
}

/// What hosts have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets with something in them.
    pub packets: u64,
    /// Their bytes: what nodes said, the 20 that sealing adds to a record, 40 of TCP and IP per packet.
    pub bytes: u64,
    /// Bytes of packets that only acknowledge, 40 each, sent when nothing else goes the same way within 40 ms.
    pub acks: u64,
}

impl Sub for Sent {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            acks: self.acks.saturating_sub(earlier.acks),
        }
    }
}

/// Hosts, links, and what is about to happen.
pub struct World {
    /// What the checks have found so far.
    pub findings: Findings,
    pub(super) now: Time,
    pub(super) machines: Vec<Machine>,
    pub(super) links: Links,
    pub(super) hosts: BTreeMap<ControllerId, Host>,
    seed: u64,
    pub(super) rng: Rng,
    pub(super) queue: Queue<Event>,
    next_sample: Time,
    pub(super) addresses: BTreeMap<SocketAddr, Host>,
    pub(super) names: BTreeMap<HostPort, Vec<SocketAddr>>,
    /// Only looked up: whoever goes through them does it host by host.
    pub(super) connections: HashMap<u64, Connection>,
    pub(super) next_connection: u64,
    pub(super) ledger: Ledger,
    pub(super) spread: Option<Spread>,
    pub(super) door: Door,
    pub(super) broken: f64,
    pub(super) signature_cost: Duration,
    skew: Duration,
    hostile: f64,
    pub(super) liars: Vec<Host>,
    pub(super) heartbeat: Duration,
    threads: usize,
    pub(super) crew: Crew,
}

impl Machine {
    /// True if a process runs there, or is stopped.
    pub(super) fn runs(&self) -> bool {
        self.process.is_some() || self.thinks
    }
}

impl World {
    /// An empty world.
    pub fn new(conditions: Conditions) -> Self {
        let Conditions { seed, latency, loss, broken, signature_cost, skew, hostile, heartbeat, threads } = conditions;
        let mut world = Self {
            findings: Findings::default(),
            now: Time::ZERO,
            machines: Vec::new(),
            links: Links::new(seed, latency, loss),
            hosts: BTreeMap::new(),
            seed,
            rng: Rng::new(seed),
            queue: Queue::new(),
            next_sample: Time::ZERO,
            addresses: BTreeMap::new(),
            names: BTreeMap::new(),
            connections: HashMap::new(),
            next_connection: 0,
            ledger: Ledger::default(),
            spread: None,
            door: Door::default(),
            broken,
            signature_cost,
            skew,
            hostile,
            liars: Vec::new(),
            heartbeat,
            threads,
            crew: Crew::default(),
        };
        if hostile > 0.0 {
            world.at(Time::ZERO + MISCHIEF, Event::Mischief(0));
        }
        if broken > 0.0 {
            world.at(Time::ZERO + WEAR, Event::Wear);
        }
        world
    }

    /// A network of which every node is told the first one's address, started at once.
    pub fn network(conditions: Conditions, nodes: usize) -> Self {
        let mut world = Self::new(conditions);
        for number in 0..nodes {
            let connect = if number == 0 { Vec::new() } else { vec![HostPort::Ip(address_of(0))] };
            let host = world.add(connect);
            let settings = world.settings_mut(host);
            // Whoever starts a thousand nodes from one address lets so many knock there at once.
            settings.max_pending = settings.max_pending.max(nodes);
            world.start(host);
        }
        world
    }

    /// A host whose node will dial these addresses once it is started.
    pub fn add(&mut self, connect: Vec<HostPort>) -> Host {
        let number = self.machines.len();
        let id = ControllerId(hash_parts(b"simulated node", &[&self.seed.to_le_bytes(), &number.to_le_bytes()]).0);
        let host = Host(number);
        let skew_ms = self.skew.as_millis() as usize;
        let clock_ms = self.rng.below(2 * skew_ms) as i64 - skew_ms as i64;
        if number > 0 && self.rng.chance(self.hostile) {
            self.liars.push(host);
        }
        self.hosts.insert(id, host);
        self.addresses.insert(address_of(number), host);
        self.machines.push(Machine {
            id,
            settings: settings(number, connect, self.heartbeat),
            process: None,
            thinks: false,
            held: None,
            alive_since: Time::ZERO,
            undisturbed: Time::ZERO,
            busy_until: Time::ZERO,
            backlog: VecDeque::new(),
            serves: false,
            history: History::default(),
            sent: Sent::default(),
            memory: Memory::default(),
            dark: false,
            run: 0,
            clock_ms,
            alarm: None,
            connections: BTreeMap::new(),
            ends: BTreeSet::new(),
        });
        host
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        (0..self.machines.len()).map(Host)
    }

    /// The id of a host's node.
    pub fn id(&self, host: Host) -> ControllerId {
        self.machine(host).id
    }

    /// Where a host's node listens.
    pub fn address(&self, host: Host) -> SocketAddr {
        self.machine(host).settings.advertise
    }

    /// The settings with which a host's node starts next.
    pub fn settings_mut(&mut self, host: Host) -> &mut Settings {
        &mut self.machine_mut(host).settings
    }

    /// What the resolver will say of a name; of others it knows nothing.
    pub fn name(&mut self, name: HostPort, addresses: Vec<SocketAddr>) {
        self.names.insert(name, addresses);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_to(self.now + span);
    }

    /// Lets time pass until something is so; how long it took, or `None` if it did not come within `limit`.
    pub fn run_until(&mut self, limit: Duration, mut is_so: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !is_so(self) {
            if self.now.since(start) >= limit {
                return None;
            }
            self.run_for(STEP);
        }
        Some(self.now.since(start))
    }

    fn run_to(&mut self, end: Time) {
        // What passes the door is kept in the order in which it came there.
        self.crew.be(if self.door.keeps_all() { 1 } else { self.threads });
        while self.now < end {
            let until = end.min(self.next_sample);
            while self.pass(until) {}
            self.now = until;
            if self.now == self.next_sample {
                self.check_claims();
                self.next_sample = self.now + self.heartbeat / SAMPLES;
            }
        }
    }

    pub(super) fn machine(&self, host: Host) -> &Machine {
        &self.machines[host.0]
    }

    pub(super) fn machine_mut(&mut self, host: Host) -> &mut Machine {
        &mut self.machines[host.0]
    }

    /// The present, by a host's own clocks.
    pub fn now_at(&self, host: Host) -> Now {
        let wall_ms = (EPOCH_MS + self.now.0 / 1000).saturating_add_signed(self.machine(host).clock_ms);
        Now { mono: self.now, wall_ms }
    }

    pub(super) fn at(&mut self, moment: Time, event: Event) {
        self.queue.push(moment, event);
    }
}

/// Each host in a /24 of its own.
pub(super) fn address_of(number: usize) -> SocketAddr {
    let [.., high, low] = (number as u32).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, high, low, 1), 7100))
}

/// The defaults of the configuration.
fn settings(number: usize, connect: Vec<HostPort>, interval: Duration) -> Settings {
    let ms = Duration::from_millis;
    Settings {
        label: Label::from_lossy(&format!("n{number}")),
        network: NetworkId::of("simulated"),
        advertise: address_of(number),
        tags: BTreeMap::new(),
        connect,
        expect: Vec::new(),
        allow: Vec::new(),
        peer: PeerTimes { interval, timeout: ms(500), dial: ms(2000), handshake: ms(5000) },
        idle_period: ms(1000),
        out_degree: 8,
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
        admission: Rate { per_second: 32, burst: 256 },
        exempt_loopback: true,
        max_pending: 128,
        max_pending_per_prefix: 8,
        max_nodes: 16_384,
        max_addresses: 4096,
        max_addresses_per_source: 256,
        max_bans: 1024,
        // Each pair of nodes would have one.
        max_events: 0,
    }
}
