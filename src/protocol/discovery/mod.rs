//! Network discovery: how the whole network comes to the same view, and shows it.
//!
//! ```text
//!  feed        what changed and whom it has not reached yet           Push, News
//!  publisher   when this node says something new of itself            Record
//!  detector    from silence over suspicion to a witness of death      Witness
//!  overlay     which nodes to be linked to                            dials
//!  agreement   who is shown to hold the same view                     Heartbeat
//! ```
//!
//! Each is a small state machine of its own; `node/` joins them. This is the part of `discovery.md` that networks of up
//! to 64 nodes need.

pub mod agreement;
pub mod detector;
pub mod feed;
pub mod overlay;
pub mod publisher;
