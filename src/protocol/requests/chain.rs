//! Many queues in one piece of memory, which grows to what they all had at most at a time.
//!
//! ```text
//!   nodes   0 c   1 ·   2 a   3 b   4 ·        chain: first 2, last 3        2 ⇄ 0 ⇄ 3
//!                 └────────────▶┘              free:  1 ─▶ 4
//! ```
//!
//! What waits can go from any place of its queue to the end of another one, for the price of a few numbers: with a queue of
//! its own for each, every caller that comes and goes would take memory and give it back.

/// The places of all that is in any queue.
#[derive(Debug)]
pub(super) struct Chains<T> {
    nodes: Vec<Node<T>>,
    /// The first of those that are empty; `after` leads to the next.
    free: Option<usize>,
}

#[derive(Debug)]
struct Node<T> {
    item: Option<T>,
    before: Option<usize>,
    after: Option<usize>,
}

/// One queue: of which [`Chains`], its owner knows.
#[derive(Default, Debug)]
pub(super) struct Chain {
    first: Option<usize>,
    last: Option<usize>,
    len: usize,
}

impl Chain {
    pub(super) fn first(&self) -> Option<usize> {
        self.first
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for Chains<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: None }
    }
}

impl<T> Chains<T> {
    /// Puts something last; where it is until it is taken out.
    pub(super) fn push(&mut self, chain: &mut Chain, item: T) -> usize {
        let at = match self.free {
            Some(at) => {
                self.free = self.nodes[at].after;
                self.nodes[at].item = Some(item);
                at
            }
            None => {
                self.nodes.push(Node { item: Some(item), before: None, after: None });
                self.nodes.len() - 1
            }
        };
        self.append(chain, at);
        at
    }

    pub(super) fn pop_front(&mut self, chain: &mut Chain) -> Option<T> {
        chain.first.and_then(|at| self.remove(chain, at))
    }

    pub(super) fn pop_back(&mut self, chain: &mut Chain) -> Option<T> {
        chain.last.and_then(|at| self.remove(chain, at))
    }

    /// Takes something out of the chain that it is in.
    pub(super) fn remove(&mut self, chain: &mut Chain, at: usize) -> Option<T> {
        let item = self.nodes.get_mut(at)?.item.take()?;
        self.unlink(chain, at);
        self.nodes[at].after = self.free;
        self.free = Some(at);
        Some(item)
    }

    /// Moves something from the chain that it is in to the end of another one.
    pub(super) fn shift(&mut self, at: usize, from: &mut Chain, to: &mut Chain) {
        self.unlink(from, at);
        self.append(to, at);
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.nodes.get(at)?.item.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.nodes.get_mut(at)?.item.as_mut()
    }

    fn append(&mut self, chain: &mut Chain, at: usize) {
        (self.nodes[at].before, self.nodes[at].after) = (chain.last, None);
        match chain.last.replace(at) {
            Some(last) => self.nodes[last].after = Some(at),
            None => chain.first = Some(at),
        }
        chain.len += 1;
    }

    fn unlink(&mut self, chain: &mut Chain, at: usize) {
        let Node { before, after, .. } = self.nodes[at];
        match before {
            Some(before) => self.nodes[before].after = after,
            None => chain.first = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => chain.last = before,
        }
        chain.len -= 1;
    }
}

#[cfg(test)]
impl<T> Chains<T> {
    pub(super) fn iter(&self, chain: &Chain) -> impl Iterator<Item = &T> + Clone {
        std::iter::successors(chain.first, |at| self.nodes[*at].after).filter_map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_queues_and_take_no_more_room_than_needed(said in prop::collection::vec((0usize..3, 0u8..4), 0..200)) {
            let (mut chains, mut queues) = (Chains::default(), [(); 3].map(|()| Chain::default()));
            let mut model = [(); 3].map(|()| VecDeque::new());
            let mut most = 0;
            for (number, (which, what)) in said.into_iter().enumerate() {
                let next = (which + 1) % 3;
                match what {
                    0 => {
                        let at = chains.push(&mut queues[which], number);
                        model[which].push_back((at, number));
                    }
                    1 => {
                        let popped = chains.pop_front(&mut queues[which]);
                        prop_assert_eq!(popped, model[which].pop_front().map(|(_, item)| item));
                    }
                    2 => {
                        let popped = chains.pop_back(&mut queues[which]);
                        prop_assert_eq!(popped, model[which].pop_back().map(|(_, item)| item));
                    }
                    _ => {
                        let middle = model[which].len() / 2;
                        if let Some((at, item)) = model[which].remove(middle) {
                            let [from, to] = queues.get_disjoint_mut([which, next]).unwrap();
                            chains.shift(at, from, to);
                            model[next].push_back((at, item));
                        }
                    }
                }
                for (queue, model) in queues.iter().zip(&model) {
                    prop_assert!(chains.iter(queue).eq(model.iter().map(|(_, item)| item)));
                    prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
                }
                most = most.max(model.iter().map(VecDeque::len).sum());
                prop_assert_eq!(chains.nodes.len(), most);
            }
        }
    }
}
