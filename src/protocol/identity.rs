//! Who is who: the names under which nodes and peers are known.
//!
//! ```text
//! ControllerId  32 bytes   the node's Ed25519 public key: unique in the network, its true name
//! ShortId        8 bytes   the first of these, for lists of edges
//! Label         1..=63     a readable handle, hopefully unique: shown, never trusted
//! PeerId         u64       the controller's local number for one connection
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node's identity in the whole network: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ControllerId(#[serde(with = "super::words")] pub [u8; 32]);

impl ControllerId {
    /// The eight-byte form used in edge lists and witnesses (`discovery.md` 2.1): its first bytes. A hash would be no harder
    /// to collide with (keys are as quickly made as hashed), and cost more than all else that is done with a witness.
    pub fn short(&self) -> ShortId {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        ShortId(short)
    }

    /// All 64 hex digits, as scripts see the id.
    pub fn hex(&self) -> String {
        to_hex(&self.0)
    }

    /// True if its hex digits, of either case, begin with these. Makes no text of it: who asks a node by its name looks
    /// through all of them each time.
    pub fn begins_with(&self, digits: &str) -> bool {
        digits.len() <= 2 * self.0.len()
            && digits.bytes().enumerate().all(|(at, digit)| {
                let half = if at % 2 == 0 { self.0[at / 2] >> 4 } else { self.0[at / 2] & 0xf };
                nibble(digit) == Some(half)
            })
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControllerId({})", &self.hex()[..8])
    }
}

impl FromStr for ControllerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        from_hex::<32>(text).map(Self).ok_or_else(|| format!("{text:?} is not a node id: 64 hex digits are"))
    }
}

/// The first eight bytes of a node id: names a node inside a record or witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShortId(#[serde(with = "super::words")] pub [u8; 8]);

impl ShortId {
    /// In the same order as the bytes: compared one by one they take several times as long, and ids are compared all the
    /// time.
    pub fn to_number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl Ord for ShortId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_number().cmp(&other.to_number())
    }
}

impl PartialOrd for ShortId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortId({})", to_hex(&self.0))
    }
}

/// The controller's own number for one connection; never reused while the node runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A readable name of a node: 1 to 63 of `A-Z a-z 0-9 . _ -`, so that it is safe in logs, tables and file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The longest label, in bytes; a DNS label's bound, so that host names fit.
    pub const MAX: usize = 63;

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a legal label of any text by leaving out what is not allowed; `node` if nothing is left.
    pub fn from_lossy(text: &str) -> Self {
        let kept: String = text.chars().filter(|c| allowed_in_label(*c)).take(Self::MAX).collect();
        Self(if kept.is_empty() { "node".to_owned() } else { kept })
    }
}

fn allowed_in_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(format!("a label has 1 to {} characters, this one {}", Self::MAX, text.len()));
        }
        match text.chars().find(|c| !allowed_in_label(*c)) {
            Some(c) => Err(format!("a label has only A-Z a-z 0-9 . _ -, this one has {c:?}")),
            None => Ok(Self(text)),
        }
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What a peer knows to identify itself: the four fields of the seed document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Tells this peer from the node's other peers; the controller's index for it.
    pub peer: PeerId,
    /// The remote controller's id, unique in the network.
    pub controller: ControllerId,
    /// The remote node's label.
    pub label: Label,
    /// The remote controller's advertised address.
    pub address: SocketAddr,
}

/// Lower-case hex digits of some bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
    text
}

/// Exactly `N` bytes from `2 N` hex digits of either case; anything else is `None`.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_accepts_exactly_the_documented_alphabet() {
        assert!("a".parse::<Label>().is_ok());
        assert!("Host-1.example_x".parse::<Label>().is_ok());
        assert!("x".repeat(63).parse::<Label>().is_ok());
        for bad in ["", &"x".repeat(64), "a b", "a\n", "\u{1b}[31m", "ä", "a/b", "\u{202e}x"] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lossy_label_is_always_legal() {
        for text in ["", "host name", "\u{202e}", &"é".repeat(200), &"y".repeat(200)] {
            let label = Label::from_lossy(text);
            assert!(label.as_str().parse::<Label>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn hex_is_its_own_inverse_and_refuses_other_lengths() {
        let bytes = [0x00, 0x7f, 0xff, 0x1c];
        assert_eq!(from_hex::<4>(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex::<4>("007fff1"), None);
        assert_eq!(from_hex::<4>("007fff1g"), None);
        assert_eq!(from_hex::<2>("é9"), None);
    }

    #[test]
    fn an_id_begins_with_its_own_digits_of_either_case_and_no_others() {
        let id = ControllerId(std::array::from_fn(|at| 0xa0 + at as u8));
        let hex = id.hex();
        assert!((0..=64).all(|length| id.begins_with(&hex[..length])));
        assert!(id.begins_with(&hex.to_uppercase()));
        for other in ["b", "a1", "a0a2", "g", "é", "a0 ", &format!("{hex}a")] {
            assert!(!id.begins_with(other), "{other:?}");
        }
    }
}
