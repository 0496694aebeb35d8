//! What one node answers to one input.

mod dialling;
mod expecting;
mod explaining;
mod lives;
mod places;
mod reaching;
mod rotation;
mod screening;
mod spreading;
mod tags;

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::protocol::bucket::Rate;
use crate::protocol::codec::{MAX_FRAME_BEFORE_HELLO, encode_frame};
use crate::protocol::hash::hash_parts;
use crate::protocol::list::List;
use crate::protocol::message::{Announcement, HeadMessage, Part, Roll, RollStep, Want};
use crate::protocol::peer_state::{NewsKind, PeerTimes, Tidings};
use crate::protocol::record::{NetworkId, RecordBody, Signature, Stage, Witness, WitnessBody};
use crate::protocol::report::Status;

const NOW: Now = Now { mono: Time(1_000_000), wall_ms: 1_795_254_185_042 };

struct Key(u8);

impl Signer for Key {
    fn id(&self) -> ControllerId {
        ControllerId([self.0; 32])
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(hash_parts(b"test", &[&[self.0], bytes]).0, [0; 32])
    }
}

fn settings(number: u8) -> Settings {
    let ms = Duration::from_millis;
    Settings {
        label: Label::from_lossy(&format!("n{number}")),
        network: NetworkId([0; 8]),
        advertise: SocketAddr::from(([10, 0, 0, number], 7100)),
        tags: BTreeMap::new(),
        connect: Vec::new(),
        expect: Vec::new(),
        allow: Vec::new(),
        peer: PeerTimes { interval: ms(1000), timeout: ms(500), dial: ms(2000), handshake: ms(5000) },
        idle_period: ms(1000),
        out_degree: 8,
        accept: 16,
        accept_ring: 4,
        flush_first: ms(5),
        flush_interval: ms(100),
        publish_stability: ms(250),
        publish_interval: ms(1000),
        refute_window: ms(2000),
        max_outgoing: 64,
        max_incoming: 1024,
        arrivals: Rate { per_second: 100_000, burst: 100_000 },
        admission: Rate { per_second: 32, burst: 256 },
        exempt_loopback: true,
        max_pending: 128,
        max_pending_per_prefix: 8,
        max_nodes: 64,
        max_addresses: 64,
        max_addresses_per_source: 64,
        max_bans: 4,
        max_events: 64,
    }
}

fn node(number: u8) -> Node {
    Node::new(settings(number), Box::new(Key(number)), &Memory::default(), u64::from(number), NOW)
}

/// A tail of this number that `head` has welcomed.
fn tail(head: &mut Node, number: u8, purpose: Purpose) -> PeerId {
    let stranger = node(number);
    let record = Record::signed(RecordBody { reach: Reach::Proven, ..stranger.record.body.clone() }, &Key(number));
    let peer = head.accepted(NOW, stranger.settings.advertise, &mut Vec::new()).unwrap();
    let dialled = SocketAddr::from(([10, 0, 0, 200], 1));
    let hello = PeerEvent::Hello { record, clock_ms: NOW.wall_ms, purpose, dialled };
    let mut actions = Vec::new();
    head.handle(NOW, Input::Peer(peer, hello), &mut actions);
    let welcome = |action: &Action| matches!(action, Action::Command(_, Command::Answer(HeadMessage::Welcome { .. })));
    assert!(actions.iter().any(welcome), "{actions:?}");
    peer
}

const ME: ControllerId = ControllerId([1; 32]);
const OTHER: ControllerId = ControllerId([2; 32]);

fn at(ms: u64) -> Now {
    Now { mono: Time(ms * 1000), wall_ms: 1_800_000_000_000 + ms }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 7100))
}

fn record(id: ControllerId, version: u64, incarnation: u64) -> Verified<Record> {
    let body = RecordBody {
        network: NetworkId([0; 8]),
        id,
        version,
        issued: 500_000,
        incarnation,
        state: RecordState::Up,
        reach: Reach::Proven,
        address: address(id.0[0]),
        label: Label::from_lossy("somebody"),
        tags: List::new(),
        edges: List::new(),
        round_trips: List::new(),
    };
    Record::signed(body, &Key(id.0[0]))
}

