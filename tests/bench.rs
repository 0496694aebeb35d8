//! `kithd bench` as its user sees it. What it measures is this machine's; that it measures, and what it says, is tested.

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/report.rs"]
mod report;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use daemon::{Daemon, Network, write};
use patience::{SOON, until};
use report::agreed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn bench(args: &[&str]) -> Output {
    let place = tempfile::tempdir().unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_kithd")).arg("bench").args(args).env("TMPDIR", place.path()).output().unwrap();
    let left: Vec<_> = place.path().read_dir().unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    output
}

fn said(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn each_workload_has_its_figures() {
    let output = bench(&["--span", "100ms", "--workloads", "W1,W2,W2c,W2p,W3,W4,W6", "--format", "json"]);
    assert_eq!((output.status.code(), said(&output.stderr)), (Some(0), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["schema"], &report["against"]), (&1.into(), &"pair".into()));
    assert!(report["machine"]["cores"].as_u64() > Some(0));
    for (workload, figures) in [
        ("W1", &["p50_us", "p99_us", "p999_us", "requests_per_second"][..]),
        ("W1_inline", &["p50_us", "p99_us", "p999_us", "requests_per_second"]),
        ("W2", &["requests_per_second", "cpu_us_per_request"]),
        ("W2_inline", &["requests_per_second", "cpu_us_per_request"]),
        ("W2c", &["requests_per_second"]),
        ("W2p", &["requests_per_second"]),
        ("W3", &["requests_per_second"]),
        ("W3_inline", &["requests_per_second"]),
        ("W4", &["mb_per_second"]),
        ("W6", &["connections_per_second", "server_cpu_us_per_connection"]),
    ] {
        let told = &report["workloads"][workload];
        assert!(told["requests"].as_u64() > Some(0), "{workload}: {told}");
        for figure in figures {
            assert!(told[figure].is_f64(), "{workload}: {figure}: {told}");
        }
        if let (Some(p50), Some(p99)) = (told["p50_us"].as_f64(), told["p99_us"].as_f64()) {
            assert!(0.0 < p50 && p50 <= p99, "{workload}: {told}");
        }
    }
    assert!(report["workloads"]["W5"].is_null(), "it was not asked for");
}

#[test]
fn peers_and_payloads_are_as_many_and_as_long_as_wanted() {
    let sizes = ["--peers", "3", "--payload", "300000", "--workloads", "W3,W5,W2"];
    let output = bench(&[&["--span", "100ms", "--format", "json"], &sizes[..]].concat());
    assert_eq!((output.status.code(), said(&output.stderr)), (Some(0), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Not more than 4 MiB are under way on a connection.
    for (workload, peers, window, payload) in [
        ("W2", Value::Null, json!(13), json!(300_000)),
        ("W3_inline", json!(3), json!(13), json!(300_000)),
        ("W5", json!(3), Value::Null, Value::Null),
    ] {
        let told = &report["workloads"][workload];
        assert_eq!(
            (&told["peers"], &told["window"], &told["payload_bytes"]),
            (&peers, &window, &payload),
            "{workload}"
        );
    }
    assert!(report["workloads"]["W5"]["rss_kib_per_peer"].is_f64());
}

#[test]
fn one_that_is_interrupted_ends_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kithd"));
    command.args(["bench", "--span", "1h", "--workloads", "W2p"]).env("TMPDIR", place.path());
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let count = || place.path().read_dir().unwrap().count();
    until("it has begun", SOON, || if count() == 1 { Ok(()) } else { Err("it has no directory".to_owned()) });
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let output = running.wait_with_output().unwrap();
    let line = said(&output.stderr);
    assert_eq!((output.status.code(), line.lines().count(), output.stdout.len()), (Some(1), 1, 0), "{line}");
    assert!(line.contains("interrupted"), "{line}");
    assert_eq!(count(), 0);
}

#[test]
fn what_an_earlier_one_has_said_is_compared() {
    let place = tempfile::tempdir().unwrap();
    let old = place.path().join("old.json");
    std::fs::write(&old, bench(&["--span", "100ms", "--workloads", "W2p", "--format", "json"]).stdout).unwrap();
    let output = bench(&["--span", "100ms", "--workloads", "W2p", "--compare", old.to_str().unwrap()]);
    assert_eq!((output.status.code(), said(&output.stderr)), (Some(0), ""));
    let table = said(&output.stdout);
    assert!(table.contains("BEFORE") && table.contains("W2p") && table.contains("requests_per_second"), "{table}");
    assert!(!table.contains("different machines"), "{table}");
}

#[test]
fn what_it_cannot_do_is_said_in_one_line() {
    for (args, why) in [
        (&["--workloads", "W7"][..], "W7"),
        (&["--span", "1ms"], "must be 100ms to 1h"),
        (&["--peers", "0"], "--peers"),
        (&["--payload", "1048577"], "--payload"),
        (&["--peers", "2", "--connect", "a"], "--connect"),
        (&["--compare", "/no/such/file"], "/no/such/file"),
        (&["--compare", "/dev/null"], "kithd bench --format json"),
    ] {
        let output = bench(args);
        let line = said(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count(), output.stdout.len()), (Some(2), 1, 0), "{line}");
        assert!(line.contains(why), "{line}");
    }
}

/// What a node of this machine has measured against another.
fn against(node: &Daemon, target: &str, args: &[&str]) -> Value {
    let ended = node.client(&[&["bench", "--connect", target, "--span", "100ms", "--format", "json"], args].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn a_live_node_is_measured_with_what_one_connection_can_show() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let told = against(&a, "b", &[]);
    assert_eq!((&told["schema"], &told["against"]), (&json!(1), &json!("b")));
    let mut counted = 0;
    for (workload, figures) in [
        ("W1_inline", &["p50_us", "p99_us", "p999_us", "requests_per_second"][..]),
        ("W2_inline", &["requests_per_second"]),
        ("W2c", &["requests_per_second"]),
        ("W2p", &["requests_per_second"]),
        ("W4_inline", &["mb_per_second"]),
    ] {
        let of = &told["workloads"][workload];
        assert!(of["requests"].as_u64() > Some(0) && of["client_cpu_us_per_request"].is_f64(), "{workload}: {of}");
        assert!(figures.iter().all(|figure| of[figure].is_f64()), "{workload}: {of}");
        assert!(of["server_cpu_us_per_request"].is_null() && of["window"].is_null(), "{workload}: {of}");
        counted += of["requests"].as_u64().unwrap();
    }
    assert!(b.status()["requests"]["served"].as_u64() > Some(counted), "{counted} were counted");
    let skipped = told["skipped"].as_object().unwrap();
    assert_eq!(skipped.keys().collect::<Vec<_>>(), ["W1", "W2", "W3", "W3_inline", "W4", "W5", "W6"]);
    assert!(skipped["W5"].as_str().unwrap().contains("one of an identity in each direction"), "{told}");
    assert!(told["notes"][0].as_str().unwrap().contains("not seen from here"), "{told}");

    let table = a.client(&["bench", "--connect", &b.id[..8], "--span", "100ms", "--workloads", "W1,W6"]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""), "{table:?}");
    for text in ["W1_inline  p50_us", "W1 is left out: ", "W6 is left out: "] {
        assert!(table.stdout.contains(text), "{text}: {}", table.stdout);
    }
}

#[test]
fn a_live_node_that_does_not_take_part_ends_a_bench_in_one_line() {
    let network = Network::new();
    let a = network.start("a");
    let mute = ["--requests-echo", "false"];
    let mut b = network.node("b").connect(a.address).with(&mute).start();
    agreed(&[&a, &b]);
    let ended = |target: &str| a.client(&["bench", "--connect", target, "--span", "100ms", "--workloads", "W1"]);
    assert!(ended("nobody").one_line(1).contains("no node is called \"nobody\""));
    assert!(ended("a").one_line(1).contains("a is this node itself"));
    assert!(ended("b").one_line(1).contains("no service of that name"));
    b.kill();
    let line = ended("b");
    assert!(line.one_line(1).contains("b has not answered a ping"));
    let misnamed = a.client(&["bench", "--workloads", "W1"]);
    assert!(misnamed.one_line(2).contains("give --connect NODE too"));
}

#[test]
fn within_tight_limits_less_is_under_way_and_that_is_said() {
    let network = Network::new();
    let a = network.node("a").with(&["--limits-max-outstanding", "16"]).start();
    let small = ["--limits-max-payload", "512KiB", "--requests-status", "false"];
    let b = network.node("b").connect(a.address).with(&small).start();
    // What echo answers where it arrives is not open for long enough to be many; a program's answers are.
    let slow = network.node("slow").connect(a.address);
    let file = slow.home().join("kithd.toml");
    write(&file, b"[requests]\necho = false\n[services.echo]\ncommand = [\"cat\"]\n[limits]\nmax_outstanding = 2\n");
    let slow = slow.with(&["--config", file.to_str().unwrap()]).start();
    agreed(&[&a, &b, &slow]);
    for (target, window) in [("b", 16), ("slow", 2)] {
        let told = against(&a, target, &["--workloads", "W2,W2c,W2p"]);
        for workload in ["W2_inline", "W2c", "W2p"] {
            let of = &told["workloads"][workload];
            assert_eq!(of["window"], window, "{workload}: {told}");
            assert!(of["requests_per_second"].as_f64() > Some(0.0), "{workload}: {told}");
            let note = format!("{workload}: {window} under way at a time and not 128");
            assert!(told["notes"].to_string().contains(&note), "{told}");
        }
    }
    let told = against(&a, "b", &["--workloads", "W4"]);
    let bulk = &told["workloads"]["W4_inline"];
    assert!(bulk["mb_per_second"].as_f64() > Some(0.0) && bulk["payload_bytes"] == 512 << 10, "{told}");
    for note in ["b does not say what it has served", "W4_inline: payloads of 524288 bytes and not 1048576"] {
        assert!(told["notes"].to_string().contains(note), "{note}: {told}");
    }
}

/// It would go on for an hour: it ends with its client, and with its node.
#[test]
fn a_node_puts_one_load_at_a_time_for_as_long_as_somebody_wants_it() {
    let network = Network::new();
    let mut a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let load = |manner: &str, count: u64, span_ms: u64| {
        let args = json!({"node": "b", "service": "echo", "manner": manner, "count": count, "payload": 64, "span_ms": span_ms});
        let mut client = UnixStream::connect(&a.socket).unwrap();
        writeln!(client, "{}", json!({"verb": "load", "args": args})).unwrap();
        BufReader::new(client)
    };
    let said = |mut client: BufReader<UnixStream>| -> Value {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let free = |what: &str| {
        until(what, SOON, || {
            let said = said(load("lone", 1, 1));
            if said["ok"]["answered"].as_u64() > Some(0) { Ok(()) } else { Err(said.to_string()) }
        });
    };
    for (manner, count) in [("lone", 1), ("window", 8), ("callers", 8), ("logical", 8)] {
        free(&format!("there is room for {manner}"));
        let long = load(manner, count, 3_600_000);
        until("another one is refused", SOON, || {
            let said = said(load("lone", 1, 1));
            if said["error"]["code"] == "busy" { Ok(()) } else { Err(said.to_string()) }
        });
        drop(long);
    }
    free("the last one has ended with its client");
    let _long = load("callers", 8, 3_600_000);
    assert_eq!(a.client(&["leave"]).code, Some(0));
    assert!(a.ended().success());
}
