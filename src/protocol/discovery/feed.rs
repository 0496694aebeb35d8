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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::Part;
use crate::protocol::time::Time;

/// Changes remembered. A link that falls further behind than this is brought up to date by `Sync`.
pub const MAX_LOG: usize = 16_384;

/// The log and the links' places in it.
#[derive(Debug)]
pub struct Feed {
    log: VecDeque<(ShortId, Part, Option<PeerId>)>,
    first: u64,
    cursors: BTreeMap<PeerId, u64>,
    due: Option<Time>,
    last_flush: Option<Time>,
    flush_first: Duration,
    flush_interval: Duration,
}

/// What a link has not been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// These parts of these nodes' entries, each once, oldest change first.
    Entries(Vec<(ShortId, Part)>),
    /// More than the log remembers: compare whole views.
    Lost,
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

    /// A part of a node's entry changed, by news from this link or by our own doing.
    pub fn changed(&mut self, id: ShortId, part: Part, from: Option<PeerId>, now: Time) {
        if self.cursors.is_empty() {
            return;
        }
        self.log.push_back((id, part, from));
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
            self.first += 1;
        }
        let soonest = self.last_flush.map_or(Time::ZERO, |last| last + self.flush_interval);
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

    /// A flush begins: every link is to be asked for what it lacks.
    pub fn flushed(&mut self, now: Time) {
        self.due = None;
        self.last_flush = Some(now);
    }

    /// True if this link has not been sent everything.
    pub fn is_behind(&self, peer: PeerId) -> bool {
        self.cursors.get(&peer).is_some_and(|cursor| *cursor < self.end())
    }

    /// Takes what this link has not been sent; from now on it counts as sent.
    pub fn take(&mut self, peer: PeerId) -> Behind {
        let end = self.end();
        let Some(cursor) = self.cursors.get_mut(&peer) else { return Behind::Entries(Vec::new()) };
        let from = std::mem::replace(cursor, end);
        if from < self.first {
            self.trim();
            return Behind::Lost;
        }
        let mut seen = BTreeSet::new();
        let unsent = self.log.range((from - self.first) as usize..);
        let others = unsent.filter(|(.., source)| *source != Some(peer)).map(|(id, part, _)| (*id, *part));
        let entries = others.filter(|change| seen.insert(*change)).collect();
        self.trim();
        Behind::Entries(entries)
    }

    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn trim(&mut self) {
        let needed = self.cursors.values().min().copied().unwrap_or_else(|| self.end());
        while self.first < needed && self.log.pop_front().is_some() {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ShortId {
        ShortId([number; 8])
    }

    fn feed() -> Feed {
        Feed::new(Duration::from_millis(5), Duration::from_millis(100))
    }

    #[test]
    fn a_link_gets_each_change_once_and_not_its_own() {
        let mut feed = feed();
        let (a, b) = (PeerId(1), PeerId(2));
        feed.join(a);
        feed.join(b);
        feed.changed(id(1), Part::All, Some(a), Time(0));
        feed.changed(id(2), Part::All, None, Time(0));
        feed.changed(id(2), Part::All, None, Time(0));
        assert_eq!(feed.take(a), Behind::Entries(vec![(id(2), Part::All)]));
        assert_eq!(feed.take(b), Behind::Entries(vec![(id(1), Part::All), (id(2), Part::All)]));
        assert_eq!(feed.take(b), Behind::Entries(vec![]));
        assert!(feed.log.is_empty(), "what everybody has is forgotten");
    }

    #[test]
    fn flushes_are_spaced() {
        let mut feed = feed();
        feed.join(PeerId(1));
        feed.changed(id(1), Part::All, None, Time(1_000_000));
        assert_eq!(feed.due(), Some(Time(1_005_000)));
        feed.flushed(Time(1_005_000));
        assert_eq!(feed.due(), None);
        feed.changed(id(1), Part::All, None, Time(1_006_000));
        assert_eq!(feed.due(), Some(Time(1_105_000)));
    }

    #[test]
    fn a_link_too_far_behind_is_told_so_and_memory_stays_bounded() {
        let mut feed = feed();
        feed.join(PeerId(1));
        for number in 0..MAX_LOG + 10 {
            feed.changed(id((number % 200) as u8), Part::All, None, Time(0));
        }
        assert_eq!(feed.log.len(), MAX_LOG);
        assert_eq!(feed.take(PeerId(1)), Behind::Lost);
        assert_eq!(feed.take(PeerId(1)), Behind::Entries(vec![]));
    }
}
