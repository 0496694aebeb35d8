//! Who gets a place, and who has to go for it.

use super::*;

fn stranger(network: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([172, 16, network, host], 40_000))
}

fn closed(actions: &[Action], reason: Reason) -> Vec<PeerId> {
    let closes = actions.iter().filter_map(|action| match action {
        Action::Command(peer, Command::Close(why)) if *why == reason => Some(*peer),
        _ => None,
    });
    closes.collect()
}

#[test]
fn one_network_that_comes_too_fast_is_refused_before_anything_is_made() {
    let mut node = node(1);
    node.settings.max_pending = 10_000;
    let mut actions = Vec::new();
    let come = |node: &mut Node, network, actions: &mut Actions| {
        (0..1000).filter(|n| node.accepted(NOW, stranger(network, *n as u8), actions).is_ok()).count()
    };
    assert_eq!(come(&mut node, 1, &mut actions), 256);
    assert_eq!(node.links.len(), 256);
    assert_eq!(node.refused()[&Reason::TooFast], 744);
    assert!(node.accepted(NOW, stranger(2, 1), &mut actions).is_ok(), "others are not touched");
    let local = SocketAddr::from(([127, 0, 0, 1], 40_000));
    assert_eq!((0..1000).filter(|_| node.accepted(NOW, local, &mut actions).is_ok()).count(), 1000);
    node.settings.exempt_loopback = false;
    assert_eq!((0..1000).filter(|_| node.accepted(NOW, local, &mut actions).is_ok()).count(), 256);
}

/// Each from a network of its own, so that no bound for one network helps.
#[test]
fn a_crowd_from_many_networks_is_refused_and_keeps_no_node_out_that_is_known() {
    let mut node = node(1);
    tail(&mut node, 2, Purpose::Overlay);
    node.settings.arrivals = Rate { per_second: 10, burst: 20 };
    let come = |node: &mut Node, now| {
        (0..200).filter(|n| node.accepted(now, stranger(*n, 1), &mut Vec::new()).is_ok()).count()
    };
    assert_eq!(come(&mut node, NOW), 20);
    assert_eq!(node.refused()[&Reason::TooFast], 180);
    assert!(node.accepted(NOW, address(2), &mut Vec::new()).is_ok(), "a node that is up lives there");
    assert!(node.accepted(NOW, address(3), &mut Vec::new()).is_err());
    let later = Now { mono: NOW.mono + Duration::from_secs(1), ..NOW };
    assert_eq!(come(&mut node, later), 10);
}

/// What the head answers to a tail of this number that comes once more.
fn comes_again(head: &mut Node, number: u8, purpose: Purpose) -> Vec<Action> {
    let peer = head.accepted(NOW, address(number), &mut Vec::new()).unwrap();
    let record = record(ControllerId([number; 32]), 1, 1);
    let dialled = SocketAddr::from(([10, 0, 0, 200], 1));
    let mut actions = Vec::new();
    let hello = PeerEvent::Hello { record, clock_ms: NOW.wall_ms, purpose, dialled };
    head.handle(NOW, Input::Peer(peer, hello), &mut actions);
    actions
}

#[test]
fn whoever_has_a_place_needs_no_other_for_its_next_connection() {
    let mut head = node(1);
    (head.settings.accept, head.settings.accept_ring) = (2, 1);
    let first = tail(&mut head, 2, Purpose::Overlay);
    tail(&mut head, 3, Purpose::Overlay);
    tail(&mut head, 4, Purpose::Ring);
    let busy = |action: &Action| matches!(action, Action::Command(_, Command::Answer(HeadMessage::Busy { .. })));
    assert!(comes_again(&mut head, 5, Purpose::Overlay).iter().any(busy), "there are three where two may be");
    let actions = comes_again(&mut head, 2, Purpose::Overlay);
    assert!(!actions.iter().any(busy), "{actions:?}");
    assert_eq!(closed(&actions, Reason::Replaced), [first]);
}

