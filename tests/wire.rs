//! The page that tells strangers what is on the wire (`src/protocol/wire.md`) says what the program does: its examples are
//! encoded and decoded, its tables counted, its numbers compared.

#[path = "wire/page.rs"]
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use kithd::protocol::codec::{
    LONGEST_MESSAGE, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, Message, PREAMBLE, Preamble, decode_frame, encode, encode_frame,
};
use kithd::protocol::hash::{HalfHash, Hash, hash_parts};
use kithd::protocol::identity::{ControllerId, Label, ShortId, to_hex};
use kithd::protocol::list::List;
use kithd::protocol::message::{
    Announcement, BucketHash, EntryHash, HeadMessage, MAX_ANNOUNCEMENTS, MAX_ENTRIES, MAX_HINTS, MAX_ITEMS, MAX_RADIUS,
    MAX_WANT, News, Part, Purpose, Roll, RollStep, Statement, TailMessage, VERSION, Want,
};
use kithd::protocol::open_requests::{MAX_CENSUSES, MAX_PUSHES, MAX_WATCHES, PUSHES_BORNE, WATCHES_BORNE};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{
    Forget, ForgetBody, Item, MAX_EDGES, MAX_RECORD, MAX_TAGS, NetworkId, Reach, Record, RecordBody, RecordState,
    Signed, Stage, Witness, WitnessBody,
};
use kithd::protocol::requests::COST;
use kithd::protocol::requests::message::{
    Bytes, Failure, MAX_DEPTH, Outcome, PIECE, Piece, Refusal, Request, Response,
};
use kithd::protocol::requests::service::ServiceName;
use kithd::protocol::testimony::{
    Counts, Holders, MAX_DIGESTS, MAX_SILENT, MAX_TESTIMONIES, Mode, Nonce, Returns, Testimony, TestimonyBody,
};
use kithd::secure::credentials::PROOF;
use kithd::secure::door::Door;
use kithd::secure::handshake::MAX_MESSAGE;
use kithd::secure::keys::Identity;
use kithd::secure::primitives::Cipher;
use kithd::secure::session::{REKEY_AFTER, TAG};

use page::{examples, table};

/// Of the census of the page.
const NONCE: Nonce = Nonce([0x99; 16]);

