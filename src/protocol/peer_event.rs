//! What happens on a connection, as its peer tells the controller.

use std::net::SocketAddr;
use std::time::Duration;

use super::key_mark::KeyMark;
use super::list::List;
use super::message::{
    Announcement, BucketHash, EntryHash, MAX_ENTRIES, MAX_HINTS, News, Purpose, Roll, Statement, Want,
};
use super::reason::Reason;
use super::record::Item;
use super::testimony::{Mode, Nonce, Returns, Testimony};
use super::time::Time;

/// What a peer tells the controller. `R`, `I` and `T` are records, items and testimonies: as they came, then verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent<R, I, T = Testimony> {
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
    /// The connection was to be closed as one too many, but is in use: it is for applications from now on.
    Kept,
    /// A heartbeat, or its answer: what the remote says of the view it holds, and a moment before which that was not made,
    /// if there is one.
    Statement(Statement, Option<Time>),
    /// A round trip was measured; the smoothed value.
    RoundTrip(Duration),
    /// The tail asks for news.
    Watch,
    /// The tail's news: to be acknowledged.
    Push(Tidings<I>),
    /// The head's news, or the answer to this node's.
    News(Tidings<I>, NewsKind),
    /// The tail wants changes passed on at once, or not.
    Eager(bool),
    /// The tail compares views, from this bucket on.
    Sync(u8, List<BucketHash, 256>),
    /// The head's entries in the buckets that differ, up to the last that was compared.
    Differences(u8, List<u8, 256>, List<EntryHash, MAX_ENTRIES>),
    /// The tail counts the network, and waits so many milliseconds.
    Census(Nonce, Mode, u32),
    /// The head's answer to a census, or a part of it.
    Counted(Nonce, Returns<T>),
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

/// [`News`] as they came, or with their items verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tidings<I> {
    /// Signed items.
    pub items: Vec<I>,
    /// What the remote has besides.
    pub announcements: Vec<Announcement>,
    /// What the remote wants.
    pub want: Vec<Want>,
    /// A step of the roll call.
    pub roll: Option<Roll>,
}

impl From<News> for Tidings<Item> {
    fn from(news: News) -> Self {
        let News { items, announcements, want, roll } = news;
        Self { items: items.into_vec(), announcements: announcements.into_vec(), want: want.into_vec(), roll }
    }
}

/// Which request a head's news answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewsKind {
    /// A `Watch`: it is to be asked again.
    Watched,
    /// A `Push`.
    Acknowledged,
}

impl<R, I, T> PeerEvent<R, I, T> {
    /// The same event with its signed parts passed through a check.
    ///
    /// # Errors
    /// The first failure of the check.
    pub fn check<R2, I2, T2, E>(
        self,
        record: impl Fn(R) -> Result<R2, E>,
        item: impl Fn(I) -> Result<I2, E>,
        testimony: impl Fn(Nonce, T) -> Result<T2, E>,
    ) -> Result<PeerEvent<R2, I2, T2>, E> {
        let items = |said: Tidings<I>| {
            let Tidings { items, announcements, want, roll } = said;
            let items = items.into_iter().map(&item).collect::<Result<Vec<_>, E>>()?;
            Ok(Tidings { items, announcements, want, roll })
        };
        Ok(match self {
            Self::Hello { record: said, clock_ms, purpose, dialled } => {
                PeerEvent::Hello { record: record(said)?, clock_ms, purpose, dialled }
            }
            Self::Welcome { record: said, clock_ms } => PeerEvent::Welcome { record: record(said)?, clock_ms },
            Self::Busy { record: said, hints } => PeerEvent::Busy { record: record(said)?, hints },
            Self::Push(said) => PeerEvent::Push(items(said)?),
            Self::News(said, kind) => PeerEvent::News(items(said)?, kind),
            Self::Eager(eager) => PeerEvent::Eager(eager),
            Self::Counted(nonce, returns) => PeerEvent::Counted(nonce, returns.check(|said| testimony(nonce, said))?),
            Self::Census(nonce, mode, remaining_ms) => PeerEvent::Census(nonce, mode, remaining_ms),
            Self::Connected => PeerEvent::Connected,
            Self::Secured(key) => PeerEvent::Secured(key),
            Self::Repurpose(purpose) => PeerEvent::Repurpose(purpose),
            Self::Kept => PeerEvent::Kept,
            Self::Statement(statement, dated) => PeerEvent::Statement(statement, dated),
            Self::RoundTrip(span) => PeerEvent::RoundTrip(span),
            Self::Watch => PeerEvent::Watch,
            Self::Sync(first, buckets) => PeerEvent::Sync(first, buckets),
            Self::Differences(last, buckets, entries) => PeerEvent::Differences(last, buckets, entries),
            Self::Silent => PeerEvent::Silent,
            Self::Alive => PeerEvent::Alive,
            Self::Closed { reason, by_remote } => PeerEvent::Closed { reason, by_remote },
        })
    }
}
