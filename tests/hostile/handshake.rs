//! Cases 19 to 24 and 29 to 31: the handshake, on a running node.
//!
//! Every place of every message is changed, repeated and moved in the unit tests beside the code (`secure/handshake`,
//! `secure/session`), in the test vectors (`tests/vectors`) and by the fuzzer, for both ends.

use std::net::TcpListener;
use std::time::Duration;

use kithd::protocol::address::HostPort;
use kithd::protocol::address_book::{AddressBook, Obstacle};
use kithd::protocol::codec::{HEADER, PREAMBLE, Preamble, encode_frame, frame};
use kithd::protocol::identity::from_hex;
use kithd::protocol::message::{HeadMessage, News, Purpose, TailMessage, VERSION};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::NetworkId;
use kithd::protocol::rng::Rng;
use kithd::protocol::time::Time;
use kithd::secure::handshake::Tail;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::session::TAG;

use crate::bystanders::Bystanders;
use crate::daemon::{Key, Network, closed_port};
use crate::decoding::every_message;
use crate::evil_peer::Bytes::Raw;
use crate::evil_peer::{Breach, answers, closed_unheard, counted, heads_commit, tails_commit};
use crate::patience::{SOON, throughout, until};
use crate::report::{agreed, closed_for, established, refused};
use crate::stranger::{Line, Stranger, Trap, heartbeat};
use crate::tap::{Meddling, Tap, tapped};
use crate::weak_key;

/// The first bytes of somebody who has another key of that network.
pub fn with_another_key(network: NetworkId) -> Vec<u8> {
    let stranger = Stranger::new(&Network::new(), "keyless");
    let key = NetworkKey::generate().unwrap();
    Tail::begin(&stranger.credentials(network), &key, Cipher::ChaChaPoly, Purpose::Overlay).unwrap().1
}

#[test]
fn case_19_without_the_key_a_stranger_gets_not_one_byte_and_the_operator_sees_him() {
    let (network, key) = (Network::new(), Key::new());
    let node = key.given_to(network.node("node")).start();
    let tap = Tap::before(node.address, Meddling::NONE);
    let with_another = Key::new().given_to(network.node("another-key")).connect(tap.address).start();
    let without = network.node("no-key").connect(tap.address).start();
    for stranger in [&with_another, &without] {
        closed_for(stranger, None, "no-answer");
    }
    until("both are counted", SOON, || {
        let counted = refused(&node, "network-key");
        if counted >= 2 { Ok(()) } else { Err(format!("{counted}")) }
    });
    node.says("refused 127.0.0.1:");
    assert_eq!(node.status()["network_view"]["nodes"], 1);
    // The dialling nodes heard nothing at all: a read at their end of the line finds its end.
    let mut line = Line::to(node.address);
    line.send(&tap.heard()[0]);
    assert_eq!(line.rest(), b"");
}

#[test]
fn case_19_another_key_or_name_is_the_wrong_one() {
    let nodes = Bystanders::new();
    let stranger = Stranger::new(&nodes.network, "stranger");
    let foreign = stranger.credentials(NetworkId::of("elsewhere"));
    let other_name = Tail::begin(&foreign, &NetworkKey::none(), Cipher::AesGcm, Purpose::Overlay).unwrap().1;
    let other_key = with_another_key(stranger.body.network);
    closed_unheard(&nodes.node, "another network's name", &other_name, "network-key");
    closed_unheard(&nodes.node, "another network's key", &other_key, "network-key");
    nodes.are_unharmed();
}

/// Whoever does not answer is tried again after pauses that double, up to ten minutes.
#[test]
fn case_19_the_pauses_grow_to_ten_minutes() {
    let seconds = |seconds: u64| Time::ZERO + Duration::from_secs(seconds);
    let (mut book, mut rng) = (AddressBook::new(16, 16), Rng::new(1));
    let address: HostPort = "192.0.2.1:7100".parse().unwrap();
    book.configure(address.clone(), Time::ZERO);
    let mut now = seconds(1);
    let pauses: Vec<u64> = (0..24)
        .map(|_| {
            book.unanswered(&address, now, &mut rng);
            let Some(Obstacle::Backoff(until)) = book.obstacle(&address, now) else { panic!("no pause") };
            let pause = until.since(now).as_secs();
            now = until;
            pause
        })
        .collect();
    println!("{pauses:?}");
    assert!(pauses[0] < 3 && pauses.iter().all(|pause| *pause <= 800), "{pauses:?}");
    assert!(pauses[12..].iter().all(|pause| *pause >= 400), "{pauses:?}");
}