/// An identity of the page: the secret seed is this byte, 32 times.
fn identity(seed: u8) -> (ControllerId, Identity) {
    let id = ControllerId(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("identity.key");
    fs::write(&path, format!("{}\n{id}\n", to_hex(&[seed; 32]))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (id, Identity::load_or_create(&path).unwrap())
}

fn alpha() -> RecordBody {
    RecordBody {
        network: NetworkId::of("kith"),
        id: identity(1).0,
        version: 1_800_000_000_000,
        issued: 500_000,
        incarnation: 7,
        state: RecordState::Up,
        reach: Reach::Proven,
        address: ([127, 0, 0, 1], 7100).into(),
        label: Label::from_lossy("alpha"),
        tags: std::iter::once(("os".to_owned(), "linux".to_owned())).collect(),
        edges: std::iter::once(identity(2).0.short()).collect(),
        round_trips: std::iter::once(23).collect(),
    }
}

fn record() -> Arc<Record> {
    Record::signed(alpha(), &identity(1).1).shared()
}

fn witness() -> WitnessBody {
    WitnessBody {
        network: NetworkId::of("kith"),
        subject: identity(1).0.short(),
        record: record().hash().short(),
        stage: Stage::Down,
        need: 1,
        observer: identity(2).0,
    }
}

fn forget() -> ForgetBody {
    let WitnessBody { network, subject, record, observer, .. } = witness();
    ForgetBody { network, subject, record, issued: 500_001, author: observer }
}

fn testified() -> TestimonyBody {
    let (network, digest) = (NetworkId::of("kith"), Hash([0xdd; 32]));
    TestimonyBody { network, nonce: NONCE, id: identity(1).0, digest, live: 41 }
}

fn testimony() -> Testimony {
    (*Testimony::signed(testified(), &identity(1).1)).clone()
}

fn news() -> News {
    let by = identity(2).1;
    let items =
        [Item::Witness(Witness::signed(witness(), &by).shared()), Item::Forget(Forget::signed(forget(), &by).shared())];
    let (node, verdict) = (ShortId([0x2a; 8]), [0xcc; 4]);
    let announcement = Announcement { node, version: 1_800_000_000_005_u64 as u32, verdict, suspected: true };
    News {
        items: items.into_iter().collect(),
        announcements: std::iter::once(announcement).collect(),
        want: std::iter::once(Want(identity(2).0.short(), Part::Verdict)).collect(),
        roll: Some(roll(RollStep::All { age_ms: 90, held_ms: 41 })),
    }
}

fn roll(step: RollStep) -> Roll {
    Roll { digest: HalfHash([0xdd; 16]), round: 5, step }
}

/// Ten bytes, of which this message brings five.
fn request() -> Request {
    let service: ServiceName = "echo".parse().unwrap();
    Request { id: 7, service, remaining_ms: 10_000, depth: 0, length: 10, payload: Bytes(b"hello".to_vec()) }
}

/// The other five.
fn piece() -> Piece {
    Piece { id: 7, payload: Bytes(b" kith".to_vec()) }
}

fn response(id: u64, outcome: Outcome, length: u32, payload: &[u8]) -> HeadMessage {
    HeadMessage::Response(Response { id, outcome, length, payload: Bytes(payload.to_vec()) })
}

fn tails() -> Vec<(&'static str, TailMessage)> {
    let statement = Statement { digest: HalfHash([0xdd; 16]), ages: [1, 12].into_iter().collect() };
    let buckets = std::iter::once(BucketHash(0x2a, [0xbb; 8])).collect();
    vec![
        (
            "Hello",
            TailMessage::Hello {
                record: record(),
                clock_ms: 1_800_000_000_123,
                purpose: Purpose::Ring,
                dialled: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7101)),
            },
        ),
        ("Repurpose", TailMessage::Repurpose(Purpose::Overlay)),
        ("Heartbeat of the tail", TailMessage::Heartbeat { seq: 3, statement, echo: Some(2) }),
        ("Watch", TailMessage::Watch),
        ("Push", TailMessage::Push(news())),
        ("Sync", TailMessage::Sync { first: 0, buckets }),
        ("Goodbye of the tail", TailMessage::Goodbye(Reason::Leaving)),
        ("Eager", TailMessage::Eager(false)),
        ("Census of the tail", TailMessage::Census { nonce: NONCE, mode: Mode::Prove, remaining_ms: 4687 }),
        ("Request", TailMessage::Request(request())),
        ("Piece of the tail", TailMessage::Piece(piece())),
    ]
}

fn heads() -> Vec<(&'static str, HeadMessage)> {
    let hints = std::iter::once(SocketAddr::from(([192, 0, 2, 1], 7100))).collect();
    let entries = std::iter::once(EntryHash(ShortId([0x2a; 8]), [0xee; 8])).collect();
    let items = std::iter::once(Item::Record(record())).collect();
    let proof = Returns::Testimonies { testimonies: std::iter::once(testimony()).collect(), last: true };
    let counts = Counts {
        digests: std::iter::once(Holders(Hash([0xdd; 32]), 40)).collect(),
        others: 1,
        silent: std::iter::once(identity(2).0.short()).collect(),
    };
    vec![
        ("Welcome", HeadMessage::Welcome { record: record(), clock_ms: 1_800_000_000_124 }),
        ("Busy", HeadMessage::Busy { record: record(), hints }),
        (
            "Heartbeat of the head",
            HeadMessage::Heartbeat { seq: 3, statement: Statement { digest: HalfHash([0xdd; 16]), ages: List::new() } },
        ),
        ("News", HeadMessage::News(News { items, roll: Some(roll(RollStep::Call)), ..News::default() })),
        ("Ack", HeadMessage::Ack(News::default())),
        ("Differences", HeadMessage::Differences { last: 255, buckets: std::iter::once(0x2a).collect(), entries }),
        ("Goodbye of the head", HeadMessage::Goodbye(Reason::BadRecordTag)),
        ("Census of the head, signed", HeadMessage::Census { nonce: NONCE, returns: proof }),
        (
            "Census of the head, counted",
            HeadMessage::Census { nonce: NONCE, returns: Returns::Counts { counts, last: true } },
        ),
        ("Response", response(7, Outcome::Done, 10, b"hello")),
        ("Response, refused", response(8, Outcome::Refused(Refusal::Overloaded), 0, b"")),
        ("Response, failed", response(9, Outcome::Failed(Failure::Exit(3)), 8, b"no disk\n")),
        ("Piece of the head", HeadMessage::Piece(piece())),
    ]
}

