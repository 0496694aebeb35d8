//! What a node tells its user: the shapes of `status`, `peers` and `network`, and their field names.
//!
//! Fields are added, never renamed: scripts read them. A value that is not known is `null`. Ids and digests are 64 hex
//! digits, moments RFC 3339 in UTC, durations numbers whose name ends in their unit.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::census_report::CensusReport;
use super::message::Purpose;
use super::reason::Reason;
use super::requests::message::Refusal;

/// The version of these shapes.
pub const SCHEMA: u32 = 1;

/// How many nodes are shown to hold the same view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementReport {
    /// Nodes shown to hold this node's digest, itself included.
    pub agreeing: usize,
    /// Nodes that are up in this node's view.
    pub live: usize,
    /// True if all live nodes are among the agreeing.
    pub unanimous: bool,
    /// Hops around this node within which all agree.
    pub radius: usize,
    /// The agreeing nodes held the digest at some moment within this many seconds.
    pub age_seconds: f64,
    /// Since when this node has held this digest.
    pub since: String,
    /// The same as a span.
    #[serde(default)]
    pub held_seconds: f64,
}

/// This node's report: `kithd status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// This node's id.
    pub id: String,
    /// Its label.
    pub label: String,
    /// The program's version.
    pub version: String,
    /// The network's name.
    pub network: String,
    /// Since the start.
    pub uptime_seconds: f64,
    /// Addresses it accepts connections on.
    pub listen: Vec<SocketAddr>,
    /// The address it tells others.
    pub advertise: SocketAddr,
    /// Connections by kind.
    pub peers: PeerCounts,
    /// The view in numbers.
    pub network_view: ViewCounts,
    /// Heartbeats of all connections since the start.
    pub heartbeat: HeartbeatCounts,
    /// Bytes and frames of all connections since the start.
    pub traffic: Traffic,
    /// Application requests since the start.
    pub requests: RequestCounts,
    /// What was thrown away, by reason.
    pub dropped: BTreeMap<Reason, u64>,
    /// Connections refused or closed for cause, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Threads of the whole process.
    pub threads: u64,
    /// Memory of the whole process.
    pub memory: Memory,
    /// How often the node's threads woke up, over the time since the previous report (at least a second).
    pub wakeups_per_second: f64,
    /// Nodes that should be there and are not.
    pub expected_missing: Vec<String>,
    /// What its user should know.
    pub warnings: Vec<String>,
}

/// Connections by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerCounts {
    /// Established, dialled by this node.
    pub outgoing: usize,
    /// Established, accepted by this node.
    pub incoming: usize,
    /// Not yet established, either way.
    pub handshaking: usize,
    /// Addresses in the address book.
    pub known_addresses: usize,
}

/// The view in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewCounts {
    /// All entries.
    pub nodes: usize,
    /// Entries that are up and not suspected.
    pub up: usize,
    /// Up, but somebody misses them.
    pub suspect: usize,
    /// Silent by the witness of enough observers.
    pub down: usize,
    /// Gone gracefully.
    pub left: usize,
    /// Edges between nodes that are up.
    pub edges: usize,
    /// The view's digest.
    pub digest: String,
    /// Who holds the same.
    pub agreement: AgreementReport,
}

/// Heartbeats of all connections since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatCounts {
    /// Requests sent by this node as a tail.
    pub sent: u64,
    /// Requests of other tails answered by this node.
    pub answered: u64,
    /// Connections closed for silence.
    pub timed_out: u64,
    /// Smoothed round-trip times over the established outgoing connections; `null` if there is none.
    pub rtt_ms: Option<RttSummary>,
}

/// Two percentiles of round-trip times, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RttSummary {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// Bytes and frames of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Read from sockets.
    pub bytes_in: u64,
    /// Written to sockets.
    pub bytes_out: u64,
    /// Frames taken in.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
}

/// Application requests since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Asked by this node.
    pub issued: u64,
    /// Of these, answered.
    pub answered: u64,
    /// Answered by this node.
    pub served: u64,
    /// Of those it asked, failed.
    pub failed: u64,
    /// Begun by this node, and failed.
    #[serde(default)]
    pub unserved: u64,
    /// Not even begun, by cause.
    #[serde(default)]
    pub refused: BTreeMap<Refusal, u64>,
}

/// Memory of the whole process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident, in bytes; 0 where the system does not tell.
    pub rss_bytes: u64,
    /// The bound on all queued bytes together.
    pub budget_bytes: u64,
    /// Bytes queued for all peers now.
    pub queued_bytes: u64,
}

/// `kithd peers`: one row per connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeersReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// By rising peer id.
    pub peers: Vec<PeerRow>,
}

