//! Whose turn it is: one call of a client at a time, the rest in order, and bounds on both.
//!
//! A client that goes away leaves its call behind, at work somewhere in the node. It counts until it is answered, so that
//! coming and going piles up nothing.

use std::collections::{BTreeMap, VecDeque};

/// Lines of one client that may wait behind a call that takes long. Nobody who reads the answers has as many.
pub(super) const MAX_WAITING: usize = 16;
/// Calls at work in all: room for four times the clients that may be connected by default, since some will have left.
pub(super) const MAX_CALLS: usize = 64;

/// The books of one server, whose clients are known by a `C` that is never given twice, and say lines, each an `L`.
pub(super) struct Turns<C, L> {
    clients: BTreeMap<C, Client<L>>,
    at_work: usize,
}

struct Client<L> {
    is_served: bool,
    waiting: VecDeque<L>,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<L> {
    /// Handle it now; [`Turns::answered`] is owed for it.
    Handle(L),
    /// Refuse it: too many calls are at work.
    Overloaded,
    /// Nothing now: the client's call is still at work.
    Wait,
    /// Close the client: it sends without waiting for answers.
    Flood,
}

impl<C: Copy + Ord, L> Turns<C, L> {
    /// Nobody there yet.
    pub(super) fn new() -> Self {
        Self { clients: BTreeMap::new(), at_work: 0 }
    }

    /// A line came in.
    pub(super) fn line(&mut self, client: C, line: L) -> Turn<L> {
        let fresh = || Client { is_served: false, waiting: VecDeque::new() };
        let known = self.clients.entry(client).or_insert_with(fresh);
        if known.is_served && known.waiting.len() == MAX_WAITING {
            return Turn::Flood;
        }
        known.waiting.push_back(line);
        self.next(client)
    }

    /// The client's next line, if one waits and none is at work.
    pub(super) fn next(&mut self, client: C) -> Turn<L> {
        let Some(known) = self.clients.get_mut(&client).filter(|known| !known.is_served) else { return Turn::Wait };
        match known.waiting.pop_front() {
            None => Turn::Wait,
            Some(_) if self.at_work == MAX_CALLS => Turn::Overloaded,
            Some(line) => {
                known.is_served = true;
                self.at_work += 1;
                Turn::Handle(line)
            }
        }
    }

    /// A call that was to be handled has its answer.
    pub(super) fn answered(&mut self, client: C) {
        self.at_work -= 1;
        if let Some(known) = self.clients.get_mut(&client) {
            known.is_served = false;
        }
    }

    /// The client went away.
    pub(super) fn gone(&mut self, client: C) {
        self.clients.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn calls_of_a_client_are_answered_one_by_one_and_in_order() {
        let mut turns = Turns::new();
        assert_eq!(turns.line(1, line("a")), Turn::Handle(line("a")));
        assert_eq!(turns.line(1, line("b")), Turn::Wait);
        assert_eq!(turns.line(1, line("c")), Turn::Wait);
        assert_eq!(turns.line(2, line("d")), Turn::Handle(line("d")));
        for next in ["b", "c"] {
            assert_eq!(turns.next(1), Turn::Wait);
            turns.answered(1);
            assert_eq!(turns.next(1), Turn::Handle(line(next)));
        }
        turns.answered(1);
        assert_eq!(turns.next(1), Turn::Wait);
    }

    #[test]
    fn lines_and_calls_are_bounded() {
        let mut turns = Turns::new();
        turns.line(1, line("at work"));
        for _ in 0..MAX_WAITING {
            assert_eq!(turns.line(1, line("waits")), Turn::Wait);
        }
        assert_eq!(turns.line(1, line("too many")), Turn::Flood);

        for client in 2..=MAX_CALLS {
            assert!(matches!(turns.line(client, line("x")), Turn::Handle(_)));
            turns.gone(client);
        }
        assert_eq!(turns.line(99, line("refused")), Turn::Overloaded);
        assert_eq!(turns.next(99), Turn::Wait);
        turns.answered(2);
        assert_eq!(turns.line(99, line("x")), Turn::Handle(line("x")));
    }
}
