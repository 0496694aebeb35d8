//! Who takes part in the handshake targets: two honest nodes, their network's key, and a member that does as it likes.

use std::sync::Arc;

use kithd::protocol::codec::{HEADER, Preamble};
use kithd::protocol::message::Purpose;
use kithd::protocol::record::NetworkId;
use kithd::secure::credentials::{Credentials, PROOF};
use kithd::secure::handshake::{Answer, Head};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::{NetworkKey, parse_keys};
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;
use snow::{Builder, HandshakeState};

use super::bytes::Bytes;

/// The moment of every handshake, in Unix seconds.
pub const NOW: u64 = 1_795_254_185;

const NETWORK: NetworkId = NetworkId([3; 8]);
const SECRET: [u8; 32] = [0xab; 32];

pub struct Hands {
    /// The node that is tried.
    pub mine: Arc<Credentials>,
    /// An honest one.
    pub theirs: Arc<Credentials>,
    pub key: NetworkKey,
    /// The honest one's proof for its own Noise key, which every member gets to see.
    pub stolen: Vec<u8>,
}

impl Hands {
    fn new() -> Self {
        let credentials = || {
            let identity = Identity::generate().expect("randomness");
            Arc::new(Credentials::new(identity, NETWORK).expect("randomness"))
        };
        let key = parse_keys("ab".repeat(32).as_bytes()).expect("a key").remove(0);
        let mut hands = Self { mine: credentials(), theirs: credentials(), key, stolen: Vec::new() };
        let preamble = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Probe).to_bytes();
        let mut member = evil(&hands, true, Cipher::ChaChaPoly, &preamble);
        let mut one = [0; 256];
        let length = member.write_message(&[], &mut one).expect("it fits");
        let two = head_answer(&hands, &preamble, &one[..length]);
        let mut said = [0; 256];
        let length = member.read_message(&two, &mut said).expect("an honest head");
        hands.stolen = said[1..length].to_vec();
        assert_eq!(hands.stolen.len(), PROOF);
        hands
    }

    pub fn ciphers(&self) -> [Cipher; 2] {
        [Cipher::ChaChaPoly, Cipher::AesGcm]
    }
}

/// Calls with the hands of this thread: to make them costs as much as many handshakes.
pub fn hands(run: impl FnOnce(&Hands)) {
    thread_local! {
        static HANDS: Hands = Hands::new();
    }
    HANDS.with(run);
}

/// The honest node's message 2, without its length.
pub fn head_answer(hands: &Hands, preamble: &[u8], one: &[u8]) -> Vec<u8> {
    let preamble = Preamble::from_bytes(preamble.try_into().expect("eight bytes"));
    let keys = std::slice::from_ref(&hands.key);
    match Head::first(preamble, one, &hands.theirs, keys, &Recent::new(4), NOW) {
        Ok(Answer::Continue(_, two)) => two[HEADER..].to_vec(),
        _ => panic!("an honest tail is answered"),
    }
}

/// A member with a Noise key of its own, whose payloads are what it likes.
pub fn evil(_: &Hands, is_tail: bool, cipher: Cipher, preamble: &[u8]) -> HandshakeState {
    let name = match cipher {
        Cipher::ChaChaPoly => "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s",
        Cipher::AesGcm => "Noise_XXpsk0_25519_AESGCM_BLAKE2s",
    };
    let prologue = [preamble, &NETWORK.0].concat();
    let begin = || {
        let builder = Builder::new(name.parse()?).prologue(&prologue)?.psk(0, &SECRET)?.local_private_key(&[9; 32])?;
        if is_tail { builder.build_initiator() } else { builder.build_responder() }
    };
    begin().expect("all that it needs is there")
}

/// Bytes with some changed, added or cut off; and whether they are still the same.
pub fn changed(genuine: Vec<u8>, bytes: &mut Bytes<'_>) -> (Vec<u8>, bool) {
    let mut said = genuine.clone();
    for _ in 0..bytes.below(4) {
        let at = usize::from(bytes.byte()) % said.len();
        said[at] ^= bytes.byte();
    }
    match bytes.below(8) {
        0 => said.truncate(bytes.byte().into()),
        1 => said.extend(bytes.rest()),
        _ => {}
    }
    let same = said == genuine;
    (said, same)
}

/// A version and a proof: invented, or another's with a few changes, one of which may be none.
pub fn payload(stolen: &[u8], version: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let version = if bytes.chance(8) { bytes.byte() } else { version };
    let proof = match bytes.chance(2) {
        true => changed(stolen.to_vec(), bytes).0,
        false => bytes.rest().to_vec(),
    };
    // Noise's own bound is far above: nobody is to be stopped from saying too much.
    let mut said = vec![version];
    said.extend(proof.into_iter().take(512));
    said
}
