//! Asking other nodes from the command line: what is asked, by whom, over which edge, and how it ends.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, Setup, kithd, write};
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for_any, rows_of};

/// A node whose configuration file has this as well.
fn configured(setup: Setup, text: &str) -> Setup {
    let file = setup.home().join("kithd.toml");
    write(&file, text.as_bytes());
    setup.with(&["--config", file.to_str().unwrap()])
}

/// Asks with this on standard input: exit code, standard output as it is, standard error.
fn ask(node: &Daemon, args: &[&str], stdin: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = kithd();
    command.arg("request").args(args).arg("--socket").arg(&node.socket);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        // Fails if nobody reads it, which is for the caller to judge.
        scope.spawn(move || drop(input.write_all(stdin)));
        child.wait_with_output().unwrap()
    });
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

/// Bytes of all kinds, in no order.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(step).collect()
}

fn pair(network: &Network) -> (Daemon, Daemon) {
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    (a, b)
}

#[test]
fn what_was_sent_comes_back_byte_for_byte_however_the_node_is_called() {
    let network = Network::new();
    let (a, b) = pair(&network);
    for name in ["b", &b.id, &b.id[..10], "a"] {
        assert_eq!(ask(&a, &[name, "echo", "--data", "-gruß\n"], b""), (Some(0), "-gruß\n".into(), String::new()));
    }
    let file = a.setup().home().join("payload");
    for payload in [vec![], vec![0], vec![b'\n'; 3], noise(70_000), noise(1 << 20)] {
        let length = payload.len();
        write(&file, &payload);
        let (code, said, err) = ask(&a, &["b", "echo", "-"], &payload);
        assert!((code, err.as_str()) == (Some(0), "") && said == payload, "{length} bytes by stdin: {code:?} {err}");
        let (code, said, err) = ask(&a, &["b", "echo", "--file", file.to_str().unwrap()], b"");
        assert!((code, err.as_str()) == (Some(0), "") && said == payload, "{length} bytes by file: {code:?} {err}");
    }
    assert_eq!(ask(&a, &["b", "echo"], b"nobody reads this"), (Some(0), vec![], String::new()));
    let expected = json!({"schema": 1, "node": b.id, "payload": "AP8="});
    let (code, said, _) = ask(&a, &["b", "echo", "-", "--format", "json"], &[0, 255]);
    assert_eq!((code, serde_json::from_slice::<Value>(&said).unwrap()), (Some(0), expected));
}

#[test]
fn who_answers_nothing_has_it_said_why_in_one_line() {
    let network = Network::new();
    let (a, b) = pair(&network);
    for (args, said) in [
        (&["nobody", "echo"][..], "no node is called \"nobody\": see 'kithd network'"),
        (&["b", "nothing"], "nothing at b: refused: the node has no service of that name"),
        (&["b", "no name"], "no name at b: refused: the node has no service of that name"),
        (&[&"0".repeat(64), "echo"], "no node is called \"00000000\""),
    ] {
        let ended = a.client(&[&["request"], args].concat());
        assert!(ended.one_line(1).contains(said), "{args:?}: {ended:?}");
    }
    let (code, said, err) = ask(&a, &["b", "echo", "-"], &noise((1 << 20) + 1));
    assert_eq!((code, said), (Some(1), vec![]), "{err}");
    assert!(err.contains("echo at b: a payload of 1048577 bytes is too large: limits.max_payload"), "{err}");
    let (code, said, err) = ask(&a, &["b", "echo", "-"], &noise(2 << 20));
    assert_eq!((code, said), (Some(2), vec![]), "{err}");
    assert!(err.contains("send less at once"), "{err}");
    let requests = &a.status()["requests"];
    assert_eq!((&requests["failed"], &requests["issued"]), (&json!(2), &json!(2)), "{requests}");
    assert_eq!(b.status()["requests"]["refused"], json!({"unknown-service": 1}), "what is no name is not even sent");
    assert!(b.client(&["status"]).stdout.contains("refused: 1 unknown-service"));
}

#[test]
fn built_in_services_can_be_switched_off() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).with(&["--requests-echo", "false", "--requests-status", "false"]);
    let b = b.start();
    agreed(&[&a, &b]);
    for service in ["echo", "status"] {
        assert!(a.client(&["request", "b", service]).one_line(1).contains("no service of that name"));
    }
    let (code, said, _) = ask(&a, &["b", "identity"], b"");
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&said).unwrap(), json!({"schema": 1, "id": b.id, "label": "b"}));
    let (code, said, _) = ask(&b, &["a", "status"], b"");
    assert_eq!((code, &serde_json::from_slice::<Value>(&said).unwrap()["id"]), (Some(0), &json!(a.id)));
    assert_eq!(a.json(&["ping", "b", "--count", "1"])["answered"], 1, "there is nothing to switch off in that");
}

