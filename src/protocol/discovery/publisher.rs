//! When this node says something new of itself.
//!
//! A record is a flood through the whole network, so it is published when it has settled, not with every edge that comes
//! and goes: its heads have been the same for 250 ms and nothing more is under way, or 2 s have passed; and at most once a
//! second. What cannot wait does not: a refutation, a changed `reachable`, a leave. What a user says (tags) need not settle,
//! but waits for that second: a script that says something new all the time is no flood.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::protocol::identity::ShortId;
use crate::protocol::time::Time;

/// However unsettled its edges are, a node says what they are after this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The timing of one's own record.
#[derive(Debug)]
pub struct Publisher {
    stability: Duration,
    interval: Duration,
    published: BTreeSet<ShortId>,
    heads: BTreeSet<ShortId>,
    heads_since: Time,
    differs_since: Option<Time>,
    last: Time,
    at_once: bool,
    news: bool,
}

impl Publisher {
    /// `stability`: how long heads must stay the same; `interval`: between two records.
    pub fn new(stability: Duration, interval: Duration) -> Self {
        Self {
            stability,
            interval,
            published: BTreeSet::new(),
            heads: BTreeSet::new(),
            heads_since: Time::ZERO,
            differs_since: None,
            last: Time::ZERO,
            at_once: true,
            news: false,
        }
    }

    /// Something must be said without delay.
    pub fn hurry(&mut self) {
        self.at_once = true;
    }

    /// There is something to say that needs no settling, and no hurry either.
    pub fn mention(&mut self) {
        self.news = true;
    }

    /// The heads of this node's overlay edges are these now.
    pub fn observe(&mut self, heads: BTreeSet<ShortId>, now: Time) {
        if heads != self.heads {
            self.heads = heads;
            self.heads_since = now;
        }
        if self.heads == self.published {
            self.differs_since = None;
        } else {
            self.differs_since.get_or_insert(now);
        }
    }

    /// When to publish, if there is anything to say. `settled`: full out-degree, or nobody left to dial and no dial under
    /// way.
    pub fn due(&self, settled: bool) -> Option<Time> {
        if self.at_once {
            return Some(Time::ZERO);
        }
        let edges = self.differs_since.map(|since| {
            let patient = since + PATIENCE;
            patient.min(if settled { self.heads_since + self.stability } else { patient })
        });
        let news = self.news.then_some(Time::ZERO);
        Some([edges, news].into_iter().flatten().min()?.max(self.last + self.interval))
    }

    /// The record with these heads is out.
    pub fn published(&mut self, now: Time) -> BTreeSet<ShortId> {
        self.published.clone_from(&self.heads);
        (self.differs_since, self.news) = (None, false);
        // What could not wait is outside the limit: the edges that follow do not wait for it either.
        if !std::mem::take(&mut self.at_once) {
            self.last = now;
        }
        self.published.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    fn heads(numbers: &[u8]) -> BTreeSet<ShortId> {
        numbers.iter().map(|number| ShortId([*number; 8])).collect()
    }

    fn started() -> Publisher {
        let mut publisher = Publisher::new(Duration::from_millis(250), Duration::from_secs(1));
        assert_eq!(publisher.due(false), Some(Time::ZERO), "the first record is due at once");
        publisher.published(at(0));
        assert_eq!(publisher.due(true), None);
        publisher
    }

    #[test]
    fn waits_for_edges_to_settle_but_not_for_ever() {
        let mut publisher = started();
        publisher.observe(heads(&[1]), at(5000));
        publisher.observe(heads(&[1, 2]), at(5100));
        assert_eq!(publisher.due(true), Some(at(5350)));
        assert_eq!(publisher.due(false), Some(at(7000)));
        publisher.published(at(5350));
        publisher.observe(heads(&[1]), at(5400));
        assert_eq!(publisher.due(true), Some(at(6350)), "at most once a second");
        publisher.observe(heads(&[1, 2]), at(5500));
        assert_eq!(publisher.due(true), None, "nothing to say after all");
    }

    #[test]
    fn a_refutation_neither_waits_nor_makes_edges_wait() {
        let mut publisher = started();
        publisher.hurry();
        assert_eq!(publisher.due(false), Some(Time::ZERO));
        publisher.published(at(5000));
        publisher.observe(heads(&[1]), at(5100));
        assert_eq!(publisher.due(true), Some(at(5350)));
    }

    #[test]
    fn what_a_user_says_waits_for_its_second_and_for_nothing_else() {
        let mut publisher = started();
        publisher.mention();
        assert_eq!(publisher.due(false), Some(at(1000)), "the first record was said in a hurry, which counts as none");
        publisher.published(at(5000));
        assert_eq!(publisher.due(false), None);
        publisher.mention();
        publisher.observe(heads(&[1]), at(5100));
        assert_eq!(publisher.due(false), Some(at(6000)));
        publisher.published(at(6000));
        assert_eq!(publisher.due(false), None, "the edges went with it");
    }
}
