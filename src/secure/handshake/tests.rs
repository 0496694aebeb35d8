use super::*;
use crate::protocol::codec::HEADER;
use crate::protocol::record::NetworkId;
use crate::protocol::record::Signer;
use crate::secure::keys::Identity;

const NETWORK: NetworkId = NetworkId([3; 8]);
const NOW: u64 = 1_800_000_000;
const PURPOSE: Purpose = Purpose::Overlay;

fn node() -> (ControllerId, Arc<Credentials>) {
    let identity = Identity::generate().unwrap();
    (identity.id(), Arc::new(Credentials::new(identity, NETWORK).unwrap()))
}

fn preamble(cipher: Cipher) -> Preamble {
    Preamble::of(cipher as u8, PURPOSE)
}

/// Message 1 of a tail, without preamble and length.
fn first(tail: &Arc<Credentials>, key: &NetworkKey, cipher: Cipher) -> (Tail, Vec<u8>) {
    let (tail, bytes) = Tail::begin(tail, key, cipher, PURPOSE).unwrap();
    assert_eq!(bytes[..8], preamble(cipher).to_bytes());
    (tail, bytes[8 + HEADER..].to_vec())
}

fn answer(
    head: &Arc<Credentials>,
    keys: &[NetworkKey],
    cipher: Cipher,
    message: &[u8],
) -> Result<(Head, Vec<u8>), Reason> {
    match Head::first(preamble(cipher), message, head, keys, &Recent::new(8), NOW)? {
        Answer::Continue(state, bytes) => Ok((state, bytes[HEADER..].to_vec())),
        Answer::Refuse(_, reason) => panic!("refused: {reason}"),
    }
}

fn whole(cipher: Cipher) -> (Secured, Secured) {
    let key = NetworkKey::generate().unwrap();
    let ((tail_id, tail), (head_id, head)) = (node(), node());
    let (waiting, one) = first(&tail, &key, cipher);
    let (state, two) = answer(&head, std::slice::from_ref(&key), cipher, &one).unwrap();
    let (three, at_tail) = waiting.finish(&two, NOW).unwrap();
    let at_head = state.third(&three[HEADER..], &head, NOW).unwrap();
    assert_eq!((at_tail.remote, at_head.remote), (head_id, tail_id));
    assert_eq!((at_tail.key, at_head.key), (key.mark(), key.mark()));
    (at_tail, at_head)
}

#[test]
fn both_ends_learn_who_is_there_and_understand_each_other() {
    for cipher in [Cipher::ChaChaPoly, Cipher::AesGcm] {
        let (mut tail, mut head) = whole(cipher);
        let mut plaintext = Vec::new();
        for said in [&b"who goes there"[..], b"", &[7; 16 * 1024]] {
            let mut record = Vec::new();
            tail.sealing.seal(said, &mut record);
            let reflected = tail.opening.open(&record[HEADER..], &mut plaintext);
            assert_eq!(reflected, Err(Reason::BadRecordTag), "one's own words sent back");
            head.opening.open(&record[HEADER..], &mut plaintext).unwrap();
            assert_eq!(plaintext, said);
            record.clear();
            head.sealing.seal(said, &mut record);
            tail.opening.open(&record[HEADER..], &mut plaintext).unwrap();
            assert_eq!(plaintext, said);
        }
    }
}

#[test]
fn any_key_of_the_head_will_do_and_no_other() {
    let keys: Vec<_> = (0..3).map(|_| NetworkKey::generate().unwrap()).collect();
    let ((_, tail), (_, head)) = (node(), node());
    for key in &keys {
        let (_, one) = first(&tail, key, Cipher::ChaChaPoly);
        let (state, _) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
        assert!(matches!(state, Head::Third { key: found, .. } if found == key.mark()));
    }
    for key in [NetworkKey::generate().unwrap(), NetworkKey::none()] {
        let (_, one) = first(&tail, &key, Cipher::ChaChaPoly);
        assert_eq!(answer(&head, &keys, Cipher::ChaChaPoly, &one).err(), Some(Reason::NetworkKey));
    }
}

#[test]
fn another_network_cipher_purpose_or_version_in_the_preamble_does_not_pass() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let (_, one) = first(&tail, &key, Cipher::ChaChaPoly);
    let keys = [key];
    let said = preamble(Cipher::ChaChaPoly);
    let changed = [
        Preamble { cipher: Cipher::AesGcm as u8, ..said },
        Preamble { purpose: 2, ..said },
        Preamble { versions: (1, 9), ..said },
        Preamble { versions: (2, 2), ..said },
    ];
    for preamble in changed {
        let refused = Head::first(preamble, &one, &head, &keys, &Recent::new(8), NOW).err();
        assert_eq!(refused, Some(Reason::NetworkKey), "{preamble:?}");
    }
    let unknown = Head::first(Preamble { cipher: 9, ..said }, &one, &head, &keys, &Recent::new(8), NOW).err();
    assert_eq!(unknown, Some(Reason::VersionMismatch));
    let elsewhere = Arc::new(Credentials::new(Identity::generate().unwrap(), NetworkId([4; 8])).unwrap());
    assert_eq!(answer(&elsewhere, &keys, Cipher::ChaChaPoly, &one).err(), Some(Reason::NetworkKey));
}

