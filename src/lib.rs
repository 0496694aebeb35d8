//! kithd: a peer-to-peer node on OS threads, without an async runtime.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod peer;
pub mod protocol;
pub mod reactor;
pub mod secure;
pub mod simulator;

pub use config::Config;
pub use controller::node::Node;
pub use controller::{End, StartError};
pub use protocol::node::{Notice as Event, Outcome};
