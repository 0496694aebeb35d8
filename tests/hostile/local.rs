//! Cases about local.
