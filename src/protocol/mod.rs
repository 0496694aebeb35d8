//! The thinking: pure state machines that never see a thread, a socket, a clock, a channel, a lock or a random source.
//!
//! Time and chance are arguments; input goes in, actions come out. The daemon's threads and the simulator's virtual
//! time drive the very same code.
//!
//! ```text
//!   frames ──▶ codec ──▶ message ──▶ peer_state (heartbeat) ──▶ events
//!                                                                 │
//!   actions ◀── node (address_book, discovery/, view, digest) ◀───┘
//! ```
//!
//! What travels between two nodes, byte by byte, for programs in other languages: [`wire`].

pub mod address;
pub mod address_book;
pub mod admission_rate;
pub mod bans;
pub mod bucket;
pub mod census_report;
pub mod chronicle;
pub mod codec;
pub mod conduct;
pub mod digest;
pub mod discovery;
pub mod entry;
pub mod escape;
pub mod eviction;
pub mod expected;
pub mod explanation;
pub mod hash;
pub mod heartbeat;
pub mod identity;
pub mod key_mark;
pub mod list;
mod lookup;
pub mod message;
pub mod neighbourhood;
pub mod node;
pub mod numbers;
pub mod open_requests;
pub mod peer_event;
pub mod peer_state;
pub mod prefix;
pub mod reason;
pub mod record;
pub mod refusal_log;
pub mod report;
pub mod requests;
pub mod rng;
pub mod tags;
mod tally;
pub mod testimony;
pub mod time;
pub mod view;
pub mod wire;
pub mod words;
