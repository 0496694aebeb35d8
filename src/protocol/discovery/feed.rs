//! The change feed: an append-only log of whose entries changed, and for each link a place in it.
//!
//! ```text
//!   log   … │ n7's record (from p3) │ n2's record (own) │ n9's verdict (from p1) │
//!             ▲ p1                    ▲ p3              a flush sends what lies behind a link's cursor,
//!                                                       less what came from that link
//! ```
//!
//! What is logged is the node and the part of its entry that changed, not the bytes: a flush sends that part as it is by
//! then, so that ten changes of one record are sent once, and a witness does not drag the record along. The first flush comes 5 ms after the change, later ones at
//! most every 50 ms.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::Part;
use crate::protocol::time::Time;

/// Changes remembered. A link that falls further behind than this is brought up to date by `Sync`.
pub const MAX_LOG: usize = 16_384;
/// Room for so many is kept when all are sent, 32 bytes each: a change at rest makes a dozen.
const KEPT: usize = 32;

/// The log and the links' places in it.
#[derive(Debug)]
pub struct Feed {
    log: VecDeque<Change>,
    first: u64,
    cursors: BTreeMap<PeerId, u64>,
    due: Option<Time>,
    last_flush: Option<Time>,
    flush_first: Duration,
    flush_interval: Duration,
    /// Until the next flush, from the last one.
    pause: Duration,
}

/// Something that changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Whose entry.
    pub node: ShortId,
    /// That entry's number in the view.
    pub number: u32,
    /// Which part of it.
    pub part: Part,
    /// The link that brought it; `None`: our own doing.
    pub from: Option<PeerId>,
}

impl Feed {
    /// An empty log with its two delays.
    pub fn new(flush_first: Duration, flush_interval: Duration) -> Self {
        Self {
            log: VecDeque::new(),
            first: 0,
            cursors: BTreeMap::new(),
            due: None,
            last_flush: None,
            flush_first,
            flush_interval,
            pause: flush_interval,
        }
    }

    /// A new link: it is sent what changes from now on, the rest by `Sync`.
    pub fn join(&mut self, peer: PeerId) {
        self.cursors.insert(peer, self.end());
    }

    /// The link is gone.
    pub fn part(&mut self, peer: PeerId) {
        self.cursors.remove(&peer);
        self.trim();
    }

    /// A part of a node's entry changed.
    pub fn changed(&mut self, change: Change, now: Time) {
        if self.cursors.is_empty() {
            return;
        }
        self.log.push_back(change);
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
            self.first += 1;
        }
        let soonest = self.last_flush.map_or(Time::ZERO, |last| last + self.pause);
        self.due.get_or_insert((now + self.flush_first).max(soonest));
    }

    /// How many changes are remembered.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// True if every link has been sent everything.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// When the next flush is due, if anything changed.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// A flush begins: every link is to be asked for what it lacks. The next one comes after so many intervals.
    pub fn flushed(&mut self, now: Time, intervals: u32) {
        self.due = None;
        self.last_flush = Some(now);
        self.pause = self.flush_interval * intervals;
    }

    /// True if this link has not been sent everything.
    pub fn is_behind(&self, peer: PeerId) -> bool {
        self.cursors.get(&peer).is_some_and(|cursor| *cursor < self.end())
    }

    /// True if this link has not been sent more than the log remembers: compare whole views.
    pub fn has_lost(&self, peer: PeerId) -> bool {
        self.cursors.get(&peer).is_some_and(|cursor| *cursor < self.first)
    }

    /// What this link has not been sent, as far as it is remembered: oldest first, and perhaps several times.
    pub fn unsent(&self, peer: PeerId) -> impl Iterator<Item = &Change> {
        let cursor = self.cursors.get(&peer).copied().unwrap_or_else(|| self.end());
        let sent = cursor.saturating_sub(self.first) as usize;
        self.log.range(sent..).filter(move |change| change.from != Some(peer))
    }

    /// From now on all that has changed so far counts as sent to this link.
    pub fn caught_up(&mut self, peer: PeerId) {
        let end = self.end();
        if let Some(cursor) = self.cursors.get_mut(&peer) {
            *cursor = end;
        }
        self.trim();
    }

    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn trim(&mut self) {
        let needed = self.cursors.values().min().copied().unwrap_or_else(|| self.end());
        while self.first < needed && self.log.pop_front().is_some() {
            self.first += 1;
        }
        if self.log.is_empty() {
            self.log.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(node: u8, from: Option<PeerId>) -> Change {
        Change { node: ShortId([node; 8]), number: node.into(), part: Part::All, from }
    }

    fn feed() -> Feed {
        Feed::new(Duration::from_millis(5), Duration::from_millis(100))
    }

    /// Whose entries this link lacks; it has them then.
    fn take(feed: &mut Feed, peer: PeerId) -> Option<Vec<u32>> {
        let taken = feed.unsent(peer).map(|change| change.number).collect();
        let taken = Some(taken).filter(|_| !feed.has_lost(peer));
        feed.caught_up(peer);
        taken
    }

    #[test]
    fn a_link_gets_each_change_but_its_own() {
        let mut feed = feed();
        let (a, b) = (PeerId(1), PeerId(2));
        feed.join(a);
        feed.join(b);
        feed.changed(change(1, Some(a)), Time(0));
        feed.changed(change(2, None), Time(0));
        assert_eq!(take(&mut feed, a), Some(vec![2]));
        assert_eq!(take(&mut feed, b), Some(vec![1, 2]));
        assert_eq!(take(&mut feed, b), Some(vec![]));
        assert!(feed.log.is_empty(), "what everybody has is forgotten");
    }

    #[test]
    fn flushes_are_spaced() {
        let mut feed = feed();
        feed.join(PeerId(1));
        feed.changed(change(1, None), Time(1_000_000));
        assert_eq!(feed.due(), Some(Time(1_005_000)));
        feed.flushed(Time(1_005_000), 1);
        assert_eq!(feed.due(), None);
        feed.changed(change(1, None), Time(1_006_000));
        assert_eq!(feed.due(), Some(Time(1_105_000)));
    }

    #[test]
    fn a_link_too_far_behind_is_told_so_and_memory_stays_bounded() {
        let mut feed = feed();
        feed.join(PeerId(1));
        for number in 0..MAX_LOG + 10 {
            feed.changed(change((number % 200) as u8, None), Time(0));
        }
        assert_eq!(feed.log.len(), MAX_LOG);
        assert_eq!(take(&mut feed, PeerId(1)), None);
        assert_eq!(take(&mut feed, PeerId(1)), Some(vec![]));
        assert!(feed.log.capacity() < 2 * KEPT, "{}", feed.log.capacity());
    }
}
