//! Strangers who break the protocol: each is closed with the reason for it, on both sides, and counted.
//!
//! "On both sides" is the farewell that the stranger hears and the row of the node's own `peers --all`. Breaches that have
//! a number are in `tests/hostile`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use kithd::protocol::codec::{encode_frame, frame};
use kithd::protocol::hash::Hash;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, News, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, NetworkId, Record, Signature, Signer, Stage, Witness, WitnessBody};

use crate::daemon::{Daemon, Network};
use crate::evil_peer::Bytes::Sealed;
use crate::evil_peer::{heads_commit, stray_answer, tails_commit};
use crate::patience::{SOON, until};
use crate::report::refused;
use crate::stranger::{Line, Stranger, Trap, heartbeat, wall_ms};

fn push(item: Item) -> TailMessage {
    TailMessage::Push(News { items: [item].into_iter().collect(), ..News::default() })
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

/// What neighbours may not send.
#[test]
fn a_tail_that_breaks_the_protocol_is_closed_with_the_reason_on_both_sides() {
    let network = Network::new();
    let node = network.start("node");
    let other = Stranger::new(&Network::new(), "foreign");
    let liar = Stranger::new(&network, "liar");
    let watches: Vec<u8> = (0..40).flat_map(|_| encode_frame(&TailMessage::Watch)).collect();
    let breaches = vec![
        ("an answer", Sealed(encode_frame(&stray_answer())), Reason::WrongDirection),
        ("an answer of nonsense", Sealed(frame(&[2, 99, 99, 99])), Reason::WrongDirection),
        ("more Watches than are borne", Sealed(watches), Reason::Unexpected),
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
    ];
    tails_commit(&network, &node, breaches);
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
    let twice = changed(&|one| {
        one.body.edges = [mallory.body.id.short(); 2].into_iter().collect();
        one.body.round_trips = [1; 2].into_iter().collect();
    });
    let unmeasured = changed(&|one| one.body.edges = std::iter::once(mallory.body.id.short()).collect());
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
        ("an edge without its round trip", &unmeasured, unmeasured.record(), wall_ms(), Reason::Malformed),
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

/// What heads may not send: requests, and answers to what nobody asked.
#[test]
fn a_head_that_breaks_the_protocol_is_closed_with_the_reason_and_left_alone() {
    let network = Network::new();
    let liar = Stranger::new(&network, "liar");
    let repeated = |message: HeadMessage, times: usize| encode_frame(&message).repeat(times);
    let differences = || HeadMessage::Differences { last: u8::MAX, buckets: List::new(), entries: List::new() };
    let news =
        HeadMessage::News(News { items: [Item::Record(forged(&liar))].into_iter().collect(), ..News::default() });
    let breaches = vec![
        ("a request", Sealed(encode_frame(&heartbeat(1))), Reason::WrongDirection),
        ("a request of nonsense", Sealed(frame(&[1, 99, 99])), Reason::WrongDirection),
        ("a heartbeat nobody asked for", Sealed(encode_frame(&stray_answer())), Reason::Unexpected),
        ("a second Welcome", Sealed(encode_frame(&liar.welcome())), Reason::Unexpected),
        ("an Ack nobody asked for", Sealed(repeated(HeadMessage::Ack(News::default()), 20)), Reason::Unexpected),
        ("more News than was asked for", Sealed(repeated(HeadMessage::News(News::default()), 400)), Reason::Unexpected),
        ("more Differences than were asked for", Sealed(repeated(differences(), 20)), Reason::Unexpected),
        ("a forged record", Sealed(encode_frame(&news)), Reason::BadSignature),
    ];
    heads_commit(&network, breaches);
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
    let accusation = |number: u8| {
        let body = WitnessBody {
            network: ours,
            subject: kithd::protocol::identity::ControllerId([number; 32]).short(),
            record: Hash([number; 32]).short(),
            stage: Stage::Down,
            need: 1,
            observer: stranger.body.id,
        };
        Item::Witness(Witness::signed(body, &stranger).shared())
    };
    line.tell(&TailMessage::Push(News { items: (0..50).map(accusation).collect(), ..News::default() }));
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
