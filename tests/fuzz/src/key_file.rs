//! The network key's file: one to three different keys that are no zeros, or one line that says what is wrong and nothing
//! of what is in the file.

use kithd::secure::network_key::{MAX_KEYS, NetworkKey, parse_keys};

use super::text::assert_harmless;

pub fn run(data: &[u8]) {
    let keys = match parse_keys(data) {
        Ok(keys) => keys,
        Err(error) => {
            let line = error.to_string();
            assert_harmless(&line);
            assert!(line.len() < 120 && line.ends_with(|c: char| c.is_ascii_graphic()), "{line:?}");
            // Longer than any number of a line, shorter than any part of a key that would help.
            let digits = |c: char| c.is_ascii_hexdigit();
            assert!(line.split(|c| !digits(c)).all(|run| run.len() < 8), "{line:?}");
            return;
        }
    };
    assert!((1..=MAX_KEYS).contains(&keys.len()));
    for (at, key) in keys.iter().enumerate() {
        assert!(*key != NetworkKey::none() && !keys[..at].contains(key));
        let again = parse_keys(key.to_file().as_bytes()).expect("what it wrote itself");
        assert!(again.iter().eq([key]));
        let shown = format!("{key:?} {}", key.mark());
        assert!(!shown.contains(&key.to_file().lines().last().expect("its digits")[..16]), "a key is shown");
    }
    let file: String = keys.iter().map(|key| key.to_file().to_string()).collect();
    assert_eq!(parse_keys(file.as_bytes()).expect("what it wrote itself"), keys);
}
