//! Edges that applications ask for, as both ends see them.

use super::*;
use crate::protocol::message::TailMessage;

fn id(number: u8) -> ControllerId {
    ControllerId([number; 32])
}

/// A node that has heard of those of these numbers, and whose rings are left alone.
fn knowing(numbers: impl IntoIterator<Item = u8>) -> Node {
    let mut node =
        Node::new(Settings { max_outgoing: 10, ..settings(1) }, Box::new(Key(1)), &Memory::default(), 1, at(0));
    for number in numbers {
        node.merge(at(1), None, VerifiedItem::Record(record(id(number), 1, 1)), &mut Vec::new());
    }
    node
}

fn reach(node: &mut Node, ms: u64, to: u8, ticket: Ticket) -> Actions {
    reach_but(node, ms, to, ticket, (None, None))
}

fn reach_but(
    node: &mut Node,
    ms: u64,
    to: u8,
    ticket: Ticket,
    (stale, idlest): (Option<PeerId>, Option<PeerId>),
) -> Actions {
    let mut actions = Vec::new();
    node.handle(at(ms), Input::Reach { id: id(to), stale, idlest, ticket }, &mut actions);
    actions
}

fn dialled(actions: &[Action]) -> Option<PeerId> {
    actions.iter().find_map(|action| match action {
        Action::Dial(peer, greeting) if greeting.purpose == Purpose::Application => Some(*peer),
        _ => None,
    })
}

fn reached(actions: &[Action]) -> Vec<(Ticket, Result<PeerId, Reason>)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Reached(ticket, outcome) => Some((*ticket, *outcome)),
        _ => None,
    });
    told.collect()
}

fn repurposed(actions: &[Action]) -> Vec<(PeerId, Purpose)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Command(peer, Command::Issue(TailMessage::Repurpose(purpose))) => Some((*peer, *purpose)),
        _ => None,
    });
    told.collect()
}

fn welcome(node: &mut Node, ms: u64, peer: PeerId, number: u8) -> Actions {
    let mut actions = told(node, at(ms), peer, PeerEvent::Connected);
    let welcome = PeerEvent::Welcome { record: record(id(number), 1, 1), clock_ms: at(ms).wall_ms };
    actions.extend(told(node, at(ms), peer, welcome));
    actions
}

fn closed(node: &mut Node, ms: u64, peer: PeerId, reason: Reason) -> Actions {
    told(node, at(ms), peer, PeerEvent::Closed { reason, by_remote: false })
}

/// An edge for applications that stands.
fn asked(node: &mut Node, ms: u64, number: u8) -> PeerId {
    let peer = dialled(&reach(node, ms, number, 1)).expect("it is dialled");
    assert_eq!(reached(&welcome(node, ms, peer, number)), [(1, Ok(peer))]);
    peer
}

#[test]
fn all_who_ask_share_one_dial_and_the_graph_stays_as_it_is() {
    let mut node = knowing([2]);
    let peer = dialled(&reach(&mut node, 10, 2, 1)).unwrap();
    assert_eq!(dialled(&reach(&mut node, 11, 2, 2)), None, "it is under way");
    let actions = welcome(&mut node, 20, peer, 2);
    assert_eq!(reached(&actions), [(1, Ok(peer)), (2, Ok(peer))]);
    let syncs = |action: &Action| matches!(action, Action::Command(_, Command::Issue(TailMessage::Sync { .. })));
    assert!(!actions.iter().any(syncs), "views are compared over other edges");
    assert_eq!(reached(&reach(&mut node, 30, 2, 3)), [(3, Ok(peer))], "it stands");
    let link = node.link(peer).unwrap();
    assert!(!link.is_edge() && !link.is_outgoing_edge() && link.stands());
    node.handle(at(5000), Input::Discovery, &mut Vec::new());
    assert!(node.record.body.edges.is_empty(), "it is in no record");
    assert!(!node.feed.is_behind(peer) && node.is_alone());
}

