//! How many of the refusals are worth a line in the log: an attacker must not be able to fill a disk with what he is
//! refused for, nor to hide in it.
//!
//! Of each reason ten a minute are told; the rest are counted, and summed up in one line when the minute is over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reason::Reason;
use super::time::Time;

/// Lines a minute for each reason: enough to see who it is, and with forty reasons at most 40 KiB a minute.
const LINES: u64 = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// What was told and what was not, for each reason: as many entries as there are reasons.
#[derive(Debug, Default)]
pub struct RefusalLog {
    minutes: BTreeMap<Reason, Minute>,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    began: Time,
    seen: u64,
}

impl RefusalLog {
    /// Something was refused: true if it is to be told. The second number is how many of the minute before were not, to be
    /// told first; 0 for none.
    pub fn refused(&mut self, reason: Reason, now: Time) -> (bool, u64) {
        let minute = self.minutes.entry(reason).or_insert(Minute { began: now, seen: 0 });
        let untold = if now.since(minute.began) >= MINUTE {
            let untold = minute.untold();
            *minute = Minute { began: now, seen: 0 };
            untold
        } else {
            0
        };
        minute.seen += 1;
        (minute.seen <= LINES, untold)
    }

    /// The minutes that are over and of which not all was told, with how many were not. Each is given once.
    pub fn over(&mut self, now: Time) -> Vec<(Reason, u64)> {
        let mut over = Vec::new();
        self.minutes.retain(|reason, minute| {
            let is_over = now.since(minute.began) >= MINUTE;
            if is_over && minute.untold() > 0 {
                over.push((*reason, minute.untold()));
            }
            !is_over
        });
        over
    }
}

impl Minute {
    fn untold(self) -> u64 {
        self.seen.saturating_sub(LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn ten_a_minute_are_told_and_the_rest_in_one_line() {
        let mut log = RefusalLog::default();
        let told = (0..1244).filter(|_| log.refused(Reason::TooFast, at(1)).0).count();
        assert_eq!(told, 10);
        assert_eq!(log.refused(Reason::NotKithd, at(2)), (true, 0), "each reason by itself");
        assert_eq!(log.over(at(60)), [], "the minute is not over");
        assert_eq!(log.refused(Reason::TooFast, at(61)), (true, 1234));
        assert_eq!(log.refused(Reason::TooFast, at(62)), (true, 0), "said once");
    }

    #[test]
    fn what_was_not_told_is_said_when_nothing_more_comes() {
        let mut log = RefusalLog::default();
        for _ in 0..12 {
            log.refused(Reason::TooFast, at(0));
        }
        log.refused(Reason::NotKithd, at(0));
        assert_eq!(log.over(at(60)), [(Reason::TooFast, 2)]);
        assert_eq!(log.over(at(200)), []);
        assert!(log.minutes.is_empty());
    }
}
