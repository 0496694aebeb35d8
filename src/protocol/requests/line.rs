//! The line before the workers: who waits, who is next, and who has to go when it is full.
//!
//! Each caller has a queue of its own. Next is one of those that have the fewest at work, in turn; when all places are
//! taken, the newest of whoever waits with most has to go for a caller that waits with fewer. So one that asks too much is
//! refused, and the others do not feel it.
//!
//! ```text
//!   levels[0]   c ─ a          wait, and have nothing at work: c is next
//!   levels[1]   b              waits, and has one at work
//!   resting     d              has some at work, and nothing that waits
//! ```

use std::collections::BTreeMap;

use super::chain::{Chain, Chains};

/// Calls `T` of callers `K`.
#[derive(Debug)]
pub struct Line<K, T> {
    places: usize,
    callers: BTreeMap<K, usize>,
    queues: Chains<Queue<K>>,
    calls: Chains<T>,
    /// Callers that wait, by how many calls they have at work; those who came to it first are first.
    levels: Vec<Chain>,
    /// Callers that have calls at work only.
    resting: Chain,
    waiting: usize,
    at_work: usize,
}

#[derive(Debug)]
struct Queue<K> {
    caller: K,
    waiting: Chain,
    at_work: usize,
}

/// Whose call is at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(usize);

impl<K: Ord + Copy, T> Line<K, T> {
    /// With places for so many, those at work among them.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            callers: BTreeMap::new(),
            queues: Chains::default(),
            calls: Chains::default(),
            levels: vec![Chain::default()],
            resting: Chain::default(),
            waiting: 0,
            at_work: 0,
        }
    }

    /// Takes a call in; another one may have to go for it, and comes back.
    ///
    /// # Errors
    /// The call itself: no caller waits with more than this one would.
    pub fn offer(&mut self, caller: K, call: T) -> Result<Option<T>, T> {
        let mut evicted = None;
        if self.waiting + self.at_work >= self.places {
            let own = self.callers.get(&caller).map_or(0, |at| self.waiting_of(*at));
            let most = self.callers.values().copied().max_by_key(|at| self.waiting_of(*at));
            let Some(greedy) = most.filter(|at| self.waiting_of(*at) > own + 1) else { return Err(call) };
            // It keeps one at least, and its turn.
            evicted = self.queues.get_mut(greedy).and_then(|queue| self.calls.pop_back(&mut queue.waiting));
            self.waiting -= 1;
        }
        let Self { queues, resting, .. } = self;
        let new = || queues.push(resting, Queue { caller, waiting: Chain::default(), at_work: 0 });
        let at = *self.callers.entry(caller).or_insert_with(new);
        // Who is among the callers has a queue.
        if let Some(queue) = self.queues.get_mut(at) {
            let (is_first, level) = (queue.waiting.is_empty(), queue.at_work);
            self.calls.push(&mut queue.waiting, call);
            self.waiting += 1;
            if is_first {
                self.queues.shift(at, &mut self.resting, &mut self.levels[level]);
            }
        }
        Ok(evicted)
    }

    /// The next call, which is at work until its place is [`done`](Self::done).
    pub fn take(&mut self) -> Option<(Place, T)> {
        let level = self.levels.iter().position(|level| !level.is_empty())?;
        let at = self.levels[level].first()?;
        // Who is in a level is there, and waits.
        let queue = self.queues.get_mut(at)?;
        let call = self.calls.pop_front(&mut queue.waiting)?;
        queue.at_work += 1;
        let waits_on = !queue.waiting.is_empty();
        (self.waiting, self.at_work) = (self.waiting - 1, self.at_work + 1);
        if self.levels.len() == level + 1 {
            self.levels.push(Chain::default());
        }
        let (lower, higher) = self.levels.split_at_mut(level + 1);
        let to = if waits_on { &mut higher[0] } else { &mut self.resting };
        self.queues.shift(at, &mut lower[level], to);
        Some((Place(at), call))
    }

    /// A call that was taken is over.
    pub fn done(&mut self, Place(at): Place) {
        let Some(queue) = self.queues.get_mut(at).filter(|queue| queue.at_work > 0) else { return };
        queue.at_work -= 1;
        self.at_work -= 1;
        let level = queue.at_work;
        if !queue.waiting.is_empty() {
            let (lower, higher) = self.levels.split_at_mut(level + 1);
            self.queues.shift(at, &mut higher[0], &mut lower[level]);
        } else if level == 0 {
            let caller = queue.caller;
            self.queues.remove(&mut self.resting, at);
            self.callers.remove(&caller);
        }
    }

    /// All that wait, and nobody does any more.
    pub fn clear(&mut self) -> Vec<T> {
        let mut calls = Vec::new();
        for at in self.callers.values().copied().collect::<Vec<_>>() {
            let Some(queue) = self.queues.get_mut(at).filter(|queue| !queue.waiting.is_empty()) else { continue };
            let (level, caller) = (queue.at_work, queue.caller);
            calls.extend(std::iter::from_fn(|| self.calls.pop_front(&mut queue.waiting)));
            self.queues.shift(at, &mut self.levels[level], &mut self.resting);
            if level == 0 {
                self.queues.remove(&mut self.resting, at);
                self.callers.remove(&caller);
            }
        }
        self.waiting = 0;
        calls
    }

    /// Nothing has come for a while: what a burst took is given back.
    pub fn rest(&mut self) {
        if self.callers.is_empty() {
            (self.queues, self.calls) = (Chains::default(), Chains::default());
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many are at work.
    pub fn at_work(&self) -> usize {
        self.at_work
    }

    fn waiting_of(&self, at: usize) -> usize {
        self.queues.get(at).map_or(0, |queue| queue.waiting.len())
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
        let (places, order): (Vec<_>, Vec<_>) = std::iter::from_fn(|| line.take()).unzip();
        assert_eq!(order, [1, 6, 2, 7]);
        let [a, b] = places[..2] else { panic!("there are four") };
        assert_eq!(line.offer('c', 9), Err(9), "whoever is at work is not sent away");
        line.done(a);
        assert_eq!(line.offer('a', 10), Ok(None));
        line.done(b);
        assert_eq!(line.offer('b', 11), Ok(None));
        line.done(b);
        assert_eq!((line.take(), line.take()), (Some((b, 11)), Some((a, 10))), "whoever has fewest at work");
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
                    2 => if let Some((place, _)) = line.take() { working.push(place) },
                    _ => if let Some(place) = working.pop() { line.done(place); went += 1 },
                }
                line.rest();
                prop_assert!(line.waiting() + line.at_work() <= 6);
                prop_assert_eq!(came, went + line.waiting() + line.at_work());
                prop_assert_eq!(line.at_work(), working.len());
                prop_assert!(line.callers.len() <= 6);
                prop_assert_eq!(line.levels.iter().map(Chain::len).sum::<usize>() + line.resting.len(), line.callers.len());
                for (level, callers) in line.levels.iter().enumerate() {
                    let queues = line.queues.iter(callers);
                    prop_assert!(queues.clone().all(|queue| queue.at_work == level && !queue.waiting.is_empty()));
                }
                prop_assert!(line.queues.iter(&line.resting).all(|queue| queue.at_work > 0 && queue.waiting.is_empty()));
            }
            prop_assert_eq!(line.clear().len(), came - went - working.len());
            working.drain(..).for_each(|place| line.done(place));
            prop_assert!(line.callers.is_empty() && line.resting.is_empty() && line.at_work() == 0);
        }
    }
}
