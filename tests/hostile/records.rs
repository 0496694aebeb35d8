//! Cases about records.
