//! Ids, records and messages made of bytes: few of each kind, so that they meet.

use std::net::SocketAddr;
use std::sync::Arc;

use kithd::protocol::hash::{HalfHash, Hash};
use kithd::protocol::identity::{ControllerId, Label, ShortId};
use kithd::protocol::message::{
    Announcement, BucketHash, EntryHash, HeadMessage, News, Part, Purpose, Roll, RollStep, Statement, TailMessage, Want,
};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{
    Forget, ForgetBody, Item, NetworkId, Reach, Record, RecordBody, RecordState, Signature, Stage, Verified,
    VerifiedItem, Witness, WitnessBody,
};
use kithd::protocol::testimony::{Counts, Holders, MAX_TESTIMONIES, Mode, Nonce, Returns, Testimony};

use super::bytes::Bytes;

pub const NETWORK: NetworkId = NetworkId([1; 8]);
/// The wall clock at the start, in Unix milliseconds; versions of records are about this.
pub const WALL_MS: u64 = 1_795_254_185_042;
/// The same in hours.
pub const WALL_HOURS: u32 = (WALL_MS / 3_600_000) as u32;

const NODES: usize = 24;
const PURPOSES: [Purpose; 3] = [Purpose::Overlay, Purpose::Ring, Purpose::Probe];
const REASONS: [Reason; 15] = [
    Reason::EndOfStream,
    Reason::Reset,
    Reason::EofInFrame,
    Reason::Malformed,
    Reason::NotKithd,
    Reason::HandshakeTimeout,
    Reason::HeartbeatTimeout,
    Reason::ConnectionRefused,
    Reason::Leaving,
    Reason::Local,
    Reason::Myself,
    Reason::Busy,
    Reason::NetworkKey,
    Reason::NoAnswer,
    Reason::BadRecordTag,
];

/// Makes things, and remembers the records it made: witnesses and forgets speak of these.
#[derive(Default)]
pub struct Maker {
    /// Who introduces itself in messages, if it is honest.
    pub speaker: Option<ControllerId>,
    records: Vec<Arc<Record>>,
    digests: Vec<Hash>,
}

pub fn id(number: usize) -> ControllerId {
    // The bytes differ enough that the nodes share no bucket by design.
    ControllerId([number as u8; 32])
}

pub fn any_id(bytes: &mut Bytes<'_>) -> ControllerId {
    id(bytes.below(NODES))
}

pub fn address(bytes: &mut Bytes<'_>) -> SocketAddr {
    let (host, port) = (bytes.byte(), 7100 + u16::from(bytes.byte() % 4));
    match host {
        // What no honest node would say: an address that leads nowhere, or to a crowd.
        255 => SocketAddr::from(([255, 255, 255, 255], port)),
        254 => SocketAddr::from(([10, 0, 0, 1], 0)),
        253 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
        host => SocketAddr::from(([10, 0, host / 64, host], port)),
    }
}

pub fn purpose(bytes: &mut Bytes<'_>) -> Purpose {
    bytes.pick(&PURPOSES)
}

pub fn reason(bytes: &mut Bytes<'_>) -> Reason {
    bytes.pick(&REASONS)
}

impl Maker {
    /// For messages of this node.
    pub fn speaking(speaker: ControllerId) -> Self {
        Self { speaker: Some(speaker), ..Self::default() }
    }

    /// The records made so far, and those given to it.
    pub fn know(&mut self, record: Arc<Record>) {
        self.records.push(record);
    }

    /// A digest that statements may repeat.
    pub fn know_digest(&mut self, digest: Hash) {
        if self.digests.last() != Some(&digest) {
            self.digests.push(digest);
        }
    }

    pub fn record(&mut self, bytes: &mut Bytes<'_>) -> Arc<Record> {
        let of = any_id(bytes);
        self.record_of(of, bytes)
    }

    fn introduction(&mut self, bytes: &mut Bytes<'_>) -> Arc<Record> {
        match self.speaker.filter(|_| !bytes.chance(16)) {
            Some(speaker) => self.record_of(speaker, bytes),
            None => self.record(bytes),
        }
    }