/// He holds the key of the network and is not on the list: he is told so, sealed, and told nothing else.
#[test]
fn case_20_who_is_not_on_the_list_learns_that_and_nothing_more() {
    let network = Network::new();
    let member = network.start("member");
    let node = network.node("node").with(&["--network-allow", &member.id]).connect(member.address).start();
    agreed(&[&node, &member]);
    let goodbye = encode_frame(&HeadMessage::Goodbye(Reason::NotAllowed)).len();
    for (number, purpose) in [Purpose::Overlay, Purpose::Ring, Purpose::Probe].into_iter().enumerate() {
        let stranger = Stranger::new(&network, &format!("outsider-{number}"));
        let introduced = || {
            let mut line = Line::to(node.address);
            // The answer to the first message, read here, is all that came before.
            line.secure(&stranger, purpose);
            line.tell(&stranger.hello(&node));
            line
        };
        assert_eq!(introduced().dismissed(), Some(Reason::NotAllowed));
        assert_eq!(introduced().rest().len(), HEADER + goodbye + TAG);
        closed_for(&node, None, "not-allowed");
        counted(&node, "not-allowed", 2 * number as u64 + 2);
        assert!(!node.network().to_string().contains(&stranger.id()));
        assert!(!member.network().to_string().contains(&stranger.id()));
    }
    agreed(&[&node, &member]);
}

/// Nor does he learn more who asks before he has said who he is, whatever he asks for.
#[test]
fn case_20_who_has_not_introduced_himself_is_told_nothing() {
    let nodes = Bystanders::new();
    let early = every_message().into_iter().filter(|message| message[0] == 1 && !matches!(message[1], 0 | 6));
    for (number, message) in early.enumerate() {
        let stranger = Stranger::new(&nodes.network, &format!("early-{number}"));
        let mut line = Line::to(nodes.node.address);
        line.secure(&stranger, Purpose::Overlay);
        line.say(&frame(&message));
        assert_eq!(line.rest(), b"", "message {}", message[1]);
        counted(&nodes.node, "unexpected", number as u64 + 1);
        assert!(!nodes.node.network().to_string().contains(&stranger.id()));
    }
    assert_eq!(refused(&nodes.node, "unexpected"), 9, "one for each request but Hello and Goodbye");
    nodes.are_unharmed();
}

#[test]
fn case_21_a_replayed_recording_makes_no_state() {
    let (network, key) = (Network::new(), Key::new());
    let (mut node, tap, mut other) = tapped(&network, &key, Meddling::NONE);
    agreed(&[&node, &other]);
    other.kill();
    until("the other is down", SOON, || {
        let view = node.status()["network_view"].clone();
        if view["down"] == 1 { Ok(()) } else { Err(view.to_string()) }
    });
    let before = node.network()["digest"].clone();
    let (first, third) = (PREAMBLE + HEADER + 48, HEADER + 168);
    let recordings: Vec<Vec<u8>> = tap.heard().into_iter().filter(|heard| heard.len() > first + third).collect();
    assert!(!recordings.is_empty());
    for recording in &recordings {
        let mut line = Line::to(node.address);
        line.send(recording);
        assert_eq!(line.rest(), b"", "the first message was seen before");
    }
    closed_for(&node, None, "replayed");
    counted(&node, "replayed", recordings.len() as u64);
    assert_eq!(node.network()["digest"], before);
    assert_eq!(node.status()["network_view"]["down"], 1, "who was recorded is as dead as before");

    // A node that has forgotten what it has seen answers, and its answer has another key: the third message is wrong.
    node.kill();
    node.start_again();
    for recording in &recordings {
        let mut line = Line::to(node.address);
        line.send(&recording[..first]);
        assert_eq!(line.frame().map(|frame| frame.len()), Some(201), "the second message");
        line.send(&recording[first..]);
        assert_eq!(line.rest(), b"");
    }
    counted(&node, "network-key", recordings.len() as u64);
    assert!(established(&node.peers()).is_empty());
    assert!(!node.stderr().contains("panicked"), "{}", node.stderr());
}

