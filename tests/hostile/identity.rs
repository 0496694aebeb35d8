//! Cases 25 to 28: who is who, with two connections, two names or two processes of one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use kithd::protocol::message::{News, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, Signer};
use kithd::secure::keys::Identity;

use crate::bystanders::Bystanders;
use crate::daemon::{Network, Setup, closed_port};
use crate::evil_peer::{answers, counted};
use crate::patience::{SOON, throughout, until};
use crate::report::{agreed, agreed_and, closed_for, edges, established, rows_of};
use crate::stranger::{Line, Stranger, Trap, heartbeat, wall_ms};

/// Two nodes that dial each other at the same moment have two edges, and both stay.
#[test]
fn case_25_an_edge_in_each_direction_is_two_edges() {
    let network = Network::new();
    let (one, two) = (closed_port(), closed_port());
    let a = network.node("a").listen(&[one]).connect(two).start();
    let b = network.node("b").listen(&[two]).connect(one).start();
    agreed_and(&[&a, &b], |view| edges(view).len() == 2);
    let before = [&a, &b].map(|node| established(&node.peers()));
    assert_eq!(before.each_ref().map(|edges| edges.len()), [2, 2]);
    throughout("the same two stay", Duration::from_secs(4), || {
        let now = [&a, &b].map(|node| established(&node.peers()));
        if now == before { Ok(()) } else { Err(format!("{now:?}, {before:?} before")) }
    });
}

/// Also with somebody who is no node of ours: the node dials him while he dials it, and both lines stand.
#[test]
fn case_25_a_stranger_who_dials_while_he_is_dialled_has_two_edges() {
    let network = Network::new();
    let trap = Trap::new(&network, "both");
    let node = network.node("node").connect(trap.address).start();
    let mut dialled = trap.catch(&node);
    let mut dialling = trap.stranger.dial(&node);
    dialled.tell(&trap.stranger.welcome());
    until("both are edges", SOON, || {
        let rows = node.peers();
        let count =
            rows_of(&rows, Some(&trap.stranger.id())).iter().filter(|row| row["state"] == "established").count();
        if count == 2 { Ok(()) } else { Err(format!("{count}")) }
    });
    dialling.tell(&heartbeat(7));
    answers(&mut dialling, 7);
    while !matches!(dialled.hear::<TailMessage>(), Some(TailMessage::Heartbeat { .. }) | None) {}
    assert!(!node.peers().iter().any(|row| row["close_reason"] == "replaced"), "{:?}", node.peers());
}

/// Two connections of one identity in one direction: the newer one stands, however often.
#[test]
fn case_26_a_newer_connection_takes_the_place_of_the_older() {
    let nodes = Bystanders::new();
    let stranger = Stranger::new(&nodes.network, "twice");
    let mut line = stranger.dial(&nodes.node);
    for _ in 0..20 {
        let mut newer = stranger.dial(&nodes.node);
        assert_eq!(line.dismissed(), Some(Reason::Replaced));
        newer.tell(&heartbeat(7));
        answers(&mut newer, 7);
        line = newer;
    }
    closed_for(&nodes.node, Some(&stranger.id()), "replaced");
    let rows = nodes.node.peers();
    let open = rows_of(&rows, Some(&stranger.id())).iter().filter(|row| row["state"] == "established").count();
    assert_eq!(open, 1);
    nodes.are_unharmed();
}

/// Before he has shown who he is he replaces nobody: a name on the first record is not enough.
#[test]
fn case_26_nobody_is_replaced_by_a_name() {
    let nodes = Bystanders::new();
    let victim = Stranger::new(&nodes.network, "victim");
    let mut line = victim.dial(&nodes.node);
    // The record is the victim's own and good; the key that made the connection is another.
    let mut thief = Line::to(nodes.node.address);
    thief.secure(&Stranger::new(&nodes.network, "thief"), kithd::protocol::message::Purpose::Overlay);
    thief.tell(&victim.hello(&nodes.node));
    assert_eq!(thief.dismissed(), None);
    counted(&nodes.node, "identity-mismatch", 1);
    line.tell(&heartbeat(1));
    answers(&mut line, 1);
    nodes.are_unharmed();
}