    pub fn record_of(&mut self, of: ControllerId, bytes: &mut Bytes<'_>) -> Arc<Record> {
        let kind = bytes.byte();
        let when = bytes.byte();
        let version = match when % 8 {
            0 => bytes.number(),
            step => WALL_MS + u64::from(step),
        };
        // Mostly now; the network remembers 49 hours; and what only a liar says.
        let issued = match when / 32 {
            0..=3 => WALL_HOURS,
            4 => WALL_HOURS - 49,
            5 => WALL_HOURS - 50,
            6 => 0,
            _ => u32::MAX,
        };
        let mut edges: Vec<ShortId> = (0..kind % 4).map(|_| any_id(bytes).short()).collect();
        edges.sort();
        edges.dedup();
        let tag = (kind & 16 != 0).then(|| ("k".to_owned(), bytes.byte().to_string()));
        let body = RecordBody {
            network: NETWORK,
            id: of,
            version,
            issued,
            incarnation: u64::from(kind & 8),
            state: if kind & 0xe0 == 0xe0 { RecordState::Left } else { RecordState::Up },
            reach: [Reach::Proven, Reach::Unproven, Reach::Proven, Reach::Never][usize::from(kind / 4 % 4)],
            address: address(bytes),
            label: Label::from_lossy(&format!("n{}", of.0[0])),
            tags: tag.into_iter().collect(),
            round_trips: edges.iter().map(|_| bytes.byte()).collect(),
            edges: edges.into_iter().collect(),
        };
        let record = Arc::new(Record { body, signature: signature(bytes) });
        self.know(Arc::clone(&record));
        record
    }

    pub fn item(&mut self, bytes: &mut Bytes<'_>) -> Item {
        let kind = bytes.below(8);
        let about = match (kind, self.records.len()) {
            (0..=2, _) | (_, 0) => return Item::Record(self.record(bytes)),
            (_, known) => &self.records[bytes.below(known.min(256))],
        };
        let subject = if bytes.chance(16) { any_id(bytes).short() } else { about.body.id.short() };
        let record = about.hash().short();
        let by = any_id(bytes);
        if kind == 3 {
            let body = ForgetBody { network: NETWORK, subject, record, issued: bytes.below(3) as u32, author: by };
            return Item::Forget(Arc::new(Forget { body, signature: signature(bytes) }));
        }
        let stage = if kind == 4 { Stage::Suspect } else { Stage::Down };
        let need = 1 + bytes.below(3) as u8;
        let body = WitnessBody { network: NETWORK, subject, record, stage, need, observer: by };
        Item::Witness(Arc::new(Witness { body, signature: signature(bytes) }))
    }

    fn items(&mut self, bytes: &mut Bytes<'_>) -> Vec<Item> {
        let many = bytes.below(8);
        (0..many).map(|_| self.item(bytes)).collect()
    }

    fn news(&mut self, bytes: &mut Bytes<'_>) -> News {
        let items = self.items(bytes).into_iter().collect();
        let announcements = (0..bytes.below(8)).map(|_| self.announcement(bytes)).collect();
        let part = |bytes: &mut Bytes<'_>| bytes.pick(&[Part::All, Part::Verdict, Part::Suspicion]);
        let want = (0..bytes.below(8)).map(|_| Want(any_id(bytes).short(), part(bytes))).collect();
        News { items, announcements, want, roll: bytes.chance(4).then(|| self.roll(bytes)) }
    }

    /// Mostly of a record that was made: of its version, or one about it.
    fn announcement(&self, bytes: &mut Bytes<'_>) -> Announcement {
        let known = self.records.len().min(255);
        let (node, version) = match self.records.get(bytes.below(known + 1)) {
            Some(record) => (record.body.id.short(), record.body.version as u32),
            None => (any_id(bytes).short(), bytes.number() as u32),
        };
        let kind = bytes.byte();
        let version = version.wrapping_add(u32::from(kind % 4)).wrapping_sub(u32::from(kind / 4 % 2));
        let verdict = if kind & 32 == 0 { [0; 4] } else { bytes.array() };
        Announcement { node, version, verdict, suspected: kind & 16 != 0 }
    }

    fn roll(&self, bytes: &mut Bytes<'_>) -> Roll {
        let all =
            |bytes: &mut Bytes<'_>| RollStep::All { age_ms: bytes.number() as u32, held_ms: u32::from(bytes.byte()) };
        let step = match bytes.below(3) {
            0 => RollStep::Call,
            1 => RollStep::Present,
            _ => all(bytes),
        };
        let round = if bytes.chance(4) { bytes.number() as u32 } else { u32::from(bytes.byte() % 4) };
        Roll { digest: self.digest(bytes), round, step }
    }

    /// Mostly the last that was made known.
    fn digest(&self, bytes: &mut Bytes<'_>) -> HalfHash {
        match self.digests.as_slice() {
            [.., last] if !bytes.chance(4) => last.half(),
            _ => HalfHash(bytes.array()),
        }
    }

    pub fn statement(&mut self, bytes: &mut Bytes<'_>) -> Statement {
        Statement { digest: self.digest(bytes), ages: (0..bytes.below(20)).map(|_| bytes.byte()).collect() }
    }

