//! Strangers who break the protocol: each is closed with the reason for it, on both sides, and counted.
//!
//! "On both sides" is the farewell that the stranger hears and the row of the node's own `peers --all`. Before a stranger
//! has shown that he speaks the protocol he hears nothing at all.

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::codec::{LONGEST_MESSAGE, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, Preamble, encode_frame};
use kithd::protocol::hash::Hash;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, News, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, NetworkId, Record, Signature, Signer, Stage, Witness, WitnessBody};
use kithd::secure::handshake::{MAX_MESSAGE, Tail};
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::session::TAG;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::{closed_for, refused};
use crate::stranger::{Line, Stranger, Trap, heartbeat, ignorance, is_end, wall_ms};

/// What follows the handshake: sealed, or put on the line as it is.
enum Bytes {
    Sealed(Vec<u8>),
    Raw(Vec<u8>),
}
use Bytes::{Raw, Sealed};

impl Line {
    fn put(&mut self, bytes: &Bytes) {
        match bytes {
            Sealed(plaintext) => self.say(plaintext),
            Raw(bytes) => self.send(bytes),
        }
    }
}

/// Bytes as a frame that says its length.
fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// The body of a message's frame.
fn body(message: &TailMessage) -> Vec<u8> {
    encode_frame(message)[4..].to_vec()
}

fn head_heartbeat() -> HeadMessage {
    HeadMessage::Heartbeat { seq: 99, statement: ignorance() }
}

fn push(item: Item) -> TailMessage {
    TailMessage::Push(News { items: [item].into_iter().collect(), want: List::new() })
}

/// Whom a stranger accuses.
fn witness(stranger: &Stranger, network: NetworkId) -> Item {
    let (subject, observer) = (stranger.body.id.short(), stranger.body.id);
    let body = WitnessBody { network, subject, record: [7; 8], stage: Stage::Down, need: 1, observer };
    Item::Witness(Witness::signed(body, stranger).shared())
}

fn forged(stranger: &Stranger) -> Arc<Record> {
    let record = stranger.record();
    let Signature(one, mut two) = record.signature;
    two[3] ^= 1;
    Arc::new(Record { signature: Signature(one, two), ..(*record).clone() })
}

/// What neighbours may not send: bytes after the `Hello`, and the reason why they end the edge.
#[test]
fn a_tail_that_breaks_the_protocol_is_closed_with_the_reason_on_both_sides() {
    let network = Network::new();
    let node = network.start("node");
    let other = Stranger::new(&Network::new(), "foreign");
    let liar = Stranger::new(&network, "liar");
    let watches: Vec<u8> = (0..12).flat_map(|_| encode_frame(&TailMessage::Watch)).collect();
    // Sync, whose list claims a billion buckets; and a Push that claims as many items.
    let bomb = |tag: u8| [&[1, tag, 0, 0, 0][..], &(1u64 << 30).to_le_bytes(), &[0; 16]].concat();
    let cases: Vec<(&str, Bytes, Reason)> = vec![
        ("an answer", Sealed(encode_frame(&head_heartbeat())), Reason::WrongDirection),
        ("an answer of nonsense", Sealed(framed(&[2, 99, 99, 99])), Reason::WrongDirection),
        ("a frame of no bytes", Raw(vec![0; 4]), Reason::FrameTooLarge),
        ("a frame one byte too large", Raw(framed(&vec![1; MAX_FRAME + TAG + 1])), Reason::FrameTooLarge),
        ("a frame of 4 GiB", Raw(u32::MAX.to_be_bytes().to_vec()), Reason::FrameTooLarge),
        ("a record that nobody sealed", Raw(framed(&[1; 100])), Reason::BadRecordTag),
        ("a frame too short for a record", Raw(framed(&[1; TAG - 1])), Reason::BadRecordTag),
        ("the largest frame there may be, of nonsense", Raw(framed(&vec![1; MAX_FRAME + TAG])), Reason::BadRecordTag),
        ("a record of no message", Sealed(Vec::new()), Reason::Malformed),
        ("a message of no bytes", Sealed(vec![0; 4]), Reason::Malformed),
        ("a message longer than its record", Sealed(vec![0, 0, 0, 9, 1, 3]), Reason::Malformed),
        ("half a length", Sealed(vec![0, 0]), Reason::Malformed),
        ("trailing bytes", Sealed(framed(&[body(&heartbeat(1)), vec![0]].concat())), Reason::Malformed),
        ("a message cut short", Sealed(framed(&body(&heartbeat(1))[..20])), Reason::Malformed),
        ("an unknown tag", Sealed(framed(&[1, 99, 0, 0, 0])), Reason::Malformed),
        ("an unknown direction", Sealed(framed(&[9, 3, 0, 0, 0])), Reason::Malformed),
        ("a list of 2^30 in Sync", Sealed(framed(&bomb(5))), Reason::Malformed),
        ("a list of 2^30 in Push", Sealed(framed(&bomb(4))), Reason::Malformed),
        ("more Watches than two", Sealed(watches), Reason::Unexpected),
        ("a second Hello", Sealed(encode_frame(&liar.hello(&node))), Reason::Unexpected),
        ("a forged record", Sealed(encode_frame(&push(Item::Record(forged(&liar))))), Reason::BadSignature),
        (
            "a record of another network",
            Sealed(encode_frame(&push(Item::Record(other.record())))),
            Reason::OtherNetwork,
        ),
        (
            "a witness of another network",
            Sealed(encode_frame(&push(witness(&liar, NetworkId::of("elsewhere"))))),
            Reason::OtherNetwork,
        ),
        ("the largest message there may be, of nonsense", Sealed(framed(&vec![1; LONGEST_MESSAGE])), Reason::Malformed),
    ];
    for (number, (what, bytes, reason)) in cases.into_iter().enumerate() {
        let stranger = Stranger::new(&network, &format!("stranger-{number}"));
        let before = refused(&node, &reason.to_string());
        let mut line = stranger.dial(&node);
        line.put(&bytes);
        assert_eq!(line.dismissed(), Some(reason), "{what}");
        println!("{what}: {reason}");
        closed_for(&node, Some(&stranger.id()), &reason.to_string());
        assert_eq!(refused(&node, &reason.to_string()), before + 1, "{what}");
    }
    let known = node.network();
    assert!(!known.to_string().contains(&other.id()) && !known.to_string().contains(&liar.id()), "{known}");
}

