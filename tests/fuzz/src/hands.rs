//! Who takes part in the handshake targets: two honest nodes, their network's key, and a member that does as it likes.

use std::sync::Arc;

use kithd::protocol::codec::{HEADER, Preamble};
use kithd::protocol::message::Purpose;
use kithd::protocol::record::{NetworkId, Signature, Signer};
use kithd::secure::credentials::{Credentials, PROOF};
use kithd::secure::handshake::{Answer, Head};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::{NetworkKey, parse_keys};
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;
use snow::{Builder, HandshakeState, Keypair};

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
    stolen: Vec<u8>,
    /// A member that does as it likes, and its Noise key.
    insider: Identity,
    member: Keypair,
}

impl Hands {
    fn new() -> Self {
        let credentials = || {
            let identity = Identity::generate().expect("randomness");
            Arc::new(Credentials::new(identity, NETWORK).expect("randomness"))
        };
        let key = parse_keys("ab".repeat(32).as_bytes()).expect("a key").remove(0);
        let (insider, stolen) = (Identity::generate().expect("randomness"), Vec::new());
        let name = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s".parse().expect("as Noise names it");
        let member = Builder::new(name).generate_keypair().expect("randomness");
        let mut hands = Self { mine: credentials(), theirs: credentials(), key, stolen, insider, member };
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

/// The member that does as it likes: its payloads are still to be said.
pub fn evil(hands: &Hands, is_tail: bool, cipher: Cipher, preamble: &[u8]) -> HandshakeState {
    let name = match cipher {
        Cipher::ChaChaPoly => "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s",
        Cipher::AesGcm => "Noise_XXpsk0_25519_AESGCM_BLAKE2s",
    };
    let prologue = [preamble, &NETWORK.0].concat();
    let begin = || {
        let builder = Builder::new(name.parse()?).prologue(&prologue)?.psk(0, &SECRET)?;
        let builder = builder.local_private_key(&hands.member.private)?;
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

/// What a member says of itself: its own proof, for whatever network, key and time it likes; or another's; or an invented
/// one; and that with a few changes, one of which may be none. And whether it is to be believed.
pub fn proof(hands: &Hands, bytes: &mut Bytes<'_>) -> (Vec<u8>, bool) {
    let (network, key) = (bytes.pick(&[NETWORK, NETWORK, NETWORK, NetworkId([4; 8])]), !bytes.chance(4));
    let expires = if bytes.chance(4) { bytes.number() } else { NOW + 600 * u64::from(bytes.byte()) };
    // 30 minutes for clocks that differ, and a day that a proof is good for.
    let holds = network == NETWORK && key && (NOW - 1800..=NOW + 24 * 3600 + 1800).contains(&expires);
    let key = if key { &hands.member.public } else { &hands.member.private };
    match bytes.below(4) {
        // Noise's own bound is far above: nobody is to be stopped from saying too much.
        0 => (bytes.rest().iter().copied().take(512).collect(), false),
        1 => (changed(hands.stolen.clone(), bytes).0, false),
        _ => {
            let signed = [&b"kith link 1"[..], &network.0, key, &expires.to_le_bytes()].concat();
            let Signature(one, two) = hands.insider.sign(&signed);
            let proof = [&hands.insider.id().0[..], &expires.to_le_bytes(), &one, &two].concat();
            let (proof, same) = changed(proof, bytes);
            (proof.into_iter().take(512).collect(), holds && same)
        }
    }
}
