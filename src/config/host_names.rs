//! Which names this binary can look up.
//!
//! glibc looks names up with libraries that it loads when it is first asked (NSS), the very version that it was built with. A
//! binary that is linked statically with it has to run where there are none or others, and would crash or find nothing
//! there. So such a binary never asks: it takes IP addresses, and `localhost`, which means the same everywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::protocol::address::HostPort;

/// True if this binary can ask the system for the addresses of a name.
pub const SYSTEM_LOOKS_UP: bool = !cfg!(all(target_env = "gnu", target_feature = "crt-static"));

/// The addresses of the one name that needs no look-up, the one that nodes listen on by default first.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Reads a place to dial, and refuses a name whose address this binary can never find.
///
/// # Errors
/// What is wrong with it, and the cure.
pub fn read(text: &str) -> Result<HostPort, String> {
    findable(text.parse()?, SYSTEM_LOOKS_UP)
}

/// What a name stands for without a look-up.
pub fn without_look_up(host: &str) -> &'static [IpAddr] {
    let is_local = host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost");
    if is_local { &LOOPBACK } else { &[] }
}

fn findable(place: HostPort, system_looks_up: bool) -> Result<HostPort, String> {
    match &place {
        HostPort::Name { host, port } if !system_looks_up && without_look_up(host).is_empty() => Err(format!(
            "is a name, and a binary linked statically with glibc can look none up; give an IP address, as in \
             192.0.2.1:{port}, or run a binary that is linked dynamically"
        )),
        _ => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_binary_refuses_names_but_localhost_and_takes_addresses() {
        let read = |text: &str, system_looks_up| findable(text.parse().unwrap(), system_looks_up);
        for text in ["127.0.0.1:7100", "[::1]:7100", "localhost:7100", "LocalHost.:7100"] {
            assert_eq!(read(text, false).unwrap().to_string(), text);
            assert_eq!(read(text, true).unwrap().to_string(), text);
        }
        for text in ["seed.example:7100", "localhost.example:7100", "local:7100"] {
            assert_eq!(read(text, true).unwrap().to_string(), text);
            let why = read(text, false).unwrap_err();
            assert!(why.contains("linked statically") && why.contains("192.0.2.1:7100"), "{why}");
            assert!(!why.contains('\n'));
        }
    }

    #[test]
    fn localhost_is_loopback_whatever_can_be_looked_up() {
        assert!(without_look_up("localhost").iter().all(IpAddr::is_loopback));
        assert_eq!(without_look_up("localhost").len(), 2);
    }
}
