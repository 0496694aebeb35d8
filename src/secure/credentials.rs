//! What a node shows in a handshake: its Noise key of this run, and its identity's signature over it.
//!
//! ```text
//!  proof (104 bytes):  id (32) │ expires, Unix seconds (8, little endian) │ Ed25519 signature (64)
//!  signed:             "kith link 1" │ network (8) │ Noise public key (32) │ expires (8, little endian)
//! ```
//!
//! After the libp2p Noise specification; the network and the end of validity are ours. The Noise key is made anew at each
//! start: what a thief of it could do ends with the run, and with the proof.

use std::io;

use parking_lot::Mutex;
use serde::Serialize;
use zeroize::Zeroizing;

use super::curve::{KeyPair, POINT};
use super::door::holds;
use super::keys::Identity;
use super::recent::Recent;
use crate::protocol::hash::hash_parts;
use crate::protocol::identity::ControllerId;
use crate::protocol::reason::Reason;
use crate::protocol::record::{NetworkId, Signature, Signed, Signer};

/// Bytes of a proof on the wire.
pub const PROOF: usize = 32 + 8 + 64;
/// How long a proof is good, in seconds: as long as a record is renewed (`discovery.md` 2.1).
const VALID: u64 = 24 * 3600;
/// A proof is renewed when half of that is over, so that no handshake meets its end.
const RENEWED: u64 = VALID / 2;
/// Proofs remembered as checked: of as many nodes as may be connected by default.
const REMEMBERED: usize = 1024;
/// How far two clocks may be apart, in seconds: as in `Hello`.
const SKEW: u64 = 30 * 60;

/// What the identity signs.
#[derive(Serialize)]
struct LinkKey {
    network: NetworkId,
    key: [u8; POINT],
    expires: u64,
}

impl Signed for LinkKey {
    const TAG: &'static [u8] = b"kith link 1";
}

/// A node's side of every handshake.
pub struct Credentials {
    identity: Identity,
    network: NetworkId,
    pub(super) key: KeyPair,
    proof: Mutex<(u64, [u8; PROOF])>,
    /// Proofs of others that held lately.
    passed: Recent,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?})", self.identity.id())
    }
}

impl Credentials {
    /// With a new Noise key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(identity: Identity, network: NetworkId) -> io::Result<Self> {
        let mut secret = Zeroizing::new([0; POINT]);
        getrandom::fill(&mut *secret).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::with_key(identity, network, secret))
    }

    /// With this Noise key: for test vectors.
    pub fn with_key(identity: Identity, network: NetworkId, secret: Zeroizing<[u8; POINT]>) -> Self {
        let passed = Recent::new(REMEMBERED);
        Self { identity, network, key: KeyPair::of(secret), proof: Mutex::new((0, [0; PROOF])), passed }
    }

    /// The network it is for.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The proof to show now, at this Unix time in seconds.
    pub(super) fn proof(&self, now: u64) -> [u8; PROOF] {
        let mut proof = self.proof.lock();
        // Also after the clock was set back: a proof from the future is refused.
        if proof.0.saturating_sub(now) < RENEWED || proof.0 > now.saturating_add(VALID) {
            let expires = now.saturating_add(VALID);
            *proof = (expires, self.sign(expires));
        }
        proof.1
    }

    fn sign(&self, expires: u64) -> [u8; PROOF] {
        let body = LinkKey { network: self.network, key: self.key.public, expires };
        let signature = self.identity.sign(&body.signed_bytes());
        let mut proof = [0; PROOF];
        proof[..32].copy_from_slice(&self.identity.id().0);
        proof[32..40].copy_from_slice(&expires.to_le_bytes());
        proof[40..72].copy_from_slice(&signature.0);
        proof[72..].copy_from_slice(&signature.1);
        proof
    }

    /// Whose key this is, if the proof holds at this Unix time in seconds. A proof that held lately is not checked again:
    /// who comes back shows the same one all day, and the check is a fifth of what a handshake costs.
    ///
    /// # Errors
    /// [`Reason::Malformed`] for another length, [`Reason::ClockSkew`] for a proof that is over or from the future,
    /// [`Reason::BadSignature`].
    pub(super) fn check(&self, proof: &[u8], key: &[u8; POINT], now: u64) -> Result<ControllerId, Reason> {
        let proof: &[u8; PROOF] = proof.try_into().map_err(|_| Reason::Malformed)?;
        let part = |from: usize| {
            let mut part = [0; 32];
            part.copy_from_slice(&proof[from..from + 32]);
            part
        };
        let mut expires = [0; 8];
        expires.copy_from_slice(&proof[32..40]);
        let expires = u64::from_le_bytes(expires);
        if expires.saturating_add(SKEW) < now || expires > now.saturating_add(VALID + SKEW) {
            return Err(Reason::ClockSkew);
        }
        let id = ControllerId(part(0));
        // With our secret in it, nobody can look for two that have the same mark.
        let mut mark = [0; 16];
        mark.copy_from_slice(&hash_parts(b"kith proof", &[&self.key.secret[..], key, proof]).0[..16]);
        if !self.passed.has_seen(&mark) {
            let body = LinkKey { network: self.network, key: *key, expires };
            holds(&id, &body.signed_bytes(), Signature(part(40), part(72)))?;
            self.passed.remember(mark);
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId([3; 8]);
    const NOW: u64 = 1_800_000_000;

    fn credentials() -> Credentials {
        in_network(NETWORK)
    }

    fn in_network(network: NetworkId) -> Credentials {
        Credentials::new(Identity::generate().unwrap(), network).unwrap()
    }

    #[test]
    fn a_proof_holds_for_its_key_network_and_day_only() {
        let (mine, door) = (credentials(), credentials());
        let proof = mine.proof(NOW);
        let check_at = |now| door.check(&proof, &mine.key.public, now);
        assert_eq!(check_at(NOW), Ok(mine.identity.id()));
        assert_eq!(check_at(NOW + VALID), Ok(mine.identity.id()));
        assert_eq!(check_at(NOW + VALID + SKEW + 1), Err(Reason::ClockSkew));
        assert_eq!(check_at(NOW - SKEW - 1), Err(Reason::ClockSkew));
        assert_eq!(check_at(0), Err(Reason::ClockSkew));
        // From here on it is remembered, and that helps nothing that differs from it.
        let (other, elsewhere) = (credentials().key.public, in_network(NetworkId([4; 8])));
        assert_eq!(door.check(&proof, &other, NOW), Err(Reason::BadSignature));
        assert_eq!(elsewhere.check(&proof, &mine.key.public, NOW), Err(Reason::BadSignature));
        for at in (0..PROOF).filter(|at| !(32..40).contains(at)) {
            let mut changed = proof;
            changed[at] ^= 1;
            assert_eq!(door.check(&changed, &mine.key.public, NOW), Err(Reason::BadSignature), "byte {at}");
        }
        assert_eq!(door.check(&proof[1..], &mine.key.public, NOW), Err(Reason::Malformed));
        let mut endless = proof;
        endless[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(door.check(&endless, &mine.key.public, NOW), Err(Reason::ClockSkew));
    }

    #[test]
    fn a_proof_is_renewed_in_time_and_after_the_clock_was_set_back() {
        let mine = credentials();
        let first = mine.proof(NOW);
        assert_eq!(mine.proof(NOW + RENEWED), first);
        assert_ne!(mine.proof(NOW + RENEWED + 1), first);
        let back = mine.proof(NOW - 365 * VALID);
        assert_eq!(credentials().check(&back, &mine.key.public, NOW - 365 * VALID), Ok(mine.identity.id()));
    }
}
