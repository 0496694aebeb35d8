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

use std::cell::Cell;
use std::collections::VecDeque;

use crate::protocol::codec::{MAX_FRAME, Message, PASSING, encode_with_payload};
use crate::protocol::heartbeat::Side;
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::reason::Reason;
use crate::protocol::requests::message::{Bytes, PIECE, Piece};
use crate::secure::session::Sealing;

/// What a queued frame costs beside its bytes (its place in the queue, the allocator's share): a bound on the bytes
/// alone would let tiny frames take six times the memory.
pub(super) const FRAME_COST: usize = 48;
/// Room for a request or two, or for a heartbeat and a little news.
const SMALL: usize = 512;
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

    /// The next piece as a message, into a record with so much room; how much of it that was, and whether it was the last.
    fn cut(&mut self, room: usize, record: &mut Vec<u8>) -> (usize, bool) {
        let most = PIECE.min(room.saturating_sub(MAX_FRAME - PIECE));
        let end = self.bytes.len().min(self.at + most);
        grow(record, room);
        let (piece, payload) = (Piece { id: self.id, payload: Bytes::default() }, &self.bytes[self.at..end]);
        match self.side {
            Side::Tail => encode_with_payload(&TailMessage::Piece(piece), payload, record),
            Side::Head => encode_with_payload(&HeadMessage::Piece(piece), payload, record),
        }
        let cut = end - self.at;
        self.at = end;
        (cut, end == self.bytes.len())
    }
}

/// What has gone into a record.
#[derive(Debug)]
pub(super) struct Popped {
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
    /// The messages, one behind the other: hundreds of small ones wait in one piece of memory.
    bytes: Vec<u8>,
    /// Of those, what has gone.
    gone: usize,
    loads: VecDeque<Load>,
    cost: usize,
    /// How long `bytes` were when they went last.
    last: usize,
}

#[derive(Debug)]
enum Load {
    /// A message of so many bytes.
    Message(usize),
    /// The first message of the load of this number.
    First(u64, usize),
    Body(Box<Body>),
}

impl Lane {
    /// What a message of so many bytes, the last there, is to its bound.
    fn add(&mut self, load: Load, length: usize) {
        self.cost += length + FRAME_COST;
        self.loads.push_back(load);
    }

    /// The first messages that fit there together; how many bytes, and what they are to the bound.
    fn take_messages(&mut self, room: usize, record: &mut Vec<u8>) -> Option<usize> {
        let (mut length, mut count) = (0, 0);
        for load in &self.loads {
            match load {
                Load::Message(more) | Load::First(_, more) if length + more <= room => length += more,
                _ => break,
            }
            count += 1;
        }
        if count == 0 {
            return None;
        }
        self.loads.drain(..count);
        self.take(length, record);
        Some(length + count * FRAME_COST)
    }

