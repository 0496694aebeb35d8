//! What is signed: a node's record of itself, a witness of somebody's silence, a decision to forget.
//!
//! ```text
//! Record   by its subject    "I am L at A, version V, and these are the heads of my edges"     floods on change
//! Witness  by an observer    "the node of record R does not answer"                            stage 1, stage 2
//! Forget   by any member     "drop the node of record R, which is down or left"                expires
//! ```
//!
//! Signatures are checked at the door (`secure/`), which turns an object into `Verified`; nothing in `protocol/` takes
//! anything else. Each kind has its own tag, and the network's hash is in the signed bytes (`discovery.md` 2.1).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::codec::{PASSING, encode_into, encoded_len};
use super::discovery::overlay::{RINGS, ring_places};
use super::hash::{Hash, hash_parts};
use super::identity::{ControllerId, Label, ShortId};
use super::list::List;

/// How many heads a record may name: twice the usual out-degree.
pub const MAX_EDGES: usize = 16;
/// The largest encoded record, in bytes: label 63, tags 256, 16 edges with their round trips, and the rest.
pub const MAX_RECORD: usize = 784;
/// Keys and values of all tags together, in bytes.
pub const MAX_TAGS: usize = 256;

/// How long the network remembers what a record says, in hours: 48 and one for clocks that differ. Records are renewed
/// every [`RENEWAL`]; what is older is no longer taken in, so that a node that all have dropped cannot be brought back.
pub const MEMORY_HOURS: u32 = 49;
/// How often a node says anew what has not changed: half of that, so that one failure to spread it does no harm.
pub const RENEWAL: Duration = Duration::from_secs(24 * 3600);

/// True for what was issued longer ago than the network remembers. Both in Unix hours.
pub fn is_expired(issued: u32, now: u32) -> bool {
    now.saturating_sub(issued) > MEMORY_HOURS
}

/// True for what says that it was issued further ahead than that, which only a clock gone mad or a liar does: nobody would
/// ever drop it. Both in Unix hours.
pub fn is_ahead(issued: u32, now: u32) -> bool {
    issued.saturating_sub(now) > MEMORY_HOURS
}

/// Eight bytes that stand for the network's name in everything signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NetworkId(#[serde(with = "super::words")] pub [u8; 8]);

impl NetworkId {
    /// The id of a network's name.
    pub fn of(name: &str) -> Self {
        Self(hash_parts(b"kith network", &[name.as_bytes()]).short())
    }
}

/// 64 bytes of Ed25519; two halves because serde knows arrays up to 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature(#[serde(with = "super::words")] pub [u8; 32], #[serde(with = "super::words")] pub [u8; 32]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature")
    }
}

/// Whether a node takes part or has taken its leave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RecordState {
    /// Takes part.
    Up,
    /// Left gracefully; final for this version, a later version revives it.
    Left,
}

/// Whether a node can be dialled.
///
/// A newcomer is presumed to be: edges may lead to it, and whoever succeeds proves it. But a dial that fails says nothing of
/// its life. Only when nobody has reached it for ten seconds does it say that nobody can (`discovery.md` 2.6; there a node
/// began as one that cannot, and each had to be dialled back before the rings could close).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Reach {
    /// Nobody has, so far.
    Unproven,
    /// Somebody did, and it proved to be there.
    Proven,
    /// Nobody can, as far as it knows: it is behind a firewall or a translated address.
    Never,
}

impl Reach {
    /// True if an edge may lead to it.
    pub fn may_be_dialled(self) -> bool {
        self != Self::Never
    }

    /// True if a dial that fails says that something is wrong with it.
    pub fn is_proven(self) -> bool {
        self == Self::Proven
    }

    /// As reported: unknown while nobody has tried.
    pub fn known(self) -> Option<bool> {
        match self {
            Self::Unproven => None,
            Self::Proven => Some(true),
            Self::Never => Some(false),
        }
    }
}

