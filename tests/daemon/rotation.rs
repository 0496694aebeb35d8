//! A running network changes its key, in the three steps that the README tells of, and nobody notices.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Ended, Network, Setup, kithd};
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for, edges, refused, statuses};

/// A new key: its digits, as a key file has them, and its mark, as it may be shown.
struct Key {
    digits: String,
    mark: String,
}

impl Key {
    fn new() -> Self {
        let printed = Ended::of(kithd().arg("keygen")).stdout;
        let mut lines = printed.lines();
        let comment = lines.next().unwrap().strip_prefix("# kithd network key ").unwrap();
        let mark = comment.split(':').next().unwrap().to_owned();
        Self { digits: lines.next().unwrap().to_owned(), mark }
    }
}

fn file(setup: &Setup) -> PathBuf {
    setup.home().join("network.key")
}

/// As an editor does it: the file as a whole, private.
fn write_keys(path: &Path, keys: &[&Key]) {
    let digits: Vec<&str> = keys.iter().map(|key| key.digits.as_str()).collect();
    fs::write(path, digits.join("\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn with_keys(setup: Setup, keys: &[&Key]) -> Setup {
    let path = file(&setup);
    write_keys(&path, keys);
    setup.with(&["--network-key-file", path.to_str().unwrap()])
}

fn reload(node: &Daemon, keys: &[&Key]) {
    write_keys(&file(node.setup()), keys);
    node.signal(Signal::HUP);
    let wanted: Vec<&str> = keys.iter().map(|key| key.mark.as_str()).collect();
    until(&format!("{} holds the keys {wanted:?}", node.label), SOON, || {
        let held = node.json(&["identity"])["keys"].clone();
        if held == json!(wanted) { Ok(()) } else { Err(held.to_string()) }
    });
}

/// One call over the admin socket, without a process for it: the looks must be many.
fn ask(socket: &Path, verb: &str) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    writeln!(stream, "{{\"verb\": {verb:?}}}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap()["ok"].clone()
}

type Edges = BTreeSet<(String, String)>;

fn edges_of(network: &Value) -> Edges {
    edges(network).into_iter().map(|(tail, head)| (tail.to_owned(), head.to_owned())).collect()
}

/// What is wrong in the eyes of one node.
fn trouble(socket: &Path, nodes: usize, all: &Edges) -> Option<String> {
    let (network, status) = (ask(socket, "network"), ask(socket, "status"));
    let up = statuses(&network).into_values().filter(|status| *status == "up").count();
    if up < nodes {
        return Some(format!("{:?}", statuses(&network)));
    }
    if status["heartbeat"]["timed_out"] != 0 {
        return Some(status["heartbeat"].to_string());
    }
    let missing: Vec<_> = all.difference(&edges_of(&network)).cloned().collect();
    (!missing.is_empty()).then(|| format!("{missing:?} are missing"))
}

/// Waits until the edges have been the same for three seconds.
fn settled(node: &Daemon) -> Edges {
    let (mut last, mut since) = (Edges::new(), std::time::Instant::now());
    until("the edges are settled", SOON, || {
        let now = edges_of(&node.network());
        if now != last {
            (last, since) = (now, std::time::Instant::now());
        }
        if since.elapsed() > Duration::from_secs(3) { Ok(last.clone()) } else { Err(format!("{last:?}")) }
    })
}

/// Waits until every connection of every node has this key and no other.
fn all_with(nodes: &[Daemon], key: &Key) {
    for node in nodes {
        until(&format!("all of {} have the key {}", node.label, key.mark), SOON, || {
            let rows = node.json(&["peers"])["peers"].as_array().unwrap().clone();
            let keys: BTreeSet<_> = rows.iter().map(|row| row["key"].to_string()).collect();
            if keys == BTreeSet::from([json!(key.mark).to_string()]) { Ok(()) } else { Err(format!("{keys:?}")) }
        });
    }
}

/// The load is heartbeats, one each 100 ms on every edge: applications' requests do not exist yet, and will have to pass
/// here as well. Their timeout is long, since a machine that stalls says nothing about keys.
#[test]
fn a_network_of_five_changes_its_key_under_load_and_no_edge_is_missing_at_any_moment() {
    let (network, a, b) = (Network::new(), Key::new(), Key::new());
    let setup = |label: &str| {
        let paced = ["--heartbeat-interval", "100ms", "--heartbeat-timeout", "10s"];
        with_keys(network.node(label).with(&paced), &[&a])
    };
    let first = setup("n0").start();
    let seed = first.address;
    let mut nodes = vec![first];
    nodes.extend(["n1", "n2", "n3", "n4"].map(|label| setup(label).connect(seed).start()));
    agreed(&nodes.iter().collect::<Vec<_>>());
    let all = settled(&nodes[0]);
    assert!(all.len() >= 10, "{all:?}");
    all_with(&nodes, &a);

    let sockets: Vec<PathBuf> = nodes.iter().map(|node| node.socket.clone()).collect();
    let beats = |node: &Daemon| node.status()["heartbeat"]["sent"].as_u64().unwrap();
    let before = beats(&nodes[0]);
    let over = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            for look in 1_u32.. {
                for socket in &sockets {
                    if let Some(trouble) = trouble(socket, 5, &all) {
                        return Err(format!("look {look}, by {}: {trouble}", socket.display()));
                    }
                }
                if over.load(Ordering::Relaxed) {
                    return Ok(look);
                }
                thread::sleep(Duration::from_millis(100));
            }
            unreachable!("a test is not that long")
        });
        // Whatever fails in between, the other thread has to end.
        let _ends = Ends(&over);
        nodes.iter().for_each(|node| reload(node, &[&a, &b]));
        nodes.iter().for_each(|node| reload(node, &[&b, &a]));
        all_with(&nodes, &b);
        nodes.iter().for_each(|node| reload(node, &[&b]));
        all_with(&nodes, &b);
        over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    println!("{} looks at each of five nodes", looks.expect("nobody is missed"));
    assert!(beats(&nodes[0]) > before + 100, "the load");
    for node in &nodes {
        let rows = node.peers();
        let replaced = rows.iter().filter(|row| row["close_reason"] == "replaced").count();
        assert!(replaced > 0, "{rows:?}");
        for row in rows.iter().filter(|row| row["state"] == "closed") {
            assert!(["replaced", "probe-over", "busy"].contains(&row["close_reason"].as_str().unwrap()), "{row}");
        }
    }

    // Whoever was forgotten is outside.
    let late = setup("late").connect(seed).start();
    closed_for(&late, None, "no-answer");
    assert!(refused(&nodes[0], "network-key") > 0);
    assert_eq!(nodes[0].status()["network_view"]["nodes"], 5);
    // And comes in as soon as he has the key, however long he has been trying in vain.
    reload(&late, &[&b]);
    agreed(&nodes.iter().chain([&late]).collect::<Vec<_>>());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_key_file_that_cannot_be_used_leaves_the_keys_in_force_with_one_line() {
    let (network, a, b) = (Network::new(), Key::new(), Key::new());
    let node = with_keys(network.node("node"), &[&a]).start();
    let path = file(node.setup());
    let broken = |content: &str, mode: u32, said: &str| {
        let before = node.stderr().len();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        node.signal(Signal::HUP);
        until(&format!("the log says {said:?}"), SOON, || {
            let log = node.stderr()[before..].to_owned();
            // The last line of a reload.
            if log.contains("nothing has changed") { Ok(()) } else { Err(log) }
        });
        let log = node.stderr()[before..].to_owned();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("the keys in force stay")).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{log}");
        assert!(!log.contains(&b.digits[..16]), "the file is quoted");
        assert_eq!(node.json(&["identity"])["keys"], json!([a.mark]));
        assert!(node.status()["warnings"].to_string().contains(said), "{}", node.status());
    };
    broken(&b.digits, 0o640, "chmod 600");
    broken(&b.digits[1..], 0o600, "line 1: a key is 64 hex digits");
    broken("# none\n", 0o600, "it holds no key");
    reload(&node, &[&b, &a]);
    assert_eq!(node.status()["warnings"], json!([]));
    for shown in [node.stderr(), node.json(&["identity"]).to_string(), node.status().to_string()] {
        assert!(!shown.contains(&a.digits) && !shown.contains(&b.digits), "a key is shown");
    }
}