    fn take(&mut self, length: usize, record: &mut Vec<u8>) {
        if record.is_empty() && length == self.bytes.len() {
            // As it lies there: that is what a record is. The empty one goes instead.
            self.last = length;
            *record = std::mem::take(&mut self.bytes);
            return;
        }
        grow(record, length);
        let end = self.gone + length;
        record.extend_from_slice(&self.bytes[self.gone..end]);
        self.gone = end;
        if self.gone == self.bytes.len() {
            self.last = self.gone;
            // Not kept: most connections are idle, and of many that are not each would have its buffer out of the processor's
            // cache when its turn comes, while the allocator hands out what was in use a moment ago.
            give_back(std::mem::take(&mut self.bytes));
            self.gone = 0;
        } else if self.gone > MAX_FRAME && self.gone > self.bytes.len() / 2 {
            // Others come before it is empty: what has gone gives its place to them.
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
    }
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

    pub(super) fn push(&mut self, class: Class, frame: &[u8]) {
        let lane = &mut self.lanes[class as usize];
        if lane.bytes.capacity() == 0 {
            lane.bytes.reserve_exact(frame.len());
        }
        lane.bytes.extend_from_slice(frame);
        lane.add(Load::Message(frame.len()), frame.len());
    }

    /// The first message of a load, with its payload, at the end of its lane: how long it is. It waits for nothing yet.
    pub(super) fn write_first(&mut self, message: &impl Message, payload: &[u8]) -> usize {
        let Lane { bytes, last, .. } = &mut self.lanes[Class::Bulk as usize];
        if bytes.capacity() == 0 {
            // What is asked alone is asked alone again, and what is one of many, one of many: that much is worth a guess.
            grow(bytes, (*last).min(2 * PASSING));
        }
        let before = bytes.len();
        encode_with_payload(message, payload, bytes);
        bytes.len() - before
    }

    /// There is no room for the first message that was written last.
    pub(super) fn unwrite(&mut self, length: usize) {
        let bytes = &mut self.lanes[Class::Bulk as usize].bytes;
        bytes.truncate(bytes.len() - length);
        if bytes.is_empty() {
            *bytes = Vec::new();
        }
    }

    /// There is, and what follows has it too.
    pub(super) fn push_load(&mut self, id: u64, length: usize, body: Option<Body>) {
        let lane = &mut self.lanes[Class::Bulk as usize];
        lane.add(Load::First(id, length), length);
        lane.cost += body.as_ref().map_or(0, Body::cost);
        lane.loads.extend(body.map(|body| Load::Body(Box::new(body))));
    }

    /// Appends to a record what comes next and fits: messages of one class, or a piece of a body. No message is larger than a
    /// whole record.
    pub(super) fn pop(&mut self, room: usize, record: &mut Vec<u8>) -> Option<Popped> {
        let class = self.lanes.iter().position(|lane| !lane.loads.is_empty())?;
        let lane = &mut self.lanes[class];
        let cost = match lane.loads.front_mut()? {
            Load::Message(_) | Load::First(..) => lane.take_messages(room, record)?,
            Load::Body(body) if room >= LEAST_PIECE => {
                let (cut, is_last) = body.cut(room, record);
                match lane.loads.pop_front() {
                    Some(body) if !is_last => lane.loads.push_back(body),
                    _ => {}
                }
                cut + if is_last { FRAME_COST } else { 0 }
            }
            Load::Body(_) => return None,
        };
        if lane.loads.is_empty() && class != Class::Bulk as usize {
            // Not kept either: heartbeats and news are rare, what applications ask comes again and again.
            lane.loads = VecDeque::new();
        }
        lane.cost -= cost;
        Some(Popped { cost, is_bulk: class == Class::Bulk as usize })
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

thread_local! {
    /// What this thread asks for next, as a rule a moment after it was given back: a request is written into one buffer and
    /// sealed into another, and so is the next. Of an idle thread they take as much as its share of the allocator would.
    static SPARE: [Cell<Vec<u8>>; 2] = const { [Cell::new(Vec::new()), Cell::new(Vec::new())] };
}

/// Makes room for so many bytes more: a small buffer's, or so much that the allocator keeps nothing of it ([`PASSING`]) when
/// it is given back.
pub(super) fn grow(buffer: &mut Vec<u8>, more: usize) {
    let needed = buffer.len() + more;
    if needed <= buffer.capacity() {
        return;
    }
    if needed > SMALL {
        buffer.reserve_exact(needed.next_power_of_two().max(2 * PASSING) - buffer.len());
        return;
    }
    if buffer.capacity() == 0
        && let Some(spare) = spare()
    {
        *buffer = spare;
        return;
    }
    buffer.reserve_exact(SMALL - buffer.len());
}

/// Of a thread that ends there is none.
fn spare() -> Option<Vec<u8>> {
    SPARE.try_with(|spares| spares.iter().map(Cell::take).find(|spare| spare.capacity() > 0)).ok()?
}

/// A buffer that is not needed any more.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() != SMALL {
        return;
    }
    buffer.clear();
    let _ = SPARE.try_with(|spares| {
        for spare in spares {
            buffer = spare.replace(std::mem::take(&mut buffer));
            if buffer.capacity() == 0 {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::{decode_frame, encode_frame};
    use crate::protocol::requests::message::{Outcome, Response};

    fn lengths(queues: &mut Queues, room: usize) -> Option<usize> {
        let mut record = Vec::new();
        queues.pop(room, &mut record).map(|_| record.len())
    }

    fn response(id: u64, payload: Vec<u8>) -> HeadMessage {
        HeadMessage::Response(Response { id, outcome: Outcome::Done, length: 10, payload: Bytes(payload) })
    }

    /// A load whose first message has so many bytes of payload.
    fn push_load(queues: &mut Queues, id: u64, first: usize, body: Option<Body>) {
        let length = queues.write_first(&response(id, Vec::new()), &vec![7; first]);
        queues.push_load(id, length, body);
    }

    #[test]
    fn a_payload_that_is_written_in_place_is_on_the_wire_as_any_other() {
        let (mut queues, mut record) = (Queues::default(), Vec::new());
        push_load(&mut queues, 1, 10, Some(Body::new(Side::Tail, 1, vec![9; 30], 10)));
        while queues.pop(MAX_FRAME, &mut record).is_some() {}
        let piece = TailMessage::Piece(Piece { id: 1, payload: Bytes(vec![9; 20]) });
        assert_eq!(record, [encode_frame(&response(1, vec![7; 10])), encode_frame(&piece)].concat());
    }

    #[test]
    fn a_batch_takes_control_first_then_what_fits() {
        let mut queues = Queues::default();
        for (class, length) in [(Class::Bulk, MAX_FRAME), (Class::News, 10), (Class::Control, 7)] {
            queues.push(class, &vec![0; length]);
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
        push_load(&mut queues, 1, 10, Some(body(1, 3 * PIECE + 10)));
        push_load(&mut queues, 2, 10, Some(body(2, PIECE + 11)));
        push_load(&mut queues, 3, 10, None);
        let (mut order, mut cost, mut firsts, mut record) = (Vec::new(), 0, 0, Vec::new());
        while let Some(popped) = queues.pop(MAX_FRAME, &mut record) {
            assert!(popped.is_bulk && record.len() <= MAX_FRAME);
            cost += popped.cost;
            order.push(match decode_frame(&record[4..]) {
                Ok(HeadMessage::Piece(Piece { id, payload })) => (id, payload.0.len()),
                Ok(HeadMessage::Response(response)) => {
                    firsts += record.len();
                    (response.id, 0)
                }
                other => panic!("{other:?}"),
            });
            record.clear();
        }
        assert_eq!(order, [(1, 0), (1, PIECE), (2, 0), (2, PIECE), (3, 0), (1, PIECE), (2, 1), (1, PIECE)]);
        assert_eq!(cost, firsts + 5 * FRAME_COST + 4 * PIECE + 1);
        assert_eq!(queues.cost(Class::Bulk), 0);
    }

    #[test]
    fn what_waits_takes_no_more_room_for_what_has_gone() {
        let mut queues = Queues::default();
        let mut record = Vec::new();
        queues.push(Class::News, &[1; 1000]);
        for number in 0..1000u32 {
            queues.push(Class::News, &[number as u8; 1000]);
            record.clear();
            assert!(queues.pop(1000, &mut record).is_some());
            assert!(number == 0 || record == [(number - 1) as u8; 1000], "in order");
        }
        assert!(queues.lanes[1].bytes.capacity() <= 4 * MAX_FRAME, "it never was empty");
        queues.pop(MAX_FRAME, &mut record);
        assert_eq!(queues.lanes[1].bytes.capacity(), 0);
    }

    #[test]
    fn a_record_takes_as_many_messages_as_fit_and_what_is_whole_as_it_lies_there() {
        let mut queues = Queues::default();
        for number in 0..5 {
            queues.push(Class::News, &[number; 10]);
        }
        let mut record = Vec::new();
        let popped = queues.pop(29, &mut record).map(|popped| popped.cost);
        assert_eq!((popped, &*record), (Some(2 * (10 + FRAME_COST)), &*[[0; 10], [1; 10]].concat()));
        queues.push(Class::Control, &[9; 5]);
        record.clear();
        while queues.pop(MAX_FRAME - record.len(), &mut record).is_some() {}
        assert_eq!(record, [&[9; 5][..], &[2; 10], &[3; 10], &[4; 10]].concat(), "of two classes");
        queues.push(Class::News, &[7; 10]);
        queues.push(Class::News, &[8; 10]);
        let (whole, mut record) = (queues.lanes[1].bytes.as_ptr(), Vec::new());
        queues.pop(20, &mut record);
        assert_eq!((record.as_ptr(), &*record), (whole, &*[[7; 10], [8; 10]].concat()));
        assert!(queues.lanes.iter().all(|lane| lane.cost == 0 && lane.gone == 0 && lane.bytes.is_empty()));
    }

    #[test]
    fn a_small_buffer_that_was_given_back_is_the_next_and_a_large_one_is_not_kept() {
        let wanted = |more: usize| {
            let mut buffer = Vec::new();
            grow(&mut buffer, more);
            buffer
        };
        let mut buffers = [wanted(1), wanted(SMALL), wanted(2)];
        let places = buffers.each_ref().map(|buffer| (buffer.as_ptr(), buffer.capacity()));
        assert!(places.iter().all(|(_, room)| *room == SMALL));
        buffers[0].extend_from_slice(b"what was sent");
        // Two are kept, and the third is not.
        buffers.into_iter().for_each(give_back);
        let again = [wanted(SMALL), wanted(1)];
        assert!(again.iter().all(|buffer| buffer.is_empty() && places.contains(&(buffer.as_ptr(), buffer.capacity()))));
        assert_ne!(again[0].as_ptr(), again[1].as_ptr());
        give_back(wanted(SMALL + 1));
        give_back(Vec::new());
        assert!(spare().is_none());
        let mut half = vec![1; 10];
        grow(&mut half, 10);
        assert_eq!((&*half, half.capacity()), (&[1; 10][..], SMALL));
    }

    #[test]
    fn what_has_not_left_is_known_also_after_the_end() {
        let mut queues = Queues::default();
        for id in 1..=3 {
            push_load(&mut queues, id, 10, None);
        }
        let refused = queues.write_first(&response(4, Vec::new()), b"12345678");
        queues.unwrite(refused);
        let first = queues.lanes[Class::Bulk as usize].bytes.len() / 3;
        queues.pop(first, &mut Vec::new());
        assert_eq!(queues.unsent(), [2, 3]);
        queues.give_up(Reason::Reset);
        assert_eq!((queues.unsent(), queues.cost(Class::Bulk)), (vec![2, 3], 0));
        assert!(queues.pop(MAX_FRAME, &mut Vec::new()).is_none());
    }
}
