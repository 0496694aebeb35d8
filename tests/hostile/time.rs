//! Cases about time.
