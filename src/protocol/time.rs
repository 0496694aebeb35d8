//! Time as an argument: nothing below `controller/` and `simulator/` asks a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on a monotonic clock: microseconds since an arbitrary start. Timers use only this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// The clock's start.
    pub const ZERO: Self = Self(0);

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates, so that a configured duration of centuries cannot overflow.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// The present, on both clocks: the wall clock is for records and reports only and may jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For every timer.
    pub mono: Time,
    /// Unix time in milliseconds, for what is shown or signed.
    pub wall_ms: u64,
}

impl Now {
    /// Whole hours of Unix time, the unit of a record's `issued`.
    pub fn wall_hours(&self) -> u32 {
        u32::try_from(self.wall_ms / 3_600_000).unwrap_or(u32::MAX)
    }

    /// The wall clock's reading at an earlier or later monotonic moment.
    pub fn wall_at(&self, moment: Time) -> u64 {
        let ahead = moment.0.saturating_sub(self.mono.0) / 1000;
        let behind = self.mono.0.saturating_sub(moment.0) / 1000;
        self.wall_ms.saturating_add(ahead).saturating_sub(behind)
    }
}

/// Unix milliseconds as RFC 3339 in UTC, `2026-11-21T09:23:05.042Z`; years beyond 9999 are shown as 9999's end.
pub fn rfc3339(wall_ms: u64) -> String {
    let ms = wall_ms.min(253_402_300_799_999);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second, milli) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The moment that [`rfc3339`] wrote: exactly its form, `None` for any other text.
pub fn from_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, milli) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    let in_day = ((hour * 60 + minute) * 60 + second) * 1000 + milli;
    let ms = (days(year, month, day)? * 86_400_000).checked_add(in_day)?;
    (rfc3339(ms) == text).then_some(ms)
}

/// The inverse of [`civil`], by the same author; a day that is in no calendar gives some other day's count.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + of_era).checked_sub(719_468)
}

/// Year, month and day of a day count since 1970: Howard Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_254_185_042), "2026-11-21T09:43:05.042Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn moments_are_read_back_and_nothing_else_is() {
        for ms in [0, 951_782_400_000, 1_795_254_185_042, 4_102_444_799_999, 253_402_300_799_999] {
            assert_eq!(from_rfc3339(&rfc3339(ms)), Some(ms));
        }
        for text in [
            "",
            "1970-01-01",
            "1969-12-31T23:59:59.999Z",
            "2026-02-30T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:00.000+",
            "2026-01-01 00:00:00.000Z",
            "+026-01-01T00:00:00.000Z",
            "2026-01-01T00:00:00.000Zé",
            "éééééééééééééééééééééééé",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(Time(u64::MAX) + Duration::MAX, Time(u64::MAX));
        assert_eq!(Time(1) - Duration::from_secs(1), Time::ZERO);
    }
}
