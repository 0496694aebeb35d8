//! What travels on an edge. This page is the protocol; [`wire`](super::wire) has it byte by byte.
//!
//! ```text
//!  tail (dialled)                          head (accepted)
//!  preamble, Hello ──────────────────────▶               who I am, what this edge is for
//!                  ◀────────────────────── Welcome       who I am; the edge stands
//!                                          (or Busy with other addresses, or Goodbye with a reason)
//!  Heartbeat{seq, statement, echo} ──────▶
//!                  ◀────────────────────── Heartbeat{seq, statement}
//!  Sync{first, buckets} ─────────────────▶               on connect, and when views stay different
//!                  ◀────────────────────── Differences{last, entries}
//!  Push{items, announcements, want} ─────▶               the tail's news
//!                  ◀────────────────────── Ack{items, announcements, want}
//!  Watch ────────────────────────────────▶               two are held open ...
//!                  ◀────────────────────── News{items, announcements, want}   ... and answered when the head has news
//!  Census{nonce, mode, remaining} ───────▶               count the network behind you
//!                  ◀────────────────────── Census{nonce, returns}   once, or in several parts
//!  Request{id, service, payload} ────────▶               what applications ask: see `requests`
//!  Piece{id, payload} ───────────────────▶               the rest of a payload that one message does not hold
//!                  ◀────────────────────── Response{id, outcome, payload}
//!                  ◀────────────────────── Piece{id, payload}
//!  Goodbye{reason} ◀─────────────────────▶ Goodbye{reason}
//! ```
//!
//! The tail issues, the head answers: the two directions are two types, and the first byte of every frame says which
//! one it is, so that a frame in the wrong direction is recognised as such whatever it contains.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::HalfHash;
use super::identity::ShortId;
use super::list::List;
use super::reason::Reason;
use super::record::{Item, Record};
use super::requests::message::{Piece, Request, Response};
use super::testimony::{Mode, Nonce, Returns};

/// The version of the protocol this code speaks; both ends take the highest they share.
pub const VERSION: u8 = 1;
/// Items in one message: with the smallest item of about 100 bytes a frame holds not many more.
pub const MAX_ITEMS: usize = 128;
/// Announcements in one message, 16 bytes each, so that they fit a frame beside what is wanted.
pub const MAX_ANNOUNCEMENTS: usize = 700;
/// Nodes wanted in one message; the asked one answers within its frame's size.
pub const MAX_WANT: usize = 256;
/// Addresses a busy head offers instead.
pub const MAX_HINTS: usize = 16;
/// Entries in one `Differences`: 16 bytes each, so that it fits a frame.
pub const MAX_ENTRIES: usize = 900;
/// The farthest agreement radius that is stated.
pub const MAX_RADIUS: usize = 16;

/// What an edge is for. The head counts each kind apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// One of the random edges that discovery floods over.
    Overlay,
    /// An edge to a ring's successor: these alone make the graph strongly connected.
    Ring,
    /// A look whether somebody lives there; becomes no edge.
    Probe,
    /// An edge for what applications ask, dialled when it is wanted and closed when it is not. Discovery does not use it: it
    /// is in no record, and counts for no degree.
    Application,
}

impl Purpose {
    /// True for an edge of the graph that discovery makes and uses.
    pub fn is_of_discovery(self) -> bool {
        matches!(self, Self::Overlay | Self::Ring)
    }
}

/// "I hold this digest now, and everybody within k hops of me held it at most `ages[k - 1]` ago."
///
/// Taken from one snapshot and never changed after (`discovery.md` 2.3). Ages are in units of 100 ms, rounded up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// The first half of the view digest of the node that states it.
    pub digest: HalfHash,
    /// One byte a hop; their number is the agreement radius.
    pub ages: List<u8, MAX_RADIUS>,
}

/// A bucket of the view: nodes whose id begins with this byte, and eight bytes of their entries' hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BucketHash(pub u8, #[serde(with = "super::words")] pub [u8; 8]);

/// An entry of the view, and eight bytes of the hash of all that is known about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct EntryHash(pub ShortId, #[serde(with = "super::words")] pub [u8; 8]);

/// "I have this of that node": whoever lacks it says that he wants it.
///
/// Versions are told by their lower half and compared as serial numbers (RFC 1982): a node that publishes 2^31 times while
/// an announcement is under way does not exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// Which node.
    pub node: ShortId,
    /// The lower half of its record's version.
    pub version: u32,
    /// Tells its verdict (witnesses of `down`, a decision to forget) from others; all zeros if there is none.
    #[serde(with = "super::words")]
    pub verdict: [u8; 4],
    /// Somebody misses it.
    pub suspected: bool,
}

/// What of an entry is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Part {
    /// The record, and with it all that is said of it.
    All,
    /// Witnesses of `down`, or the decision to forget.
    Verdict,
    /// Who misses the node.
    Suspicion,
}

