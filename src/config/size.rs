//! Sizes in bytes as people write them: `2097152`, `2048KiB`, `2MiB`.
//!
//! Only powers of 1,024 have names here: `2MB` would be read in two ways.

/// The units, largest first.
const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// Reads a number of bytes; `None` if it is not one. What does not fit is the largest there is, so that a range
/// refuses it.
pub fn parse(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    // Only digits: all that can fail is the size.
    (digits > 0).then(|| number.parse().unwrap_or(usize::MAX).saturating_mul(*length))
}

/// Writes a size in the largest unit that gives a whole number; [`parse`] reads it back.
pub fn text(bytes: usize) -> String {
    match UNITS.iter().find(|(_, length)| bytes > 0 && bytes.is_multiple_of(*length)) {
        Some((unit, length)) => format!("{}{unit}", bytes / length),
        None => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_bytes_and_binary_units_only() {
        for (written, bytes) in [("0", 0), ("7", 7), ("1KiB", 1024), ("2MiB", 2 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse(written), Some(bytes), "{written}");
        }
        for written in ["", "MiB", "2MB", "2mib", "2 MiB", "-1", "1.5MiB", "2MiBs"] {
            assert_eq!(parse(written), None, "{written:?}");
        }
        assert_eq!(parse("99999999999999999999GiB"), Some(usize::MAX));
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(bytes: usize) {
            prop_assert_eq!(parse(&text(bytes)), Some(bytes));
        }
    }
}
