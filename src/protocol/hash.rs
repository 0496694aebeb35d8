//! `H`, the one hash of the protocol: BLAKE2s-256, always with a tag that says what is hashed.

use blake2::{Blake2s256, Digest as _};
use serde::{Deserialize, Serialize};
use std::fmt;

use super::identity::to_hex;

/// 32 bytes of BLAKE2s-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash(#[serde(with = "super::words")] pub [u8; 32]);

impl Hash {
    /// The first eight bytes, where the whole hash would cost too much room on the wire.
    pub fn short(&self) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        short
    }

    /// The first sixteen: still more than anybody can find another for, and half the room in each heartbeat.
    pub fn half(&self) -> HalfHash {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        HalfHash(half)
    }

    /// All 64 hex digits.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }
}

/// The first 16 bytes of a [`struct@Hash`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HalfHash(#[serde(with = "super::words")] pub [u8; 16]);

impl fmt::Debug for HalfHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HalfHash({})", to_hex(&self.0[..4]))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", to_hex(&self.0[..4]))
    }
}

/// Hashes a tag and some parts, each with its length before it, so that no two lists of parts collide by their seams.
pub fn hash_parts(tag: &[u8], parts: &[&[u8]]) -> Hash {
    let mut state = Blake2s256::new();
    for part in std::iter::once(&tag).chain(parts) {
        state.update((part.len() as u64).to_le_bytes());
        state.update(part);
    }
    Hash(state.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seams_and_tags_count() {
        assert_ne!(hash_parts(b"t", &[b"ab", b"c"]), hash_parts(b"t", &[b"a", b"bc"]));
        assert_ne!(hash_parts(b"t", &[b"a"]), hash_parts(b"u", &[b"a"]));
        assert_eq!(hash_parts(b"t", &[b"a"]), hash_parts(b"t", &[b"a"]));
    }
}
