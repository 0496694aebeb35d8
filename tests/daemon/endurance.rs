//! What a node has to live with: too few descriptors, nobody who reads what it prints, and
//! somebody else who says that he is it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Ended, Network, kithd};
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::stranger::Line;

/// More connections than descriptors: what does not fit waits or is refused, and afterwards all is as before.
#[test]
fn a_node_without_descriptors_goes_on_and_recovers() {
    let network = Network::new();
    let a = network.node("a").with(&["--limits-handshake-timeout", "1s"]).limited_to(40).start();
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let lines: Vec<Line> = (0..120).map(|_| Line::to(a.address)).collect();
    until("all connections are over", SOON, || {
        let status = a.client(&["status", "--format", "json"]);
        let Ok(status) = serde_json::from_str::<Value>(&status.stdout) else { return Err(status.stderr) };
        let (peers, refused) = (&status["peers"], &status["refused"]);
        let over = peers["handshaking"] == 0 && refused["handshake-timeout"].as_u64() >= Some(20);
        if over { Ok(()) } else { Err(format!("{peers} {refused}")) }
    });
    for mut line in lines {
        assert_eq!(line.rest(), b"");
    }
    let c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);
    assert!(!a.stderr().contains("panicked"), "{}", a.stderr());
}

/// A supervisor that reads neither of the two outputs is no reason to end, nor one that has gone away.
#[test]
fn a_node_whose_output_nobody_reads_goes_on() {
    let network = Network::new();
    let setup = network.node("a").with(&["--log-level", "trace", "--monitor-status-period", "100ms"]);
    let mut child = setup.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let ask = || Ended::of(kithd().args(["status", "--format", "json", "--state-dir"]).arg(setup.state_dir()));
    until("it has been up for two seconds", SOON, || {
        let ended = ask();
        let status: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        if status["uptime_seconds"].as_f64() > Some(2.0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    assert!(child.try_wait().unwrap().is_none());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let status = until("it ends", SOON, || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    assert_eq!(status.code(), Some(0));
}

/// The log can be rotated.
#[test]
fn sighup_opens_the_log_anew() {
    let network = Network::new();
    let setup = network.node("a").with(&["--monitor-status-period", "100ms"]);
    let (log, old) = (setup.home().join("log"), setup.home().join("log.1"));
    let a = setup.with(&["--log-file", log.to_str().unwrap()]).start();
    let has_lines = |path: &std::path::Path| match fs::read_to_string(path) {
        Ok(text) if text.lines().count() >= 2 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until("the log has lines", SOON, || has_lines(&log));
    fs::rename(&log, &old).unwrap();
    a.signal(Signal::HUP);
    until("the new log has lines", SOON, || has_lines(&log));
    assert_eq!(a.stderr(), "");
}

/// Ten lines of any language: a JSON object a line in, one a line out, on one connection.
#[test]
fn the_admin_socket_speaks_to_anybody() {
    let network = Network::new();
    let a = network.start("a");
    let mut socket = UnixStream::connect(&a.socket).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut ask = |line: &str| -> Value {
        socket.write_all(format!("{line}\n").as_bytes()).unwrap();
        serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask(r#"{"verb": "identity"}"#)["ok"]["id"], a.id.as_str());
    assert_eq!(ask(r#"{"verb": "peers", "args": {"all": true}}"#)["ok"]["peers"], serde_json::json!([]));
    for nonsense in ["", "{", "[]", r#"{"verb": "dance"}"#, r#"{"verb": "peers", "args": {"al": true}}"#, "\u{1b}[2J"] {
        let error = &ask(nonsense)["error"];
        assert!(error["code"].is_string() && error["exit"].is_u64() && error["message"].is_string(), "{error}");
    }
    assert_eq!(ask(r#"{"verb":"status"}"#)["ok"]["schema"], 1);
    let error = &ask(r#"{"verb": "forget", "args": {"node": "a"}}"#)["error"];
    assert_eq!(error["exit"], 1, "a node that is up is not forgotten: {error}");
}
