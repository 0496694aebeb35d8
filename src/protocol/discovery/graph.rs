//! The graph that a view fixes, with its nodes numbered: for whatever has to walk through all of it.
//!
//! Everybody who holds the same digest builds the same graph, whatever the order of news was, and draws the same tree in it.

use crate::protocol::identity::ShortId;
use crate::protocol::lookup::count_below;
use crate::protocol::view::View;

/// The length of an edge whose round trip was not measured, in milliseconds.
const UNMEASURED: u8 = 100;

/// The nodes that are up, by rising id, and the edges between them in both directions.
#[derive(Debug)]
pub struct Graph {
    ids: Vec<ShortId>,
    /// Where the edges of each node begin; one more than there are nodes.
    starts: Vec<u32>,
    /// The other end of each edge, and its round trip in milliseconds, 1 to 255.
    ends: Vec<(u32, u8)>,
}

/// A node's place in the tree of shortest ways to one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Towards the root; the root has none.
    pub parent: Option<ShortId>,
    /// Away from it.
    pub children: Vec<ShortId>,
}

impl Graph {
    /// The graph of a view.
    pub fn of(view: &View) -> Self {
        let ids: Vec<ShortId> = view.up().map(|(id, _)| id.short()).collect();
        let number = |short: &ShortId| number_among(&ids, short);
        let mut edges: Vec<(u32, u32, u8)> = Vec::with_capacity(16 * ids.len());
        for (tail, (_, entry)) in view.up().enumerate() {
            let body = &entry.record().body;
            for (head, round_trip) in body.edges.iter().zip(body.round_trips.iter()) {
                let Some(head) = number(head).filter(|head| *head != tail) else { continue };
                // Nodes are fewer than 2^32: each has taken half a kilobyte of memory.
                let (tail, head) = (tail as u32, head as u32);
                let length = if *round_trip == 0 { UNMEASURED } else { *round_trip };
                edges.extend([(tail, head, length), (head, tail, length)]);
            }
        }
        Self::build(ids, edges)
    }

