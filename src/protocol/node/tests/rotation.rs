//! Network keys that change, as one node sees it.

use super::*;
use crate::protocol::key_mark::KeyMark;
use crate::protocol::message::TailMessage;

const A: KeyMark = KeyMark([1; 8]);
const B: KeyMark = KeyMark([2; 8]);

/// An edge from the node to `OTHER`, made with this key.
fn dialled(node: &mut Node, now: Now, key: KeyMark) -> PeerId {
    let mut actions = Vec::new();
    node.handle(now, Input::Connect(HostPort::Ip(address(2)), 1), &mut actions);
    let Some(Action::Dial(peer, _)) = actions.first() else { panic!("{actions:?}") };
    welcomed(node, now, *peer, key);
    *peer
}

fn welcomed(node: &mut Node, now: Now, peer: PeerId, key: KeyMark) {
    told(node, now, peer, PeerEvent::Connected);
    told(node, now, peer, PeerEvent::Secured(key));
    told(node, now, peer, PeerEvent::Welcome { record: record(OTHER, 1, 1), clock_ms: now.wall_ms });
    assert!(node.link(peer).is_some_and(Link::is_edge));
}

fn keys(node: &mut Node, now: Now, keys: &[KeyMark]) {
    node.handle(now, Input::Keys(keys.to_vec()), &mut Vec::new());
}

/// What the node does from then on by itself: the first second dial or closing, and when.
fn first<T>(node: &mut Node, from: u64, until: u64, wanted: impl Fn(&Action) -> Option<T>) -> Option<(u64, T)> {
    (from..until).step_by(100).find_map(|ms| {
        let mut actions = Vec::new();
        if node.idle_due().is_some_and(|due| due <= at(ms).mono) {
            node.handle(at(ms), Input::Idle, &mut actions);
        }
        Some((ms, actions.iter().find_map(&wanted)?))
    })
}

fn second_dial(action: &Action) -> Option<PeerId> {
    match action {
        Action::Dial(peer, greeting) if greeting.first_key => Some(*peer),
        _ => None,
    }
}

fn closing(action: &Action) -> Option<(PeerId, Reason)> {
    match action {
        Action::Command(peer, Command::Close(reason)) => Some((*peer, *reason)),
        _ => None,
    }
}

#[test]
fn an_edge_with_another_key_than_the_first_is_made_anew_and_is_never_missing() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let old = dialled(&mut node, at(10), A);
    keys(&mut node, at(20), &[A, B]);
    assert_eq!(first(&mut node, 100, 30_000, second_dial), None, "the first key is still that one");
    keys(&mut node, at(30_000), &[B, A]);
    let (ms, second) = first(&mut node, 30_000, 60_000, second_dial).expect("a second dial");
    assert!(ms <= 41_000, "after {} ms", ms - 30_000);
    assert!(node.links[&old].is_edge(), "the old one stands");
    assert_eq!(node.book.obstacle(&HostPort::Ip(address(2)), at(ms).mono), None);
    told(&mut node, at(ms + 10), second, PeerEvent::Connected);
    told(&mut node, at(ms + 20), second, PeerEvent::Secured(B));
    // The head's goodbye on the one is heard before its welcome on the other.
    told(&mut node, at(ms + 30), old, PeerEvent::Closed { reason: Reason::Replaced, by_remote: true });
    node.handle(at(ms + 5000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.record.body.edges.iter().count(), 1, "the edge is published as ever");
    welcomed(&mut node, at(ms + 5000), second, B);
    assert_eq!(first(&mut node, ms + 5000, ms + 60_000, second_dial), None);
    assert_eq!(node.links[&second].key, Some(B));
    assert_eq!(node.record.body.edges.iter().count(), 1);
}

#[test]
fn an_edge_is_missing_once_neither_connection_is_left() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let old = dialled(&mut node, at(10), A);
    node.handle(at(3000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.record.body.edges.iter().count(), 1);
    keys(&mut node, at(3000), &[B, A]);
    let (ms, second) = first(&mut node, 3000, 30_000, second_dial).expect("a second dial");
    told(&mut node, at(ms), old, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: true });
    told(&mut node, at(ms), second, PeerEvent::Closed { reason: Reason::ConnectionRefused, by_remote: false });
    node.handle(at(ms + 5000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.record.body.edges.iter().count(), 0);
}

#[test]
fn a_head_without_the_new_key_is_asked_again_within_ten_seconds_each_time() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let old = dialled(&mut node, at(10), A);
    keys(&mut node, at(20), &[B, A]);
    let mut last = 20;
    for turn in 0..20 {
        let (ms, second) = first(&mut node, last, last + 11_000, second_dial).expect("asked again");
        told(&mut node, at(ms), second, PeerEvent::Connected);
        told(&mut node, at(ms), second, PeerEvent::Closed { reason: Reason::NoAnswer, by_remote: true });
        assert!(node.links[&old].is_edge(), "the old one stands");
        assert_eq!(node.book.obstacle(&HostPort::Ip(address(2)), at(ms).mono), None, "and its address is no worse");
        assert!(turn < 4 || ms - last >= 5000, "turn {turn} after {} ms", ms - last);
        last = ms;
    }
}

