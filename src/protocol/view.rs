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
//!
//! Entries lie in 256 buckets by the first byte of their id, sorted, which is also how views are digested and compared.
//! Whatever is asked often (who is up, who is down, how many, who has an edge to this node) is kept at hand as entries
//! change, so that no question but the rarest goes through all of them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::digest::{self, BUCKETS};
use super::hash::{Hash, hash_parts};
use super::identity::{ControllerId, ShortId};
use super::lookup::count_below;
use super::numbers::Numbers;
use super::reason::Reason;
use super::record::{Record, Stage, Verified, VerifiedItem, is_expired};
use super::rng::Rng;
use super::tally::Tally;

pub use super::entry::{CERTIFICATE, Entry, Standing};

/// Witnesses and forgets kept for records that have not arrived, about 200 bytes each; the oldest goes first.
pub const MAX_PARKED: usize = 4096;

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
    buckets: Vec<Bucket>,
    hashes: Vec<Hashes>,
    digest: OnceCell<Hash>,
    tally: Tally,
    shelves: Shelves,
    parked: BTreeMap<[u8; 8], Vec<VerifiedItem>>,
    parked_order: VecDeque<[u8; 8]>,
    max_nodes: usize,
}

/// The entries of one first byte, by rising id.
#[derive(Debug, Default)]
struct Bucket {
    entries: Vec<(ShortId, Entry)>,
}

/// A bucket's hashes while these hold: beside the buckets, which are looked into for every piece of news.
#[derive(Debug, Default)]
struct Hashes {
    digest: OnceCell<Hash>,
    states: OnceCell<[u8; 8]>,
}

/// In which bucket the entry of each number is, and the numbers of entries that were dropped: the next ones take these. So
/// numbers stay as small as the view; who has one of a dropped node written down may read it as another's.
#[derive(Debug, Default)]
struct Shelves {
    bucket_of: Vec<u8>,
    free: Vec<u32>,
}

impl View {
    /// Knows nobody. `max_nodes` bounds the entries: one more is refused, since each costs about half a kilobyte.
    pub fn new(max_nodes: usize) -> Self {
        Self {
            buckets: std::iter::repeat_with(Bucket::default).take(BUCKETS).collect(),
            hashes: std::iter::repeat_with(Hashes::default).take(BUCKETS).collect(),
            digest: OnceCell::new(),
            tally: Tally::default(),
            shelves: Shelves::default(),
            parked: BTreeMap::new(),
            parked_order: VecDeque::new(),
            max_nodes,
        }
    }

    /// The same, as seen by this node: who has an edge to it is kept at hand.
    pub fn around(me: &ControllerId, max_nodes: usize) -> Self {
        let mut view = Self::new(max_nodes);
        view.tally.centre = Some(me.short());
        view
    }

    /// Takes in one piece of news: the only way a view changes.
    pub fn merge(&mut self, item: VerifiedItem) -> Merged {
        match item {
            VerifiedItem::Record(record) => self.merge_record(record),
            VerifiedItem::Witness(witness) => {
                let (subject, named) = (witness.body.subject, witness.body.record);
                self.merge_about(subject, named, VerifiedItem::Witness(witness), false)
            }
            VerifiedItem::Forget(forget) => {
                let (subject, named) = (forget.body.subject, forget.body.record);
                self.merge_about(subject, named, VerifiedItem::Forget(forget), false)
            }
        }
    }

    /// Takes in a verdict as if it were an accusation only; [`View::merge`] makes it count.
    pub fn accuse(&mut self, item: VerifiedItem) -> Merged {
        let VerifiedItem::Witness(witness) = item else { return Merged::Known };
        let (subject, named) = (witness.body.subject, witness.body.record);
        self.merge_about(subject, named, VerifiedItem::Witness(witness), true)
    }

