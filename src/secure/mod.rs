//! Keys, the handshake and the door: the only home of key material, and the only place where a signature is believed.
//!
//! ```text
//!   network_key  ──▶ handshake ──▶ session         who may speak, who is there, what is said
//!   credentials  ──▶    │                          on primitives and curve (on montgomery)
//!   keys (identity) ────┘   door                   what was signed, by whomever it was brought
//! ```

pub mod credentials;
pub mod curve;
pub mod door;
pub mod handshake;
pub mod keys;
mod montgomery;
pub mod network_key;
pub mod primitives;
pub mod recent;
pub mod session;
