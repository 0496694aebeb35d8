//! What waits in a sink: a lane for each class of messages, and what goes next.
//!
//! ```text
//!   control   beat, goodbye          whole, in order
//!   news      push, watch, …         whole, in order
//!   bulk      first │ body ◀─┐       first messages whole; of a body a piece is cut off, and it stands last again
//!                      └─────┘
//! ```
//!
//! So large bodies take turns, and a small request behind eight large ones waits for eight pieces, not for eight bodies. A
//! first message is always sent before any piece of its body.

use std::collections::VecDeque;

use crate::protocol::codec::{MAX_FRAME, encode_frame};
use crate::protocol::heartbeat::Side;
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::reason::Reason;
use crate::protocol::requests::message::{Bytes, PIECE, Piece};
use crate::secure::session::Sealing;

/// What a queued frame costs beside its bytes (its place in the queue, the allocator's share): a bound on the bytes
/// alone would let tiny frames take six times the memory.
pub(super) const FRAME_COST: usize = 48;
/// Of a record's room, what is too little for a piece of a body: its message's frame is 25 bytes, and a piece should be more
/// than that.
const LEAST_PIECE: usize = 512;

/// Which frames go first; in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Small and urgent: heartbeats, goodbyes.
    Control,
    /// What discovery says; bounded by itself, below what an application may have waiting.
    News,
    /// What may be large and can wait: what applications send, answers to a census.
    Bulk,
}

impl Class {
    /// Of what a tail says. A farewell goes behind the news that the node leaves, which it must not overtake: whoever reads
    /// it reads no further, and would miss a node that has taken its leave.
    pub fn of_request(message: &TailMessage) -> Self {
        match message {
            TailMessage::Push(_) | TailMessage::Sync { .. } | TailMessage::Goodbye(Reason::Leaving) => Self::News,
            TailMessage::Request(_) | TailMessage::Piece(_) => Self::Bulk,
            _ => Self::Control,
        }
    }

    /// Of what a head says; the same holds for its farewell. A proof of a large network is more than discovery may have
    /// waiting, and can wait.
    pub fn of_answer(message: &HeadMessage) -> Self {
        match message {
            HeadMessage::Goodbye(Reason::Leaving) => Self::News,
            HeadMessage::Welcome { .. } | HeadMessage::Goodbye(_) => Self::Control,
            HeadMessage::Census { .. } | HeadMessage::Response(_) | HeadMessage::Piece(_) => Self::Bulk,
            _ => Self::News,
        }
    }
}

/// What is left of a payload whose first message is full.
#[derive(Debug)]
pub struct Body {
    side: Side,
    id: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl Body {
    /// Of the request or answer of this id, the bytes from there on; this end is the tail, or the head.
    pub fn new(side: Side, id: u64, bytes: Vec<u8>, at: usize) -> Self {
        Self { side, id, bytes, at }
    }

    /// What it takes of a bound, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() - self.at + FRAME_COST
    }

    /// The next piece as a message, for a record with so much room; and whether it was the last.
    fn cut(&mut self, room: usize) -> (Vec<u8>, usize, bool) {
        let most = PIECE.min(room.saturating_sub(MAX_FRAME - PIECE));
        let end = self.bytes.len().min(self.at + most);
        let piece = Piece { id: self.id, payload: Bytes(self.bytes[self.at..end].to_vec()) };
        let cut = end - self.at;
        self.at = end;
        let message = match self.side {
            Side::Tail => encode_frame(&TailMessage::Piece(piece)),
            Side::Head => encode_frame(&HeadMessage::Piece(piece)),
        };
        (message, cut, end == self.bytes.len())
    }
}

/// A message that goes next.
#[derive(Debug)]
pub(super) struct Popped {
    pub(super) message: Vec<u8>,
    /// What its bound gets back.
    pub(super) cost: usize,
    pub(super) is_bulk: bool,
}

/// All that waits on one connection.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// By class, the most urgent first.
    lanes: [Lane; 3],
    pub(super) handshake: Vec<Vec<u8>>,
    /// On its way to the outlet.
    pub(super) sealing: Option<Sealing>,
    pub(super) is_secured: bool,
    pub(super) broken: Option<Reason>,
    /// Loads that were given up before they left.
    given_up: Vec<u64>,
}

/// What waits of one class, and what that costs in all.
#[derive(Debug, Default)]
struct Lane {
    loads: VecDeque<Load>,
    cost: usize,
}

#[derive(Debug)]
enum Load {
    Message(Vec<u8>),
    First(u64, Vec<u8>),
    Body(Body),
}

impl Queues {
    /// True if nothing here may leave before the handshake is over.
    pub(super) fn must_wait(&self) -> bool {
        !self.is_secured && self.handshake.is_empty()
    }

    /// What waits of this class.
    pub(super) fn cost(&self, class: Class) -> usize {
        self.lanes[class as usize].cost
    }

    pub(super) fn push(&mut self, class: Class, frame: Vec<u8>) {
        let lane = &mut self.lanes[class as usize];
        lane.cost += frame.len() + FRAME_COST;
        lane.loads.push_back(Load::Message(frame));
    }

