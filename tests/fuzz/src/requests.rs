//! Both halves of requests. An honest pair under any timing: everybody who asks is told exactly once, what he is told is what
//! was answered, and at the end nothing is open. And each half alone against a remote that makes its messages up: it holds no
//! more than its window, and answers, or is told, no more than once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kithd::protocol::reason::Reason;
use kithd::protocol::requests::asking::{Asking, Heard};
use kithd::protocol::requests::message::{
    Bytes as Payload, Failure, MAX_DEPTH, Outcome, PIECE, Piece, Refusal, Request, Response,
};
use kithd::protocol::requests::serving::{Call, Serving, Taken};
use kithd::protocol::requests::{COST, Window};
use kithd::protocol::time::Time;

use super::bytes::Bytes;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut trial = Trial::new(&mut bytes);
    while !bytes.is_empty() {
        if trial.step(&mut bytes).is_err() {
            // The connection is closed for it.
            break;
        }
        trial.check();
    }
    trial.end();
}

/// Who makes his messages up.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Evil {
    Nobody,
    Tail,
    Head,
}

/// One direction of a connection: first messages in their order, and bodies whose pieces take turns.
struct Wire<M> {
    firsts: VecDeque<(M, VecDeque<Piece>)>,
    bodies: Vec<VecDeque<Piece>>,
}

enum Next<M> {
    First(M),
    Piece(Piece),
}

struct Trial {
    evil: Evil,
    now: Time,
    windows: [Window; 2],
    asking: Asking<u64>,
    serving: Serving,
    /// The next caller's number.
    callers: u64,
    /// Callers who have not been told, and whose request each is.
    waiting: BTreeSet<u64>,
    numbers: BTreeMap<u64, u64>,
    to_head: Wire<Request>,
    to_tail: Wire<Response>,
    /// What handlers have.
    begun: Vec<Call>,
    answered: BTreeMap<u64, (Outcome, usize)>,
}

