//! What a census tells its user: the part `census` of `kithd network`, and, of a proof, all that a third party needs to
//! check it.

use serde::{Deserialize, Serialize};

use super::testimony::Mode;

/// Who answered, and with which view, of those that were up in the asker's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CensusReport {
    /// `count`, or `prove`.
    pub mode: Mode,
    /// Names this census: 32 hex digits.
    pub nonce: String,
    /// The network's id, which is in everything that is signed: 16 hex digits.
    pub network: String,
    /// When it began, by the asker's clock.
    pub at: String,
    /// How long it took.
    pub took_ms: u64,
    /// The digest of the asker's view when it began.
    pub digest: String,
    /// Nodes that were up in that view: all of them should answer.
    pub asked_live: usize,
    /// Those that did. When it was counted only, whoever the relays say so of.
    pub answered: usize,
    /// True if all that should answer did, and with the asker's digest.
    pub unanimous: bool,
    /// Which views are held, that of most nodes first.
    pub digests: Vec<DigestRow>,
    /// Nodes with yet another digest, when they were counted only.
    pub others: usize,
    /// Who did not answer, by id. When it was counted only, no more than a few that their neighbours have not heard.
    pub missing: Vec<String>,
    /// Who answered with another digest than the asker's, by id; known only of a proof.
    pub differing: Vec<String>,
    /// Nodes that answered and were not up in the asker's view.
    pub strangers: usize,
    /// What each has signed, by id; empty if it was counted only.
    pub proof: Vec<ProofRow>,
}

/// So many hold this view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRow {
    /// The view's digest.
    pub digest: String,
    /// How many hold it.
    pub nodes: usize,
}

/// What one node has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofRow {
    /// Who.
    pub id: String,
    /// The digest of its view.
    pub digest: String,
    /// How many nodes are up in it.
    pub live: u32,
    /// 128 hex digits of Ed25519 over `kith census 1`, network, nonce, id, digest and `live` (4 bytes, little endian).
    pub signature: String,
}
