//! What a node remembers of others' lives.

use super::*;
use crate::protocol::chronicle::{Cause, Event, Subject};

fn told_of(node: &Node, subject: &Subject) -> Vec<(What, Option<Cause>, usize)> {
    node.chronicle.of(subject).map(|event: &Event| (event.what, event.cause, event.by().len())).collect()
}

fn witness(observer: u8, hash: Hash, stage: Stage, need: u8) -> VerifiedItem {
    let (network, subject, record) = (NetworkId([0; 8]), OTHER.short(), hash.short());
    let body = WitnessBody { network, subject, record, stage, need, observer: ControllerId([observer; 32]) };
    VerifiedItem::Witness(Witness::signed(body, &Key(observer)))
}

#[test]
fn a_life_is_told_from_its_first_record_to_its_return() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let hash = node.view().get(&OTHER).map(|entry| entry.hash()).expect("known");
    let mut push = |ms, item| told(&mut node, at(ms), peer, PeerEvent::Push(bringing(vec![item])));
    push(20, witness(3, hash, Stage::Suspect, 1));
    // Verdicts count once the accusation is three quarters of a refute window old.
    push(1530, witness(3, hash, Stage::Down, 2));
    push(1540, witness(4, hash, Stage::Down, 2));
    push(1550, VerifiedItem::Record(record(OTHER, 2, 2)));
    let body = RecordBody { state: RecordState::Left, ..record(OTHER, 3, 2).body.clone() };
    push(1560, VerifiedItem::Record(Record::signed(body, &Key(2))));
    let status = |status| What::Status(status);
    let expected = [
        (status(Status::Up), Some(Cause::FirstRecord), 1),
        (What::Accepted, Some(Cause::Purpose(Purpose::Overlay)), 0),
        (status(Status::Suspect), Some(Cause::Silence), 1),
        (What::Missed, None, 0),
        (What::Witnessed, Some(Cause::Silence), 1),
        (status(Status::Down), Some(Cause::Witnesses), 2),
        (What::Restarted, None, 1),
        (status(Status::Up), Some(Cause::Restart), 1),
        (status(Status::Left), Some(Cause::Leave), 1),
    ];
    assert_eq!(told_of(&node, &Subject::Node(OTHER)), expected);
    assert_eq!(node.chronicle.status_since(&OTHER), Some(at(1560)));
    node.handle(at(1570), Input::Forget(OTHER), &mut Vec::new());
    assert_eq!(told_of(&node, &Subject::Node(OTHER)).last(), Some(&(What::Forgotten, Some(Cause::User), 1)));
    assert_eq!(node.chronicle.status_since(&OTHER), None);
}

#[test]
fn dials_that_come_to_nothing_are_told_of_their_address() {
    let mut node = node(1);
    let nowhere = HostPort::Ip(address(9));
    for second in 1..4 {
        let mut actions = Vec::new();
        node.handle(at(second * 1000), Input::Connect(nowhere.clone(), second), &mut actions);
        let Some(Action::Dial(peer, _)) = actions.first() else { panic!("{actions:?}") };
        let refused = PeerEvent::Closed { reason: Reason::ConnectionRefused, by_remote: false };
        told(&mut node, at(second * 1000 + 1), *peer, refused);
    }
    let cause = Some(Cause::Reason(Reason::ConnectionRefused));
    assert_eq!(told_of(&node, &Subject::Place(nowhere.clone())), [(What::DialFailed, cause, 0)]);
    assert_eq!(node.chronicle.of(&Subject::Place(nowhere)).next().map(|event| event.times), Some(3));
}
