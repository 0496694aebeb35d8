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

mod crew;
mod gauge;
mod greeting;
pub mod main_loop;
mod parting;
mod queues;
pub mod reading;
mod receiver;
pub mod requests;
mod sink;
mod surroundings;
pub mod waiter;

pub use crew::Crew;
pub use gauge::Gauge;
pub use queues::{Body, Class};
pub use sink::{Budget, Sink, SinkLimits};
pub use surroundings::{MAX_COMMANDS, Order, Surroundings};
