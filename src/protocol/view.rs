//! What this node knows of the whole network, and the one rule by which two views become one.
//!
//! ```text
//!   View = id → Entry { record, down certificate, forgotten }
//!
//!   per id: the greater (version, hash) wins and discards what was said about the lesser record;
//!           at equality the certificates are united: one witness per observer (its smaller need),
//!           then the three smallest by (need, hash of observer and record)
//! ```
//!
//! That is a join: commutative, associative and idempotent, so any order of the same news gives the same view
//! (`discovery.md` 2.2). Status is a pure function of the entry. Suspicions (stage 1) live beside it: they are shown and
//! passed on, but are neither merged nor digested.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::codec::encode;
use super::digest::Digests;
use super::hash::{Hash, hash_parts};
use super::identity::{ControllerId, ShortId};
use super::reason::Reason;
use super::record::{Forget, Record, RecordState, Stage, Verified, VerifiedItem, Witness, is_expired};

/// Witnesses in a down certificate: with three honest ones no single liar can declare anybody dead in a large network.
pub const CERTIFICATE: usize = 3;
/// Suspicions kept per node: more say nothing new.
const MAX_SUSPICIONS: usize = 8;
/// Witnesses and forgets kept for records that have not arrived, about 200 bytes each; the oldest goes first.
pub const MAX_PARKED: usize = 4096;

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
    hash: Hash,
    certificate: Vec<Verified<Witness>>,
    forgotten: Option<Verified<Forget>>,
    suspicions: BTreeMap<ControllerId, Verified<Witness>>,
    state: [u8; 8],
}

/// What became of a piece of news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merged {
    /// The entry of this node changed: pass it on.
    Changed(ControllerId),
    /// Known already, or weaker than what is known.
    Known,
    /// Speaks of a record that has not arrived: ask for all about this node.
    Wanted(ShortId),
    /// Not taken, for this cause.
    Refused(Reason),
}

/// The whole network as known here.
#[derive(Debug)]
pub struct View {
    entries: BTreeMap<ControllerId, Entry>,
    ids: BTreeMap<ShortId, ControllerId>,
    parked: BTreeMap<[u8; 8], Vec<VerifiedItem>>,
    parked_order: VecDeque<[u8; 8]>,
    digests: Digests,
    max_nodes: usize,
}

impl Entry {
    fn new(record: Verified<Record>, hash: Hash) -> Self {
        let (certificate, suspicions) = (Vec::new(), BTreeMap::new());
        let mut entry = Self { record, hash, certificate, forgotten: None, suspicions, state: [0; 8] };
        entry.rehash();
        entry
    }

    /// What the node says of itself.
    pub fn record(&self) -> &Verified<Record> {
        &self.record
    }

    /// The record's hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The observers whose witness counts towards `down`.
    pub fn certificate(&self) -> &[Verified<Witness>] {
        &self.certificate
    }

    /// The observers that miss it but have not yet called it down.
    pub fn suspicions(&self) -> impl Iterator<Item = &Verified<Witness>> {
        self.suspicions.values()
    }

    /// True if somebody misses it.
    pub fn is_suspected(&self) -> bool {
        !self.suspicions.is_empty()
    }

