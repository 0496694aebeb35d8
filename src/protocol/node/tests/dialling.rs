//! Whom a node dials, and what others cannot make it dial.

use super::*;
use crate::protocol::address_book::KnownAddress;
use crate::protocol::report::Direction;

fn dials(actions: &[Action]) -> Vec<SocketAddr> {
    let dials = actions.iter().filter_map(|action| match action {
        // A probe follows one failed dial, and no more: it asks whether to accuse.
        Action::Dial(_, greeting) if greeting.purpose != Purpose::Probe => Some(greeting.address),
        _ => None,
    });
    dials.collect()
}

fn member(number: u8, address: SocketAddr) -> VerifiedItem {
    let body = RecordBody { address, ..record(ControllerId([number; 32]), 1, 1).body.clone() };
    VerifiedItem::Record(Record::signed(body, &Key(number)))
}

/// All that a node dials in so many seconds, none of which answers.
fn dialled(node: &mut Node, from: u64, seconds: u64) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for step in 0..seconds * 50 {
        let now = at(from + step * 20);
        let mut actions = Vec::new();
        node.handle(now, Input::Idle, &mut actions);
        for action in &actions {
            if let Action::Dial(peer, _) = action {
                let refused = PeerEvent::Closed { reason: Reason::ConnectionRefused, by_remote: false };
                told(node, now, *peer, refused);
            }
        }
        all.extend(dials(&actions));
    }
    all
}

#[test]
fn addresses_made_up_by_others_are_dialled_ten_a_second_and_no_more() {
    let mut node = Node::new(
        Settings { max_nodes: 1000, max_addresses: 4096, ..settings(1) },
        Box::new(Key(1)),
        &Memory::default(),
        1,
        NOW,
    );
    let peer = linked(&mut node, at(10));
    for number in 3..=255 {
        let made_up = SocketAddr::from(([192, 0, 2, number], 80));
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![member(number, made_up)])));
    }
    let made = dialled(&mut node, 1000, 20).into_iter().filter(|to| to.port() == 80).count();
    assert!(made > 100, "only {made} dials: nothing was tried");
    assert!(made <= 128 + 20 * 10 + 1, "{made} dials in 20 seconds");
}

#[test]
fn nobody_makes_a_node_dial_what_is_no_nodes_address() {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let unfit = ["127.0.0.1:22", "169.254.169.254:80", "[fe80::1%2]:7100", "[::1]:22"];
    for (number, address) in unfit.iter().enumerate() {
        let item = member(10 + number as u8, address.parse().unwrap());
        told(&mut node, at(20), peer, PeerEvent::Push(bringing(vec![item])));
    }
    for address in dialled(&mut node, 1000, 10) {
        assert!(!unfit.contains(&address.to_string().as_str()), "{address}");
    }
}

#[test]
fn a_tail_is_dialled_back_freely_only_where_it_comes_from() {
    let mut node = node(1);
    node.dial_rate.take(crate::protocol::bucket::Rate { per_second: 0, burst: 0 }, at(10).mono);
    let hello = |node: &mut Node, number: u8, from: SocketAddr| {
        let body = RecordBody { reach: Reach::Unproven, ..record(ControllerId([number; 32]), 1, 1).body.clone() };
        let peer = node.accepted(at(10), from, &mut Vec::new()).unwrap();
        let (record, purpose, dialled) = (Record::signed(body, &Key(number)), Purpose::Overlay, address(200));
        told(node, at(10), peer, PeerEvent::Hello { record, clock_ms: at(10).wall_ms, purpose, dialled });
    };
    hello(&mut node, 5, SocketAddr::from(([10, 0, 0, 5], 40_000)));
    hello(&mut node, 6, SocketAddr::from(([203, 0, 113, 6], 40_000)));
    let waiting: Vec<_> = node.dial_backs.iter().map(|(_, id)| *id).collect();
    assert_eq!(waiting, [ControllerId([5; 32])]);
    assert_eq!(node.dropped()[&Reason::TooFast], 1);
}

/// After a restart, and with a view full of strangers, a node finds its way to two it knew before.
#[test]
fn two_edges_go_to_long_known_nodes_whatever_newcomers_say() {
    let known = |number: u8| KnownAddress {
        address: address(number).to_string(),
        node: Some(ControllerId([number; 32]).hex()),
        since: Some(at(0).wall_ms - 7_200_000),
    };
    let memory = Memory { version: 1, addresses: (200..210).map(known).collect(), ..Memory::default() };
    let mut node = Node::new(Settings { max_nodes: 1000, ..settings(1) }, Box::new(Key(1)), &memory, 1, at(0));
    // Eight edges stand already, all to newcomers.
    for number in 10..18u8 {
        let mut actions = Vec::new();
        let ticket = u64::from(number);
        node.handle(at(5), Input::Connect(HostPort::Ip(address(number)), ticket), &mut actions);
        let Some(Action::Dial(peer, _)) = actions.first() else { panic!("{actions:?}") };
        told(&mut node, at(6), *peer, PeerEvent::Connected);
        let record = record(ControllerId([number; 32]), 1, 1);
        told(&mut node, at(7), *peer, PeerEvent::Welcome { record, clock_ms: at(7).wall_ms });
    }
    let mut actions = Vec::new();
    node.handle(at(100), Input::Idle, &mut actions);
    let to: Vec<_> = dials(&actions).into_iter().filter(|to| (200..210).contains(&last(*to))).collect();
    assert_eq!(to.len(), 2, "{actions:?}");
    for action in actions {
        let Action::Dial(peer, greeting) = action else { continue };
        let number = last(greeting.address);
        told(&mut node, at(101), peer, PeerEvent::Connected);
        let record = record(ControllerId([number; 32]), 1, 1);
        told(&mut node, at(102), peer, PeerEvent::Welcome { record, clock_ms: at(102).wall_ms });
    }
    // Others may be closed as surplus, these not; and no third is sought.
    for link in node.links.values_mut() {
        link.pinned = false;
    }
    for step in 1..50 {
        let mut actions = Vec::new();
        node.handle(at(1000 * step), Input::Idle, &mut actions);
        assert!(dials(&actions).iter().all(|to| !(200..210).contains(&last(*to))), "{actions:?}");
        for action in actions {
            if let Action::Command(peer, Command::Close(Reason::Surplus)) = action {
                assert!(!(200..210).contains(&last(node.links[&peer].address)));
            }
        }
    }
}