/// An edge from `OTHER` to the node.
fn linked(node: &mut Node, now: Now) -> PeerId {
    let peer = node.accepted(now, address(2), &mut Vec::new()).expect("room");
    let hello = PeerEvent::Hello {
        record: record(OTHER, 1, 1),
        clock_ms: now.wall_ms,
        purpose: Purpose::Overlay,
        dialled: address(1),
    };
    node.handle(now, Input::Peer(peer, hello), &mut Vec::new());
    assert!(node.link(peer).is_some_and(Link::is_edge));
    peer
}

/// These items, and nothing else.
fn bringing(items: Vec<VerifiedItem>) -> Tidings<VerifiedItem> {
    Tidings { items, announcements: Vec::new(), want: Vec::new(), roll: None }
}

fn told(node: &mut Node, now: Now, peer: PeerId, event: Event) -> Actions {
    let mut actions = Vec::new();
    node.handle(now, Input::Peer(peer, event), &mut actions);
    actions
}

#[test]
fn a_look_cannot_become_an_edge_nor_an_edge_a_look() {
    let mut head = node(1);
    let edge = tail(&mut head, 2, Purpose::Overlay);
    let look = tail(&mut head, 3, Purpose::Probe);
    let closes = |head: &mut Node, peer, purpose| {
        let mut actions = Vec::new();
        head.handle(NOW, Input::Peer(peer, PeerEvent::Repurpose(purpose)), &mut actions);
        let close = |action: &Action| matches!(action, Action::Command(closed, Command::Close(Reason::Unexpected)) if *closed == peer);
        actions.iter().any(close)
    };
    assert!(!closes(&mut head, edge, Purpose::Ring));
    assert_eq!(head.link(edge).unwrap().purpose, Purpose::Ring);
    assert!(closes(&mut head, look, Purpose::Overlay), "it would be an edge that no bound has seen");
    assert!(closes(&mut head, edge, Purpose::Probe), "it would keep its thread and leave its place");
    assert_eq!(head.link(edge).unwrap().purpose, Purpose::Ring);
}

#[test]
fn ones_own_old_record_is_jumped_over_however_many_bring_it() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let old = VerifiedItem::Record(record(ME, 1_900_000_000_000, 77));
    for _ in 0..3 {
        let news = PeerEvent::News(bringing(vec![old.clone()]), NewsKind::Acknowledged);
        told(&mut node, at(20), peer, news);
    }
    node.handle(at(21), Input::Discovery, &mut Vec::new());
    let version = node.view().get(&ME).map(|entry| entry.record().body.version);
    assert!(version > Some(1_900_000_000_000));
    assert_eq!(node.warnings(), [""; 0]);
}

#[test]
fn a_second_process_with_ones_identity_is_reported() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    for round in 0..2 {
        let theirs = record(ME, 1_900_000_000_000 + 10 * round, 77);
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![VerifiedItem::Record(theirs)])));
        node.handle(at(21), Input::Discovery, &mut Vec::new());
    }
    assert_eq!(node.warnings().len(), 1, "{:?}", node.warnings());
}

#[test]
fn a_wedged_connection_of_a_living_node_accuses_nobody() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    told(&mut node, at(2000), peer, PeerEvent::Silent);
    let mut actions = Vec::new();
    node.handle(at(2001), Input::Idle, &mut actions);
    let probe = actions.iter().find_map(|action| match action {
        Action::Dial(peer, greeting) if greeting.purpose == Purpose::Probe => Some(*peer),
        _ => None,
    });
    let probe = probe.expect("a probe");
    let welcome = PeerEvent::Welcome { record: record(OTHER, 1, 1), clock_ms: at(2100).wall_ms };
    let actions = told(&mut node, at(2100), probe, welcome);
    assert!(actions.iter().any(|action| matches!(action, Action::Command(to, Command::Spare) if *to == peer)));
    told(&mut node, at(2100), probe, PeerEvent::Closed { reason: Reason::ProbeOver, by_remote: false });
    told(&mut node, at(4000), peer, PeerEvent::Closed { reason: Reason::HeartbeatTimeout, by_remote: false });
    node.handle(at(4000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&OTHER), Some(Status::Up));
    node.handle(at(5000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&OTHER), Some(Status::Suspect), "and if it is silent again, it is accused");
}