#[test]
fn a_version_that_is_not_shared_is_said_to_whoever_has_the_key() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    for (versions, understood) in [((1, 2), true), ((2, 7), false), ((0, 0), false)] {
        let preamble = Preamble { versions, ..preamble(Cipher::ChaChaPoly) };
        let (waiting, bytes) = Tail::begin_with(&tail, &key, preamble, None).unwrap();
        let keys = [key.clone()];
        let message = &bytes[8 + HEADER..];
        match Head::first(preamble, message, &head, &keys, &Recent::new(8), NOW).unwrap() {
            Answer::Continue(_, two) => {
                assert!(understood);
                waiting.finish(&two[HEADER..], NOW).unwrap();
            }
            Answer::Refuse(two, reason) => {
                assert!(!understood);
                assert_eq!(reason, Reason::VersionMismatch);
                assert_eq!(waiting.finish(&two[HEADER..], NOW).err(), Some(Reason::VersionMismatch));
            }
        }
    }
}

#[test]
fn a_replayed_first_message_is_not_answered_and_a_replayed_third_opens_nothing() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let (keys, seen) = ([key.clone()], Recent::new(8));
    let (waiting, one) = first(&tail, &key, Cipher::AesGcm);
    let begin = || Head::first(preamble(Cipher::AesGcm), &one, &head, &keys, &seen, NOW);
    let Ok(Answer::Continue(state, two)) = begin() else { panic!("the first is answered") };
    assert_eq!(begin().err(), Some(Reason::Replayed));
    let (three, _) = waiting.finish(&two[HEADER..], NOW).unwrap();
    state.third(&three[HEADER..], &head, NOW).unwrap();
    // A head that has forgotten the first message: its own ephemeral key is another one.
    let (state, _) = answer(&head, &keys, Cipher::AesGcm, &one).unwrap();
    assert_eq!(state.third(&three[HEADER..], &head, NOW).err(), Some(Reason::NetworkKey));
}

#[test]
fn any_flipped_bit_of_any_message_ends_the_handshake() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let keys = [key.clone()];
    let flips = |length: usize| (0..length).flat_map(|at| [(at, 1), (at, 0x80)]);
    let flipped = |message: &[u8], (at, bit): (usize, u8)| {
        let mut message = message.to_vec();
        message[at] ^= bit;
        message
    };
    let (_, one) = first(&tail, &key, Cipher::ChaChaPoly);
    for flip in flips(one.len()) {
        assert!(answer(&head, &keys, Cipher::ChaChaPoly, &flipped(&one, flip)).is_err(), "message 1, {flip:?}");
    }
    // Each try consumes the state: both ends begin anew, and since their lengths are fixed every place is met.
    for flip in flips(201).step_by(5) {
        let (waiting, one) = first(&tail, &key, Cipher::ChaChaPoly);
        let (_, two) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
        assert_eq!(two.len(), 201);
        assert!(waiting.finish(&flipped(&two, flip), NOW).is_err(), "message 2, {flip:?}");
    }
    for flip in flips(168).step_by(5) {
        let (waiting, one) = first(&tail, &key, Cipher::ChaChaPoly);
        let (state, two) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
        let (three, _) = waiting.finish(&two, NOW).unwrap();
        assert_eq!(three.len(), HEADER + 168);
        assert!(state.third(&flipped(&three[HEADER..], flip), &head, NOW).is_err(), "message 3, {flip:?}");
    }
}

#[test]
fn low_order_points_are_refused_in_each_message() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let keys = [key.clone()];
    let (waiting, mut one) = first(&tail, &key, Cipher::ChaChaPoly);
    let (_, mut two) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
    one[..POINT].fill(0);
    assert_eq!(answer(&head, &keys, Cipher::ChaChaPoly, &one).err(), Some(Reason::LowOrderPoint));
    two[..POINT].fill(0);
    assert_eq!(waiting.finish(&two, NOW).err(), Some(Reason::LowOrderPoint));
    // As a static key it comes encrypted, from somebody who holds the network's key.
    let mut weak = Credentials::with_key(Identity::generate().unwrap(), NETWORK, Zeroizing::new([1; POINT]));
    weak.key.public = [0; POINT];
    let (waiting, one) = first(&Arc::new(weak), &key, Cipher::ChaChaPoly);
    let (state, two) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
    let (three, _) = waiting.finish(&two, NOW).unwrap();
    assert_eq!(state.third(&three[HEADER..], &head, NOW).err(), Some(Reason::LowOrderPoint));
}

#[test]
fn messages_that_are_too_short_too_long_or_out_of_turn_are_refused() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let keys = [key.clone()];
    for message in [&[][..], &[9; 31], &[9; 47], &[9; MAX_MESSAGE], &[9; 4 * MAX_MESSAGE]] {
        let expected = if message.len() > MAX_MESSAGE { Reason::FrameTooLarge } else { Reason::NetworkKey };
        assert_eq!(answer(&head, &keys, Cipher::ChaChaPoly, message).err(), Some(expected), "{} bytes", message.len());
        let (waiting, one) = first(&tail, &key, Cipher::ChaChaPoly);
        assert!(waiting.finish(message, NOW).is_err());
        let (state, _) = answer(&head, &keys, Cipher::ChaChaPoly, &one).unwrap();
        assert!(state.third(message, &head, NOW).is_err());
    }
    let early = Head::First(preamble(Cipher::ChaChaPoly)).third(&[9; 168], &head, NOW);
    assert_eq!(early.err(), Some(Reason::Unexpected));
}

#[test]
fn clocks_that_are_days_apart_do_not_trust_each_others_proofs() {
    let key = NetworkKey::generate().unwrap();
    let ((_, tail), (_, head)) = (node(), node());
    let (waiting, one) = first(&tail, &key, Cipher::ChaChaPoly);
    let (_, two) = answer(&head, &[key], Cipher::ChaChaPoly, &one).unwrap();
    assert_eq!(waiting.finish(&two, NOW + 3 * 24 * 3600).err(), Some(Reason::ClockSkew));
}
