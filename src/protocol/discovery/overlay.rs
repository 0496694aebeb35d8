//! Which nodes to be linked to: two rings, and random edges beside them.
//!
//! A ring is the order of all live, reachable nodes by `H(ring ‖ id)`; each node dials its successor in both. Directed
//! rings make the graph strongly connected whatever the random edges are, and random edges keep its diameter small. A
//! successor is dialled once it has been the same for 300 ms: while nodes pour in it changes with every one of them.

use std::time::Duration;

use crate::protocol::hash::hash_parts;
use crate::protocol::identity::ControllerId;
use crate::protocol::time::Time;

/// How many rings there are.
pub const RINGS: usize = 2;
const STABLE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(2);

/// The successors this node should have an edge to.
#[derive(Debug, Default)]
pub struct Rings {
    slots: [Slot; RINGS],
    candidates: Vec<ControllerId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    successor: Option<ControllerId>,
    since: Time,
    lacking_since: Option<Time>,
}

impl Rings {
    /// Looks at who is live and reachable (this node not among them).
    pub fn observe(&mut self, me: ControllerId, candidates: &[ControllerId], now: Time) {
        if self.candidates == candidates {
            return;
        }
        self.candidates = candidates.to_vec();
        let mut taken: Option<ControllerId> = None;
        for (ring, slot) in self.slots.iter_mut().enumerate() {
            let from = position(ring, &me);
            let rest = candidates.iter().filter(|id| Some(**id) != taken);
            // Those behind me come first, in ring order; then, around the ring, those before me.
            let next = rest.copied().min_by_key(|id| {
                let at = position(ring, id);
                (at < from, at)
            });
            if next != slot.successor {
                slot.successor = next;
                slot.since = now;
            }
            taken = next.or(taken);
        }
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
}

fn position(ring: usize, id: &ControllerId) -> [u8; 32] {
    hash_parts(b"kith ring", &[&[ring as u8], &id.0]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u8>) -> Vec<ControllerId> {
        numbers.map(|number| ControllerId([number; 32])).collect()
    }

    #[test]
    fn ring_edges_make_the_graph_strongly_connected() {
        let all = ids(0..40);
        for ring in 0..RINGS {
            let mut at = all[0];
            for _ in 0..all.len() {
                let others: Vec<_> = all.iter().copied().filter(|id| *id != at).collect();
                let mut rings = Rings::default();
                rings.observe(at, &others, Time(0));
                at = rings.slots[ring].successor.unwrap();
                if ring == 0 && at == all[0] {
                    break;
                }
            }
            if ring == 0 {
                assert_eq!(at, all[0], "the first ring closes");
            }
        }
    }

    #[test]
    fn a_successor_is_dialled_once_it_has_settled_or_patience_ends() {
        let me = ControllerId([99; 32]);
        let mut rings = Rings::default();
        rings.observe(me, &ids(0..1), Time(0));
        assert_eq!(rings.missing(|_| false, Time(0)), [(ids(0..1)[0], Time(300_000))]);
        rings.observe(me, &ids(0..2), Time(100_000));
        let missing = rings.missing(|_| false, Time(100_000));
        assert_eq!(missing.len(), 2, "with two nodes each ring has its own");
        assert!(rings.missing(|_| true, Time(100_000)).is_empty());
    }
}
