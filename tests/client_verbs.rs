//! The verbs that talk to a running node, through the real program: what they print, and how they end.
//!
//! The node is a thread that answers whatever it is told to, so that every answer can be tried, a wrong one too.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

const VERBS: [&[&str]; 17] = [
    &["status"],
    &["status", "--watch"],
    &["peers", "--all"],
    &["network"],
    &["connect", "127.0.0.1:1"],
    &["disconnect", "7"],
    &["ban", "gamma"],
    &["unban", "gamma"],
    &["bans"],
    &["leave"],
    &["forget", "gamma"],
    &["identity"],
    &["tag", "role=db"],
    &["why", "gamma"],
    &["request", "gamma", "echo"],
    &["ping", "gamma"],
    &["bench", "--connect", "gamma"],
];

const NETWORK: &str = r#"{"schema":1,"id":"aa","digest":"3f9a0c1200","agreement":{"agreeing":2,"live":2,"unanimous":true,"radius":1,"age_seconds":1.40,"since":"2026-11-21T09:23:05.042Z","held_seconds":192.4},"nodes":[{"id":"aa","label":"alpha","address":"127.0.0.1:7100","tags":{},"status":"up","version":1,"reachable":true,"edges_out":1,"edges_in":0,"witnesses":[]},{"id":"bb","label":"beta","address":"127.0.0.1:7101","tags":{},"status":"up","version":1,"reachable":true,"edges_out":0,"edges_in":1,"witnesses":[],"news":0}],"edges":[{"tail":"aa","head":"bb"}]}"#;

fn kithd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kithd"));
    command.args(args).env_remove("KITHD_SOCKET").env_remove("KITHD_STATE_DIR").stdin(Stdio::null());
    command
}

fn ended(output: &Output) -> (i32, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A node whose every answer is this line; it keeps the calls it got. With `calls` it ends after so many.
struct FakeNode {
    dir: TempDir,
    served: Option<thread::JoinHandle<Vec<String>>>,
}

impl FakeNode {
    fn answering(answer: &str, calls: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let answer = format!("{answer}\n");
        let served = thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let lines = BufReader::new(&client).lines().take(calls);
            lines
                .map(|line| {
                    (&client).write_all(answer.as_bytes()).unwrap();
                    line.unwrap()
                })
                .collect()
        });
        Self { dir, served: Some(served) }
    }

    fn ok(report: &str) -> Self {
        Self::answering(&format!("{{\"ok\":{report}}}"), 1)
    }

    fn state_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a verb against the node and gives back the one call that it made.
    fn asked(mut self, args: &[&str]) -> (Output, String) {
        let output = kithd(args).env("KITHD_STATE_DIR", self.state_dir()).output().unwrap();
        let mut calls = self.served.take().unwrap().join().unwrap();
        (output, calls.pop().unwrap())
    }
}