/// All of a record but its signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordBody {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Whose record it is, and the key that signs it.
    pub id: ControllerId,
    /// Strictly monotone: `max(stored + 1, unix milliseconds)` at start, one more at each publication.
    pub version: u64,
    /// Unix hours; what is older than the network's memory is not accepted anew.
    pub issued: u32,
    /// Random at each start: tells a restart from a second process with the same key.
    pub incarnation: u64,
    /// Takes part, or left.
    pub state: RecordState,
    /// Whether anybody has reached it at the advertised address.
    pub reach: Reach,
    /// Where to dial it.
    pub address: SocketAddr,
    /// Its readable name.
    pub label: Label,
    /// What its owner says about it, `key=value`, each key once and in rising order; at most [`MAX_TAGS`] bytes in all.
    pub tags: List<(String, String), 32>,
    /// The heads of its overlay edges, sorted: the tail publishes the edge.
    pub edges: List<ShortId, MAX_EDGES>,
    /// For each of these the round trip when it was published, in milliseconds, at most 255; 0 if it had not been measured.
    /// So everybody knows how far apart nodes are, and all can agree on the quickest way around.
    pub round_trips: List<u8, MAX_EDGES>,
}

/// What a node says of itself, signed by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What it says.
    pub body: RecordBody,
    /// By `body.id`.
    pub signature: Signature,
}

/// How far an observer's accusation has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// "It does not answer me": display, and a call for others to look.
    Suspect,
    /// "And it did not refute that": counts towards `down`.
    Down,
}

/// All of a witness but its signature.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct WitnessBody {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Whom it accuses.
    pub subject: ShortId,
    /// First bytes of the hash of the accused record: only what exists can be accused.
    #[serde(with = "super::words")]
    pub record: [u8; 8],
    /// Suspect or down.
    pub stage: Stage,
    /// How many observers the observer thinks are owed for `down`: 1 to 3.
    pub need: u8,
    /// Who says so, and the key that signs it.
    pub observer: ControllerId,
}

/// An observer's signed accusation of silence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Witness {
    /// What it says.
    pub body: WitnessBody,
    /// By `body.observer`.
    pub signature: Signature,
}

/// All of a forget but its signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForgetBody {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Who is to be forgotten.
    pub subject: ShortId,
    /// First bytes of the hash of the record to forget; a greater record undoes it.
    #[serde(with = "super::words")]
    pub record: [u8; 8],
    /// Unix hours of the decision.
    pub issued: u32,
    /// Who decided, and the key that signs it.
    pub author: ControllerId,
}

/// A member's signed decision that a node which is down or left be dropped everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// What it says.
    pub body: ForgetBody,
    /// By `body.author`.
    pub signature: Signature,
}

/// What tells one kind of item from another takes so many bytes on the wire.
const KIND: usize = 4;

/// Whatever news carries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Item {
    /// A node of itself.
    Record(Arc<Record>),
    /// An observer of a node.
    Witness(Arc<Witness>),
    /// A member of a node that is gone.
    Forget(Arc<Forget>),
}

/// What follows from an object alone, and is wanted more than once: worked out when the object passes the door.
pub trait Marked {
    /// What is worked out.
    type Marks: Clone + fmt::Debug;
    /// Works it out.
    fn marks(&self) -> Self::Marks;
}

/// What follows from a record alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMarks {
    /// The record's hash: orders records of one version, and is what witnesses name and digests cover.
    pub hash: Hash,
    /// Where the node stands on each ring, by `H(ring ‖ id)`.
    pub ring_places: [u64; RINGS],
    /// How many bytes it has on the wire.
    pub length: usize,
}

/// Something whose signature, network and bounds were checked at the door. Cheap to clone: all clones share one object, and
/// what was worked out for it.
pub struct Verified<T: Marked>(Arc<Seen<T>>);

struct Seen<T: Marked> {
    object: Arc<T>,
    marks: T::Marks,
}

impl<T: Marked> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Marked + PartialEq> PartialEq for Verified<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.object == other.0.object
    }
}

impl<T: Marked + Eq> Eq for Verified<T> {}

impl<T: Marked + fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.object.fmt(f)
    }
}

impl<T: Marked> Verified<T> {
    /// Only for `secure/`, after the check (and for drivers that stand in for it in tests).
    pub fn vouch(checked: Arc<T>) -> Self {
        let marks = checked.marks();
        Self(Arc::new(Seen { object: checked, marks }))
    }

