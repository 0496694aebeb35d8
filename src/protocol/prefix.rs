//! Ranges of addresses: all that begin with the same bits.
//!
//! ```text
//!   10.0.0.7, 10.0.0.7:7100   one address        10.0.0.0/8, 2001:db8::/32   all that begin with these bits
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A range of addresses: all that begin with the same bits.
///
/// An IPv4 address that is written as IPv6 (`::ffff:10.0.0.7`) is that IPv4 address, so `::/0` holds all of IPv6 only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Prefix {
    ip: IpAddr,
    bits: u8,
}

impl Prefix {
    /// True for what can only be meant as an address or a range of them: no label and no id has such characters.
    pub fn is_meant(text: &str) -> bool {
        text.contains([':', '/']) || text.parse::<IpAddr>().is_ok()
    }

    /// This address alone.
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, bits: width(ip) }
    }

    /// True if this address is one of them.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.bits <= width(ip) && Self::around(ip, self.bits) == *self
    }

    /// True if all of the other's addresses are among them.
    pub fn holds_all(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.ip.is_ipv4() == other.ip.is_ipv4() && Self::around(other.ip, self.bits) == *self
    }

    /// How many bits its addresses share.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The range of that length, at most the address's [`width`], around an address in canonical form.
    pub fn around(ip: IpAddr, bits: u8) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Self { ip, bits }
    }
}

/// How many bits such an address has.
pub fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((ip, bits)) = text.split_once('/') else {
            let bare = text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
            return bare.map(Self::of).map_err(|_| {
                "is no address; write one as 192.0.2.7 or 2001:db8::7, or a range as 192.0.2.0/24".to_owned()
            });
        };
        let written: IpAddr = ip
            .parse()
            .map_err(|_| "has no address before the '/'; write a range as 192.0.2.0/24 or 2001:db8::/32".to_owned())?;
        // `u8::from_str` takes a sign as well.
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let most = width(written);
        let bits = bits.parse().ok().filter(|bits| digits && *bits <= most);
        let bits: u8 = bits.ok_or_else(|| format!("has no length from 0 to {most} after the '/'"))?;
        let (ip, bits) = match written.to_canonical() {
            // Below 96 bits such a range is one of IPv6, of which the IPv4 addresses are no part.
            ip if ip.is_ipv4() && written.is_ipv6() && bits >= 96 => (ip, bits - 96),
            _ => (written, bits),
        };
        let range = Self::around(ip, bits);
        match range.ip == ip {
            true => Ok(range),
            false => Err(format!("says more of the address than its length holds; write {range}")),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == width(self.ip) {
            true => self.ip.fmt(f),
            false => write!(f, "{}/{}", self.ip, self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_read_as_they_are_written_and_hold_what_begins_alike() {
        for (text, shown, inside, outside) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("10.0.0.7:7100", "10.0.0.7", "::ffff:10.0.0.7", "10.0.0.8"),
            ("10.0.0.7/32", "10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("10.0.0.0/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "255.0.0.1", "::1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8", "10.1.2.3", "11.0.0.0"),
            ("::ffff:10.0.0.7", "10.0.0.7", "10.0.0.7", "::10.0.0.7"),
            ("[2001:db8::7]:7100", "2001:db8::7", "2001:db8::7", "2001:db8::8"),
            ("2001:db8::/32", "2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "::/0", "2001::1", "10.0.0.1"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), shown);
            assert!(Prefix::is_meant(text) && Prefix::is_meant(shown), "{text}");
            assert!(prefix.holds(inside.parse().unwrap()), "{text} {inside}");
            assert!(!prefix.holds(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_a_cure() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "::/129",
            "[::1]",
            "[::/0]:1",
            "host:7100",
            "10.0.0.7:99999",
            "10.0.0.0/ 8",
            "fe80::1%eth0",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
        let refused = "10.1.2.3/8".parse::<Prefix>().unwrap_err();
        assert_eq!(refused, "says more of the address than its length holds; write 10.0.0.0/8");
        for label in ["alpha", "host-1.example", "1c9f02ab", "300.1.1.1"] {
            assert!(!Prefix::is_meant(label), "{label}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_the_same(text in "[0-9a-f:./]{0,24}") {
            if let Ok(prefix) = text.parse::<Prefix>() {
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
                prop_assert!(prefix.holds(prefix.ip));
            }
        }

        #[test]
        fn a_range_holds_exactly_what_shares_its_bits(one: u32, other: u32, bits in 0u8..=32) {
            let prefix = Prefix::around(IpAddr::V4(one.into()), bits);
            let alike = bits == 0 || (one ^ other) >> (32 - u32::from(bits)) == 0;
            prop_assert_eq!(prefix.holds(IpAddr::V4(other.into())), alike);
            prop_assert_eq!(prefix.holds(IpAddr::V6(Ipv4Addr::from_bits(other).to_ipv6_mapped())), alike);
        }
    }
}
