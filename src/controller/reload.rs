//! A configuration that is read anew while the node runs: what can change does, and the rest is named.

use super::registry::Registry;
use crate::config::{Config, ConfigError, keys};

/// What became of the keys whose values differ from those the node runs with, by their names and in the file's order.
///
/// The log is the program's around the node: the keys of its table are in neither list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// In force now.
    pub applied: Vec<&'static str>,
    /// As they were; the next start will take them.
    pub needs_restart: Vec<&'static str>,
}

/// Applies what differs between the two; `running` then holds what the node runs with.
///
/// # Errors
/// What [`Config::check`] says; nothing has changed then.
pub fn reload(registry: &Registry, running: &mut Config, wanted: &Config) -> Result<Reloaded, ConfigError> {
    wanted.check()?;
    let mut reloaded = Reloaded::default();
    for key in keys().iter().filter(|key| key.table() != "log") {
        if key.words(running) == key.words(wanted) {
            continue;
        }
        match key.name {
            "network.allow" => {
                let ids = wanted.network.allow.clone();
                registry.think(|node, now, actions| node.allow(now, ids.iter().copied(), actions));
                running.network.allow = ids;
            }
            "network.connect" => {
                let addresses = wanted.network.connect.clone();
                registry.think(|node, now, _| node.configure(now, &addresses));
                running.network.connect = addresses;
            }
            _ => {
                reloaded.needs_restart.push(key.name);
                continue;
            }
        }
        reloaded.applied.push(key.name);
    }
    Ok(reloaded)
}
