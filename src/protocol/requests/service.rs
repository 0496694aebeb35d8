//! Under which name a node answers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a service: 1 to 63 of `A-Z a-z 0-9 . _ -`, as a label is, and for the same reasons.
///
/// ```
/// use kithd::protocol::requests::service::ServiceName;
///
/// assert!("disk.usage".parse::<ServiceName>().is_ok());
/// assert!("disk usage".parse::<ServiceName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The longest, in bytes.
    pub const MAX: usize = 63;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(format!("a service's name has 1 to {} characters, this one {}", Self::MAX, text.len()));
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text.chars().find(|c| !allowed(c)) {
            Some(c) => Err(format!("a service's name has only A-Z a-z 0-9 . _ -, this one has {c:?}")),
            None => Ok(Self(text)),
        }
    }
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        for bad in ["", "a b", "ä", "a/b", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }
}
