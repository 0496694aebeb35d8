//! Somebody who holds the network's key and shows a static key that is none: a point of small order, sealed as it has to be.

use kithd::protocol::codec::{HEADER, Preamble, frame};
use kithd::protocol::message::Purpose;
use kithd::protocol::record::NetworkId;
use kithd::secure::primitives::Cipher;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher as Sealing, Dh, Hash, Random};
use snow::{Builder, Error};

use crate::stranger::Line;

/// All that he says in a handshake without a network key; the node is to say no more than its one answer.
pub fn introduce(line: &mut Line, network: NetworkId) {
    let preamble = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Overlay).to_bytes();
    let prologue = [&preamble[..], &network.0].concat();
    let noise = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
    let builder = Builder::with_resolver(noise, Box::new(Weak(DefaultResolver)));
    let builder = builder.prologue(&prologue).unwrap().psk(0, &[0; 32]).unwrap();
    let mut noise = builder.local_private_key(&[1; 32]).unwrap().build_initiator().unwrap();
    let mut said = [0; 256];
    let length = noise.write_message(&[], &mut said).unwrap();
    line.send(&[&preamble[..], &frame(&said[..length])].concat());
    let answer = line.frame().expect("an answer to the first message");
    noise.read_message(&answer, &mut [0; 256]).unwrap();
    // His proof would be looked at after his key.
    let length = noise.write_message(&[0; 104], &mut said).unwrap();
    assert_eq!(HEADER + length, HEADER + 168, "as long as any third message");
    line.send(&frame(&said[..length]));
}

struct Weak(DefaultResolver);

impl CryptoResolver for Weak {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(WeakDh { honest: self.0.resolve_dh(choice)?, is_static: false }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Sealing>> {
        self.0.resolve_cipher(choice)
    }
}

/// Honest but for the public half of a key that was given, and not made for this handshake.
struct WeakDh {
    honest: Box<dyn Dh>,
    is_static: bool,
}

impl Dh for WeakDh {
    fn name(&self) -> &'static str {
        self.honest.name()
    }

    fn pub_len(&self) -> usize {
        self.honest.pub_len()
    }

    fn priv_len(&self) -> usize {
        self.honest.priv_len()
    }

    fn set(&mut self, secret: &[u8]) {
        self.is_static = true;
        self.honest.set(secret);
    }

    fn generate(&mut self, chance: &mut dyn Random) -> Result<(), Error> {
        self.honest.generate(chance)
    }

    fn pubkey(&self) -> &[u8] {
        if self.is_static { &[0; 32] } else { self.honest.pubkey() }
    }

    fn privkey(&self) -> &[u8] {
        self.honest.privkey()
    }

    fn dh(&self, point: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.honest.dh(point, out)
    }
}
