//! A node's report: asked for, written to a file again and again, dumped on a signal.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::Network;
use crate::patience::{SOON, until};
use crate::report::agreed;

/// Every field of the contract. A new one belongs in the documentation, then here.
const FIELDS: [&str; 58] = [
    "schema",
    "id",
    "label",
    "version",
    "network",
    "uptime_seconds",
    "listen",
    "advertise",
    "peers",
    "peers.outgoing",
    "peers.incoming",
    "peers.handshaking",
    "peers.known_addresses",
    "network_view",
    "network_view.nodes",
    "network_view.up",
    "network_view.suspect",
    "network_view.down",
    "network_view.left",
    "network_view.edges",
    "network_view.digest",
    "network_view.agreement",
    "network_view.agreement.agreeing",
    "network_view.agreement.live",
    "network_view.agreement.unanimous",
    "network_view.agreement.radius",
    "network_view.agreement.age_seconds",
    "network_view.agreement.since",
    "network_view.agreement.held_seconds",
    "heartbeat",
    "heartbeat.sent",
    "heartbeat.answered",
    "heartbeat.timed_out",
    "heartbeat.rtt_ms",
    "heartbeat.rtt_ms.p50",
    "heartbeat.rtt_ms.p99",
    "traffic",
    "traffic.bytes_in",
    "traffic.bytes_out",
    "traffic.frames_in",
    "traffic.frames_out",
    "requests",
    "requests.issued",
    "requests.answered",
    "requests.served",
    "requests.failed",
    "requests.unserved",
    "requests.refused",
    "dropped",
    "refused",
    "threads",
    "memory",
    "memory.rss_bytes",
    "memory.budget_bytes",
    "memory.queued_bytes",
    "wakeups_per_second",
    "expected_missing",
    "warnings",
];

fn fields(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        // Of these the fields are reasons.
        if !["dropped", "refused", "requests.refused"].contains(&path.as_str()) {
            fields(inner, &format!("{path}."), found);
        }
        found.insert(path);
    }
}

#[test]
fn status_has_exactly_the_fields_of_the_contract() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let status = until("a has measured a round trip", SOON, || {
        let status = a.status();
        let measured = status["heartbeat"]["rtt_ms"].is_object();
        if measured { Ok(status.clone()) } else { Err(status["heartbeat"].to_string()) }
    });
    let mut found = BTreeSet::new();
    fields(&status, "", &mut found);
    assert_eq!(found, FIELDS.iter().map(ToString::to_string).collect());

    assert_eq!(status["schema"], 1);
    assert_eq!((status["id"].as_str(), status["label"].as_str()), (Some(a.id.as_str()), Some("a")));
    assert_eq!((status["network"].as_str(), status["version"].as_str()), (Some(network.name()), Some("0.1.0")));
    assert_eq!(status["advertise"], a.address.to_string());
    assert_eq!(status["listen"], serde_json::json!([a.address.to_string()]));
    assert!(status["memory"]["rss_bytes"].as_u64() > Some(0) && status["traffic"]["frames_in"].as_u64() > Some(0));
    assert!(status["network_view"]["agreement"]["since"].as_str().is_some_and(|since| since.ends_with('Z')));

    let peers = a.json(&["peers"]);
    assert_eq!(peers["schema"], 1);
    let names: BTreeSet<_> = peers["peers"][0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "peer_id",
        "direction",
        "purpose",
        "state",
        "id",
        "label",
        "address",
        "since",
        "key",
        "rtt_ms",
        "heartbeat_outstanding_ms",
        "bytes_in",
        "bytes_out",
        "queued_bytes",
        "close_reason",
    ];
    assert_eq!(names, expected.into());
}

#[test]
fn status_and_peers_are_tables_for_people() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let status = a.client(&["status"]);
    assert_eq!((status.code, status.stderr.as_str()), (Some(0), ""), "{status:?}");
    for word in [&a.id[..8], &a.address.to_string(), "2 nodes", "2 of 2", "heartbeat", "threads"] {
        assert!(status.stdout.contains(word), "no {word:?} in\n{}", status.stdout);
    }
    let peers = a.client(&["peers"]);
    assert_eq!((peers.code, peers.stderr.as_str()), (Some(0), ""), "{peers:?}");
    for word in [&b.id[..8], &b.address.to_string(), "established"] {
        assert!(peers.stdout.contains(word), "no {word:?} in\n{}", peers.stdout);
    }
}

/// Whoever reads the file finds a whole report, however often it is replaced.
#[test]
fn the_status_file_is_replaced_as_a_whole() {
    let network = Network::new();
    let setup = network.node("a");
    let (home, file) = (setup.home().to_owned(), setup.home().join("status.json"));
    let a = setup.with(&["--monitor-status-period", "100ms", "--monitor-status-file", file.to_str().unwrap()]).start();

    until("the file is there", SOON, || fs::metadata(&file).map(drop).map_err(|error| error.to_string()));
    let mut inodes = BTreeSet::new();
    let mut reads = 0;
    until("it was replaced ten times", SOON, || {
        for _ in 0..100 {
            let text = fs::read_to_string(&file).unwrap();
            let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert_eq!((&report["schema"], report["id"].as_str()), (&Value::from(1), Some(a.id.as_str())));
            // The system may give a new file the place of one that is gone; its time tells them apart.
            let metadata = fs::metadata(&file).unwrap();
            inodes.insert((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
            reads += 1;
        }
        if inodes.len() >= 10 { Ok(()) } else { Err(format!("{} versions", inodes.len())) }
    });
    println!("{} versions in {reads} reads", inodes.len());
    // While one is written, and only then, there is a temporary file.
    until("no temporary file is left", SOON, || {
        let names = fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let others: Vec<_> =
            names.filter(|name| !["state", "stderr", "status.json"].contains(&name.as_str())).collect();
        if others.is_empty() { Ok(()) } else { Err(format!("{others:?}")) }
    });
}

#[test]
fn sigusr1_dumps_the_report() {
    let network = Network::new();
    let setup = network.node("a");
    let file = setup.home().join("status.json");
    let a = setup.with(&["--monitor-status-period", "24h", "--monitor-status-file", file.to_str().unwrap()]).start();
    let uptime = || {
        let report: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).unwrap();
        report["uptime_seconds"].as_f64()
    };
    let (before, said) = (uptime(), a.stderr().len());
    for round in 1..=2 {
        let last = uptime();
        a.signal(Signal::USR1);
        until(&format!("the file is new for the {round}. time"), SOON, || {
            let now = uptime();
            if now > last { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
        });
    }
    until("the log has it too", SOON, || {
        let log = a.stderr();
        let new = log.get(said..).unwrap_or_default();
        if new.contains(&a.id[..8]) || new.contains("agree") { Ok(()) } else { Err(format!("it says {new:?}")) }
    });
}

/// A status file that cannot be written is a warning, not the end.
#[test]
fn a_status_file_that_cannot_be_written_is_a_warning() {
    let network = Network::new();
    let setup = network.node("a");
    let directory = setup.home().join("status.json");
    fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    let a = setup.with(&["--monitor-status-period", "100ms", "--monitor-status-file", path]).start();
    until("the status warns of it", SOON, || {
        let warnings = a.status()["warnings"].to_string();
        if warnings.contains("status.json") { Ok(()) } else { Err(warnings) }
    });
}