/// Who dialled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// This node is the tail.
    Outgoing,
    /// This node is the head.
    Incoming,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// The controller's number for it.
    pub peer_id: u64,
    /// Who dialled.
    pub direction: Direction,
    /// What the edge is for.
    pub purpose: Purpose,
    /// `idle`, `connecting`, `handshaking`, `established` or `closed`.
    pub state: String,
    /// The remote node's id, once it is known.
    pub id: Option<String>,
    /// The remote node's label, once it is known.
    pub label: Option<String>,
    /// The remote node's advertised address once it is known, the socket's before.
    pub address: String,
    /// When it entered this state.
    pub since: String,
    /// The mark of the network key it was made with, once the handshake is over; see `keys` of `identity`.
    #[serde(default)]
    pub key: Option<String>,
    /// Smoothed round-trip time of heartbeats; only a tail measures it.
    pub rtt_ms: Option<f64>,
    /// How long the last heartbeat has been unanswered.
    pub heartbeat_outstanding_ms: Option<f64>,
    /// Read from the socket.
    pub bytes_in: u64,
    /// Written to the socket.
    pub bytes_out: u64,
    /// Waiting to be written.
    pub queued_bytes: u64,
    /// Why it was closed.
    pub close_reason: Option<Reason>,
}

/// What is known of a node's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Takes part.
    Up,
    /// Takes part, but somebody misses it.
    Suspect,
    /// Silent by the witness of enough observers.
    Down,
    /// Gone gracefully.
    Left,
}

impl Status {
    /// As tables, logs and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

/// `kithd network`: the whole network as this node knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The id of the node that tells this.
    pub id: String,
    /// The view's digest.
    pub digest: String,
    /// Who holds the same.
    pub agreement: AgreementReport,
    /// By label, then id.
    pub nodes: Vec<NodeRow>,
    /// Edges between nodes that are up.
    pub edges: Vec<EdgeRow>,
    /// Nodes that should be there and are not, as they are expected: by label or id.
    #[serde(default)]
    pub expected_missing: Vec<String>,
    /// Who answered, if the network was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<CensusReport>,
}

/// One node of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its id.
    pub id: String,
    /// Its label.
    pub label: String,
    /// Its advertised address.
    pub address: SocketAddr,
    /// What its owner says about it.
    pub tags: BTreeMap<String, String>,
    /// Its status in this view.
    pub status: Status,
    /// Of its record.
    pub version: u64,
    /// Whether its address was reached.
    pub reachable: Option<bool>,
    /// Its edges whose heads are up.
    pub edges_out: usize,
    /// Edges to it whose tails are up.
    pub edges_in: usize,
    /// Who says it is down, by id.
    pub witnesses: Vec<String>,
    /// Who misses it and waits for its answer, by id; of a node that is `suspect`.
    #[serde(default)]
    pub suspected_by: Vec<String>,
    /// Since when it has had this status, as seen from here.
    #[serde(default)]
    pub since: Option<String>,
    /// The same as a span.
    #[serde(default)]
    pub since_seconds: Option<f64>,
    /// Whether this node's configuration expects it.
    #[serde(default)]
    pub expected: bool,
}

/// A connection between two nodes, by their ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Who dialled and issues requests.
    pub tail: String,
    /// Who accepted and answers.
    pub head: String,
}

/// `kithd connect`: how a dial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// As it was asked.
    pub address: String,
    /// `connected`, `already-connected`, or `failed`.
    pub outcome: String,
    /// The node found there.
    pub id: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Why it failed.
    pub reason: Option<Reason>,
}

/// `kithd disconnect`: what was closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DisconnectReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The numbers of the closed peers, rising; never empty.
    pub closed: Vec<u64>,
}

/// `kithd bans`: who is kept out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BansReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Nodes by id, then addresses.
    pub bans: Vec<BanRow>,
}

/// One ban; `known.json` keeps it in this form too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRow {
    /// The node's id, if it is a node that is banned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Otherwise the address, or the range of addresses as `10.0.0.0/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The node's label when it was banned: a help for the eye, no proof of who it is.
    pub label: Option<String>,
    /// When it ends.
    pub until: String,
    /// Why, if that was said.
    pub reason: Option<String>,
}

/// `kithd ban`: the ban that now stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The ban.
    #[serde(flatten)]
    pub ban: BanRow,
    /// The numbers of the peers that it closed, rising.
    pub closed: Vec<u64>,
}

/// `kithd unban`: the ban that was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnbanReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The ban as it was.
    #[serde(flatten)]
    pub ban: BanRow,
}

/// `kithd forget`: who is forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgetReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node's id; of one that was expected and never seen nobody knows it.
    pub id: Option<String>,
    /// Its label, or as it was expected.
    pub label: String,
    /// Whether it was dropped from the view, here and at all others; if not, only this node expected it.
    #[serde(default = "yes")]
    pub everywhere: bool,
}

fn yes() -> bool {
    true
}

/// `kithd identity`: this node. `kithd leave`: the node that leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdentityReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node's id.
    pub id: String,
    /// Its label.
    pub label: String,
    /// Of `identity` only: the marks of the network keys it holds, the one it dials with first. A mark tells a key from
    /// others and reveals nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
}

/// `kithd tag`: what this node's user says about it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagsReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node's id.
    pub id: String,
    /// Its label.
    pub label: String,
    /// By their keys.
    pub tags: BTreeMap<String, String>,
}