/// "Send me this."
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Want(pub ShortId, pub Part);

/// A step of the roll call on a view (`discovery/roll_call.rs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Roll {
    /// The first half of the digest that all are to hold.
    pub digest: HalfHash,
    /// Which call of the root this belongs to.
    pub round: u32,
    /// What is said.
    pub step: RollStep,
}

/// What is said in a roll call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RollStep {
    /// Down the tree: do you and all behind you hold it?
    Call,
    /// Up: we do.
    Present,
    /// Down: all do, within the last `age_ms`; and `Present` had been here for `held_ms` when this was sent.
    All {
        /// In milliseconds, when this was sent.
        age_ms: u32,
        /// In milliseconds.
        held_ms: u32,
    },
}

/// News, and what is wanted in return.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct News {
    /// Signed items, at most a frame's worth.
    pub items: List<Item, MAX_ITEMS>,
    /// What the sender has besides.
    pub announcements: List<Announcement, MAX_ANNOUNCEMENTS>,
    /// What the sender wants of the receiver.
    pub want: List<Want, MAX_WANT>,
    /// The roll call, if the two are neighbours in its tree.
    pub roll: Option<Roll>,
}

impl News {
    /// True if it says and asks nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.announcements.is_empty() && self.want.is_empty() && self.roll.is_none()
    }
}

/// What a tail may send.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TailMessage {
    /// The first message: identification. The four fields of a peer's identity travel in the record.
    Hello {
        /// The tail's own record.
        record: Arc<Record>,
        /// The tail's wall clock, in Unix milliseconds.
        clock_ms: u64,
        /// What the edge is for.
        purpose: Purpose,
        /// The address that was dialled: tells the head whether its advertised address works.
        dialled: SocketAddr,
    },
    /// The edge is from now on for something else.
    Repurpose(Purpose),
    /// Are you there? With a statement; `echo` is the number of the last answer that arrived. Besides, it asks for news as
    /// two `Watch` would, and its answer acknowledges every `Push` before it: what is asked and acknowledged anyway takes no
    /// messages of its own while little happens.
    Heartbeat {
        /// Rises by one each time on this connection.
        seq: u32,
        /// The tail's statement.
        statement: Statement,
        /// The last answer that the tail had when it sent this: dates the statement without a common clock.
        echo: Option<u32>,
    },
    /// A request to be answered when there is news; a head holds two of them.
    Watch,
    /// The tail's news.
    Push(News),
    /// The tail's view in short, bucket by bucket; empty ones are left out.
    Sync {
        /// The first bucket to compare; the ones before it were.
        first: u8,
        /// In rising order.
        buckets: List<BucketHash, 256>,
    },
    /// The tail closes the edge.
    Goodbye(Reason),
    /// Whether changes are to be passed on over this edge at once; if not, after a second, and only what the other end has
    /// not shown to have by then. The tail decides for both, since only it measures round trips.
    Eager(bool),
    /// Be counted, with all that lie behind you and are not counted yet.
    Census {
        /// Which census.
        nonce: Nonce,
        /// What it is to bring home.
        mode: Mode,
        /// How long the tail waits for the last answer, in milliseconds.
        remaining_ms: u32,
    },
    /// An application asks; its payload's beginning, or all of it.
    Request(Request),
    /// The payload goes on.
    Piece(Piece),
}

/// What a head may send: nothing that nobody asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HeadMessage {
    /// Answers `Hello`: the edge stands.
    Welcome {
        /// The head's own record.
        record: Arc<Record>,
        /// The head's wall clock, in Unix milliseconds.
        clock_ms: u64,
    },
    /// Answers `Hello`: no room, try these.
    Busy {
        /// The head's own record.
        record: Arc<Record>,
        /// Addresses of other nodes.
        hints: List<SocketAddr, MAX_HINTS>,
    },
    /// Answers `Heartbeat`.
    Heartbeat {
        /// The number of the heartbeat it answers.
        seq: u32,
        /// The head's statement.
        statement: Statement,
    },
    /// Answers `Watch`.
    News(News),
    /// Answers `Push`.
    Ack(News),
    /// Answers `Sync`: the buckets that differ and all that the head has in them.
    Differences {
        /// The last bucket that was compared: from the next on the tail asks again.
        last: u8,
        /// Buckets whose hashes differ.
        buckets: List<u8, 256>,
        /// The head's entries of exactly those buckets.
        entries: List<EntryHash, MAX_ENTRIES>,
    },
    /// The head closes the edge.
    Goodbye(Reason),
    /// Answers `Census`, perhaps in several parts.
    Census {
        /// The census that it answers.
        nonce: Nonce,
        /// Who is counted.
        returns: Returns,
    },
    /// Answers `Request`; its payload's beginning, or all of it.
    Response(Response),
    /// The payload goes on.
    Piece(Piece),
}
