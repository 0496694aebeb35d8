//! A node on a small machine: `config/constrained.toml` as it is, 64 descriptors, 16 MiB, and everybody against it.
//!
//! As root the system holds the node to the 16 MiB (a cgroup). Everywhere the test looks at what is the node's alone
//! (`RssAnon`): the text of a program that is not optimised is larger than that, and is the file system's. A bound on
//! addresses (`ulimit -v`) would say nothing: each thread reserves a stack, of which it touches little.

#[path = "constrained/cage.rs"]
mod cage;
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[path = "constrained/floods.rs"]
#[allow(dead_code, reason = "shared with a bench, which uses more of it")]
mod floods;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/report.rs"]
mod report;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/stranger.rs"]
mod stranger;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use kithd::protocol::record::NetworkId;
use serde_json::Value;

use cage::Cage;
use daemon::{Daemon, Network};
use patience::{SOON, until};
use report::{agreed_and, edges, established, shown_as};
use stranger::Line;

const MEMORY: usize = 16 << 20;
const DESCRIPTORS: usize = 64;
/// The good neighbour shares a few processors with those who attack.
const PATIENT: [&str; 2] = ["--heartbeat-timeout", "60s"];

/// What the process has taken of something, in bytes.
fn memory(node: &Daemon, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn descriptors(node: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

/// The node's report, once it has a place for who asks.
fn status(node: &Daemon) -> Value {
    until("the node answers", SOON, || {
        let ended = node.client(&["status", "--format", "json"]);
        serde_json::from_str(&ended.stdout).map_err(|_| ended.stderr)
    })
}

/// The established connections between these, as the first one counts them.
fn between(a: &Daemon, b: &Daemon) -> BTreeSet<u64> {
    let rows: Vec<Value> = a.peers().into_iter().filter(|row| row["id"] == b.id.as_str()).collect();
    established(&rows)
}

#[test]
fn a_small_node_lives_through_floods_within_its_bounds_and_says_what_it_refused() {
    let cage = Cage::new(MEMORY, None);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/constrained.toml");
    let network = Network::new();
    let bounds = cage.as_ref().map(Cage::entry).unwrap_or_else(|| {
        println!("without a cgroup: only root can have one");
        String::new()
    });
    let setup = network.node("small").with(&["--config", file.to_str().unwrap()]);
    let mut node = setup.under(&format!("{bounds}ulimit -n {DESCRIPTORS} && exec")).start();
    let good = network.node("good").with(&PATIENT).connect(node.address).start();
    agreed_and(&[&node, &good], |view| edges(view).len() == 2);
    let before = between(&node, &good);
    assert_eq!(before.len(), 2);
    assert_eq!(node.status()["warnings"], Value::Array(Vec::new()), "the file wants no more than there is");

    let (over, anon, files) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        let flooding = scope.spawn(|| floods::all(NetworkId::of(network.name()), node.address, &over));
        until("each flood was met with its reason", SOON * 2, || {
            anon.fetch_max(memory(&node, "RssAnon"), Ordering::Relaxed);
            files.fetch_max(descriptors(&node) as u64, Ordering::Relaxed);
            let said = status(&node);
            let refused = |reason: &str| said["refused"][reason].as_u64().unwrap_or(0);
            let strangers = ["too-fast", "not-kithd", "network-key", "frame-too-large"].map(refused);
            let calls = &said["requests"]["refused"];
            let is_met = strangers.iter().all(|count| *count > 0)
                && refused("too-fast") > 500
                && calls.as_object().is_some_and(|calls| !calls.is_empty());
            if is_met { Ok(()) } else { Err(format!("{} {calls}", said["refused"])) }
        });
        over.store(true, Ordering::Relaxed);
        flooding.join().unwrap()
    });
    println!("{done:?}");
    let (anon, files) = (anon.into_inner(), files.into_inner());
    println!("at most {} KiB of its own, and {files} descriptors", anon >> 10);
    println!(
        "with all that the system keeps for it: {:?} KiB",
        cage.as_ref().and_then(Cage::peak).map(|peak| peak >> 10)
    );
    assert!(anon < MEMORY as u64, "{anon} bytes");
    crowd_of_admin_clients(&node);

    assert!(node.has_ended().is_none());
    assert_eq!(between(&node, &good), before, "the good neighbour's edges");
    let said = node.stderr();
    assert!(!said.contains("panicked") && !said.contains("internal error"), "{said}");
    assert!(said.lines().count() < 400, "{said}");
    assert!(memory(&node, "RssAnon") < MEMORY as u64);
    // Those who only came to ask are in the view as well, and are gone: they agree with nobody.
    shown_as(&[&node], "good", "up");
    shown_as(&[&good], "small", "up");
}

/// One more than there are places is told so, and those who hold one with half a line have to go.
fn crowd_of_admin_clients(node: &Daemon) {
    let mut crowd: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&node.socket).unwrap()).collect();
    for socket in &mut crowd {
        // Who is turned away already cannot say it.
        let _ = socket.write_all(b"{\"verb\": \"status\"");
    }
    let told = |socket: UnixStream| {
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut line = String::new();
        let _ = BufReader::new(socket).read_line(&mut line);
        line
    };
    let told: Vec<String> = crowd.into_iter().map(told).collect();
    let count = |what: &str| told.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("overloaded"), count("has to be finished")), (17, 3), "{told:?}");
    status(node);
}

/// With fewer descriptors than its limits want a node says so, and calls nobody dead whom it cannot dial.
#[test]
fn a_node_whose_limits_want_more_than_there_is_says_so_and_goes_on() {
    let network = Network::new();
    let node = network.node("short").with(&["--limits-handshake-timeout", "2s"]).limited_to(28).start();
    let warnings = node.status()["warnings"].to_string();
    assert!(warnings.contains("the system for 28") && warnings.contains("config/constrained.toml"), "{warnings}");
    node.says("the limits allow for 1446 open files at a time, and the system for 28");
    let good = network.node("good").with(&PATIENT).connect(node.address).start();
    agreed_and(&[&node, &good], |view| edges(view).len() == 2);
    let silent: Vec<Line> = (0..60).map(|_| Line::to(node.address)).collect();
    until("strangers are turned away for want of descriptors", SOON, || {
        let said = node.stderr();
        if said.contains("Too many open files") { Ok(()) } else { Err(said) }
    });
    drop(silent);
    assert!(status(&node)["refused"]["overloaded"].as_u64() > Some(0));
    let other = network.node("other").with(&PATIENT).connect(node.address).start();
    agreed_and(&[&node, &good, &other], |_| true);
    assert!(!node.stderr().contains("is down"), "{}", node.stderr());
}
