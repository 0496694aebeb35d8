//! The line before the workers: who waits, who is next, and who has to go when it is full.
//!
//! Each caller has a queue of its own. Next is one of those that have the fewest at work, in turn; when all places are
//! taken, the newest of whoever waits with most has to go for a caller that waits with fewer. So one that asks too much is
//! refused, and the others do not feel it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Calls `T` of callers `K`.
#[derive(Debug)]
pub struct Line<K, T> {
    places: usize,
    callers: BTreeMap<K, Queue<T>>,
    /// Of those who wait how many they have at work, and when it was last their turn.
    turns: BTreeSet<(usize, u64, K)>,
    waiting: usize,
    at_work: usize,
    turn: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    at_work: usize,
    /// When it was last its turn.
    last: u64,
}

impl<K: Ord + Copy, T> Line<K, T> {
    /// With places for so many, those at work among them.
    pub fn new(places: usize) -> Self {
        Self { places, callers: BTreeMap::new(), turns: BTreeSet::new(), waiting: 0, at_work: 0, turn: 0 }
    }

    /// Takes a call in; another one may have to go for it, and comes back.
    ///
    /// # Errors
    /// The call itself: no caller waits with more than this one would.
    pub fn offer(&mut self, caller: K, call: T) -> Result<Option<T>, T> {
        let mut evicted = None;
        if self.waiting + self.at_work >= self.places {
            let own = self.callers.get(&caller).map_or(0, |queue| queue.waiting.len());
            let most = self.callers.iter_mut().max_by_key(|(_, queue)| queue.waiting.len());
            let Some((greedy, queue)) = most.filter(|(_, queue)| queue.waiting.len() > own + 1) else {
                return Err(call);
            };
            let greedy = *greedy;
            // It keeps one at least, and its turn.
            evicted = queue.waiting.pop_back();
            self.waiting -= 1;
            self.forget(greedy);
        }
        let queue = self.callers.entry(caller).or_insert(Queue { waiting: VecDeque::new(), at_work: 0, last: 0 });
        if queue.waiting.is_empty() {
            self.turns.insert((queue.at_work, queue.last, caller));
        }
        queue.waiting.push_back(call);
        self.waiting += 1;
        Ok(evicted)
    }

    /// The next call, which is at work until it is [`done`](Self::done).
    pub fn take(&mut self) -> Option<(K, T)> {
        let (_, _, caller) = self.turns.pop_first()?;
        // Who has a turn is here, and waits.
        let queue = self.callers.get_mut(&caller)?;
        let call = queue.waiting.pop_front()?;
        self.turn += 1;
        (queue.at_work, queue.last) = (queue.at_work + 1, self.turn);
        if !queue.waiting.is_empty() {
            self.turns.insert((queue.at_work, queue.last, caller));
        }
        (self.waiting, self.at_work) = (self.waiting - 1, self.at_work + 1);
        Some((caller, call))
    }

    /// A call of this caller is over.
    pub fn done(&mut self, caller: K) {
        if let Some(queue) = self.callers.get_mut(&caller).filter(|queue| queue.at_work > 0) {
            if self.turns.remove(&(queue.at_work, queue.last, caller)) {
                self.turns.insert((queue.at_work - 1, queue.last, caller));
            }
            queue.at_work -= 1;
            self.at_work -= 1;
        }
        self.forget(caller);
    }

    /// All that wait, and nobody does any more.
    pub fn clear(&mut self) -> Vec<T> {
        self.waiting = 0;
        self.turns.clear();
        let waiting = self.callers.values_mut().flat_map(|queue| std::mem::take(&mut queue.waiting)).collect();
        self.callers.retain(|_, queue| queue.at_work > 0);
        waiting
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many are at work.
    pub fn at_work(&self) -> usize {
        self.at_work
    }

    fn forget(&mut self, caller: K) {
        if self.callers.get(&caller).is_some_and(|queue| queue.waiting.is_empty() && queue.at_work == 0) {
            self.callers.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn callers_take_turns_and_the_greediest_gives_way() {
        let mut line = Line::new(4);
        for call in 1..=4 {
            assert_eq!(line.offer('a', call), Ok(None));
        }
        assert_eq!(line.offer('a', 5), Err(5), "it has all places itself");
        assert_eq!(line.offer('b', 6), Ok(Some(4)), "the newest of whoever has most");
        assert_eq!(line.offer('b', 7), Ok(Some(3)));
        assert_eq!(line.offer('b', 8), Err(8), "both have the same");
        let order: Vec<_> = std::iter::from_fn(|| line.take()).collect();
        assert_eq!(order, [('a', 1), ('b', 6), ('a', 2), ('b', 7)]);
        assert_eq!(line.offer('c', 9), Err(9), "whoever is at work is not sent away");
        line.done('a');
        assert_eq!(line.offer('a', 10), Ok(None));
        line.done('b');
        assert_eq!(line.offer('b', 11), Ok(None));
        line.done('b');
        assert_eq!((line.take(), line.take()), (Some(('b', 11)), Some(('a', 10))), "whoever has fewest at work");
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_no_place_is_made(said in prop::collection::vec((0u8..4, 0u8..4), 0..200)) {
            let mut line = Line::new(6);
            let (mut came, mut went, mut working) = (0, 0, Vec::new());
            for (caller, what) in said {
                match what {
                    0 | 1 => {
                        came += 1;
                        went += usize::from(!matches!(line.offer(caller, came), Ok(None)));
                    }
                    2 => if let Some((caller, _)) = line.take() { working.push(caller) },
                    _ => if let Some(caller) = working.pop() { line.done(caller); went += 1 },
                }
                prop_assert!(line.waiting() + line.at_work() <= 6);
                prop_assert_eq!(came, went + line.waiting() + line.at_work());
                prop_assert_eq!(line.at_work(), working.len());
                prop_assert!(line.callers.len() <= 6);
                let waiting = line.callers.values().filter(|queue| !queue.waiting.is_empty()).count();
                prop_assert_eq!(line.turns.len(), waiting);
            }
            prop_assert_eq!(line.clear().len(), came - went - working.len());
        }
    }
}
