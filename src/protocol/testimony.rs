//! What a node says when the network is counted: the question's parts, its answers, and what is signed in them.
//!
//! A census goes from tail to head along all edges. The first time a node hears of one, it asks its own heads, and answers
//! with itself and with whatever these answered; later it says at once that it is counted already (`discovery/census.rs`).
//! So each node is in exactly one answer. In [`Mode::Count`] an answer is a handful of numbers, and whoever relays it is
//! believed; in [`Mode::Prove`] it is what each node signed, and nobody else can say it for him.
//!
//! What a node signs is exactly `kith census 1`, the network's id, the nonce, its own id, the digest of its view, and how
//! many nodes are up in it (4 bytes, little endian): 105 bytes, which a third party can check without being a member.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hash::Hash;
use super::identity::{ControllerId, ShortId, to_hex};
use super::list::List;
use super::record::{Marked, NetworkId, Signature, Signed, Signer, Verified};

/// Testimonies in one answer: 132 bytes each, so that it fits a frame. Of more a node sends several answers.
pub const MAX_TESTIMONIES: usize = 120;
/// Digests that one answer counts apart, those of most nodes: two or three are a network that changes, and of more nobody
/// wants to know the numbers.
pub const MAX_DIGESTS: usize = 4;
/// Silent nodes that one answer names: enough to look after by hand. `--prove` names them all.
pub const MAX_SILENT: usize = 16;

/// Names one census: sixteen random bytes, so that nobody can have what others sign in it before it begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(#[serde(with = "super::words")] pub [u8; 16]);

impl Nonce {
    /// All 32 hex digits.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", &self.hex()[..8])
    }
}

/// What a census is to bring home.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// How many nodes hold which digest: some hundred bytes an edge, whatever the network's size; each relay is believed.
    Count,
    /// What each node has signed: 132 bytes a node on each edge of its way home.
    Prove,
}

/// All that a testimony says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TestimonyBody {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Of the census it answers: it says nothing of any other moment.
    pub nonce: Nonce,
    /// Who says so, and the key that signs it.
    pub id: ControllerId,
    /// The digest of its view.
    pub digest: Hash,
    /// How many nodes are up in that view, itself included.
    pub live: u32,
}

impl Signed for TestimonyBody {
    const TAG: &'static [u8] = b"kith census 1";
}

/// "I hold this view, and so many nodes are up in it", as it travels: network and nonce are the question's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Testimony {
    /// Who says so.
    pub id: ControllerId,
    /// The digest of its view.
    pub digest: Hash,
    /// How many nodes are up in it.
    pub live: u32,
    /// By `id`, over the whole [`TestimonyBody`].
    pub signature: Signature,
}

impl Testimony {
    /// What was signed, if it answers this census.
    pub fn body(&self, network: NetworkId, nonce: Nonce) -> TestimonyBody {
        TestimonyBody { network, nonce, id: self.id, digest: self.digest, live: self.live }
    }

    /// This node's own.
    pub fn signed(body: TestimonyBody, signer: &dyn Signer) -> Verified<Self> {
        let signature = signer.sign(&body.signed_bytes());
        let TestimonyBody { id, digest, live, .. } = body;
        Verified::vouch(Arc::new(Self { id, digest, live, signature }))
    }
}

impl Marked for Testimony {
    type Marks = ();

    fn marks(&self) {}
}

/// So many nodes hold this digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Holders(pub Hash, pub u32);

/// Nodes counted by digest, as an answer carries them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The digests of most nodes.
    pub digests: List<Holders, MAX_DIGESTS>,
    /// Nodes that hold any other.
    pub others: u32,
    /// Nodes that a tail of theirs has not heard from in time.
    pub silent: List<ShortId, MAX_SILENT>,
}

/// A head's answer to a census. `T` is a testimony as it came, then verified.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Returns<T = Testimony> {
    /// The head is in another answer.
    Counted,
    /// The head takes part in as many as it may, or takes its leave: neither it nor what lies behind it is counted here.
    Refused,
    /// The head and those that were counted through it, as far as no earlier part has counted them.
    Counts {
        /// To be added to what came before.
        counts: Counts,
        /// True if nothing follows.
        last: bool,
    },
    /// The same, signed.
    Testimonies {
        /// Never empty, but for the last.
        testimonies: List<T, MAX_TESTIMONIES>,
        /// True if nothing follows.
        last: bool,
    },
}

impl<T> Returns<T> {
    /// True for the answer that ends the request.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Counts { last: false, .. } | Self::Testimonies { last: false, .. })
    }

    /// The same with each testimony passed through a check.
    ///
    /// # Errors
    /// The first failure of the check.
    pub fn check<T2, E>(self, check: impl Fn(T) -> Result<T2, E>) -> Result<Returns<T2>, E> {
        Ok(match self {
            Self::Counted => Returns::Counted,
            Self::Refused => Returns::Refused,
            Self::Counts { counts, last } => Returns::Counts { counts, last },
            Self::Testimonies { testimonies, last } => {
                let testimonies = testimonies.into_vec().into_iter().map(check).collect::<Result<Vec<_>, E>>()?;
                Returns::Testimonies { testimonies: testimonies.into_iter().collect(), last }
            }
        })
    }
}

