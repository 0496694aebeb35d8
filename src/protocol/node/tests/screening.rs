//! News whose signature holds and that is refused all the same.

use super::*;
use crate::protocol::conduct::BREACH;

const HOUR_MS: u64 = 3_600_000;

/// A record of `OTHER` as of that hour.
fn issued(version: u64, issued: u32) -> VerifiedItem {
    let body = RecordBody { issued, ..record(ControllerId([3; 32]), version, 1).body.clone() };
    VerifiedItem::Record(Record::signed(body, &Key(3)))
}

fn push(node: &mut Node, now: Now, peer: PeerId, item: VerifiedItem) -> Actions {
    told(node, now, peer, PeerEvent::Push(bringing(vec![item])))
}

fn dropped(node: &Node, reason: Reason) -> u64 {
    node.dropped().get(&reason).copied().unwrap_or(0)
}

#[test]
fn a_record_of_more_than_49_hours_ago_is_not_taken_in() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let hours = at(20).wall_hours();
    push(&mut node, at(20), peer, issued(1, hours - 50));
    assert_eq!((dropped(&node, Reason::Expired), node.view().iter().count()), (1, 2));
    push(&mut node, at(20), peer, issued(1, hours - 49));
    assert_eq!((dropped(&node, Reason::Expired), node.view().iter().count()), (1, 3));
}

/// Nobody would ever drop it, and with it whoever made it up could fill the view for good.
#[test]
fn a_record_of_the_far_future_is_not_taken_in() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let hours = at(20).wall_hours();
    for ahead in [hours + 50, u32::MAX] {
        push(&mut node, at(20), peer, issued(1, ahead));
    }
    assert_eq!((dropped(&node, Reason::Expired), node.view().iter().count()), (2, 2));
    push(&mut node, at(20), peer, issued(1, hours + 49));
    assert_eq!((dropped(&node, Reason::Expired), node.view().iter().count()), (2, 3));
}

#[test]
fn an_old_record_of_a_node_changes_nothing_and_is_counted() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    push(&mut node, at(20), peer, VerifiedItem::Record(record(OTHER, 5, 1)));
    let digest = node.digest();
    push(&mut node, at(30), peer, VerifiedItem::Record(record(OTHER, 4, 1)));
    assert_eq!((node.digest(), dropped(&node, Reason::Stale)), (digest, 1));
    push(&mut node, at(30), peer, VerifiedItem::Record(record(OTHER, 5, 1)));
    assert_eq!(dropped(&node, Reason::Stale), 1, "the same once more is not old");
}

#[test]
fn a_flood_of_outdated_records_costs_the_connection_and_a_breach() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    push(&mut node, at(20), peer, VerifiedItem::Record(record(OTHER, 5, 1)));
    let old = VerifiedItem::Record(record(OTHER, 4, 1));
    let closes = |actions: &Actions| {
        actions.iter().any(|action| matches!(action, Action::Command(_, Command::Close(Reason::Stale))))
    };
    let free = node.patience().burst;
    for _ in 0..free {
        assert!(!closes(&push(&mut node, at(30), peer, old.clone())));
    }
    assert!(closes(&push(&mut node, at(30), peer, old.clone())));
    assert!(!closes(&push(&mut node, at(30), peer, old)), "told once");
}

#[test]
fn two_records_of_one_version_come_to_one_and_are_reported_once() {
    let changed = |label: &str| {
        let body = RecordBody { label: Label::from_lossy(label), ..record(OTHER, 7, 1).body.clone() };
        VerifiedItem::Record(Record::signed(body, &Key(2)))
    };
    let told_in = |order: [&str; 2]| {
        let mut node = node(1);
        let peer = linked(&mut node, at(10));
        let mut notices = 0;
        for label in order.into_iter().chain(order) {
            let actions = push(&mut node, at(20), peer, changed(label));
            let is_told = |action: &&Action| matches!(action, Action::Notify(Notice::Equivocation { .. }));
            notices += actions.iter().filter(is_told).count();
        }
        assert_eq!(notices, 1, "said once");
        assert!(dropped(&node, Reason::Equivocation) >= 2, "and counted each time");
        assert!(node.warnings()[0].contains(&OTHER.hex()[..8]), "{:?}", node.warnings());
        node.view().get(&OTHER).map(|entry| entry.hash())
    };
    assert_eq!(told_in(["one", "two"]), told_in(["two", "one"]));
}

