//! What is held back for a slow edge, what counts as known to the remote, and verdicts that nobody was called for.

use super::*;
use crate::protocol::message::Statement;

const THIRD: ControllerId = ControllerId([3; 32]);

/// What is held back for this link.
fn held(node: &Node, peer: PeerId) -> Vec<ShortId> {
    node.view.among(&node.links[&peer].held).map(|(short, _)| short).collect()
}

/// A node whose edges to 2 and 4 are not eager, which has heard from 4 that 3 is there, or has left.
fn holding(state: RecordState) -> (Node, PeerId) {
    let mut node = node(1);
    let edge = linked(&mut node, at(10));
    let bearer = tail(&mut node, 4, Purpose::Overlay);
    for peer in [edge, bearer] {
        told(&mut node, at(1100), peer, PeerEvent::Eager(false));
    }
    let third = record(THIRD, 5, 1);
    let third = Record::signed(RecordBody { state, ..third.body.clone() }, &Key(3));
    told(&mut node, at(1200), bearer, PeerEvent::Push(bringing(vec![VerifiedItem::Record(third)])));
    for ms in [1205, 1255] {
        node.handle(at(ms), Input::Discovery, &mut Vec::new());
    }
    assert!(held(&node, edge).contains(&THIRD.short()), "it goes later, over such an edge");
    (node, edge)
}

fn agrees(node: &mut Node, peer: PeerId, now: Now) {
    let statement = Statement { digest: node.digest().half(), ages: List::new() };
    told(node, now, peer, PeerEvent::Statement(statement, None));
}

#[test]
fn who_holds_the_same_digest_is_not_told_of_those_who_are_up() {
    let (mut node, edge) = holding(RecordState::Up);
    agrees(&mut node, edge, at(1400));
    assert!(!held(&node, edge).contains(&THIRD.short()));
}

#[test]
fn who_holds_the_same_digest_may_still_lack_what_no_digest_tells() {
    let (mut node, edge) = holding(RecordState::Left);
    agrees(&mut node, edge, at(1400));
    assert_eq!(held(&node, edge), [THIRD.short()], "that it left is in no digest");
}

#[test]
fn what_a_neighbour_stated_is_forgotten_with_its_last_edge() {
    let mut node = node(1);
    let edge = linked(&mut node, at(10));
    let statement = Statement { digest: node.digest().half(), ages: List::new() };
    told(&mut node, at(20), edge, PeerEvent::Statement(statement, Some(Time(1))));
    assert_eq!(node.agreement.heard(), 1);
    told(&mut node, at(30), edge, PeerEvent::Closed { reason: Reason::Reset, by_remote: true });
    assert_eq!(node.agreement.heard(), 0);
}

/// A neighbour brings a verdict that nobody was called for, twice; the accused says nothing.
#[test]
fn a_verdict_without_a_call_is_an_accusation_first_and_counts_in_the_end() {
    let mut node = node(1);
    let edge = linked(&mut node, at(10));
    told(&mut node, at(20), edge, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(THIRD, 5, 1))])));
    let named = node.view().get(&THIRD).expect("known").hash().short();
    let body = WitnessBody {
        network: NetworkId([0; 8]),
        subject: THIRD.short(),
        record: named,
        stage: Stage::Down,
        need: 1,
        observer: OTHER,
    };
    let verdict = VerifiedItem::Witness(Witness::signed(body, &Key(2)));
    for ms in [100, 200] {
        told(&mut node, at(ms), edge, PeerEvent::Push(bringing(vec![verdict.clone()])));
        assert_eq!(node.status(&THIRD), Some(Status::Suspect));
    }
    node.handle(at(1599), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&THIRD), Some(Status::Suspect), "it may speak up still");
    node.handle(at(1600), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&THIRD), Some(Status::Down));
    assert!(node.verdicts.is_empty() && node.called.is_empty());
}

#[test]
fn a_refutation_in_time_voids_such_a_verdict() {
    let mut node = node(1);
    let edge = linked(&mut node, at(10));
    told(&mut node, at(20), edge, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(THIRD, 5, 1))])));
    let named = node.view().get(&THIRD).expect("known").hash().short();
    let (network, subject) = (NetworkId([0; 8]), THIRD.short());
    let body = WitnessBody { network, subject, record: named, stage: Stage::Down, need: 1, observer: OTHER };
    let verdict = VerifiedItem::Witness(Witness::signed(body, &Key(2)));
    told(&mut node, at(100), edge, PeerEvent::Push(bringing(vec![verdict])));
    told(&mut node, at(400), edge, PeerEvent::Push(bringing(vec![VerifiedItem::Record(record(THIRD, 6, 1))])));
    node.handle(at(5000), Input::Discovery, &mut Vec::new());
    assert_eq!(node.status(&THIRD), Some(Status::Up));
    assert!(node.verdicts.is_empty() && node.called.is_empty());
}
