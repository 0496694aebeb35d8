//! What a node can be told: one documented struct per table of `config/kithd.toml`.
//!
//! ```text
//!  defaults ──▶ file ──▶ environment ──▶ flags ──▶ contradictions? ──▶ Loaded { config, origins }
//!     each layer through the same table of keys (`keys`): one grammar, one set of checks, one form of error
//! ```
//!
//! The fields are plain values: a program that uses kithd as a library sets them directly and has them checked by
//! [`Config::check`], which `Node::start` calls.

mod contradictions;
pub mod duration;
mod field;
mod file;
pub mod host_names;
mod keys;
mod load;
mod requests;
mod services;
pub mod size;
mod subject;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::protocol::address::HostPort;
use crate::protocol::expected::Expected;
use crate::protocol::identity::{ControllerId, Label};
use crate::protocol::requests::service::ServiceName;

pub use keys::{Key, keys};
pub use load::{ConfigError, Loaded, Origin, Origins, Overrides};
pub use requests::{Requests, Service};
pub use services::{ServiceKey, service_keys};

/// Everything a node can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Who this node is and where it keeps its state.
    pub node: Node,
    /// Where others reach it.
    pub listen: Listen,
    /// The network it belongs to.
    pub network: Network,
    /// The loops that dial and that report.
    pub monitor: Monitor,
    /// How it notices that a neighbour is gone.
    pub heartbeat: Heartbeat,
    /// How it spreads and learns what the network looks like.
    pub discovery: Discovery,
    /// How it asks others, and which services it answers by itself.
    pub requests: Requests,
    /// The services that programs answer, and who may ask for which: at most [`Service::MOST`].
    pub services: BTreeMap<ServiceName, Service>,
    /// What it refuses to exceed.
    pub limits: Limits,
    /// What it writes about itself.
    pub log: Log,
}

/// Table `node`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The readable name shown to people at every node; default: the host's name, less what a label may not have.
    /// Hopefully unique, never trusted: the node's id is its true name. A telling one helps whoever reads a table, but
    /// all of the network sees it. Bound: 1 to 63 of `A-Z a-z 0-9 . _ -`.
    pub label: Label,
    /// Identity, known addresses and admin socket live here; one node per directory. On a disk that lasts the node
    /// keeps its id when it restarts; on one that does not, it is a newcomer each time.
    pub state_dir: PathBuf,
    /// What else the network should know of this node, as keys with values. They travel in its record to every other
    /// node: each byte is paid once per node, so keep what only few ask for out. `kithd tag` changes them until the next
    /// start, which takes these. Bound: 9 tags, 256 bytes of keys and values.
    pub tags: BTreeMap<String, String>,
    /// The admin socket, if not `admin.sock` in the state directory. A shared place is easier to find, but any place
    /// outside a private directory leans on the socket's own mode alone. Bound: 107 bytes, the system's.
    pub socket: Option<PathBuf>,
}

impl Node {
    /// The longest path of a Unix socket in bytes: `sun_path` has 108, the last is a NUL.
    pub const SOCKET_PATH_MAX: usize = 107;

    /// Where the admin socket is.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.state_dir.join("admin.sock"))
    }
}

impl Default for Node {
    fn default() -> Self {
        let host = rustix::system::uname();
        Self {
            label: Label::from_lossy(&host.nodename().to_string_lossy()),
            state_dir: default_state_dir(),
            tags: BTreeMap::new(),
            socket: None,
        }
    }
}

/// `$XDG_STATE_HOME/kithd`, else `~/.local/state/kithd`, else (for root, and for whoever has no home) `/var/lib/kithd`.
pub fn default_state_dir() -> PathBuf {
    choose_state_dir(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"), rustix::process::geteuid().is_root())
}

fn choose_state_dir(state_home: Option<OsString>, home: Option<OsString>, root: bool) -> PathBuf {
    // The XDG specification has relative paths ignored, and an empty one is relative.
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    match (absolute(state_home), absolute(home)) {
        (Some(state_home), _) => state_home.join("kithd"),
        (None, Some(home)) if !root => home.join(".local/state/kithd"),
        _ => PathBuf::from("/var/lib/kithd"),
    }
}

/// Table `listen`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Where connections are accepted; port 0 lets the system pick one. More addresses reach more networks and expose
    /// the node to more strangers; loopback alone keeps it to this machine. Bound: 1 to 16, none twice.
    pub addresses: Vec<SocketAddr>,
    /// The address that others are told to dial; default: the listening one. Needed behind a translation of
    /// addresses, or where several addresses are listened on and one is best; wrong, it makes the node unreachable.
    /// Bound: no port 0, neither unspecified nor multicast.
    pub advertise: Option<SocketAddr>,
}

