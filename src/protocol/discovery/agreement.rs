//! Agreement: how far around this node everybody is shown to hold the same view.
//!
//! Gossip reaches eventual agreement, not consensus in the textbook sense (there is no quorum and no total order); so it
//! is measured. Every heartbeat carries a statement, and from the neighbours' statements follows one's own:
//!
//! ```text
//!   r      = 1 + the smallest r of all neighbours in the graph that my digest fixes, if all state my digest; else 0
//!   age[k] = the greatest, over those neighbours, of (their age[k-1] + the time since they stated it)
//! ```
//!
//! So "radius r on digest d" means: every node within r hops held d at some moment within `age[r]`. The rule, why a
//! single age would feed on itself, and why statements are dated by the sender's echo: `discovery.md` 2.3.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::graph::Graph;
use crate::protocol::hash::Hash;
use crate::protocol::identity::ControllerId;
use crate::protocol::message::{MAX_RADIUS, Statement};
use crate::protocol::time::Time;
use crate::protocol::view::{Entry, View};

/// A byte of a statement's age, in milliseconds.
const AGE_UNIT_MS: u64 = 100;

/// What neighbours stated, and since when this node has held its digest.
#[derive(Debug)]
pub struct Agreement {
    heard: BTreeMap<ControllerId, (Statement, Time)>,
    sketch: Option<u64>,
    since: Time,
    /// How many nodes lie within so many hops in the graph that the digest fixes; counted when first asked for.
    balls: OnceCell<Vec<usize>>,
    fresh: Duration,
}

/// This node's statement at a moment, in a form that can be read later without asking the node again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The digest held.
    pub digest: Hash,
    /// The radius' ages, hop by hop, at `at`.
    pub ages: Vec<Duration>,
    /// When this was true.
    pub at: Time,
    /// From then on a neighbour's statement is too old and the radius is 0.
    pub expires: Time,
}

/// How many nodes agree, as reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Nodes shown to hold this digest, this one included.
    pub agreeing: usize,
    /// Nodes that are up.
    pub live: usize,
    /// The smallest number of hops that holds all the agreeing.
    pub radius: usize,
    /// Within how long they held it.
    pub age: Duration,
    /// Since when this node has held it.
    pub since: Time,
}

impl Shown {
    /// True if all live nodes are among the agreeing.
    pub fn is_unanimous(&self) -> bool {
        self.agreeing == self.live && self.live > 0
    }
}

impl Agreement {
    /// `fresh`: how old a neighbour's statement may be, `max(2 interval, timeout) + interval`.
    pub fn new(fresh: Duration) -> Self {
        Self { heard: BTreeMap::new(), sketch: None, since: Time::ZERO, balls: OnceCell::new(), fresh }
    }

    /// The view may have changed: to be called before anything else is asked. True if the digest is a new one.
    pub fn observe(&mut self, view: &View, now: Time) -> bool {
        if self.sketch == Some(view.sketch()) {
            return false;
        }
        self.sketch = Some(view.sketch());
        self.since = now;
        self.balls = OnceCell::new();
        true
    }

    /// A node stated something, not before `dated`.
    pub fn hear(&mut self, from: ControllerId, statement: Statement, dated: Time) {
        if self.heard.get(&from).is_none_or(|(_, held)| *held <= dated) {
            self.heard.insert(from, (statement, dated));
        }
    }

    /// A node is no neighbour any more: what it stated is of no use.
    pub fn part(&mut self, from: &ControllerId) {
        self.heard.remove(from);
    }

    /// From how many nodes statements are kept.
    pub fn heard(&self) -> usize {
        self.heard.len()
    }

    /// Since when this node has held its digest.
    pub fn since(&self) -> Time {
        self.since
    }

    /// How many hops away the farthest node is.
    pub fn farthest(&self, me: &ControllerId, view: &View) -> usize {
        self.balls.get_or_init(|| balls(me, view)).len() - 1
    }

    /// This node's statement now.
    pub fn claim(&self, me: &ControllerId, view: &View, now: Time) -> Claim {
        let (ages, expires) = self.ages(me, view, now).unwrap_or((Vec::new(), now));
        Claim { digest: view.digest(), ages, at: now, expires }
    }

