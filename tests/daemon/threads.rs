//! The loops are threads of the system, by their names; a peer is one more, and a few wait for the next. An idle node sleeps.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::agreed;

const LOOPS: [&str; 11] = [
    "kithd",
    "ctl-main",
    "ctl-listen",
    "ctl-idle",
    "ctl-status",
    "ctl-discovery",
    "reactor",
    "admin",
    "resolver",
    "signals",
    "log",
];

fn threads(daemon: &Daemon) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    // One may end while we look.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim_end().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_node_has_its_loops_and_a_thread_for_each_peer() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);

    for node in [&a, &b, &c] {
        until(&format!("{} has exactly its threads", node.label), SOON, || {
            let open = node.json(&["peers"])["peers"].as_array().unwrap().clone();
            let peers: BTreeSet<String> = open.iter().map(|row| format!("peer-{}", row["peer_id"])).collect();
            let mut expected: Vec<String> = LOOPS.iter().map(ToString::to_string).chain(peers).collect();
            expected.sort();
            let (before, told, found) = (threads(node).len(), node.status()["threads"].clone(), threads(node));
            let all = found.len();
            let (spare, found): (Vec<String>, Vec<String>) = found.into_iter().partition(|name| name == "peer-spare");
            if found == expected && open.len() >= 2 && told == before && before == all && spare.len() <= 16 {
                return Ok(());
            }
            Err(format!("{told} threads by its status, {found:?} found and not {expected:?}"))
        });
    }
}

#[test]
fn a_lone_node_wakes_for_its_timers_only() {
    let network = Network::new();
    let a = network.start("a");
    a.status();
    // The report counts since the one before it, and asking costs a few wake-ups itself: hence the pause between.
    until("a sleeps", SOON, || {
        std::thread::sleep(Duration::from_secs(3));
        let wakeups = a.status()["wakeups_per_second"].as_f64().unwrap();
        println!("{wakeups:.1} wake-ups per second");
        if wakeups < 5.0 { Ok(()) } else { Err(format!("it wakes {wakeups} times a second")) }
    });
}