    fn build(ids: Vec<ShortId>, edges: Vec<(u32, u32, u8)>) -> Self {
        let mut starts = vec![0; ids.len() + 1];
        for (from, ..) in &edges {
            starts[*from as usize + 1] += 1;
        }
        for node in 0..ids.len() {
            starts[node + 1] += starts[node];
        }
        let (mut free, mut ends) = (starts.clone(), vec![(0, 0); edges.len()]);
        for (from, to, length) in edges {
            let place = &mut free[from as usize];
            ends[*place as usize] = (to, length);
            *place += 1;
        }
        // Of two edges between the same nodes the quicker one counts.
        let mut kept = 0;
        for node in 0..ids.len() {
            let (begin, end) = (starts[node] as usize, starts[node + 1] as usize);
            ends[begin..end].sort_unstable();
            starts[node] = kept as u32;
            for at in begin..end {
                if kept == starts[node] as usize || ends[kept - 1].0 != ends[at].0 {
                    ends[kept] = ends[at];
                    kept += 1;
                }
            }
        }
        starts[ids.len()] = kept as u32;
        ends.truncate(kept);
        Self { ids, starts, ends }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// A node's number.
    pub fn number(&self, short: &ShortId) -> Option<usize> {
        number_among(&self.ids, short)
    }

    /// The numbers of a node's neighbours, rising, each once.
    pub fn adjacent(&self, number: usize) -> impl Iterator<Item = usize> {
        self.edges(number).iter().map(|(end, _)| *end as usize)
    }

    /// The place of a node in the tree that leads everybody to the root on the shortest way; of several ways that are as short
    /// the one whose next node is nearer to the root, then the one whose next node's id is smaller. `None` if not all nodes
    /// can be reached: there is no such tree then.
    pub fn place(&self, root: usize, node: usize) -> Option<Place> {
        let far = self.distances(root)?;
        let parent_of = |node: usize| {
            let ways = self.edges(node).iter().map(|(next, length)| (*next as usize, u32::from(*length)));
            let short = ways.filter(|(next, length)| far[*next] + length == far[node]);
            short.map(|(next, _)| (far[next], next)).min().map(|(_, next)| next)
        };
        let parent = parent_of(node).filter(|_| node != root).map(|parent| self.ids[parent]);
        let children = self.adjacent(node).filter(|next| *next != root && parent_of(*next) == Some(node));
        Some(Place { parent, children: children.map(|child| self.ids[child]).collect() })
    }

    /// How far all nodes are from one, in milliseconds of round trips (Dial 1969, Algorithm 360: distances are small whole
    /// numbers, so a row of buckets does for a heap). `None` if some cannot be reached.
    fn distances(&self, from: usize) -> Option<Vec<u32>> {
        let mut far = vec![u32::MAX; self.len()];
        far[from] = 0;
        let (mut rows, mut reached) = (vec![vec![from as u32]], 0);
        let mut at = 0;
        while at < rows.len() {
            for node in std::mem::take(&mut rows[at]) {
                if far[node as usize] != at as u32 {
                    continue;
                }
                reached += 1;
                for (end, length) in self.edges(node as usize) {
                    let there = at + usize::from(*length);
                    if (there as u32) < far[*end as usize] {
                        far[*end as usize] = there as u32;
                        if rows.len() <= there {
                            rows.resize_with(there + 1, Vec::new);
                        }
                        rows[there].push(*end);
                    }
                }
            }
            at += 1;
        }
        (reached == self.len()).then_some(far)
    }

    fn edges(&self, number: usize) -> &[(u32, u8)] {
        &self.ends[self.starts[number] as usize..self.starts[number + 1] as usize]
    }
}

/// Where an id is among those in rising order.
fn number_among(ids: &[ShortId], short: &ShortId) -> Option<usize> {
    let wanted = short.to_number();
    let at = count_below(ids.len(), wanted, |at| ids[at].to_number() < wanted);
    ids.get(at).filter(|id| *id == short).map(|_| at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn short(node: usize) -> ShortId {
        ShortId((node as u64).to_be_bytes())
    }

    /// A graph of these edges, each in both directions.
    fn graph(nodes: usize, edges: &[(usize, usize, u8)]) -> Graph {
        let both = edges.iter().flat_map(|&(one, other, length)| [(one, other, length), (other, one, length)]);
        let heard = both.filter(|(one, other, _)| one != other);
        Graph::build(
            (0..nodes).map(short).collect(),
            heard.map(|(one, other, length)| (one as u32, other as u32, length)).collect(),
        )
    }

    proptest! {
        #[test]
        fn all_places_together_are_one_tree_of_shortest_ways(
            nodes in 1usize..24,
            edges in prop::collection::vec((0usize..24, 0usize..24, 1u8..9), 0..80),
        ) {
            let edges: Vec<_> = edges.into_iter().map(|(one, other, length)| (one % nodes, other % nodes, length)).collect();
            let graph = graph(nodes, &edges);
            let far = graph.distances(0);
            let places: Vec<_> = (0..nodes).map(|node| graph.place(0, node)).collect();
            prop_assert!(places.iter().all(|place| place.is_some() == far.is_some()), "all see one tree or none");
            let Some(far) = far else { return Ok(()) };
            let places: Vec<_> = places.into_iter().flatten().collect();
            prop_assert_eq!(&places[0].parent, &None);
            let mut parents: BTreeMap<ShortId, ShortId> = BTreeMap::new();
            for (node, place) in places.iter().enumerate() {
                for child in &place.children {
                    prop_assert_eq!(parents.insert(*child, short(node)), None, "one parent each");
                }
            }
            for (node, place) in places.iter().enumerate().skip(1) {
                let parent = graph.number(&place.parent.unwrap()).unwrap();
                prop_assert_eq!(parents.get(&short(node)), Some(&short(parent)), "both ends know of each other");
                let way = edges.iter().filter(|edge| (edge.0, edge.1) == (node, parent) || (edge.1, edge.0) == (node, parent));
                prop_assert_eq!(far[node], far[parent] + u32::from(way.map(|edge| edge.2).min().unwrap()));
            }
        }
    }

    #[test]
    fn a_graph_in_two_parts_has_no_tree() {
        let graph = graph(4, &[(0, 1, 5), (2, 3, 5)]);
        assert!((0..4).all(|node| graph.place(0, node).is_none()));
    }

    #[test]
    fn the_quicker_way_around_is_taken() {
        let graph = graph(3, &[(0, 2, 90), (0, 1, 20), (1, 2, 30)]);
        let place = graph.place(0, 1).unwrap();
        assert_eq!(place, Place { parent: Some(short(0)), children: vec![short(2)] });
    }
}
