//! The kinds of values: how each is read from words and written back, whatever the words came from.
//!
//! A word is what would stand after a flag. The file's reader makes words of TOML values, so each check stands here
//! once. One accessor a key serves both directions; reading goes through a copy, which nobody will ever measure.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{Value, json};

use super::{Config, Listen, Network, Service, duration, host_names, size};
use crate::protocol::address::{self, HostPort};
use crate::protocol::expected::{Expected, MAX_EXPECTED};
use crate::protocol::identity::{self, ControllerId};
use crate::protocol::tags::{self, Tags};

/// Where in the configuration, or in a part of it, a value is.
type At<C, T> = fn(&mut C) -> &mut T;

/// What kind of value a key has, where it is, and between which bounds.
#[derive(Debug)]
pub(super) enum Field<C = Config> {
    Label(At<C, identity::Label>),
    Level(At<C, LevelFilter>),
    Path(At<C, PathBuf>),
    OptionalPath(At<C, Option<PathBuf>>),
    Advertise(At<C, Option<SocketAddr>>),
    Addresses(At<C, Vec<SocketAddr>>),
    Hosts(At<C, Vec<HostPort>>),
    Ids(At<C, Vec<ControllerId>>),
    Expected(At<C, Vec<Expected>>),
    Command(At<C, Vec<String>>),
    Tags(At<C, Tags>),
    Time(At<C, Duration>, Duration, Duration),
    Count(At<C, usize>, usize, usize),
    Size(At<C, usize>, usize, usize),
    Switch(At<C, bool>),
}

/// The form of a value in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Text,
    /// A whole number, never in quotes.
    Number,
    /// `true` or `false`, never in quotes.
    Switch,
    /// A whole number, or one with a unit in quotes.
    Size,
    /// Texts.
    List,
    /// Names with texts.
    Table,
}

/// Why a value was refused.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// Which word is to blame, if it is one of them.
    pub(super) word: Option<usize>,
    /// What it must be.
    pub(super) message: String,
}

/// Not derived: that would ask for a configuration that can be copied.
impl<C> Clone for Field<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Field<C> {}

impl<C: Clone + Default> Field<C> {
    /// Sets the value from words, or says which is wrong and why.
    pub(super) fn set(self, config: &mut C, words: &[String]) -> Result<(), Fault> {
        match self {
            Self::Label(at) => *at(config) = one(words, |word| word.parse())?,
            Self::Level(at) => *at(config) = one(words, |word| self.level(word))?,
            Self::Path(at) => *at(config) = one(words, path)?,
            Self::OptionalPath(at) => *at(config) = Some(one(words, path)?),
            Self::Advertise(at) => *at(config) = Some(one(words, |word| address::dialable(socket_address(word)?))?),
            Self::Addresses(at) => *at(config) = addresses(words)?,
            Self::Hosts(at) => *at(config) = each(words, Network::CONNECT_MAX, host_names::read)?,
            Self::Ids(at) => *at(config) = each(words, Network::ALLOW_MAX, id)?,
            Self::Expected(at) => *at(config) = each(words, MAX_EXPECTED, str::parse)?,
            Self::Command(at) => *at(config) = command(words)?,
            Self::Tags(at) => *at(config) = tags(words)?,
            Self::Switch(at) => *at(config) = one(words, |word| word.parse().map_err(|_| self.expected().to_owned()))?,
            Self::Time(at, least, most) => *at(config) = one(words, |word| self.time(word, least, most))?,
            Self::Count(at, least, most) | Self::Size(at, least, most) => {
                *at(config) = one(words, |word| self.number(word, least, most))?;
            }
        }
        Ok(())
    }

    /// The value as words, none if it is not set; [`Field::set`] makes the same value of them.
    pub(super) fn words(self, config: &C) -> Vec<String> {
        fn texts<T: Display>(values: &[T]) -> Vec<String> {
            values.iter().map(T::to_string).collect()
        }
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let config = &mut config.clone();
        match self {
            Self::Label(at) => vec![at(config).to_string()],
            Self::Level(at) => vec![at(config).as_str().to_ascii_lowercase()],
            Self::Path(at) => vec![path(at(config))],
            Self::OptionalPath(at) => at(config).iter().map(path).collect(),
            Self::Advertise(at) => at(config).iter().map(SocketAddr::to_string).collect(),
            Self::Addresses(at) => texts(at(config)),
            Self::Hosts(at) => texts(at(config)),
            Self::Ids(at) => texts(at(config)),
            Self::Expected(at) => texts(at(config)),
            Self::Command(at) => at(config).clone(),
            Self::Tags(at) => at(config).iter().map(|(key, value)| format!("{key}={value}")).collect(),
            Self::Time(at, ..) => vec![duration::text(*at(config))],
            Self::Count(at, ..) => vec![at(config).to_string()],
            Self::Size(at, ..) => vec![size::text(*at(config))],
            Self::Switch(at) => vec![at(config).to_string()],
        }
    }

