//! The evil peer: a [`Stranger`](crate::stranger::Stranger) who has come in honestly, and what he may do then.
