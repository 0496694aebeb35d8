//! What a node is to a small machine: `cargo bench --bench small`, on the release build.
//!
//! Start, memory and wake-ups are those of the defaults; what follows is a node with `config/constrained.toml` and 64
//! descriptors in floods of strangers and members, for 20 s each (`-- SECONDS` says another span). With a cgroup, which only
//! root can have, the last of them is held to 16 MiB and a tenth of a core. Each figure has its goal beside it; the exit code
//! is 1 if one is missed.

#[path = "../tests/constrained/cage.rs"]
mod cage;
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "../tests/daemon/daemon.rs"]
mod daemon;
#[path = "../tests/constrained/floods.rs"]
mod floods;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/daemon/patience.rs"]
mod patience;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/daemon/stranger.rs"]
mod stranger;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::message::{News, TailMessage};
use kithd::protocol::record::{Item, NetworkId};
use serde_json::Value;

use cage::Cage;
use daemon::{Daemon, Network};
use floods::Done;
use patience::{SOON, until};
use stranger::{Line, Stranger, heartbeat};

const STARTS: usize = 20;
const NODES: usize = 100;
const EDGES: usize = 64;
const REST: Duration = Duration::from_secs(20);
/// An overlay edge is asked for life so often.
const BEAT: Duration = Duration::from_secs(5);
/// What a clock tick of `/proc/PID/stat` is.
const TICKS_PER_SECOND: f64 = 100.0;
const MEMORY: usize = 16 << 20;

fn main() -> ExitCode {
    let span = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20);
    let mut goals = Goals { missed: 0 };
    println!("{:52} {:>10}  {:>10}", "what", "figure", "goal");
    starts(&mut goals);
    fresh(&mut goals);
    many_edges(&mut goals);
    let span = Duration::from_secs(span);
    flooded("strangers", None, 10.0, span, strangers, &mut goals);
    flooded("strangers and members", None, f64::INFINITY, span, floods::all, &mut goals);
    match Cage::new(MEMORY, Some(10)) {
        Some(cage) => flooded("the same in a cage", Some(cage), 11.0, span, floods::all, &mut goals),
        None => println!("no cgroup is to be had: not held to 16 MiB and a tenth of a core"),
    }
    if goals.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints figures, and counts those that miss their goals.
struct Goals {
    missed: usize,
}

impl Goals {
    fn at_most(&mut self, what: &str, figure: f64, unit: &str, goal: f64) {
        let is_missed = figure > goal;
        self.missed += usize::from(is_missed);
        let goal = if goal.is_finite() { format!("<= {goal}") } else { "-".to_owned() };
        println!("{what:52} {figure:10.2}  {goal:>10} {unit}{}", if is_missed { "  MISSED" } else { "" });
    }
}

fn starts(goals: &mut Goals) {
    let mut spans: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let setup = Network::new().node("fresh");
            let start = Instant::now();
            let node = setup.start();
            let span = start.elapsed();
            drop(node);
            span
        })
        .collect();
    spans.sort_unstable();
    goals.at_most("start to ready, median of 20", spans[STARTS / 2].as_secs_f64() * 1e3, "ms", 50.0);
}

fn fresh(goals: &mut Goals) {
    let node = Network::new().start("fresh");
    goals.at_most("resident, no connections", mib(of_process(&node, "VmRSS")), "MiB", 5.0);
    goals.at_most("  of it the node's alone", mib(of_process(&node, "RssAnon")), "MiB", f64::INFINITY);
    let rest = Rest::of(&node, || thread::sleep(REST));
    goals.at_most("wake-ups a second, no connections", rest.wakeups, "", 5.0);
    goals.at_most("  as the system counts them", rest.switches, "", 5.0);
}

/// Neighbours who dialled, a view of a hundred nodes, and heartbeats as often as overlay edges have them.
fn many_edges(goals: &mut Goals) {
    let network = Network::new();
    let node = network.node("node").with(&["--discovery-accept", "100", "--heartbeat-timeout", "60s"]).start();
    let crowd: Vec<Stranger> = (1..NODES).map(|number| Stranger::new(&network, &format!("n{number}"))).collect();
    let mut lines: Vec<Line> = crowd[..EDGES].iter().map(|stranger| stranger.dial(&node)).collect();
    for some in crowd[EDGES..].chunks(9) {
        let items = some.iter().map(|one| Item::Record(one.record())).collect();
        lines[0].tell(&TailMessage::Push(News { items, ..News::default() }));
    }
    until("all are in view", SOON, || {
        let known = node.network()["nodes"].as_array().map_or(0, Vec::len);
        if known == NODES { Ok(()) } else { Err(known.to_string()) }
    });
    let what = "resident, 64 edges, 100 nodes";
    goals.at_most(what, mib(of_process(&node, "VmRSS")), "MiB", 8.0);
    goals.at_most("  of it the node's alone", mib(of_process(&node, "RssAnon")), "MiB", f64::INFINITY);
    let mut beats = 0;
    let rest = Rest::of(&node, || {
        let start = Instant::now();
        for seq in 1.. {
            for line in &mut lines {
                line.tell(&heartbeat(seq));
                beats += 1;
                thread::sleep(BEAT / EDGES as u32);
            }
            if start.elapsed() >= REST {
                return;
            }
        }
    });
    let beats = f64::from(beats) / rest.span.as_secs_f64();
    goals.at_most("wake-ups a second, 64 edges", rest.wakeups, "", f64::INFINITY);
    goals.at_most("  heartbeats a second, each asked and answered", beats, "", f64::INFINITY);
    // One of the reactor, one of the edge's own thread, and one of ctl-main, which hears what was stated.
    goals.at_most("  wake-ups a second beside three for each heartbeat", rest.wakeups - 3.0 * beats, "", 5.0);
    goals.at_most("  waits a second, as the system counts them", rest.switches, "", f64::INFINITY);
}