#[track_caller]
fn same(examples: &BTreeMap<String, String>, name: &str, bytes: &[u8]) {
    let told = examples.get(name).map_or("", String::as_str);
    assert_eq!(told, to_hex(bytes), "example {name}");
}

/// Every message of both directions is shown, byte for byte.
#[test]
fn the_examples_are_what_is_sent() {
    fn shown<M: Message + PartialEq + std::fmt::Debug>(
        told: &BTreeMap<String, String>,
        named: Vec<(&str, M)>,
    ) -> Vec<u8> {
        let mut tags: Vec<u8> = Vec::new();
        for (name, message) in named {
            let bytes = encode_frame(&message);
            same(told, name, &bytes);
            assert_eq!(decode_frame::<M>(&bytes[4..]).as_ref(), Ok(&message), "{name}");
            tags.push(bytes[5]);
        }
        // Some are shown twice.
        tags.dedup();
        tags
    }
    let told = examples();
    same(&told, "preamble", &Preamble::of(Cipher::AesGcm as u8, Purpose::Overlay).to_bytes());
    same(&told, "record", &encode(&*record()));
    same(&told, "signed of a witness", &witness().signed_bytes());
    same(&told, "signed of a testimony", &testified().signed_bytes());
    let expected: BTreeSet<&str> = ["preamble", "record", "signed of a witness", "signed of a testimony"].into();
    let named = tails().into_iter().map(|(name, _)| name).chain(heads().into_iter().map(|(name, _)| name));
    assert_eq!(told.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected.into_iter().chain(named).collect());
    assert_eq!(shown(&told, tails()), Vec::from_iter(0..11), "all requests, in the order of their numbers");
    assert_eq!(shown(&told, heads()), Vec::from_iter(0..10), "all answers, in the order of their numbers");
    // There are no more.
    assert_eq!(decode_frame::<TailMessage>(&[1, 11, 0, 0, 0]), Err(Reason::Malformed));
    assert_eq!(decode_frame::<HeadMessage>(&[2, 10, 0, 0, 0]), Err(Reason::Malformed));
}

/// The signatures of the examples hold: a reader can test his own verification with them.
#[test]
fn the_examples_pass_the_door() {
    let door = Door::new(NetworkId::of("kith"));
    door.record(record()).unwrap();
    for item in news().items.into_vec() {
        door.item(item).unwrap();
    }
    door.testimony(NONCE, testimony()).unwrap();
}

#[test]
fn the_reasons_have_the_numbers_of_the_page() {
    let known =
        (0..=u8::MAX).map_while(|number| match decode_frame::<TailMessage>(&[1, 6, 0, 0, 0, number, 0, 0, 0]) {
            Ok(TailMessage::Goodbye(reason)) => Some(vec![number.to_string(), reason.to_string()]),
            _ => None,
        });
    let told: Vec<Vec<String>> = table("Reasons").into_iter().map(|row| row[..2].to_vec()).collect();
    assert_eq!(told, known.collect::<Vec<_>>());
}

