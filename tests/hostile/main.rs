//! Hostile cases by number: what goes wrong with peer-to-peer software in the field, and what a node does then.
//!
//! The numbers are those of the project's list of threats (74 cases, from the advisories, test suites and threat models of
//! Bitcoin Core, rust-libp2p, memberlist and Serf, WireGuard, Lightning, CometBFT, devp2p and Erlang distribution). Each
//! test is named for its case: `case_07_…`. What has no test here is in the index with the reason; `index` holds the
//! two against each other, so no case is forgotten.
//!
//! The evil peer (`evil_peer`, over `stranger`) speaks the real handshake and then misbehaves on request. The rules for all
//! cases: never a panic, memory bounded, one counter for each refusal and at most one line in the log, and other peers
//! do not notice.

#[path = "../daemon/daemon.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
mod daemon;
#[path = "../wire/page.rs"]
#[allow(dead_code, reason = "shared with the wire's tests, which use more of it")]
mod page;
#[path = "../daemon/patience.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
mod patience;
#[path = "../daemon/report.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
mod report;
#[path = "../daemon/small_disk.rs"]
mod small_disk;
#[path = "../daemon/stranger.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
mod stranger;
#[path = "../daemon/tap.rs"]
mod tap;

mod bystanders;
mod evil_member;
mod evil_peer;
mod index;
mod weak_key;

mod admission;
mod census;
mod decoding;
mod exhaustion;
mod framing;
mod handshake;
mod identity;
mod local;
mod log;
mod records;
mod requests;
mod responses;
mod state;
mod time;