/// A bit of the preamble, of each message of the handshake, of the `Hello` or the `Welcome`, and of what follows: whoever
/// receives it closes, and counts why.
#[test]
fn case_22_any_flipped_bit_closes_the_connection_with_a_counted_reason() {
    let (network, key) = (Network::new(), Key::new());
    // 8 of preamble, 4 + 48 of message 1, 4 + 168 of message 3, then records.
    let there = [4, 6, 7, 14, 50, 70, 150, 231, 300].map(|at| Meddling { flip: Some(at), ..Meddling::NONE });
    // 4 + 201 of message 2, then records.
    let back = [5, 40, 120, 204, 230].map(|at| Meddling { flip_back: Some(at), ..Meddling::NONE });
    for meddling in there.into_iter().chain(back) {
        let (node, _tap, other) = tapped(&network, &key, meddling);
        let receiver = if meddling.flip.is_some() { &node } else { &other };
        until(&format!("{meddling:?} is counted"), SOON, || {
            let reasons = ["network-key", "bad-record-tag", "version-mismatch"];
            let counted: u64 = reasons.iter().map(|reason| refused(receiver, reason)).sum();
            if counted > 0 { Ok(()) } else { Err(receiver.status()["refused"].to_string()) }
        });
    }
}

/// Three good records become these.
type Spoilt = fn([Vec<u8>; 3]) -> Vec<u8>;

const SPOILT: [(&str, Spoilt); 7] = [
    ("the same record twice", |[one, ..]| one.repeat(2)),
    ("two that have changed places", |[one, two, _]| [two, one].concat()),
    ("one left out", |[_, two, _]| two),
    ("an old one repeated", |[one, two, three]| [&one[..], &two, &three, &one].concat()),
    ("a bit of the message flipped", |[mut one, ..]| {
        one[HEADER + 3] ^= 1;
        one
    }),
    ("a bit of the tag flipped", |[mut one, ..]| {
        *one.last_mut().unwrap() ^= 0x80;
        one
    }),
    ("a byte too few", |[one, ..]| frame(&one[HEADER..one.len() - 1])),
];

#[test]
fn case_22_records_that_are_repeated_moved_or_left_out_open_nothing() {
    let nodes = Bystanders::new();
    for (number, (what, spoil)) in SPOILT.into_iter().enumerate() {
        let stranger = Stranger::new(&nodes.network, &format!("tail-{number}"));
        let mut line = stranger.dial(&nodes.node);
        let records = [1, 2, 3].map(|seq| line.sealed(&encode_frame(&heartbeat(seq))));
        line.send(&spoil(records));
        assert_eq!(line.dismissed(), Some(Reason::BadRecordTag), "{what}");
        closed_for(&nodes.node, Some(&stranger.id()), "bad-record-tag");
        counted(&nodes.node, "bad-record-tag", number as u64 + 1);
    }
    // An answer is one too many if its request was answered before: of several good ones only the first is.
    for (what, spoil) in SPOILT.into_iter().filter(|(what, _)| !what.starts_with("an old one")) {
        let trap = Trap::new(&nodes.network, "head");
        let dialler = nodes.network.node("dialler").connect(trap.address).start();
        let mut line = trap.catch(&dialler);
        line.tell(&trap.stranger.welcome());
        let records = [(); 3].map(|()| line.sealed(&encode_frame(&HeadMessage::News(News::default()))));
        while !matches!(line.hear::<TailMessage>(), Some(TailMessage::Heartbeat { .. }) | None) {}
        line.send(&spoil(records));
        assert_eq!(line.abandoned(), Some(Reason::BadRecordTag), "{what}");
        counted(&dialler, "bad-record-tag", 1);
    }
    nodes.are_unharmed();
}