impl Listen {
    /// The most addresses to listen on: each costs a descriptor and a place in every poll.
    pub const ADDRESSES_MAX: usize = 16;

    /// The first address that strangers on other machines could reach, if there is one.
    pub fn exposed(&self) -> Option<SocketAddr> {
        self.addresses.iter().copied().find(|address| !address.ip().to_canonical().is_loopback())
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 7100))], advertise: None }
    }
}

/// Table `network`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Nodes of another name refuse each other, so several networks can share machines. It is no secret and keeps
    /// nobody out. Bound: as for a label.
    pub name: Label,
    /// The file with the network's key, which keeps strangers out and everything secret: one to three lines of 64 hex
    /// digits, mode 0600, made by `kithd keygen`. The first key is used to dial, all are accepted. None: any process on
    /// this machine can join, and the node listens on loopback only. Its keys can change while the node runs, by appending
    /// the new one everywhere, putting it first everywhere, and removing the old one everywhere.
    pub key_file: Option<PathBuf>,
    /// Where the network is to be found: dialled at once, and redialled for ever while the node is alone. More of them
    /// survive the loss of some; each unreachable one costs a dial now and then. None: the node waits to be dialled.
    /// Bound: 256, none twice.
    pub connect: Vec<HostPort>,
    /// The nodes that should be there, by labels or ids: while one is not, it is redialled for ever wherever it was found
    /// last, named in the report and its warnings, and `kithd network` ends with 1. Longer lists notice more and complain
    /// more; a label is met by whoever calls himself so, an id by nobody else. Bound: 512, none twice.
    pub expect: Vec<Expected>,
    /// The nodes that may be neighbours, by their ids; none: anybody. A list keeps out whoever is not on it, and has to
    /// follow the network as it grows. It is about connections: what others tell of the rest is heard all the same.
    /// Bound: 512, none twice.
    pub allow: Vec<ControllerId>,
}

impl Network {
    /// The most configured addresses: they are dialled in parallel when the node is alone.
    pub const CONNECT_MAX: usize = 256;
    /// The most ids that may be allowed: with their quotes they fill half of the longest file there may be.
    pub const ALLOW_MAX: usize = 512;
}

impl Default for Network {
    fn default() -> Self {
        Self {
            name: Label::from_lossy("kith"),
            key_file: None,
            connect: Vec::new(),
            expect: Vec::new(),
            allow: Vec::new(),
        }
    }
}

/// Table `monitor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// How often the list of addresses is gone through for one to dial, once there are enough connections. Shorter
    /// heals sooner and wakes the processor more often; longer leaves a lost neighbour unreplaced. Bound: 10ms to 1h.
    pub idle_period: Duration,
    /// How often the report is written to log and status file. Shorter is fresher; longer keeps the log readable.
    /// Bound: 100ms to 24h.
    pub status_period: Duration,
    /// Where the report is written as JSON, replaced as a whole each time; none: nowhere. Handy for programs that
    /// watch a file, at the price of one write per period.
    pub status_file: Option<PathBuf>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { idle_period: Duration::from_secs(1), status_period: Duration::from_secs(60), status_file: None }
    }
}

/// Table `heartbeat`.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// How often each dialled ring neighbour is asked for life; the others are asked a fifth as often. Shorter notices a death
    /// sooner and costs traffic and
    /// wake-ups in proportion (about 100 bytes each, both ways); longer is cheaper and slower. Bound: 10ms to 1h.
    pub interval: Duration,
    /// How long after such a request silence becomes suspicion; stretched by measured round trips. Shorter notices
    /// sooner and suspects the merely slow; longer forgives a starved machine and leaves the dead in the tables.
    /// Bound: 10ms to 1m.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), timeout: Duration::from_millis(500) }
    }
}

