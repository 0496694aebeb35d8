//! What happens on a connection, as its peer tells the controller.

use std::net::SocketAddr;
use std::time::Duration;

use super::identity::ShortId;
use super::key_mark::KeyMark;
use super::list::List;
use super::message::{BucketHash, EntryHash, MAX_ENTRIES, MAX_HINTS, Purpose, Statement};
use super::reason::Reason;
use super::time::Time;

/// What a peer tells the controller. `R` and `I` are records and items: as they came, then verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent<R, I> {
    /// The stream stands.
    Connected,
    /// The handshake is over, and was made with this network key.
    Secured(KeyMark),
    /// A tail introduced itself.
    Hello {
        /// Its record.
        record: R,
        /// Its wall clock, in Unix milliseconds.
        clock_ms: u64,
        /// What the edge is to be for.
        purpose: Purpose,
        /// The address it dialled.
        dialled: SocketAddr,
    },
    /// A head took this node in.
    Welcome {
        /// Its record.
        record: R,
        /// Its wall clock, in Unix milliseconds.
        clock_ms: u64,
    },
    /// A head has no room; a `Closed` follows.
    Busy {
        /// Its record.
        record: R,
        /// Other addresses.
        hints: List<SocketAddr, MAX_HINTS>,
    },
    /// The tail wants the edge for something else.
    Repurpose(Purpose),
    /// What the remote says of the view it holds, not made before this moment.
    Statement(Statement, Time),
    /// A round trip was measured; the smoothed value.
    RoundTrip(Duration),
    /// The tail asks for news.
    Watch,
    /// The tail's news: to be acknowledged.
    Push(Vec<I>, Vec<ShortId>),
    /// The head's news, or the answer to this node's.
    News(Vec<I>, Vec<ShortId>, NewsKind),
    /// The tail compares views.
    Sync(List<BucketHash, 256>),
    /// The head's entries in the buckets that differ.
    Differences(List<u8, 256>, List<EntryHash, MAX_ENTRIES>),
    /// Nothing was heard for too long.
    Silent,
    /// The silence is over.
    Alive,
    /// The connection is over; the last event of every peer.
    Closed {
        /// Why.
        reason: Reason,
        /// True if the remote said so, or ended the stream.
        by_remote: bool,
    },
}

/// Which request a head's news answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewsKind {
    /// A `Watch`: it is to be asked again.
    Watched,
    /// A `Push`.
    Acknowledged,
}

impl<R, I> PeerEvent<R, I> {
    /// The same event with its signed parts passed through a check.
    ///
    /// # Errors
    /// The first failure of the check.
    pub fn check<R2, I2, E>(
        self,
        record: impl Fn(R) -> Result<R2, E>,
        item: impl Fn(I) -> Result<I2, E>,
    ) -> Result<PeerEvent<R2, I2>, E> {
        let items = |items: Vec<I>| items.into_iter().map(&item).collect::<Result<Vec<_>, E>>();
        Ok(match self {
            Self::Hello { record: said, clock_ms, purpose, dialled } => {
                PeerEvent::Hello { record: record(said)?, clock_ms, purpose, dialled }
            }
            Self::Welcome { record: said, clock_ms } => PeerEvent::Welcome { record: record(said)?, clock_ms },
            Self::Busy { record: said, hints } => PeerEvent::Busy { record: record(said)?, hints },
            Self::Push(said, want) => PeerEvent::Push(items(said)?, want),
            Self::News(said, want, kind) => PeerEvent::News(items(said)?, want, kind),
            Self::Connected => PeerEvent::Connected,
            Self::Secured(key) => PeerEvent::Secured(key),
            Self::Repurpose(purpose) => PeerEvent::Repurpose(purpose),
            Self::Statement(statement, dated) => PeerEvent::Statement(statement, dated),
            Self::RoundTrip(span) => PeerEvent::RoundTrip(span),
            Self::Watch => PeerEvent::Watch,
            Self::Sync(buckets) => PeerEvent::Sync(buckets),
            Self::Differences(buckets, entries) => PeerEvent::Differences(buckets, entries),
            Self::Silent => PeerEvent::Silent,
            Self::Alive => PeerEvent::Alive,
            Self::Closed { reason, by_remote } => PeerEvent::Closed { reason, by_remote },
        })
    }
}