    /// The value as JSON.
    pub(super) fn json(self, config: &C) -> Value {
        match self {
            Self::Count(at, ..) | Self::Size(at, ..) => json!(*at(&mut config.clone())),
            Self::Switch(at) => json!(*at(&mut config.clone())),
            Self::Tags(at) => json!(at(&mut config.clone())),
            Self::Addresses(_) | Self::Hosts(_) | Self::Ids(_) | Self::Expected(_) | Self::Command(_) => {
                json!(self.words(config))
            }
            _ => self.words(config).pop().map_or(Value::Null, Value::String),
        }
    }

    /// How much it is, for what can be compared: milliseconds, things, bytes.
    pub(super) fn magnitude(self, config: &C) -> Option<u128> {
        match self {
            Self::Time(at, ..) => Some(at(&mut config.clone()).as_millis()),
            Self::Count(at, ..) | Self::Size(at, ..) => Some(*at(&mut config.clone()) as u128),
            _ => None,
        }
    }

    /// The form of the value in the file.
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Count(..) => Shape::Number,
            Self::Size(..) => Shape::Size,
            Self::Switch(_) => Shape::Switch,
            Self::Addresses(_) | Self::Hosts(_) | Self::Ids(_) | Self::Expected(_) | Self::Command(_) => Shape::List,
            Self::Tags(_) => Shape::Table,
            _ => Shape::Text,
        }
    }

    /// What stands for the value in help.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Label(_) => "LABEL",
            Self::Level(_) => "LEVEL",
            Self::Path(_) | Self::OptionalPath(_) => "PATH",
            Self::Advertise(_) | Self::Addresses(_) => "IP:PORT",
            Self::Hosts(_) => "HOST:PORT",
            Self::Ids(_) => "ID",
            Self::Expected(_) => "NODE",
            Self::Command(_) => "WORD",
            Self::Tags(_) => "KEY=VALUE",
            Self::Time(..) => "DURATION",
            Self::Count(..) => "NUMBER",
            Self::Size(..) => "SIZE",
            Self::Switch(_) => "TRUE|FALSE",
        }
    }

    /// What the value must be in the file, with an example.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Label(_) => r#"must be a label in quotes, as in "web-1""#,
            Self::Level(_) => r#"must be a level in quotes, as in "info""#,
            Self::Path(_) | Self::OptionalPath(_) => r#"must be a path in quotes, as in "/var/lib/kithd""#,
            Self::Advertise(_) => r#"must be an address in quotes, as in "192.0.2.1:7100""#,
            Self::Addresses(_) => r#"must be a list of addresses in quotes, as in ["127.0.0.1:7100"]"#,
            Self::Hosts(_) => r#"must be a list of places in quotes, as in ["192.0.2.1:7100", "seed.example:7100"]"#,
            Self::Ids(_) => r#"must be a list of ids in quotes, as in ["1c9f…"], each of 64 hex digits"#,
            Self::Expected(_) => r#"must be a list of labels or ids in quotes, as in ["db-1", "db-2"]"#,
            Self::Command(_) => r#"must be a list of words in quotes, as in ["df", "-h"]"#,
            Self::Tags(_) => r#"must be a table of texts, as in { role = "web" }"#,
            Self::Time(..) => r#"must be a duration in quotes, as in "500ms""#,
            Self::Count(..) => "must be a whole number, as in 64",
            Self::Switch(_) => "must be true or false, without quotes",
            Self::Size(..) => r#"must be a whole number of bytes or a size in quotes, as in "2MiB""#,
        }
    }

    fn level(self, word: &str) -> Result<LevelFilter, String> {
        let lower = word.chars().all(|c| c.is_ascii_lowercase());
        let level = word.parse().ok().filter(|_| lower);
        level.ok_or_else(|| format!("must be off, error, warn, info, debug or trace; {}", self.default_text()))
    }

    fn time(self, word: &str, least: Duration, most: Duration) -> Result<Duration, String> {
        let value = duration::parse(word)?;
        match value {
            _ if value.is_zero() => Err(format!("must be longer than zero; {}", self.default_text())),
            _ if (least..=most).contains(&value) => Ok(value),
            _ => Err(self.out_of_range(duration::text(least), duration::text(most))),
        }
    }

    fn number(self, word: &str, least: usize, most: usize) -> Result<usize, String> {
        let of_bytes = matches!(self, Self::Size(..));
        let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
        if !size::parse(digits).is_some_and(|_| of_bytes || digits.bytes().all(|b| b.is_ascii_digit())) {
            return Err(self.expected().to_owned());
        }
        let value = size::parse(word.strip_prefix('+').unwrap_or(word)).filter(|value| (least..=most).contains(value));
        let text = |number: usize| if of_bytes { size::text(number) } else { number.to_string() };
        value.ok_or_else(|| self.out_of_range(text(least), text(most)))
    }

    fn out_of_range(self, least: String, most: String) -> String {
        format!("must be from {least} to {most}; {}", self.default_text())
    }

    fn default_text(self) -> String {
        format!("{} is the default", self.words(&C::default()).join(","))
    }
}

