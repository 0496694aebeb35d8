//! One event, one line: text that a remote, a file or an environment chose, made harmless before it is shown.
//!
//! A newline in a label would forge a second line of a log, an escape sequence would repaint a terminal, a mark of
//! direction would show a name backwards. All of these are written out (`\n`, `\u{202e}`); what people read stays as it is.

use std::borrow::Cow;
use std::fmt::Write;

/// True for what breaks a line, moves the cursor, turns direction or does not show: C0 and C1 controls, separators of
/// lines, marks of direction, and characters without width.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Exactly one line of text that does nothing but show.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 8), |mut safe, c| {
        match misleads(c) {
            // Writing to a String cannot fail.
            true => _ = write!(safe, "{}", c.escape_default()),
            false => safe.push(c),
        }
        safe
    }))
}

/// JSON on one line that means the same: between tokens a control character is a space, inside a string its `\u` form.
pub fn escaped_json(json: String) -> String {
    if !json.contains(misleads) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len() + 8), |mut safe, c| {
        if c.is_ascii_control() && c != '\u{7f}' {
            // JSON allows these only between its tokens.
            safe.push(' ');
        } else if misleads(c) {
            // JSON allows these only inside strings, and there in UTF-16. Writing to a String cannot fail.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Spelled out once more, so that a slip above does not pass here.
    fn is_harmless(text: &str) -> bool {
        text.chars().all(|c| {
            let c = u32::from(c);
            let control = c < 0x20 || (0x7f..0xa0).contains(&c);
            let line = c == 0x2028 || c == 0x2029;
            let bidi = c == 0x61c || c == 0x200e || c == 0x200f || (0x202a..=0x202e).contains(&c);
            !control && !line && !bidi && !(0x2066..=0x2069).contains(&c)
        })
    }

    fn nasty() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            '\n',
            '\r',
            '\t',
            '\u{0}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{feff}',
            '\u{e0041}',
            '"',
            '\\',
            'a',
            'é',
            '→',
        ]);
        prop::collection::vec(prop_oneof![2 => odd, 1 => any::<char>()], 0..60)
            .prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_comes_in_one_harmless_line_comes_out(text in nasty()) {
            let safe = escaped(&text);
            prop_assert!(is_harmless(&safe), "{safe:?}");
            prop_assert!(safe.lines().count() <= 1);
            prop_assert!(escaped(&safe) == safe, "what is safe stays as it is");
        }

        #[test]
        fn json_means_the_same_afterwards(key in nasty(), value in nasty()) {
            let meant = serde_json::json!({ key: [value] });
            for written in [meant.to_string(), format!("{meant:#}")] {
                let safe = escaped_json(written);
                prop_assert!(is_harmless(&safe), "{safe:?}");
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&safe).unwrap(), &meant);
            }
        }
    }

    #[test]
    fn what_people_read_stays() {
        for text in ["", "plain → é", "日本語 \"quoted\" \\ 'x'"] {
            assert!(matches!(escaped(text), Cow::Borrowed(_)), "{text}");
        }
        assert_eq!(escaped("\u{1b}[2J\u{85}\u{2028}\u{feff}"), "\\u{1b}[2J\\u{85}\\u{2028}\\u{feff}");
    }
}
