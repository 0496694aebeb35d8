//! The configuration file: TOML turned into words, each with its place.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::field::Shape;
use super::keys::{self, Key};
use super::load::{ConfigError, Origin, Setting, Word, shortened};
use super::services;
use super::subject::Subject;
use crate::protocol::escape::escaped;
use crate::protocol::requests::service::ServiceName;

/// The longest file in bytes: several times the documented one. A wrong path (a disk, say) is noticed before it fills
/// the memory.
const LONGEST: u64 = 64 << 10;

type Entry<'a> = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>);

/// Reads a file: what it says, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let name = escaped(&path.display().to_string()).into_owned();
    let bytes = contents(path).map_err(|error| ConfigError::new(&name, explain(&error)))?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("is longer than {} KiB; is it a configuration file?", LONGEST >> 10);
        return Err(ConfigError::new(&name, message));
    }
    settings(&name, &bytes)
}

/// The settings in a file's bytes.
pub(super) fn settings(name: &str, bytes: &[u8]) -> Result<Vec<Setting>, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        ConfigError::new(format!("{name}: line {line}"), "is not UTF-8; save the file in that encoding")
    })?;
    let source = Source { name, text };
    let document = DeTable::parse(text).map_err(|error| source.syntax_error(&error))?;
    let mut settings = Vec::new();
    for (table, value) in in_order(document.get_ref()) {
        let known = keys::keys().iter().any(|key| key.table() == table.get_ref().as_ref());
        let is_services = table.get_ref() == services::TABLE;
        match value.get_ref() {
            DeValue::Table(entries) if is_services => source.services(entries, &mut settings)?,
            _ if is_services => {
                let place = source.place(table.get_ref(), table.span(), value);
                return Err(ConfigError::new(place, "is a table; write a service's keys below a line [services.NAME]"));
            }
            DeValue::Table(entries) if known => {
                for (key, value) in in_order(entries) {
                    settings.push(source.setting(table.get_ref(), key, value)?);
                }
            }
            DeValue::Table(_) => return Err(source.unknown_table(table)),
            _ if known => {
                let message = format!("is a table; write its keys below a line [{}]", table.get_ref());
                return Err(ConfigError::new(source.place(table.get_ref(), table.span(), value), message));
            }
            _ => return Err(source.unknown_key(table.get_ref(), table.span(), value)),
        }
    }
    Ok(settings)
}

/// Reads no more than what shows that it is too long.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file; give --config the path of one that exists".to_owned(),
        ErrorKind::IsADirectory => "is a directory; give --config the path of a file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied; let the user that kithd runs as read it".to_owned(),
        _ => format!("cannot be read ({error}); give --config the path of another file"),
    }
}

