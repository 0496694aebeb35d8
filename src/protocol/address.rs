//! Where to dial: `ip:port`, `[ipv6]:port` or `name:port`, told apart and checked once, when read.
//!
//! A name stays a name, `localhost` too: turning it into addresses blocks, so it happens off the hot threads and anew
//! for each dial, because the answer may change.

use std::fmt;
use std::net::SocketAddr;
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

/// Refuses the addresses at which no node can be: port 0, unspecified, multicast.
pub fn dialable(address: SocketAddr) -> Result<SocketAddr, String> {
    match address {
        a if a.port() == 0 => Err("port 0 cannot be dialled; give the port the node listens on".to_owned()),
        a if a.ip().is_unspecified() => Err("is no address to dial; give one of the node's own".to_owned()),
        a if a.ip().is_multicast() => Err("is a multicast address; give one of the node's own".to_owned()),
        a => Ok(a),
    }
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
            &long,
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }
}