#[test]
fn a_key_that_is_gone_is_outlived_by_forty_five_seconds_at_both_ends() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let incoming = linked(&mut node, at(10));
    told(&mut node, at(10), incoming, PeerEvent::Secured(A));
    keys(&mut node, at(1000), &[B, A]);
    assert_eq!(first(&mut node, 1000, 90_000, closing), None, "it is held");
    keys(&mut node, at(100_000), &[B]);
    // One that comes of a handshake which began before.
    let late = node.accepted(at(110_000), address(3), &mut Vec::new()).expect("room");
    told(&mut node, at(110_000), late, PeerEvent::Secured(A));
    // Another change in between gives no key more time.
    keys(&mut node, at(130_000), &[B, KeyMark([3; 8])]);
    assert_eq!(first(&mut node, 100_000, 160_000, closing), Some((145_000, (incoming, Reason::OldKey))));
    assert_eq!(first(&mut node, 145_100, 160_000, closing), Some((155_000, (late, Reason::OldKey))));
    assert_eq!(first(&mut node, 155_100, 200_000, closing), None, "said once");
}

#[test]
fn a_look_with_a_key_that_is_gone_ends_though_nothing_else_wakes_the_node() {
    let mut node = node(1);
    keys(&mut node, at(1), &[B]);
    node.handle(at(100), Input::Idle, &mut Vec::new());
    assert_eq!(node.idle_due(), None);
    let peer = node.accepted(at(1000), address(2), &mut Vec::new()).expect("room");
    told(&mut node, at(1000), peer, PeerEvent::Secured(A));
    assert_eq!(first(&mut node, 1000, 60_000, closing), Some((46_000, (peer, Reason::OldKey))));
}

#[test]
fn a_key_that_is_back_ends_nothing() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let incoming = linked(&mut node, at(10));
    told(&mut node, at(10), incoming, PeerEvent::Secured(A));
    keys(&mut node, at(1000), &[B]);
    keys(&mut node, at(20_000), &[B, A]);
    assert_eq!(first(&mut node, 20_000, 90_000, closing), None);
}

#[test]
fn the_second_dials_of_a_node_are_spread_and_few_at_once() {
    let mut node = Node::new(
        Settings { max_nodes: 100, max_outgoing: 40, out_degree: 40, ..settings(1) },
        Box::new(Key(1)),
        &Memory::default(),
        1,
        at(0),
    );
    keys(&mut node, at(1), &[A]);
    for number in 10..50 {
        let mut actions = Vec::new();
        node.handle(at(5), Input::Connect(HostPort::Ip(address(number)), number.into()), &mut actions);
        let Some(Action::Dial(peer, _)) = actions.first() else { panic!("{actions:?}") };
        told(&mut node, at(6), *peer, PeerEvent::Connected);
        told(&mut node, at(6), *peer, PeerEvent::Secured(A));
        let record = record(ControllerId([number; 32]), 1, 1);
        told(&mut node, at(7), *peer, PeerEvent::Welcome { record, clock_ms: at(7).wall_ms });
    }
    keys(&mut node, at(1000), &[B, A]);
    let (mut under_way, mut done) = (VecDeque::new(), 0);
    for ms in (1000..30_000).step_by(100) {
        let mut actions = Vec::new();
        node.handle(at(ms), Input::Idle, &mut actions);
        assert_eq!(actions.iter().find_map(closing), None, "two connections, one edge: there is no surplus");
        let dials: Vec<_> = actions.iter().filter_map(second_dial).collect();
        assert!(dials.len() <= 8);
        under_way.extend(dials.into_iter().map(|peer| (ms, peer)));
        assert!(under_way.len() <= 8, "{} at once", under_way.len());
        // Each takes a second.
        while under_way.front().is_some_and(|(since, _)| since + 1000 <= ms) {
            let (_, peer) = under_way.pop_front().expect("just looked at");
            let id = node.links[&peer].node.expect("a dial to somebody");
            let old = node.links[&peer].in_place_of.expect("a second dial");
            told(&mut node, at(ms), peer, PeerEvent::Connected);
            told(&mut node, at(ms), peer, PeerEvent::Secured(B));
            let actions = told(
                &mut node,
                at(ms),
                peer,
                PeerEvent::Welcome { record: record(id, 1, 1), clock_ms: at(ms).wall_ms },
            );
            assert!(
                actions
                    .iter()
                    .any(|action| matches!(action, Action::Command(_, Command::Issue(TailMessage::Sync { .. }))))
            );
            told(&mut node, at(ms), old, PeerEvent::Closed { reason: Reason::Replaced, by_remote: true });
            done += 1;
        }
    }
    assert_eq!(done, 40);
    assert!(node.links.values().all(|link| link.key == Some(B)));
}

#[test]
fn a_new_key_is_tried_at_once_where_the_old_one_had_no_answer() {
    let mut node = node(1);
    keys(&mut node, at(1), &[A]);
    let target = HostPort::Ip(address(9));
    for _ in 0..20 {
        node.book.unanswered(&target, at(10).mono, &mut node.rng);
    }
    let other = HostPort::Ip(address(8));
    node.book.failed(&other, Duration::ZERO, false, at(10).mono, &mut node.rng);
    assert!(node.book.obstacle(&target, at(100_000).mono).is_some());
    keys(&mut node, at(20), &[B, A]);
    assert_eq!(node.book.obstacle(&target, at(20).mono), None);
    assert!(node.book.obstacle(&other, at(20).mono).is_some(), "which has nothing to do with keys");
}