/// A table's entries in the order of the file, so that the first error is the topmost.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A file's name and text: all that an error has to quote.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// All that is said of services, each in a table of its own.
    fn services(&self, entries: &DeTable<'_>, settings: &mut Vec<Setting>) -> Result<(), ConfigError> {
        for (name, value) in in_order(entries) {
            let table = format!("{}.{}", services::TABLE, name.get_ref());
            let place = || self.place(&table, name.span(), value);
            let service = name.get_ref().parse::<ServiceName>();
            let service = service.map_err(|message| ConfigError::new(place(), message))?;
            let DeValue::Table(entries) = value.get_ref() else {
                let message = format!("is a table; write its keys below a line [{table}]");
                return Err(ConfigError::new(place(), message));
            };
            for (key, value) in in_order(entries) {
                let known = services::find(key.get_ref()).ok_or_else(|| self.unknown_of(&service, key, value))?;
                settings.push(self.said(Subject::Service(service, known), key.span(), value)?);
            }
        }
        Ok(())
    }

    fn setting(
        &self,
        table: &str,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Setting, ConfigError> {
        let name = format!("{table}.{}", key.get_ref());
        let Some(known) = keys::find(&name) else {
            return Err(self.unknown_key(&name, key.span(), value));
        };
        self.said(Subject::Key(known), key.span(), value)
    }

    fn said(&self, subject: Subject, at: Range<usize>, value: &Spanned<DeValue<'_>>) -> Result<Setting, ConfigError> {
        let origin = Origin::File { file: self.name.to_owned(), line: self.line(at.start) };
        let words = self.words(&subject, at.clone(), value)?;
        let place = self.place(&subject.name(), at, value);
        Ok(Setting { subject, origin, place, words })
    }

    /// The words of a value: itself, a list's items, or a table's entries as `key=value`.
    fn words(&self, key: &Subject, at: Range<usize>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Word>, ConfigError> {
        let name = key.name();
        match (key.shape(), value.get_ref()) {
            (Shape::List, DeValue::Array(items)) => {
                items.iter().map(|item| self.word(key, &name, item.span(), item)).collect()
            }
            (Shape::Table, DeValue::Table(entries)) => in_order(entries)
                .into_iter()
                .map(|(tag, value)| {
                    let name = format!("{name}.{}", tag.get_ref());
                    let mut word = self.word(key, &name, tag.span(), value)?;
                    if tag.get_ref().contains('=') {
                        return Err(ConfigError::new(word.place, "a tag's key has no '='; use another"));
                    }
                    word.text = format!("{}={}", tag.get_ref(), word.text);
                    Ok(word)
                })
                .collect(),
            (Shape::List | Shape::Table, _) => Err(ConfigError::new(self.place(&name, at, value), key.expected())),
            _ => Ok(vec![self.word(key, &name, at, value)?]),
        }
    }

    /// One word: a text, or a number where the key wants one.
    fn word(
        &self,
        key: &Subject,
        name: &str,
        at: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Word, ConfigError> {
        let place = self.place(name, at, value);
        match (key.shape(), value.get_ref()) {
            (Shape::Text | Shape::Size | Shape::List | Shape::Table, DeValue::String(text)) => {
                Ok(Word { text: text.clone().into_owned(), place })
            }
            (Shape::Number | Shape::Size, DeValue::Integer(number)) => {
                // Hexadecimal and the like; what does not even fit there is refused as it stands.
                let text = match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => number.as_str().to_owned(),
                };
                Ok(Word { text, place })
            }
            (Shape::Switch, DeValue::Boolean(on)) => Ok(Word { text: on.to_string(), place }),
            _ => Err(ConfigError::new(place, key.expected())),
        }
    }

    /// `FILE: line N: KEY = VALUE`, the value as written.
    fn place(&self, name: &str, at: Range<usize>, value: &Spanned<DeValue<'_>>) -> String {
        let written = match value.get_ref() {
            // Its span is that of its header.
            DeValue::Table(_) => "{…}",
            _ => self.text.get(value.span()).unwrap_or_default(),
        };
        format!("{}: line {}: {} = {}", self.name, self.line(at.start), shortened(name), shortened(written))
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    fn unknown_key(&self, name: &str, at: Range<usize>, value: &Spanned<DeValue<'_>>) -> ConfigError {
        let cure = match keys::nearest(name) {
            Some(key) => format!("did you mean {}?", key.name),
            None => match name.split_once('.') {
                Some((table, _)) => format!("[{table}] has {}", known_in(table)),
                None => format!("the tables are {}", tables().join(", ")),
            },
        };
        ConfigError::new(self.place(name, at, value), format!("unknown key; {cure}"))
    }

    fn unknown_of(
        &self,
        service: &ServiceName,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> ConfigError {
        let cure = match services::nearest(key.get_ref()) {
            Some(near) => format!("did you mean {}?", near.name_of(service)),
            None => {
                let known: Vec<_> = services::service_keys().iter().map(|key| key.name).collect();
                format!("[{}.{service}] has {}", services::TABLE, known.join(", "))
            }
        };
        let name = format!("{}.{service}.{}", services::TABLE, key.get_ref());
        ConfigError::new(self.place(&name, key.span(), value), format!("unknown key; {cure}"))
    }

    fn unknown_table(&self, table: &Spanned<DeString<'_>>) -> ConfigError {
        let name = table.get_ref();
        let place = format!("{}: line {}: [{}]", self.name, self.line(table.span().start), shortened(name));
        let near = tables().into_iter().map(|known| (keys::edits(known, name), known)).min();
        let cure = match near {
            Some((distance, known)) if distance <= 2 => format!("did you mean [{known}]?"),
            _ => format!("the tables are {}", tables().join(", ")),
        };
        ConfigError::new(place, format!("unknown table; {cure}"))
    }

    /// `FILE: line N: THE LINE: not TOML: why`.
    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let line = self.line(error.span().map_or(self.text.len(), |span| span.start));
        let written = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        let place = match written {
            "" => format!("{}: line {line}", self.name),
            _ => format!("{}: line {line}: {}", self.name, shortened(written)),
        };
        ConfigError::new(place, format!("not TOML: {}", error.message()))
    }
}

fn tables() -> Vec<&'static str> {
    let mut tables: Vec<_> = keys::keys().iter().map(Key::table).collect();
    tables.dedup();
    tables.push(services::TABLE);
    tables
}

fn known_in(table: &str) -> String {
    let known: Vec<_> = keys::keys().iter().filter(|key| key.table() == table).map(Key::short_name).collect();
    known.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Config;
    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            one_line_at_most(&bytes)?;
        }

        #[test]
        fn no_near_miss_makes_it_panic(lines in prop::collection::vec(line(), 0..12)) {
            one_line_at_most(lines.join("\n").as_bytes())?;
        }
    }

    /// Lines put together of what a configuration is made of.
    fn line() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "[",
            "]",
            "heartbeat",
            "node",
            ".",
            "tags",
            "interval",
            "limits",
            "max_nodes",
            "listen",
            "services",
            "command",
            "addresses",
            " = ",
            "\"",
            "'",
            "1s",
            "0",
            "0x7f",
            "-1",
            "1e9",
            "[[",
            "]]",
            "{",
            "}",
            ",",
            "#",
            "\u{1b}",
            "\u{202e}",
            "é",
            "\r",
            "\"127.0.0.1:1\"",
            "true",
            "99999999999999999999",
            "1979-05-27",
            "\\u0000",
            "\"\"\"",
        ]);
        prop::collection::vec(part, 0..9).prop_map(|parts| parts.concat())
    }

    fn one_line_at_most(bytes: &[u8]) -> Result<(), TestCaseError> {
        let mut config = Config::default();
        let result = settings("kithd.toml", bytes)
            .and_then(|settings| settings.iter().try_for_each(|setting| setting.apply(&mut config)));
        if let Err(error) = result {
            let line = error.to_string();
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            prop_assert!(line.starts_with("kithd.toml: line "), "{line:?}");
        }
        Ok(())
    }

    #[test]
    fn nesting_without_end_is_refused() {
        for (open, middle) in [("[", ""), ("{a=", "1"), ("a.", "a = 1")] {
            let text = format!("{}{middle}", open.repeat(20_000));
            assert!(settings("kithd.toml", text.as_bytes()).is_err());
            assert!(settings("kithd.toml", format!("a = {text}").as_bytes()).is_err());
            assert!(settings("kithd.toml", format!("[{}a]", "a.".repeat(20_000)).as_bytes()).is_err());
        }
    }
}
