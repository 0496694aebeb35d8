//! The local way in: JSON lines over a Unix socket that only the node's user can open.
//!
//! ```text
//!  client ── call ──▶ server ── verb, reply ──▶ desk (the node)
//!         ◀─ answer ─        ◀──── answer ─────   at once, or later from another thread
//! ```
//!
//! [`api`] is the language and works on text alone; [`socket`] prepares the place; any ten lines in any language can
//! replace [`client`].

pub mod api;
pub mod client;
pub mod desk;
pub mod server;
pub mod socket;
mod turns;