    /// Drops the entries that are not up and whose records were issued longer ago than the network remembers; the digest,
    /// which covers only nodes that are up, stays the same.
    pub fn expire(&mut self, now_hours: u32) -> Vec<ControllerId> {
        let is_over = |entry: &Entry| !entry.is_up() && is_expired(entry.record().body.issued, now_hours);
        let over: Vec<ControllerId> = self.all().filter(|(_, entry)| is_over(entry)).map(|(id, _)| *id).collect();
        for id in &over {
            let bucket = &mut self.buckets[usize::from(id.0[0])];
            let Ok(at) = bucket.place(&id.short()) else { continue };
            let (short, entry) = bucket.entries.remove(at);
            self.hashes[usize::from(id.0[0])].states.take();
            self.tally.remove(short, &entry);
            self.shelves.free.push(entry.number());
        }
        over
    }

    /// Rises whenever an entry comes, changes or goes: what was found by going through all of them holds for as long as this
    /// stays the same.
    pub fn changes(&self) -> u64 {
        self.tally.changes
    }

    /// True if there is anybody who is not up.
    pub fn has_gone(&self) -> bool {
        self.tally.gone > 0
    }

    /// How many entries there are, forgotten ones too.
    pub fn len(&self) -> usize {
        self.tally.entries
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.tally.entries == 0
    }

    /// How many witnesses and forgets wait for their record.
    pub fn parked(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }

    /// The entry of a node.
    pub fn get(&self, id: &ControllerId) -> Option<&Entry> {
        self.find(&id.short()).filter(|entry| entry.record().body.id == *id)
    }

    /// The entry of the node of that short id.
    pub fn find(&self, short: &ShortId) -> Option<&Entry> {
        let bucket = &self.buckets[usize::from(short.0[0])];
        bucket.entries.get(bucket.place(short).ok()?).map(|(_, entry)| entry)
    }

    /// The entries with these numbers, by rising id.
    pub fn among(&self, numbers: &Numbers) -> impl Iterator<Item = (ShortId, &Entry)> {
        let mut wanted = [false; BUCKETS];
        for bucket in numbers.iter().filter_map(|number| self.shelves.bucket_of.get(number as usize)) {
            wanted[usize::from(*bucket)] = true;
        }
        let buckets = self.buckets.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let entries = buckets.flat_map(|(bucket, _)| &bucket.entries);
        entries.filter(|(_, entry)| numbers.contains(entry.number())).map(|(short, entry)| (*short, entry))
    }

    /// The full id behind a short one, if its record is known.
    pub fn resolve(&self, short: &ShortId) -> Option<ControllerId> {
        self.find(short).map(|entry| entry.record().body.id)
    }

    /// All entries but the forgotten ones, by rising id.
    pub fn iter(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.all().filter(|(_, entry)| entry.standing() != Standing::Forgotten)
    }

    /// The nodes that take part.
    pub fn up(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.all().filter(|(_, entry)| entry.is_up())
    }

    /// How many take part.
    pub fn up_count(&self) -> usize {
        self.tally.up
    }

    /// How many of those that take part can be dialled, as far as is known.
    pub fn reachable_count(&self) -> usize {
        self.tally.reachable
    }

    /// The nodes that take part and against which somebody has said something.
    pub fn accused(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.tally.accused.iter().filter_map(|short| self.find(short)).map(|entry| (&entry.record().body.id, entry))
    }

    /// How many are down.
    pub fn down_count(&self) -> usize {
        self.tally.down.len()
    }

    /// One of those that are down, by chance.
    pub fn any_down(&self, rng: &mut Rng) -> Option<&Entry> {
        let mut point = [0; 8];
        point.copy_from_slice(&rng.next_u64().to_be_bytes());
        let behind = self.tally.down.range(ShortId(point)..).next();
        self.find(behind.or_else(|| self.tally.down.first())?)
    }

    /// One of all entries, by chance.
    pub fn any(&self, rng: &mut Rng) -> Option<&Entry> {
        let mut left = rng.below(self.tally.entries);
        for bucket in &self.buckets {
            match bucket.entries.get(left) {
                Some((_, entry)) => return Some(entry),
                None => left -= bucket.entries.len(),
            }
        }
        None
    }

