//! The one clock of a node: the monotonic time that the thinking is given, and the wall clock for what is shown.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::time::{Now, Time};

/// What this process, all its threads together, has used of its processors so far.
pub fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // Neither is ever negative, nor the second beyond a thousand million.
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Counts from the node's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now, a little after zero, so that a deadline in the past can be told from none.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The monotonic moment.
    pub fn time(&self) -> Time {
        Time::ZERO + Duration::from_secs(1) + self.start.elapsed()
    }

    /// A moment of the system's clock; what is before the node's start is its start.
    pub fn at(&self, moment: Instant) -> Time {
        Time::ZERO + Duration::from_secs(1) + moment.saturating_duration_since(self.start)
    }

    /// The same the other way.
    pub fn instant(&self, moment: Time) -> Instant {
        self.start + moment.since(Time::ZERO + Duration::from_secs(1))
    }

    /// Both clocks. A wall clock before 1970 reads as 1970.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.time(), wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// How long until a moment: zero if it has passed.
    pub fn until(&self, moment: Time) -> Duration {
        moment.since(self.time())
    }

    /// Since the node's start.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}
