//! The frame splitter: the same frames and the same end whatever the cuts, and never more held than one frame. And the
//! messages in a record's plaintext, which are cut the same way.

use kithd::protocol::codec::{FrameSplitter, Frames, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, PREAMBLE, Preamble, messages};
use kithd::protocol::reason::Reason;

use super::bytes::Bytes;

/// What a stream was found to hold, up to its first fault.
#[derive(Default, PartialEq, Eq, Debug)]
struct Found {
    preamble: Option<[u8; PREAMBLE]>,
    frames: Vec<Vec<u8>>,
    /// After so many frames the remote counts as identified, and may send larger ones.
    strange: usize,
    /// Bytes that were handed on, headers included.
    taken: usize,
}

impl Frames for Found {
    fn limit(&self) -> usize {
        if self.frames.len() < self.strange { MAX_FRAME_BEFORE_HELLO } else { MAX_FRAME }
    }

    fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason> {
        assert!(self.preamble.is_none() && self.frames.is_empty(), "a preamble comes once, and first");
        self.preamble = Some(preamble);
        self.taken += PREAMBLE;
        assert_eq!(Preamble::from_bytes(preamble).to_bytes(), preamble);
        // What a foreign version is told, is said by the handshake.
        if Preamble::from_bytes(preamble).speaks(1) { Ok(()) } else { Err(Reason::VersionMismatch) }
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        assert!(!frame.is_empty() && frame.len() <= self.limit());
        self.frames.push(frame.to_vec());
        self.taken += 4 + frame.len();
        Ok(())
    }
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (with_preamble, strange) = (bytes.chance(2), bytes.below(4));
    let cuts = [bytes.byte(), bytes.byte(), bytes.byte()];
    let stream = bytes.rest();
    let expected = reference(stream, with_preamble, strange);
    for cuts in [[0; 3], [1; 3], cuts] {
        assert_eq!(split(stream, with_preamble, strange, cuts), expected, "cut by {cuts:?}");
    }
    // The plaintext of a record is never longer.
    let stream = &stream[..stream.len().min(MAX_FRAME)];
    let (found, end) = reference(stream, false, 0);
    let mut inside = Vec::new();
    let all = messages(stream, |message| {
        inside.push(message.to_vec());
        Ok(())
    });
    assert_eq!(inside, found.frames);
    let whole = end.is_ok() && found.taken == stream.len();
    assert_eq!(all.is_ok(), whole && !stream.is_empty(), "a record holds whole messages, and at least one");
}

/// Feeds the stream in pieces of these lengths, in turn; 0 stands for all the rest.
fn split(stream: &[u8], with_preamble: bool, strange: usize, cuts: [u8; 3]) -> (Found, Result<(), Reason>) {
    let mut splitter = if with_preamble { FrameSplitter::with_preamble() } else { FrameSplitter::new() };
    let mut found = Found { strange, ..Found::default() };
    let (mut rest, mut fed) = (stream, 0);
    for cut in cuts.into_iter().cycle() {
        let cut = if cut == 0 { rest.len() } else { rest.len().min(cut.into()) };
        let (piece, after) = rest.split_at(cut);
        (rest, fed) = (after, fed + cut);
        if let Err(reason) = splitter.split(piece, &mut found) {
            return (found, Err(reason));
        }
        let held = fed - found.taken;
        assert!(held < found.limit() + 4, "{held} bytes are held");
        assert_eq!(splitter.is_partial(), held > 0);
        if rest.is_empty() {
            break;
        }
    }
    (found, Ok(()))
}

/// The same by the shortest way to say it, for a stream that is there as a whole.
fn reference(stream: &[u8], with_preamble: bool, strange: usize) -> (Found, Result<(), Reason>) {
    let mut found = Found { strange, ..Found::default() };
    let mut rest = stream;
    if with_preamble {
        if rest.iter().zip(b"kith").any(|(one, other)| one != other) {
            return (found, Err(Reason::NotKithd));
        }
        let Some((preamble, after)) = rest.split_first_chunk() else { return (found, Ok(())) };
        rest = after;
        if let Err(reason) = found.preamble(*preamble) {
            return (found, Err(reason));
        }
    }
    while let Some((header, after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        if length == 0 || length > found.limit() {
            return (found, Err(Reason::FrameTooLarge));
        }
        let Some((frame, after)) = after.split_at_checked(length) else { break };
        // The reference's own call: it refuses nothing.
        let _ = found.frame(frame);
        rest = after;
    }
    (found, Ok(()))
}
