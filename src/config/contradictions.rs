//! Keys that are each in range and yet cannot both be meant.

use super::keys::{self, Key};
use super::load::{Origin, Origins};
use super::{Config, Node};

/// Each first key is at most its second.
const AT_MOST: [(&str, &str); 8] = [
    ("discovery.out_degree", "limits.max_outgoing"),
    ("discovery.accept", "limits.max_incoming"),
    ("discovery.accept_ring", "discovery.accept"),
    ("discovery.flush_first", "discovery.flush_interval"),
    ("discovery.publish_stability", "discovery.publish_interval"),
    ("limits.max_pending_per_prefix", "limits.max_pending"),
    ("limits.max_queued", "limits.max_queued_total"),
    ("limits.max_addresses_per_source", "limits.max_addresses"),
];

/// The first contradiction: the key to blame, which is the one of the two that the later layer set, and why.
pub(super) fn find(config: &Config, origins: &Origins) -> Option<(&'static Key, String)> {
    let pairs = AT_MOST.iter().filter_map(|(low, high)| Some((keys::find(low)?, keys::find(high)?)));
    let exceeds = |(low, high): &(&Key, &Key)| low.magnitude(config) > high.magnitude(config);
    pairs.into_iter().find(exceeds).map(|(low, high)| blame(low, high, config, origins)).or_else(|| long_socket(config))
}

fn blame(low: &'static Key, high: &'static Key, config: &Config, origins: &Origins) -> (&'static Key, String) {
    let other = |key: &Key| match (key.text(config), origins.of(key.name)) {
        // A program set it.
        (text, Origin::Default) if text != key.text(&Config::default()) => format!("{}, which is {text}", key.name),
        (text, origin) => format!("{}, which is {text} ({origin})", key.name),
    };
    match origins.of(high.name) > origins.of(low.name) {
        true => (high, format!("must not be less than {}", other(low))),
        false => (low, format!("must not be more than {}", other(high))),
    }
}

fn long_socket(config: &Config) -> Option<(&'static Key, String)> {
    let length = config.node.socket_path().as_os_str().len();
    let key = keys::find(if config.node.socket.is_some() { "node.socket" } else { "node.state_dir" })?;
    (length > Node::SOCKET_PATH_MAX).then(|| {
        let most = Node::SOCKET_PATH_MAX;
        (
            key,
            format!("makes a socket path of {length} bytes, and {most} are allowed; set node.socket to a shorter path"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_of_keys_that_compare() {
        for (low, high) in AT_MOST {
            for name in [low, high] {
                let key = keys::find(name).unwrap_or_else(|| panic!("{name} is no key"));
                assert!(key.magnitude(&Config::default()).is_some(), "{name}");
            }
        }
        assert!(find(&Config::default(), &Origins::default()).is_none());
    }
}
