//! The length-delimited codec: bytes into frames, frames into messages, and back. `bincode` is named only here.
//!
//! ```text
//!  stream of the tail:   "kith" min max cipher purpose │ frame │ frame │ ...      (8 bytes of preamble, once)
//!  stream of the head:                                   frame │ frame │ ...
//!  frame:                length (4, big endian) │ a handshake message, or a sealed record     see secure/
//!  record's plaintext:   message │ message │ ...
//!  message:              length (4, big endian) │ direction (1) │ bincode (length - 1)
//! ```
//!
//! A frame's buffer grows with what arrived, never with what was claimed. Integers are fixed-width, trailing bytes are
//! refused, sequences carry their own bounds (`list.rs`), so that one message has one encoding and no message costs
//! more memory than its bytes.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{HeadMessage, Purpose, TailMessage, VERSION};
use super::reason::Reason;
use super::requests::at_once;

/// The largest frame after identification, in bytes: a heartbeat waits behind one of these, never behind more.
pub const MAX_FRAME: usize = 16 * 1024;
/// The largest frame before it: a `Hello` with the largest record fits, and a stranger costs no more.
pub const MAX_FRAME_BEFORE_HELLO: usize = 1024;
/// The longest message, its direction byte included: with its length it fills a record of its own.
pub const LONGEST_MESSAGE: usize = MAX_FRAME - HEADER;
/// Bytes of the preamble.
pub const PREAMBLE: usize = 8;

/// Room for a buffer that lives for a moment and holds about a record. More than needed, and more than 1 KiB: of what is
/// smaller and was given back, glibc keeps seven of each size for each thread, and a node has a thread for each peer.
pub const PASSING: usize = 1088;

/// Bytes of a frame's length.
pub const HEADER: usize = 4;
/// Room for all that a message with a payload has beside it: 105 bytes of a request to the service with the longest name.
const FIELDS: usize = 128;
const MAGIC: [u8; 4] = *b"kith";

/// Takes what the splitter finds.
pub trait Frames {
    /// The most bytes the next frame may have.
    fn limit(&self) -> usize;
    /// The tail's preamble, once, before the first frame.
    fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason>;
    /// One whole frame, without its length.
    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason>;
}

/// Cuts a stream of bytes, however it was split on the way, into the same frames.
#[derive(Debug, Default)]
pub struct FrameSplitter {
    held: Vec<u8>,
    expects_preamble: bool,
}

impl FrameSplitter {
    /// For a stream of frames: what a head sends.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a stream that begins with a preamble: what a tail sends.
    pub fn with_preamble() -> Self {
        Self { held: Vec::new(), expects_preamble: true }
    }

