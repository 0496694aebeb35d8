//! The tail's half: what it has asked and not yet heard.
//!
//! ```text
//!            ask                 answered, whole
//!   caller ──────▶ open ──────────────────────────▶ the caller hears
//!                   │  deadline, or the caller gives up
//!                   ▼
//!                abandoned ──── answered ─────────▶ nobody hears
//!                   │  nothing for half a minute more
//!                   ▼
//!                the head owes: the connection closes
//! ```
//!
//! Whom nobody waits for any more keeps its place until the head has answered: a head answers everything by its deadline,
//! if only to say that it was not in time. So what a head may have to do at once is bounded by what the tail has open, and
//! a head that never answers is found out.

use std::time::Duration;

use super::arriving::Arriving;
use super::message::{Outcome, Piece, Response};
use super::open::{Due, Open};
use super::{COST, Window};
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;

/// After a request's deadline its answer may take so long: as long as TCP goes on with a link that is dead. Longer keeps
/// places for a head that does not answer; shorter closes edges over a slow link.
const OWED: Duration = Duration::from_secs(30);

/// All that is open on one connection; `T` is whoever waits for an answer.
#[derive(Debug)]
pub struct Asking<T> {
    window: Window,
    last: u64,
    open: Open<Asked<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Asked<T> {
    caller: Option<T>,
    /// While somebody waits, the deadline; then the moment when the head owes.
    due: Time,
    cost: usize,
    answer: Option<(Outcome, Arriving)>,
}

impl<T> Due for Asked<T> {
    fn due(&self) -> Time {
        self.due
    }
}

/// Why nothing more may be asked now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// As many requests are open as may be.
    Requests,
    /// As many bytes are.
    Bytes,
    /// The payload alone is more than may ever be.
    TooLarge,
}

/// What follows from a message of the head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard<T> {
    /// There is more to come, or nobody waits for it.
    Nothing,
    /// An answer is whole.
    Answered(T, Outcome, Vec<u8>),
    /// An answer has begun that is longer than this node takes.
    TooLarge(T),
}

impl<T> Asking<T> {
    /// Nothing is open.
    pub fn new(window: Window) -> Self {
        Self { window, last: 0, open: Open::new(), bytes: 0 }
    }

    /// Takes a place for a request with a payload of so many bytes; its id, which nothing on this connection had before.
    ///
    /// # Errors
    /// Which bound is reached, and the caller back.
    pub fn ask(&mut self, caller: T, payload: usize, deadline: Time) -> Result<u64, (Full, T)> {
        let cost = payload + COST;
        let full = match () {
            () if payload > self.window.payload => Some(Full::TooLarge),
            () if self.open.len() >= self.window.requests => Some(Full::Requests),
            // One of any size may be open: a window that is smaller than a payload would let none through.
            () if self.bytes > 0 && self.bytes + cost > self.window.bytes => Some(Full::Bytes),
            () => None,
        };
        if let Some(full) = full {
            return Err((full, caller));
        }
        // Rises by one: at a million a second for half a million years.
        self.last += 1;
        self.bytes += cost;
        self.open.push(self.last, Asked { caller: Some(caller), due: deadline, cost, answer: None });
        Ok(self.last)
    }

    /// The first message of an answer.
    ///
    /// # Errors
    /// [`Reason::Unexpected`] if nothing like it was asked, or it was answered before; [`Reason::Malformed`].
    pub fn response(&mut self, response: Response) -> Result<Heard<T>, Reason> {
        let asked = self.open.get_mut(response.id).filter(|asked| asked.answer.is_none());
        let asked = asked.ok_or(Reason::Unexpected)?;
        let mut arriving = Arriving::begin(response.length, response.payload)?;
        let is_too_large = response.length as usize > self.window.payload;
        if arriving.is_whole() && !is_too_large {
            // As most are: it needs no place to arrive in.
            return Ok(self.close(response.id, response.outcome, arriving));
        }
        if is_too_large || asked.caller.is_none() {
            arriving.leave_out();
        }
        asked.answer = Some((response.outcome, arriving));
        // Its rest is under way: the head has the time that it would have if its caller had gone.
        let refused = if is_too_large { self.give_up(response.id) } else { None };
        let heard = self.close_if_whole(response.id);
        Ok(refused.map_or(heard, Heard::TooLarge))
    }

    /// What follows of an answer.
    ///
    /// # Errors
    /// As in [`response`](Self::response).
    pub fn piece(&mut self, piece: &Piece) -> Result<Heard<T>, Reason> {
        let answer = self.open.get_mut(piece.id).and_then(|asked| asked.answer.as_mut());
        answer.ok_or(Reason::Unexpected)?.1.add(&piece.payload)?;
        Ok(self.close_if_whole(piece.id))
    }

