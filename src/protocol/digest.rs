//! The view's digest: what two nodes compare to know that they agree.
//!
//! ```text
//!   leaf    the hash of a record               of each entry that is up: covers id, version and all else
//!   bucket  H(its leaves, sorted by id)        256 of them, by the first byte of the id
//!   digest  H(256 buckets)                     collision-resistant, unlike a sum or XOR of leaves
//! ```
//!
//! The view keeps each bucket's hash until one of its entries changes, and works out the digest when somebody asks.

use super::hash::{Hash, hash_parts};

/// How many buckets a view has: one for each first byte of an id.
pub const BUCKETS: usize = 256;

/// The hash of a bucket, of its leaves in order.
pub(super) fn bucket(leaves: &[Hash]) -> Hash {
    let leaves: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.0.as_slice()).collect();
    hash_parts(b"kith digest bucket", &leaves)
}

/// The digest of a view, of its buckets in order.
pub(super) fn whole(buckets: impl Iterator<Item = Hash>) -> Hash {
    let buckets: Vec<Hash> = buckets.collect();
    let buckets: Vec<&[u8]> = buckets.iter().map(|bucket| bucket.0.as_slice()).collect();
    hash_parts(b"kith digest", &buckets)
}