#[test]
fn the_oldest_stranger_of_the_largest_crowd_goes_first() {
    let mut node = node(1);
    node.settings.max_pending_per_prefix = 128;
    let mut actions = Vec::new();
    let honest = node.accepted(NOW, stranger(200, 1), &mut actions).unwrap();
    let crowd: Vec<PeerId> = (0..127).map(|n| node.accepted(NOW, stranger(1, n), &mut actions).unwrap()).collect();
    assert_eq!(actions.len(), 0);
    node.accepted(NOW, stranger(201, 1), &mut actions).unwrap();
    node.accepted(NOW, stranger(1, 200), &mut actions).unwrap();
    assert_eq!(closed(&actions, Reason::TooManyPending), crowd[..2]);
    assert!(!node.links[&honest].dismissed);
    let event = PeerEvent::Closed { reason: Reason::TooManyPending, by_remote: false };
    told(&mut node, NOW, crowd[0], event);
    assert_eq!(node.refused()[&Reason::TooManyPending], 1, "whoever had to go is counted when it has gone");
}

#[test]
fn a_network_with_its_share_of_strangers_pays_with_its_own() {
    let mut node = node(1);
    let mut actions = Vec::new();
    let others: Vec<PeerId> = (0..64).map(|n| node.accepted(NOW, stranger(n, 1), &mut actions).unwrap()).collect();
    let own: Vec<PeerId> = (0..8).map(|n| node.accepted(NOW, stranger(200, n), &mut actions).unwrap()).collect();
    assert_eq!(actions.len(), 0);
    node.accepted(NOW, stranger(200, 100), &mut actions).unwrap();
    assert_eq!(closed(&actions, Reason::TooManyPending), own[..1]);
    assert!(others.iter().all(|peer| !node.links[peer].dismissed));
}

#[test]
fn those_told_to_go_are_bounded_too() {
    let mut node = node(1);
    let mut actions = Vec::new();
    let come = (0..=255).map(|n| node.accepted(NOW, stranger(n, 1), &mut actions));
    assert_eq!(come.filter(Result::is_ok).count(), 256);
    assert_eq!(node.accepted(NOW, stranger(9, 9), &mut actions), Err(Reason::TooManyPending));
    assert_eq!(node.links.len(), 256);
}

/// A tail from this place, known by this number, that asks for an application's kind of edge.
fn known_tail(head: &mut Node, number: u8, from: SocketAddr, now: Now) -> (PeerId, Actions) {
    let mut actions = Vec::new();
    let record = record(ControllerId([number; 32]), 1, 1);
    let peer = head.accepted(now, from, &mut actions).unwrap();
    let dialled = SocketAddr::from(([10, 0, 0, 200], 1));
    let hello = PeerEvent::Hello { record, clock_ms: now.wall_ms, purpose: Purpose::Probe, dialled };
    head.handle(now, Input::Peer(peer, hello), &mut actions);
    (peer, actions)
}

#[test]
fn when_every_place_is_taken_a_newcomer_from_elsewhere_replaces_one_of_the_crowd() {
    let mut head = node(1);
    head.settings.max_incoming = 30;
    let mut crowd = Vec::new();
    for number in 0..30u8 {
        let now = at(1000 + u64::from(number));
        crowd.push(known_tail(&mut head, 100 + number, stranger(1, number), now).0);
    }
    let (_, actions) = known_tail(&mut head, 50, stranger(2, 1), at(5000));
    assert_eq!(closed(&actions, Reason::Evicted), crowd[29..], "the youngest");
    let (late, actions) = known_tail(&mut head, 51, stranger(1, 200), at(5001));
    let refused = |action: &Action| matches!(action, Action::Command(to, Command::Answer(HeadMessage::Goodbye(Reason::TooManyPeers))) if *to == late);
    assert!(actions.iter().any(refused), "one more of the crowd: {actions:?}");
    assert_eq!(closed(&actions, Reason::Evicted), []);
}