    /// The caller waits no more; whoever it was. `None` if it was answered meanwhile.
    pub fn give_up(&mut self, id: u64) -> Option<T> {
        let asked = self.open.get_mut(id)?;
        let caller = asked.caller.take()?;
        if let Some((_, arriving)) = &mut asked.answer {
            arriving.leave_out();
        }
        let due = asked.due + OWED;
        asked.due = due;
        self.open.hear(due);
        Some(caller)
    }

    /// It could not be sent: its place is free again, and the caller is back.
    pub fn take_back(&mut self, id: u64) -> Option<T> {
        let asked = self.open.remove(id)?;
        self.bytes -= asked.cost;
        asked.caller
    }

    /// Whose time is over, and is now abandoned, with their ids.
    ///
    /// # Errors
    /// [`Reason::Unanswered`]: the head has not answered what it had to, and the connection is of no more use.
    pub fn due(&mut self, now: Time) -> Result<Vec<(u64, T)>, Reason> {
        let (mut late, mut is_owed) = (Vec::new(), false);
        for id in self.open.late(now) {
            match self.give_up(id) {
                Some(caller) => late.push((id, caller)),
                None => is_owed = true,
            }
        }
        if is_owed {
            // It is not over with this call; and whoever was late is told before the head is given up, by the next one.
            self.open.hear(now);
        }
        if is_owed && late.is_empty() { Err(Reason::Unanswered) } else { Ok(late) }
    }