/// Without a descriptor or a thread there is no probe: a node that is short of them must not call the living dead for it.
#[test]
fn a_node_without_means_to_look_for_another_does_not_accuse_it() {
    for want in [Reason::Overloaded, Reason::Internal] {
        let mut node = node(1);
        let peer = linked(&mut node, at(10));
        told(&mut node, at(2000), peer, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: false });
        let mut actions = Vec::new();
        node.handle(at(2001), Input::Idle, &mut actions);
        let probe = actions.iter().find_map(|action| match action {
            Action::Dial(peer, greeting) if greeting.purpose == Purpose::Probe => Some(*peer),
            _ => None,
        });
        let closed = PeerEvent::Closed { reason: want, by_remote: false };
        told(&mut node, at(2002), probe.expect("a probe"), closed);
        for late in [3000, 5000, 9000] {
            node.handle(at(late), Input::Discovery, &mut Vec::new());
            assert_eq!(node.status(&OTHER), Some(Status::Up), "{want}");
        }
        assert_eq!(node.refused().get(&want), Some(&1));
    }
}

/// Whom nobody is known to have reached, those miss whom it has named; and if it has named nobody yet, whoever misses it.
#[test]
fn a_node_that_ends_before_anybody_proved_to_have_reached_it_is_missed_all_the_same() {
    let suspects = |named: &[ControllerId]| {
        let mut node = node(1);
        let peer = linked(&mut node, at(10));
        let body = RecordBody {
            reach: Reach::Unproven,
            edges: named.iter().map(|head| head.short()).collect(),
            round_trips: named.iter().map(|_| 1).collect(),
            ..record(OTHER, 2, 1).body.clone()
        };
        let item = VerifiedItem::Record(Record::signed(body, &Key(2)));
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![item])));
        let reason = Reason::HeartbeatTimeout;
        told(&mut node, at(30), peer, PeerEvent::Closed { reason, by_remote: false });
        node.handle(at(1040), Input::Discovery, &mut Vec::new());
        node.status(&OTHER) == Some(Status::Suspect)
    };
    assert!(suspects(&[ME]) && suspects(&[]));
    assert!(!suspects(&[ControllerId([3; 32])]), "that one sees better");
}

/// It has no probe to show itself by; it dials when it has noticed the silence itself.
#[test]
fn a_silent_node_that_cannot_be_dialled_is_given_longer() {
    let suspected_after = |reach: Reach| {
        let mut node = node(1);
        let peer = linked(&mut node, at(10));
        let me = ControllerId([1; 32]).short();
        let (edges, round_trips) = ([me].into_iter().collect(), [1].into_iter().collect());
        let body = RecordBody { reach, edges, round_trips, ..record(OTHER, 2, 1).body.clone() };
        let known = vec![VerifiedItem::Record(Record::signed(body, &Key(2)))];
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(known)));
        told(&mut node, at(1000), peer, PeerEvent::Silent);
        told(&mut node, at(1700), peer, PeerEvent::Closed { reason: Reason::HeartbeatTimeout, by_remote: false });
        loop {
            let due = node.discovery_due().expect("it is missed");
            let now = Now { mono: due, wall_ms: at(due.0 / 1000).wall_ms };
            node.handle(now, Input::Discovery, &mut Vec::new());
            if node.status(&OTHER) == Some(Status::Suspect) {
                break due.since(at(1000).mono).as_millis();
            }
        }
    };
    assert_eq!(suspected_after(Reach::Proven), 700);
    assert_eq!(suspected_after(Reach::Never), 700 + 2250, "2.5 times the 1.5 s of silence before");
}

/// Nobody dials it, and the only ones who could miss it are gone: others do, and while it lives it says so in time.
#[test]
fn a_node_that_cannot_be_dialled_is_missed_when_its_heads_are_gone() {
    let head = ControllerId([3; 32]);
    let hidden = |version: u64, heads: &[ControllerId]| {
        let body = RecordBody {
            reach: Reach::Never,
            edges: heads.iter().map(|head| head.short()).collect(),
            round_trips: heads.iter().map(|_| 1).collect(),
            ..record(ControllerId([5; 32]), version, 1).body.clone()
        };
        VerifiedItem::Record(Record::signed(body, &Key(5)))
    };
    let left = || {
        let body = RecordBody { state: RecordState::Left, ..record(head, 2, 1).body.clone() };
        VerifiedItem::Record(Record::signed(body, &Key(3)))
    };
    let after = |lives: bool| {
        let mut node = node(1);
        let peer = linked(&mut node, at(10));
        let known = vec![VerifiedItem::Record(record(head, 1, 1)), hidden(1, &[head])];
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(known)));
        told(&mut node, at(30), peer, PeerEvent::Push(bringing(vec![left()])));
        if lives {
            told(&mut node, at(40), peer, PeerEvent::Push(bringing(vec![hidden(2, &[OTHER])])));
        }
        let mut seen = Vec::new();
        while let Some(due) = node.discovery_due().filter(|due| *due <= at(12_000).mono) {
            let now = Now { mono: due, wall_ms: at(due.0 / 1000).wall_ms };
            node.handle(now, Input::Discovery, &mut Vec::new());
            seen.extend(node.status(&ControllerId([5; 32])).filter(|status| seen.last() != Some(status)));
        }
        seen
    };
    assert_eq!(after(false), [Status::Up, Status::Suspect, Status::Down]);
    assert_eq!(after(true), [Status::Up]);
}

