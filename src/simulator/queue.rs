//! What is about to happen, ordered by time and then by the order in which it was decided.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::protocol::time::Time;

/// Events to come. What is sorted are their moments alone: an event is large, and a heap moves what it holds about.
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<E>>,
    /// Places among the events that are free.
    free: Vec<usize>,
    /// Passed over until [`Queue::put_back`].
    aside: Vec<Reverse<(Time, u64, usize)>>,
    next: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), aside: Vec::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Time, event: E) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at, self.next, place)));
        self.next += 1;
    }

    /// The first one, and when it comes.
    pub(super) fn first(&self) -> Option<(Time, &E)> {
        let Reverse((at, _, place)) = self.heap.peek()?;
        self.events[*place].as_ref().map(|event| (*at, event))
    }

    /// Passes over the first one: those behind it come first until [`Queue::put_back`].
    pub(super) fn set_aside(&mut self) {
        self.aside.extend(self.heap.pop());
    }

    /// Those that were set aside are where they were.
    pub(super) fn put_back(&mut self) {
        self.heap.extend(self.aside.drain(..));
    }

    /// How many are set aside.
    pub(super) fn aside(&self) -> usize {
        self.aside.len()
    }

    pub(super) fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_moment_in_the_order_they_were_made() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'd'), (1, 'a'), (5, 'e'), (3, 'b'), (3, 'c')] {
            queue.push(Time(at), event);
        }
        let told: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(told, "abcde");
    }

    #[test]
    fn what_is_set_aside_is_passed_over_and_keeps_its_place() {
        let mut queue = Queue::new();
        for (at, event) in [(1, 'a'), (1, 'b'), (2, 'c')] {
            queue.push(Time(at), event);
        }
        queue.set_aside();
        assert_eq!((queue.aside(), queue.first()), (1, Some((Time(1), &'b'))));
        queue.pop();
        queue.push(Time(1), 'd');
        queue.put_back();
        let told: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(told, "adc");
    }
}
