//! kithd: a peer-to-peer node on OS threads, without an async runtime.

pub mod admin;
pub mod cli;
pub mod config;
pub mod peer;
pub mod protocol;
pub mod reactor;