    /// True in the midst of a frame.
    pub fn is_partial(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands on all that is whole after these bytes, and holds the rest.
    ///
    /// # Errors
    /// [`Reason::FrameTooLarge`] for a length of zero or above the limit, [`Reason::NotKithd`] for a foreign preamble, and
    /// whatever `frames` refuses. After an error the stream is of no more use.
    pub fn split(&mut self, mut bytes: &[u8], frames: &mut (impl Frames + ?Sized)) -> Result<(), Reason> {
        if self.expects_preamble {
            self.fill(&mut bytes, PREAMBLE);
            let seen = self.held.len().min(MAGIC.len());
            if self.held[..seen] != MAGIC[..seen] {
                return Err(Reason::NotKithd);
            }
            let Ok(preamble) = <[u8; PREAMBLE]>::try_from(self.held.as_slice()) else { return Ok(()) };
            self.held.clear();
            self.expects_preamble = false;
            frames.preamble(preamble)?;
        }
        loop {
            if self.held.is_empty() {
                // The usual case: whole frames lie in the read buffer and are not copied.
                let Some((length, rest)) = header(bytes, frames.limit())? else { break };
                let Some((frame, rest)) = rest.split_at_checked(length) else { break };
                bytes = rest;
                frames.frame(frame)?;
                continue;
            }
            self.fill(&mut bytes, HEADER);
            let Some((length, _)) = header(&self.held, frames.limit())? else { break };
            self.fill(&mut bytes, HEADER + length);
            if self.held.len() < HEADER + length {
                break;
            }
            frames.frame(&self.held[HEADER..])?;
            self.held.clear();
        }
        self.held.extend_from_slice(bytes);
        if self.held.is_empty() {
            // Most frames come whole, and most connections are idle: between frames none keeps any room.
            self.held = Vec::new();
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut &[u8], wanted: usize) {
        let lacking = wanted.saturating_sub(self.held.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(lacking);
        self.held.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// The frame's length and what follows it, once its four bytes are there.
fn header(bytes: &[u8], limit: usize) -> Result<Option<(usize, &[u8])>, Reason> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    match u32::from_be_bytes(*header) as usize {
        length if length == 0 || length > limit => Err(Reason::FrameTooLarge),
        length => Ok(Some((length, rest))),
    }
}

/// What the first byte of a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A request.
    FromTail = 1,
    /// An answer.
    FromHead = 2,
}

/// A message of either direction that can be put in a frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Which way it goes.
    const DIRECTION: Direction;
    /// True if 128 bytes hold it: half of all messages are heartbeats.
    fn is_short(&self) -> bool;
    /// The message, if it is one of those that a busy node decodes all the time; what is not exactly that is left to the
    /// ordinary decoder, which knows all others, and what is wrong.
    fn at_once(encoded: &[u8]) -> Option<Self>;
}

impl Message for TailMessage {
    const DIRECTION: Direction = Direction::FromTail;

    fn is_short(&self) -> bool {
        !matches!(self, Self::Hello { .. } | Self::Push(_) | Self::Sync { .. })
    }

    fn at_once(encoded: &[u8]) -> Option<Self> {
        at_once::of_tail(encoded)
    }
}

impl Message for HeadMessage {
    const DIRECTION: Direction = Direction::FromHead;

    fn is_short(&self) -> bool {
        matches!(self, Self::Heartbeat { .. } | Self::Goodbye(_))
    }

    fn at_once(encoded: &[u8]) -> Option<Self> {
        at_once::of_head(encoded)
    }
}

/// A message as one frame, its length included.
pub fn encode_frame<M: Message>(message: &M) -> Vec<u8> {
    let mut frame = Vec::with_capacity(if message.is_short() { 128 } else { PASSING });
    frame.extend([0; HEADER]);
    frame.push(M::DIRECTION as u8);
    // Writing to a Vec cannot fail, and no type on the wire has a sequence of unknown length.
    let _ = options().serialize_into(&mut frame, message);
    let length = (frame.len() - HEADER) as u32;
    frame[..HEADER].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Appends a message as one frame whose last field is a payload: the message's own is empty, and this one is written in its
/// place, so that it is copied once on its way.
pub fn encode_with_payload<M: Message>(message: &M, payload: &[u8], bytes: &mut Vec<u8>) {
    // In a place of their own: a vector would be asked for room at each of its fields.
    let mut fields = [0; FIELDS];
    fields[HEADER] = M::DIRECTION as u8;
    let mut room = &mut fields[HEADER + 1..];
    let written = options().serialize_into(&mut room, message);
    // No message with a payload has more beside it, see the test in `requests/message.rs`.
    debug_assert!(written.is_ok(), "its fields are more than {FIELDS} bytes");
    let end = FIELDS - room.len();
    let length = size_of::<u64>();
    // An empty sequence at the end is its length, eight zeros.
    debug_assert_eq!(fields[end - length..end], [0; size_of::<u64>()], "a payload is the last field");
    fields[end - length..end].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    let whole = (end - HEADER + payload.len()) as u32;
    fields[..HEADER].copy_from_slice(&whole.to_be_bytes());
    bytes.extend_from_slice(&fields[..end]);
    bytes.extend_from_slice(payload);
}

/// The message of a frame (without its length).
///
/// # Errors
/// [`Reason::WrongDirection`] for a frame of the other direction, [`Reason::Malformed`] for anything that is no message.
pub fn decode_frame<M: Message>(frame: &[u8]) -> Result<M, Reason> {
    let (direction, body) = frame.split_first().ok_or(Reason::Malformed)?;
    if *direction != M::DIRECTION as u8 {
        let known = [Direction::FromTail, Direction::FromHead].iter().any(|known| *known as u8 == *direction);
        return Err(if known { Reason::WrongDirection } else { Reason::Malformed });
    }
    M::at_once(body).map_or_else(|| decode(body), Ok)
}

/// The message that these bytes are, of whatever kind.
pub(super) fn decode<M: Message>(body: &[u8]) -> Result<M, Reason> {
    options().with_limit(MAX_FRAME as u64).deserialize(body).map_err(|_| Reason::Malformed)
}

/// The one encoding of a value: for signatures, hashes and sizes.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // As above: cannot fail for the types of this protocol.
    options().serialize(value).unwrap_or_default()
}

/// Appends the one encoding of a value.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    // As above: cannot fail for the types of this protocol.
    let _ = options().serialize_into(bytes, value);
}

/// How many bytes a value has on the wire.
pub fn encoded_len<T: Serialize + ?Sized>(value: &T) -> usize {
    // As above: cannot fail for the types of this protocol.
    options().serialized_size(value).map_or(usize::MAX, |size| size as usize)
}

/// Hands on each message that the plaintext of a record holds, direction byte first.
///
/// # Errors
/// [`Reason::Malformed`] unless it is whole messages from the first byte to the last, and at least one: a record without
/// any says nothing, and keeping a connection busy with it would not count as life. Or whatever `message` refuses.
pub fn messages(mut plaintext: &[u8], mut message: impl FnMut(&[u8]) -> Result<(), Reason>) -> Result<(), Reason> {
    loop {
        let (length, rest) = header(plaintext, LONGEST_MESSAGE).ok().flatten().ok_or(Reason::Malformed)?;
        let (one, rest) = rest.split_at_checked(length).ok_or(Reason::Malformed)?;
        plaintext = rest;
        message(one)?;
        if plaintext.is_empty() {
            return Ok(());
        }
    }
}

/// Bytes as one frame.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

/// The eight bytes a tail sends before everything else, in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preamble {
    /// The lowest and the highest version of the protocol that the tail speaks.
    pub versions: (u8, u8),
    /// The number of the cipher it has chosen.
    pub cipher: u8,
    /// What the connection is for: a hint for the head's limits, repeated in `Hello`, where it counts.
    pub purpose: u8,
}