/// Table `discovery`.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovery {
    /// Neighbours this node dials and keeps: two by rings, the others at random. More spread news faster and survive
    /// more failures; each costs a thread and heartbeats on both sides. Bound: 1 to 256, at most `max_outgoing`.
    pub out_degree: usize,
    /// Neighbours accepted from those who dial at random; more are sent on to others. Higher lets newcomers in at the
    /// first try and loads this node; lower spreads the load. Bound: 1 to 4,096, at most `max_incoming`.
    pub accept: usize,
    /// Further places kept for ring neighbours, which hold the network in one piece and have no other choice. Fewer
    /// save connections, more let rings close while the network changes. Bound: 0 to 256, at most `accept`.
    pub accept_ring: usize,
    /// How long news wait for company before the first flush. Shorter is faster by as much at each hop; longer puts
    /// more in one message. Bound: 1ms to 10s, at most `flush_interval`.
    pub flush_first: Duration,
    /// The least time between two flushes. Shorter is faster while much changes; longer saves messages then.
    /// Bound: 1ms to 1m.
    pub flush_interval: Duration,
    /// How long the node's own neighbours must have been the same before it publishes them. Shorter tells the network
    /// sooner; longer spares it news that are soon outdated. Bound: 1ms to 1m.
    pub publish_stability: Duration,
    /// The least time between two versions of the node's own record. Shorter follows changes more closely; longer
    /// bounds what a restless node costs all others. Bound: 10ms to 1h.
    pub publish_interval: Duration,
    /// How long a suspected node has to speak up before it counts as down. Shorter declares the dead sooner; longer
    /// spares the slow a false one, which costs two records in the whole network. Bound: 10ms to 10m.
    pub refute_window: Duration,
    /// How long a dial may take before it has failed. Shorter turns to the next address sooner; longer reaches the far
    /// and the slow. Bound: 10ms to 2m.
    pub dial_timeout: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            out_degree: 8,
            accept: 16,
            accept_ring: 4,
            flush_first: Duration::from_millis(5),
            flush_interval: Duration::from_millis(50),
            publish_stability: Duration::from_millis(30),
            publish_interval: Duration::from_secs(1),
            refute_window: Duration::from_secs(2),
            dial_timeout: Duration::from_secs(2),
        }
    }
}

