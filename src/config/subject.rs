//! What a line of a configuration is about: one of the keys that every node has, or one of a service.

use serde_json::Value;

use super::field::{Fault, Shape};
use super::keys::Key;
use super::services::ServiceKey;
use super::{Config, Service};
use crate::protocol::requests::service::ServiceName;

/// A key, wherever it is.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Key(&'static Key),
    Service(ServiceName, &'static ServiceKey),
}

impl Subject {
    /// Its whole name: `heartbeat.timeout`, `services.uptime.command`.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Key(key) => key.name.to_owned(),
            Self::Service(service, key) => key.name_of(service),
        }
    }

    /// Sets it, or says which word is wrong and why. A service that has nothing yet comes to be.
    pub(super) fn set(&self, config: &mut Config, words: &[String]) -> Result<(), Fault> {
        let (service, key) = match self {
            Self::Key(key) => return key.set(config, words),
            Self::Service(service, key) => (service, key),
        };
        if config.services.len() == Service::MOST && !config.services.contains_key(service) {
            let message = format!("is of one service too many; {} are allowed", Service::MOST);
            return Err(Fault { word: None, message });
        }
        key.field.set(config.services.entry(*service).or_default(), words)
    }

    /// Its value in one word; empty if it is not set.
    pub(super) fn text(&self, config: &Config) -> String {
        self.of(config, Key::text, |key, service| key.words(service).join(","))
    }

    /// Its value as JSON.
    pub(super) fn json(&self, config: &Config) -> Value {
        self.of(config, Key::json, ServiceKey::json)
    }

    /// How much it is, if it can be compared.
    pub(super) fn magnitude(&self, config: &Config) -> Option<u128> {
        self.of(config, Key::magnitude, |key, service| key.field.magnitude(service))
    }

    /// The form of its value in the file.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Key(key) => key.shape(),
            Self::Service(_, key) => key.field.shape(),
        }
    }

    /// What its value must be in the file, in words.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::Key(key) => key.expected(),
            Self::Service(_, key) => key.field.expected(),
        }
    }

    /// A service of which nothing is said has its defaults.
    fn of<T>(
        &self,
        config: &Config,
        node: impl FnOnce(&Key, &Config) -> T,
        one: impl FnOnce(&ServiceKey, &Service) -> T,
    ) -> T {
        match self {
            Self::Key(key) => node(key, config),
            Self::Service(service, key) => match config.services.get(service) {
                Some(service) => one(key, service),
                None => one(key, &Service::default()),
            },
        }
    }
}
