//! Keys that are each in range and yet cannot both be meant.

use super::keys;
use super::load::{Origin, Origins};
use super::services::{self, service_keys};
use super::subject::Subject;
use super::{Config, Node};

/// Each first key is at most its second.
const AT_MOST: [(&str, &str); 9] = [
    ("discovery.out_degree", "limits.max_outgoing"),
    ("discovery.accept", "limits.max_incoming"),
    ("discovery.accept_ring", "discovery.accept"),
    ("discovery.flush_first", "discovery.flush_interval"),
    ("discovery.publish_stability", "discovery.publish_interval"),
    ("limits.max_pending_per_prefix", "limits.max_pending"),
    ("limits.max_queued", "limits.max_queued_total"),
    ("limits.max_payload", "limits.max_outstanding_bytes"),
    ("limits.max_addresses_per_source", "limits.max_addresses"),
];

/// The first contradiction: the key to blame, which is the one of the two that the later layer set, and why.
pub(super) fn find(config: &Config, origins: &Origins) -> Option<(Subject, String)> {
    let exceeds = |(low, high): &(Subject, Subject)| low.magnitude(config) > high.magnitude(config);
    let pairs = AT_MOST.iter().filter_map(|(low, high)| Some((key(low)?, key(high)?)));
    let outputs = config.services.keys().filter_map(|service| {
        let output = services::find("max_output")?;
        Some((Subject::Service(*service, output), key("limits.max_payload")?))
    });
    let pair = pairs.chain(outputs).find(exceeds).map(|(low, high)| blame(low, high, config, origins));
    pair.or_else(|| long_socket(config)).or_else(|| service_at_odds(config, origins))
}

fn key(name: &str) -> Option<Subject> {
    keys::find(name).map(Subject::Key)
}

fn blame(low: Subject, high: Subject, config: &Config, origins: &Origins) -> (Subject, String) {
    let other = |key: &Subject| match (key.name(), key.text(config), origins.of(&key.name())) {
        // A program set it.
        (name, text, Origin::Default) if text != key.text(&Config::default()) => format!("{name}, which is {text}"),
        (name, text, origin) => format!("{name}, which is {text} ({origin})"),
    };
    match origins.of(&high.name()) > origins.of(&low.name()) {
        true => (high, format!("must not be less than {}", other(&low))),
        false => (low, format!("must not be more than {}", other(&high))),
    }
}

fn long_socket(config: &Config) -> Option<(Subject, String)> {
    let length = config.node.socket_path().as_os_str().len();
    let key = key(if config.node.socket.is_some() { "node.socket" } else { "node.state_dir" })?;
    (length > Node::SOCKET_PATH_MAX).then(|| {
        let most = Node::SOCKET_PATH_MAX;
        (
            key,
            format!("makes a socket path of {length} bytes, and {most} are allowed; set node.socket to a shorter path"),
        )
    })
}

/// A name with two to answer for it, or bounds of a program where there is none.
fn service_at_odds(config: &Config, origins: &Origins) -> Option<(Subject, String)> {
    config.services.iter().find_map(|(name, service)| {
        let on = config.requests.built_in().into_iter().find(|(built_in, on)| *on && *built_in == name.as_str());
        if let (Some((built_in, _)), false) = (on, service.command.is_empty()) {
            let why = "names a program for what the node answers itself";
            let cure = format!("choose another name, or set requests.{built_in} = false");
            return Some((Subject::Service(*name, services::find("command")?), format!("{why}; {cure}")));
        }
        let idle = service_keys().iter().filter(|key| service.command.is_empty() && is_bound(key.name));
        let mut idle = idle.map(|key| Subject::Service(*name, key));
        let is_said = |key: &Subject| {
            *origins.of(&key.name()) != Origin::Default || key.text(config) != key.text(&Config::default())
        };
        let why = "bounds a program, and there is none; add a command to the service, or leave this out";
        Some((idle.find(is_said)?, why.to_owned()))
    })
}

fn is_bound(key: &str) -> bool {
    ["timeout", "max_output"].contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_of_keys_that_compare() {
        for (low, high) in AT_MOST {
            for name in [low, high] {
                let key = key(name).unwrap_or_else(|| panic!("{name} is no key"));
                assert!(key.magnitude(&Config::default()).is_some(), "{name}");
            }
        }
        assert!(find(&Config::default(), &Origins::default()).is_none());
    }
}