    /// The digest over the nodes that take part.
    pub fn digest(&self) -> Hash {
        let buckets = self.buckets.iter().zip(&self.hashes);
        *self.digest.get_or_init(|| digest::whole(buckets.map(|(bucket, hashes)| hashes.digest(bucket))))
    }

    /// Equal for equal digests, and at hand whenever something changed; but whoever can choose records could make it equal
    /// for different ones. So it tells a node that its own digest may be another, and nobody else anything.
    pub fn sketch(&self) -> u64 {
        self.tally.sketch
    }

    /// Hashes of all that is merged, by bucket, of the buckets from `first` on that are not empty: for `Sync`.
    pub fn bucket_hashes(&self, first: u8) -> impl Iterator<Item = (u8, [u8; 8])> {
        let buckets = self.buckets.iter().zip(&self.hashes).zip(0..=u8::MAX).skip(usize::from(first));
        let buckets = buckets.filter(|((bucket, _), _)| !bucket.entries.is_empty());
        buckets.map(|((bucket, hashes), number)| (number, hashes.states(bucket)))
    }

    /// Each entry's short id and state hash, forgotten ones too, by rising short id.
    pub fn states(&self) -> impl Iterator<Item = (ShortId, [u8; 8])> {
        (0..=u8::MAX).flat_map(|bucket| self.states_in(bucket))
    }

    /// The same of one bucket.
    pub fn states_in(&self, bucket: u8) -> impl Iterator<Item = (ShortId, [u8; 8])> {
        self.buckets[usize::from(bucket)].entries.iter().map(|(short, entry)| (*short, entry.state_hash()))
    }

    /// The nodes at the other ends of a node's edges.
    pub fn neighbours(&self, of: &ControllerId) -> BTreeSet<ControllerId> {
        let Some(entry) = self.get(of).filter(|entry| entry.is_up()) else { return BTreeSet::new() };
        let short = of.short();
        let tails: Vec<ShortId> = match self.tally.centre {
            Some(centre) if centre == short => self.tally.tails.iter().copied().collect(),
            _ => self
                .up()
                .filter(|(_, entry)| entry.record().body.edges.contains(&short))
                .map(|(id, _)| id.short())
                .collect(),
        };
        let ends = entry.record().body.edges.iter().chain(&tails).filter_map(|short| self.find(short));
        ends.filter(|entry| entry.is_up()).map(|entry| entry.record().body.id).collect()
    }

    /// Edges of the graph: named by their tail's record, with both ends up.
    pub fn edges(&self) -> impl Iterator<Item = (ControllerId, ControllerId)> {
        self.up().flat_map(|(tail, entry)| {
            let heads = entry.record().body.edges.iter().filter_map(|head| self.find(head));
            heads.filter(|head| head.is_up()).map(|head| (*tail, head.record().body.id))
        })
    }

