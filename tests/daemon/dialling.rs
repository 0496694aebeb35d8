//! Whom a node dials, and whom it does not: itself, or in vain one after the other.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::daemon::{Network, closed_port};
use crate::patience::{SOON, throughout, until};
use crate::report::{agreed, established, rows_of};

/// The address it advertises it knows without asking.
#[test]
fn a_node_does_not_dial_the_address_it_advertises() {
    let network = Network::new();
    let own = closed_port();
    let a = network.node("a").listen(&[own]).connect(own).start();
    throughout("it dials nobody", Duration::from_secs(3), || {
        let rows = a.peers();
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    // Asked for by the user, it is refused all the same.
    let ended = a.client(&["connect", &own.to_string(), "--format", "json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains(r#""self""#), "{ended:?}");
}

/// Closed ports, systems that accept and say nothing, and a name without an address, before one where somebody is.
#[test]
fn ten_unreachable_addresses_do_not_delay_the_eleventh() {
    let network = Network::new();
    let a = network.start("a");
    let silent: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let silent_at = silent.iter().map(|listener| listener.local_addr().unwrap());
    let mut setup = network.node("b").connect("no-such-host.invalid:7100");
    for address in (0..6).map(|_| closed_port()).chain(silent_at) {
        setup = setup.connect(address);
    }
    let b = setup.connect(a.address).start();

    let ready = Instant::now();
    until("b is connected to a", SOON, || {
        let rows = b.peers();
        let linked = rows_of(&rows, Some(&a.id)).iter().any(|row| row["state"] == "established");
        if linked { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    println!("connected {:.2} s after the ready line, seen by asking", ready.elapsed().as_secs_f64());

    // The other ten are tried again and again, each with its cause.
    until("each of the ten has failed twice", SOON, || {
        let rows = b.peers();
        let count = |reason: &str| rows.iter().filter(|row| row["close_reason"] == reason).count();
        let (refused, silent) = (count("connection-refused"), count("handshake-timeout"));
        let unresolved = b.status()["refused"]["name-not-resolved"].as_u64().unwrap_or(0);
        let shown = format!("{refused} refused, {silent} silent, {unresolved} not resolved");
        if refused >= 12 && silent >= 6 && unresolved >= 1 { Ok(()) } else { Err(shown) }
    });
    agreed(&[&a, &b]);
    assert!(!established(&b.peers()).is_empty());
}

/// A node that was not there yet is found when it is, without anybody's help.
#[test]
fn a_configured_address_is_dialled_until_somebody_is_there() {
    let network = Network::new();
    let later = closed_port();
    let b = network.node("b").connect(later).start();
    until("b has tried twice", SOON, || {
        let refused = b.peers().iter().filter(|row| row["close_reason"] == "connection-refused").count();
        if refused >= 2 { Ok(()) } else { Err(format!("{refused} tries")) }
    });
    let a = network.node("a").listen(&[later]).start();
    agreed(&[&a, &b]);
}

/// Two networks that share a machine do not mix: each refuses the other's nodes, and says why.
#[test]
fn a_node_of_another_network_is_refused() {
    let (one, other) = (Network::new(), Network::new());
    let a = one.start("a");
    let b = other.node("b").connect(a.address).start();
    // The name is part of what the keys are made from: whoever dials under another one hears not a word.
    until("both know that they do not understand each other", SOON, || {
        let found = [(&a, "network-key"), (&b, "no-answer")]
            .map(|(node, reason)| node.peers().iter().any(|row| row["close_reason"] == reason));
        if found == [true, true] { Ok(()) } else { Err(format!("{found:?}, {:?} {:?}", a.peers(), b.peers())) }
    });
    for node in [&a, &b] {
        assert_eq!(node.status()["network_view"]["nodes"], 1);
    }
}
