//! The test vectors of the wire (`tests/vectors/*.json`), replayed on the node's own code: whole handshakes, records before
//! and after a change of keys, and each way in which a message can be wrong.
//!
//! They were made by `tests/interop/vectors.py`, another program with another Noise library, from the page
//! `src/protocol/wire.md`; it checks them too. How to make them anew stands at its head.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use kithd::protocol::codec::{HEADER, PREAMBLE, Preamble};
use kithd::protocol::identity::{ControllerId, to_hex};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::NetworkId;
use kithd::secure::credentials::Credentials;
use kithd::secure::handshake::{Answer, Head, Secured, Tail};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::{NetworkKey, parse_keys};
use kithd::secure::recent::Recent;
use kithd::secure::session::{Opening, Sealing};
use serde_json::Value;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

/// One file.
struct Vectors(Value);

/// One end, as the file has it.
struct Party {
    id: ControllerId,
    credentials: Arc<Credentials>,
    secret: [u8; 32],
    ephemeral: [u8; 32],
}

fn all() -> [Vectors; 2] {
    ["chachapoly.json", "aesgcm.json"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        Vectors(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    })
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn reason(case: &Value) -> Option<Reason> {
    Some(serde_json::from_value(case["reason"].clone()).unwrap())
}

fn begin(case: &Value) -> Preamble {
    Preamble::from_bytes(array::<PREAMBLE>(&case["preamble"]))
}

impl Vectors {
    fn now(&self) -> u64 {
        self.0["now"].as_u64().unwrap()
    }

    fn key(&self) -> NetworkKey {
        parse_keys(self.0["network"]["key"].as_str().unwrap().as_bytes()).unwrap().remove(0)
    }

    fn message(&self, number: usize) -> Vec<u8> {
        bytes(&self.0["messages"][number - 1]["message"])
    }

    fn cases(&self, part: &str) -> &[Value] {
        self.0[part].as_array().unwrap()
    }

    fn party(&self, name: &str) -> Party {
        let part = &self.0[name];
        let id = ControllerId(array(&part["id"]));
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("identity.key");
        fs::write(&path, format!("{}\n{id}\n", part["seed"].as_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let network = NetworkId::of(self.0["network"]["name"].as_str().unwrap());
        assert_eq!(network.0, array(&self.0["network"]["id"]));
        let secret = array(&part["static_secret"]);
        let identity = Identity::load_or_create(&path).unwrap();
        let credentials = Arc::new(Credentials::with_key(identity, network, Zeroizing::new(secret)));
        Party { id, credentials, secret, ephemeral: array(&part["ephemeral_secret"]) }
    }

    /// The tail, and what it sends first: preamble and message 1, without the frame's length.
    fn tail(&self, preamble: Preamble) -> (Tail, Vec<u8>) {
        let party = self.party("tail");
        let (tail, mut sent) =
            Tail::begin_with(&party.credentials, &self.key(), preamble, Some(&party.ephemeral)).unwrap();
        assert_eq!(sent[..PREAMBLE], preamble.to_bytes());
        (tail, sent.split_off(PREAMBLE + HEADER))
    }

    fn first(&self, preamble: Preamble, message: &[u8]) -> Result<Answer, Reason> {
        let party = self.party("head");
        let (keys, seen) = ([self.key()], Recent::new(1));
        Head::first_with(preamble, message, &party.credentials, &keys, &seen, self.now(), Some(&party.ephemeral))
    }

    /// The head that waits for message 3, after the good message 1.
    fn head(&self) -> Head {
        let Answer::Continue(head, sent) = self.first(begin(&self.0), &self.message(1)).unwrap() else {
            panic!("the version is refused")
        };
        assert_eq!(to_hex(&sent[HEADER..]), to_hex(&self.message(2)));
        head
    }

    /// The whole handshake: both ends of the session.
    fn sessions(&self) -> (Secured, Secured) {
        let (tail, one) = self.tail(begin(&self.0));
        assert_eq!(to_hex(&one), to_hex(&self.message(1)));
        let head = self.head();
        let (three, at_tail) = tail.finish(&self.message(2), self.now()).unwrap();
        assert_eq!(to_hex(&three[HEADER..]), to_hex(&self.message(3)));
        let at_head = head.third(&self.message(3), &self.party("head").credentials, self.now()).unwrap();
        (at_tail, at_head)
    }

    /// The same handshake by the bare library: for what the node does not show.
    fn bare(&self, name: &str) -> HandshakeState {
        let party = self.party(name);
        let builder = Builder::new(self.0["noise"].as_str().unwrap().parse().unwrap());
        let (prologue, key) = (bytes(&self.0["prologue"]), array::<32>(&self.0["network"]["key"]));
        let builder = builder.prologue(&prologue).unwrap().psk(0, &key).unwrap();
        let builder = builder.local_private_key(&party.secret).unwrap();
        let builder = builder.fixed_ephemeral_key_for_testing_only(&party.ephemeral);
        if name == "tail" { builder.build_initiator() } else { builder.build_responder() }.unwrap()
    }
}

#[test]
fn both_ends_say_what_the_vectors_say() {
    for vectors in all() {
        let (at_tail, at_head) = vectors.sessions();
        assert_eq!((at_tail.remote, at_head.remote), (vectors.party("head").id, vectors.party("tail").id));
        assert_eq!([1, 2, 3].map(|number| vectors.message(number).len()), [48, 201, 168]);
    }
}

#[test]
fn the_handshakes_hash_and_keys_are_those_of_the_vectors() {
    for vectors in all() {
        let (mut tail, mut head) = (vectors.bare("tail"), vectors.bare("head"));
        let mut buffer = [0; 256];
        for (at, case) in vectors.cases("messages").iter().enumerate() {
            let (from, to) = if at % 2 == 0 { (&mut tail, &mut head) } else { (&mut head, &mut tail) };
            let (payload, message) = (bytes(&case["payload"]), bytes(&case["message"]));
            let length = from.write_message(&payload, &mut buffer).unwrap();
            assert_eq!(to_hex(&buffer[..length]), to_hex(&message), "message {}", at + 1);
            let length = to.read_message(&message, &mut buffer).unwrap();
            assert_eq!(buffer[..length], payload);
        }
        assert_eq!(tail.get_handshake_hash(), bytes(&vectors.0["handshake_hash"]));
        assert_eq!(head.get_handshake_hash(), bytes(&vectors.0["handshake_hash"]));
        let (from_tail, from_head) = tail.dangerously_get_raw_split();
        assert_eq!([from_tail, from_head], ["tail", "head"].map(|end| array(&vectors.0["keys"][end])));
    }
}

/// Steps both halves to a record: what lies between is sealed and opened, as on a connection that has lived so long.
fn reach(number: u64, sealing: &mut Sealing, opening: &mut Opening, done: &mut u64) {
    let (mut record, mut plaintext) = (Vec::new(), Vec::new());
    while *done < number {
        record.clear();
        sealing.seal(b"", &mut record);
        opening.open(&record[HEADER..], &mut plaintext).unwrap();
        *done += 1;
    }
}

#[test]
fn records_are_sealed_and_opened_as_the_vectors_say_also_after_new_keys() {
    for vectors in all() {
        let (mut tail, mut head) = vectors.sessions();
        for from in ["tail", "head"] {
            let (sealing, opening) = match from {
                "tail" => (&mut tail.sealing, &mut head.opening),
                _ => (&mut head.sealing, &mut tail.opening),
            };
            let (mut done, mut record, mut plaintext) = (0, Vec::new(), Vec::new());
            for case in vectors.cases("records").iter().filter(|case| case["from"] == from) {
                reach(case["number"].as_u64().unwrap(), sealing, opening, &mut done);
                record.clear();
                sealing.seal(&bytes(&case["plaintext"]), &mut record);
                assert_eq!(to_hex(&record[HEADER..]), to_hex(&bytes(&case["record"])), "{case}");
                opening.open(&record[HEADER..], &mut plaintext).unwrap();
                assert_eq!(plaintext, bytes(&case["plaintext"]));
                done += 1;
            }
            assert!(done > 2 * kithd::secure::session::REKEY_AFTER, "no record after a change of keys");
        }
    }
}

#[test]
fn a_version_that_the_head_does_not_speak_is_refused_as_the_vectors_say() {
    for vectors in all() {
        let case = &vectors.0["other_version"];
        let (tail, one) = vectors.tail(begin(case));
        assert_eq!(one, bytes(&case["message_1"]));
        let Ok(Answer::Refuse(sent, why)) = vectors.first(begin(case), &one) else { panic!("it is not refused") };
        assert_eq!((&sent[HEADER..], Some(why)), (&bytes(&case["message_2"])[..], reason(case)));
        assert_eq!(tail.finish(&sent[HEADER..], vectors.now()).err(), reason(case));
    }
}

#[test]
fn each_failing_act_fails_for_its_reason() {
    for vectors in all() {
        let mut count = [0; 3];
        for case in vectors.cases("failing_acts") {
            let (act, message) = (case["act"].as_u64().unwrap(), bytes(&case["message"]));
            let found = match act {
                1 => vectors.first(begin(case), &message).err(),
                2 => vectors.tail(begin(case)).0.finish(&message, vectors.now()).err(),
                _ => vectors.head().third(&message, &vectors.party("head").credentials, vectors.now()).err(),
            };
            assert_eq!(found, reason(case), "act {act}: {}", case["name"]);
            count[usize::try_from(act).unwrap() - 1] += 1;
        }
        assert!(count.iter().all(|count| *count > 10), "{count:?}");
    }
}

#[test]
fn each_failing_record_fails() {
    for vectors in all() {
        for case in vectors.cases("failing_records") {
            let (mut tail, mut head) = vectors.sessions();
            reach(case["number"].as_u64().unwrap(), &mut tail.sealing, &mut head.opening, &mut 0);
            let found = head.opening.open(&bytes(&case["record"]), &mut Vec::new());
            assert_eq!(found.err(), reason(case), "{}", case["name"]);
        }
    }
}