    fn all(&self) -> impl Iterator<Item = (&ControllerId, &Entry)> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries).map(|(_, entry)| (&entry.record().body.id, entry))
    }

    fn merge_record(&mut self, record: Verified<Record>) -> Merged {
        let (id, short, hash) = (record.body.id, record.body.id.short(), record.marks().hash);
        let bucket = &mut self.buckets[usize::from(short.0[0])];
        match bucket.place(&short) {
            Ok(at) => {
                let held = &mut bucket.entries[at].1;
                // Two ids with one short id: lists of edges could not tell them apart.
                if held.record().body.id != id {
                    return Merged::Refused(Reason::DuplicateIdentity);
                }
                if (held.record().body.version, held.hash()) >= (record.body.version, hash) {
                    return Merged::Known;
                }
                self.tally.remove(short, held);
                *held = Entry::new(record, held.number());
                self.tally.add(short, held);
            }
            Err(_) if self.tally.entries >= self.max_nodes => return Merged::Refused(Reason::Overloaded),
            Err(at) => {
                let entry = Entry::new(record, self.shelves.take(short));
                self.tally.add(short, &entry);
                bucket.insert(at, short, entry);
            }
        }
        self.hashes[usize::from(short.0[0])] = Hashes::default();
        self.digest.take();
        for item in self.parked.remove(&hash.short()).unwrap_or_default() {
            self.merge(item);
        }
        Merged::Changed(id)
    }

    fn merge_about(&mut self, subject: ShortId, named: [u8; 8], item: VerifiedItem, early: bool) -> Merged {
        let bucket = &mut self.buckets[usize::from(subject.0[0])];
        let at = bucket.place(&subject).ok();
        let held = at.and_then(|at| bucket.entries.get_mut(at)).map(|(_, entry)| entry);
        let Some(entry) = held.filter(|entry| entry.hash().short() == named) else {
            // Asked once: whoever sends it again has nothing better.
            return if self.park(named, item) { Merged::Wanted(subject) } else { Merged::Known };
        };
        if entry.has_heard(&item) {
            return Merged::Known;
        }
        let (before, id) = (entry.clone(), entry.record().body.id);
        let changed = match item {
            VerifiedItem::Witness(witness) => match witness.body.stage {
                Stage::Down if early => entry.add_suspicion(witness),
                Stage::Suspect => entry.add_suspicion(witness),
                Stage::Down => entry.add_witness(witness),
            },
            VerifiedItem::Forget(forget) => entry.add_forget(forget),
            VerifiedItem::Record(_) => false,
        };
        if !changed {
            return Merged::Known;
        }
        self.tally.remove(subject, &before);
        self.tally.add(subject, entry);
        let hashes = &mut self.hashes[usize::from(subject.0[0])];
        if before.is_up() != entry.is_up() {
            hashes.digest.take();
            self.digest.take();
        }
        hashes.states.take();
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

impl Shelves {
    /// A number for a new entry.
    fn take(&mut self, short: ShortId) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.bucket_of.push(0);
            // Entries are fewer than 2^32: each has taken half a kilobyte of memory.
            self.bucket_of.len() as u32 - 1
        });
        self.bucket_of[number as usize] = short.0[0];
        number
    }
}

impl Bucket {
    /// Grows by a quarter: left to itself, a collection doubles, and half of what a large view takes would be empty.
    fn insert(&mut self, at: usize, short: ShortId, entry: Entry) {
        let length = self.entries.len();
        if length == self.entries.capacity() {
            self.entries.reserve_exact((length / 4).max(2));
        }
        self.entries.insert(at, (short, entry));
    }

    /// Where this node's entry is, or would be.
    fn place(&self, short: &ShortId) -> Result<usize, usize> {
        let wanted = short.to_number();
        // All of a bucket have the first byte in common.
        let at = count_below(self.entries.len(), wanted << u8::BITS, |at| self.entries[at].0.to_number() < wanted);
        match self.entries.get(at) {
            Some((held, _)) if held == short => Ok(at),
            _ => Err(at),
        }
    }
}

impl Hashes {
    fn digest(&self, bucket: &Bucket) -> Hash {
        *self.digest.get_or_init(|| {
            let up = bucket.entries.iter().filter(|(_, entry)| entry.is_up());
            digest::bucket(&up.map(|(_, entry)| entry.hash()).collect::<Vec<_>>())
        })
    }

    fn states(&self, bucket: &Bucket) -> [u8; 8] {
        *self.states.get_or_init(|| {
            let mut leaves = Vec::with_capacity(16 * bucket.entries.len());
            for (short, entry) in &bucket.entries {
                leaves.extend(short.0);
                leaves.extend(entry.state_hash());
            }
            hash_parts(b"kith bucket", &[&leaves]).short()
        })
    }
}

#[cfg(test)]
#[path = "view_laws.rs"]
mod laws;
