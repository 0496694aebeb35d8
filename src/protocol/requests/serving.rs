//! The head's half: what it was asked and has not yet answered.
//!
//! ```text
//!   Request ──▶ bounds ──▶ pieces ──▶ Call ──▶ a handler ──▶ answered
//!                 │           │                   │
//!                 └── refused ┴──── its deadline ─┴──▶ answered all the same: not in time
//! ```
//!
//! Each request is answered once, by its deadline at the latest. Pieces of one that has its answer already may still be on
//! their way: they are left out.

use std::time::Duration;

use super::arriving::Arriving;
use super::message::{Failure, MAX_DEPTH, Outcome, Piece, Refusal, Request};
use super::open::{Due, Open};
use super::service::ServiceName;
use super::{COST, Window};
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;

/// All that one tail has open.
#[derive(Debug)]
pub struct Serving {
    window: Window,
    patience: Duration,
    last: u64,
    open: Open<Served>,
    bytes: usize,
}

#[derive(Debug)]
struct Served {
    deadline: Time,
    /// When its time is over: while it is on its way, perhaps before its deadline.
    due: Time,
    cost: usize,
    /// `None` once a handler has it.
    arriving: Option<(ServiceName, u8, Arriving)>,
}

impl Due for Served {
    fn due(&self) -> Time {
        self.due
    }
}

/// A request that is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Its number on its connection.
    pub id: u64,
    /// Who is to answer.
    pub service: ServiceName,
    /// How many requests it is an effect of.
    pub depth: u8,
    /// When it has to be answered.
    pub deadline: Time,
    /// What was sent along.
    pub payload: Vec<u8>,
}

/// What follows from a message of the tail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// There is more to come, or it was answered before.
    Nothing,
    /// A request is whole.
    Whole(Call),
    /// A request is to be answered like this.
    Refused(u64, Refusal),
}

impl Serving {
    /// Nothing is open. A request has to be there so long after its first piece.
    pub fn new(window: Window, patience: Duration) -> Self {
        Self { window, patience, last: 0, open: Open::new(), bytes: 0 }
    }

    /// The first message of a request; the node may have no room for its payload, whatever this tail's window says.
    ///
    /// # Errors
    /// [`Reason::Unexpected`] if its id is not greater than all before: it may have been carried out. Or
    /// [`Reason::Malformed`].
    pub fn request(&mut self, request: Request, now: Time, has_room: bool) -> Result<Taken, Reason> {
        if request.id <= self.last {
            return Err(Reason::Unexpected);
        }
        self.last = request.id;
        let payload = request.length as usize;
        let arriving = Arriving::begin(request.length, request.payload)?;
        let cost = payload + COST;
        let refusal = match () {
            () if payload > self.window.payload => Some(Refusal::TooLarge),
            () if request.depth > MAX_DEPTH => Some(Refusal::TooDeep),
            () if request.remaining_ms == 0 => Some(Refusal::TimedOut),
            () if self.open.len() >= self.window.requests => Some(Refusal::Overloaded),
            () if self.bytes > 0 && self.bytes + cost > self.window.bytes => Some(Refusal::Overloaded),
            () if !has_room => Some(Refusal::Overloaded),
            () => None,
        };
        if let Some(refusal) = refusal {
            return Ok(Taken::Refused(request.id, refusal));
        }
        let Request { id, service, depth, .. } = request;
        let deadline = now + Duration::from_millis(request.remaining_ms.into());
        self.bytes += cost;
        if arriving.is_whole() {
            // As most are: it needs no place to arrive in.
            self.open.push(id, Served { deadline, due: deadline, cost, arriving: None });
            return Ok(Taken::Whole(Call { id, service, depth, deadline, payload: arriving.into_bytes() }));
        }
        let due = deadline.min(now + self.patience);
        self.open.push(id, Served { deadline, due, cost, arriving: Some((service, depth, arriving)) });
        Ok(Taken::Nothing)
    }

    /// What follows of a request's payload.
    ///
    /// # Errors
    /// [`Reason::Unexpected`] if no request of that id has begun; [`Reason::Malformed`].
    pub fn piece(&mut self, piece: &Piece) -> Result<Taken, Reason> {
        if piece.id > self.last {
            return Err(Reason::Unexpected);
        }
        let Some(served) = self.open.get_mut(piece.id) else { return Ok(Taken::Nothing) };
        served.arriving.as_mut().ok_or(Reason::Malformed)?.2.add(&piece.payload)?;
        Ok(self.call_if_whole(piece.id))
    }

