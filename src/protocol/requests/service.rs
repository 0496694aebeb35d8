//! Under which name a node answers.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a service: 1 to 63 of `A-Z a-z 0-9 . _ -`, as a label is, and for the same reasons.
///
/// ```
/// use kithd::protocol::requests::service::ServiceName;
///
/// assert!("disk.usage".parse::<ServiceName>().is_ok());
/// assert!("disk usage".parse::<ServiceName>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Zeros follow the text, and are in none: the order of the bytes is that of the texts. In place, since a name is in every
    /// request and none should have to be fetched for one.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl ServiceName {
    /// The longest, in bytes.
    pub const MAX: usize = 63;

    pub(super) fn from_bytes(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let is_name = !text.is_empty() && text.iter().all(|byte| is_allowed(*byte));
        // It is at most 63.
        is_name.then_some(Self { bytes, length: text.len() as u8 })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Only ASCII was let in.
        str::from_utf8(&self.bytes[..self.length.into()]).unwrap_or_default()
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(format!("a service's name has 1 to {} characters, this one {}", Self::MAX, text.len()));
        }
        Self::from_bytes(text.as_bytes()).ok_or_else(|| {
            let c = text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_allowed));
            format!("a service's name has only A-Z a-z 0-9 . _ -, this one has {:?}", c.unwrap_or_default())
        })
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(self.as_str());
        }
        // On the wire the same as text, and spares it a look at each of its bytes.
        serializer.serialize_bytes(&self.bytes[..self.length.into()])
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Text),
            false => deserializer.deserialize_bytes(Text),
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = ServiceName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service's name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ServiceName, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ServiceName, E> {
        ServiceName::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_wherever_it_is_shown() {
        for good in ["a", "echo", "disk.usage_2-b", &"x".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let echo: ServiceName = "echo".parse().unwrap();
        assert_eq!(serde_json::to_string(&echo).unwrap(), "\"echo\"");
        assert_eq!(serde_json::from_str::<ServiceName>("\"echo\"").unwrap(), echo);
        for bad in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }
}
