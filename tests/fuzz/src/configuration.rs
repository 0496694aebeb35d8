//! The configuration file: its bytes are a configuration that stands, or one line that names the line at fault.

use kithd::Config;
use kithd::config::{Overrides, keys};

use super::text::assert_harmless;

pub fn run(data: &[u8]) {
    let config = match Config::of_bytes("kithd.toml", data) {
        Ok(loaded) => loaded.config,
        Err(error) => {
            let line = error.to_string();
            assert_harmless(&line);
            let number = line.strip_prefix("kithd.toml: line ").and_then(|rest| rest.split(':').next());
            let number = number.and_then(|number| number.parse::<usize>().ok());
            let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
            assert!(number.is_some_and(|number| (1..=lines).contains(&number)), "{line:?}");
            assert!(line.len() < 2000, "{line:?}");
            return;
        }
    };
    assert_eq!(config.check(), Ok(()));
    // Flags that are made of it say the same again.
    let mut shown = Overrides::default();
    for key in keys() {
        let words = key.words(&config);
        assert_harmless(&key.text(&config));
        if !words.is_empty() || key.is_list() {
            shown.set(key, words);
        }
    }
    // Services have no flags.
    let again = Config::load(None, &shown).map(|again| Config { services: config.services.clone(), ..again.config });
    assert_eq!(again, Ok(config));
}