#[test]
fn whoever_keeps_breaking_the_protocol_is_not_heard_for_a_while() {
    let mut node = node(1);
    for _ in 0..100 / BREACH {
        let peer = linked(&mut node, at(10));
        told(&mut node, at(20), peer, PeerEvent::Closed { reason: Reason::BadSignature, by_remote: false });
    }
    let hello = |node: &mut Node, now: Now| {
        let peer = node.accepted(now, address(2), &mut Vec::new()).unwrap();
        let (purpose, dialled) = (Purpose::Overlay, address(1));
        let hello = PeerEvent::Hello { record: record(OTHER, 1, 1), clock_ms: now.wall_ms, purpose, dialled };
        let actions = told(node, now, peer, hello);
        let refused = |action: &Action| {
            matches!(action, Action::Command(_, Command::Answer(HeadMessage::Goodbye(Reason::Misbehaved))))
        };
        actions.iter().any(refused)
    };
    assert!(hello(&mut node, at(1000)));
    assert!(!hello(&mut node, at(700_000)), "ten minutes later it is");
}

/// What somebody else did at the address where a node was expected is not that node's fault.
#[test]
fn nobody_pays_for_what_was_done_before_he_was_known() {
    let mut node = node(1);
    for _ in 0..10 {
        let peer = node.accepted(at(10), address(2), &mut Vec::new()).unwrap();
        node.links.get_mut(&peer).unwrap().node = Some(OTHER);
        told(&mut node, at(20), peer, PeerEvent::Closed { reason: Reason::BadSignature, by_remote: false });
    }
    linked(&mut node, at(30));
}

#[test]
fn a_node_that_is_gone_for_two_days_is_dropped_and_cannot_come_back() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let hours = at(20).wall_hours();
    let left = RecordBody { state: RecordState::Left, ..record(ControllerId([3; 32]), 1, 1).body.clone() };
    let left = VerifiedItem::Record(Record::signed(RecordBody { issued: hours, ..left }, &Key(3)));
    push(&mut node, at(20), peer, left.clone());
    push(&mut node, at(20), peer, VerifiedItem::Record(record(ControllerId([4; 32]), 1, 1)));
    let later = |hours: u64| at(20 + hours * HOUR_MS);
    assert!(node.discovery_due().is_some_and(|due| due <= later(1).mono), "a look every hour");
    node.handle(later(49), Input::Discovery, &mut Vec::new());
    assert!(node.view().get(&ControllerId([3; 32])).is_some());
    node.handle(later(50), Input::Discovery, &mut Vec::new());
    assert!(node.view().get(&ControllerId([3; 32])).is_none());
    assert!(node.view().get(&ControllerId([4; 32])).is_some(), "who is up never expires by the clock");
    push(&mut node, later(50), peer, left);
    assert!(node.view().get(&ControllerId([3; 32])).is_none());
}

#[test]
fn ones_own_record_is_renewed_every_day() {
    let mut node = node(1);
    node.handle(NOW, Input::Discovery, &mut Vec::new());
    let before = node.record.body.issued;
    let day = Now { mono: NOW.mono + Duration::from_secs(24 * 3600), wall_ms: NOW.wall_ms + 24 * HOUR_MS };
    assert!(node.discovery_due().is_some_and(|due| due <= day.mono));
    node.handle(day, Input::Discovery, &mut Vec::new());
    assert_eq!(node.record.body.issued, before + 24);
}
