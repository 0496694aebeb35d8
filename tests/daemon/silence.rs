//! A node that stops answering is missed by all, and is back when it answers again.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, throughout, until};
use crate::report::{agreed, closed_for, closed_for_any, statuses};

fn shown_as(watchers: &[&Daemon], label: &str, status: &str) {
    for watcher in watchers {
        until(&format!("{} shows {label} {status}", watcher.label), SOON, || {
            let view = watcher.network();
            let shown = statuses(&view).get(label).copied().unwrap_or("unknown").to_owned();
            if shown == status { Ok(()) } else { Err(shown) }
        });
    }
}

/// No other node is down in this view, and none is accused by that node. It may read for a moment that itself was.
fn accuses_nobody(view: &Value, accuser: &Daemon) -> Result<(), String> {
    let nodes = view["nodes"].as_array().unwrap();
    let accused = nodes.iter().filter(|node| {
        let others = node["id"] != accuser.id && node["status"] == "down";
        others || node["witnesses"].as_array().unwrap().iter().any(|witness| *witness == accuser.id)
    });
    let accused: Vec<_> = accused.map(|node| format!("{} {}", node["label"], node["status"])).collect();
    if accused.is_empty() { Ok(()) } else { Err(format!("{accused:?}")) }
}

/// Stops a node for that long at least; the others miss it, and it misses nobody when it wakes.
fn stopped_for(span: Duration) {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);

    b.signal(Signal::STOP);
    let stopped = Instant::now();
    for other in [&a, &c] {
        closed_for(other, Some(&b.id), "heartbeat-timeout");
    }
    shown_as(&[&a, &c], "b", "down");
    assert_eq!(a.client(&["network"]).code, Some(1), "a known node is down");
    std::thread::sleep(span.saturating_sub(stopped.elapsed()));

    b.signal(Signal::CONT);
    throughout("the woken one declares nobody down", Duration::from_secs(4), || accuses_nobody(&b.network(), &b));
    agreed(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        accuses_nobody(&node.network(), &b).unwrap();
    }
    assert_eq!(a.client(&["network"]).code, Some(0));
}

#[test]
fn a_stopped_node_is_missed_and_misses_nobody_when_it_wakes() {
    stopped_for(Duration::from_secs(8));
}

/// `cargo test --test daemon -- --ignored a_node_stopped_for_a_minute`
#[test]
#[ignore = "takes more than a minute"]
fn a_node_stopped_for_a_minute_misses_nobody_when_it_wakes() {
    stopped_for(Duration::from_secs(60));
}

/// The system closes a killed process's connections, so nobody has to wait for a timeout.
#[test]
fn a_killed_node_is_noticed_and_comes_back_as_itself() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);

    b.kill();
    for other in [&a, &c] {
        closed_for_any(other, Some(&b.id), &["reset", "end-of-stream"]);
    }
    shown_as(&[&a, &c], "b", "down");

    let id = b.id.clone();
    b.start_again();
    assert_eq!(b.id, id);
    agreed(&[&a, &b, &c]);
}

/// What it wrote down of its network is enough: nobody tells it an address, and it is where nobody looks for it.
#[test]
fn a_killed_node_finds_its_network_again_from_what_it_kept() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let kept = b.setup().state_dir().join("known.json");
    until("b has written down where a is", SOON, || {
        let text = fs::read_to_string(&kept).unwrap_or_default();
        if text.contains(&a.address.to_string()) { Ok(()) } else { Err(format!("known.json is {text:?}")) }
    });
    b.kill();
    shown_as(&[&a], "b", "down");

    let before = (b.id.clone(), b.address);
    b = b.setup().clone().knowing_nobody().start();
    assert_eq!(b.id, before.0);
    assert_ne!(b.address, before.1);
    agreed(&[&a, &b]);
}
