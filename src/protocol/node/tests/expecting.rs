//! Nodes that should be there.

use super::*;
use crate::protocol::expected::{Expected, KeptPlace};

fn expecting(names: &[&str]) -> Settings {
    Settings { expect: names.iter().map(|name| name.parse().unwrap()).collect(), max_nodes: 100, ..settings(1) }
}

fn started(settings: Settings, memory: &Memory) -> Node {
    Node::new(settings, Box::new(Key(1)), memory, 1, NOW)
}

/// As by this node's own verdict: that of others would have to wait for a refutation.
fn down(node: &mut Node, ms: u64, number: u8) {
    let id = ControllerId([number; 32]);
    let hash = node.view().get(&id).map(|entry| entry.hash().short()).expect("known");
    let (network, subject, observer) = (NetworkId([0; 8]), id.short(), ControllerId([99; 32]));
    let body = WitnessBody { network, subject, record: hash, stage: Stage::Down, need: 1, observer };
    let item = VerifiedItem::Witness(Witness::signed(body, &Key(99)));
    node.merge(at(ms), None, item, &mut Vec::new());
    assert_eq!(node.status(&id), Some(Status::Down));
}

fn join(node: &mut Node, peer: PeerId, ms: u64, number: u8) {
    let item = VerifiedItem::Record(record(ControllerId([number; 32]), 1, 1));
    told(node, at(ms), peer, PeerEvent::Push(bringing(vec![item])));
}

/// Addresses dialled at that moment.
fn dialled(node: &mut Node, ms: u64) -> Vec<(PeerId, SocketAddr)> {
    let mut actions = Vec::new();
    node.handle(at(ms), Input::Idle, &mut actions);
    let dials = actions.iter().filter_map(|action| match action {
        Action::Dial(peer, greeting) => Some((*peer, greeting.address)),
        _ => None,
    });
    dials.collect()
}

#[test]
fn whoever_is_expected_and_absent_is_named_with_what_is_known() {
    let mut node = started(expecting(&["somebody", "never", &ControllerId([7; 32]).hex()]), &Memory::default());
    assert_eq!(node.expected_missing().len(), 3);
    linked(&mut node, at(10));
    assert_eq!(node.expected_missing(), ["0707".repeat(16), "never".to_owned()]);
    let told: Vec<_> = node.warnings_of_absence(at(20));
    assert!(told[0].starts_with("expected node 0707070707070707 is not here: never seen"), "{told:?}");
    assert!(told[1].starts_with("expected node never is not here: never seen"), "{told:?}");
    down(&mut node, 20, 2);
    let told = node.warnings_of_absence(at(25));
    assert!(told[2].starts_with("expected node somebody is not here: down since 2027-01-15T08:00:00.020Z"), "{told:?}");
    assert!(told[2].contains("next dial of 10.0.0.2:7100 in 0."), "{told:?}");
    let report = node.network_report(at(25));
    assert_eq!(report.expected_missing.len(), 3);
    assert_eq!(
        report.nodes.iter().filter(|node| node.expected).map(|node| &node.label).collect::<Vec<_>>(),
        ["somebody"]
    );
}

#[test]
fn it_is_dialled_for_ever_also_when_the_view_has_forgotten_it() {
    let place = |name: &str| KeptPlace {
        expected: name.to_owned(),
        node: ControllerId([9; 32]).hex(),
        address: address(9).to_string(),
    };
    let memory = Memory { version: 1, expected: vec![place("db"), place("gone")], ..Memory::default() };
    let mut node = started(expecting(&["db"]), &memory);
    assert_eq!(node.memory().expected, [place("db")], "kept as long as it is expected");
    let mut tries = 0;
    // A week, a look a minute.
    for minute in 1..7 * 1440 {
        for (peer, to) in dialled(&mut node, minute * 60_000) {
            assert_eq!(to, address(9));
            tries += 1;
            let refused = PeerEvent::Closed { reason: Reason::ConnectionRefused, by_remote: false };
            told(&mut node, at(minute * 60_000 + 10), peer, refused);
        }
    }
    assert!(tries > 7 * 1440 / 2, "{tries}");
    let told = node.warnings_of_absence(at(7 * 86_400_000)).join("\n");
    assert!(told.contains("db is not here: not seen since this node's start; next dial of 10.0.0.9:7100 in"), "{told}");
    node.expect_nodes(at(7 * 86_400_000), &[]);
    assert_eq!((node.memory().expected.len(), node.expected_missing().len()), (0, 0));
}

#[test]
fn the_forgotten_are_expected_no_more() {
    let mut node = started(expecting(&["somebody", "never"]), &Memory::default());
    let peer = linked(&mut node, at(10));
    down(&mut node, 20, 2);
    assert_eq!(node.expected_missing(), ["never", "somebody"]);
    node.handle(at(30), Input::Forget(OTHER), &mut Vec::new());
    assert_eq!(node.expected_missing(), ["never"]);
    let name = |text: &str| text.parse::<Expected>().unwrap();
    assert_eq!(node.expect_no_more(&name("never")), Some(None));
    assert_eq!((node.expect_no_more(&name("never")), node.expected_missing().len()), (None, 0));
    told(&mut node, at(40), peer, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(OTHER, 2, 2))])));
    down(&mut node, 50, 2);
    assert_eq!(node.warnings_of_absence(at(60)), [""; 0], "it came back, and was not expected");
}

#[test]
fn many_that_vanish_together_are_told_of_as_a_split() {
    let mut node = started(Settings { max_events: 256, ..expecting(&[]) }, &Memory::default());
    let peer = linked(&mut node, at(10));
    (10..37).for_each(|number| join(&mut node, peer, 20, number));
    assert_eq!(node.view().len(), 29);
    // One an hour is attrition.
    (10..20).for_each(|number| down(&mut node, u64::from(number) * 3_600_000, number));
    assert_eq!(node.warnings_of_absence(at(90_000_000)), [""; 0]);
    (20..30).for_each(|number| down(&mut node, 100_000_000 + u64::from(number) * 1000, number));
    let told = node.warnings_of_absence(at(100_100_000));
    assert_eq!(
        told,
        ["10 of 29 nodes are down since 2027-01-16T11:47:00.000Z: the network may be split; see 'kithd network'"]
    );
    // Of two nodes one that goes is no split.
    let mut pair = started(Settings { max_events: 256, ..expecting(&[]) }, &Memory::default());
    linked(&mut pair, at(10));
    down(&mut pair, 20, 2);
    assert_eq!(pair.warnings_of_absence(at(30)), [""; 0]);
}

#[test]
fn many_absent_nodes_share_a_warning() {
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let node = started(expecting(&names.iter().map(String::as_str).collect::<Vec<_>>()), &Memory::default());
    // One of them is this node itself.
    assert_eq!(node.expected_missing().len(), 39);
    let told = node.warnings_of_absence(at(30));
    assert_eq!(told.len(), 17);
    assert!(told[16].starts_with("23 more expected nodes"), "{told:?}");
}
