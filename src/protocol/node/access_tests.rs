//! Who is kept out, and what follows from it.

use super::*;
use crate::protocol::bans::{Ban, Full, Target};
use crate::protocol::node::NotBanned;
use crate::protocol::report::BanRow;

const THIRD: ControllerId = ControllerId([3; 32]);

fn ban_of(target: Target, until: Now) -> Ban {
    Ban { target, label: None, until_ms: until.wall_ms, note: None }
}

fn range(text: &str) -> Target {
    Target::Addresses(text.parse().expect("a range"))
}

fn ban(node: &mut Node, now: Now, target: Target, until: Now) -> (Vec<PeerId>, Actions) {
    let mut actions = Vec::new();
    let closed = node.ban(now, ban_of(target, until), &mut actions).expect("room");
    (closed, actions)
}

fn closes(actions: &[Action], peer: PeerId, reason: Reason) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Command(to, Command::Close(why) | Command::Answer(HeadMessage::Goodbye(why)))
            if *to == peer && *why == reason)
    })
}

fn over(node: &mut Node, now: Now, peer: PeerId, reason: Reason) {
    told(node, now, peer, PeerEvent::Closed { reason, by_remote: false });
}

fn dials(node: &mut Node, now: Now) -> Vec<(PeerId, SocketAddr)> {
    let mut actions = Vec::new();
    node.handle(now, Input::Idle, &mut actions);
    let dial = |action: &Action| match action {
        Action::Dial(peer, greeting) => Some((*peer, greeting.address)),
        _ => None,
    };
    actions.iter().filter_map(dial).collect()
}

fn hello(node: &mut Node, now: Now, id: ControllerId, from: SocketAddr) -> (PeerId, Actions) {
    let peer = node.accepted(now, from, &mut Vec::new()).expect("room");
    let (record, dialled) = (record(id, 1, 1), address(1));
    let hello = PeerEvent::Hello { record, clock_ms: now.wall_ms, purpose: Purpose::Overlay, dialled };
    let actions = told(node, now, peer, hello);
    (peer, actions)
}

#[test]
fn a_banned_node_is_dropped_refused_and_not_dialled_until_the_ban_ends() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let (closed, actions) = ban(&mut node, at(1000), Target::Node(OTHER), at(100_000));
    assert_eq!(closed, [peer]);
    assert!(closes(&actions, peer, Reason::Banned), "{actions:?}");
    over(&mut node, at(1001), peer, Reason::Banned);
    assert_eq!(node.refused().get(&Reason::Banned), Some(&1));

    let (again, actions) = hello(&mut node, at(2000), OTHER, address(9));
    assert!(closes(&actions, again, Reason::Banned), "whatever its address: {actions:?}");
    over(&mut node, at(2001), again, Reason::Banned);
    assert_eq!(node.refused().get(&Reason::Banned), Some(&2));
    for second in 3..90 {
        assert_eq!(dials(&mut node, at(second * 1000)), [], "at {second} s");
    }
    assert_eq!(node.status(&OTHER), Some(Status::Up), "it is a member all the same, and nobody was seen dead");
    assert!(node.idle_due().is_some_and(|due| due <= at(100_000).mono), "the end is waited for");
    assert_eq!(dials(&mut node, at(100_000)), [], "a ring edge has to be wanted for a while");
    assert_eq!(dials(&mut node, at(101_000)).first().map(|(_, to)| *to), Some(address(2)));
    assert_eq!(node.memory().bans, []);
    let (back, _) = hello(&mut node, at(102_000), OTHER, address(2));
    assert!(node.link(back).is_some_and(Link::is_edge));
}