/// The number and the name of each outcome, refusal and failure.
#[test]
fn how_a_request_went_has_the_numbers_of_the_page() {
    let told = |heading: &str| -> Vec<[String; 2]> {
        table(heading).into_iter().map(|row| [row[0].clone(), row[1].clone()]).collect()
    };
    // Of a response without a payload: the outcome's number, then what belongs to it. One byte too few or too many is none.
    let outcome = |number: u8, what: &[u8]| {
        let bytes = [&[2, 8, 0, 0, 0][..], &[1; 8], &[number, 0, 0, 0], what, &[0; 12]].concat();
        match decode_frame(&bytes) {
            Ok(HeadMessage::Response(response)) => Some(response.outcome),
            _ => None,
        }
    };
    let known = |decoded: &dyn Fn(u8) -> Option<Outcome>, kind: &str| -> Vec<[String; 2]> {
        let names = (0..=u8::MAX).map_while(|number| Some((number, name_of(decoded(number)?, kind))));
        names.map(|(number, name)| [number.to_string(), name]).collect()
    };
    let outcomes = |number| outcome(number, &[]).or_else(|| outcome(number, &[0; 4]));
    assert_eq!(told("Requests"), known(&outcomes, ""));
    assert_eq!(told("Refusals"), known(&|number| outcome(1, &[number, 0, 0, 0]), "refused"));
    let failures = |number| outcome(2, &[number, 0, 0, 0]).or_else(|| outcome(2, &[number, 0, 0, 0, 9]));
    assert_eq!(told("Failures"), known(&failures, "failed"));
    assert_eq!(outcome(2, &[1, 0, 0, 0, 9]), Some(Outcome::Failed(Failure::Exit(9))));
}

/// As scripts see it: the outcome, or, of that kind of outcome, what follows it.
fn name_of(outcome: Outcome, kind: &str) -> String {
    let value = serde_json::to_value(outcome).unwrap();
    let value = if kind.is_empty() { &value } else { &value[kind] };
    let key = |object: &serde_json::Map<String, serde_json::Value>| object.keys().next().unwrap().clone();
    value.as_str().map(str::to_owned).or_else(|| value.as_object().map(key)).unwrap()
}

#[test]
fn the_bounds_are_those_of_the_program() {
    let told: BTreeMap<String, String> =
        table("Sizes and bounds").into_iter().map(|row| (row[0].clone(), row[1].replace(',', ""))).collect();
    let limits = kithd::Config::default().limits;
    let bounds = [
        ("version of the protocol", usize::from(VERSION)),
        ("preamble", PREAMBLE),
        ("proof", PROOF),
        ("longest handshake message", MAX_MESSAGE),
        ("tag of a record", TAG),
        ("longest frame before Welcome", MAX_FRAME_BEFORE_HELLO + TAG),
        ("longest frame after it", MAX_FRAME + TAG),
        ("longest plaintext of a record before Welcome", MAX_FRAME_BEFORE_HELLO),
        ("longest plaintext of a record after it", MAX_FRAME),
        ("longest message", LONGEST_MESSAGE),
        ("records under one key", usize::try_from(REKEY_AFTER).unwrap()),
        ("record of a node", MAX_RECORD),
        ("keys and values of its tags together", MAX_TAGS),
        ("edges in it", MAX_EDGES),
        ("label", Label::MAX),
        ("ages in a statement", MAX_RADIUS),
        ("items in news", MAX_ITEMS),
        ("announcements in news", MAX_ANNOUNCEMENTS),
        ("wanted nodes in news", MAX_WANT),
        ("hints", MAX_HINTS),
        ("entries in Differences", MAX_ENTRIES),
        ("open Watch", usize::try_from(MAX_WATCHES).unwrap()),
        ("Watch without an answer that a head bears", usize::try_from(WATCHES_BORNE).unwrap()),
        ("open Push", usize::try_from(MAX_PUSHES).unwrap()),
        ("Push without an answer that a head bears", usize::try_from(PUSHES_BORNE).unwrap()),
        ("open Census", usize::try_from(MAX_CENSUSES).unwrap()),
        ("testimonies in an answer to Census", MAX_TESTIMONIES),
        ("digests counted in one", MAX_DIGESTS),
        ("silent nodes named in one", MAX_SILENT),
        ("bytes of a payload in one message", PIECE),
        ("name of a service", ServiceName::MAX),
        ("depth of a request", usize::from(MAX_DEPTH)),
        ("open requests", limits.max_outstanding),
        (&format!("bytes of their payloads, and {COST} for each"), limits.max_outstanding_bytes),
        ("payload", limits.max_payload),
    ];
    let bounds = bounds.map(|(name, bound)| (name.to_owned(), bound.to_string()));
    assert_eq!(told, BTreeMap::from(bounds));
}

