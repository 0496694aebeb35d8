//! All that is known about one node: its record, and what others say of that record.
//!
//! Nearly all entries of a network at rest hold a record and nothing else, so that is what they cost: three words. What
//! others say is kept beside, for as long as there is any; what is asked with every announcement is at hand, since there are
//! dozens of these for each node that joins.

use std::collections::BTreeSet;

use super::codec::encode;
use super::hash::{Hash, hash_parts};
use super::record::{Forget, Record, RecordState, Stage, Verified, VerifiedItem, Witness};

/// Witnesses in a down certificate: with three honest ones no single liar can declare anybody dead in a large network.
pub const CERTIFICATE: usize = 3;
/// Suspicions kept per node: more say nothing new.
const MAX_SUSPICIONS: usize = 8;

/// What an entry says, by itself and for everybody alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Takes part.
    Up,
    /// Enough observers say it is silent.
    Down,
    /// Left gracefully.
    Left,
    /// Dropped by a member's decision; kept only so that it stays dropped.
    Forgotten,
}

/// All that is known about one node.
#[derive(Clone, Debug)]
pub struct Entry {
    record: Verified<Record>,
    said: Option<Box<Said>>,
    number: u32,
    version: u32,
}

/// What others say of a record.
#[derive(Clone, Debug, Default)]
struct Said {
    certificate: Vec<Verified<Witness>>,
    forgotten: Option<Verified<Forget>>,
    suspicions: Vec<Verified<Witness>>,
    verdict: [u8; 4],
}

impl Entry {
    pub(super) fn new(record: Verified<Record>, number: u32) -> Self {
        let version = record.body.version as u32;
        Self { record, said: None, number, version }
    }

    /// Its number among the view's entries, small and without gaps: for as long as the view has the node.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The lower half of its record's version, which is all that announcements say of it.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the node says of itself.
    pub fn record(&self) -> &Verified<Record> {
        &self.record
    }

    /// The record's hash.
    pub fn hash(&self) -> Hash {
        self.record.marks().hash
    }

    /// The observers whose witness counts towards `down`.
    pub fn certificate(&self) -> &[Verified<Witness>] {
        self.said.as_ref().map_or(&[], |said| &said.certificate)
    }

    /// The observers that miss it but have not yet called it down.
    pub fn suspicions(&self) -> impl Iterator<Item = &Verified<Witness>> {
        self.said.iter().flat_map(|said| &said.suspicions)
    }

    /// The decision by which it was dropped, if there is one.
    pub fn forget(&self) -> Option<&Verified<Forget>> {
        self.said.as_ref().and_then(|said| said.forgotten.as_ref())
    }

    /// True if somebody misses it.
    pub fn is_suspected(&self) -> bool {
        self.said.as_ref().is_some_and(|said| !said.suspicions.is_empty())
    }

    /// True if anybody has said anything against it, and not been refuted.
    pub fn is_accused(&self) -> bool {
        self.said.is_some()
    }

    /// A pure function of the entry: never of the clock, of other entries or of the order of arrival.
    pub fn standing(&self) -> Standing {
        let certificate = self.certificate();
        let need = certificate.iter().map(|witness| usize::from(witness.body.need)).min();
        match (self.record.body.state, need) {
            _ if self.said.as_ref().is_some_and(|said| said.forgotten.is_some()) => Standing::Forgotten,
            (RecordState::Left, _) => Standing::Left,
            (RecordState::Up, Some(need)) if certificate.len() >= need => Standing::Down,
            (RecordState::Up, _) => Standing::Up,
        }
    }

    /// True if it takes part.
    pub fn is_up(&self) -> bool {
        self.standing() == Standing::Up
    }

    /// Everything of it that others may lack, in the order in which it can be merged.
    pub fn items(&self) -> Vec<VerifiedItem> {
        let mut items = vec![VerifiedItem::Record(self.record.clone())];
        items.extend(self.verdict_items());
        items
    }

    /// The same without the record.
    pub fn verdict_items(&self) -> impl Iterator<Item = VerifiedItem> {
        let forgotten = self.said.iter().flat_map(|said| said.forgotten.iter().cloned());
        let certificate = self.certificate().iter().cloned().map(VerifiedItem::Witness);
        certificate.chain(forgotten.map(VerifiedItem::Forget))
    }

    /// Eight bytes that differ if anything merged differs: record, certificate or forgetting.
    pub fn state_hash(&self) -> [u8; 8] {
        let mut state = self.hash().short();
        for (byte, verdict) in state.iter_mut().zip(self.verdict()) {
            *byte ^= verdict;
        }
        state
    }

    /// Four bytes that tell one verdict (certificate, forgetting) from another; all zeros if there is none.
    pub fn verdict(&self) -> [u8; 4] {
        self.said.as_ref().map(|said| said.verdict).unwrap_or_default()
    }

    fn judge(&mut self) {
        let Some(said) = &mut self.said else { return };
        // What was said, not how it was signed: an observer can sign the same words in many ways, and those who heard
        // different ones must not compare their views for ever.
        let mut parts: Vec<Vec<u8>> = said.certificate.iter().map(|witness| encode(&witness.body)).collect();
        parts.extend(said.forgotten.iter().map(|forget| encode(&forget.body)));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        said.verdict = [0; 4];
        if !parts.is_empty() {
            said.verdict.copy_from_slice(&hash_parts(b"kith verdict", &parts).0[..4]);
        }
    }

    /// True if this has been said of this record before, and is held: most news come several times.
    pub(super) fn has_heard(&self, item: &VerifiedItem) -> bool {
        match item {
            VerifiedItem::Witness(witness) if witness.body.stage == Stage::Down => self.certificate().contains(witness),
            VerifiedItem::Witness(witness) => self.suspicions().any(|held| held == witness),
            VerifiedItem::Forget(forget) => self.forget() == Some(forget),
            VerifiedItem::Record(record) => self.record == *record,
        }
    }

    pub(super) fn add_witness(&mut self, witness: Verified<Witness>) -> bool {
        let hash = self.hash();
        let said = self.said.get_or_insert_default();
        let before = said.certificate.clone();
        let rank = |witness: &Verified<Witness>| {
            (witness.body.need, hash_parts(b"kith rank", &[&witness.body.observer.0, &hash.0]))
        };
        said.certificate.push(witness);
        said.certificate.sort_by_cached_key(rank);
        let mut seen = BTreeSet::new();
        said.certificate.retain(|witness| seen.insert(witness.body.observer));
        said.certificate.truncate(CERTIFICATE);
        let changed = said.certificate != before;
        self.judge();
        changed
    }

    pub(super) fn add_suspicion(&mut self, witness: Verified<Witness>) -> bool {
        let said = self.said.get_or_insert_default();
        if let Some(held) = said.suspicions.iter_mut().find(|held| held.body.observer == witness.body.observer) {
            // A verdict that is to count later says more than the accusation before it.
            let more = witness.body.stage > held.body.stage;
            if more {
                *held = witness;
            }
            return more;
        }
        if said.suspicions.len() >= MAX_SUSPICIONS {
            return false;
        }
        said.suspicions.push(witness);
        true
    }

    pub(super) fn add_forget(&mut self, forget: Verified<Forget>) -> bool {
        let said = self.said.get_or_insert_default();
        let rank = |forget: &Verified<Forget>| (forget.body.issued, forget.body.author);
        if said.forgotten.as_ref().is_some_and(|held| rank(held) >= rank(&forget)) {
            return false;
        }
        said.forgotten = Some(forget);
        self.judge();
        true
    }
}
