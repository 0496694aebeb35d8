//! `kithd bench` as its user sees it. What it measures is this machine's; that it measures, and what it says, is tested.

use std::process::{Command, Output};

use serde_json::Value;

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
        (&["--compare", "/no/such/file"], "/no/such/file"),
        (&["--compare", "/dev/null"], "kithd bench --format json"),
    ] {
        let output = bench(args);
        let line = said(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count(), output.stdout.len()), (Some(2), 1, 0), "{line}");
        assert!(line.contains(why), "{line}");
    }
}