#[test]
fn an_edge_of_any_purpose_is_used_and_a_stale_one_is_not() {
    let mut node = knowing([2]);
    let mut actions = Vec::new();
    node.handle(at(5), Input::Connect(HostPort::Ip(address(2)), 9), &mut actions);
    let Some(Action::Dial(edge, _)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(reached(&reach(&mut node, 6, 2, 1)), [], "the dial that is under way will do");
    assert_eq!(reached(&welcome(&mut node, 7, *edge, 2)), [(1, Ok(*edge))]);
    assert_eq!(reached(&reach(&mut node, 8, 2, 2)), [(2, Ok(*edge))]);
    let again = reach_but(&mut node, 9, 2, 3, (Some(*edge), None));
    assert!(dialled(&again).is_some() && reached(&again).is_empty(), "its peer has ended, and says so later");
}

#[test]
fn a_failed_dial_answers_for_a_second() {
    let mut node = knowing([2]);
    let peer = dialled(&reach(&mut node, 10, 2, 1)).unwrap();
    let refused = Err(Reason::ConnectionRefused);
    assert_eq!(reached(&closed(&mut node, 20, peer, Reason::ConnectionRefused)), [(1, refused)]);
    for ms in [30, 500, 1019] {
        let actions = reach(&mut node, ms, 2, 2);
        assert_eq!((reached(&actions), dialled(&actions)), (vec![(2, refused)], None));
    }
    assert!(dialled(&reach(&mut node, 1020, 2, 3)).is_some());
    assert_eq!(reached(&reach(&mut node, 30, 7, 4)), [(4, Err(Reason::Unreachable))], "nobody knows it");
    assert_eq!(reached(&reach(&mut node, 30, 1, 5)), [(5, Err(Reason::Myself))]);
}

#[test]
fn somebody_else_at_the_address_is_not_asked() {
    let mut node = knowing([2]);
    let peer = dialled(&reach(&mut node, 10, 2, 1)).unwrap();
    let actions = welcome(&mut node, 20, peer, 3);
    assert_eq!(reached(&actions), [(1, Err(Reason::IdentityMismatch))]);
    let closes = |action: &Action| matches!(action, Action::Command(_, Command::Close(Reason::Surplus)));
    assert!(actions.iter().any(closes));
}

#[test]
fn discovery_takes_over_what_it_wants_itself() {
    let mut node = knowing([2]);
    let peer = asked(&mut node, 10, 2);
    let mut actions = Vec::new();
    node.handle(at(3000), Input::Idle, &mut actions);
    assert_eq!(repurposed(&actions), [(peer, Purpose::Ring)], "the only other node is its ring successor");
    assert!(!actions.iter().any(|action| matches!(action, Action::Dial(..))), "{actions:?}");
    assert!(node.link(peer).unwrap().is_outgoing_edge());

    // The same while the dial is under way.
    let mut node = knowing([2]);
    let peer = dialled(&reach(&mut node, 10, 2, 1)).unwrap();
    let mut actions = Vec::new();
    node.handle(at(11), Input::Connect(HostPort::Ip(address(2)), 9), &mut actions);
    assert!(actions.is_empty(), "{actions:?}");
    let actions = welcome(&mut node, 20, peer, 2);
    assert_eq!((reached(&actions), repurposed(&actions)), (vec![(1, Ok(peer))], vec![(peer, Purpose::Overlay)]));
    assert!(actions.iter().any(|action| matches!(action, Action::Connected(9, Outcome::Edge(..)))));
}

#[test]
fn one_too_many_that_is_in_use_is_kept_for_applications() {
    let mut node = knowing([2]);
    let mut actions = Vec::new();
    node.handle(at(5), Input::Connect(HostPort::Ip(address(2)), 9), &mut actions);
    let Some(Action::Dial(edge, _)) = actions.first() else { panic!("{actions:?}") };
    welcome(&mut node, 7, *edge, 2);
    told(&mut node, at(8), *edge, PeerEvent::Kept);
    assert!(node.link(*edge).unwrap().is_for_applications() && node.is_alone());
    assert_eq!(node.way_to(&OTHER, None), Some(*edge));
}

#[test]
fn applications_have_the_places_that_discovery_leaves_and_the_idlest_makes_room() {
    let mut node = knowing(2..6);
    let first = asked(&mut node, 10, 2);
    asked(&mut node, 11, 3);
    assert_eq!(reached(&reach(&mut node, 12, 4, 3)), [(3, Err(Reason::TooManyPeers))], "all are in use");
    let actions = reach_but(&mut node, 13, 4, 4, (None, Some(first)));
    let closes =
        |action: &Action| matches!(action, Action::Command(peer, Command::Close(Reason::Idle)) if *peer == first);
    assert!(actions.iter().any(closes) && dialled(&actions).is_some());
    assert_eq!(reached(&reach(&mut node, 14, 5, 5)), [(5, Err(Reason::TooManyPeers))], "it makes room once");
    closed(&mut node, 15, first, Reason::Idle);
    let obstacle = node.book.obstacle(&HostPort::Ip(address(2)), at(15).mono);
    assert_eq!(obstacle, None, "nothing is wrong with its address");
}

#[test]
fn a_head_takes_them_beside_those_of_discovery_and_changes_with_its_tail() {
    let mut head = Node::new(Settings { accept: 1, ..settings(1) }, Box::new(Key(1)), &Memory::default(), 1, NOW);
    tail(&mut head, 2, Purpose::Overlay);
    let asked = tail(&mut head, 3, Purpose::Application);
    assert!(head.link(asked).unwrap().stands() && !head.feed.is_behind(asked));
    let wants = |head: &mut Node, purpose| told(head, NOW, asked, PeerEvent::Repurpose(purpose));
    let actions = wants(&mut head, Purpose::Overlay);
    let busy = |action: &Action| matches!(action, Action::Command(peer, Command::Answer(HeadMessage::Goodbye(Reason::Busy))) if *peer == asked);
    assert!(actions.iter().any(busy), "the overlay has no place");

    let mut head = node(1);
    let asked = tail(&mut head, 3, Purpose::Application);
    told(&mut head, NOW, asked, PeerEvent::Repurpose(Purpose::Ring));
    assert!(head.link(asked).unwrap().is_edge());
    told(&mut head, NOW, asked, PeerEvent::Repurpose(Purpose::Application));
    assert!(!head.link(asked).unwrap().is_edge() && head.link(asked).unwrap().stands());
}

#[test]
fn the_newer_connection_is_the_edge_when_a_head_has_replaced_one_by_it() {
    let mut node = knowing([2]);
    // A configured address whose node is not known yet, and the same node by its id.
    let mut actions = Vec::new();
    node.handle(at(5), Input::Connect(HostPort::Ip(address(9)), 9), &mut actions);
    let Some(Action::Dial(edge, _)) = actions.first() else { panic!("{actions:?}") };
    let asked = asked(&mut node, 10, 2);
    welcome(&mut node, 11, *edge, 2);
    let actions = told(&mut node, at(12), *edge, PeerEvent::Closed { reason: Reason::Replaced, by_remote: true });
    assert_eq!(repurposed(&actions), [(asked, Purpose::Overlay)]);
}
