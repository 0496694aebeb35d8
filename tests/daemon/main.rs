//! The daemon from outside: real processes on loopback, held to the contract that users and scripts rely on.
//!
//! Each file is a theme and each test a behaviour. Nothing here looks inside: a node is started as a user starts it,
//! asked by its own client verbs, sent signals, and talked to over TCP by strangers who speak the protocol and then
//! misbehave. Whatever takes time is a condition with a generous deadline (`patience`), never a fixed wait, except
//! where the behaviour is that nothing happens. How long things took is printed (`cargo test -- --nocapture`), not
//! asserted: a busy machine is late, and is not wrong.

#[allow(dead_code, reason = "shared with the hostile cases, which use more of it")]
mod daemon;
#[path = "../hostile/evil_peer.rs"]
#[allow(dead_code, reason = "shared with the hostile cases, which use more of it")]
mod evil_peer;
mod patience;
mod report;
#[allow(dead_code, reason = "shared with the hostile cases, which use more of it")]
mod small_disk;
#[allow(dead_code, reason = "shared with the hostile cases, which use more of it")]
mod stranger;
mod tap;

mod access;
mod agreement;
mod allocator;
mod census;
mod core_dumps;
mod dialling;
mod endurance;
mod expected;
mod farewell;
mod flood;
mod kills;
mod memory;
mod misbehaviour;
mod providers;
mod requests;
mod rotation;
mod secrecy;
mod silence;
mod start;
mod state_files;
mod status;
mod tags;
mod threads;
mod verbs;
mod why;
