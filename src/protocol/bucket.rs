//! A token bucket: so many at once, and so many a second from then on.
//!
//! Whole numbers only, so that a run can be replayed to the bit on any machine.

use std::time::Duration;

use super::time::Time;

/// What one token is in the bucket's own unit, so that a slow rate fills by fractions.
const TOKEN: u64 = 1_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: u32,
    /// The most it holds: what may come at once.
    pub burst: u32,
}

/// One bucket, full at its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    level: u64,
    at: Time,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Time) -> Self {
        Self { level: rate.most(), at: now }
    }

    /// A full one of whatever size: its first use says which.
    pub fn full(now: Time) -> Self {
        Self { level: u64::MAX, at: now }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, rate: Rate, now: Time) -> bool {
        self.fill(rate, now);
        let rest = self.level.checked_sub(TOKEN);
        self.level = rest.unwrap_or(self.level);
        rest.is_some()
    }

    /// True if it holds all it can: it remembers nothing then, and need not be kept.
    pub fn is_full(&mut self, rate: Rate, now: Time) -> bool {
        self.fill(rate, now);
        self.level == rate.most()
    }

    /// When the next token can be taken.
    pub fn ready(&self, rate: Rate) -> Time {
        let lacks = TOKEN.saturating_sub(self.level);
        self.at + Duration::from_micros(lacks.div_ceil(u64::from(rate.per_second.max(1))))
    }

    fn fill(&mut self, rate: Rate, now: Time) {
        // A microsecond brings `per_second` millionths of a token: exactly what the units are made for.
        let span = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.level = self.level.saturating_add(span.saturating_mul(u64::from(rate.per_second))).min(rate.most());
        self.at = self.at.max(now);
    }
}

impl Rate {
    fn most(self) -> u64 {
        u64::from(self.burst) * TOKEN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::new(rate, Time::ZERO);
        assert_eq!((0..5).filter(|_| bucket.take(rate, Time::ZERO)).count(), 3);
        assert_eq!(bucket.ready(rate), Time(100_000));
        assert!(!bucket.take(rate, Time(99_999)) && bucket.take(rate, Time(100_000)));
        assert!(!bucket.is_full(rate, Time(300_000)) && bucket.is_full(rate, Time(400_000)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            per_second in 1u32..100, burst in 1u32..100, steps in prop::collection::vec(0u64..200_000, 1..300),
        ) {
            let rate = Rate { per_second, burst };
            let (mut bucket, mut now, mut taken) = (Bucket::new(rate, Time::ZERO), Time::ZERO, 0u64);
            for step in steps {
                now = Time(now.0 + step);
                taken += u64::from(bucket.take(rate, now));
            }
            prop_assert!(taken <= u64::from(burst) + now.0 * u64::from(per_second) / 1_000_000);
        }
    }
}