#[test]
fn the_hashes_are_those_of_the_page() {
    let told: BTreeMap<String, String> =
        table("Hashes").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let alpha = record();
    let short = alpha.body.id.short();
    let bucket = |leaves: &[&[u8]]| hash_parts(b"kith digest bucket", leaves);
    let buckets: Vec<Hash> =
        (0..=u8::MAX).map(|at| if at == short.0[0] { bucket(&[&alpha.hash().0]) } else { bucket(&[]) }).collect();
    let buckets: Vec<&[u8]> = buckets.iter().map(|bucket| &bucket.0[..]).collect();
    let mut view = kithd::protocol::view::View::new(4);
    let door = Door::new(NetworkId::of("kith"));
    view.merge(kithd::protocol::record::VerifiedItem::Record(door.record(alpha.clone()).unwrap()));
    let digest = hash_parts(b"kith digest", &buckets);
    assert_eq!(digest, view.digest(), "the page's rule is the program's");
    let (_, state) = view.states().next().unwrap();
    let (number, sync) = view.bucket_hashes(0).next().unwrap();
    assert_eq!(state, alpha.hash().short());
    assert_eq!(sync, hash_parts(b"kith bucket", &[&[&short.0[..], &state].concat()]).short());
    assert_eq!(number, short.0[0]);
    let accused = Witness::signed(witness(), &identity(2).1).shared();
    view.merge(door.item(Item::Witness(accused)).unwrap());
    let verdict = hash_parts(b"kith verdict", &[&encode(&witness())]).short();
    let down: Vec<u8> = (0..8).map(|at| state[at] ^ if at < 4 { verdict[at] } else { 0 }).collect();
    assert_eq!(view.states().next().map(|(_, state)| state.to_vec()), Some(down.clone()));
    let hashes = [
        ("network id of kith", to_hex(&NetworkId::of("kith").0)),
        ("alpha's id", alpha.body.id.hex()),
        ("alpha's short id", to_hex(&short.0)),
        ("hash of alpha's record", alpha.hash().hex()),
        ("digest of a view of alpha alone", digest.hex()),
        ("state of alpha's entry", to_hex(&state)),
        ("alpha's bucket in Sync", to_hex(&sync)),
        ("verdict, if the witness above is held", to_hex(&verdict[..4])),
        ("state of alpha's entry with it", to_hex(&down)),
    ];
    assert_eq!(told, hashes.map(|(name, hash)| (name.to_owned(), hash)).into());
}

/// `cargo test --test wire -- --ignored --nocapture what_the_page_should_say`
#[test]
#[ignore = "prints what to write after a change"]
fn what_the_page_should_say() {
    println!("record {}", to_hex(&encode(&*record())));
    println!("signed of a witness {}", to_hex(&witness().signed_bytes()));
    println!("signed of a testimony {}", to_hex(&testified().signed_bytes()));
    tails().iter().for_each(|(name, message)| println!("{name} {}", to_hex(&encode_frame(message))));
    heads().iter().for_each(|(name, message)| println!("{name} {}", to_hex(&encode_frame(message))));
}
