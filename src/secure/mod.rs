//! Keys and the door: the only home of key material, and the only place where a signature is believed.

pub mod door;
pub mod keys;