/// What a node has said is not understood when it comes back: each direction has its own key.
#[test]
fn case_23_a_nodes_own_words_sent_back_open_nothing() {
    let nodes = Bystanders::new();
    let stranger = Stranger::new(&nodes.network, "echo");
    let mut line = stranger.dial(&nodes.node);
    line.tell(&heartbeat(1));
    let said = line.frame().unwrap();
    line.send(&frame(&said));
    line.rest();
    closed_for(&nodes.node, Some(&stranger.id()), "bad-record-tag");
    counted(&nodes.node, "bad-record-tag", 1);

    // And in the handshake: all that comes, or the first message alone.
    for (from, reason) in [(0, "frame-too-large"), (PREAMBLE, "network-key")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let mut line = Line::over(listener.accept().unwrap().0.into());
            let said = line.read(PREAMBLE + HEADER + 48);
            line.send(&said[from..]);
            line.rest()
        });
        let failed = nodes.node.client(&["connect", &address.to_string(), "--format", "json"]);
        assert!(failed.code == Some(1) && failed.stdout.contains(reason), "{failed:?}");
        assert_eq!(echo.join().unwrap(), b"", "the node says no more");
        counted(&nodes.node, reason, 1);
    }
    nodes.are_unharmed();
}

/// A node that finds itself at the other end of a connection says so at both ends, and never dials that address again:
/// another address of its own, or one that a router leads back to it. No address at all is not even tried.
#[test]
fn case_24_a_node_that_was_told_its_own_address_recognises_itself_once() {
    let network = Network::new();
    // It advertises the first address and is told of the others, so that only the answer there can show who it is.
    let (first, second) = (closed_port(), closed_port());
    let hairpin = Tap::before(first, Meddling::NONE);
    let unspecified = network.node("a").listen(&[first]).connect(format!("0.0.0.0:{}", second.port())).refused();
    assert!(unspecified.one_line(2).contains("no address to dial"), "{unspecified:?}");
    for (number, told) in [second, hairpin.address].into_iter().enumerate() {
        let a = network.node(&format!("a-{number}")).listen(&[first, second]).connect(told).start();
        let ends = || {
            let rows = a.peers();
            let mut ends: Vec<String> =
                rows.iter().map(|row| format!("{} {}", row["direction"], row["close_reason"])).collect();
            ends.sort();
            ends
        };
        let expected = [r#""incoming" "self""#, r#""outgoing" "self""#];
        until("both ends are closed as self", SOON, || {
            let ends = ends();
            if ends == expected { Ok(()) } else { Err(format!("{ends:?}")) }
        });
        throughout("it does not try again", Duration::from_secs(4), || {
            let ends = ends();
            if ends == expected { Ok(()) } else { Err(format!("{ends:?}")) }
        });
        let status = a.status();
        assert_eq!(status["network_view"]["nodes"], 1, "{status}");
        assert_eq!(status["peers"]["handshaking"], 0, "{status}");
        assert_eq!(status["refused"]["self"], 2, "once at each end: {status}");
    }
}

/// There is one version yet, so its neighbours are made up: with one in common the nodes talk, without they say so.
#[test]
fn case_29_versions_in_common_are_found_and_others_are_refused_by_name() {
    let nodes = Bystanders::new();
    let stranger = Stranger::new(&nodes.network, "versed");
    let credentials = stranger.credentials(stranger.body.network);
    let said = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Overlay);
    let ours = VERSION;
    for versions in [(ours, ours), (ours - 1, ours), (ours, ours + 1), (0, u8::MAX)] {
        let mut line = Line::to(nodes.node.address);
        line.secure_with(&credentials, Preamble { versions, ..said }).unwrap();
        line.tell(&stranger.hello(&nodes.node));
        assert!(matches!(line.hear(), Some(HeadMessage::Welcome { .. })), "{versions:?}");
        line.tell(&heartbeat(3));
        answers(&mut line, 3);
    }
    let others = [(ours + 1, ours + 2), (ours - 1, ours - 1), (u8::MAX, u8::MAX), (ours + 1, ours - 1)];
    for (number, versions) in others.into_iter().enumerate() {
        let mut line = Line::to(nodes.node.address);
        let refusal = line.secure_with(&credentials, Preamble { versions, ..said });
        assert_eq!(refusal, Err(Reason::VersionMismatch), "{versions:?}");
        assert_eq!(line.rest(), b"");
        counted(&nodes.node, "version-mismatch", number as u64 + 1);
    }
    closed_for(&nodes.node, None, "version-mismatch");

    // Somebody on the line who strikes out what is better: both ends have signed for what was said.
    let newer = Preamble { versions: (ours, ours + 1), ..said };
    let (_, mut bytes) = Tail::begin_with(&credentials, &NetworkKey::none(), newer, None).unwrap();
    bytes[5] = ours;
    closed_unheard(&nodes.node, "a version struck out", &bytes, "network-key");
    let (_, mut bytes) = Tail::begin_with(&credentials, &NetworkKey::none(), said, None).unwrap();
    bytes[6] = Cipher::AesGcm as u8;
    closed_unheard(&nodes.node, "another cipher", &bytes, "network-key");
    nodes.are_unharmed();
}

