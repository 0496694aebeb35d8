//! Where to dial: `ip:port`, `[ipv6]:port` or `name:port`, told apart and checked once, when read.
//!
//! A name stays a name, `localhost` too: turning it into addresses blocks, so it happens off the hot threads and anew
//! for each dial, because the answer may change.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A place to dial, as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPort {
    /// Dialled as it is. Never port 0, never an unspecified or multicast address.
    Ip(SocketAddr),
    /// Resolved before each dial.
    Name {
        /// A plausible host name: at most [`HostPort::MAX_HOST`] bytes of dot-separated labels.
        host: String,
        /// Never 0.
        port: u16,
    },
}

impl HostPort {
    /// The longest host name in bytes, as in DNS.
    pub const MAX_HOST: usize = 253;
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return dialable(address).map(Self::Ip);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("has no port; write host:port, such as seed.example:7100".to_owned());
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err("an IPv6 address goes in brackets, such as [::1]:7100".to_owned());
        }
        // The port first: an IP address with a wrong port is no wrong host name.
        let port = port_number(port)?;
        Ok(Self::Name { host: host_name(host)?, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Refuses the addresses at which no node can be: port 0, unspecified, multicast, broadcast, link-local IPv6 without its
/// zone. An IPv4 address that is written as IPv6 is judged as what it is.
pub fn dialable(address: SocketAddr) -> Result<SocketAddr, String> {
    let ip = address.ip().to_canonical();
    let zone_lacks = matches!(address, SocketAddr::V6(six) if six.ip().is_unicast_link_local() && six.scope_id() == 0);
    match ip {
        _ if address.port() == 0 => Err("port 0 cannot be dialled; give the port the node listens on".to_owned()),
        ip if ip.is_unspecified() => Err("is no address to dial; give one of the node's own".to_owned()),
        ip if ip.is_multicast() => Err("is a multicast address; give one of the node's own".to_owned()),
        IpAddr::V4(ip) if ip.is_broadcast() => Err("is a broadcast address; give one of the node's own".to_owned()),
        _ if zone_lacks => Err("is a link-local address without its zone; write [fe80::1%2]:7100".to_owned()),
        _ => Ok(address),
    }
}

/// False for addresses that mean something else at each node, or that turn our dials against somebody: what cannot be
/// dialled at all, link-local ones (a zone is a number of the sender's own; 169.254.169.254 hands out a cloud machine's
/// secrets), and loopback, unless this node itself is known by an address of loopback. Of those whom others tell of,
/// only these are dialled; what its own user configured is not asked for this.
pub fn is_fit_to_learn(address: SocketAddr, own: SocketAddr) -> bool {
    let is_local = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    dialable(address).is_ok() && !is_local && (!is_loopback(address) || is_loopback(own))
}

fn port_number(text: &str) -> Result<u16, String> {
    // `u16::from_str` takes a sign as well.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("the port is a number from 1 to 65535".to_owned()),
    }
}

fn host_name(host: &str) -> Result<String, String> {
    if host.is_empty() || host.len() > HostPort::MAX_HOST {
        return Err(format!("a host name has 1 to {} bytes, this one {}", HostPort::MAX_HOST, host.len()));
    }
    // DNS writes a fully qualified name with a final dot.
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if labels.clone().any(|label| !plausible_label(label)) {
        return Err("is no host name: dot-separated parts of 1 to 63 of A-Z a-z 0-9 _ - are".to_owned());
    }
    if labels.next_back().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Err("is neither an IPv4 address (four numbers from 0 to 255) nor a host name".to_owned());
    }
    Ok(host.to_owned())
}

fn plausible_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_addresses_from_names_and_prints_what_it_read() {
        for text in ["127.0.0.1:7100", "[::1]:7100", "[fe80::1%2]:80"] {
            let place: HostPort = text.parse().unwrap();
            assert!(matches!(place, HostPort::Ip(_)), "{text}");
            assert_eq!(place.to_string(), text);
        }
        for text in ["localhost:1", "seed.example:65535", "kith_a-1.lan.:7100", "1and1.example:80"] {
            let place: HostPort = text.parse().unwrap();
            assert!(matches!(place, HostPort::Name { .. }), "{text}");
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn what_others_tell_of_does_not_aim_dials_at_anybody() {
        let fit = |address: &str, own: &str| is_fit_to_learn(address.parse().unwrap(), own.parse().unwrap());
        for unfit in [
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:9",
            "10.0.0.1:0",
            "169.254.169.254:80",
            "127.0.0.1:22",
            "[::1]:22",
            "[::ffff:127.0.0.1]:22",
            "[ff02::1]:1",
            "[fe80::1]:1",
            "[fe80::1%2]:1",
        ] {
            assert!(!fit(unfit, "10.0.0.9:7100"), "{unfit}");
        }
        assert!(fit("127.0.0.1:7101", "127.0.0.1:7100") && fit("[::1]:7101", "127.0.0.1:7100"));
        assert!(fit("10.0.0.1:7100", "10.0.0.9:7100") && fit("[2001:db8::1]:7100", "10.0.0.9:7100"));
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        let long = format!("{}:1", "a.".repeat(127));
        for text in [
            "",
            ":",
            "host",
            "host:",
            "host:0",
            "host:+1",
            "host:65536",
            "host:-1",
            "host: 1",
            ":7100",
            ".:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "a b:1",
            "a\n:1",
            "ä:1",
            "::1:7100",
            "[::1]",
            "[::1:7100",
            "[x]:1",
            "300.1.1.1:80",
            "1.2.3:80",
            "0.0.0.0:80",
            "[::]:80",
            "127.0.0.1:0",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[ff02::1]:80",
            "[fe80::1]:80",
            "[::ffff:0.0.0.0]:80",
            "[::ffff:224.0.0.1]:80",
            &long,
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }
}
