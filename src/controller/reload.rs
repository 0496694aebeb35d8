//! A configuration that is read anew while the node runs: what can change does, and the rest is named.

use super::registry::Registry;
use super::start_error::StartError;
use crate::config::{Config, ConfigError, keys};
use crate::protocol::key_mark::KeyMark;
use crate::protocol::node::Input;
use crate::secure::network_key::{NetworkKey, read_key_file};

const KEY_FILE: &str = "network.key_file";

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
    for key in keys().iter().filter(|key| key.table() != "log" && key.name != KEY_FILE) {
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
            "network.expect" => {
                let names = wanted.network.expect.clone();
                registry.think(|node, now, _| node.expect_nodes(now, &names));
                running.network.expect = names;
            }
            "node.tags" => {
                // What was said with `kithd tag` meanwhile goes: the file was changed later.
                let tags = wanted.node.tags.clone();
                registry.handle(Input::Tags(tags.clone()));
                running.node.tags = tags;
            }
            _ => {
                reloaded.needs_restart.push(key.name);
                continue;
            }
        }
        reloaded.applied.push(key.name);
    }
    // Named as a whole: there is no end to what the keys below it can be called.
    reloaded.needs_restart.extend((running.services != wanted.services).then_some("services"));
    reload_keys(registry, running, wanted, &mut reloaded);
    Ok(reloaded)
}

/// The key file is read anew in any case: when keys change, its name does not. One that cannot be used leaves the keys in
/// force as they are, for without any the node would be outside its network.
fn reload_keys(registry: &Registry, running: &mut Config, wanted: &Config, reloaded: &mut Reloaded) {
    let is_same_file = running.network.key_file == wanted.network.key_file;
    let (Some(_), Some(file)) = (&running.network.key_file, &wanted.network.key_file) else {
        // Whether strangers are kept out at all is decided at the start, with where to listen.
        reloaded.needs_restart.extend((!is_same_file).then_some(KEY_FILE));
        return;
    };
    let keys = match read_key_file(file) {
        Ok(keys) => keys,
        Err(error) => {
            let trouble = format!("{}; the keys in force stay", StartError::KeyFile(file.clone(), error));
            log::warn!("{trouble}");
            return registry.think(|node, _, _| node.warn("key-file", Some(trouble)));
        }
    };
    registry.think(|node, _, _| node.warn("key-file", None));
    running.network.key_file = Some(file.clone());
    let ring = &registry.around.keys;
    let before = ring.marks();
    let marks: Vec<KeyMark> = keys.iter().map(NetworkKey::mark).collect();
    if marks != before {
        // The ring first: whoever is dialled because of the news has to be dialled with the new key.
        ring.replace(keys);
        registry.handle(Input::Keys(marks.clone()));
        let shown: Vec<String> = marks.iter().map(KeyMark::to_string).collect();
        log::info!("the network keys are now {}; the first is dialled with", shown.join(", "));
    }
    if marks != before || !is_same_file {
        reloaded.applied.push(KEY_FILE);
    }
}
