//! What is open on one connection, by number, and when the first of it has to be looked at.
//!
//! Most requests are answered long before their deadline, so no order of deadlines is kept: that would cost each of them more
//! than all else that is done for it here. Instead there is the earliest that was heard of since the last look, which may
//! have been answered meanwhile. So a look may come too early, and finds nothing then, but never too late; and it goes through
//! all that is open, which the window bounds.

use std::collections::VecDeque;

use crate::protocol::time::Time;

/// Places that are kept while nothing is open: one request after the other needs no more.
const KEPT: usize = 4;

/// Requests by their numbers, which rise. Most are answered in the order in which they came: the first is found and taken out
/// at once, wherever it is in a ring.
#[derive(Debug)]
pub(super) struct Open<T> {
    ring: VecDeque<(u64, T)>,
    look: Option<Time>,
}

/// A request that has a deadline.
pub(super) trait Due {
    /// When something has to be done about it.
    fn due(&self) -> Time;
}

impl<T: Due> Open<T> {
    pub(super) fn new() -> Self {
        Self { ring: VecDeque::new(), look: None }
    }

    /// Its number has to be greater than all before.
    pub(super) fn push(&mut self, id: u64, request: T) {
        self.hear(request.due());
        self.ring.push_back((id, request));
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let at = self.find(id)?;
        self.ring.get_mut(at).map(|(_, request)| request)
    }

    /// A deadline has become another one.
    pub(super) fn hear(&mut self, due: Time) {
        if self.look.is_none_or(|look| due < look) {
            self.look = Some(due);
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let removed = self.find(id).and_then(|at| self.ring.remove(at));
        if self.ring.is_empty() {
            self.look = None;
            // Most connections are idle: what a burst took is given back.
            self.ring.shrink_to(KEPT);
        }
        removed.map(|(_, request)| request)
    }

    /// When to look for what is late: not after the earliest deadline.
    pub(super) fn look(&self) -> Option<Time> {
        self.look
    }

    /// All that are late, the one with the earliest deadline first, and of those with the same the one that came first.
    pub(super) fn late(&mut self, now: Time) -> Vec<u64> {
        if self.look.is_none_or(|look| now < look) {
            return Vec::new();
        }
        let late = self.ring.iter().map(|(id, request)| (request.due(), *id)).filter(|(due, _)| *due <= now);
        let mut late: Vec<_> = late.collect();
        late.sort_unstable();
        self.look = self.values().map(Due::due).filter(|due| *due > now).min();
        late.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// All, in the order of their numbers.
    pub(super) fn drain(&mut self) -> VecDeque<(u64, T)> {
        self.look = None;
        std::mem::take(&mut self.ring)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.ring.iter().map(|(_, request)| request)
    }

    fn find(&self, id: u64) -> Option<usize> {
        match self.ring.front() {
            Some((first, _)) if *first == id => Some(0),
            _ => self.ring.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Due for u64 {
        fn due(&self) -> Time {
            Time(*self)
        }
    }

    #[test]
    fn a_look_comes_no_later_than_the_first_deadline() {
        let mut open = Open::new();
        assert_eq!(open.look(), None);
        for (id, due) in [(1, 50), (2, 30), (3, 90), (4, 30)] {
            open.push(id, due);
        }
        open.remove(2);
        assert_eq!((open.look(), open.late(Time(29))), (Some(Time(30)), vec![]));
        assert_eq!((open.late(Time(60)), open.look()), (vec![4, 1], Some(Time(90))), "the first of them first");
        assert_eq!(open.late(Time(60)), [] as [u64; 0], "one has time, the others were told of");
        open.remove(1);
        open.remove(4);
        *open.get_mut(3).unwrap() = 70;
        open.hear(Time(70));
        assert_eq!((open.late(Time(70)), open.look()), (vec![3], None));
        open.remove(3);
        assert!(open.is_empty() && open.look().is_none());
    }
}
