//! What applications ask each other: the tail asks, the head answers.
//!
//! ```text
//!   tail   Asking                                                        Serving   head
//!   ask ──▶ open: id, deadline ──── Request{id, service, ...} ────────▶ bounds, id, pieces ──▶ a handler
//!                              ──── Piece{id, bytes} ... ─────────────▶                           │
//!   done ◀── pieces            ◀─── Response{id, outcome, ...} ──────── owed until answered ◀─────┘
//!                              ◀─── Piece{id, bytes} ... ──────────────
//! ```
//!
//! A payload that fills more than one message is sent in pieces, and pieces of several payloads take turns: a large one
//! delays neither heartbeats nor the small ones for longer than one frame takes. Both halves are bounded in requests and in
//! bytes, each end by its own configuration.
//!
//! **At most once.** Ids rise on each connection, so that one that comes again is recognised without remembering any. What
//! was asked is not asked again by this code, on this connection or another: whether it was carried out before the
//! connection broke, only the application can know.

pub mod asking;
pub mod error;
pub mod line;
pub mod message;
pub mod report;
pub mod service;
pub mod serving;

pub(super) mod at_once;

mod arriving;
mod chain;
mod open;

/// How much one connection may have open in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Requests that are not yet answered.
    pub requests: usize,
    /// Bytes of their payloads, with [`COST`] for each.
    pub bytes: usize,
    /// Of one payload.
    pub payload: usize,
}

impl Window {
    /// True if so many requests with such payloads can be open at the same time. One of any size can.
    pub fn holds(&self, requests: usize, payload: usize) -> bool {
        let bytes = payload.saturating_add(COST).saturating_mul(requests);
        payload <= self.payload && requests <= self.requests && (requests == 1 || bytes <= self.bytes)
    }
}

/// What an open request costs beside its payload, roughly: so many without any payload are bounded in bytes as well.
pub const COST: usize = 128;
