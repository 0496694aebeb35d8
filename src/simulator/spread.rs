//! How a piece of news spreads: who knows it, and since when, to the microsecond.

use std::time::Duration;

use super::world::{Host, World};
use crate::protocol::identity::ControllerId;
use crate::protocol::node::Node;
use crate::protocol::report::Status;
use crate::protocol::time::Time;

/// What is to become known of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// That it is this.
    Status(Status),
    /// That it exists.
    Heard,
    /// Its record of this version or a later one.
    Version(u64),
}

/// News that is watched. What is wanted must stay true once it is: nobody is asked twice.
#[derive(Debug)]
pub(super) struct Spread {
    begun: Time,
    subjects: Vec<(ControllerId, Wanted)>,
    /// By host: true for those whom the news is about.
    concerned: Vec<bool>,
    /// How many of the subjects each host's node knows of, the first of them first.
    known: Vec<usize>,
    complete: Vec<Option<Time>>,
}

/// How long a piece of news took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Until half of the live nodes knew.
    pub half: Duration,
    /// Until the last one did.
    pub all: Duration,
}

impl Spread {
    pub(super) fn look(&mut self, host: Host, node: &Node, now: Time) {
        let (Some(known), Some(complete)) = (self.known.get_mut(host.0), self.complete.get_mut(host.0)) else { return };
        while let Some((id, wanted)) = self.subjects.get(*known) {
            let is_so = match wanted {
                Wanted::Status(_) | Wanted::Heard if *id == node.id() => true,
                Wanted::Status(status) => node.status(id) == Some(*status),
                Wanted::Heard => node.view().get(id).is_some(),
                Wanted::Version(version) => {
                    node.view().get(id).is_some_and(|entry| entry.record().body.version >= *version)
                }
            };
            if !is_so {
                return;
            }
            if *id == node.id() && self.subjects.len() == 1 {
                // What a node will say it says in its own time: it is news from then on.
                self.begun = now;
            }
            *known += 1;
        }
        complete.get_or_insert(now);
    }
}

impl World {
    /// From now on it is noted who knows this of these hosts' nodes; they themselves are not asked.
    pub fn follow(&mut self, subjects: &[(Host, Wanted)]) {
        let mut concerned = vec![false; self.machines.len()];
        let about = subjects.iter().filter(|(_, wanted)| *wanted != Wanted::Heard);
        about.for_each(|(host, _)| concerned[host.0] = true);
        let mut spread = Spread {
            begun: self.now,
            subjects: subjects.iter().map(|(host, wanted)| (self.id(*host), *wanted)).collect(),
            concerned,
            known: vec![0; self.machines.len()],
            complete: vec![None; self.machines.len()],
        };
        for host in self.live() {
            if let Some(node) = self.node(host) {
                spread.look(host, node, self.now);
            }
        }
        self.spread = Some(spread);
    }

    /// Nothing is followed any more.
    pub fn unfollow(&mut self) {
        self.spread = None;
    }

    /// How long what is followed took to reach all live nodes; `None` while it has not.
    pub fn reach(&self) -> Option<Reach> {
        let Spread { begun, concerned, complete, .. } = self.spread.as_ref()?;
        let asked = self.live().filter(|host| !concerned.get(host.0).copied().unwrap_or_default());
        let moments: Option<Vec<Time>> = asked.map(|host| complete.get(host.0).copied().flatten()).collect();
        let mut moments = moments?;
        moments.sort_unstable();
        let at = |moment: Option<&Time>| moment.map_or(Duration::ZERO, |moment| moment.since(*begun));
        Some(Reach { half: at(moments.get(moments.len() / 2)), all: at(moments.last()) })
    }
}
