//! Which nodes to be linked to: two rings, and random edges beside them.
//!
//! A ring is the order of all live, reachable nodes by `H(ring ‖ id)`; each node dials its successor in both. Directed
//! rings make the graph strongly connected whatever the random edges are, and random edges keep its diameter small. A
//! successor is dialled once it has been the same for 150 ms: while nodes pour in it changes with every one of them.
//!
//! Of each ring the next two are remembered, so that a newcomer costs one comparison; only when one of these falls away
//! are all nodes looked through.

use std::time::Duration;

use crate::protocol::hash::hash_parts;
use crate::protocol::identity::ControllerId;
use crate::protocol::time::Time;

/// How many rings there are.
pub const RINGS: usize = 2;
/// The next ones of a ring that are remembered: the second ring takes its second if its first is the first ring's too.
const NEXT: usize = 2;
const STABLE: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a node stands on each ring.
pub fn ring_places(id: &ControllerId) -> [u64; RINGS] {
    std::array::from_fn(|ring| u64::from_be_bytes(hash_parts(b"kith ring", &[&[ring as u8], &id.0]).short()))
}

/// The successors this node should have an edge to.
#[derive(Debug)]
pub struct Rings {
    me: [u64; RINGS],
    next: [Vec<(u64, ControllerId)>; RINGS],
    slots: [Slot; RINGS],
    incomplete: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    successor: Option<ControllerId>,
    since: Time,
    lacking_since: Option<Time>,
    tried: Option<(ControllerId, Time)>,
}

impl Rings {
    /// Around this node; nobody else is there yet.
    pub fn new(me: &ControllerId) -> Self {
        Self { me: ring_places(me), next: Default::default(), slots: Default::default(), incomplete: false }
    }

    /// A node that is not this one has become fit for a ring, or is so still.
    pub fn fit(&mut self, id: ControllerId, places: &[u64; RINGS], now: Time) {
        let mut changed = false;
        for (ring, next) in self.next.iter_mut().enumerate() {
            // Around the ring, so that those behind me come last.
            let distance = places[ring].wrapping_sub(self.me[ring]);
            let at = next.partition_point(|held| *held < (distance, id));
            if at < NEXT && next.get(at).is_none_or(|held| held.1 != id) {
                next.insert(at, (distance, id));
                next.truncate(NEXT);
                changed = true;
            }
        }
        if changed {
            self.choose(now);
        }
    }

    /// A node is fit no more. Others may have to come in its place: see [`Rings::is_incomplete`].
    pub fn unfit(&mut self, id: &ControllerId, now: Time) {
        let mut changed = false;
        for next in &mut self.next {
            let before = next.len();
            next.retain(|held| held.1 != *id);
            changed |= next.len() < before;
        }
        if changed {
            self.incomplete = true;
            self.choose(now);
        }
    }

    /// True if all nodes are to be looked through, by [`Rings::fit`] for each that is.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// All nodes are about to be looked through.
    pub fn completed(&mut self) {
        self.incomplete = false;
    }

    /// Who may have become fit is not known: all nodes are to be looked through.
    pub fn doubt(&mut self) {
        self.incomplete = true;
    }

    /// All who are remembered.
    pub fn remembered(&self) -> Vec<ControllerId> {
        self.next.iter().flatten().map(|(_, id)| *id).collect()
    }

    /// The nodes that ring edges should lead to.
    pub fn successors(&self) -> impl Iterator<Item = ControllerId> {
        self.slots.iter().filter_map(|slot| slot.successor)
    }

    /// For each ring without its edge: whom to dial, and from when on.
    pub fn missing(&mut self, linked: impl Fn(&ControllerId) -> bool, now: Time) -> Vec<(ControllerId, Time)> {
        let mut missing = Vec::new();
        for slot in &mut self.slots {
            match slot.successor.filter(|id| !linked(id)) {
                Some(id) => {
                    let lacking = *slot.lacking_since.get_or_insert(now);
                    missing.push((id, (slot.since + STABLE).min(lacking + PATIENCE)));
                }
                None => slot.lacking_since = None,
            }
        }
        missing
    }

    /// True if a successor may be dialled though its address is in backoff: it may have been too busy for a random edge, but
    /// ring edges have places of their own. Once in two seconds.
    pub fn insists(&mut self, id: &ControllerId, now: Time) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.successor == Some(*id)) else { return false };
        let lately = slot.tried.is_some_and(|(tried, at)| tried == *id && now.since(at) < PATIENCE);
        if !lately {
            slot.tried = Some((*id, now));
        }
        !lately
    }

    fn choose(&mut self, now: Time) {
        let mut taken: Option<ControllerId> = None;
        for (next, slot) in self.next.iter().zip(&mut self.slots) {
            let free = next.iter().map(|(_, id)| *id).find(|id| Some(*id) != taken);
            if free != slot.successor {
                slot.successor = free;
                slot.since = now;
            }
            taken = free.or(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u8>) -> Vec<ControllerId> {
        numbers.map(|number| ControllerId([number; 32])).collect()
    }

    fn all_fit(rings: &mut Rings, ids: &[ControllerId], now: Time) {
        ids.iter().for_each(|id| rings.fit(*id, &ring_places(id), now));
    }

    #[test]
    fn ring_edges_make_the_graph_strongly_connected() {
        let all = ids(0..40);
        let mut at = all[0];
        for step in 1..=all.len() {
            let others: Vec<_> = all.iter().copied().filter(|id| *id != at).collect();
            let mut rings = Rings::new(&at);
            all_fit(&mut rings, &others, Time(0));
            at = rings.slots[0].successor.unwrap();
            assert_eq!(at == all[0], step == all.len(), "the first ring closes, after all of them");
        }
    }

    #[test]
    fn whoever_falls_away_is_followed_by_the_next() {
        let (me, mut others) = (ControllerId([99; 32]), ids(0..30));
        let mut rings = Rings::new(&me);
        all_fit(&mut rings, &others, Time(0));
        while !others.is_empty() {
            let successors: Vec<_> = rings.successors().collect();
            assert_eq!(successors.len(), RINGS.min(others.len()));
            others.retain(|id| *id != successors[0]);
            rings.unfit(&successors[0], Time(1));
            assert!(rings.is_incomplete());
            rings.completed();
            all_fit(&mut rings, &others, Time(1));
            let mut afresh = Rings::new(&me);
            all_fit(&mut afresh, &others, Time(2));
            assert!(rings.successors().eq(afresh.successors()), "the order of news does not matter");
        }
    }

    #[test]
    fn a_successor_is_dialled_once_it_has_settled_or_patience_ends() {
        let me = ControllerId([99; 32]);
        let mut rings = Rings::new(&me);
        all_fit(&mut rings, &ids(0..1), Time(0));
        assert_eq!(rings.missing(|_| false, Time(0)), [(ids(0..1)[0], Time(150_000))]);
        all_fit(&mut rings, &ids(1..2), Time(100_000));
        let missing = rings.missing(|_| false, Time(100_000));
        assert_eq!(missing.len(), 2, "with two nodes each ring has its own");
        assert!(rings.missing(|_| true, Time(100_000)).is_empty());
    }
}