    /// The ages of that statement and when it ends; `None` if nothing is shown. Of a view that changes all the time the
    /// digest is not worked out for this, as long as the neighbours do not even agree with each other.
    fn ages(&self, me: &ControllerId, view: &View, now: Time) -> Option<(Vec<Duration>, Time)> {
        let mut ages: Option<Vec<Duration>> = None;
        let mut expires = Time(u64::MAX);
        let mut stated = None;
        for neighbour in view.neighbours(me) {
            let (statement, dated) = self.heard.get(&neighbour)?;
            let age = now.since(*dated);
            if statement.digest != *stated.get_or_insert(statement.digest) || age >= self.fresh {
                return None;
            }
            expires = expires.min(*dated + self.fresh);
            let theirs = statement.ages.iter().map(|units| Duration::from_millis(u64::from(*units) * AGE_UNIT_MS));
            let through: Vec<_> = std::iter::once(Duration::ZERO).chain(theirs).map(|theirs| theirs + age).collect();
            ages = Some(match ages {
                None => through,
                Some(ages) => ages.iter().zip(&through).map(|(one, two)| *one.max(two)).collect(),
            });
        }
        if stated.is_some_and(|stated| stated != view.digest().half()) {
            return None;
        }
        let mut ages = ages.unwrap_or_default();
        ages.truncate(MAX_RADIUS);
        Some((ages, expires))
    }

    /// What can be said of the whole network now.
    pub fn shown(&self, me: &ControllerId, view: &View, now: Time) -> Shown {
        let ages = self.ages(me, view, now).map(|(ages, _)| ages).unwrap_or_default();
        let live = view.up_count();
        if !view.get(me).is_some_and(Entry::is_up) {
            // Whoever has left is none of those who are to agree.
            return Shown { agreeing: 0, live, radius: 0, age: Duration::ZERO, since: self.since };
        }
        if ages.is_empty() && live > 1 {
            return Shown { agreeing: 1, live, radius: 0, age: Duration::ZERO, since: self.since };
        }
        // The ball grows hop by hop until it holds all that can be reached, or all that is shown.
        let balls = self.balls.get_or_init(|| balls(me, view));
        let radius = ages.len().min(balls.len() - 1);
        let age = radius.checked_sub(1).and_then(|hop| ages.get(hop)).copied().unwrap_or_default();
        Shown { agreeing: balls[radius], live, radius, age, since: self.since }
    }
}

/// How many nodes lie within 0, 1, 2, ... hops of this one, as far as any new one is found; never empty.
fn balls(me: &ControllerId, view: &View) -> Vec<usize> {
    let graph = Graph::of(view);
    let Some(start) = graph.number(&me.short()) else { return vec![1] };
    let mut found = vec![false; graph.len()];
    found[start] = true;
    let (mut rim, mut ball) = (vec![start], 0);
    let mut sizes = Vec::new();
    while !rim.is_empty() {
        ball += rim.len();
        sizes.push(ball);
        let next = rim.iter().flat_map(|node| graph.adjacent(*node));
        rim = next.filter(|node| !std::mem::replace(&mut found[*node], true)).collect();
    }
    sizes
}

impl Claim {
    /// The statement to send at `now`, not before the claim was made: ages have grown since, and are rounded up.
    pub fn statement(&self, now: Time) -> Statement {
        let grown = now.since(self.at);
        let units = |age: &Duration| {
            let ms = u64::try_from((*age + grown).as_millis()).unwrap_or(u64::MAX);
            u8::try_from(ms / AGE_UNIT_MS + 1).ok()
        };
        let ages = if now < self.expires { self.ages.as_slice() } else { &[] };
        // An age beyond 25 s cannot be said: the radius ends before it.
        Statement { digest: self.digest.half(), ages: ages.iter().map_while(units).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_up_itself_claims_nothing() {
        let me = ControllerId([1; 32]);
        let view = View::new(4);
        let mut agreement = Agreement::new(Duration::from_secs(3));
        agreement.observe(&view, Time::ZERO);
        let shown = agreement.shown(&me, &view, Time::ZERO);
        assert_eq!((shown.agreeing, shown.live, shown.is_unanimous()), (0, 0, false));
    }
}
