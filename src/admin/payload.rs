//! Bytes in a language of text: a payload travels over the admin socket as base64, and has only this one way to be written.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The bytes of a request or an answer. As JSON a string: base64 as most languages write it, with `+`, `/` and padding.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Payload(pub Vec<u8>);

impl Payload {
    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Payload> for String {
    fn from(payload: Payload) -> Self {
        STANDARD.encode(payload.0)
    }
}

impl TryFrom<String> for Payload {
    type Error = String;

    /// Strict: what other bytes would be written as is refused, so that nobody has to guess what was meant.
    fn try_from(text: String) -> Result<Self, String> {
        STANDARD.decode(text).map(Self).map_err(|error| format!("is no base64 with padding: {error}"))
    }
}

/// `kithd request`: what a service has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReport {
    /// [`SCHEMA`](crate::protocol::report::SCHEMA).
    pub schema: u32,
    /// The id of the node that answered.
    pub node: String,
    /// The answer.
    pub payload: Payload,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_would_be_written_is_read() {
        let read = |text: &str| Payload::try_from(text.to_owned()).map(|payload| payload.0);
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("/+8="), Ok(vec![0xff, 0xef]));
        for wrong in ["/+8", "/+9=", "_-8=", "/+8=\n", " /+8=", "/+8==", "====", "a", "ä"] {
            assert!(read(wrong).is_err_and(|why| why.starts_with("is no base64")), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn all_bytes_come_back(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Payload(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Payload>(&text).unwrap().0, bytes);
        }
    }
}
