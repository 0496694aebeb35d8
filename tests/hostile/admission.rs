//! Cases 16 to 18: strangers by the hundred, and neighbours who fall silent.

use kithd::protocol::codec::Preamble;
use kithd::protocol::message::Purpose;
use kithd::protocol::reason::Reason;
use kithd::protocol::record::NetworkId;
use socket2::{Domain, Socket, Type};

use crate::bystanders::Bystanders;
use crate::daemon::{Network, closed_port};
use crate::evil_peer::counted;
use crate::handshake::with_another_key;
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for, refused};
use crate::stranger::{Line, Stranger, Trap};

/// Two hundred first messages at once, of somebody who does not hold the key: a few are looked at, a second each, and
/// the others cost neither a thread nor a key. Whoever comes from elsewhere comes in meanwhile.
#[test]
fn case_16_a_network_that_comes_too_fast_is_closed_and_others_come_in() {
    let flags = ["--limits-exempt-loopback", "false", "--limits-connections-burst", "20"];
    let slow = ["--limits-connections-per-prefix", "1", "--limits-handshake-timeout", "2m"];
    let mut nodes = Bystanders::with(&[flags, slow].concat());
    nodes.measure();
    let first = with_another_key(NetworkId::of(nodes.network.name()));
    let mut flood = Vec::new();
    for host in 1..=200 {
        let mut line = Line::from([127, 0, 7, host], nodes.node.address);
        line.send(&first);
        flood.push(line);
    }
    let counts = || ["too-fast", "network-key"].map(|reason| refused(&nodes.node, reason));
    until("all are refused", SOON, || match counts() {
        [fast, wrong] if fast + wrong == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Each second lets one in: on a slow machine so many are looked at.
    let [fast, wrong] = counts();
    println!("{fast} of 200 were too fast, {wrong} were looked at");
    assert!(fast >= 50 && wrong >= 20, "{fast} {wrong}");
    for line in &mut flood {
        assert_eq!(line.rest(), b"");
    }
    let mut other = Line::from([127, 0, 8, 1], nodes.node.address);
    let from = other.socket.local_addr().unwrap().as_socket().unwrap().to_string();
    until("the other network's connection is taken in", SOON, || {
        let rows = nodes.node.peers();
        let open = rows.iter().any(|row| row["address"] == from && row["state"] == "handshaking");
        if open { Ok(()) } else { Err(format!("{} rows", rows.len())) }
    });
    assert!(other.is_open());

    // Ten lines a minute for each reason, whatever comes; the test may run into the next minute, hardly into a third.
    nodes.node.says("too-fast");
    let log = nodes.node.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("too-fast")).collect();
    assert!((1..=21).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines[0].contains("refused 127.0.7."), "{}", lines[0]);
    nodes.are_unharmed();
    nodes.grew_at_most(16);
}

#[test]
fn case_17_the_oldest_stranger_makes_room_for_the_next() {
    let flags = ["--limits-max-pending", "10", "--limits-handshake-timeout", "2m"];
    let nodes = Bystanders::with(&flags);
    let mut silent: Vec<Line> = (1..=10).map(|host| Line::from([127, 0, 1, host], nodes.node.address)).collect();
    until("all ten wait", SOON, || match nodes.node.status()["peers"]["handshaking"].as_u64() {
        Some(10) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let eleventh = Line::from([127, 0, 1, 11], nodes.node.address);
    assert_eq!(silent[0].rest(), b"");
    counted(&nodes.node, "too-many-pending", 1);
    assert!(silent.into_iter().skip(1).chain([eleventh]).all(|mut line| line.is_open()));
    counted(&nodes.node, "too-many-pending", 1);
    nodes.are_unharmed();
}

/// Two nodes find each other though silent strangers hold all the places there are.
#[test]
fn case_17_a_crowd_of_strangers_does_not_keep_a_node_out() {
    let nodes = Bystanders::with(&["--limits-max-pending", "16", "--limits-handshake-timeout", "2m"]);
    let crowd: Vec<Line> = (1..=64).map(|host| Line::from([127, 0, 1, host], nodes.node.address)).collect();
    counted(&nodes.node, "too-many-pending", 48);
    let late = nodes.network.node("late").connect(nodes.node.address).start();
    agreed(&[&nodes.node, &nodes.neighbour, &late]);
    nodes.are_unharmed();
    drop(crowd);
}

/// So many may wait to introduce themselves, and only so long.
#[test]
fn case_17_silent_connections_are_bounded_and_closed() {
    let mut nodes = Bystanders::with(&["--limits-handshake-timeout", "1s"]);
    nodes.measure();
    let lines: Vec<Line> = (0..200).map(|_| Line::to(nodes.node.address)).collect();
    until("those above the bound are refused, the others time out", SOON, || {
        let (many, late) = (refused(&nodes.node, "too-many-pending"), refused(&nodes.node, "handshake-timeout"));
        // On a slow machine the first ones are gone before the last ones come, and an honest one may be late.
        if many + late >= 200 && late >= 128 { Ok(()) } else { Err(format!("{many} refused, {late} late")) }
    });
    for mut line in lines {
        assert_eq!(line.rest(), b"");
    }
    // Half of them begin and do not end.
    let mut lines: Vec<Line> = (0..100).map(|_| Line::to(nodes.node.address)).collect();
    for line in &mut lines {
        line.send(&[&Preamble::of(1, Purpose::Overlay).to_bytes()[..], &[0, 0, 1]].concat());
    }
    let late = nodes.network.node("late").connect(nodes.node.address).start();
    agreed(&[&nodes.node, &nodes.neighbour, &late]);
    for mut line in lines {
        assert_eq!(line.rest(), b"");
    }
    // So does one who shows that he holds the key, and then does not say who he is.
    let mut line = Line::to(nodes.node.address);
    line.secure(&Stranger::new(&nodes.network, "shy"), Purpose::Overlay);
    let before = refused(&nodes.node, "handshake-timeout");
    assert_eq!(line.rest(), b"");
    until("he is counted", SOON, || {
        let now = refused(&nodes.node, "handshake-timeout");
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    });
    nodes.are_unharmed();
    // 256 threads at a time at the most, each with the pages of its stack that it has touched.
    nodes.grew_at_most(24);
}

/// Whoever is silent on an edge that stands is missed by both kinds of neighbour, and whoever accepts nothing is no edge
/// at all. (Times are the design's and not the list's: heartbeats each second, a little for the answer, and a probe.)
#[test]
fn case_18_who_falls_silent_is_left() {
    let network = Network::new();
    let trap = Trap::new(&network, "silent-head");
    let nodes = Bystanders::new();
    let dialler = network.node("dialler").connect(trap.address).start();
    let mut head = trap.catch(&dialler);
    head.tell(&trap.stranger.welcome());
    let silent = Stranger::new(&nodes.network, "silent-tail");
    let mut tail = silent.dial(&nodes.node);
    assert_eq!(tail.dismissed(), Some(Reason::HeartbeatTimeout));
    closed_for(&nodes.node, Some(&silent.id()), "heartbeat-timeout");
    assert_eq!(head.abandoned(), Some(Reason::HeartbeatTimeout));
    closed_for(&dialler, Some(&trap.stranger.id()), "heartbeat-timeout");
    for node in [&nodes.node, &dialler] {
        assert!(node.status()["heartbeat"]["timed_out"].as_u64() > Some(0), "{}", node.status());
    }
    nodes.are_unharmed();
}

/// A host that is off answers no first packet: as here, where a queue of connections is full.
#[test]
fn case_18_a_dial_without_an_answer_ends() {
    let nodes = Bystanders::new();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&closed_port().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let waiting: Vec<Socket> = (0..8).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    for socket in &waiting {
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
    }
    let failed = nodes.node.client(&["connect", &address.as_socket().unwrap().to_string(), "--format", "json"]);
    assert!(failed.code == Some(1) && failed.stdout.contains("connect-timeout"), "{failed:?}");
    closed_for(&nodes.node, None, "connect-timeout");
    nodes.are_unharmed();
}
