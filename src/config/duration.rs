//! Durations as people write them: a whole number and a unit, `500ms`, `1s`, `2m`, `1h`.
//!
//! The unit is never left out: a bare `5` is read as seconds by one and as milliseconds by the next.

use std::time::Duration;

/// The units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `500ms`, `1s`, `2m` or `1h`. What does not fit is the longest there is, so that a range refuses it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if digits > 0 && unit.is_empty() {
        return Err(format!("needs a unit (ms, s, m or h), as in {number}s"));
    }
    match UNITS.iter().find(|(name, _)| *name == unit) {
        // Only digits: all that can fail is the size.
        Some((_, length)) if digits > 0 => {
            Ok(Duration::from_millis(number.parse().unwrap_or(u64::MAX).saturating_mul(*length)))
        }
        _ => Err("must be a whole number and a unit (ms, s, m or h), as in 500ms".to_owned()),
    }
}

/// Writes a duration in the largest unit that gives a whole number; [`parse`] reads it back.
///
/// What is below a millisecond, which no configuration can say, is rounded up.
pub fn text(duration: Duration) -> String {
    let whole = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    match UNITS.iter().find(|(_, length)| whole > 0 && whole.is_multiple_of(*length)) {
        Some((unit, length)) => format!("{}{unit}", whole / length),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_each_unit() {
        for (written, millis) in [("0ms", 0), ("500ms", 500), ("1s", 1_000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(parse(written), Ok(Duration::from_millis(millis)), "{written}");
        }
        assert_eq!(parse("99999999999999999999h"), Ok(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn refuses_everything_else() {
        for written in ["", "5", "s", "1.5s", "-1s", "+1s", " 1s", "1 s", "1S", "1d", "1us", "1s1ms", "١s"] {
            assert!(parse(written).is_err(), "{written:?}");
        }
    }

    #[test]
    fn writes_the_largest_whole_unit() {
        for written in ["0s", "1ms", "1500ms", "1s", "90s", "2m", "61m", "1h", "48h"] {
            assert_eq!(parse(written).map(text).as_deref(), Ok(written));
        }
        assert_eq!(text(Duration::from_micros(10)), "1ms");
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }
    }
}
