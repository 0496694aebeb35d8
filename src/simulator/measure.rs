//! How long the network took to settle: until all know, until all agree, until all can show it.

use std::time::Duration;

use super::spread::Reach;
use super::world::{Host, World};
use crate::protocol::time::Time;

/// So long full agreement must hold to count; it is dated from its beginning.
const HOLDS: Duration = Duration::from_secs(2);
/// So long after that a node may need to show it: ten times what the protocol aims at.
const SHOWING: Duration = Duration::from_secs(10);

/// Between two looks of whoever watches.
const SECOND: Duration = Duration::from_secs(1);

/// How the network settled after something happened. Times but those of `reach` are rounded up to 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How long what happened took to become known; `None` if nothing was followed, or it did not reach all.
    pub reach: Option<Reach>,
    /// Until full agreement that held for two seconds.
    pub agreed: Option<Duration>,
    /// From then until every live node said at one moment that all agree.
    pub shown: Option<Duration>,
}

impl World {
    /// Lets time pass until there has been full agreement for two seconds; when it began, from now.
    pub fn run_until_agreed(&mut self, limit: Duration) -> Option<Duration> {
        let start = self.now;
        let mut agreement = Agreement::default();
        self.run_until(limit + HOLDS, |world| {
            agreement.look(world);
            agreement.holds(world.now)
        })?;
        agreement.since.map(|since| since.since(start))
    }

    /// Lets time pass until all know what is followed, agree on everything, and show it, or the limit is over.
    pub fn settle(&mut self, limit: Duration) -> Settled {
        self.settle_watched(limit, &mut |_, _| {})
    }

    /// The same; `watch` is called every second until all know and agree, with how long it has been.
    pub fn settle_watched(&mut self, limit: Duration, watch: &mut dyn FnMut(&Self, Duration)) -> Settled {
        let start = self.now;
        let mut next = start + SECOND;
        let mut agreement = Agreement::default();
        let follows = self.spread.is_some();
        self.run_until(limit + HOLDS, |world| {
            agreement.look(world);
            if world.now >= next {
                watch(world, world.now.since(start));
                next = next + SECOND;
            }
            agreement.holds(world.now) && (!follows || world.reach().is_some())
        });
        let patience = agreement.since.map_or(Duration::ZERO, |since| (since + SHOWING).since(self.now));
        let held = agreement.holds(self.now);
        if held {
            self.run_until(patience, |world| {
                agreement.look(world);
                agreement.shown.is_some()
            });
        }
        let agreed = agreement.since.filter(|_| held);
        Settled {
            reach: self.reach(),
            agreed: agreed.map(|since| since.since(start)),
            shown: agreed.and_then(|since| Some(agreement.shown?.since(since))),
        }
    }
}

/// Agreement while it lasts.
#[derive(Default)]
struct Agreement {
    since: Option<Time>,
    shown: Option<Time>,
    /// The last one that did not show it: most likely it still does not, and nobody else need be asked.
    doubter: Host,
}

impl Agreement {
    fn look(&mut self, world: &World) {
        if !world.agrees() {
            (self.since, self.shown) = (None, None);
            return;
        }
        self.since.get_or_insert(world.now);
        if self.shown.is_none() && self.all_show(world) {
            self.shown = Some(world.now);
        }
    }

    fn holds(&self, now: Time) -> bool {
        self.since.is_some_and(|since| now.since(since) >= HOLDS)
    }

    fn all_show(&mut self, world: &World) -> bool {
        let doubts = |host: &Host| world.node(*host).is_some() && world.claims_unanimity(*host).is_none();
        if doubts(&self.doubter) {
            return false;
        }
        let doubter = world.hosts().find(doubts);
        self.doubter = doubter.unwrap_or_default();
        doubter.is_none()
    }
}