/// A node that has heard of thirty others, and has just begun to dial six of them.
fn beginner() -> (Node, BTreeSet<PeerId>) {
    let mut node = node(1);
    let peer = linked(&mut node, at(10));
    let others = (10..40).map(|number| member(number, address(number))).collect();
    told(&mut node, at(20), peer, PeerEvent::Push(bringing(others)));
    let begun = step(&mut node, 100..160);
    assert_eq!(begun.len(), 6, "two places are the rings'");
    (node, begun)
}

/// The random dials of these milliseconds.
fn step(node: &mut Node, span: std::ops::Range<u64>) -> BTreeSet<PeerId> {
    let mut begun = BTreeSet::new();
    for ms in span.step_by(20) {
        let mut actions = Vec::new();
        node.handle(at(ms), Input::Idle, &mut actions);
        begun.extend(actions.iter().filter_map(|action| match action {
            Action::Dial(peer, greeting) if greeting.purpose == Purpose::Overlay => Some(*peer),
            _ => None,
        }));
    }
    begun
}

#[test]
fn while_a_dial_is_slow_somebody_else_is_dialled_besides() {
    let (mut node, _) = beginner();
    assert_eq!(step(&mut node, 160..400).len(), 0, "they may answer yet");
    let besides = step(&mut node, 400..700).len();
    assert_eq!(besides, 6, "one for each");
    assert!(step(&mut node, 700..2000).len() <= 4, "whom all keep waiting dials no more and more");
}

#[test]
fn with_all_edges_in_place_nobody_waits_for_slow_dials() {
    let (mut node, begun) = beginner();
    step(&mut node, 160..400);
    let besides = step(&mut node, 400..700);
    let later = node.links.iter().filter(|(peer, link)| link.direction == Direction::Outgoing && !begun.contains(peer));
    let later: Vec<_> = later.map(|(peer, link)| (*peer, link.node.expect("a member"))).collect();
    for (peer, id) in later {
        told(&mut node, at(710), peer, PeerEvent::Connected);
        told(&mut node, at(720), peer, PeerEvent::Welcome { record: record(id, 1, 1), clock_ms: at(720).wall_ms });
    }
    assert!(besides.iter().all(|peer| node.links[peer].is_edge()));
    let mut actions = Vec::new();
    node.handle(at(800), Input::Idle, &mut actions);
    let closed: BTreeSet<PeerId> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Command(peer, Command::Close(Reason::Surplus)) => Some(*peer),
            _ => None,
        })
        .collect();
    assert_eq!(closed, begun);
}

#[test]
fn one_silent_neighbour_makes_a_node_look_after_the_others() {
    let (mut node, begun) = beginner();
    for peer in &begun {
        let id = node.links[peer].node.expect("a member");
        told(&mut node, at(200), *peer, PeerEvent::Welcome { record: record(id, 1, 1), clock_ms: at(200).wall_ms });
    }
    let looks = |actions: &Actions| -> BTreeSet<PeerId> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Command(peer, Command::Beat) => Some(*peer),
                _ => None,
            })
            .collect()
    };
    let first = *begun.first().expect("six");
    assert_eq!(looks(&told(&mut node, at(5000), first, PeerEvent::Silent)), begun);
    let next = *begun.last().expect("six");
    assert!(looks(&told(&mut node, at(5900), next, PeerEvent::Silent)).is_empty(), "once in an interval");
    assert_eq!(looks(&told(&mut node, at(6100), next, PeerEvent::Silent)), begun);
}

#[test]
fn while_many_are_missed_tails_are_looked_for_and_slow_dials_are_doubted() {
    let (mut node, begun) = beginner();
    let quiet = tail(&mut node, 50, Purpose::Overlay);
    let id = node.links[&quiet].node.expect("known");
    for (number, peer) in begun.iter().enumerate().take(4) {
        let id = node.links[peer].node.expect("a member");
        told(&mut node, at(200), *peer, PeerEvent::Welcome { record: record(id, 1, 1), clock_ms: at(200).wall_ms });
        assert!(!node.detector.misses(&ControllerId([50; 32])), "{number} are no crowd");
        idle_until(&mut node, at(300 + 1100 * number as u64));
        told(&mut node, at(300 + 1100 * number as u64), *peer, PeerEvent::Silent);
    }
    assert!(node.detector.misses(&id));
    let unanswered = begun.last().and_then(|peer| node.links[peer].node).expect("a member");
    assert!(!node.detector.misses(&unanswered));
    idle_until(&mut node, at(5000));
    assert!(node.detector.misses(&unanswered));
}

/// All ticks of monitor idle that are due until then, in time: whoever is late is slow, and not in need.
fn idle_until(node: &mut Node, end: Now) {
    while let Some(due) = node.idle_due().filter(|due| *due <= end.mono) {
        node.handle(Now { mono: due, wall_ms: end.wall_ms }, Input::Idle, &mut Vec::new());
    }
}

fn last(address: SocketAddr) -> u8 {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}