impl Trial {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let evil = bytes.pick(&[Evil::Nobody, Evil::Nobody, Evil::Tail, Evil::Head]);
        let mut window = || Window {
            requests: bytes.pick(&[1, 4, 64]),
            bytes: bytes.pick(&[1, 10_000, 4 * PIECE]),
            payload: bytes.pick(&[0, 100, PIECE, 3 * PIECE]),
        };
        let windows = [window(), window()];
        let patience = Duration::from_millis(u64::from(bytes.byte()) * 100);
        Self {
            evil,
            now: Time(1_000_000),
            windows,
            asking: Asking::new(windows[0]),
            serving: Serving::new(windows[1], patience),
            callers: 0,
            waiting: BTreeSet::new(),
            numbers: BTreeMap::new(),
            to_head: Wire::new(),
            to_tail: Wire::new(),
            begun: Vec::new(),
            answered: BTreeMap::new(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        match (bytes.below(16), self.evil) {
            (0..=3, _) => self.ask(bytes),
            (4..=6, Evil::Nobody) => return self.reach_head(bytes),
            (4..=6, Evil::Tail) => return self.bother_head(bytes),
            (7..=8, _) => self.serve(bytes),
            (9..=11, Evil::Nobody) => return self.reach_tail(bytes),
            (9..=11, Evil::Head) => return self.bother_tail(bytes),
            (12, _) => {
                let id = bytes.number();
                if let Some(caller) = self.asking.give_up(id) {
                    self.tell(caller);
                }
            }
            (13, _) => return self.advance(bytes),
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self, bytes: &mut Bytes<'_>) {
        let length = length(bytes);
        let caller = self.callers;
        self.callers += 1;
        let patience = Duration::from_millis(u64::from(bytes.byte()) * 50);
        let Ok(id) = self.asking.ask(caller, length, self.now + patience) else { return };
        assert!(self.numbers.insert(id, caller).is_none(), "{id} was given twice");
        if bytes.chance(16) {
            // It could not be sent.
            assert_eq!(self.asking.take_back(id), Some(caller));
            return;
        }
        self.waiting.insert(caller);
        let request = Request {
            id,
            service: "echo".parse().expect("a name"),
            remaining_ms: u32::try_from(patience.as_millis()).expect("seconds"),
            depth: bytes.pick(&[0, 0, MAX_DEPTH, MAX_DEPTH + 1]),
            length: u32::try_from(length).expect("some KiB"),
            payload: Payload(payload(id, length.min(PIECE))),
        };
        self.to_head.firsts.push_back((request, pieces(id, length)));
    }

    /// What an honest tail has sent is no breach, whatever became of it meanwhile.
    fn reach_head(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        let Some(next) = self.to_head.next(bytes) else { return Ok(()) };
        let taken = match next {
            Next::First(request) => self.serving.request(request, self.now, !bytes.chance(8)),
            Next::Piece(piece) => self.serving.piece(&piece),
        };
        self.take(taken.expect("the tail is honest"));
        Ok(())
    }

    fn bother_head(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        let taken = if bytes.chance(2) {
            self.serving.piece(&made_piece(bytes))
        } else {
            let request = Request {
                id: bytes.number(),
                service: "echo".parse().expect("a name"),
                remaining_ms: bytes.pick(&[0, 1, 1000, u32::MAX]),
                depth: bytes.byte(),
                length: bytes.pick(&[0, 1, 100, 20_000, u32::MAX]),
                payload: Payload(vec![7; length(bytes).min(PIECE)]),
            };
            self.serving.request(request, self.now, !bytes.chance(8))
        };
        self.take(taken?);
        Ok(())
    }

    fn take(&mut self, taken: Taken) {
        match taken {
            Taken::Nothing => {}
            Taken::Refused(id, refusal) => self.respond(id, Outcome::Refused(refusal), 0),
            Taken::Whole(call) => {
                assert!(call.payload.len() <= self.windows[1].payload && call.depth <= MAX_DEPTH);
                if self.evil == Evil::Nobody {
                    assert!(call.payload == payload(call.id, call.payload.len()), "{} came as something else", call.id);
                }
                assert!(!self.answered.contains_key(&call.id), "{} is begun after its answer", call.id);
                assert!(self.begun.iter().all(|other| other.id != call.id), "{} is begun twice", call.id);
                self.begun.push(call);
            }
        }
    }

    /// A handler has its answer; it may be late.
    fn serve(&mut self, bytes: &mut Bytes<'_>) {
        if self.begun.is_empty() {
            return;
        }
        let call = self.begun.swap_remove(bytes.below(self.begun.len().min(256)));
        let outcome =
            bytes.pick(&[Outcome::Done, Outcome::Failed(Failure::Service), Outcome::Failed(Failure::Panicked)]);
        let length = length(bytes);
        if self.serving.answered(call.id) {
            self.respond(call.id, outcome, length);
        }
    }

    fn respond(&mut self, id: u64, outcome: Outcome, length: usize) {
        assert!(self.answered.insert(id, (outcome, length)).is_none(), "{id} is answered twice");
        if self.evil != Evil::Nobody {
            return;
        }
        let first = Payload(payload(id, length.min(PIECE)));
        let response = Response { id, outcome, length: u32::try_from(length).expect("some KiB"), payload: first };
        self.to_tail.firsts.push_back((response, pieces(id, length)));
    }

    /// What an honest head has sent is no breach either.
    fn reach_tail(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        let Some(next) = self.to_tail.next(bytes) else { return Ok(()) };
        let heard = match next {
            Next::First(response) => self.asking.response(response),
            Next::Piece(piece) => self.asking.piece(&piece),
        };
        match heard.expect("the head is honest") {
            Heard::Nothing => {}
            Heard::TooLarge(caller) => {
                let length = self.answered[&self.id_of(caller)].1;
                assert!(length > self.windows[0].payload);
                self.tell(caller);
            }
            Heard::Answered(caller, outcome, said) => {
                let id = self.id_of(caller);
                assert_eq!((outcome, said.len()), self.answered[&id]);
                assert!(said == payload(id, said.len()), "{id} is answered with something else");
                self.tell(caller);
            }
        }
        Ok(())
    }

    fn bother_tail(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        let heard = if bytes.chance(2) {
            self.asking.piece(&made_piece(bytes))?
        } else {
            self.asking.response(Response {
                id: bytes.number(),
                outcome: bytes.pick(&[Outcome::Done, Outcome::Refused(Refusal::Leaving)]),
                length: bytes.pick(&[0, 1, 100, 20_000, u32::MAX]),
                payload: Payload(vec![7; length(bytes).min(PIECE)]),
            })?
        };
        match heard {
            Heard::Nothing => {}
            Heard::TooLarge(caller) => self.tell(caller),
            Heard::Answered(caller, _, said) => {
                assert!(said.len() <= self.windows[0].payload);
                self.tell(caller);
            }
        }
        Ok(())
    }

    /// To the next deadline of either, or a little or a lot later.
    fn advance(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Reason> {
        self.now = match bytes.below(4) {
            0 => self.asking.deadline().unwrap_or(self.now).max(self.now),
            1 => self.serving.deadline().unwrap_or(self.now).max(self.now),
            2 => self.now + Duration::from_secs(u64::from(bytes.byte())),
            _ => self.now + Duration::from_millis(u64::from(bytes.byte())),
        };
        for (id, outcome) in self.serving.due(self.now) {
            self.respond(id, outcome, 0);
        }
        assert!(self.serving.deadline().is_none_or(|next| next > self.now), "it wants to be called for ever");
        for (_, caller) in self.asking.due(self.now)? {
            self.tell(caller);
        }
        Ok(())
    }

    fn check(&self) {
        let [tail, head] = self.windows;
        assert!(self.asking.len() <= tail.requests && self.waiting.len() <= self.asking.len());
        assert!(self.serving.len() <= head.requests);
        assert!(self.serving.bytes() <= head.bytes.max(head.payload + COST), "{} bytes", self.serving.bytes());
        assert_eq!(self.asking.deadline().is_none(), self.asking.is_empty());
        assert_eq!(self.serving.deadline().is_none(), self.serving.is_empty());
        assert_eq!(self.serving.bytes() == 0, self.serving.is_empty());
    }

    /// Everything arrives and is answered; or the connection is over. Nobody is left who has not been told.
    fn end(mut self) {
        let zeros = &mut Bytes::new(&[]);
        if self.evil == Evil::Nobody {
            while !self.to_head.is_empty() {
                let _ = self.reach_head(zeros);
            }
            while !self.begun.is_empty() {
                self.serve(zeros);
            }
            while !self.to_tail.is_empty() {
                let _ = self.reach_tail(zeros);
            }
            assert!(self.asking.is_empty() && self.serving.is_empty() && self.waiting.is_empty());
        }
        for (_, caller) in self.asking.end() {
            self.tell(caller);
        }
        assert!(self.waiting.is_empty() && self.asking.is_empty() && self.asking.deadline().is_none());
    }

    fn tell(&mut self, caller: u64) {
        assert!(self.waiting.remove(&caller), "{caller} is told and waits for nothing");
    }

    fn id_of(&self, caller: u64) -> u64 {
        *self.numbers.iter().find(|(_, other)| **other == caller).expect("he has asked").0
    }
}

impl<M> Wire<M> {
    fn new() -> Self {
        Self { firsts: VecDeque::new(), bodies: Vec::new() }
    }

    fn next(&mut self, bytes: &mut Bytes<'_>) -> Option<Next<M>> {
        if !self.bodies.is_empty() && (self.firsts.is_empty() || bytes.chance(2)) {
            let at = bytes.below(self.bodies.len().min(256));
            let piece = self.bodies[at].pop_front();
            if self.bodies[at].is_empty() {
                self.bodies.swap_remove(at);
            }
            return piece.map(Next::Piece);
        }
        let (first, body) = self.firsts.pop_front()?;
        if !body.is_empty() {
            self.bodies.push(body);
        }
        Some(Next::First(first))
    }

    fn is_empty(&self) -> bool {
        self.firsts.is_empty() && self.bodies.is_empty()
    }
}

/// Around what fits one message.
fn length(bytes: &mut Bytes<'_>) -> usize {
    match bytes.below(8) {
        0 => PIECE,
        1 => PIECE + 1,
        2 => 2 * PIECE + 7,
        3 => 3 * PIECE + 1,
        _ => usize::from(bytes.byte()),
    }
}

/// No two requests have the same.
fn payload(id: u64, length: usize) -> Vec<u8> {
    vec![id.to_le_bytes()[0]; length]
}

/// What follows the first message.
fn pieces(id: u64, length: usize) -> VecDeque<Piece> {
    let whole = payload(id, length.saturating_sub(PIECE));
    whole.chunks(PIECE).map(|some| Piece { id, payload: Payload(some.to_vec()) }).collect()
}

fn made_piece(bytes: &mut Bytes<'_>) -> Piece {
    Piece { id: bytes.number(), payload: Payload(vec![7; length(bytes).min(PIECE)]) }
}
