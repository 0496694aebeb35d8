//! What is about to happen, ordered by time and then by the order in which it was decided.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::protocol::time::Time;

/// Events to come.
pub(super) struct Queue<E> {
    heap: BinaryHeap<Coming<E>>,
    next: u64,
}

struct Coming<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Time, event: E) {
        self.heap.push(Coming { at, number: self.next, event });
        self.next += 1;
    }

    /// The first one, if it comes at `until` or before.
    pub(super) fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        if self.heap.peek().is_none_or(|first| first.at > until) {
            return None;
        }
        self.heap.pop().map(|first| (first.at, first.event))
    }
}

/// The greatest of a heap comes first: so the earliest is the greatest.
impl<E> Ord for Coming<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Coming<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Coming<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Coming<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_moment_in_the_order_they_were_made() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'd'), (1, 'a'), (5, 'e'), (3, 'b'), (3, 'c')] {
            queue.push(Time(at), event);
        }
        let told: String = std::iter::from_fn(|| queue.pop(Time(4))).map(|(_, event)| event).collect();
        assert_eq!(told, "abc");
        let told: String = std::iter::from_fn(|| queue.pop(Time(9))).map(|(_, event)| event).collect();
        assert_eq!(told, "de");
    }
}
