//! What a simulated process takes off a connection: frames, cut and decoded by the daemon's own codec.

use crate::protocol::codec::{Frames, PREAMBLE, decode_frame, encode_frame, frame};
use crate::protocol::heartbeat::Side;
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::reason::Reason;

/// Begins a message of the stand-in handshake, where others have their direction.
pub(super) const HANDSHAKE: u8 = 0;

/// What a frame turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Handshake(Vec<u8>),
    Request(TailMessage),
    Answer(HeadMessage),
    Nonsense(Reason),
}

impl Said {
    /// The frame that it was, or would be.
    pub(super) fn frame(&self) -> Vec<u8> {
        match self {
            Self::Handshake(said) => frame(&[&[HANDSHAKE], said.as_slice()].concat()),
            Self::Request(message) => encode_frame(message),
            Self::Answer(message) => encode_frame(message),
            Self::Nonsense(_) => Vec::new(),
        }
    }
}

/// Decodes frames as they are cut.
pub(super) struct Sieve {
    pub(super) limit: usize,
    pub(super) side: Side,
    pub(super) said: Vec<Said>,
}

impl Frames for Sieve {
    fn limit(&self) -> usize {
        self.limit
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        let said = match (frame.split_first(), self.side) {
            (Some((&HANDSHAKE, said)), _) => Ok(Said::Handshake(said.to_vec())),
            (_, Side::Tail) => decode_frame(frame).map(Said::Answer),
            (_, Side::Head) => decode_frame(frame).map(Said::Request),
        };
        self.said.push(said.unwrap_or_else(Said::Nonsense));
        Ok(())
    }
}
