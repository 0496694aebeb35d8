//! One connection's component: what it sends, what it is told, and in time the thread that drives it.

pub mod sink;

pub use sink::{Budget, Class, Sink, SinkLimits};
