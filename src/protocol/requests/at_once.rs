//! The messages of applications, read without the general decoder: it asks each field what it is, which takes four times as
//! long as to know, and on a busy node nearly all messages are these.
//!
//! ```text
//!   request:   9  │ id (8) │ length (8) name │ remaining (4) │ depth (1) │ length (4) │ length (8) payload
//!   response:  8  │ id (8) │ outcome (4)     │ length (4) │ length (8) payload           of an answer that is one
//!   piece:  10, 9 │ id (8) │ length (8) payload
//! ```
//!
//! All numbers are little endian, the kind of a message takes four bytes. Whatever is not exactly this is none here: the
//! general decoder then says what it is. A test holds both to the same.

use super::message::{Bytes, Outcome, PIECE, Piece, Request, Response};
use super::service::ServiceName;
use crate::protocol::message::{HeadMessage, TailMessage};

/// The kinds, by the order of the messages.
const REQUEST: u32 = 9;
const TAIL_PIECE: u32 = 10;
const RESPONSE: u32 = 8;
const HEAD_PIECE: u32 = 9;
const DONE: u32 = 0;

/// What a tail says.
pub(in crate::protocol) fn of_tail(mut encoded: &[u8]) -> Option<TailMessage> {
    match number(&mut encoded)? {
        REQUEST => request(encoded).map(TailMessage::Request),
        TAIL_PIECE => piece(encoded).map(TailMessage::Piece),
        _ => None,
    }
}

/// What a head says.
pub(in crate::protocol) fn of_head(mut encoded: &[u8]) -> Option<HeadMessage> {
    match number(&mut encoded)? {
        RESPONSE => response(encoded).map(HeadMessage::Response),
        HEAD_PIECE => piece(encoded).map(HeadMessage::Piece),
        _ => None,
    }
}

fn request(mut rest: &[u8]) -> Option<Request> {
    let id = long(&mut rest)?;
    let length = usize::try_from(long(&mut rest)?).ok()?;
    let (name, mut rest) = rest.split_at_checked(length)?;
    let service = ServiceName::from_bytes(name)?;
    let remaining_ms = number(&mut rest)?;
    let [depth] = take(&mut rest)?;
    let length = number(&mut rest)?;
    Some(Request { id, service, remaining_ms, depth, length, payload: payload(rest)? })
}

fn response(mut rest: &[u8]) -> Option<Response> {
    let id = long(&mut rest)?;
    let outcome = (number(&mut rest)? == DONE).then_some(Outcome::Done)?;
    let length = number(&mut rest)?;
    Some(Response { id, outcome, length, payload: payload(rest)? })
}

fn piece(mut rest: &[u8]) -> Option<Piece> {
    Some(Piece { id: long(&mut rest)?, payload: payload(rest)? })
}

/// The last field: all that is left.
fn payload(mut rest: &[u8]) -> Option<Bytes> {
    let length = long(&mut rest)?;
    (length == rest.len() as u64 && rest.len() <= PIECE).then(|| Bytes(rest.to_vec()))
}

#[inline]
fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

#[inline]
fn long(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

#[inline]
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{Failure, Refusal};
    use super::*;
    use crate::protocol::codec::{Message, decode_frame, encode, encode_frame};

    fn any_load() -> impl Strategy<Value = (TailMessage, HeadMessage)> {
        let payload = prop_oneof![prop::collection::vec(any::<u8>(), 0..40), Just(vec![7; PIECE])];
        let outcomes = [Outcome::Done, Outcome::Refused(Refusal::TooLarge), Outcome::Failed(Failure::Exit(3))];
        let numbers = (any::<u64>(), any::<u32>(), any::<u8>(), any::<u32>());
        (numbers, "[A-Za-z0-9._-]{1,63}", payload, prop::sample::select(outcomes.to_vec()), any::<bool>()).prop_map(
            |((id, remaining_ms, depth, length), name, payload, outcome, is_piece)| {
                let (service, payload) = (name.parse().unwrap(), Bytes(payload));
                if is_piece {
                    let piece = Piece { id, payload };
                    return (TailMessage::Piece(piece.clone()), HeadMessage::Piece(piece));
                }
                let request = Request { id, service, remaining_ms, depth, length, payload: payload.clone() };
                (TailMessage::Request(request), HeadMessage::Response(Response { id, outcome, length, payload }))
            },
        )
    }

    /// What the general decoder makes of it.
    fn general<M: Message>(encoded: &[u8]) -> Option<M> {
        crate::protocol::codec::decode(encoded).ok()
    }

    proptest! {
        #[test]
        fn what_is_read_at_once_is_what_was_said((tail, head) in any_load()) {
            prop_assert_eq!(of_tail(&encode(&tail)), Some(tail.clone()));
            let is_one = !matches!(&head, HeadMessage::Response(response) if response.outcome != Outcome::Done);
            prop_assert_eq!(of_head(&encode(&head)), is_one.then(|| head.clone()));
            prop_assert_eq!(decode_frame(&encode_frame(&tail)[4..]), Ok(tail));
            prop_assert_eq!(decode_frame(&encode_frame(&head)[4..]), Ok(head));
        }

        #[test]
        fn of_damaged_bytes_it_makes_nothing_that_the_general_decoder_would_not(
            (tail, head) in any_load(),
            damage in prop::collection::vec((0usize..80, any::<u8>()), 0..3),
            cut in 0usize..20,
            more in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            for encoded in [encode(&tail), encode(&head)] {
                let mut encoded = encoded;
                for (at, byte) in &damage {
                    let length = encoded.len();
                    encoded[at % length] = *byte;
                }
                encoded.truncate(encoded.len().saturating_sub(cut));
                encoded.extend(&more);
                if let Some(tail) = of_tail(&encoded) {
                    prop_assert_eq!(general(&encoded), Some(tail));
                }
                if let Some(head) = of_head(&encoded) {
                    prop_assert_eq!(general(&encoded), Some(head));
                }
            }
        }
    }
}