    /// A pure function of the entry: never of the clock, of other entries or of the order of arrival.
    pub fn standing(&self) -> Standing {
        let need = self.certificate.iter().map(|witness| usize::from(witness.body.need)).min();
        match (self.record.body.state, need) {
            _ if self.forgotten.is_some() => Standing::Forgotten,
            (RecordState::Left, _) => Standing::Left,
            (RecordState::Up, Some(need)) if self.certificate.len() >= need => Standing::Down,
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
        items.extend(self.certificate.iter().cloned().map(VerifiedItem::Witness));
        items.extend(self.forgotten.iter().cloned().map(VerifiedItem::Forget));
        items
    }

    /// The leaf of the view's digest: identity, version, record.
    pub fn leaf(&self) -> Hash {
        let version = self.record.body.version.to_le_bytes();
        hash_parts(b"kith leaf", &[&self.record.body.id.0, &version, &self.hash.0])
    }

    /// Eight bytes that differ if anything merged differs: record, certificate or forgetting.
    pub fn state_hash(&self) -> [u8; 8] {
        self.state
    }

    fn rehash(&mut self) {
        // What was said, not how it was signed: an observer can sign the same words in many ways, and those who heard
        // different ones must not compare their views for ever.
        let mut parts: Vec<Vec<u8>> = vec![self.hash.0.to_vec()];
        parts.extend(self.certificate.iter().map(|witness| encode(&witness.body)));
        parts.extend(self.forgotten.iter().map(|forget| encode(&forget.body)));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        self.state = hash_parts(b"kith entry", &parts).short();
    }

    fn add_witness(&mut self, witness: Verified<Witness>) -> bool {
        let before: Vec<_> = self.certificate.clone();
        let rank = |witness: &Verified<Witness>| {
            (witness.body.need, hash_parts(b"kith rank", &[&witness.body.observer.0, &self.hash.0]))
        };
        self.certificate.push(witness);
        self.certificate.sort_by_key(rank);
        let mut seen = BTreeSet::new();
        self.certificate.retain(|witness| seen.insert(witness.body.observer));
        self.certificate.truncate(CERTIFICATE);
        self.certificate != before
    }

    fn add_suspicion(&mut self, witness: Verified<Witness>) -> bool {
        let observer = witness.body.observer;
        if self.suspicions.len() >= MAX_SUSPICIONS || self.suspicions.contains_key(&observer) {
            return false;
        }
        self.suspicions.insert(observer, witness);
        true
    }

    fn add_forget(&mut self, forget: Verified<Forget>) -> bool {
        let rank = |forget: &Verified<Forget>| (forget.body.issued, forget.body.author);
        if self.forgotten.as_ref().is_some_and(|held| rank(held) >= rank(&forget)) {
            return false;
        }
        self.forgotten = Some(forget);
        true
    }
}

impl View {
    /// Knows nobody. `max_nodes` bounds the entries: one more is refused, since each costs about a kilobyte.
    pub fn new(max_nodes: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            ids: BTreeMap::new(),
            parked: BTreeMap::new(),
            parked_order: VecDeque::new(),
            digests: Digests::new(),
            max_nodes,
        }
    }

    /// Takes in one piece of news: the only way a view changes.
    pub fn merge(&mut self, item: VerifiedItem) -> Merged {
        match item {
            VerifiedItem::Record(record) => self.merge_record(record),
            VerifiedItem::Witness(witness) => {
                let (subject, named) = (witness.body.subject, witness.body.record);
                self.merge_about(subject, named, VerifiedItem::Witness(witness))
            }
            VerifiedItem::Forget(forget) => {
                let (subject, named) = (forget.body.subject, forget.body.record);
                self.merge_about(subject, named, VerifiedItem::Forget(forget))
            }
        }
    }

