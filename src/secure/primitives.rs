//! Which code does the arithmetic of Noise, and how its protocols are named.

use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier, HandshakeModifierList, HandshakePattern,
    HashChoice, NoiseParams,
};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher as CipherImplementation, Dh, Hash, Random};

use super::curve::{Curve, KeyPair};

/// The ciphers there are; the tail chooses, and every node can do both. The number is the preamble's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// Fast everywhere.
    ChaChaPoly = 1,
    /// Faster where the processor has instructions for it.
    AesGcm = 2,
}

impl Cipher {
    /// The faster one on this machine.
    pub fn preferred() -> Self {
        if has_aes() { Self::AesGcm } else { Self::ChaChaPoly }
    }

    /// As the preamble names it.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::ChaChaPoly, Self::AesGcm].into_iter().find(|cipher| *cipher as u8 == number)
    }

    fn choice(self) -> CipherChoice {
        match self {
            Self::ChaChaPoly => CipherChoice::ChaChaPoly,
            Self::AesGcm => CipherChoice::AESGCM,
        }
    }

    /// `Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s` or `Noise_XXpsk0_25519_AESGCM_BLAKE2s`.
    pub(super) fn protocol(self) -> NoiseParams {
        let name = match self {
            Self::ChaChaPoly => "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s",
            Self::AesGcm => "Noise_XXpsk0_25519_AESGCM_BLAKE2s",
        };
        let handshake = HandshakeChoice {
            pattern: HandshakePattern::XX,
            modifiers: HandshakeModifierList { list: vec![HandshakeModifier::Psk(0)] },
        };
        let (base, hash) = (BaseChoice::Noise, HashChoice::Blake2s);
        NoiseParams::new(name.to_owned(), base, handshake, DHChoice::Curve25519, self.choice(), hash)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// A cipher without a key: from ring if it was built in, else from pure Rust.
pub(super) fn cipher(cipher: Cipher) -> Box<dyn CipherImplementation> {
    let choice = cipher.choice();
    #[cfg(feature = "ring-accelerated")]
    if let Some(cipher) = snow::resolvers::RingResolver.resolve_cipher(&choice) {
        return cipher;
    }
    #[allow(clippy::expect_used, reason = "both ciphers are among the features this crate asks of the library")]
    DefaultResolver.resolve_cipher(&choice).expect("the library was built with both ciphers")
}

/// Hands the Noise library what it computes with: hash and randomness its own, curve and ciphers ours.
pub(super) struct Primitives {
    pub(super) known: KeyPair,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Curve { known: self.known.clone(), key: KeyPair::default() }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn CipherImplementation>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(cipher(Cipher::ChaChaPoly)),
            CipherChoice::AESGCM => Some(cipher(Cipher::AesGcm)),
            #[allow(unreachable_patterns, reason = "the library has more ciphers with other features")]
            _ => None,
        }
    }
}