/// A label is no identity: two nodes of one label are two nodes, shown with their ids, and a verb that is given the label
/// asks which one is meant.
#[test]
fn case_27_two_nodes_of_one_label_are_two_nodes() {
    let network = Network::new();
    let a = network.start("twin");
    let b = network.node("twin").connect(a.address).start();
    let third = network.node("third").connect(a.address).start();
    for node in [&a, &b, &third] {
        until("it warns", SOON, || {
            let warnings = node.status()["warnings"].to_string();
            if warnings.contains("twin") { Ok(()) } else { Err(warnings) }
        });
    }
    assert_ne!(a.id, b.id);
    let shown = third.client(&["network"]).stdout;
    for node in [&a, &b] {
        assert!(shown.contains(&node.id[..8]), "{shown}");
    }
    until("third knows both", SOON, || match third.network()["nodes"].as_array().map(Vec::len) {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for verb in ["disconnect", "ban", "forget"] {
        let asked = third.client(&[verb, "twin"]);
        assert!(asked.one_line(1).contains("may be twin ("), "{verb}: {asked:?}");
    }
    let banned = third.client(&["ban", &a.id[..16]]);
    assert_eq!(banned.code, Some(0), "{banned:?}");
    closed_for(&third, Some(&a.id), "banned");
}

/// A node that is to start with the key of another.
fn with_the_key_of(setup: Setup, other: &Setup) -> Setup {
    fs::create_dir(setup.state_dir()).unwrap();
    fs::set_permissions(setup.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(other.state_dir().join("identity.key"), setup.state_dir().join("identity.key")).unwrap();
    setup
}

/// A state directory that was copied: two processes are one identity. Both say so, and one of them gives way.
#[test]
fn case_28_of_two_nodes_with_one_identity_one_gives_way() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let mut copy = with_the_key_of(network.node("copy").connect(a.address), b.setup()).start();
    assert_eq!(copy.id, b.id);

    let codes = until("one of them has ended", SOON, || {
        let codes = [b.has_ended(), copy.has_ended()].map(|ended| ended.map(|status| status.code()));
        if codes.iter().any(Option::is_some) { Ok(codes) } else { Err("both run".to_owned()) }
    });
    assert!(matches!(codes, [Some(Some(4)), None] | [None, Some(Some(4))]), "{codes:?}");
    let (ended, stays) = if codes[0].is_some() { (&b, &copy) } else { (&copy, &b) };
    assert!(ended.stderr().contains("duplicate-identity"), "{}", ended.stderr());
    agreed(&[&a, stays]);
}

/// Whoever has stolen a node's key is seen by the node itself: at its door, and in the news that others bring.
#[test]
fn case_28_a_node_notices_records_of_its_own_that_it_did_not_make() {
    let nodes = Bystanders::new();
    let key = nodes.node.setup().state_dir().join("identity.key");
    let mut thief = Stranger::new(&nodes.network, "thief");
    thief.identity = Identity::load_or_create(&key).unwrap();
    // Lesser than any the node draws: so that it is the other one who has to give way.
    (thief.body.id, thief.body.incarnation) = (thief.identity.id(), 0);

    let mut line = Line::to(nodes.node.address);
    line.secure(&thief, kithd::protocol::message::Purpose::Overlay);
    line.tell(&thief.hello(&nodes.node));
    assert_eq!(line.dismissed(), Some(Reason::Myself));
    counted(&nodes.node, "self", 1);

    let fence = Stranger::new(&nodes.network, "fence");
    let mut line = fence.dial(&nodes.node);
    for ahead in [1_000_000, 2_000_000] {
        thief.body.version = wall_ms() + u64::from(ahead);
        let items = [Item::Record(thief.record())].into_iter().collect();
        line.tell(&TailMessage::Push(News { items, ..News::default() }));
        line.tell(&heartbeat(ahead));
        answers(&mut line, ahead);
    }
    until("the node warns", SOON, || {
        let warnings = nodes.node.status()["warnings"].to_string();
        if warnings.contains("another process uses this node's identity") { Ok(()) } else { Err(warnings) }
    });
    until("its own record stands again, everywhere", SOON, || {
        let view = nodes.neighbour.network().to_string();
        if view.contains("\"node\"") && !view.contains("\"thief\"") { Ok(()) } else { Err(view) }
    });
    nodes.are_unharmed();
}