/// Members of a foreign key's making: a record that one stranger signed and that names another.
#[test]
fn nobody_introduces_himself_as_somebody_else() {
    let network = Network::new();
    let node = network.start("node");
    let (mallory, alice) = (Stranger::new(&network, "mallory"), Stranger::new(&network, "alice"));
    let mut skewed = Stranger::new(&network, "skewed");
    skewed.body.issued -= 1;
    let foreign = Stranger::new(&Network::new(), "foreign");
    let hello =
        |record, clock_ms| TailMessage::Hello { record, clock_ms, purpose: Purpose::Overlay, dialled: node.address };
    let own = until("a probe shows the node's own record", SOON, || {
        let stranger = Stranger::new(&network, "probe");
        let mut line = Line::to(node.address);
        line.secure(&stranger, Purpose::Probe);
        line.tell(&TailMessage::Hello {
            record: stranger.record(),
            clock_ms: wall_ms(),
            purpose: Purpose::Probe,
            dialled: node.address,
        });
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Welcome { record, .. }) => Ok(record),
            other => Err(format!("{other:?}")),
        }
    });
    let hour = 3_600_000;
    let trap = Trap::new(&network, "victim");
    let changed = |change: &dyn Fn(&mut Stranger)| {
        let mut one = Stranger::new(&network, "changed");
        change(&mut one);
        one
    };
    // On this address the node would find whoever listens on its own machine.
    let unspecified = changed(&|one| one.body.address = ([0, 0, 0, 0], trap.address.port()).into());
    let no_port = changed(&|one| one.body.address.set_port(0));
    let multicast = changed(&|one| one.body.address = ([224, 0, 0, 1], 7100).into());
    let long_tags = changed(&|one| one.body.tags = [("note".to_owned(), "x".repeat(253))].into_iter().collect());
    let twice = changed(&|one| one.body.edges = [mallory.body.id.short(); 2].into_iter().collect());
    let signed_by_another =
        Arc::new(Record { body: alice.body.clone(), signature: mallory.sign(b"anything that alice never signed") });
    let cases = [
        ("a forged signature", &alice, forged(&alice), wall_ms(), Reason::BadSignature),
        ("another's signature", &alice, signed_by_another, wall_ms(), Reason::BadSignature),
        ("another network", &foreign, foreign.record(), wall_ms(), Reason::OtherNetwork),
        ("a clock an hour ahead", &skewed, skewed.record(), wall_ms() + hour, Reason::ClockSkew),
        ("a clock an hour behind", &skewed, skewed.record(), wall_ms() - hour, Reason::ClockSkew),
        ("the node's own record", &mallory, own, wall_ms(), Reason::IdentityMismatch),
        ("another's record", &mallory, alice.record(), wall_ms(), Reason::IdentityMismatch),
        ("no address in particular", &unspecified, unspecified.record(), wall_ms(), Reason::Malformed),
        ("an address without a port", &no_port, no_port.record(), wall_ms(), Reason::Malformed),
        ("an address of many", &multicast, multicast.record(), wall_ms(), Reason::Malformed),
        ("tags beyond their bound", &long_tags, long_tags.record(), wall_ms(), Reason::Malformed),
        ("the same edge twice", &twice, twice.record(), wall_ms(), Reason::Malformed),
    ];
    for (what, who, record, clock_ms, reason) in cases {
        let before = refused(&node, &reason.to_string());
        let mut line = Line::to(node.address);
        line.secure_in(who, NetworkId::of(network.name()), Purpose::Overlay);
        line.tell(&hello(record, clock_ms));
        // A stranger who is not the one he says he is, hears nothing more.
        let said = (reason != Reason::IdentityMismatch).then_some(reason);
        assert_eq!(line.dismissed(), said, "{what}");
        println!("{what}: {reason}");
        until(&format!("{what} is counted"), SOON, || {
            let now = refused(&node, &reason.to_string());
            if now == before + 1 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
        });
        assert!(node.peers().iter().any(|row| row["close_reason"] == reason.to_string()), "{what}");
    }
    assert!(!trap.is_dialled());
    let status = node.status();
    assert!(status["warnings"].to_string().contains("clock"), "{status}");
    let known = node.network().to_string();
    for stranger in [&mallory, &alice, &skewed, &foreign] {
        assert!(!known.contains(&stranger.id()), "{known}");
    }
}