/// One false accusation more than an honest node has need of, and nobody is asked any more; a verdict that others'
/// accusation came before counts all the same.
#[test]
fn who_accuses_falsely_again_and_again_is_not_heard() {
    let liar = ControllerId([7; 32]);
    let witness = |node: &Node, by: u8, stage| {
        let hash = node.view().get(&OTHER).map(|entry| entry.hash()).expect("known");
        let (network, subject, record) = (NetworkId([0; 8]), OTHER.short(), hash.short());
        let body = WitnessBody { network, subject, record, stage, need: 1, observer: ControllerId([by; 32]) };
        VerifiedItem::Witness(Witness::signed(body, &Key(by)))
    };
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(liar, 1, 1))])));
    let mut heard = 0;
    for round in 1..=50 {
        let stage = if round % 2 == 0 { Stage::Suspect } else { Stage::Down };
        let lie = witness(&node, 7, stage);
        told(&mut node, at(round * 100), peer, PeerEvent::Push(bringing(vec![lie])));
        heard += u32::from(node.status(&OTHER) == Some(Status::Suspect));
        let refutation = VerifiedItem::Record(record(OTHER, round + 1, 1));
        told(&mut node, at(round * 100 + 50), peer, PeerEvent::Push(bringing(vec![refutation])));
    }
    // Twice for itself, twice for him who brings it, and one word in half a minute.
    assert_eq!((heard, node.dropped().get(&Reason::TooFast)), (5, Some(&45)));
    assert!(node.warning_of_doubt(at(6000)).is_some_and(|text| text.contains("somebody (07070707)")));

    let true_word = witness(&node, 8, Stage::Suspect);
    told(&mut node, at(6000), peer, PeerEvent::Push(bringing(vec![true_word])));
    assert_eq!(node.status(&OTHER), Some(Status::Suspect));
    let verdict = witness(&node, 7, Stage::Down);
    told(&mut node, at(7600), peer, PeerEvent::Push(bringing(vec![verdict])));
    assert_eq!(node.status(&OTHER), Some(Status::Down), "as one of the witnesses, it is one");
}

#[test]
fn a_dial_that_is_accepted_and_not_answered_is_silence() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    told(&mut node, at(20), peer, PeerEvent::Closed { reason: Reason::Remote, by_remote: true });
    let mut actions = Vec::new();
    // A ring's successor is dialled once it has been the same for a while.
    node.handle(at(100), Input::Idle, &mut actions);
    node.handle(at(600), Input::Idle, &mut actions);
    let Some(Action::Dial(dial, _)) = actions.first() else { panic!("{actions:?}") };
    told(&mut node, at(700), *dial, PeerEvent::Connected);
    told(&mut node, at(2700), *dial, PeerEvent::Closed { reason: Reason::HandshakeTimeout, by_remote: false });
    assert!(node.detector.misses(&OTHER));
}

#[test]
fn whoever_is_back_up_is_not_kept_waiting_by_old_failures() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let held = node.view().get(&OTHER).map(|entry| entry.hash().short()).expect("known");
    let body = WitnessBody {
        network: NetworkId([0; 8]),
        subject: OTHER.short(),
        record: held,
        stage: Stage::Down,
        need: 1,
        observer: ControllerId([3; 32]),
    };
    let witness = Witness::signed(body, &Key(3));
    told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![VerifiedItem::Witness(witness)])));
    // Nobody called first, so it counts a while later.
    node.handle(at(1520), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&OTHER), Some(Status::Down));
    let target = HostPort::Ip(address(2));
    node.book.failed(&target, Duration::ZERO, false, at(1530).mono, &mut node.rng);
    assert!(node.book.obstacle(&target, at(1531).mono).is_some());
    told(&mut node, at(1540), peer, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(OTHER, 2, 1))])));
    assert_eq!(node.book.obstacle(&target, at(1541).mono), None);
}

