//! The local way in: JSON lines over a Unix socket that only the node's user can open.
//!
//! ```text
//!  client ── call ──▶ server ── verb, reply ──▶ desk (the node)
//!         ◀─ answer ─        ◀──── answer ─────   at once, or later from another thread
//!
//!  client ◀─ request ─       ◀──── request ────   if it serves something
//!         ── answer ─▶       ───── answer ────▶
//! ```
//!
//! [`api`] is the language and works on text alone; [`socket`] prepares the place; any ten lines in any language can
//! replace [`client`].

pub mod api;
mod args;
pub mod client;
pub mod desk;
pub mod load;
pub mod payload;
mod providers;
pub mod server;
pub mod socket;
mod turns;