/// Whoever speaks something else gets the connection closed, and learns nothing of what he has found.
#[test]
fn other_protocols_are_closed_without_a_byte() {
    let network = Network::new();
    let node = network.start("node");
    let client_hello = [&[0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3][..], &[7; 190]].concat();
    let greetings: [(&str, &[u8]); 5] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("TLS", &client_hello),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("nearly ours", b"kitx"),
        ("nothing but zeros", &[0; 64]),
    ];
    for (what, greeting) in greetings {
        let before = refused(&node, "not-kithd");
        let start = Instant::now();
        let mut line = Line::to(node.address);
        line.send(greeting);
        assert_eq!(line.rest(), b"", "{what}");
        println!("{what}: closed after {:.3} s", start.elapsed().as_secs_f64());
        until(&format!("{what} is counted"), SOON, || {
            let now = refused(&node, "not-kithd");
            if now == before + 1 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
        });
    }
    closed_for(&node, None, "not-kithd");
}

/// Nor does he who begins well, but does not hold the network's key.
#[test]
fn what_is_no_introduction_is_closed_without_a_byte() {
    let network = Network::new();
    let node = network.start("node");
    let stranger = Stranger::new(&network, "stranger");
    let preamble = Preamble::of(1, Purpose::Overlay).to_bytes();
    let foreign = stranger.credentials(NetworkId::of("elsewhere"));
    let begin = |credentials, key: NetworkKey| Tail::begin(&credentials, &key, Cipher::ChaChaPoly, Purpose::Overlay);
    let (_, other_key) = begin(stranger.credentials(stranger.body.network), NetworkKey::generate().unwrap()).unwrap();
    let (_, other_network) = begin(foreign, NetworkKey::none()).unwrap();
    let after = |body: &[u8]| [&preamble[..], &framed(body)].concat();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("another cipher", [&b"kith\x01\x01\x09\0"[..], &framed(&[1; 48])].concat(), "version-mismatch"),
        ("no bytes", [&preamble[..], &[0; 4]].concat(), "frame-too-large"),
        ("too many bytes", after(&[1; MAX_FRAME_BEFORE_HELLO + TAG + 1]), "frame-too-large"),
        ("a first message too long", after(&[9; MAX_MESSAGE + 1]), "frame-too-large"),
        ("a message in the clear", [&preamble[..], &encode_frame(&TailMessage::Watch)].concat(), "network-key"),
        ("nonsense", after(&[7; 48]), "network-key"),
        ("a point that is no key", after(&[0; 48]), "low-order-point"),
        ("another network's key", other_key, "network-key"),
        ("another network's name", other_network, "network-key"),
    ];
    for (what, bytes, reason) in cases {
        let before = refused(&node, reason);
        let mut line = Line::to(node.address);
        line.send(&bytes);
        assert_eq!(line.rest(), b"", "{what}");
        until(&format!("{what} is counted as {reason}"), SOON, || {
            let now = refused(&node, reason);
            if now == before + 1 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
        });
        closed_for(&node, None, reason);
    }
}

