//! Cases about identity.