    /// The shared object, to send it on.
    pub fn shared(&self) -> Arc<T> {
        Arc::clone(&self.0.object)
    }

    /// True if it is this, or says and is signed the same.
    pub fn is(&self, object: &Arc<T>) -> bool
    where
        T: PartialEq,
    {
        Arc::ptr_eq(&self.0.object, object) || self.0.object == *object
    }

    /// How many hold it, this one among them.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// What was worked out for it.
    pub fn marks(&self) -> &T::Marks {
        &self.0.marks
    }
}

impl<T: Marked> Deref for Verified<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.object
    }
}

impl Marked for Record {
    type Marks = RecordMarks;

    fn marks(&self) -> RecordMarks {
        RecordMarks { hash: self.hash(), ring_places: ring_places(&self.body.id), length: encoded_len(self) }
    }
}

impl Marked for Witness {
    type Marks = ();

    fn marks(&self) {}
}

impl Marked for Forget {
    type Marks = ();

    fn marks(&self) {}
}

/// An [`Item`] that passed the door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VerifiedItem {
    /// See [`Item::Record`].
    Record(Verified<Record>),
    /// See [`Item::Witness`].
    Witness(Verified<Witness>),
    /// See [`Item::Forget`].
    Forget(Verified<Forget>),
}

impl VerifiedItem {
    /// The form that travels.
    pub fn item(&self) -> Item {
        match self {
            Self::Record(record) => Item::Record(record.shared()),
            Self::Witness(witness) => Item::Witness(witness.shared()),
            Self::Forget(forget) => Item::Forget(forget.shared()),
        }
    }

    /// How many bytes that form has on the wire. Of a record it is known: a forming network sends each to everybody.
    pub fn length(&self) -> usize {
        match self {
            Self::Record(record) => KIND + record.marks().length,
            Self::Witness(witness) => KIND + encoded_len(&**witness),
            Self::Forget(forget) => KIND + encoded_len(&**forget),
        }
    }
}

/// Who can sign for this node: `secure/` in the daemon. An argument, so that the thinking stays pure.
pub trait Signer: Send {
    /// The id whose key signs.
    fn id(&self) -> ControllerId;
    /// Signs bytes that are already tagged.
    fn sign(&self, bytes: &[u8]) -> Signature;
}

/// A body that can be signed: its tag keeps one kind from passing for another.
pub trait Signed: Serialize {
    /// Differs for each kind of signed object.
    const TAG: &'static [u8];

    /// Exactly the bytes that the signature is over.
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PASSING);
        bytes.extend_from_slice(Self::TAG);
        encode_into(self, &mut bytes);
        bytes
    }
}

impl Signed for RecordBody {
    const TAG: &'static [u8] = b"kith record 1";
}

impl Signed for WitnessBody {
    const TAG: &'static [u8] = b"kith witness 1";
}

impl Signed for ForgetBody {
    const TAG: &'static [u8] = b"kith forget 1";
}

impl Record {
    /// The hash that orders records of one version, and that witnesses name.
    pub fn hash(&self) -> Hash {
        let mut bytes = Vec::with_capacity(PASSING);
        encode_into(self, &mut bytes);
        hash_parts(b"kith record hash", &[&bytes])
    }

    /// Signs a body as this node's own record.
    pub fn signed(body: RecordBody, signer: &dyn Signer) -> Verified<Self> {
        let signature = signer.sign(&body.signed_bytes());
        Verified::vouch(Arc::new(Self { body, signature }))
    }

    /// The tags as a map, for reports.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.body.tags.iter().cloned().collect()
    }
}

impl Witness {
    /// Signs an accusation by this node.
    pub fn signed(body: WitnessBody, signer: &dyn Signer) -> Verified<Self> {
        let signature = signer.sign(&body.signed_bytes());
        Verified::vouch(Arc::new(Self { body, signature }))
    }
}

impl Forget {
    /// Signs a decision of this node.
    pub fn signed(body: ForgetBody, signer: &dyn Signer) -> Verified<Self> {
        let signature = signer.sign(&body.signed_bytes());
        Verified::vouch(Arc::new(Self { body, signature }))
    }
}
