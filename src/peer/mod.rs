//! A peer: the component in charge of one TCP connection.
//!
//! ```text
//!   reactor's thread                         peer-N, its main loop                  ctl-main
//!   receiver ── messages, in batches ──────▶ select! ── events (may wait) ────────▶
//!      │                                      │   ▲
//!      └── heartbeats are answered here       │   └──── commands (never wait) ──────
//!                     │                       ▼
//!                     └────────────────────▶ sink ──▶ socket
//! ```
//!
//! The main loop is a thread around the pure [`PeerState`](crate::protocol::peer_state::PeerState); the seeds' heartbeat
//! loop and heartbeat timeout are deadlines of its `select!`.

mod greeting;
pub mod main_loop;
mod receiver;
mod sink;

pub use sink::{Budget, Class, Sink, SinkLimits};
