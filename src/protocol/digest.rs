//! The view's digest: what two nodes compare to know that they agree.
//!
//! ```text
//!   leaf    H(id, version, H(record))          of each entry that is up
//!   bucket  H(its leaves, sorted by id)        256 of them, by the first byte of the short id
//!   digest  H(256 buckets)                     collision-resistant, unlike a sum or XOR of leaves
//! ```
//!
//! Only buckets that were touched are hashed again.

use std::collections::{BTreeMap, BTreeSet};

use super::hash::{Hash, hash_parts};
use super::identity::ControllerId;
use super::view::Entry;

/// The digests of the buckets, and which of them are out of date.
#[derive(Debug)]
pub struct Digests {
    members: BTreeMap<u8, BTreeSet<ControllerId>>,
    buckets: Vec<Hash>,
    stale: BTreeSet<u8>,
    view: Hash,
}

impl Digests {
    /// Of an empty view.
    pub fn new() -> Self {
        let buckets = vec![bucket(&[]); 256];
        let view = whole(&buckets);
        Self { members: BTreeMap::new(), buckets, stale: BTreeSet::new(), view }
    }

    /// The entry of this node was added or changed.
    pub fn touch(&mut self, id: &ControllerId) {
        let number = id.short().0[0];
        self.members.entry(number).or_default().insert(*id);
        self.stale.insert(number);
    }

    /// The entry of this node is gone.
    pub fn forget(&mut self, id: &ControllerId) {
        let number = id.short().0[0];
        if let Some(members) = self.members.get_mut(&number) {
            members.remove(id);
        }
        self.stale.insert(number);
    }

    /// The digest of the whole view, whose entries these are.
    pub fn view(&mut self, entries: &BTreeMap<ControllerId, Entry>) -> Hash {
        if self.stale.is_empty() {
            return self.view;
        }
        for number in std::mem::take(&mut self.stale) {
            let members = self.members.get(&number).into_iter().flatten();
            let leaves: Vec<Hash> =
                members.filter_map(|id| entries.get(id)).filter(|entry| entry.is_up()).map(Entry::leaf).collect();
            self.buckets[usize::from(number)] = bucket(&leaves);
        }
        self.view = whole(&self.buckets);
        self.view
    }
}

impl Default for Digests {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(leaves: &[Hash]) -> Hash {
    let leaves: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.0.as_slice()).collect();
    hash_parts(b"kith digest bucket", &leaves)
}

fn whole(buckets: &[Hash]) -> Hash {
    let buckets: Vec<&[u8]> = buckets.iter().map(|bucket| bucket.0.as_slice()).collect();
    hash_parts(b"kith digest", &buckets)
}
