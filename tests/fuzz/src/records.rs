//! The sealed stream after a handshake: what comes out of it is what the remote sealed, from the first message on and
//! without a gap, until the first byte that somebody in between has changed, added, left out or repeated; then it ends.

use kithd::protocol::codec::{FrameSplitter, Frames, HEADER, MAX_FRAME, PREAMBLE, Preamble, encode_frame, messages};
use kithd::protocol::message::Purpose;
use kithd::protocol::reason::Reason;
use kithd::secure::handshake::{Answer, Head, Secured, Tail};
use kithd::secure::recent::Recent;
use kithd::secure::session::{Opening, TAG};

use super::bytes::Bytes;
use super::hands::{Hands, NOW, changed, hands};
use super::made::Maker;

/// More than any way to mix them up needs.
const MOST_RECORDS: usize = 12;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    hands(|hands| {
        let (mut tail, mut head) = session(hands, &mut bytes);
        let mut maker = Maker::default();
        let (mut said, mut sealed) = (Vec::new(), Vec::new());
        for _ in 0..bytes.below(MOST_RECORDS) {
            let plaintext: Vec<u8> =
                (0..bytes.below(4)).flat_map(|_| encode_frame(&maker.tail_message(&mut bytes))).collect();
            let mut record = Vec::new();
            tail.sealing.seal(&plaintext, &mut record);
            assert_eq!(record.len(), plaintext.len() + HEADER + TAG);
            said.push(plaintext);
            sealed.push(record);
        }
        // What the head itself has sealed, sent back to it.
        let mut echo = Vec::new();
        head.sealing.seal(said.first().map_or(&[], |first| first), &mut echo);
        let (stream, whole) = between(&sealed, &echo, &mut bytes);
        let mut heard = Heard { opening: head.opening, plaintexts: Vec::new() };
        let end = feed(&mut heard, &stream, &mut bytes);
        assert!(said.starts_with(&heard.plaintexts), "what nobody said is heard");
        // All that came before the first change is heard.
        assert_eq!(heard.plaintexts.len(), whole, "{end:?}");
        // The halves are apart: an echo opens at its author's remote only.
        assert!(tail.opening.open(&echo[HEADER..], &mut Vec::new()).is_ok());
    });
}

/// A true handshake.
fn session(hands: &Hands, bytes: &mut Bytes<'_>) -> (Secured, Secured) {
    let cipher = bytes.pick(&hands.ciphers());
    let (tail, one) = Tail::begin(&hands.theirs, &hands.key, cipher, Purpose::Ring).expect("randomness");
    let (keys, preamble) = (std::slice::from_ref(&hands.key), Preamble::of(cipher as u8, Purpose::Ring));
    let answer = Head::first(preamble, &one[PREAMBLE + HEADER..], &hands.mine, keys, &Recent::new(4), NOW);
    let Ok(Answer::Continue(head, two)) = answer else { panic!("an honest tail is answered") };
    let (three, tail) = tail.finish(&two[HEADER..], NOW).expect("an honest head");
    (tail, head.third(&three[HEADER..], &hands.mine, NOW).expect("an honest tail"))
}

/// What arrives of these records, and how many of the first are whole.
fn between(sealed: &[Vec<u8>], echo: &[u8], bytes: &mut Bytes<'_>) -> (Vec<u8>, usize) {
    let mut order: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
    if !order.is_empty() {
        let (at, other) = (bytes.below(order.len()), bytes.below(order.len()));
        match bytes.below(6) {
            0 => drop(order.remove(at)),
            1 => order.insert(at, order[other]),
            2 => order.swap(at, other),
            3 => order.insert(at, echo),
            _ => {}
        }
    }
    let mut stream = order.concat();
    if bytes.chance(2) && !stream.is_empty() {
        stream = changed(stream, bytes).0;
    }
    let genuine = sealed.concat();
    let same = stream.iter().zip(&genuine).take_while(|(one, other)| one == other).count();
    let ends = sealed.iter().scan(0, |end, record| {
        *end += record.len();
        Some(*end)
    });
    let whole = ends.take_while(|end| *end <= same).count();
    (stream, whole)
}

/// The receiving half, as a peer has it.
struct Heard {
    opening: Opening,
    plaintexts: Vec<Vec<u8>>,
}

impl Frames for Heard {
    fn limit(&self) -> usize {
        MAX_FRAME + TAG
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        panic!("none is expected")
    }

    fn frame(&mut self, record: &[u8]) -> Result<(), Reason> {
        let mut plaintext = Vec::new();
        self.opening.open(record, &mut plaintext)?;
        // The remote sealed whole messages; a record without any is refused.
        assert_eq!(messages(&plaintext, |_| Ok(())).is_ok(), !plaintext.is_empty());
        self.plaintexts.push(plaintext);
        Ok(())
    }
}

/// In pieces, until something is wrong.
fn feed(heard: &mut Heard, stream: &[u8], bytes: &mut Bytes<'_>) -> Result<(), Reason> {
    let mut splitter = FrameSplitter::new();
    let cut = 1 + usize::from(bytes.byte());
    stream.chunks(cut).try_for_each(|piece| splitter.split(piece, heard))
}
