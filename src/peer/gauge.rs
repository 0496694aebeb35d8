//! What the controller sees of a running peer without asking it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::sink::Sink;
use crate::protocol::time::Time;
use crate::reactor::Counts;

/// A peer's figures, as of now.
#[derive(Debug, Default)]
pub struct Gauge {
    pub(super) sink: Mutex<Option<Arc<Sink>>>,
    pub(super) outstanding_since: AtomicU64,
    pub(super) beats: AtomicU64,
}

impl Gauge {
    /// Bytes and frames so far.
    pub fn traffic(&self) -> Counts {
        self.sink.lock().as_ref().map(|sink| sink.connection().traffic().counts()).unwrap_or_default()
    }

    /// Bytes waiting to be written.
    pub fn queued(&self) -> usize {
        self.sink.lock().as_ref().map_or(0, |sink| sink.queued_bytes())
    }

    /// When the unanswered heartbeat was sent.
    pub fn outstanding_since(&self) -> Option<Time> {
        Some(self.outstanding_since.load(Ordering::Relaxed)).filter(|since| *since > 0).map(Time)
    }

    /// Heartbeats sent so far.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}
