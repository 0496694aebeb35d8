//! When this node says something new of itself.
//!
//! A record is a flood through the whole network, so it is published when it has settled, not with every edge that comes
//! and goes: its heads have been the same for 30 ms and there are enough, or nothing more is under way; or for 500 ms in any
//! case, or 2 s have passed. That is at most once a second, but three times at once while a network forms. What cannot wait
//! does not: a refutation, an address that can be reached after all, a leave. What a user says (tags) need not settle, but
//! waits for that turn: a script that says something new all the time is no flood.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::protocol::identity::ShortId;
use crate::protocol::time::Time;

/// However unsettled its edges are, a node says what they are after this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many records may follow each other at once.
const BURST: u32 = 3;
/// While edges are still looked for, what there is is said once none has come or gone for so long.
const UNSETTLED: Duration = Duration::from_millis(500);
/// Heads are to be the same for so long in a network of thousands: each record is work for every one of them, and the rings
/// change until all have heard of all.
const CROWDED: Duration = Duration::from_millis(300);
/// What is said aside waits so long for company.
const ASIDE: Duration = Duration::from_millis(600);

/// The timing of one's own record.
#[derive(Debug)]
pub struct Publisher {
    stability: Duration,
    interval: Duration,
    published: BTreeSet<ShortId>,
    heads: BTreeSet<ShortId>,
    heads_since: Time,
    differs_since: Option<Time>,
    /// When the last of those that were said would have been said, had there been an interval between any two.
    turn: Time,
    at_once: bool,
    news: bool,
    aside: Option<Time>,
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
            turn: Time::ZERO,
            at_once: true,
            news: false,
            aside: None,
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

    /// There is something to say that can wait for whatever is said next; if nothing is, some seconds.
    pub fn mention_aside(&mut self, now: Time) {
        self.aside.get_or_insert(now + ASIDE);
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
    pub fn due(&self, settled: bool, crowded: bool) -> Option<Time> {
        if self.at_once {
            return Some(Time::ZERO);
        }
        let edges = self.differs_since.map(|since| {
            let quiet = match (settled, crowded) {
                (true, false) => self.stability,
                (true, true) => self.stability.max(CROWDED),
                (false, _) => UNSETTLED,
            };
            (since + PATIENCE).min(self.heads_since + quiet)
        });
        let news = self.news.then_some(Time::ZERO);
        Some([edges, news, self.aside].into_iter().flatten().min()?.max(self.soonest()))
    }

    /// Once in an interval in the long run; but while a network forms, a second would be the longest wait of all.
    fn soonest(&self) -> Time {
        self.turn - self.interval * (BURST - 1)
    }

    /// The record with these heads is out.
    pub fn published(&mut self, now: Time) -> BTreeSet<ShortId> {
        self.published.clone_from(&self.heads);
        (self.differs_since, self.news, self.aside) = (None, false, None);
        // What could not wait is outside the limit: the edges that follow do not wait for it either.
        if !std::mem::take(&mut self.at_once) {
            self.turn = self.turn.max(now) + self.interval;
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
        assert_eq!(publisher.due(false, false), Some(Time::ZERO), "the first record is due at once");
        publisher.published(at(0));
        assert_eq!(publisher.due(true, false), None);
        publisher
    }

    #[test]
    fn waits_for_edges_to_settle_but_not_for_ever() {
        let mut publisher = started();
        publisher.observe(heads(&[1]), at(5000));
        publisher.observe(heads(&[1, 2]), at(5100));
        assert_eq!(publisher.due(true, false), Some(at(5350)));
        assert_eq!(publisher.due(false, false), Some(at(5600)), "others are still looked for");
        for number in 3..8 {
            publisher.observe(heads(&[number]), at(5100 + 400 * (u64::from(number) - 2)));
        }
        assert_eq!(publisher.due(false, false), Some(at(7000)), "they never settle, and it does not wait for ever");
        publisher.published(at(7000));
        publisher.observe(heads(&[1]), at(7050));
        assert_eq!(publisher.due(true, false), Some(at(7300)));
        publisher.observe(heads(&[7]), at(7100));
        assert_eq!(publisher.due(true, false), None, "nothing to say after all");
    }

    #[test]
    fn three_records_may_follow_each_other_and_in_the_long_run_one_a_second() {
        let mut publisher = started();
        let mut said = Vec::new();
        for number in 0..60 {
            let now = at(5000 + 100 * u64::from(number));
            publisher.observe(heads(&[number]), now);
            publisher.mention();
            if publisher.due(true, false).is_some_and(|due| due <= now) {
                publisher.published(now);
                said.push(now);
            }
        }
        assert_eq!(said, [5000, 5100, 5200, 6000, 7000, 8000, 9000, 10_000].map(at));
    }

    #[test]
    fn a_refutation_neither_waits_nor_makes_edges_wait() {
        let mut publisher = started();
        publisher.hurry();
        assert_eq!(publisher.due(false, false), Some(Time::ZERO));
        publisher.published(at(5000));
        publisher.observe(heads(&[1]), at(5100));
        assert_eq!(publisher.due(true, false), Some(at(5350)));
    }

    #[test]
    fn what_a_user_says_waits_for_its_turn_and_for_nothing_else() {
        let mut publisher = started();
        publisher.mention();
        assert_eq!(publisher.due(false, false), Some(Time::ZERO));
        for ms in [5000, 5001, 5002] {
            publisher.published(at(ms));
            assert_eq!(publisher.due(false, false), None);
            publisher.mention();
        }
        publisher.observe(heads(&[1]), at(5100));
        assert_eq!(publisher.due(false, false), Some(at(6000)));
        publisher.published(at(6000));
        assert_eq!(publisher.due(false, false), None, "the edges went with it");
    }
}