#[test]
fn a_program_answers_and_how_it_ends_is_how_the_request_ends() {
    let network = Network::new();
    let services = r#"
        [services.who]
        command = ["sh", "-c", "printf '%s %s %s ' \"$KITHD_CALLER_ID\" \"$KITHD_CALLER_LABEL\" \"$KITHD_SERVICE\"; cat"]
        [services.tuned]
        command = ["sh", "-c", "printf '%s' \"${GLIBC_TUNABLES-untuned}\""]
        [services.half]
        command = ["sh", "-c", "printf half; echo 'the disk is gone' >&2; exit 3"]
        [services.slow]
        command = ["sleep", "600"]
        timeout = "300ms"
        [services.long]
        command = ["head", "-c", "1000", "/dev/zero"]
        max_output = "999"
        [services.absent]
        command = ["/nowhere/at/all"]
    "#;
    let a = network.start("a");
    let b = configured(network.node("b"), services).connect(a.address).start();
    agreed(&[&a, &b]);
    let (code, said, err) = ask(&a, &["b", "who", "-"], b"asks\0");
    let expected = [a.id.as_bytes(), b" a who asks\0"].concat();
    assert_eq!((code, said, err.as_str()), (Some(0), expected, ""));
    // What the node has added to its own environment is not passed on; what its user has set is.
    let tuned = std::env::var("GLIBC_TUNABLES").unwrap_or("untuned".to_owned());
    assert_eq!(ask(&a, &["b", "tuned"], b""), (Some(0), tuned.into_bytes(), String::new()));
    let (code, said, err) = ask(&a, &["b", "half"], b"");
    assert_eq!((code, said.as_slice()), (Some(1), &b"half"[..]));
    assert_eq!(err, "kithd: half at b: failed: its program ended with status 3\n");
    b.says("service half: the disk is gone");
    for (service, said) in [
        ("slow", "slow at b: no answer in time: it may have been carried out"),
        ("long", "long at b: failed: it had more to say than it may"),
        ("absent", "absent at b: failed: its program could not be started: see the log there"),
    ] {
        assert_eq!(a.client(&["request", "b", service]).one_line(1), format!("kithd: {said}"));
    }
    b.says("no such program");
    let requests = &b.status()["requests"];
    assert_eq!((&requests["served"], &requests["unserved"]), (&json!(2), &json!(4)), "{requests}");
}