/// The points of small order, in all their encodings.
const SMALL_ORDER: [&str; 12] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
    "4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
    "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// In the first message, to a head; in the second, to a tail; and as the static key in the third, where it comes sealed
/// from somebody who holds the network's key.
#[test]
fn case_30_points_of_small_order_are_refused_in_each_message() {
    let nodes = Bystanders::new();
    let preamble = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Overlay).to_bytes();
    for digits in SMALL_ORDER {
        let point = from_hex::<32>(digits).unwrap();
        let message = [&point[..], &[7; 16]].concat();
        closed_unheard(&nodes.node, digits, &[&preamble[..], &frame(&message)].concat(), "low-order-point");
    }
    for (number, digits) in [SMALL_ORDER[0], SMALL_ORDER[1], SMALL_ORDER[7]].into_iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let weak = from_hex::<32>(digits).unwrap();
        let head = std::thread::spawn(move || {
            let mut line = Line::over(listener.accept().unwrap().0.into());
            line.read(PREAMBLE + HEADER + 48);
            line.send(&frame(&[&weak[..], &[7; 169]].concat()));
            line.rest()
        });
        let failed = nodes.node.client(&["connect", &address.to_string(), "--format", "json"]);
        assert!(failed.code == Some(1) && failed.stdout.contains("low-order-point"), "{failed:?}");
        assert_eq!(head.join().unwrap(), b"", "the node says no more");
        counted(&nodes.node, "low-order-point", (SMALL_ORDER.len() + number) as u64 + 1);
    }
    let mut line = Line::to(nodes.node.address);
    weak_key::introduce(&mut line, NetworkId::of(nodes.network.name()));
    assert_eq!(line.rest(), b"");
    counted(&nodes.node, "low-order-point", SMALL_ORDER.len() as u64 + 4);
    nodes.are_unharmed();
}

/// There is no plain form of the protocol, on no port: what is not sealed is not heard, before the handshake or after it.
#[test]
fn case_31_nothing_is_said_or_heard_in_the_clear() {
    let nodes = Bystanders::new();
    let stranger = Stranger::new(&nodes.network, "plain");
    let preamble = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Overlay);
    let (plain, sealed) = (preamble.to_bytes(), encode_frame(&stranger.hello(&nodes.node)));
    closed_unheard(&nodes.node, "a Hello in the clear", &[&plain[..], &sealed].concat(), "network-key");
    let watch = encode_frame(&TailMessage::Watch);
    closed_unheard(&nodes.node, "a message in the clear", &[&plain[..], &watch].concat(), "network-key");
    closed_unheard(&nodes.node, "nonsense", &[&plain[..], &frame(&[7; 48])].concat(), "network-key");
    for cipher in [0, 3, 9, u8::MAX] {
        let none = [&Preamble { cipher, ..preamble }.to_bytes()[..], &frame(&[1; 48])].concat();
        closed_unheard(&nodes.node, "no cipher that there is", &none, "version-mismatch");
    }
    let heartbeat = Raw(encode_frame(&heartbeat(1)));
    let breaches: Vec<Breach> = vec![
        ("a heartbeat in the clear", heartbeat, Reason::BadRecordTag),
        ("a record that nobody sealed", Raw(frame(&[1; 100])), Reason::BadRecordTag),
    ];
    tails_commit(&nodes.network, &nodes.node, breaches.clone());
    heads_commit(&nodes.network, breaches);
    nodes.are_unharmed();
    let asked = nodes.network.node("plain").with(&["--insecure-plain"]).refused();
    asked.one_line(2);
}
