//! How often one kind of thing may be logged: whoever makes it happen must not fill the disk with it.

use std::time::Duration;

use super::time::Time;

/// Lines of one kind in one [`WINDOW`]: enough to see who and how, too few to hurt.
pub const MOST: u32 = 10;
/// The span that they are counted in.
pub const WINDOW: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRate {
    began: Option<Time>,
    written: u32,
    withheld: u64,
}

impl LogRate {
    /// Whether one more may be written now; if so, how many were withheld since the last one that was.
    pub fn allows(&mut self, now: Time) -> Option<u64> {
        if self.began.is_none_or(|began| now.since(began) >= WINDOW) {
            (self.began, self.written) = (Some(now), 0);
        }
        if self.written == MOST {
            self.withheld += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_and_then_the_number_of_the_others() {
        let mut rate = LogRate::default();
        let at = |second: u64| Time::ZERO + Duration::from_secs(second);
        let written = (0..50).filter(|second| rate.allows(at(*second)).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(rate.allows(at(60)), Some(40));
        assert_eq!(rate.allows(at(61)), Some(0));
    }
}