/// Table `limits`: what bounds memory, threads and descriptors, whatever others do.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections this node dials, of all purposes; each is a thread, a descriptor and some 30 KiB. Lower bounds the
    /// cost, higher lets applications link directly to more nodes. Bound: 1 to 65,535.
    pub max_outgoing: usize,
    /// Connections it has accepted, at the same cost each. Lower bounds it, higher serves more clients.
    /// Bound: 1 to 65,535.
    pub max_incoming: usize,
    /// Accepted connections that have not yet shown who they are. Lower bounds what strangers can hold; higher lets
    /// more honest nodes in at once, after a power cut say. Bound: 1 to 65,535.
    pub max_pending: usize,
    /// The same from one network (/24 or /64), once half of `max_pending` is in use: one more, and the oldest of that
    /// network goes. Lower keeps one attacker from shutting all others out; higher admits many nodes behind one
    /// address. Bound: 1 to 65,535, at most `max_pending`.
    pub max_pending_per_prefix: usize,
    /// New connections a second from one network (/24 or /64), once `connections_burst` is used up; more are closed
    /// before a thread or a key is spent on them. A handshake costs this node about half a millisecond: lower spends
    /// less on a flood, higher serves more restless clients behind one address. Bound: 1 to 100,000.
    pub connections_per_prefix: usize,
    /// How many may come at once before that rate counts. 256 lets every host of a /24 in after a power cut; lower
    /// stops a flood sooner. Bound: 1 to 100,000.
    pub connections_burst: usize,
    /// The same of all networks together, but for addresses of nodes that are up. A stranger costs a third of a millisecond
    /// even if he says nothing: lower bounds what a crowd of them takes of the processor, higher lets more newcomers in at
    /// once. Bound: 1 to 100,000.
    pub connections_per_second: usize,
    /// Whether connections from this machine are exempt from what is counted by network. They share one address, so
    /// with `false` many nodes on one machine, as in a test, get into each other's way; with `true` a program on it can
    /// keep strangers out. Bound: true or false.
    pub exempt_loopback: bool,
    /// From accepted to known, in all, so that a slow drip does not prolong it. Shorter frees places sooner; longer
    /// admits the slow. Bound: 100ms to 2m.
    pub handshake_timeout: Duration,
    /// Bytes that wait to be sent to one peer; over it the peer counts as stuck and is closed. Lower bounds memory,
    /// higher rides out longer stalls. Bound: 64KiB to 1GiB, at most `max_queued_total`.
    pub max_queued: usize,
    /// The same for all peers together; over it what comes is refused. Lower bounds memory, higher lets many peers
    /// stall at once. Bound: 64KiB to 2GiB.
    pub max_queued_total: usize,
    /// What all queues together may take. The two bounds above, and `max_outstanding_bytes`, hold for a budget of 64MiB and follow
    /// it in proportion: with half the budget each is half as large, though none is below 64KiB. Lower for small machines, higher where many
    /// peers stall and memory is there. Bound: 4MiB to 2GiB.
    pub memory_budget: usize,
    /// Bytes of one payload, of a request or of its answer. Lower bounds what each open request holds at either end;
    /// higher carries larger things in one go. Each node keeps to its own bound, whatever the other's is. Bound: 64KiB to
    /// 16MiB, at most `max_outstanding_bytes`.
    pub max_payload: usize,
    /// Requests that one peer may have open here, and this node at one peer. Lower bounds what one caller can occupy;
    /// higher keeps more of them under way over a long line. Bound: 1 to 65,535.
    pub max_outstanding: usize,
    /// The same in bytes of their payloads. Lower bounds memory, of which each peer may take so much in either direction;
    /// higher lets more large requests be under way. Bound: 64KiB to 1GiB.
    pub max_outstanding_bytes: usize,
    /// Threads for handlers that may block, programs of services among them, begun when they are needed. Fewer bound
    /// threads and processes; more let as many slow ones run at once. Bound: 1 to 256.
    pub workers: usize,
    /// Requests that may wait for one of them, of all callers, who take turns; what comes then is refused. Fewer refuse
    /// sooner what would be late; more let callers have as many under way as `max_outstanding` says. Bound: 1 to 65,535.
    pub max_calls: usize,
    /// From a message's first frame to its last. Shorter frees the memory of senders who never finish; longer admits
    /// large messages over thin lines. Bound: 100ms to 10m.
    pub frame_timeout: Duration,
    /// Nodes in the view, at some 400 bytes each; further ones are refused and counted. Lower bounds memory; too low
    /// for the network, the nodes cannot agree. Bound: 2 to 1,048,576.
    pub max_nodes: usize,
    /// Addresses heard of but never reached; those that answered are kept apart. Lower bounds what others' talk can
    /// occupy; higher remembers more places to try. Bound: 16 to 1,048,576.
    pub max_addresses: usize,
    /// The same from one source, so that none fills the table alone. Lower trusts each source less; higher learns more
    /// of a single one. Bound: 1 to 1,048,576, at most `max_addresses`.
    pub max_addresses_per_source: usize,
    /// Nodes and addresses that are kept out at a time, at some 300 bytes each. Lower bounds memory and `known.json`;
    /// higher bears with a longer list, where a wider prefix may do. Bound: 1 to 16,384.
    pub max_bans: usize,
    /// Connections to the admin socket. Lower bounds threads and memory; higher admits more followers of events.
    /// Bound: 1 to 1,024.
    pub max_admin_clients: usize,
}