    pub(super) fn push_load(&mut self, id: u64, first: Vec<u8>, body: Option<Body>) {
        let lane = &mut self.lanes[Class::Bulk as usize];
        lane.cost += first.len() + FRAME_COST + body.as_ref().map_or(0, Body::cost);
        lane.loads.push_back(Load::First(id, first));
        lane.loads.extend(body.map(Load::Body));
    }

    /// The next message, unless there is no room for it in its record. None is larger than a whole record.
    pub(super) fn pop(&mut self, room: usize) -> Option<Popped> {
        let class = self.lanes.iter().position(|lane| !lane.loads.is_empty())?;
        let lane = &mut self.lanes[class];
        let fits = match lane.loads.front()? {
            Load::Message(message) | Load::First(_, message) => message.len() <= room,
            Load::Body(_) => room >= LEAST_PIECE,
        };
        if !fits {
            return None;
        }
        let (message, cost) = match lane.loads.pop_front()? {
            Load::Message(message) | Load::First(_, message) => {
                let cost = message.len() + FRAME_COST;
                (message, cost)
            }
            Load::Body(mut body) => {
                let (message, cut, is_last) = body.cut(room);
                if !is_last {
                    lane.loads.push_back(Load::Body(body));
                }
                (message, cut + if is_last { FRAME_COST } else { 0 })
            }
        };
        lane.cost -= cost;
        Some(Popped { message, cost, is_bulk: class == Class::Bulk as usize })
    }

    /// Nothing of this leaves any more.
    pub(super) fn give_up(&mut self, reason: Reason) {
        let given_up = self.unsent();
        *self = Self { broken: Some(reason), given_up, ..Self::default() };
    }

    /// Loads that have not left.
    pub(super) fn unsent(&mut self) -> Vec<u64> {
        let waiting = self.lanes[Class::Bulk as usize].loads.iter().filter_map(|load| match load {
            Load::First(id, _) => Some(*id),
            Load::Message(_) | Load::Body(_) => None,
        });
        waiting.chain(self.given_up.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::decode_frame;

    fn lengths(queues: &mut Queues, room: usize) -> Option<usize> {
        queues.pop(room).map(|popped| popped.message.len())
    }

    #[test]
    fn a_batch_takes_control_first_then_what_fits() {
        let mut queues = Queues::default();
        for (class, length) in [(Class::Bulk, MAX_FRAME), (Class::News, 10), (Class::Control, 7)] {
            queues.push(class, vec![0; length]);
        }
        assert_eq!(lengths(&mut queues, 5), None, "bulk does not slip past control that does not fit");
        assert_eq!([lengths(&mut queues, MAX_FRAME), lengths(&mut queues, 10)], [Some(7), Some(10)]);
        assert_eq!(lengths(&mut queues, MAX_FRAME - 1), None);
        let largest = [lengths(&mut queues, MAX_FRAME), lengths(&mut queues, MAX_FRAME)];
        assert_eq!(largest, [Some(MAX_FRAME), None], "the largest has a record of its own");
        assert!(queues.lanes.iter().all(|lane| lane.cost == 0));
    }

    #[test]
    fn bodies_take_turns_and_what_is_urgent_goes_between() {
        let mut queues = Queues::default();
        let body = |id: u64, length: usize| Body::new(Side::Head, id, vec![id as u8; length], 10);
        queues.push_load(1, vec![1; 100], Some(body(1, 3 * PIECE + 10)));
        queues.push_load(2, vec![2; 100], Some(body(2, PIECE + 11)));
        queues.push_load(3, vec![3; 100], None);
        let (mut order, mut cost) = (Vec::new(), 0);
        while let Some(popped) = queues.pop(MAX_FRAME) {
            assert!(popped.is_bulk && popped.message.len() <= MAX_FRAME);
            cost += popped.cost;
            order.push(match decode_frame(&popped.message[4..]) {
                Ok(HeadMessage::Piece(Piece { id, payload })) => (id, payload.0.len()),
                _ => (u64::from(popped.message[0]), 0),
            });
        }
        assert_eq!(order, [(1, 0), (1, PIECE), (2, 0), (2, PIECE), (3, 0), (1, PIECE), (2, 1), (1, PIECE)]);
        assert_eq!(cost, 300 + 5 * FRAME_COST + 4 * PIECE + 1);
        assert_eq!(queues.cost(Class::Bulk), 0);
    }

    #[test]
    fn what_has_not_left_is_known_also_after_the_end() {
        let mut queues = Queues::default();
        for id in 1..=3 {
            queues.push_load(id, vec![0; 10], None);
        }
        queues.pop(MAX_FRAME);
        assert_eq!(queues.unsent(), [2, 3]);
        queues.give_up(Reason::Reset);
        assert_eq!((queues.unsent(), queues.cost(Class::Bulk)), (vec![2, 3], 0));
        assert!(queues.pop(MAX_FRAME).is_none());
    }
}
