//! Every small parser of text that people or other nodes write: what it accepts it prints, and reads back as the same;
//! what it refuses, it refuses in one line.

use kithd::Config;
use kithd::admin::api::{AdminError, Answer};
use kithd::config::{Overrides, duration, keys};
use kithd::protocol::address::{HostPort, dialable};
use kithd::protocol::bans::Note;
use kithd::protocol::escape::{escaped, escaped_json};
use kithd::protocol::identity::{ControllerId, Label, from_hex, to_hex};
use kithd::protocol::prefix::Prefix;
use kithd::protocol::time::{from_rfc3339, rfc3339};

use super::bytes::Bytes;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let key = usize::from(bytes.byte());
    let text = String::from_utf8_lossy(bytes.rest());
    label(&text);
    shown(&text);
    place(&text);
    range(&text);
    numbers(&text);
    setting(key, &text);
    answer(&text);
}

/// One line that does to a terminal nothing but show. Spelled out once more, so that a slip in the escape does not pass.
pub fn assert_harmless(line: &str) {
    let harms = |c: char| {
        let separates = matches!(c, '\u{2028}' | '\u{2029}');
        let turns =
            matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let hides = matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}');
        c.is_control() || separates || turns || hides
    };
    assert!(!line.contains(harms), "{line:?}");
}

fn label(text: &str) {
    let legal = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (1..=63).contains(&text.len()) && text.chars().all(allowed)
    };
    let lossy = Label::from_lossy(text);
    assert!(legal(lossy.as_str()));
    assert_eq!(Label::from_lossy(lossy.as_str()), lossy);
    match text.parse::<Label>() {
        Ok(label) => assert!(legal(text) && label.as_str() == text && label == lossy),
        Err(why) => {
            assert!(!legal(text));
            assert_harmless(&why);
        }
    }
}

fn shown(text: &str) {
    let safe = escaped(text);
    assert_harmless(&safe);
    assert_eq!(escaped(&safe), safe);
    // As JSON, compact and not, it is still what it was.
    let meant = serde_json::json!({ text: [text] });
    for written in [meant.to_string(), format!("{meant:#}")] {
        let line = escaped_json(written);
        assert_harmless(&line);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).ok().as_ref(), Some(&meant));
    }
}

fn place(text: &str) {
    match text.parse::<HostPort>() {
        Ok(place) => {
            let written = place.to_string();
            assert_harmless(&written);
            assert_eq!(written.parse().as_ref(), Ok(&place));
            if let HostPort::Ip(address) = place {
                assert_eq!(dialable(address), Ok(address));
            }
        }
        Err(why) => assert_harmless(&why),
    }
}

fn range(text: &str) {
    match text.parse::<Prefix>() {
        Ok(prefix) => {
            assert!(Prefix::is_meant(text));
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
            assert!(prefix.holds_all(&prefix) && Prefix::is_meant(&prefix.to_string()));
        }
        Err(why) => assert_harmless(&why),
    }
    match text.parse::<Note>() {
        Ok(note) => assert_eq!(note.to_string(), text),
        Err(why) => assert_harmless(&why),
    }
}

fn numbers(text: &str) {
    if let Ok(read) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::text(read)), Ok(read));
    }
    if let Some(moment) = from_rfc3339(text) {
        assert_eq!(rfc3339(moment), text);
    }
    if let Ok(id) = text.parse::<ControllerId>() {
        assert_eq!(id.hex(), text.to_ascii_lowercase());
    }
    if let Some(bytes) = from_hex::<4>(text) {
        assert_eq!(to_hex(&bytes), text.to_ascii_lowercase());
    }
}

/// As a flag's value, which is where the grammar of all the keys is.
fn setting(key: usize, text: &str) {
    let key = &keys()[key % keys().len()];
    let mut flags = Overrides::default();
    flags.set(key, vec![text.to_owned()]);
    match Config::load(None, &flags) {
        Ok(loaded) => {
            assert_eq!(loaded.config.check(), Ok(()));
            let mut again = Overrides::default();
            again.set(key, key.words(&loaded.config));
            assert_eq!(Config::load(None, &again).map(|again| again.config), Ok(loaded.config));
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

fn answer(text: &str) {
    let line = Answer::Error(AdminError::negative("no", text)).line();
    assert_harmless(&line);
    let read: Answer = serde_json::from_str(&line).expect("an answer is JSON");
    assert!(matches!(read, Answer::Error(error) if error.message == text));
}