impl Limits {
    /// The budget for which the bounds on queues are stated.
    const USUAL_BUDGET: usize = 64 << 20;
    /// Below this a queue does not hold one message.
    const LEAST_QUEUE: usize = 64 << 10;
    /// A line holds the longest call of a person, whatever payloads may be.
    const LEAST_LINE: usize = 128 << 10;
    /// Of sixteen clients, longer ones would be more than all else that a node keeps.
    const LONGEST_LINE: usize = 2 << 20;

    /// [`Limits::max_queued`] as the budget has it.
    pub fn queued(&self) -> usize {
        self.within_budget(self.max_queued)
    }

    /// [`Limits::max_queued_total`] as the budget has it.
    pub fn queued_total(&self) -> usize {
        self.within_budget(self.max_queued_total)
    }

    /// [`Limits::max_outstanding_bytes`] as the budget has it.
    pub fn outstanding_bytes(&self) -> usize {
        self.within_budget(self.max_outstanding_bytes)
    }

    /// With the three bounds above as the budget has them.
    pub fn in_effect(&self) -> Self {
        Self {
            max_queued: self.queued(),
            max_queued_total: self.queued_total(),
            max_outstanding_bytes: self.outstanding_bytes(),
            ..self.clone()
        }
    }

    /// The longest line at the admin socket: what a request is there in base64, and its frame. Of each client so much may
    /// come, and twice as much may wait for it.
    pub fn admin_line(&self) -> usize {
        self.max_payload.saturating_mul(2).clamp(Self::LEAST_LINE, Self::LONGEST_LINE)
    }

    fn within_budget(&self, bytes: usize) -> usize {
        let scaled = bytes as u128 * self.memory_budget as u128 / Self::USUAL_BUDGET as u128;
        usize::try_from(scaled).unwrap_or(usize::MAX).max(Self::LEAST_QUEUE)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_outgoing: 64,
            max_incoming: 1024,
            max_pending: 128,
            max_pending_per_prefix: 8,
            connections_per_prefix: 32,
            connections_burst: 256,
            connections_per_second: 100_000,
            exempt_loopback: true,
            handshake_timeout: Duration::from_secs(5),
            max_queued: 2 << 20,
            max_queued_total: 64 << 20,
            memory_budget: Self::USUAL_BUDGET,
            max_payload: 1 << 20,
            max_outstanding: 256,
            max_outstanding_bytes: 8 << 20,
            workers: 8,
            max_calls: 256,
            frame_timeout: Duration::from_secs(30),
            max_nodes: 16_384,
            max_addresses: 4096,
            max_addresses_per_source: 256,
            max_bans: 1024,
            max_admin_clients: 16,
        }
    }
}

/// Table `log`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The least important lines that are written: off, error, warn, info, debug or trace. Lower levels explain more
    /// and cost time and disk; from debug on the lines grow with traffic.
    pub level: LevelFilter,
    /// Where log lines go; none: to stderr. A file outlives the terminal and has to be rotated by somebody.
    pub file: Option<PathBuf>,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LevelFilter::Info, file: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_budget_scales_every_queue() {
        let with = |memory_budget| Limits { memory_budget, ..Limits::default() };
        let both = |limits: Limits| (limits.queued(), limits.queued_total());
        assert_eq!(both(Limits::default()), (2 << 20, 64 << 20));
        assert_eq!(both(with(16 << 20)), (512 << 10, 16 << 20));
        assert_eq!(both(with(2 << 30)), (64 << 20, 2 << 30));
        assert_eq!(both(Limits { max_queued: 64 << 10, ..with(4 << 20) }), (64 << 10, 4 << 20));
    }

    #[test]
    fn state_lives_where_the_desktop_specification_says() {
        let choose = |state_home: &str, home: &str, root| {
            choose_state_dir(Some(state_home.into()), Some(home.into()), root).display().to_string()
        };
        assert_eq!(choose("/x/state", "/home/a", false), "/x/state/kithd");
        assert_eq!(choose("/x/state", "/root", true), "/x/state/kithd");
        assert_eq!(choose("", "/home/a", false), "/home/a/.local/state/kithd");
        assert_eq!(choose("relative", "/root", true), "/var/lib/kithd");
        assert_eq!(choose_state_dir(None, None, false), PathBuf::from("/var/lib/kithd"));
    }
}
