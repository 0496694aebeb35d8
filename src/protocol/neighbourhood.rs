//! The part of an address that one owner usually holds: a /24 of IPv4, a /64 of IPv6. Whatever is bounded by where it
//! comes from is bounded by this, since whoever has one address of it can have them all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Neighbourhood {
    /// A /24.
    V4([u8; 3]),
    /// A /64.
    V6([u8; 8]),
}

impl Neighbourhood {
    /// The prefix of an address; an IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) has that of IPv4.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    /// True for addresses of this machine alone.
    pub fn is_loopback(self) -> bool {
        match self {
            Self::V4([first, ..]) => first == 127,
            // ::1 is the only one; the rest of ::/64 is not given to anybody.
            Self::V6(bytes) => bytes == [0; 8],
        }
    }
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6(bytes) => {
                let mut whole = [0; 16];
                whole[..8].copy_from_slice(&bytes);
                write!(f, "{}/64", Ipv6Addr::from(whole))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_one_and_others_do_not() {
        let of = |text: &str| Neighbourhood::of(text.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("10.0.0.254"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.7"));
        assert_ne!(of("10.0.0.1"), of("10.0.1.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.9").to_string(), "10.0.0.0/24");
        assert_eq!(of("2001:db8::9").to_string(), "2001:db8::/64");
        for (text, loopback) in [("127.1.2.3", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)] {
            assert_eq!(of(text).is_loopback(), loopback, "{text}");
        }
    }
}
