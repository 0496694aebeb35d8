//! What a node may take in all. What strangers can take of it is among the hostile cases (`tests/hostile`).

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;

use daemon::Network;

#[test]
fn one_key_scales_all_queues_and_the_report_shows_it() {
    let node = Network::new().node("node").with(&["--limits-memory-budget", "16MiB"]).start();
    assert_eq!(node.status()["memory"]["budget_bytes"], 16 << 20);
    let usual = Network::new().start("usual");
    assert_eq!(usual.status()["memory"]["budget_bytes"], 64 << 20);
}