/// Wake-ups a second, by the node's own count and by the system's.
struct Rest {
    span: Duration,
    wakeups: f64,
    switches: f64,
}

impl Rest {
    /// While that lasts. The report counts from one to the next.
    fn of(node: &Daemon, rest: impl FnOnce()) -> Self {
        thread::sleep(Duration::from_secs(3));
        node.status();
        let (start, before) = (Instant::now(), switches(node));
        rest();
        let (span, switches) = (start.elapsed(), switches(node) - before);
        let wakeups = node.status()["wakeups_per_second"].as_f64().unwrap_or(f64::NAN);
        Self { span, wakeups, switches: switches as f64 / span.as_secs_f64() }
    }
}

/// How often any of its threads has waited.
fn switches(node: &Daemon) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.pid())).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    texts.filter_map(|text| number(&text, "voluntary_ctxt_switches")).sum()
}

/// Goes on until it is over, and says what it did.
type Flood = fn(NetworkId, SocketAddr, &AtomicBool) -> Done;

fn strangers(network: NetworkId, node: SocketAddr, over: &AtomicBool) -> Done {
    let done = Done::default();
    floods::strangers(network, node, &done, over);
    done
}

/// A node of the file for small machines with one good neighbour, through a flood.
fn flooded(name: &str, cage: Option<Cage>, percent: f64, span: Duration, flood: Flood, goals: &mut Goals) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/constrained.toml");
    let network = Network::new();
    let entry = cage.as_ref().map(Cage::entry).unwrap_or_default();
    let setup = network.node("small").with(&["--config", file.to_str().expect("a path in UTF-8")]);
    let node = setup.under(&format!("{entry}ulimit -n 64 && exec")).start();
    let good = network.node("good").with(&["--heartbeat-timeout", "10s"]).connect(node.address).start();
    let edges = || {
        let rows = good.json(&["peers"])["peers"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .filter(|row| row["state"] == "established")
            .map(|row| row["peer_id"].clone())
            .collect::<Vec<Value>>()
    };
    let before = until("there is an edge each way", SOON, || {
        let edges = edges();
        if edges.len() == 2 { Ok(edges) } else { Err(format!("{edges:?}")) }
    });
    let over = AtomicBool::new(false);
    let (mut anon, mut files) = (0, 0);
    let (start, ticks_before) = (Instant::now(), ticks(&node));
    let (used, done) = thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(NetworkId::of(network.name()), node.address, &over));
        while start.elapsed() < span {
            anon = anon.max(of_process(&node, "RssAnon"));
            files = files.max(fs::read_dir(format!("/proc/{}/fd", node.pid())).map_or(0, Iterator::count));
            thread::sleep(Duration::from_millis(50));
        }
        let used = (ticks(&node) - ticks_before) as f64 / TICKS_PER_SECOND / start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        (used, flooding.join().unwrap_or_default())
    });
    goals.at_most(&format!("{name}: percent of a core"), used * 100.0, "%", percent);
    goals.at_most("  most resident", mib(of_process(&node, "VmHWM")), "MiB", 16.0);
    goals.at_most("  of it the node's alone, at most", mib(anon), "MiB", f64::INFINITY);
    if let Some(peak) = cage.as_ref().and_then(Cage::peak) {
        goals.at_most("  with what the system keeps for it", mib(peak), "MiB", 16.0);
    }
    goals.at_most("  descriptors", files as f64, "", 64.0);
    let lost = before.iter().filter(|edge| !edges().contains(edge)).count();
    goals.at_most("  edges lost with the good neighbour", lost as f64, "", 0.0);
    let status = node.status();
    println!("  {done:?}\n  refused: {}\n  of requests: {}", status["refused"], status["requests"]["refused"]);
    drop(node);
}

fn ticks(node: &Daemon) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap_or_default();
    // The name, in brackets, may have spaces; user and system time are the 12th and 13th behind it.
    let behind = text.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// A size in `/proc/PID/status`, in bytes.
fn of_process(node: &Daemon, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap_or_default();
    number(&text, what).unwrap_or(0) << 10
}

fn number(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
