//! The accepting half of the handshake against any tail: as with the dialling one, and whoever does not hold the network's
//! key, or only repeats what was said before, gets not one byte.

use std::slice;

use kithd::protocol::codec::{HEADER, Preamble};
use kithd::protocol::message::{Purpose, VERSION};
use kithd::protocol::reason::Reason;
use kithd::secure::handshake::{Answer, Head, Tail};
use kithd::secure::recent::Recent;

use super::bytes::Bytes;
use super::hands::{Hands, NOW, changed, evil, hands, proof};

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    hands(|hands| match bytes.below(8) {
        0 => stranger(hands, &mut bytes),
        1 => between_first(hands, &mut bytes),
        2 => between_third(hands, &mut bytes),
        3 => foreign(hands, &mut bytes),
        _ => member(hands, &mut bytes),
    });
}

/// Without the key: any preamble, any bytes.
fn stranger(hands: &Hands, bytes: &mut Bytes<'_>) {
    let mut preamble: [u8; 8] = bytes.array();
    preamble[6] %= 4;
    assert!(first(hands, Preamble::from_bytes(preamble), bytes.rest()).is_none(), "a stranger is answered");
}

/// In between, changing the preamble or the first message of an honest tail.
fn between_first(hands: &Hands, bytes: &mut Bytes<'_>) {
    let cipher = bytes.pick(&hands.ciphers());
    let (_, sent) = Tail::begin(&hands.theirs, &hands.key, cipher, Purpose::Ring).expect("randomness");
    let (sent, genuine) = changed([&sent[..8], &sent[8 + HEADER..]].concat(), bytes);
    // Another magic, or half a preamble, does not get past the splitter.
    let Some((preamble, one)) = sent.split_first_chunk::<8>().filter(|_| sent.starts_with(b"kith")) else { return };
    assert_eq!(first(hands, Preamble::from_bytes(*preamble), one).is_some(), genuine);
}

/// In between, changing the third message.
fn between_third(hands: &Hands, bytes: &mut Bytes<'_>) {
    let cipher = bytes.pick(&hands.ciphers());
    let (tail, sent) = Tail::begin(&hands.theirs, &hands.key, cipher, Purpose::Ring).expect("randomness");
    let preamble = Preamble::of(cipher as u8, Purpose::Ring);
    let (head, two) = first(hands, preamble, &sent[8 + HEADER..]).expect("an honest tail");
    let (three, _) = tail.finish(&two, NOW).expect("an honest head");
    let (three, genuine) = changed(three[HEADER..].to_vec(), bytes);
    let made = head.third(&three, &hands.mine, NOW);
    assert_eq!(made.is_ok(), genuine, "{made:?}");
}

/// With the key, of another version perhaps: told so, but never let in, if it does not speak this one.
fn foreign(hands: &Hands, bytes: &mut Bytes<'_>) {
    let mut preamble = Preamble::of(bytes.pick(&hands.ciphers()) as u8, Purpose::Ring);
    preamble.versions = (bytes.byte(), bytes.byte());
    preamble.purpose = bytes.byte();
    let (tail, sent) = Tail::begin_with(&hands.theirs, &hands.key, preamble, None).expect("randomness");
    let seen = Recent::new(4);
    match Head::first(preamble, &sent[8 + HEADER..], &hands.mine, slice::from_ref(&hands.key), &seen, NOW) {
        Ok(Answer::Continue(head, two)) => {
            assert!(preamble.speaks(VERSION));
            let (three, _) = tail.finish(&two[HEADER..], NOW).expect("an honest head");
            assert!(head.third(&three[HEADER..], &hands.mine, NOW).is_ok());
        }
        Ok(Answer::Refuse(two, reason)) => {
            assert!(!preamble.speaks(VERSION) && reason == Reason::VersionMismatch);
            assert_eq!(tail.finish(&two[HEADER..], NOW).err(), Some(Reason::VersionMismatch));
        }
        Err(reason) => panic!("whoever holds the key is answered: {reason:?}"),
    }
}

/// With the key, saying of itself what it likes.
fn member(hands: &Hands, bytes: &mut Bytes<'_>) {
    let cipher = bytes.pick(&hands.ciphers());
    let preamble = Preamble::of(cipher as u8, Purpose::Ring);
    let mut member = evil(hands, true, cipher, &preamble.to_bytes());
    let mut one = vec![0; 1024];
    let said = if bytes.chance(4) { bytes.array::<8>().to_vec() } else { Vec::new() };
    let length = member.write_message(&said, &mut one).expect("it fits");
    let answer = first(hands, preamble, &one[..length]);
    assert_eq!(answer.is_some(), said.is_empty(), "message 1 is a key and nothing else");
    let Some((head, two)) = answer else { return };
    member.read_message(&two, &mut [0; 256]).expect("an honest head");
    let (said, holds) = proof(hands, bytes);
    let mut three = vec![0; 1024];
    let length = member.write_message(&said, &mut three).expect("it fits");
    let made = head.third(&three[..length], &hands.mine, NOW);
    assert_eq!(made.is_ok(), holds, "{made:?}");
}

/// What the head answers, without its length, if it does.
fn first(hands: &Hands, preamble: Preamble, one: &[u8]) -> Option<(Head, Vec<u8>)> {
    let (keys, seen) = (slice::from_ref(&hands.key), Recent::new(4));
    match Head::first(preamble, one, &hands.mine, keys, &seen, NOW).ok()? {
        Answer::Continue(head, two) => {
            let again = Head::first(preamble, one, &hands.mine, keys, &seen, NOW);
            assert_eq!(again.err(), Some(Reason::Replayed));
            Some((head, two[HEADER..].to_vec()))
        }
        Answer::Refuse(..) => panic!("this version is spoken: {preamble:?}"),
    }
}