fn one<T>(words: &[String], read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
    match words {
        [word] => read(word).map_err(|message| Fault { word: Some(0), message }),
        _ => Err(Fault { word: None, message: format!("takes one value, not {}", words.len()) }),
    }
}

/// Reads each word, of which there may be so many, no two alike.
fn each<T: PartialEq>(words: &[String], most: usize, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, Fault> {
    let mut values = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let fault = |message| Fault { word: Some(index), message };
        let value = read(word).map_err(fault)?;
        if values.contains(&value) {
            return Err(fault("is given twice; leave one out".to_owned()));
        }
        if values.len() == most {
            return Err(fault(format!("is one too many; {most} are allowed")));
        }
        values.push(value);
    }
    Ok(values)
}

fn addresses(words: &[String]) -> Result<Vec<SocketAddr>, Fault> {
    let read = |word: &str| match socket_address(word)? {
        address if address.ip().is_multicast() => Err("is a multicast address; nobody can listen there".to_owned()),
        address => Ok(address),
    };
    let addresses = each(words, Listen::ADDRESSES_MAX, read)?;
    match addresses.is_empty() {
        true => Err(Fault {
            word: None,
            message: "needs an address; 127.0.0.1:0 listens on some port of loopback".to_owned(),
        }),
        false => Ok(addresses),
    }
}

/// A program and its arguments, which may be alike.
fn command(words: &[String]) -> Result<Vec<String>, Fault> {
    let fault = |word, message: &str| Err(Fault { word, message: message.to_owned() });
    let most = Service::WORDS_MAX;
    match words.iter().position(|word| word.contains('\0')) {
        _ if words.is_empty() => fault(None, "needs a program; leave it out where another one registers the service"),
        _ if words[0].is_empty() => fault(Some(0), "is no program; give its name or its path"),
        _ if words.len() > most => fault(Some(most), &format!("is one too many; {most} are allowed")),
        Some(index) => fault(Some(index), "has a NUL, which no argument can have; leave it out"),
        None => Ok(words.to_vec()),
    }
}

fn tags(words: &[String]) -> Result<Tags, Fault> {
    tags::from_words(words).map_err(|tags::Fault { word, message }| Fault { word: Some(word), message })
}

fn path(word: &str) -> Result<PathBuf, String> {
    match word {
        "" => Err("is no path; leave it out for the default".to_owned()),
        // None can be opened with a NUL, and the others would spoil every line that names the path.
        _ if word.chars().any(char::is_control) => Err("has a control character; use another path".to_owned()),
        _ => Ok(PathBuf::from(word)),
    }
}

fn id(word: &str) -> Result<ControllerId, String> {
    word.parse().map_err(|_| "is no node's id; give the 64 hex digits that 'kithd identity' prints there".to_owned())
}

fn socket_address(word: &str) -> Result<SocketAddr, String> {
    word.parse().map_err(|_| "must be an IP address and a port, as in 127.0.0.1:7100 or [::1]:7100".to_owned())
}