impl Preamble {
    /// Of this version of the protocol.
    pub fn of(cipher: u8, purpose: Purpose) -> Self {
        Self { versions: (VERSION, VERSION), cipher, purpose: purpose as u8 }
    }

    /// As they travel.
    pub fn to_bytes(self) -> [u8; PREAMBLE] {
        let [k, i, t, h] = MAGIC;
        [k, i, t, h, self.versions.0, self.versions.1, self.cipher, self.purpose]
    }

    /// From bytes whose magic the splitter has checked.
    pub fn from_bytes([_, _, _, _, lowest, highest, cipher, purpose]: [u8; PREAMBLE]) -> Self {
        Self { versions: (lowest, highest), cipher, purpose }
    }

    /// Whether the tail speaks this version.
    pub fn speaks(&self, version: u8) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::hash::HalfHash;
    use crate::protocol::list::List;
    use crate::protocol::message::Statement;

    struct Collected {
        frames: Vec<Vec<u8>>,
        preambles: usize,
        limit: usize,
    }

    impl Frames for Collected {
        fn limit(&self) -> usize {
            self.limit
        }
        fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason> {
            self.preambles += 1;
            assert_eq!(Preamble::from_bytes(preamble).to_bytes(), preamble);
            Ok(())
        }
        fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
            self.frames.push(frame.to_vec());
            Ok(())
        }
    }

    fn collected() -> Collected {
        Collected { frames: Vec::new(), preambles: 0, limit: MAX_FRAME }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    fn heartbeat() -> TailMessage {
        let statement = Statement { digest: HalfHash([7; 16]), ages: List::new() };
        TailMessage::Heartbeat { seq: 3, statement, echo: Some(2) }
    }

    proptest! {
        #[test]
        fn the_split_of_the_stream_does_not_matter(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..12),
            cuts in prop::collection::vec(1usize..64, 1..400),
            preamble in any::<bool>(),
        ) {
            let mut stream = if preamble { Preamble::of(1, Purpose::Ring).to_bytes().to_vec() } else { Vec::new() };
            stream.extend(bodies.iter().flat_map(|body| framed(body)));
            let mut splitter = if preamble { FrameSplitter::with_preamble() } else { FrameSplitter::new() };
            let mut found = collected();
            let (mut rest, mut cut) = (stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                splitter.split(piece, &mut found).unwrap();
                rest = after;
            }
            prop_assert_eq!(found.frames, bodies);
            prop_assert_eq!(found.preambles, usize::from(preamble));
            prop_assert!(!splitter.is_partial());
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_decodes_has_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for mut splitter in [FrameSplitter::new(), FrameSplitter::with_preamble()] {
                let _ = splitter.split(&bytes, &mut collected());
            }
            for direction in [1, 2] {
                let mut frame = vec![direction];
                frame.extend_from_slice(&bytes);
                if let Ok(message) = decode_frame::<TailMessage>(&frame) {
                    prop_assert_eq!(&encode_frame(&message)[4..], &frame);
                }
                if let Ok(message) = decode_frame::<HeadMessage>(&frame) {
                    prop_assert_eq!(&encode_frame(&message)[4..], &frame);
                }
            }
        }

        #[test]
        fn damage_never_panics(at in 0usize..60, flip in 1u8..=255, cut in 0usize..60) {
            let mut frame = encode_frame(&heartbeat())[4..].to_vec();
            let at = at % frame.len();
            frame[at] ^= flip;
            frame.truncate(frame.len() - cut % frame.len());
            let _ = decode_frame::<TailMessage>(&frame);
        }
    }

    #[test]
    fn every_single_cut_of_a_frame_decodes_the_same() {
        let stream = encode_frame(&heartbeat());
        for cut in 0..=stream.len() {
            let (mut splitter, mut found) = (FrameSplitter::new(), collected());
            splitter.split(&stream[..cut], &mut found).unwrap();
            splitter.split(&stream[cut..], &mut found).unwrap();
            assert_eq!(decode_frame::<TailMessage>(&found.frames[0]), Ok(heartbeat()));
        }
    }

    #[test]
    fn lengths_of_zero_and_above_the_limit_are_refused_without_allocating() {
        for length in [0, MAX_FRAME as u32 + 1, 1 << 30, u32::MAX] {
            let mut splitter = FrameSplitter::new();
            let refused = splitter.split(&length.to_be_bytes(), &mut collected());
            assert_eq!(refused, Err(Reason::FrameTooLarge), "{length}");
            // Also when the header itself arrives in pieces.
            let mut splitter = FrameSplitter::new();
            splitter.split(&length.to_be_bytes()[..2], &mut collected()).unwrap();
            assert_eq!(splitter.split(&length.to_be_bytes()[2..], &mut collected()), Err(Reason::FrameTooLarge));
            assert!(splitter.held.capacity() <= 64, "{}", splitter.held.capacity());
        }
        let (mut splitter, mut found) = (FrameSplitter::new(), collected());
        splitter.split(&framed(&vec![1; MAX_FRAME]), &mut found).unwrap();
        assert_eq!(found.frames[0].len(), MAX_FRAME);
    }

    #[test]
    fn a_claimed_length_is_not_allocated_before_its_bytes_arrive() {
        let mut splitter = FrameSplitter::new();
        splitter.split(&(MAX_FRAME as u32).to_be_bytes(), &mut collected()).unwrap();
        assert!(splitter.held.capacity() <= 64);
        assert!(splitter.is_partial());
    }

    #[test]
    fn a_length_bomb_costs_an_error() {
        // Differences whose list claims 2^30 buckets.
        let mut frame = vec![Direction::FromHead as u8, 5, 0, 0, 0];
        frame.extend_from_slice(&(1u64 << 30).to_le_bytes());
        frame.extend_from_slice(&[0; 16]);
        assert_eq!(decode_frame::<HeadMessage>(&frame), Err(Reason::Malformed));
    }

    #[test]
    fn trailing_bytes_other_directions_and_unknown_tags_are_refused() {
        let mut frame = encode_frame(&heartbeat())[4..].to_vec();
        assert_eq!(decode_frame::<HeadMessage>(&frame), Err(Reason::WrongDirection));
        frame.push(0);
        assert_eq!(decode_frame::<TailMessage>(&frame), Err(Reason::Malformed));
        assert_eq!(decode_frame::<TailMessage>(&[1, 99, 0, 0, 0]), Err(Reason::Malformed));
        assert_eq!(decode_frame::<TailMessage>(&[9, 3, 0, 0, 0]), Err(Reason::Malformed));
        assert_eq!(decode_frame::<TailMessage>(&[]), Err(Reason::Malformed));
    }

    #[test]
    fn foreign_protocols_are_known_by_their_first_bytes() {
        for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0x16, 3, 1, 2, 0, 1], b"kitx"] {
            let refused = FrameSplitter::with_preamble().split(greeting, &mut collected());
            assert_eq!(refused, Err(Reason::NotKithd), "{greeting:?}");
        }
        let other = Preamble::from_bytes(*b"kith\x02\x09\x01\x00");
        assert!(other.speaks(2) && other.speaks(9) && !other.speaks(VERSION));
    }
}
