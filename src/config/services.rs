//! The keys of the tables `services.NAME`. They are in the file only: their names are the user's own, and nobody knows them
//! before it is read.

use std::time::Duration;

use serde_json::Value;

use super::field::Field;
use super::keys::edits;
use super::requests::Service;
use crate::protocol::requests::service::ServiceName;

/// The table that holds one for each service.
pub(super) const TABLE: &str = "services";

/// One key of each service: `command` of `services.uptime.command`.
#[derive(Debug)]
pub struct ServiceKey {
    /// Its name in the service's table.
    pub name: &'static str,
    pub(super) field: Field<Service>,
}

impl ServiceKey {
    /// Its whole name: `services.uptime.command`.
    pub fn name_of(&self, service: &ServiceName) -> String {
        format!("{TABLE}.{service}.{}", self.name)
    }

    /// Its value as words, one for each item of a list; none: it is not set.
    pub fn words(&self, service: &Service) -> Vec<String> {
        self.field.words(service)
    }

    /// Its value as JSON: a number, an array or text.
    pub fn json(&self, service: &Service) -> Value {
        self.field.json(service)
    }
}

/// The keys that each service has, in the order of the documented file.
pub fn service_keys() -> &'static [ServiceKey] {
    const LEAST: Duration = Duration::from_millis(10);
    const HOUR: Duration = Duration::from_secs(3600);
    static KEYS: [ServiceKey; 4] = [
        ServiceKey { name: "command", field: Field::Command(|service| &mut service.command) },
        ServiceKey { name: "timeout", field: Field::Time(|service| &mut service.timeout, LEAST, HOUR) },
        ServiceKey { name: "max_output", field: Field::Size(|service| &mut service.max_output, 0, 16 << 20) },
        ServiceKey { name: "allow", field: Field::Ids(|service| &mut service.allow) },
    ];
    &KEYS
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static ServiceKey> {
    service_keys().iter().find(|key| key.name == name)
}

/// The nearest key to what was written, if one is near enough to be meant.
pub(super) fn nearest(written: &str) -> Option<&'static ServiceKey> {
    let near = service_keys().iter().map(|key| (edits(key.name, written), key)).filter(|(distance, _)| *distance <= 3);
    near.min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}