    /// A handler has its answer. False if the tail has one already: it was not in time.
    pub fn answered(&mut self, id: u64) -> bool {
        let Some(served) = self.open.remove(id) else { return false };
        self.bytes -= served.cost;
        true
    }

    /// Whose time is over, and how each of them is to be answered.
    pub fn due(&mut self, now: Time) -> Vec<(u64, Outcome)> {
        let mut late = Vec::new();
        for id in self.open.late(now) {
            let is_begun = self.open.get_mut(id).is_some_and(|served| served.arriving.is_none());
            let begun = Outcome::Failed(Failure::TimedOut);
            late.push((id, if is_begun { begun } else { Outcome::Refused(Refusal::TimedOut) }));
            self.answered(id);
        }
        late
    }

    /// When [`due`](Self::due) wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.open.look()
    }

    /// What they take of the window, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Requests that are not yet answered.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn call_if_whole(&mut self, id: u64) -> Taken {
        let Some(served) = self.open.get_mut(id) else { return Taken::Nothing };
        let deadline = served.deadline;
        match served.arriving.take_if(|(.., arriving)| arriving.is_whole()) {
            Some((service, depth, arriving)) => {
                served.due = deadline;
                self.open.hear(deadline);
                Taken::Whole(Call { id, service, depth, deadline, payload: arriving.into_bytes() })
            }
            None => Taken::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{Bytes, Failure};
    use super::*;

    const WINDOW: Window = Window { requests: 4, bytes: 10_000, payload: 6000 };

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    fn request(id: u64, length: u32, first: usize) -> Request {
        let service = "echo".parse().unwrap();
        Request { id, service, remaining_ms: 5000, depth: 0, length, payload: Bytes(vec![9; first]) }
    }

    fn piece(id: u64, length: usize) -> Piece {
        Piece { id, payload: Bytes(vec![9; length]) }
    }

    fn is_whole(taken: &Result<Taken, Reason>) -> bool {
        matches!(taken, Ok(Taken::Whole(_)))
    }

    #[test]
    fn a_request_is_a_call_when_it_is_whole_and_open_until_it_is_answered() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(60));
        assert_eq!(serving.request(request(1, 5, 2), at(1), true), Ok(Taken::Nothing));
        assert!(is_whole(&serving.request(request(2, 3, 3), at(1), true)), "pieces take turns");
        let Ok(Taken::Whole(call)) = serving.piece(&piece(1, 3)) else { panic!("it is whole") };
        assert_eq!((call.id, call.deadline, call.payload.len()), (1, at(6), 5));
        assert!(serving.answered(1) && !serving.answered(1) && serving.answered(2));
        assert!(serving.is_empty() && serving.deadline().is_none());
    }

    #[test]
    fn an_id_is_used_once() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(60));
        assert!(is_whole(&serving.request(request(5, 0, 0), at(1), true)));
        serving.answered(5);
        for old in [5, 4] {
            assert_eq!(serving.request(request(old, 0, 0), at(1), true), Err(Reason::Unexpected));
        }
        assert!(is_whole(&serving.request(request(6, 0, 0), at(1), true)));
        assert_eq!(serving.piece(&piece(6, 1)), Err(Reason::Malformed), "it was whole");
        assert_eq!(serving.piece(&piece(7, 1)), Err(Reason::Unexpected), "it has not begun");
    }

    #[test]
    fn each_bound_refuses_by_its_name() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(60));
        let refused = |taken: Result<Taken, Reason>| match taken {
            Ok(Taken::Refused(_, refusal)) => Some(refusal),
            _ => None,
        };
        assert_eq!(refused(serving.request(request(1, 6001, 1), at(1), true)), Some(Refusal::TooLarge));
        assert_eq!(serving.piece(&piece(1, 1)), Ok(Taken::Nothing), "what was under way is left out");
        let deep = Request { depth: MAX_DEPTH + 1, ..request(2, 0, 0) };
        assert_eq!(refused(serving.request(deep, at(1), true)), Some(Refusal::TooDeep));
        let late = Request { remaining_ms: 0, ..request(3, 0, 0) };
        assert_eq!(refused(serving.request(late, at(1), true)), Some(Refusal::TimedOut));
        assert_eq!(serving.request(request(4, 6000, 1), at(1), true), Ok(Taken::Nothing));
        assert_eq!(refused(serving.request(request(5, 4000, 1), at(1), true)), Some(Refusal::Overloaded));
        for id in 6..9 {
            assert!(is_whole(&serving.request(request(id, 0, 0), at(1), true)));
        }
        assert_eq!(refused(serving.request(request(9, 0, 0), at(1), true)), Some(Refusal::Overloaded));
        serving.answered(6);
        assert!(is_whole(&serving.request(request(10, 0, 0), at(1), true)));
    }

    #[test]
    fn what_is_not_answered_in_time_is_answered_so() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(60));
        assert_eq!(serving.request(request(1, 5, 2), at(1), true), Ok(Taken::Nothing));
        assert!(is_whole(&serving.request(request(2, 0, 0), at(2), true)));
        assert_eq!(serving.due(at(5)), []);
        assert_eq!(serving.due(at(6)), [(1, Outcome::Refused(Refusal::TimedOut))]);
        assert_eq!(serving.piece(&piece(1, 3)), Ok(Taken::Nothing));
        assert_eq!(serving.due(at(7)), [(2, Outcome::Failed(Failure::TimedOut))]);
        assert!(!serving.answered(2) && serving.is_empty() && serving.bytes == 0);
    }

    #[test]
    fn what_is_long_under_way_is_not_waited_for() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(2));
        assert_eq!(serving.request(request(1, 5, 2), at(1), true), Ok(Taken::Nothing));
        assert_eq!(serving.request(request(2, 5, 2), at(1), true), Ok(Taken::Nothing));
        assert!(is_whole(&serving.piece(&piece(2, 3))));
        assert_eq!(serving.due(at(3)), [(1, Outcome::Refused(Refusal::TimedOut))]);
        assert_eq!(serving.deadline(), Some(at(6)), "what has come has its own time");
    }

    #[test]
    fn without_room_in_the_node_nothing_is_begun() {
        let mut serving = Serving::new(WINDOW, Duration::from_secs(2));
        let refused = serving.request(request(1, 5, 2), at(1), false);
        assert_eq!(refused, Ok(Taken::Refused(1, Refusal::Overloaded)));
        assert!(serving.is_empty() && serving.bytes() == 0);
    }

    proptest! {
        /// Whatever a tail sends: each request has one answer, and no more is held than the window says.
        #[test]
        fn each_request_is_answered_once(said in prop::collection::vec((0u64..30, 0u32..9000, 0usize..9000, 0u8..6), 0..200)) {
            let mut serving = Serving::new(WINDOW, Duration::from_secs(60));
            let (mut open, mut answers) = (std::collections::BTreeSet::new(), std::collections::BTreeMap::<u64, u32>::new());
            for (id, length, count, what) in said {
                match what {
                    0..=2 => match serving.request(request(id, length, count), at(length.into()), true) {
                        Ok(Taken::Refused(id, _)) => *answers.entry(id).or_default() += 1,
                        Ok(_) => _ = open.insert(id),
                        Err(_) => {}
                    },
                    3 => _ = serving.piece(&piece(id, count)),
                    4 => serving.due(at(length.into())).iter().for_each(|(id, _)| *answers.entry(*id).or_default() += 1),
                    _ => if serving.answered(id) { *answers.entry(id).or_default() += 1 },
                }
                prop_assert!(serving.len() <= WINDOW.requests && serving.bytes <= WINDOW.bytes);
                prop_assert!(serving.deadline().is_some() || serving.is_empty());
                let held: usize = serving.open.values().map(|served| served.cost).sum();
                prop_assert_eq!(held, serving.bytes);
            }
            serving.due(at(100_000)).iter().for_each(|(id, _)| *answers.entry(*id).or_default() += 1);
            prop_assert!(serving.is_empty() && answers.values().all(|times| *times == 1));
            prop_assert!(open.iter().all(|id| answers.contains_key(id)));
        }
    }
}