#[test]
fn without_a_node_every_verb_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for verb in VERBS {
        let output = kithd(verb).args(["--state-dir", dir]).output().unwrap();
        let expected = format!(
            "kithd: no node answers at {dir}/admin.sock: \
             start one with 'kithd run --state-dir {dir}', or name its socket with --socket\n"
        );
        assert_eq!(ended(&output), (3, "", expected.as_str()), "{verb:?}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_exit_2() {
    for args in [
        &[][..],
        &["no-such-verb"],
        &["connect"],
        &["status", "--format", "xml"],
        &["peers", "--format", "dot"],
        &["leave", "now"],
        &["forget", "--node\n\u{1b}[31m"],
        &["identity", "--socket"],
        &["request", "beta"],
        &["request", "beta", "echo", "text"],
        &["request", "beta", "echo", "-", "--data", "text"],
        &["request", "beta", "echo", "--data", "a", "--file", "b"],
        &["request", "beta", "echo", "--file", "/nowhere/at/all"],
        &["request", "beta", "echo", "--file", "/dev/zero"],
        &["request", "beta", "echo", "--timeout", "5"],
        &["request", "beta", "echo", "--timeout", "0s"],
        &["ping", "beta", "--count", "0"],
        &["ping", "beta", "--count", "1001"],
        &["bench", "--connect"],
        &["bench", "--socket", "admin.sock"],
    ] {
        let output = kithd(args).output().unwrap();
        let (code, out, err) = ended(&output);
        assert_eq!((code, out), (2, ""), "{args:?}");
        assert!(err.starts_with("kithd: ") && err.ends_with('\n') && err.lines().count() == 1, "{args:?}: {err}");
        assert!(!err.contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn help_and_version_are_data() {
    for args in [&["--help"][..], &["--version"], &["help", "network"], &["status", "--help"]] {
        let output = kithd(args).output().unwrap();
        let (code, out, err) = ended(&output);
        assert_eq!((code, err), (0, ""), "{args:?}");
        assert!(!out.is_empty());
    }
}

#[test]
fn a_network_is_drawn_and_judged() {
    let (output, call) = FakeNode::ok(NETWORK).asked(&["network"]);
    let expected = "\
NODE   ID  STATUS  SINCE  ADDRESS         VERSION  OUT  IN  ABOUT
alpha  aa  up          -  127.0.0.1:7100        1    1   0  this node
beta   bb  up          -  127.0.0.1:7101        1    0   1

alpha → beta

2 of 2 nodes agree on view 3f9a0c12, radius 1, for 3m12s (within 1.4 s)
";
    assert_eq!(ended(&output), (0, expected, ""));
    assert_eq!(call, r#"{"verb":"network","args":{}}"#);

    let missing = NETWORK.replacen(r#""nodes":"#, r#""expected_missing":["db1"],"nodes":"#, 1);
    let (output, _) = FakeNode::ok(&missing).asked(&["network"]);
    let (code, out, err) = ended(&output);
    assert!(code == 1 && out.ends_with("\nexpected and not here: db1\n") && err.is_empty(), "{out}");
    let down = NETWORK.replacen(r#""up""#, r#""down""#, 1);
    for format in ["table", "json", "dot"] {
        let (output, _) = FakeNode::ok(&down).asked(&["network", "--format", format]);
        let (code, out, err) = ended(&output);
        assert_eq!((code, err), (1, ""), "{format}");
        match format {
            "json" => assert_eq!(out, format!("{down}\n")),
            "dot" => assert!(out.contains(r#""aa" -> "bb";"#), "{out}"),
            _ => assert!(out.contains("alpha  aa  down"), "{out}"),
        }
    }
}

#[test]
fn json_is_what_the_node_sent() {
    // Spaces, an unknown field, an order and a number that a rewriting would change.
    let report = r#"{"schema": 1, "new":[1.10,1e2], "label":"alpha","id":"aa"}"#;
    let (output, call) = FakeNode::ok(report).asked(&["identity", "--format", "json"]);
    assert_eq!(ended(&output), (0, format!("{report}\n").as_str(), ""));
    assert_eq!(call, r#"{"verb":"identity"}"#);
}

#[test]
fn the_short_verbs_say_what_was_done() {
    let node = r#"{"schema":1,"id":"1c9f02ab77","label":"alpha"}"#;
    let cases = [
        (&["identity"][..], node, "id     1c9f02ab77\nlabel  alpha\n", r#"{"verb":"identity"}"#),
        (
            &["identity"],
            r#"{"schema":1,"id":"1c9f02ab77","label":"alpha","keys":["3f9a0c12aabbccdd","0011223344556677"]}"#,
            "id     1c9f02ab77\nlabel  alpha\nkey    3f9a0c12aabbccdd  dialled with\nkey    0011223344556677  accepted\n",
            r#"{"verb":"identity"}"#,
        ),
        (&["leave"], node, "alpha (1c9f02ab) leaves the network and ends\n", r#"{"verb":"leave"}"#),
        (&["forget", "alpha"], node, "alpha (1c9f02ab) is forgotten\n", r#"{"verb":"forget","args":{"node":"alpha"}}"#),
        (
            &["disconnect", "alpha"],
            r#"{"schema":1,"closed":[7,9]}"#,
            "closed peer 7\nclosed peer 9\n",
            r#"{"verb":"disconnect","args":{"target":"alpha"}}"#,
        ),
        (
            &["ban", "alpha", "--for", "1h", "--reason", "loud"],
            r#"{"schema":1,"id":"1c9f02ab77","label":"alpha","until":"2026-11-21T10:00:00.000Z","reason":"loud","closed":[7,9]}"#,
            "alpha (1c9f02ab) is banned until 2026-11-21T10:00:00.000Z; 2 connections close\n",
            r#"{"verb":"ban","args":{"target":"alpha","for":"1h","reason":"loud"}}"#,
        ),
        (
            &["unban", "10.0.0.0/8"],
            r#"{"schema":1,"address":"10.0.0.0/8","label":null,"until":"2026-11-21T10:00:00.000Z","reason":null}"#,
            "10.0.0.0/8 is banned no more\n",
            r#"{"verb":"unban","args":{"target":"10.0.0.0/8"}}"#,
        ),
        (&["bans"], r#"{"schema":1,"bans":[]}"#, "no bans\n", r#"{"verb":"bans"}"#),
        (&["peers"], r#"{"schema":1,"peers":[]}"#, "no connections\n", r#"{"verb":"peers","args":{"all":false}}"#),
        (
            &["connect", "a:1"],
            r#"{"schema":1,"address":"a:1","outcome":"connected","id":"1c9f02ab77","label":"beta","reason":null}"#,
            "connected to beta (1c9f02ab) at a:1\n",
            r#"{"verb":"connect","args":{"address":"a:1"}}"#,
        ),
        (
            &["ping", "be", "--count", "2", "--timeout", "1500ms"],
            r#"{"schema":1,"node":"1c9f02ab77","label":"beta","sent":2,"answered":1,"rtt_ms":{"min":0.5,"p50":0.5,"p99":0.5,"max":0.5},"why":"gone"}"#,
            "beta (1c9f02ab): 1 of 2 answered; round trip min 0.50 ms, p50 0.50 ms, p99 0.50 ms, max 0.50 ms; the last that was not: gone\n",
            r#"{"verb":"ping","args":{"node":"be","count":2,"timeout":"1500ms"}}"#,
        ),
        (
            &["request", "beta", "echo"],
            r#"{"schema":1,"node":"1c9f02ab77","payload":""}"#,
            "",
            r#"{"verb":"request","args":{"node":"beta","service":"echo"}}"#,
        ),
        (
            &["request", "beta", "echo", "--data", "-h\u{e9}", "--timeout", "1s"],
            r#"{"schema":1,"node":"1c9f02ab77","payload":"G1syShtbMko="}"#,
            "\u{1b}[2J\u{1b}[2J",
            r#"{"verb":"request","args":{"node":"beta","service":"echo","payload":"LWjDqQ==","timeout":"1s"}}"#,
        ),
    ];
    for (args, answer, out, call) in cases {
        let (output, asked) = FakeNode::ok(answer).asked(args);
        assert_eq!(ended(&output), (0, out, ""), "{args:?}");
        assert_eq!(asked, call);
    }
}

#[test]
fn a_failed_dial_is_a_negative_answer() {
    let failed =
        r#"{"schema":1,"address":"a:1","outcome":"failed","id":null,"label":null,"reason":"connection-refused"}"#;
    let (output, _) = FakeNode::ok(failed).asked(&["connect", "a:1"]);
    let (code, out, err) = ended(&output);
    assert_eq!((code, out), (1, ""));
    assert!(err.starts_with("kithd: no connection to a:1: connection-refused: nothing listens there"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let (output, _) = FakeNode::ok(failed).asked(&["connect", "a:1", "--format", "json"]);
    assert_eq!(ended(&output).0, 1);
    assert_eq!(ended(&output).1, format!("{failed}\n"));
}

/// What a program has printed is data even if it failed; why it failed is talk.
#[test]
fn a_failed_program_has_its_output_printed_and_its_cause_told() {
    let failed = r#"{"error":{"code":"failed","exit":1,"message":"df at beta: failed: its program ended with status 3","status":3,"payload":"aGFsZg=="}}"#;
    let (output, _) = FakeNode::answering(failed, 1).asked(&["request", "beta", "df"]);
    let line = "kithd: df at beta: failed: its program ended with status 3\n";
    assert_eq!(ended(&output), (1, "half", line));
    let (output, _) = FakeNode::answering(failed, 1).asked(&["request", "beta", "df", "--format", "json"]);
    assert_eq!(ended(&output), (1, "", line));
    let none = r#"{"schema":1,"node":"1c9f02ab77","label":null,"sent":2,"answered":0,"rtt_ms":{"min":null,"p50":null,"p99":null,"max":null},"why":"gone"}"#;
    let (output, _) = FakeNode::ok(none).asked(&["ping", "beta"]);
    assert_eq!(ended(&output), (1, "", "kithd: beta (1c9f02ab) has answered none of 2: gone\n"));
    let (output, _) = FakeNode::ok(none).asked(&["ping", "beta", "--format", "json"]);
    assert_eq!((ended(&output).0, ended(&output).1), (1, format!("{none}\n").as_str()));
}

#[test]
fn the_nodes_refusal_is_the_programs() {
    let refusal = r#"{"error":{"code":"unknown-node","exit":1,"message":"no node is called\ngamma\u001b[2J"}}"#;
    let (output, _) = FakeNode::answering(refusal, 1).asked(&["forget", "gamma"]);
    assert_eq!(ended(&output), (1, "", "kithd: no node is called\\ngamma\\u{1b}[2J\n"));
    let (output, _) = FakeNode::answering("what?", 1).asked(&["identity"]);
    assert_eq!(ended(&output).0, 70);
}

#[test]
fn a_watch_ends_with_its_node() {
    let node = FakeNode::answering(r#"{"ok":{"schema":1}}"#, 2);
    let output = kithd(&["status", "--watch", "--format", "json"]).arg("--state-dir").arg(node.state_dir()).output();
    let output = output.unwrap();
    let (code, out, err) = ended(&output);
    assert_eq!((code, out), (3, "{\"schema\":1}\n{\"schema\":1}\n"));
    assert!(err.starts_with("kithd: the node at ") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_watch_ends_on_a_signal_even_if_its_node_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    let mut watch = kithd(&["status", "--watch", "--state-dir"]).arg(dir.path()).spawn().unwrap();
    let (client, _) = listener.accept().unwrap();
    BufReader::new(&client).read_line(&mut String::new()).unwrap();
    let pid = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_or_full_output_is_no_panic() {
    let long = format!(r#"{{"schema":1,"id":"{}","label":"a"}}"#, "a".repeat(200_000));
    for (args, code) in [(&["identity"][..], 0), (&["identity", "--format", "json"], 0)] {
        let node = FakeNode::ok(&long);
        let mut child = kithd(args)
            .env("KITHD_STATE_DIR", node.state_dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(code), &b""[..]));
    }
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let node = FakeNode::ok(r#"{"schema":1,"id":"aa","label":"a"}"#);
    let output = kithd(&["identity"]).env("KITHD_STATE_DIR", node.state_dir()).stdout(full).output().unwrap();
    let (code, _, err) = ended(&output);
    assert_eq!(code, 1);
    assert!(err.starts_with("kithd: standard output: "), "{err}");
}
