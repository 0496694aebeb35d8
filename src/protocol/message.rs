//! What travels on an edge. This page is the protocol; [`wire`](super::wire) has it byte by byte.
//!
//! ```text
//!  tail (dialled)                          head (accepted)
//!  preamble, Hello ──────────────────────▶               who I am, what this edge is for
//!                  ◀────────────────────── Welcome       who I am; the edge stands
//!                                          (or Busy with other addresses, or Goodbye with a reason)
//!  Heartbeat{seq, statement, echo} ──────▶
//!                  ◀────────────────────── Heartbeat{seq, statement}
//!  Sync{buckets} ────────────────────────▶               on connect, and when views stay different
//!                  ◀────────────────────── Differences{entries}
//!  Push{items, want} ────────────────────▶               the tail's news
//!                  ◀────────────────────── Ack{items, want}
//!  Watch ────────────────────────────────▶               two are held open ...
//!                  ◀────────────────────── News{items, want}   ... and answered when the head has news
//!  Goodbye{reason} ◀─────────────────────▶ Goodbye{reason}
//! ```
//!
//! The tail issues, the head answers: the two directions are two types, and the first byte of every frame says which
//! one it is, so that a frame in the wrong direction is recognised as such whatever it contains.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::identity::ShortId;
use super::list::List;
use super::reason::Reason;
use super::record::{Item, Record};

/// The version of the protocol this code speaks; both ends take the highest they share.
pub const VERSION: u8 = 1;
/// Items in one message: with the smallest item of about 100 bytes a frame holds not many more.
pub const MAX_ITEMS: usize = 128;
/// Wanted records in one message; the asked one answers within its frame's size.
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
}

/// "I hold this digest now, and everybody within k hops of me held it at most `ages[k - 1]` ago."
///
/// Taken from one snapshot and never changed after (`discovery.md` 2.3). Ages are in units of 100 ms, rounded up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// The view digest of the node that states it.
    pub digest: Hash,
    /// One byte a hop; their number is the agreement radius.
    pub ages: List<u8, MAX_RADIUS>,
}

/// A bucket of the view: nodes whose id's hash begins with this byte, and eight bytes of their entries' hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BucketHash(pub u8, pub [u8; 8]);

/// An entry of the view, and eight bytes of the hash of all that is known about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct EntryHash(pub ShortId, pub [u8; 8]);

/// News and what is wanted in return.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct News {
    /// Signed items, at most a frame's worth.
    pub items: List<Item, MAX_ITEMS>,
    /// Nodes of whom the sender wants all that the receiver knows.
    pub want: List<ShortId, MAX_WANT>,
}

impl News {
    /// True if it says and asks nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.want.is_empty()
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
    /// Are you there? With a statement; `echo` is the number of the last answer that arrived.
    Heartbeat {
        /// Rises by one each time on this connection.
        seq: u64,
        /// The tail's statement.
        statement: Statement,
        /// The last answer that the tail had when it sent this: dates the statement without a common clock.
        echo: Option<u64>,
    },
    /// A request to be answered when there is news; a head holds two of them.
    Watch,
    /// The tail's news.
    Push(News),
    /// The tail's view in short, bucket by bucket; empty ones are left out.
    Sync {
        /// In rising order.
        buckets: List<BucketHash, 256>,
    },
    /// The tail closes the edge.
    Goodbye(Reason),
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
        seq: u64,
        /// The head's statement.
        statement: Statement,
    },
    /// Answers `Watch`.
    News(News),
    /// Answers `Push`.
    Ack(News),
    /// Answers `Sync`: the buckets that differ and all that the head has in them.
    Differences {
        /// Buckets whose hashes differ, as many as fit.
        buckets: List<u8, 256>,
        /// The head's entries of exactly those buckets.
        entries: List<EntryHash, MAX_ENTRIES>,
    },
    /// The head closes the edge.
    Goodbye(Reason),
}