/// Against a label, which anybody may choose, nobody could be kept out.
#[test]
fn who_may_ask_is_known_by_his_id_and_not_by_his_label() {
    let network = Network::new();
    let a = network.start("a");
    let services =
        format!("[services.echo]\nallow = [\"{}\"]\n[services.status]\nallow = [\"{}\"]", a.id, "0".repeat(64));
    let b = configured(network.node("b"), &services).connect(a.address).start();
    let impostor = network.node("a").connect(b.address).start();
    until("the impostor knows b", SOON, || {
        let ended = impostor.client(&["request", "b", "identity"]);
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    until("a knows b", SOON, || {
        let ended = a.client(&["request", "b", "echo", "--data", "mine"]);
        if ended.stdout == "mine" { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    let refused = "refused: the service is not for this node";
    assert!(impostor.client(&["request", "b", "echo"]).one_line(1).contains(refused));
    assert!(a.client(&["request", "b", "status"]).one_line(1).contains(refused));
    assert_eq!(b.status()["requests"]["refused"], json!({"not-allowed": 2}));
}

#[test]
fn a_request_ends_in_its_time_whatever_the_other_does() {
    let network = Network::new();
    let a = network.start("a");
    let services = "[services.slow]\ncommand = [\"sleep\", \"600\"]\ntimeout = \"1h\"\n";
    let b = configured(network.node("b"), services).connect(a.address).start();
    agreed(&[&a, &b]);
    for asker in [&a, &b] {
        let ended = asker.client(&["request", "b", "slow", "--timeout", "300ms"]);
        assert_eq!(ended.one_line(1), "kithd: slow at b: no answer in time: it may have been carried out");
    }
    let patience = "--requests-timeout";
    let c = network.node("c").connect(a.address).with(&[patience, "200ms"]).start();
    agreed(&[&a, &b, &c]);
    assert!(c.client(&["request", "b", "slow"]).one_line(1).contains("no answer in time"), "by its configuration");

    // A node that hangs: its system takes the dial, and nobody goes on with it.
    b.signal(Signal::STOP);
    closed_for_any(&a, Some(&b.id), &["heartbeat-timeout"]);
    until("no edge with b is left", SOON, || {
        let rows = a.peers();
        let open = rows_of(&rows, Some(&b.id)).iter().filter(|row| row["state"] == "established").count();
        if open == 0 { Ok(()) } else { Err(format!("{open}")) }
    });
    let ended = a.client(&["request", "b", "echo", "--timeout", "300ms"]);
    let said = ended.one_line(1);
    assert!(said.contains("it was not sent") || said.contains("node b cannot be reached"), "{said}");
    b.signal(Signal::CONT);
    until("b answers again", SOON, || {
        let ended = a.client(&["request", "b", "echo", "--data", "on"]);
        if ended.stdout == "on" { Ok(()) } else { Err(format!("{ended:?}")) }
    });
}

#[test]
fn a_ping_measures_the_connection() {
    let network = Network::new();
    let (a, mut b) = pair(&network);
    let report = a.json(&["ping", "b", "--count", "3"]);
    assert_eq!((&report["schema"], &report["node"], &report["label"]), (&json!(1), &json!(b.id), &json!("b")));
    assert_eq!((&report["sent"], &report["answered"], &report["why"]), (&json!(3), &json!(3), &Value::Null));
    let time = |name: &str| report["rtt_ms"][name].as_f64().unwrap();
    let rising = [0.0, time("min"), time("p50"), time("p99"), time("max")];
    assert!(rising.is_sorted() && time("min") > 0.0, "{report}");
    let table = a.client(&["ping", &b.id[..8], "--count", "1"]);
    assert!(table.code == Some(0) && table.stdout.starts_with("b (") && table.stdout.contains("1 of 1 answered"));
    assert_eq!(a.json(&["ping", "a", "--count", "1"])["answered"], 1, "itself");

    assert!(a.client(&["ping", "nobody"]).one_line(1).contains("no node is called \"nobody\""));
    b.kill();
    let ended = a.client(&["ping", "b", "--count", "2"]);
    let said = ended.one_line(1);
    assert!(said.contains("has answered none of 2: "), "{said}");
    let report = a.json(&["ping", "b", "--count", "2"]);
    assert_eq!((&report["answered"], &report["rtt_ms"]["p99"]), (&json!(0), &Value::Null), "{report}");
}

/// In a network where not everybody has an edge with everybody.
#[test]
fn an_edge_that_was_dialled_to_ask_is_shown_as_that_and_closed_when_nobody_asks() {
    let network = Network::new();
    let few = ["--discovery-out-degree", "2", "--requests-idle-close", "2s"];
    let first = network.node("n0").with(&few).start();
    let mut nodes = vec![first];
    for label in ["n1", "n2", "n3", "n4", "n5"] {
        nodes.push(network.node(label).connect(nodes[0].address).with(&few).start());
    }
    agreed(&nodes.iter().collect::<Vec<_>>());
    let purposes = |from: &Daemon, to: &Daemon| -> Vec<String> {
        let rows = from.json(&["peers"])["peers"].as_array().unwrap().clone();
        let ways = rows_of(&rows, Some(&to.id)).into_iter().filter(|row| row["direction"] == "outgoing").cloned();
        ways.map(|row| row["purpose"].as_str().unwrap().to_owned()).collect()
    };
    let pairs = || nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to)));
    let (from, to) = until("somebody has no edge to somebody", SOON, || {
        let mut cold = pairs().filter(|(from, to)| from.id != to.id && purposes(from, to).is_empty());
        cold.next().ok_or_else(|| "all have".to_owned())
    });
    assert_eq!(from.client(&["request", &to.label, "echo", "--data", "cold"]).stdout, "cold");
    assert_eq!(purposes(from, to), ["application"]);
    assert!(from.client(&["peers"]).stdout.contains("  application  "));
    assert_eq!(from.client(&["request", &to.label, "echo", "--data", "warm"]).stdout, "warm");
    until("it is closed", SOON, || {
        let ways = purposes(from, to);
        if ways.is_empty() { Ok(()) } else { Err(format!("{ways:?}")) }
    });
    agreed(&nodes.iter().collect::<Vec<_>>());
}

/// More than may be at work at once, each with an hour's time: it ends with the user who has interrupted it.
#[test]
fn who_has_gone_away_is_in_nobodys_way() {
    let network = Network::new();
    let a = network.start("a");
    let slow = "[services.slow]\ncommand = [\"sleep\", \"60\"]\n";
    let b = configured(network.node("b"), slow).connect(a.address).start();
    agreed(&[&a, &b]);
    let call =
        "{\"verb\":\"request\",\"args\":{\"node\":\"b\",\"service\":\"slow\",\"payload\":\"\",\"timeout\":\"1h\"}}\n";
    for count in 1..=70 {
        let mut client = UnixStream::connect(&a.socket).unwrap();
        client.write_all(call.as_bytes()).unwrap();
        until("it is asked", SOON, || match a.status()["requests"]["issued"].as_u64() {
            Some(issued) if issued == count => Ok(()),
            issued => Err(format!("{issued:?} of {count}")),
        });
    }
    let pinged = a.client(&["ping", "b", "--count", "1"]);
    assert_eq!(pinged.code, Some(0), "{pinged:?}");
}
