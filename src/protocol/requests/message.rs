//! What requests are made of on the wire.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::service::ServiceName;
use crate::protocol::codec::LONGEST_MESSAGE;

/// Bytes of a payload in one message: what is left of the longest one beside the largest request's other fields, 98 bytes.
pub const PIECE: usize = LONGEST_MESSAGE - 128;
/// The longest chain: a node that asks another while it serves a request goes one step deeper. Two nodes that ask each other
/// in a circle find out before they have used up each other's workers.
pub const MAX_DEPTH: u8 = 4;

/// The first message of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Rises on each connection.
    pub id: u64,
    /// Who is to answer.
    pub service: ServiceName,
    /// How long the tail waits, in milliseconds.
    pub remaining_ms: u32,
    /// How many requests this one is an effect of: 0 for a user's own.
    pub depth: u8,
    /// The whole payload's length, in bytes.
    pub length: u32,
    /// Its beginning, or all of it.
    pub payload: Bytes,
}

/// What follows of a payload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Of which request, or of the answer to which.
    pub id: u64,
    /// The next bytes.
    pub payload: Bytes,
}

/// The first message of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Response {
    /// Which request it answers.
    pub id: u64,
    /// How it went.
    pub outcome: Outcome,
    /// The whole payload's length, in bytes.
    pub length: u32,
    /// Its beginning, or all of it.
    pub payload: Bytes,
}

/// How a request went, as the head says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The service has answered.
    Done,
    /// It was not carried out, and nothing has happened.
    Refused(Refusal),
    /// It was begun, and failed.
    Failed(Failure),
}

/// Why a head does not even begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No service of that name.
    UnknownService,
    /// The service is not for this caller.
    NotAllowed,
    /// A bound of the head is reached: too many requests, bytes or waiting calls.
    Overloaded,
    /// The payload is longer than the head takes.
    TooLarge,
    /// It came too late, or its turn did.
    TimedOut,
    /// The chain of requests is too long: they go in a circle.
    TooDeep,
    /// The head is about to end.
    Leaving,
}

/// How a request that was begun came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The service says so itself; what it says is the payload.
    Service,
    /// Its program ended with this status; what it had printed is the payload.
    Exit(u8),
    /// Its program was ended by this signal.
    Signal(u8),
    /// Its program could not be started.
    NotStarted,
    /// The handler panicked.
    Panicked,
    /// It did not end in time; what runs on a thread runs on, a program was ended.
    TimedOut,
    /// It had more to say than it may.
    TooLarge,
    /// The program that served it is gone.
    Gone,
    /// Its answer found no room: the tail takes its answers more slowly than it asks.
    Unsent,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::UnknownService,
        Self::NotAllowed,
        Self::Overloaded,
        Self::TooLarge,
        Self::TimedOut,
        Self::TooDeep,
        Self::Leaving,
    ];
}

impl fmt::Display for Refusal {
    /// As it is counted and told to scripts, in kebab case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("the service says so"),
            Self::Exit(status) => write!(f, "its program ended with status {status}"),
            Self::Signal(signal) => write!(f, "its program was ended by signal {signal}"),
            Self::NotStarted => f.write_str("its program could not be started: see the log there"),
            Self::Panicked => f.write_str("its handler panicked: see the log there"),
            Self::TimedOut => f.write_str("it did not end in time"),
            Self::TooLarge => f.write_str("it had more to say than it may"),
            Self::Gone => f.write_str("the program that served it is gone"),
            Self::Unsent => f.write_str("its answer found no room there: ask less at once, or take answers sooner"),
        }
    }
}

/// Bytes of an application. In a message at most [`PIECE`] of them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Taken)
    }
}

struct Taken;

impl Visitor<'_> for Taken {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {PIECE} bytes")
    }

    /// The bytes are there when this is called: a length that was only claimed has failed before.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        if bytes.len() > PIECE {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Bytes(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::encode;

    #[test]
    fn the_largest_of_each_fits_a_frame_of_its_own() {
        let payload = Bytes(vec![7; PIECE]);
        let service: ServiceName = "s".repeat(ServiceName::MAX).parse().unwrap();
        let request = Request { id: 1, service, remaining_ms: 5, depth: 0, length: u32::MAX, payload: payload.clone() };
        let outcome = Outcome::Failed(Failure::Exit(1));
        let response = Response { id: 1, outcome, length: u32::MAX, payload };
        // A message has a byte for its direction and four for its kind.
        let room = LONGEST_MESSAGE - 5;
        assert!(encode(&request).len() <= room, "{} of {room}", encode(&request).len());
        assert!(encode(&response).len() <= room);
    }
}