    /// When [`due`](Self::due) wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.open.look()
    }

    /// The connection is over: all who wait, in the order in which they asked.
    pub fn end(&mut self) -> Vec<(u64, T)> {
        self.bytes = 0;
        self.open.drain().into_iter().filter_map(|(id, asked)| Some((id, asked.caller?))).collect()
    }

    /// Requests that are open, abandoned ones among them.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True if none are.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn close_if_whole(&mut self, id: u64) -> Heard<T> {
        let answer = self.open.get_mut(id).and_then(|asked| asked.answer.take_if(|(_, arriving)| arriving.is_whole()));
        answer.map_or(Heard::Nothing, |(outcome, arriving)| self.close(id, outcome, arriving))
    }

    /// It is answered.
    fn close(&mut self, id: u64, outcome: Outcome, arriving: Arriving) -> Heard<T> {
        let Some(asked) = self.open.remove(id) else { return Heard::Nothing };
        self.bytes -= asked.cost;
        asked.caller.map_or(Heard::Nothing, |caller| Heard::Answered(caller, outcome, arriving.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::Bytes;
    use super::*;

    const WINDOW: Window = Window { requests: 4, bytes: 10_000, payload: 6000 };

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    fn asking() -> Asking<char> {
        Asking::new(WINDOW)
    }

    fn response(id: u64, length: u32, first: usize) -> Response {
        Response { id, outcome: Outcome::Done, length, payload: Bytes(vec![9; first]) }
    }

    fn piece(id: u64, length: usize) -> Piece {
        Piece { id, payload: Bytes(vec![9; length]) }
    }

    #[test]
    fn an_answer_reaches_whoever_asked_in_any_order() {
        let mut asking = asking();
        let a = asking.ask('a', 10, at(5)).unwrap();
        let b = asking.ask('b', 10, at(5)).unwrap();
        assert!(a < b);
        assert_eq!(asking.response(response(b, 3, 3)), Ok(Heard::Answered('b', Outcome::Done, vec![9; 3])));
        assert_eq!(asking.response(response(a, 4, 2)), Ok(Heard::Nothing));
        assert_eq!(asking.piece(&piece(a, 1)), Ok(Heard::Nothing));
        assert_eq!(asking.piece(&piece(a, 1)), Ok(Heard::Answered('a', Outcome::Done, vec![9; 4])));
        assert!(asking.is_empty() && asking.deadline().is_none());
    }

    #[test]
    fn what_nobody_asked_for_is_misbehaviour() {
        let mut asking = asking();
        assert_eq!(asking.response(response(1, 0, 0)), Err(Reason::Unexpected));
        let a = asking.ask('a', 10, at(5)).unwrap();
        assert_eq!(asking.piece(&piece(a, 1)), Err(Reason::Unexpected), "no piece comes first");
        assert_eq!(asking.response(response(a, 10, 5)), Ok(Heard::Nothing));
        assert_eq!(asking.response(response(a, 10, 5)), Err(Reason::Unexpected), "answered before");
        assert_eq!(asking.piece(&piece(a, 6)), Err(Reason::Malformed));
    }

    #[test]
    fn each_bound_is_one() {
        let mut asking = asking();
        assert_eq!(asking.ask('x', 6001, at(5)), Err((Full::TooLarge, 'x')));
        asking.ask('a', 6000, at(5)).unwrap();
        assert_eq!(asking.ask('b', 4000, at(5)), Err((Full::Bytes, 'b')));
        for caller in ['c', 'd', 'e'] {
            asking.ask(caller, 0, at(5)).unwrap();
        }
        assert_eq!(asking.ask('f', 0, at(5)), Err((Full::Requests, 'f')));
        assert_eq!(asking.response(response(1, 0, 0)), Ok(Heard::Answered('a', Outcome::Done, vec![])));
        assert!(asking.ask('g', 4000, at(5)).is_ok());
        let mut narrow = Asking::new(Window { requests: 4, bytes: 1, payload: 100 });
        assert!(narrow.ask('a', 100, at(1)).is_ok(), "one of any size may be open");
        assert!(narrow.ask('b', 0, at(1)).is_err());
    }

    #[test]
    fn whoever_waited_long_enough_is_told_and_a_late_answer_goes_to_nobody() {
        let mut asking = asking();
        let a = asking.ask('a', 10, at(5)).unwrap();
        let b = asking.ask('b', 10, at(9)).unwrap();
        assert_eq!((asking.deadline(), asking.due(at(4))), (Some(at(5)), Ok(vec![])));
        assert_eq!(asking.due(at(5)), Ok(vec![(a, 'a')]));
        assert_eq!((asking.len(), asking.deadline()), (2, Some(at(9))), "its place is kept");
        assert_eq!(asking.response(response(a, 20, 10)), Ok(Heard::Nothing));
        assert_eq!(asking.piece(&piece(a, 10)), Ok(Heard::Nothing));
        assert_eq!(asking.len(), 1);
        assert_eq!((asking.give_up(b), asking.give_up(b)), (Some('b'), None));
        assert_eq!(asking.due(at(38)), Ok(vec![]));
        assert_eq!(asking.due(at(39)), Err(Reason::Unanswered));
    }

    #[test]
    fn what_could_not_be_sent_leaves_no_trace() {
        let mut asking = asking();
        let a = asking.ask('a', 10, at(5)).unwrap();
        assert_eq!((asking.take_back(a), asking.take_back(a)), (Some('a'), None));
        assert!(asking.is_empty() && asking.bytes == 0 && asking.deadline().is_none());
        assert!(asking.ask('b', 10, at(5)).unwrap() > a, "its number is not given again");
    }

    #[test]
    fn an_answer_that_is_too_long_is_told_at_once_and_heard_to_its_end() {
        let mut asking = asking();
        let a = asking.ask('a', 10, at(5)).unwrap();
        assert_eq!(asking.response(response(a, 6001, 6000)), Ok(Heard::TooLarge('a')));
        assert_eq!((asking.due(at(34)), asking.deadline()), (Ok(vec![]), Some(at(35))), "its rest may take time");
        assert_eq!(asking.piece(&piece(a, 1)), Ok(Heard::Nothing));
        assert!(asking.is_empty() && asking.deadline().is_none());
    }

    #[test]
    fn whoever_was_late_is_told_before_the_head_is_given_up() {
        let mut asking = asking();
        asking.ask('a', 0, at(0)).unwrap();
        assert_eq!(asking.due(at(30)), Ok(vec![(1, 'a')]), "he has waited, and hears it, however late that is");
        assert_eq!(asking.due(at(30)), Err(Reason::Unanswered));
        assert!(asking.end().is_empty());
    }

    #[test]
    fn at_the_end_all_who_wait_are_told() {
        let mut asking = asking();
        for caller in ['a', 'b', 'c'] {
            asking.ask(caller, 10, at(5)).unwrap();
        }
        asking.give_up(2);
        assert_eq!(asking.end(), [(1, 'a'), (3, 'c')]);
        assert!(asking.is_empty() && asking.deadline().is_none() && asking.due(at(99)).is_ok());
    }

    proptest! {
        /// Whatever a head says: everybody is told exactly once, and nothing is left.
        #[test]
        fn everybody_hears_once(said in prop::collection::vec((0u64..12, 0u32..9000, 0usize..9000, 0u8..6), 0..200)) {
            let mut asking = asking();
            let (mut asked, mut told) = (0, 0);
            for (id, length, count, what) in said {
                match what {
                    0 | 1 => asked += u64::from(asking.ask('x', count, at(u64::from(length))).is_ok()),
                    2 => told += u64::from(asking.give_up(id).is_some()),
                    3 => told += asking.due(at(u64::from(length))).map_or(0, |late| late.len() as u64),
                    4 => told += asking.response(response(id, length, count)).map_or(0, |heard| u64::from(heard != Heard::Nothing)),
                    _ => told += asking.piece(&piece(id, count)).map_or(0, |heard| u64::from(heard != Heard::Nothing)),
                }
                prop_assert!(asking.len() <= WINDOW.requests);
                prop_assert!(asking.deadline().is_some() || asking.is_empty());
            }
            told += asking.end().len() as u64;
            prop_assert_eq!(asked, told);
        }
    }
}