#[test]
fn a_banned_address_is_refused_before_anything_else_and_not_dialled() {
    let mut settings = settings(1);
    settings.max_pending = 1;
    let mut node = Node::new(settings, Box::new(Key(1)), &Memory::default(), 1, at(0));
    let unknown = node.accepted(at(1), address(9), &mut Vec::new()).expect("room");
    let (closed, _) = ban(&mut node, at(2), range("10.0.0.0/24"), at(100_000));
    assert_eq!(closed, [unknown], "nobody knows who it is, and it goes");
    assert_eq!(node.accepted(at(3), address(9), &mut Vec::new()), Err(Reason::Banned), "not too-many-pending");
    let mapped = "[::ffff:10.0.0.9]:7100".parse().expect("an address");
    assert_eq!(node.accepted(at(3), mapped, &mut Vec::new()), Err(Reason::Banned));
    assert_eq!(node.refused().get(&Reason::Banned), Some(&2));

    let mut actions = Vec::new();
    node.handle(at(4), Input::Connect(HostPort::Ip(address(7)), 1), &mut actions);
    let failed = |action: &Action| matches!(action, Action::Connected(1, Outcome::Failed(Reason::Banned)));
    assert!(actions.len() == 1 && failed(&actions[0]), "{actions:?}");

    node.configure(at(5), &[HostPort::Ip(address(7)), HostPort::Ip("10.0.1.7:7100".parse().expect("an address"))]);
    let dialled: Vec<SocketAddr> = dials(&mut node, at(6)).into_iter().map(|(_, to)| to).collect();
    assert_eq!(dialled, ["10.0.1.7:7100".parse().expect("an address")]);
    node.unban(at(7), &range("10.0.0.0/24")).expect("a ban");
    let dialled: Vec<SocketAddr> = dials(&mut node, at(1000)).into_iter().map(|(_, to)| to).collect();
    assert_eq!(dialled, [address(7)]);
}

#[test]
fn a_head_that_is_kept_out_is_left_and_not_dialled_again_while_banned() {
    let mut node = node(1);
    node.configure(at(0), &[HostPort::Ip(address(2))]);
    ban(&mut node, at(1), Target::Node(OTHER), at(600_000));
    let (peer, _) = dials(&mut node, at(10))[0];
    told(&mut node, at(11), peer, PeerEvent::Connected);
    let welcome = PeerEvent::Welcome { record: record(OTHER, 1, 1), clock_ms: at(12).wall_ms };
    let actions = told(&mut node, at(12), peer, welcome);
    assert!(closes(&actions, peer, Reason::Banned), "{actions:?}");
    over(&mut node, at(13), peer, Reason::Banned);
    assert_eq!(node.status(&OTHER), None, "what it says is not taken in");
    for second in 1..600 {
        assert_eq!(dials(&mut node, at(second * 1000)), [], "at {second} s");
    }
    assert_eq!(dials(&mut node, at(700_000)).len(), 1);
}

#[test]
fn hints_of_a_head_that_is_kept_out_are_not_taken() {
    let mut node = node(1);
    node.configure(at(0), &[HostPort::Ip(address(2))]);
    node.allow(at(0), [THIRD], &mut Vec::new());
    let (peer, _) = dials(&mut node, at(10))[0];
    let known = node.peer_counts().known_addresses;
    let hints = [address(8)].into_iter().collect();
    told(&mut node, at(11), peer, PeerEvent::Busy { record: record(OTHER, 1, 1), hints });
    assert_eq!((node.peer_counts().known_addresses, node.status(&OTHER)), (known, None));
    assert_eq!(node.refused().get(&Reason::NotAllowed), Some(&1));
}

#[test]
fn only_those_on_the_list_may_come_in_and_a_tighter_list_closes() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let mut actions = Vec::new();
    node.allow(at(20), [OTHER], &mut actions);
    assert!(!closes(&actions, peer, Reason::NotAllowed));
    let (third, actions) = hello(&mut node, at(30), THIRD, address(3));
    assert!(closes(&actions, third, Reason::NotAllowed), "{actions:?}");
    over(&mut node, at(31), third, Reason::NotAllowed);
    assert_eq!(node.status(&THIRD), None);

    let mut actions = Vec::new();
    node.allow(at(40), [THIRD], &mut actions);
    assert!(closes(&actions, peer, Reason::NotAllowed), "{actions:?}");
    over(&mut node, at(41), peer, Reason::NotAllowed);
    assert_eq!(dials(&mut node, at(5000)), []);
    node.allow(at(6000), [], &mut Vec::new());
    dials(&mut node, at(7000));
    assert_eq!(dials(&mut node, at(8000)).len(), 1, "anybody again");
}

