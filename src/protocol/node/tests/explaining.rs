//! Why a node is as it is, and what happens next.

use super::*;
use crate::protocol::bans::Ban;
use crate::protocol::explanation::WhyReport;

fn whats(report: &WhyReport) -> Vec<&str> {
    report.events.iter().map(|event| event.what.as_str()).collect()
}

fn steps(report: &WhyReport) -> Vec<&str> {
    report.next.iter().map(|step| step.what.as_str()).collect()
}

fn accuse(node: &mut Node, peer: PeerId, ms: u64, observer: u8, stage: Stage) {
    let hash = node.view().get(&OTHER).map(|entry| entry.hash().short()).expect("known");
    let (network, subject, observer) = (NetworkId([0; 8]), OTHER.short(), ControllerId([observer; 32]));
    let body = WitnessBody { network, subject, record: hash, stage, need: 2, observer };
    let item = VerifiedItem::Witness(Witness::signed(body, &Key(observer.0[0])));
    told(node, at(ms), peer, PeerEvent::Push(bringing(vec![item])));
}

#[test]
fn what_is_owed_and_what_is_next_is_told_at_each_step() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let why = |node: &Node, ms| node.why(&OTHER, at(ms)).expect("known");
    let told_now = why(&node, 20);
    assert_eq!((told_now.next_dial.as_ref(), steps(&told_now)), (None, vec![]), "a neighbour: nothing is to come");

    // The edge breaks: it is missed, then accused.
    told(&mut node, at(1000), peer, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: true });
    assert_eq!(whats(&why(&node, 1000)), ["up", "accepted", "closed", "missed"]);
    assert_eq!(steps(&why(&node, 1000)), ["suspect"]);
    node.handle(at(3000), Input::Discovery, &mut Vec::new());
    assert_eq!((node.status(&OTHER), steps(&why(&node, 3000))), (Some(Status::Suspect), vec!["testify"]));
    let suspect = why(&node, 3000).events.last().cloned().expect("one");
    assert_eq!((suspect.what.as_str(), suspect.by.as_slice()), ("suspect", &[ME.hex()][..]));

    // Others speak, late enough to count: one of two, then both.
    let peer = tail(&mut node, 3, Purpose::Overlay);
    accuse(&mut node, peer, 4600, 4, Stage::Down);
    let told_now = why(&node, 4600);
    assert!(steps(&told_now).contains(&"witnesses"), "{told_now:?}");
    assert!(told_now.next.iter().any(|step| step.detail == "1 of 2 observers say that it is down: 1 more are owed"));
    accuse(&mut node, peer, 4700, 5, Stage::Down);
    let told_now = why(&node, 4700);
    assert_eq!(told_now.status, Some(Status::Down));
    let down = told_now.events.last().expect("one");
    assert_eq!((down.what.as_str(), down.cause.as_deref(), down.by.len()), ("down", Some("witnesses"), 2));
    assert_eq!(down.at, "2027-01-15T08:00:04.700Z");
    assert!(told_now.next_dial.is_some() && steps(&told_now).ends_with(&["drop"]), "{told_now:?}");

    // Whoever is kept out is not dialled.
    let until_ms = at(60_000).wall_ms;
    let ban = Ban { target: crate::protocol::bans::Target::Node(OTHER), label: None, until_ms, note: None };
    node.ban(at(5000), ban, &mut Vec::new()).unwrap();
    let told_now = why(&node, 5000);
    assert_eq!(told_now.next_dial, None);
    assert_eq!((whats(&told_now).last(), steps(&told_now).first()), (Some(&"banned"), Some(&"unban")));
}

#[test]
fn an_address_that_never_answered_has_a_life_too() {
    let nowhere = HostPort::Ip(address(9));
    let settings = Settings { connect: vec![nowhere.clone()], ..settings(1) };
    let mut node = Node::new(settings, Box::new(Key(1)), &Memory::default(), 1, at(0));
    assert_eq!(node.why_address(&HostPort::Ip(address(8)), at(1)), None);
    let untried = node.why_address(&nowhere, at(1)).expect("configured");
    assert!(untried.events.is_empty() && untried.next_dial.is_some());
    let mut actions = Vec::new();
    node.handle(at(100), Input::Idle, &mut actions);
    let Some(Action::Dial(peer, _)) = actions.first() else { panic!("{actions:?}") };
    let refused = PeerEvent::Closed { reason: Reason::ConnectionRefused, by_remote: false };
    told(&mut node, at(110), *peer, refused);
    let tried = node.why_address(&nowhere, at(200)).expect("tried");
    assert_eq!((whats(&tried), tried.events[0].cause.as_deref()), (vec!["dial-failed"], Some("connection-refused")));
    assert_eq!(
        (tried.node, tried.status, steps(&node.why_address(&nowhere, at(200)).unwrap())),
        (None, None, vec!["dial"])
    );
    assert!(tried.next[0].in_seconds > Some(0.1), "{:?}", tried.next);
}

#[test]
fn whoever_was_dropped_is_remembered_by_id() {
    let mut node = node(1);
    linked(&mut node, at(10));
    assert_eq!(node.find_remembered("somebody"), [OTHER]);
    assert_eq!(node.nodes_at(&HostPort::Ip(address(2))), [OTHER]);
    node.note_dropped(at(20), OTHER);
    node.view = View::new(8);
    assert_eq!((node.find_remembered("somebody"), node.find_remembered(&OTHER.hex()[..12])), (vec![], vec![OTHER]));
    let report = node.why(&OTHER, at(30)).expect("remembered");
    assert_eq!(
        (report.label, report.status, report.events.last().map(|event| event.what.as_str())),
        (None, None, Some("dropped"))
    );
    assert_eq!(node.why(&ControllerId([77; 32]), at(30)), None);
}