#[test]
fn a_busy_answer_fits_the_frame_of_a_stranger() {
    let mut body = record(OTHER, 1, 1).body.clone();
    body.label = Label::from_lossy(&"l".repeat(63));
    body.tags = [("k".repeat(100), "v".repeat(156))].into_iter().collect();
    body.edges = (0..16).map(|edge| ControllerId([edge; 32]).short()).collect();
    body.round_trips = [9; 16].into_iter().collect();
    let record = Record::signed(body, &Key(2)).shared();
    let hints = vec!["[2001:db8::1]:7100".parse().expect("an address"); 16];
    let hints = super::admission::fitting(&Arc::clone(&record), hints);
    assert!(!hints.is_empty());
    let frame = encode_frame(&HeadMessage::Busy { record, hints });
    assert!(frame.len() <= MAX_FRAME_BEFORE_HELLO, "{}", frame.len());
}

/// A remote that names another node each time it comes, and says that it cannot be reached.
fn newcomer(number: u64) -> Verified<Record> {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let unreachable = RecordBody { reach: Reach::Unproven, ..record(OTHER, 1, 1).body.clone() };
    Record::signed(RecordBody { id: ControllerId(id), ..unreachable }, &Key(7))
}

#[test]
fn what_passing_strangers_leave_behind_is_bounded() {
    let mut node = node(1);
    for number in 0..200 {
        let now = at(10 + number);
        let peer = node.accepted(now, address(9), &mut Vec::new()).expect("room");
        let hello = PeerEvent::Hello {
            record: newcomer(number),
            clock_ms: now.wall_ms,
            purpose: Purpose::Overlay,
            dialled: address(1),
        };
        told(&mut node, now, peer, hello);
        let digest = node.digest().half();
        let statement = crate::protocol::message::Statement { digest, ages: List::new() };
        told(&mut node, now, peer, PeerEvent::Statement(statement, Some(now.mono)));
        let others = || (0..64).map(|number| newcomer(number).body.id.short());
        let want = others().map(|node| Want(node, Part::All)).collect();
        let offer = |node| Announcement { node, version: number as u32, verdict: [1; 4], suspected: true };
        let announcements = others().map(offer).collect();
        let roll = Some(Roll { digest, round: 1, step: RollStep::Call });
        told(&mut node, now, peer, PeerEvent::Push(Tidings { items: Vec::new(), announcements, want, roll }));
        told(&mut node, now, peer, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: true });
        for (what, held, bound) in node.sizes() {
            assert!(held <= bound, "{what}: {held} are held, {bound} at most may be");
        }
    }
    assert_eq!(node.view().len(), node.settings.max_nodes, "the view was full when the last came");
    let mut actions = Vec::new();
    node.handle(at(1000), Input::Idle, &mut actions);
    let looks = |action: &&Action| matches!(action, Action::Dial(_, greeting) if greeting.purpose == Purpose::Probe);
    assert!(actions.iter().filter(looks).count() <= MAX_DIAL_BACKS + node.settings.max_nodes);
}

#[test]
fn versions_end_without_a_panic() {
    let memory = Memory { version: u64::MAX, ..Memory::default() };
    let mut node = Node::new(settings(1), Box::new(Key(1)), &memory, 1, NOW);
    let peer = linked(&mut node, at(10));
    let last = VerifiedItem::Record(record(ME, u64::MAX, 77));
    told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![last])));
    node.handle(at(21), Input::Discovery, &mut Vec::new());
    node.handle(at(22), Input::Leave, &mut Vec::new());
}

#[path = "access_tests.rs"]
mod access;

#[test]
fn only_so_many_addresses_are_kept_over_a_restart() {
    let settings = Settings { max_nodes: MAX_KEPT + 9, ..settings(1) };
    let mut node = Node::new(settings, Box::new(Key(1)), &Memory::default(), 1, NOW);
    for number in 0..MAX_KEPT as u32 + 8 {
        let [a, b, c, d] = number.to_be_bytes();
        let mut id = [9; 32];
        id[..4].copy_from_slice(&[a, b, c, d]);
        let somebody = record(ControllerId(id), 1, 1);
        let address = SocketAddr::from(([10, b, c, d], 7100));
        let body = RecordBody { address, ..somebody.body.clone() };
        node.view.merge(VerifiedItem::Record(Record::signed(body, &Key(9))));
    }
    assert_eq!(node.memory().addresses.len(), MAX_KEPT);
}
