//! Cases about exhaustion.