#[test]
fn nobody_is_accused_because_he_was_kept_out() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    told(&mut node, at(2000), peer, PeerEvent::Silent);
    assert!(node.detector.misses(&OTHER));
    ban(&mut node, at(2001), Target::Node(OTHER), at(100_000));
    told(&mut node, at(2002), peer, PeerEvent::Closed { reason: Reason::EndOfStream, by_remote: true });
    node.handle(at(9000), Input::Discovery, &mut Vec::new());
    assert!(!node.detector.misses(&OTHER));
    assert_eq!(node.status(&OTHER), Some(Status::Up));
}

#[test]
fn bans_are_bounded_kept_and_never_of_oneself() {
    let mut node = node(1);
    let mut actions = Vec::new();
    assert_eq!(node.ban(at(1), ban_of(Target::Node(ME), at(9)), &mut actions), Err(NotBanned::Myself));
    for number in 10..14 {
        ban(&mut node, at(1), Target::Node(ControllerId([number; 32])), at(60_000));
    }
    let before = node.memory_stamp();
    let one_more = node.ban(at(1), ban_of(range("10.0.0.0/8"), at(60_000)), &mut actions);
    assert_eq!((one_more, node.memory_stamp()), (Err(NotBanned::Full(Full(4))), before));
    assert!(node.unban(at(2), &Target::Node(ControllerId([10; 32]))).is_some());
    assert!(node.memory_stamp() > before, "there is something to keep");

    let mut memory = node.memory();
    memory.bans.push(BanRow { until: "soon".to_owned(), ..memory.bans[0].clone() });
    let again = Node::new(settings(1), Box::new(Key(1)), &memory, 1, at(3));
    assert_eq!(again.bans().iter(at(3)).count(), 3);
    assert!(again.warnings().iter().any(|warning| warning.starts_with("1 of the bans")), "{:?}", again.warnings());
}

#[test]
fn a_ban_is_found_by_what_it_was_made_of() {
    let mut node = node(1);
    linked(&mut node, at(10));
    let labelled = Ban { label: Some(Label::from_lossy("c")), ..ban_of(Target::Node(THIRD), at(60_000)) };
    node.ban(at(20), labelled, &mut Vec::new()).expect("room");
    ban(&mut node, at(20), Target::Node(OTHER), at(60_000));
    ban(&mut node, at(20), range("10.0.0.0/8"), at(60_000));
    let found = |text: &str| node.find_bans(at(30), text);
    assert_eq!(found("c"), [Target::Node(THIRD)]);
    assert_eq!(found("somebody"), [Target::Node(OTHER)], "by the label that the view knows");
    assert_eq!(found("0202"), [Target::Node(OTHER)]);
    assert_eq!(found("10.0.0.0/8"), [range("10.0.0.0/8")]);
    assert_eq!(found("0").len(), 2);
    for nobody in ["", "10.0.0.7", "10.0.0.0/9", "10.0.0.0/99", "alpha", "ff"] {
        assert_eq!(found(nobody), [], "{nobody}");
    }
}

#[test]
fn configured_addresses_come_and_go() {
    let mut node = node(1);
    let places = |numbers: &[u8]| numbers.iter().map(|number| HostPort::Ip(address(*number))).collect::<Vec<_>>();
    node.configure(at(0), &places(&[2, 3]));
    assert_eq!(dials(&mut node, at(10)).len(), 2);
    node.configure(at(20), &places(&[3, 4]));
    let configured: Vec<HostPort> = node.book.configured().map(|(address, _)| address.clone()).collect();
    assert_eq!(configured, places(&[3, 4]));
    assert_eq!(dials(&mut node, at(1000)).into_iter().map(|(_, to)| to).collect::<Vec<_>>(), [address(4)]);
    let pinned = |node: &Node, to| node.links().find(|(_, link)| link.address == to).map(|(_, link)| link.pinned);
    assert_eq!((pinned(&node, address(2)), pinned(&node, address(3))), (Some(false), Some(true)));
}