/// One byte now and then is no progress: the deadline is for all of the introduction.
#[test]
fn a_slow_drip_does_not_prolong_the_handshake() {
    let network = Network::new();
    let node = network.start("node");
    let stranger = Stranger::new(&network, "drip");
    let credentials = stranger.credentials(stranger.body.network);
    let (_, bytes) = Tail::begin(&credentials, &NetworkKey::none(), Cipher::ChaChaPoly, Purpose::Overlay).unwrap();
    let start = Instant::now();
    let mut line = Line::to(node.address);
    let mut sent = 0;
    for byte in bytes {
        match line.try_send(&[byte]) {
            Ok(()) => sent += 1,
            Err(error) if is_end(&error) => break,
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
    let took = start.elapsed();
    println!("closed after {:.2} s and {sent} bytes", took.as_secs_f64());
    assert_eq!(line.rest(), b"");
    assert!(took > Duration::from_secs(4), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    closed_for(&node, None, "handshake-timeout");
    assert!(!node.network().to_string().contains(&stranger.id()));
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_told_from_one_that_ends() {
    let network = Network::new();
    let node = network.start("node");
    for (label, sent, reason) in
        [("in-header", 3, "eof-in-frame"), ("in-frame", 20, "eof-in-frame"), ("after-frame", 999, "end-of-stream")]
    {
        let stranger = Stranger::new(&network, label);
        let mut line = stranger.dial(&node);
        let whole = line.sealed(&encode_frame(&heartbeat(1)));
        line.send(&whole[..sent.min(whole.len())]);
        line.finish();
        line.rest();
        closed_for(&node, Some(&stranger.id()), reason);
    }
}

#[test]
fn a_frame_that_is_begun_must_end() {
    let network = Network::new();
    let node = network.node("node").with(&["--limits-frame-timeout", "500ms"]).start();
    let stranger = Stranger::new(&network, "half");
    let mut line = stranger.dial(&node);
    let whole = line.sealed(&encode_frame(&heartbeat(1)));
    line.send(&whole[..20]);
    assert_eq!(line.dismissed(), Some(Reason::FrameTimeout));
    closed_for(&node, Some(&stranger.id()), "frame-timeout");
}

/// Two connections of one identity in one direction: the newer one stands.
#[test]
fn a_newer_connection_takes_the_place_of_the_older() {
    let network = Network::new();
    let node = network.start("node");
    let stranger = Stranger::new(&network, "twice");
    let mut first = stranger.dial(&node);
    let mut second = stranger.dial(&node);
    assert_eq!(first.dismissed(), Some(Reason::Replaced));
    closed_for(&node, Some(&stranger.id()), "replaced");
    second.tell(&heartbeat(7));
    loop {
        match second.hear::<HeadMessage>() {
            Some(HeadMessage::Heartbeat { seq, .. }) => break assert_eq!(seq, 7),
            Some(_) => continue,
            None => panic!("the newer one was closed"),
        }
    }
}

/// What heads may not send: requests, and answers to what nobody asked.
#[test]
fn a_head_that_breaks_the_protocol_is_closed_with_the_reason_and_left_alone() {
    let network = Network::new();
    let liar = Stranger::new(&network, "liar");
    let repeated = |message: HeadMessage, times: usize| encode_frame(&message).repeat(times);
    let differences = || HeadMessage::Differences { buckets: List::new(), entries: List::new() };
    let news =
        HeadMessage::News(News { items: [Item::Record(forged(&liar))].into_iter().collect(), want: List::new() });
    let cases: Vec<(&str, Bytes, Reason)> = vec![
        ("a request", Sealed(encode_frame(&heartbeat(1))), Reason::WrongDirection),
        ("a request of nonsense", Sealed(framed(&[1, 99, 99])), Reason::WrongDirection),
        ("a frame of no bytes", Raw(vec![0; 4]), Reason::FrameTooLarge),
        ("a frame too large", Raw(framed(&vec![2; MAX_FRAME + TAG + 1])), Reason::FrameTooLarge),
        ("a record that nobody sealed", Raw(framed(&[2; 100])), Reason::BadRecordTag),
        ("an unknown tag", Sealed(framed(&[2, 99, 0, 0, 0])), Reason::Malformed),
        ("a heartbeat nobody asked for", Sealed(encode_frame(&head_heartbeat())), Reason::Unexpected),
        ("a second Welcome", Sealed(encode_frame(&liar.welcome())), Reason::Unexpected),
        ("an Ack nobody asked for", Sealed(repeated(HeadMessage::Ack(News::default()), 20)), Reason::Unexpected),
        ("more News than was asked for", Sealed(repeated(HeadMessage::News(News::default()), 400)), Reason::Unexpected),
        ("more Differences than were asked for", Sealed(repeated(differences(), 20)), Reason::Unexpected),
        ("a forged record", Sealed(encode_frame(&news)), Reason::BadSignature),
    ];
    let traps: Vec<Trap> = (0..cases.len()).map(|number| Trap::new(&network, &format!("trap-{number}"))).collect();
    let setup = traps
        .iter()
        .fold(network.node("node").with(&["--discovery-out-degree", "32"]), |setup, trap| setup.connect(trap.address));
    let node = setup.start();

    let spring = |trap: &Trap, (what, bytes, reason): &(&str, Bytes, Reason)| {
        let mut line = trap.catch(&node);
        line.tell(&trap.stranger.welcome());
        // News before the first Watch would be unasked for.
        while !matches!(line.hear::<TailMessage>(), Some(TailMessage::Watch) | None) {}
        line.put(bytes);
        let heard = line.abandoned();
        println!("{what}: {heard:?}");
        (heard != Some(*reason)).then(|| format!("{what}: {heard:?} and not {reason}"))
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let spring = &spring;
        let sprung: Vec<_> =
            traps.iter().zip(&cases).map(|(trap, case)| scope.spawn(move || spring(trap, case))).collect();
        sprung.into_iter().filter_map(|trap| trap.join().unwrap_or_else(|_| Some("a trap failed".to_owned()))).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (trap, (_, _, reason)) in traps.iter().zip(&cases) {
        closed_for(&node, Some(&trap.stranger.id()), &reason.to_string());
    }
    // Who broke the protocol is not dialled again for minutes.
    thread::sleep(Duration::from_secs(3));
    for (trap, (what, ..)) in traps.iter().zip(&cases) {
        assert!(trap.accept_within(Duration::ZERO).is_none() && !trap.is_dialled(), "{what}: dialled again");
    }
}

/// At the introduction as well.
#[test]
fn a_head_that_is_not_who_it_says_is_left() {
    let network = Network::new();
    let mut foreign = Trap::new(&network, "foreign");
    foreign.stranger.body.network = NetworkId::of("elsewhere");
    let (liar, late) = (Trap::new(&network, "forger"), Trap::new(&network, "late"));
    let node = network.node("node").connect(foreign.address).connect(liar.address).connect(late.address).start();

    let mut line = foreign.catch(&node);
    line.tell(&foreign.stranger.welcome());
    assert_eq!(line.abandoned(), Some(Reason::OtherNetwork));

    let mut line = liar.catch(&node);
    line.tell(&HeadMessage::Welcome { record: forged(&liar.stranger), clock_ms: wall_ms() });
    assert_eq!(line.abandoned(), Some(Reason::BadSignature));

    let mut line = late.catch(&node);
    line.tell(&HeadMessage::Welcome { record: late.stranger.record(), clock_ms: wall_ms() - 3_600_000 });
    assert_eq!(line.abandoned(), Some(Reason::ClockSkew));
    for trap in [&foreign, &liar, &late] {
        assert!(!node.network().to_string().contains(&trap.stranger.id()));
    }
}

/// News about nodes nobody has seen is taken for what it is: a stranger's word, counted and not dialled.
#[test]
fn a_witness_without_its_record_does_no_harm() {
    let network = Network::new();
    let node = network.start("node");
    let stranger = Stranger::new(&network, "accuser");
    let mut line = stranger.dial(&node);
    let ours = NetworkId::of(network.name());
    for number in 0..50u8 {
        let body = WitnessBody {
            network: ours,
            subject: kithd::protocol::identity::ControllerId([number; 32]).short(),
            record: Hash([number; 32]).short(),
            stage: Stage::Down,
            need: 1,
            observer: stranger.body.id,
        };
        line.tell(&push(Item::Witness(Witness::signed(body, &stranger).shared())));
    }
    line.tell(&heartbeat(1));
    alive(&node, &mut line);
    assert_eq!(node.status()["network_view"]["nodes"], 2);
}

/// The line stands: the node answers the heartbeat that was sent last.
fn alive(node: &Daemon, line: &mut Line) {
    loop {
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Heartbeat { .. }) => break,
            Some(HeadMessage::Goodbye(reason)) => panic!("{reason}\n{}", node.stderr()),
            Some(_) => continue,
            None => panic!("closed\n{}", node.stderr()),
        }
    }
    let nothing = line.socket.set_read_timeout(Some(Duration::from_millis(200)));
    nothing.unwrap();
    let quiet = std::io::Read::read(&mut line.socket, &mut [0; 1]);
    let quiet = quiet.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    println!("the line is {}", if quiet { "quiet" } else { "in use" });
}