    /// Drops the entries that are not up and whose records were issued longer ago than the network remembers; the digest,
    /// which covers only nodes that are up, stays the same.
    pub fn expire(&mut self, now_hours: u32) -> Vec<ControllerId> {
        let is_over = |entry: &Entry| !entry.is_up() && is_expired(entry.record.body.issued, now_hours);
        let over: Vec<ControllerId> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(id, _)| *id).collect();
        for id in &over {
            self.entries.remove(id);
            self.ids.remove(&id.short());
            self.digests.forget(id);
        }
        over
    }

    /// True if there is anybody who is not up.
    pub fn has_gone(&self) -> bool {
        self.entries.values().any(|entry| !entry.is_up())
    }

    /// How many entries there are, forgotten ones too.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many witnesses and forgets wait for their record.
    pub fn parked(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }

    /// The entry of a node.
    pub fn get(&self, id: &ControllerId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The full id behind a short one, if its record is known.
    pub fn resolve(&self, short: &ShortId) -> Option<ControllerId> {
        self.ids.get(short).copied()
    }

    /// All entries but the forgotten ones, by rising id.
    pub fn iter(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.standing() != Standing::Forgotten)
    }

    /// The nodes that take part.
    pub fn up(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.is_up())
    }

    /// The digest over the nodes that take part.
    pub fn digest(&mut self) -> Hash {
        self.digests.view(&self.entries)
    }

    /// Hashes of all that is merged, by bucket: for `Sync`.
    pub fn buckets(&self) -> BTreeMap<u8, [u8; 8]> {
        let mut leaves: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for (short, state) in self.states() {
            let leaf = leaves.entry(short.0[0]).or_default();
            leaf.extend(short.0);
            leaf.extend(state);
        }
        leaves.iter().map(|(bucket, leaves)| (*bucket, hash_parts(b"kith bucket", &[leaves]).short())).collect()
    }

    /// Each entry's short id and state hash, forgotten ones too, by rising short id.
    pub fn states(&self) -> impl Iterator<Item = (ShortId, [u8; 8])> {
        self.states_in(0, u8::MAX)
    }

    /// The same of the buckets from `first` to `last`.
    pub fn states_in(&self, first: u8, last: u8) -> impl Iterator<Item = (ShortId, [u8; 8])> {
        let (mut low, mut high) = ([0; 8], [u8::MAX; 8]);
        (low[0], high[0]) = (first, last);
        let ids = self.ids.range(ShortId(low)..=ShortId(high));
        ids.filter_map(|(short, id)| Some((*short, self.entries.get(id)?.state_hash())))
    }

    /// The nodes at the other ends of a node's edges.
    pub fn neighbours(&self, of: &ControllerId) -> BTreeSet<ControllerId> {
        let Some(entry) = self.get(of).filter(|entry| entry.is_up()) else { return BTreeSet::new() };
        let heads = entry.record.body.edges.iter().filter_map(|head| self.resolve(head));
        let heads = heads.filter(|head| self.entries[head].is_up());
        let short = of.short();
        let tails = self.up().filter(|(_, entry)| entry.record.body.edges.contains(&short)).map(|(tail, _)| *tail);
        heads.chain(tails).collect()
    }

    /// Edges of the graph: named by their tail's record, with both ends up.
    pub fn edges(&self) -> impl Iterator<Item = (ControllerId, ControllerId)> {
        self.up().flat_map(|(tail, entry)| {
            let heads = entry.record.body.edges.iter().filter_map(|head| self.resolve(head));
            heads.filter(|head| self.entries[head].is_up()).map(|head| (*tail, head))
        })
    }

    fn merge_record(&mut self, record: Verified<Record>) -> Merged {
        let id = record.body.id;
        let held = self.entries.get(&id);
        // The usual case, and no reason to hash anything: each neighbour brings the same record.
        if held.is_some_and(|held| held.record.body.version > record.body.version || *held.record == *record) {
            return Merged::Known;
        }
        let (hash, short) = (record.hash(), id.short());
        match held {
            Some(held) if (held.record.body.version, held.hash) >= (record.body.version, hash) => return Merged::Known,
            Some(_) => {}
            // Two ids with one short id: lists of edges could not tell them apart.
            None if self.ids.contains_key(&short) => return Merged::Refused(Reason::DuplicateIdentity),
            None if self.entries.len() >= self.max_nodes => return Merged::Refused(Reason::Overloaded),
            None => {}
        }
        self.entries.insert(id, Entry::new(record, hash));
        self.ids.insert(short, id);
        self.digests.touch(&id);
        for item in self.parked.remove(&hash.short()).unwrap_or_default() {
            self.merge(item);
        }
        Merged::Changed(id)
    }

    fn merge_about(&mut self, subject: ShortId, named: [u8; 8], item: VerifiedItem) -> Merged {
        let held = self.resolve(&subject).and_then(|id| Some((id, self.entries.get_mut(&id)?)));
        let Some((id, entry)) = held.filter(|(_, entry)| entry.hash.short() == named) else {
            // Asked once: whoever sends it again has nothing better.
            return if self.park(named, item) { Merged::Wanted(subject) } else { Merged::Known };
        };
        let changed = match item {
            VerifiedItem::Witness(witness) => match witness.body.stage {
                Stage::Suspect => entry.add_suspicion(witness),
                Stage::Down => entry.add_witness(witness),
            },
            VerifiedItem::Forget(forget) => entry.add_forget(forget),
            VerifiedItem::Record(_) => false,
        };
        if !changed {
            return Merged::Known;
        }
        entry.rehash();
        self.digests.touch(&id);
        Merged::Changed(id)
    }

    /// Keeps what speaks of a record that is not held; false if it waits already.
    fn park(&mut self, named: [u8; 8], item: VerifiedItem) -> bool {
        let waiting = self.parked.entry(named).or_default();
        if waiting.contains(&item) {
            return false;
        }
        waiting.push(item);
        self.parked_order.push_back(named);
        while self.parked_order.len() > MAX_PARKED {
            let Some(oldest) = self.parked_order.pop_front() else { break };
            if let Some(waiting) = self.parked.get_mut(&oldest) {
                waiting.remove(0);
                if waiting.is_empty() {
                    self.parked.remove(&oldest);
                }
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "view_laws.rs"]
mod laws;