    fn returns(&mut self, bytes: &mut Bytes<'_>) -> Returns {
        match bytes.below(4) {
            0 => Returns::Counted,
            1 => Returns::Refused,
            2 => {
                let holders = |bytes: &mut Bytes<'_>| Holders(Hash([bytes.byte(); 32]), bytes.number() as u32);
                let digests = (0..bytes.below(5)).map(|_| holders(bytes)).collect();
                let silent = (0..bytes.below(17)).map(|_| any_id(bytes).short()).collect();
                let counts = Counts { digests, others: bytes.number() as u32, silent };
                Returns::Counts { counts, last: bytes.chance(2) }
            }
            _ => {
                let said = |bytes: &mut Bytes<'_>| {
                    let digest = Hash([bytes.byte() % 4; 32]);
                    Testimony { id: any_id(bytes), digest, live: bytes.number() as u32, signature: signature(bytes) }
                };
                let testimonies = (0..bytes.below(MAX_TESTIMONIES + 1)).map(|_| said(bytes)).collect();
                Returns::Testimonies { testimonies, last: bytes.chance(2) }
            }
        }
    }

    pub fn tail_message(&mut self, bytes: &mut Bytes<'_>) -> TailMessage {
        match bytes.below(12) {
            0 | 1 => TailMessage::Hello {
                record: self.introduction(bytes),
                clock_ms: if bytes.chance(16) { bytes.number() } else { WALL_MS },
                purpose: purpose(bytes),
                dialled: address(bytes),
            },
            2 => TailMessage::Repurpose(purpose(bytes)),
            3 | 4 => {
                let echo = (!bytes.chance(3)).then(|| u32::from(bytes.byte() % 8));
                let seq = if bytes.chance(16) { bytes.number() as u32 } else { u32::from(bytes.byte() % 8) };
                TailMessage::Heartbeat { seq, statement: self.statement(bytes), echo }
            }
            5 | 6 => TailMessage::Watch,
            7..=9 => TailMessage::Push(self.news(bytes)),
            10 => {
                let buckets = (0..bytes.byte()).map(|_| BucketHash(bytes.byte(), bytes.array())).collect();
                TailMessage::Sync { first: if bytes.chance(2) { 0 } else { bytes.byte() }, buckets }
            }
            _ if bytes.chance(4) => TailMessage::Eager(bytes.chance(2)),
            _ if bytes.chance(2) => {
                let mode = bytes.pick(&[Mode::Count, Mode::Prove]);
                TailMessage::Census { nonce: nonce(bytes), mode, remaining_ms: bytes.number() as u32 }
            }
            _ => TailMessage::Goodbye(reason(bytes)),
        }
    }

    /// `seq`: of the heartbeat that an honest head would answer.
    pub fn head_message(&mut self, seq: u32, bytes: &mut Bytes<'_>) -> HeadMessage {
        match bytes.below(12) {
            0 | 1 => HeadMessage::Welcome {
                record: self.introduction(bytes),
                clock_ms: if bytes.chance(16) { bytes.number() } else { WALL_MS },
            },
            2 => HeadMessage::Busy {
                record: self.introduction(bytes),
                hints: (0..bytes.below(17)).map(|_| address(bytes)).collect(),
            },
            3..=5 => {
                let seq = if bytes.chance(8) { bytes.number() as u32 } else { seq };
                HeadMessage::Heartbeat { seq, statement: self.statement(bytes) }
            }
            6 | 7 => HeadMessage::News(self.news(bytes)),
            8 | 9 => HeadMessage::Ack(self.news(bytes)),
            10 => {
                let buckets = (0..bytes.byte()).map(|_| bytes.byte()).collect();
                let entries = (0..bytes.byte()).map(|_| EntryHash(any_id(bytes).short(), bytes.array()));
                let entries = entries.collect();
                HeadMessage::Differences { last: if bytes.chance(2) { 255 } else { bytes.byte() }, buckets, entries }
            }
            _ if bytes.chance(2) => HeadMessage::Census { nonce: nonce(bytes), returns: self.returns(bytes) },
            _ => HeadMessage::Goodbye(reason(bytes)),
        }
    }
}

/// One of few, so that questions and answers meet.
pub fn nonce(bytes: &mut Bytes<'_>) -> Nonce {
    Nonce([bytes.byte() % 8; 16])
}

/// One of four: whoever signs may sign the same words in more than one way.
fn signature(bytes: &mut Bytes<'_>) -> Signature {
    Signature([bytes.byte() % 4; 32], [0; 32])
}

/// Stands in for the door, which is no part of what is tried here.
pub fn vouched(item: Item) -> VerifiedItem {
    match item {
        Item::Record(record) => VerifiedItem::Record(Verified::vouch(record)),
        Item::Witness(witness) => VerifiedItem::Witness(Verified::vouch(witness)),
        Item::Forget(forget) => VerifiedItem::Forget(Verified::vouch(forget)),
    }
}
