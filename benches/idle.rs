//! What an idle neighbour costs a node in memory: `cargo bench --bench idle`.

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "../tests/daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/daemon/patience.rs"]
mod patience;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/daemon/stranger.rs"]
mod stranger;

use daemon::{Daemon, Network};
use stranger::{Line, Stranger};

const NEIGHBOURS: u64 = 256;

fn main() {
    let network = Network::new();
    let node = network.node("node").with(&["--discovery-accept", "300", "--heartbeat-timeout", "60s"]).start();
    let before = resident(&node);
    let strangers = (0..NEIGHBOURS).map(|number| Stranger::new(&network, &format!("idle-{number}")));
    let lines: Vec<Line> = strangers.map(|stranger| stranger.dial(&node)).collect();
    let after = resident(&node);
    let edges = node.peers().iter().filter(|row| row["state"] == "established").count();
    let each = (after - before) as f64 / 1024.0 / NEIGHBOURS as f64;
    println!(
        "{before} bytes before, {after} with {edges} idle neighbours: {each:.1} KiB each, its record in the view included"
    );
    drop(lines);
}

fn resident(node: &Daemon) -> u64 {
    node.status()["memory"]["rss_bytes"].as_u64().unwrap_or(0)
}