/// Digests that are counted apart while answers are gathered, 40 bytes each: as many as 64 heads name, each four.
const MAX_GATHERED: usize = 256;

/// Counts of several nodes, put together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gathered {
    digests: BTreeMap<Hash, u32>,
    others: u32,
    silent: Vec<ShortId>,
}

impl Gathered {
    /// So many more hold this digest. What is more than fits is no longer counted apart, so that no digest ever gets more
    /// than was said of it.
    pub fn add(&mut self, digest: Hash, holders: u32) {
        let is_full = self.digests.len() >= MAX_GATHERED && !self.digests.contains_key(&digest);
        let count = if is_full { &mut self.others } else { self.digests.entry(digest).or_default() };
        *count = count.saturating_add(holders);
    }

    /// This node was not heard from; the first of them are named.
    pub fn add_silent(&mut self, node: ShortId) {
        if self.silent.len() < MAX_SILENT && !self.silent.contains(&node) {
            self.silent.push(node);
        }
    }

    /// A head's answer.
    pub fn take(&mut self, counts: &Counts) {
        counts.digests.iter().for_each(|Holders(digest, holders)| self.add(*digest, *holders));
        self.others = self.others.saturating_add(counts.others);
        counts.silent.iter().for_each(|node| self.add_silent(*node));
    }

    /// As an answer carries them.
    pub fn counts(&self) -> Counts {
        let all = self.by_number();
        let named: u32 = all.iter().take(MAX_DIGESTS).fold(0, |sum, Holders(_, holders)| sum.saturating_add(*holders));
        let digests = all.into_iter().take(MAX_DIGESTS).collect();
        Counts { digests, others: self.nodes().saturating_sub(named), silent: self.silent.iter().copied().collect() }
    }

    /// The same, and begins anew.
    pub fn hand_over(&mut self) -> Counts {
        std::mem::take(self).counts()
    }

    /// Each digest that was counted apart, that of most nodes first.
    pub fn by_number(&self) -> Vec<Holders> {
        let mut all: Vec<_> = self.digests.iter().map(|(digest, holders)| Holders(*digest, *holders)).collect();
        all.sort_by_key(|Holders(digest, holders)| (std::cmp::Reverse(*holders), *digest));
        all
    }

    /// All that were counted.
    pub fn nodes(&self) -> u32 {
        self.digests.values().fold(self.others, |sum, holders| sum.saturating_add(*holders))
    }

    /// Those whose digest was not counted apart.
    pub fn uncounted(&self) -> u32 {
        self.others
    }

    /// Those that were not heard from.
    pub fn silent(&self) -> &[ShortId] {
        &self.silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::{HEADER, MAX_FRAME, encode, encode_frame};
    use crate::protocol::message::HeadMessage;

    fn testimony(number: u8) -> Testimony {
        let signature = Signature([number; 32], [0; 32]);
        Testimony { id: ControllerId([number; 32]), digest: Hash([7; 32]), live: 9, signature }
    }

    #[test]
    fn the_longest_answers_fit_a_frame() {
        let testimonies = (0..MAX_TESTIMONIES as u8).map(testimony).collect();
        let proof =
            HeadMessage::Census { nonce: Nonce([1; 16]), returns: Returns::Testimonies { testimonies, last: true } };
        assert!(encode_frame(&proof).len() <= MAX_FRAME, "{}", encode_frame(&proof).len() - HEADER);
    }

    #[test]
    fn what_is_signed_is_a_hundred_and_five_bytes() {
        let body = testimony(3).body(NetworkId([2; 8]), Nonce([1; 16]));
        let bytes = body.signed_bytes();
        assert_eq!(bytes.len(), 13 + 8 + 16 + 32 + 32 + 4);
        assert_eq!(bytes[..21], *b"kith census 1\x02\x02\x02\x02\x02\x02\x02\x02");
        assert_eq!(encode(&testimony(3)).len(), 132);
    }

    #[test]
    fn the_many_are_named_and_nobody_is_lost() {
        let mut gathered = Gathered::default();
        for number in 0..=255u8 {
            gathered.add(Hash([number; 32]), u32::from(number) + 1);
        }
        gathered.add(Hash([9; 32]), 1000);
        gathered.take(&Counts { others: 5, ..Counts::default() });
        let counts = gathered.counts();
        let named: Vec<u32> = counts.digests.iter().map(|Holders(_, holders)| *holders).collect();
        assert_eq!(named, [1010, 256, 255, 254]);
        assert_eq!(gathered.nodes(), 256 * 257 / 2 + 1005);
        assert_eq!(counts.others + named.iter().sum::<u32>(), gathered.nodes());
        // One digest more than can be counted apart.
        let mut full = Gathered::default();
        (0..=MAX_GATHERED as u16).for_each(|number| {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&number.to_le_bytes());
            full.add(Hash(digest), 1);
        });
        assert_eq!((full.digests.len(), full.others, full.nodes()), (MAX_GATHERED, 1, MAX_GATHERED as u32 + 1));
        let mut liar = Gathered::default();
        liar.add(Hash([1; 32]), u32::MAX);
        liar.add(Hash([2; 32]), u32::MAX);
        assert_eq!(liar.nodes(), u32::MAX, "no sum ends the program");
    }
}
