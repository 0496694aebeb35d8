//! The network controller: the node's threads around the pure thinking.
//!
//! ```text
//!   ctl-listen ──┐  accepted                                                  ┌──▶ peer-1, peer-2, …
//!   ctl-idle ────┤  dialled        ┌──────────── registry ────────────┐       │    commands, never waiting
//!   peers ───────┼─ events ──▶ ctl-main ──▶ protocol::Node ──▶ actions ───────┘
//!   ctl-discovery┘  ticks          └─ one lock, one pure call ────────┘
//!   ctl-status      reads a report, writes files
//! ```
//!
//! Each loop is a thread that blocks in the operating system until it has something to do. The registry's lock is held
//! for one pure call, never across a send, a join or I/O; what the call wants done is done after it.

pub mod access;
mod alarms;
mod allowance;
pub mod asking;
mod asking_later;
mod awaiting;
mod built_in;
mod configured;
mod counting;
pub mod desk;
mod errands;
mod explain;
mod known_json;
mod lines;
mod listen;
pub mod load;
mod loading;
mod log_watch;
mod main_loop;
mod monitor_idle;
mod monitor_status;
mod network_discovery;
pub mod node;
mod node_requests;
mod own_address;
mod registry;
mod reload;
pub mod requester;
mod resolver;
pub mod settings;
mod start_error;
pub mod state_dir;
mod tagging;
mod terse_log;
pub mod threads;
mod whole_file;

pub use access::AccessError;
pub use lines::End;
pub use log_watch::LogLoss;
pub use reload::Reloaded;
pub use start_error::StartError;
