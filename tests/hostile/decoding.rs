//! Cases 5 to 12: what is in a frame.
//!
//! There are unit and property tests of the same beside the code (`protocol/codec.rs`, `protocol/list.rs`,
//! `secure/door.rs`) and a fuzz target for each direction; here it is shown on a running node, and through the library's
//! public face for every message there is.

use std::thread;

use kithd::protocol::codec::{HEADER, MAX_FRAME, Message, Preamble, decode_frame, encode_frame, encoded_len, frame};
use kithd::protocol::identity::from_hex;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, News, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, MAX_EDGES, Record, RecordBody};
use kithd::secure::primitives::Cipher;

use crate::bystanders::Bystanders;
use crate::daemon::Network;
use crate::evil_peer::Bytes::Sealed;
use crate::evil_peer::{Breach, answers, counted, heads_commit, stray_answer, tails_commit};
use crate::page::examples;
use crate::report::refused;
use crate::stranger::{Line, Stranger, heartbeat};

/// What a bad message is called, and its bytes after the length.
type Bad = (&'static str, Vec<u8>);

/// Where things stand in a message: after the direction and the variant, and in a record.
const BODY: usize = 1 + 4;
const REACH: usize = BODY + 8 + 32 + 8 + 4 + 8 + 4;
const LABEL: usize = REACH + 4 + 4 + 4 + 2;

fn body(message: &impl Message) -> Vec<u8> {
    encode_frame(message)[HEADER..].to_vec()
}

/// A message with other bytes at that place.
fn patched(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

/// One of every message, of both directions, as the page of the wire has it; without its length.
pub fn every_message() -> Vec<Vec<u8>> {
    let shown: Vec<Vec<u8>> = examples().values().map(|digits| bytes_of(digits)).collect();
    let is_message = |bytes: &Vec<u8>| {
        let length = bytes.first_chunk::<HEADER>().map(|length| u32::from_be_bytes(*length) as usize);
        length == Some(bytes.len() - HEADER) && matches!(bytes[HEADER], 1 | 2)
    };
    let found: Vec<Vec<u8>> = shown.into_iter().filter(is_message).map(|bytes| bytes[HEADER..].to_vec()).collect();
    assert_eq!(found.len(), 24, "eleven and ten, and the other forms of the answers to a census and to a request");
    found
}

fn bytes_of(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| from_hex::<1>(&digits[at..at + 2]).unwrap()[0]).collect()
}

/// The message encoded anew, whichever direction it has.
fn again(message: &[u8]) -> Result<Vec<u8>, Reason> {
    match decode_frame::<TailMessage>(message) {
        Err(Reason::WrongDirection) => decode_frame::<HeadMessage>(message).map(|message| body(&message)),
        other => other.map(|message| body(&message)),
    }
}

/// These from a tail, and those from a head: each ends the edge as malformed.
fn are_malformed(nodes: &Bystanders, from_tail: Vec<Bad>, from_head: Vec<Bad>) {
    let breaches = |bad: Vec<Bad>| -> Vec<Breach> {
        bad.into_iter().map(|(what, message)| (what, Sealed(frame(&message)), Reason::Malformed)).collect()
    };
    tails_commit(&nodes.network, &nodes.node, breaches(from_tail));
    heads_commit(&nodes.network, breaches(from_head));
    nodes.are_unharmed();
}

/// A tail's first word after the handshake is this, and he is not let in. He is told why if it could be read; who has not
/// said `Hello` yet hears nothing.
pub fn is_no_hello(nodes: &Bystanders, who: &Stranger, what: &str, message: &[u8], reason: Reason) {
    let before = refused(&nodes.node, &reason.to_string());
    let mut line = Line::to(nodes.node.address);
    line.secure(who, Purpose::Overlay);
    line.say(&frame(message));
    let heard = decode_frame::<TailMessage>(message).is_ok().then_some(reason);
    assert_eq!(line.dismissed(), heard, "{what}");
    counted(&nodes.node, &reason.to_string(), before + 1);
    assert!(!nodes.node.network().to_string().contains(&who.id()), "{what}");
}

#[test]
fn case_05_bytes_after_a_message_are_refused() {
    for message in every_message() {
        assert_eq!(again(&message).as_deref(), Ok(&message[..]));
        assert_eq!(again(&[&message[..], &[0]].concat()), Err(Reason::Malformed));
    }
    let nodes = Bystanders::new();
    let longer = |message: Vec<u8>| [&message[..], &[0]].concat();
    let from_tail = vec![
        ("a heartbeat and a byte", longer(body(&heartbeat(1)))),
        ("a heartbeat and another", body(&heartbeat(1)).repeat(2)),
        ("a message cut short", body(&heartbeat(1))[..20].to_vec()),
    ];
    are_malformed(&nodes, from_tail, vec![("an answer and a byte", longer(body(&stray_answer())))]);
    let stranger = Stranger::new(&nodes.network, "wordy");
    let hello = longer(body(&stranger.hello(&nodes.node)));
    is_no_hello(&nodes, &stranger, "a Hello and a byte", &hello, Reason::Malformed);
    // A record is whole messages from its first byte to its last.
    let breaches: Vec<Breach> = vec![
        ("a message of no bytes", Sealed(vec![0; 4]), Reason::Malformed),
        ("a message longer than its record", Sealed(vec![0, 0, 0, 9, 1, 3]), Reason::Malformed),
        ("half a length", Sealed(vec![0, 0]), Reason::Malformed),
    ];
    tails_commit(&nodes.network, &nodes.node, breaches);
    nodes.are_unharmed();
}

/// No message is optional in this protocol: what is not known ends the edge, as `malformed`.
#[test]
fn case_06_what_is_not_known_ends_the_edge() {
    let nodes = Bystanders::new();
    let goodbye = |reason: u32| [&[1, 6, 0, 0, 0][..], &reason.to_le_bytes()].concat();
    let from_tail = vec![
        ("an unknown message", vec![1, 77, 0, 0, 0]),
        ("a message of a large number", vec![1, 3, 0, 0, 1]),
        ("an unknown direction", vec![9, 3, 0, 0, 0]),
        ("an unknown purpose", vec![1, 1, 0, 0, 0, 4, 0, 0, 0]),
        ("an unknown reason", goodbye(200)),
        ("a reason of a large number", goodbye(u32::MAX)),
        ("an unknown item", [&[1, 4, 0, 0, 0, 1, 0, 3, 0, 0, 0][..], &[0; 300]].concat()),
    ];
    are_malformed(&nodes, from_tail, vec![("an unknown answer", vec![2, 77, 0, 0, 0])]);
    let stranger = Stranger::new(&nodes.network, "newer");
    let hello = body(&stranger.hello(&nodes.node));
    let state = patched(hello.clone(), REACH - 4, &[2, 0, 0, 0]);
    is_no_hello(&nodes, &stranger, "an unknown state", &state, Reason::Malformed);
    let address = patched(hello, REACH + 4, &[2, 0, 0, 0]);
    is_no_hello(&nodes, &stranger, "an unknown kind of address", &address, Reason::Malformed);
    is_no_hello(&nodes, &stranger, "an unknown message", &[1, 99, 0, 0, 0], Reason::Malformed);
    // But for the preamble's purpose, which is a hint: a later version may have more of them.
    let mut line = Line::to(nodes.node.address);
    let said = Preamble::of(Cipher::preferred() as u8, Purpose::Overlay);
    line.secure_with(&stranger.credentials(stranger.body.network), Preamble { purpose: 77, ..said }).unwrap();
    line.tell(&stranger.hello(&nodes.node));
    assert!(matches!(line.hear(), Some(HeadMessage::Welcome { .. })));
    nodes.are_unharmed();
}

/// Each list of a message says it has as many elements as two bytes can say, more than any list may have.
fn bombs() -> (Vec<Bad>, Vec<Bad>) {
    let bomb = |direction: u8, number: u8, before: usize| {
        [&[direction, number, 0, 0, 0][..], &vec![0; before], &u16::MAX.to_le_bytes(), &[0; 64]].concat()
    };
    let census = |kind| patched(bomb(2, 7, 16 + 4), BODY + 16, &[kind]);
    // Texts and payloads have room for a larger number: a GiB.
    let large = |direction: u8, number: u8, before: &[u8]| {
        [&[direction, number, 0, 0, 0][..], before, &(1u64 << 30).to_le_bytes(), &[b'x'; 64]].concat()
    };
    // A number, `echo`, ten seconds, and a length.
    let request = [&[1; 8][..], &4u64.to_le_bytes(), b"echo", &10_000u32.to_le_bytes(), &[0], &[0, 0, 0, 64]].concat();
    let from_tail = vec![
        ("ages of a heartbeat", bomb(1, 2, 4 + 16)),
        ("items of a Push", bomb(1, 4, 0)),
        ("announcements of a Push", bomb(1, 4, 2)),
        ("wanted nodes of a Push", bomb(1, 4, 2 + 2)),
        ("buckets of a Sync", bomb(1, 5, 1)),
        ("service of a Request", large(1, 9, &[1; 8])),
        ("payload of a Request", large(1, 9, &request)),
        ("payload of a Piece", large(1, 10, &[1; 8])),
    ];
    let from_head = vec![
        ("ages of an answer", bomb(2, 2, 4 + 16)),
        ("items of News", bomb(2, 3, 0)),
        ("announcements of News", bomb(2, 3, 2)),
        ("items of an Ack", bomb(2, 4, 0)),
        ("buckets of Differences", bomb(2, 5, 1)),
        ("entries of Differences", bomb(2, 5, 1 + 2)),
        ("digests of a Census", census(2)),
        ("testimonies of a Census", census(3)),
        ("payload of a Response", large(2, 8, &[&[1; 8][..], &[0; 4], &[0, 0, 0, 64]].concat())),
        ("payload of a Piece", large(2, 9, &[1; 8])),
    ];
    (from_tail, from_head)
}

#[test]
fn case_07_a_length_that_is_claimed_is_not_allocated() {
    let mut nodes = Bystanders::new();
    nodes.measure();
    let (from_tail, from_head) = bombs();
    are_malformed(&nodes, from_tail, from_head);
    // The texts and lists of a record, in the first message of all.
    let mut stranger = Stranger::new(&nodes.network, "bomber");
    stranger.body.tags = [("key".to_owned(), "value".to_owned())].into_iter().collect();
    let hello = body(&stranger.hello(&nodes.node));
    let tags = LABEL + 8 + "bomber".len();
    let (key, value) = (tags + 2, tags + 2 + 8 + "key".len());
    let edges = value + 8 + "value".len();
    for (what, at) in [("label", LABEL), ("key", key), ("value", value)] {
        let bomb = patched(hello.clone(), at, &(1u64 << 30).to_le_bytes());
        is_no_hello(&nodes, &stranger, what, &bomb, Reason::Malformed);
    }
    for (what, at) in [("tags", tags), ("edges", edges), ("round trips", edges + 2)] {
        let bomb = patched(hello.clone(), at, &u16::MAX.to_le_bytes());
        is_no_hello(&nodes, &stranger, what, &bomb, Reason::Malformed);
    }
    nodes.are_unharmed();
    // Each text claims a GiB; the threads of as many strangers in a build for tests have their stacks.
    nodes.grew_at_most(24);
}

/// What has no size costs no bytes on the line, so no bound of bytes stops 2^60 of it. No list here may have such elements:
/// that is a matter of compiling ([`List`] has the example that does not). So a count beyond what the bytes can hold is an
/// error at once, in whichever place of whichever message.
#[test]
fn case_08_no_count_is_believed_beyond_the_bytes_that_come() {
    for message in every_message() {
        let texts = [1u64 << 30, 1 << 60, u64::MAX].map(|count| count.to_le_bytes().to_vec());
        let lists = [1000u16, 1 << 15, u16::MAX].map(|count| count.to_le_bytes().to_vec());
        for count in texts.into_iter().chain(lists) {
            for at in BODY..(message.len() + 1).saturating_sub(count.len()) {
                let bomb = patched(message.clone(), at, &count);
                // Where a number stands any number is good; where a count does, none of these.
                if let Ok(encoded) = again(&bomb) {
                    assert_eq!(encoded, bomb, "{count:?} at {at}");
                }
            }
        }
    }
    let (from_tail, from_head) = bombs();
    for (what, message) in from_tail.into_iter().chain(from_head) {
        assert_eq!(again(&message), Err(Reason::Malformed), "{what}");
    }
}

/// What takes most memory for its bytes: records without a label or a text, with as many empty tags as there may be.
fn swollen(network: &Network) -> (Vec<u8>, usize) {
    let mut stranger = Stranger::new(network, "x");
    stranger.body.tags = std::iter::repeat_n((String::new(), String::new()), 32).collect();
    let item = Item::Record(stranger.record());
    let size = encoded_len(&item);
    let count = (MAX_FRAME - HEADER - BODY - 7) / size;
    let items: List<Item, 128> = std::iter::repeat_n(item, count).collect();
    let push = encode_frame(&TailMessage::Push(News { items, ..News::default() }));
    assert!(push.len() <= MAX_FRAME);
    // A list grows by doubling, so it may hold twice what it has.
    let record = size_of::<Record>() + 2 * 32 * size_of::<(String, String)>();
    (push, count * (record + 2 * size_of::<Item>()))
}

#[test]
fn case_09_a_frame_becomes_a_few_times_its_size_in_memory() {
    let mut nodes = Bystanders::with(&["--discovery-accept", "64"]);
    let (push, memory) = swollen(&nodes.network);
    println!("{} bytes become {memory}", push.len());
    assert!(memory < 8 * push.len(), "{} bytes become {memory}", push.len());
    assert!(memory > push.len(), "this is no amplification: {memory}");
    // So many at once; each ends with its first frame, since nothing in it may be.
    let mut lines: Vec<(Stranger, Line)> = (0..40)
        .map(|number| {
            let stranger = Stranger::new(&nodes.network, &format!("swollen-{number}"));
            let line = stranger.dial(&nodes.node);
            (stranger, line)
        })
        .collect();
    nodes.measure();
    for (_, line) in &mut lines {
        line.say(&push);
    }
    for (_, line) in &mut lines {
        line.dismissed();
    }
    nodes.are_unharmed();
    // 40 frames of 16 KiB at 32 times their size would be 20 MiB, at what is computed above less than 5.
    nodes.grew_at_most(12);
}

/// A type that holds itself would be read by a function that calls itself, as deep as the bytes say.
#[test]
fn case_10_no_message_is_read_deeper_than_a_small_stack() {
    let patterns = (0..=u8::MAX).map(|byte| vec![byte; MAX_FRAME - HEADER]);
    let counted =
        (0..=8u8).flat_map(|number| [[number, 0, 0, 0].repeat(4000), [number, 0, 0, 0, 0, 0, 0, 0].repeat(2000)]);
    let bodies: Vec<Vec<u8>> = patterns.chain(counted).collect();
    let read = move || {
        for body in bodies {
            for message in every_message() {
                let _ = again(&[&message[..BODY], &body].concat());
                let _ = again(&[&message[..], &body].concat());
            }
        }
    };
    // 4,000 calls of 100 bytes or more do not fit this; an overflow ends the whole process.
    let reading = thread::Builder::new().stack_size(256 * 1024).spawn(read).unwrap();
    reading.join().unwrap();
}

/// Texts that are none, and numbers at their ends. (There are no floating-point numbers and no durations on the wire.)
#[test]
fn case_11_texts_and_numbers_at_their_ends_do_no_harm() {
    let nodes = Bystanders::new();
    let odd = |number: usize| Stranger::new(&nodes.network, &format!("odd-{number}"));
    let stranger = odd(0);
    let hello = body(&stranger.hello(&nodes.node));
    for text in [
        [0xff; 5],
        [b'a', b'\n', 0, 0x1b, b'['],
        *b"o d-0",
        [0xe2, 0x80, 0xae, b'a', b'b'],
        [0xc0, 0x80, b'a', 0xed, 0xa0],
    ] {
        let label = patched(hello.clone(), LABEL + 8, &text);
        is_no_hello(&nodes, &stranger, "a label of other characters", &label, Reason::Malformed);
    }
    for clock in [0, u64::MAX, u64::MAX / 2, i64::MAX as u64 + 1] {
        let place = hello.len() - 8 - 4 - 10;
        let late = patched(hello.clone(), place, &clock.to_le_bytes());
        is_no_hello(&nodes, &stranger, "a clock of another age", &late, Reason::ClockSkew);
    }
    let ends: [&dyn Fn(&mut RecordBody); 4] = [
        &|body| body.version = u64::MAX,
        &|body| body.issued = u32::MAX,
        &|body| (body.version, body.incarnation) = (0, u64::MAX),
        &|body| body.issued = 0,
    ];
    for (number, change) in ends.into_iter().enumerate() {
        let mut stranger = odd(number + 1);
        change(&mut stranger.body);
        let mut line = stranger.dial(&nodes.node);
        for seq in [0, 1, u32::MAX, 5] {
            let TailMessage::Heartbeat { statement, .. } = heartbeat(seq) else { unreachable!() };
            line.tell(&TailMessage::Heartbeat { seq, statement, echo: Some(u32::MAX - seq) });
            answers(&mut line, seq);
        }
    }
    nodes.are_unharmed();
}

/// One message has one encoding: whatever is read is exactly what would be written. So nothing that was signed can be
/// told in another way.
#[test]
fn case_12_what_is_read_is_what_would_be_written() {
    let mut read = 0;
    for message in every_message() {
        for at in 0..message.len() {
            for byte in [0, 1, 2, 3, 0x7f, 0x80, 0xfe, 0xff, message[at] ^ 1, message[at] ^ 0x20] {
                let changed = patched(message.clone(), at, &[byte]);
                if let Ok(encoded) = again(&changed) {
                    assert_eq!(encoded, changed, "{byte} at {at}");
                    read += 1;
                }
            }
        }
    }
    assert!(read > 1000, "hardly anything was read: {read}");

    let nodes = Bystanders::new();
    let TailMessage::Heartbeat { statement, .. } = heartbeat(1) else { unreachable!() };
    let beat = body(&TailMessage::Heartbeat { seq: 1, statement, echo: Some(0) });
    let echo = beat.len() - 5;
    assert_eq!(beat[echo], 1, "the mark of something that is there");
    are_malformed(&nodes, vec![("a third kind of perhaps", patched(beat, echo, &[2]))], Vec::new());
    let stranger = Stranger::new(&nodes.network, "truthful");
    let hello = body(&stranger.hello(&nodes.node));
    let fourth = patched(hello, REACH, &[3]);
    is_no_hello(&nodes, &stranger, "a fourth kind of reach", &fourth, Reason::Malformed);
    for (what, keys) in [("a tag twice", ["a", "a"]), ("tags out of order", ["b", "a"])] {
        let mut stranger = Stranger::new(&nodes.network, "tagged");
        stranger.body.tags = keys.map(|key| (key.to_owned(), "x".to_owned())).into_iter().collect();
        let hello = body(&stranger.hello(&nodes.node));
        is_no_hello(&nodes, &stranger, what, &hello, Reason::Malformed);
    }
    let mut stranger = Stranger::new(&nodes.network, "linked");
    stranger.body.edges = [stranger.body.id.short(); MAX_EDGES].into_iter().collect();
    stranger.body.round_trips = [1; MAX_EDGES].into_iter().collect();
    is_no_hello(&nodes, &stranger, "an edge twice", &body(&stranger.hello(&nodes.node)), Reason::Malformed);
    nodes.are_unharmed();
}
