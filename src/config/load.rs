//! Layer upon layer: defaults, the file, the environment, the flags. The last word on each key stands, and where it was
//! said is remembered for errors and for `config show`.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::path::Path;

use super::keys::{self, Key};
use super::services::service_keys;
use super::subject::Subject;
use super::{Config, contradictions, file};
use crate::protocol::escape::escaped;

/// A configuration, and where each of its values was said.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// Where they came from.
    pub origins: Origins,
}

/// Where the value of each key came from.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of that key came from.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }
}

/// Where a value was said; a later layer is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// The file, printable.
        file: String,
        /// The line of its key, from 1.
        line: usize,
    },
    /// In that environment variable.
    Environment(&'static str),
    /// By that flag, named without its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag --{flag}"),
        }
    }
}

/// What flags say: for each key the words given.
#[derive(Clone, Debug, Default)]
pub struct Overrides(BTreeMap<&'static str, Vec<String>>);

impl Overrides {
    /// Has the key take these words, whatever file and environment say.
    pub fn set(&mut self, key: &'static Key, words: Vec<String>) {
        self.0.insert(key.name, words);
    }
}

/// Why a configuration is refused: one line with place, key, value and cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// Joins the place and what is wrong there. Both may hold others' bytes: what is not printable is escaped.
    pub(super) fn new(place: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self(escaped(&format!("{place}: {message}")).into_owned())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ConfigError {}

impl Config {
    /// Puts the layers together: defaults, then the file if there is one, `KITHD_STATE_DIR` and `KITHD_SOCKET`, flags.
    pub fn load(file: Option<&Path>, flags: &Overrides) -> Result<Loaded, ConfigError> {
        let settings = match file {
            Some(path) => file::read(path)?,
            None => Vec::new(),
        };
        Self::layered(settings.into_iter().chain(environment()?).chain(of_flags(flags)))
    }

    /// What a file of this name with these bytes says, and nothing else does: for whoever tries out bytes that are in no
    /// file (`tests/fuzz`).
    #[doc(hidden)]
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Result<Loaded, ConfigError> {
        Self::layered(file::settings(name, bytes)?.into_iter())
    }

    fn layered(settings: impl Iterator<Item = Setting>) -> Result<Loaded, ConfigError> {
        let mut config = Self::default();
        let mut origins = Origins::default();
        let mut places = BTreeMap::new();
        for setting in settings {
            setting.apply(&mut config)?;
            origins.0.insert(setting.subject.name(), setting.origin);
            places.insert(setting.subject.name(), setting.place);
        }
        match contradictions::find(&config, &origins) {
            None => Ok(Loaded { config, origins }),
            Some((key, message)) => {
                Err(ConfigError::new(places.remove(&key.name()).unwrap_or_else(|| config.says(&key)), message))
            }
        }
    }

    /// Checks values that no file or flag was asked for, as those a program set.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut copy = self.clone();
        for key in keys::keys() {
            let words = key.words(self);
            if !words.is_empty() || key.is_list() {
                let key = Subject::Key(key);
                key.set(&mut copy, &words).map_err(|fault| ConfigError::new(self.says(&key), fault.message))?;
            }
        }
        copy.services.clear();
        for (name, service) in &self.services {
            for key in service_keys() {
                let words = key.words(service);
                let key = Subject::Service(*name, key);
                if !words.is_empty() {
                    key.set(&mut copy, &words).map_err(|fault| ConfigError::new(self.says(&key), fault.message))?;
                }
            }
        }
        match contradictions::find(self, &Origins::default()) {
            None => Ok(()),
            Some((key, message)) => Err(ConfigError::new(self.says(&key), message)),
        }
    }

    /// A key and its value as in the file, where there is none to point to.
    fn says(&self, key: &Subject) -> String {
        format!("{} = {}", key.name(), shortened(&key.json(self).to_string()))
    }
}

/// A key and the words that some layer gives it.
pub(super) struct Setting {
    pub(super) subject: Subject,
    pub(super) origin: Origin,
    /// Where that is, and what is said there, for an error about all of it.
    pub(super) place: String,
    pub(super) words: Vec<Word>,
}

/// One word and where it stands.
pub(super) struct Word {
    pub(super) text: String,
    /// Where that is, and what is said there, for an error about this word.
    pub(super) place: String,
}

impl Setting {
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let words: Vec<String> = self.words.iter().map(|word| word.text.clone()).collect();
        self.subject.set(config, &words).map_err(|fault| {
            let word = fault.word.and_then(|index| self.words.get(index));
            ConfigError::new(word.map_or(&self.place, |word| &word.place), fault.message)
        })
    }
}

/// What the environment says. A variable that is empty counts as not set, as everywhere in Unix.
fn environment() -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for key in keys::keys() {
        let Some((variable, value)) = key.environment.and_then(|name| Some((name, env::var_os(name)?))) else {
            continue;
        };
        let place = format!("{variable}={}", shortened(&value.to_string_lossy()));
        let Ok(text) = value.into_string() else {
            return Err(ConfigError::new(place, "is not UTF-8; use another path"));
        };
        if !text.is_empty() {
            let words = vec![Word { text, place: place.clone() }];
            settings.push(Setting { subject: Subject::Key(key), origin: Origin::Environment(variable), place, words });
        }
    }
    Ok(settings)
}

fn of_flags(flags: &Overrides) -> impl Iterator<Item = Setting> {
    keys::keys().iter().filter_map(|key| {
        let flag = &key.flag;
        let words = flags.0.get(key.name)?.iter();
        let words = words.map(|text| Word { text: text.clone(), place: format!("--{flag} {}", shortened(text)) });
        let words: Vec<Word> = words.collect();
        let place = words.last().map_or(format!("--{flag}"), |word| word.place.clone());
        Some(Setting { subject: Subject::Key(key), origin: Origin::Flag(flag), place, words })
    })
}

/// At most 80 characters of a text, so that a line stays one; quotes for none, so that it shows.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if text.is_empty() => "\"\"".to_owned(),
        None => text.to_owned(),
    }
}
