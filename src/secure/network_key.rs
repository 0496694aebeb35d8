//! The network key: what a node must hold to be answered at all.
//!
//! The file has one to three lines of 64 hex digits, and `#` comments. The first key is used to dial, all are accepted, so
//! that a network changes its key without a moment when two of its nodes share none:
//!
//! ```text
//!   all nodes: A        each node, in turn: A B        each: B A        each: B
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::protocol::hash::hash_parts;
use crate::protocol::identity::{from_hex, to_hex};
use crate::protocol::key_mark::KeyMark;

/// Keys a node holds at once: the old one, the new one, and one that was forgotten in between.
pub const MAX_KEYS: usize = 3;
/// The most bytes of a key file; what is longer is none.
const MAX_FILE: u64 = 4096;
/// Addresses whose key is remembered; above it all is forgotten, which costs each a dial.
const MAX_REMEMBERED: usize = 4096;

/// 32 secret bytes that all nodes of a network share, wiped when they are dropped. It is never shown: its
/// [mark](Self::mark) is.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKey(Arc<Zeroizing<[u8; 32]>>);

impl NetworkKey {
    /// The key of a network that has none: known to all, and so for loopback only.
    pub fn none() -> Self {
        Self(Arc::new(Zeroizing::new([0; 32])))
    }

    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(Arc::new(key)))
    }

    /// What may be shown of a key, to tell it from others.
    pub fn mark(&self) -> KeyMark {
        KeyMark(hash_parts(b"kith key mark", &[&self.0[..]]).short())
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text of a key file with this key alone.
    pub fn to_file(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(to_hex(&self.0[..]));
        let mark = self.mark();
        Zeroizing::new(format!("# kithd network key {mark}: whoever has it can join\n{}\n", *digits))
    }

    /// Writes a new key file, mode 0600.
    ///
    /// # Errors
    /// The system's; a file that exists is never replaced.
    pub fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(self.to_file().as_bytes()).and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(fs::remove_file(path)))
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey({})", self.mark())
    }
}

/// Why a key file cannot be used.
#[derive(Debug)]
pub enum KeyFileError {
    /// The system said no.
    Failed(io::Error),
    /// Others may read it: its mode.
    Exposed(u32),
    /// Not a file, or too long for one.
    NoFile,
    /// It holds no key.
    Empty,
    /// It holds more than [`MAX_KEYS`].
    TooMany,
    /// This line is no key.
    Line(usize),
    /// This line is a key of zeros only, which everybody knows.
    Zero(usize),
    /// This line has the key of an earlier one.
    Twice(usize),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}: make one with 'kithd keygen --out FILE'"),
            Self::Exposed(mode) => write!(f, "mode {mode:04o}: others can read it: close it with 'chmod 600'"),
            Self::NoFile => write!(f, "it is not a key file: make one with 'kithd keygen --out FILE'"),
            Self::Empty => write!(f, "it holds no key: make one with 'kithd keygen --out FILE'"),
            Self::TooMany => write!(f, "it holds more than {MAX_KEYS} keys: remove the oldest"),
            Self::Line(line) => write!(f, "line {line}: a key is 64 hex digits; comments begin with '#'"),
            Self::Zero(line) => write!(f, "line {line}: a key of zeros is no secret: 'kithd keygen' makes one"),
            Self::Twice(line) => write!(f, "line {line}: the same key twice: remove one"),
        }
    }
}

/// Reads a key file.
///
/// # Errors
/// See [`KeyFileError`]; no text of the file is in any of them.
pub fn read_key_file(path: &Path) -> Result<Vec<NetworkKey>, KeyFileError> {
    let options = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(options).open(path).map_err(KeyFileError::Failed)?;
    let found = file.metadata().map_err(KeyFileError::Failed)?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(KeyFileError::NoFile);
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed(found.permissions().mode() & 0o777));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
    file.take(MAX_FILE).read_to_end(&mut text).map_err(KeyFileError::Failed)?;
    parse_keys(&text)
}

/// The keys in a key file's text.
///
/// # Errors
/// As [`read_key_file`].
pub fn parse_keys(text: &[u8]) -> Result<Vec<NetworkKey>, KeyFileError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyFileError::NoFile)?;
    let mut keys: Vec<NetworkKey> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        let key = Zeroizing::new(from_hex::<32>(content).ok_or(KeyFileError::Line(line))?);
        let key = NetworkKey(Arc::new(key));
        match key {
            key if key == NetworkKey::none() => return Err(KeyFileError::Zero(line)),
            key if keys.contains(&key) => return Err(KeyFileError::Twice(line)),
            _ if keys.len() == MAX_KEYS => return Err(KeyFileError::TooMany),
            key => keys.push(key),
        }
    }
    if keys.is_empty() { Err(KeyFileError::Empty) } else { Ok(keys) }
}

/// The keys in use, shared by all peers of a node. Replaced as a whole when the file is read anew.
#[derive(Debug)]
pub struct KeyRing {
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Vec<NetworkKey>,
    /// Where not the first key but this one is to be tried next, or was right last.
    other: BTreeMap<SocketAddr, usize>,
}

impl KeyRing {
    /// These keys; none stands for [`NetworkKey::none`].
    pub fn new(keys: Vec<NetworkKey>) -> Self {
        let ring = Self { held: RwLock::default() };
        ring.replace(keys);
        ring
    }

    /// From now on these keys.
    pub fn replace(&self, keys: Vec<NetworkKey>) {
        let keys = if keys.is_empty() { vec![NetworkKey::none()] } else { keys };
        *self.held.write() = Held { keys, other: BTreeMap::new() };
    }

    /// The marks of all keys, the dialling one first.
    pub fn marks(&self) -> Vec<KeyMark> {
        self.held.read().keys.iter().map(NetworkKey::mark).collect()
    }

    /// All keys, to be tried in this order on what a stranger sends.
    pub fn all(&self) -> Vec<NetworkKey> {
        self.held.read().keys.clone()
    }

    /// The key to dial this address with; without one, the first.
    pub fn for_dial(&self, address: Option<SocketAddr>) -> NetworkKey {
        let held = self.held.read();
        let index = address.and_then(|address| held.other.get(&address)).copied().unwrap_or(0);
        held.keys.get(index).or(held.keys.first()).cloned().unwrap_or_else(NetworkKey::none)
    }

    /// The address did not answer to this key: the next dial tries the next one.
    pub fn unanswered(&self, address: SocketAddr, key: KeyMark) {
        self.held.write().choose(address, key, 1);
    }

    /// The address answered to this key: the next dial tries it again.
    pub fn answered(&self, address: SocketAddr, key: KeyMark) {
        if self.held.read().other.contains_key(&address) {
            self.held.write().choose(address, key, 0);
        }
    }
}

impl Held {
    /// The next dial takes the key so many places after this one.
    fn choose(&mut self, address: SocketAddr, key: KeyMark, after: usize) {
        let Some(index) = self.keys.iter().position(|held| held.mark() == key) else { return };
        if self.other.len() >= MAX_REMEMBERED {
            self.other.clear();
        }
        match (index + after) % self.keys.len() {
            0 => self.other.remove(&address),
            next => self.other.insert(address, next),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_key_file_has_one_to_three_keys_and_comments() {
        let keys = parse_keys(format!("# old\n{A}\n\n  {B} # new\r\n").as_bytes()).unwrap();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0].mark(), keys[1].mark());
        let say = |text: &str| parse_keys(text.as_bytes()).unwrap_err().to_string();
        assert!(say("# nothing\n").starts_with("it holds no key"));
        assert!(say(&format!("{A}\n{}\n", &B[1..])).starts_with("line 2: a key is 64 hex digits"));
        assert!(say(&format!("{A}\n{A}")).starts_with("line 2: the same key twice"));
        assert!(say(&"0".repeat(64)).starts_with("line 1: a key of zeros"));
        let four = format!("{A}\n{B}\n{}\n{}\n", "c".repeat(64), "d".repeat(64));
        assert!(say(&four).starts_with("it holds more than 3"));
    }

    #[test]
    fn a_new_file_reads_back_is_private_and_replaces_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("network.key");
        let key = NetworkKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(read_key_file(&path).unwrap(), vec![key.clone()]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NetworkKey::generate().unwrap().write_new(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_key_file(&path), Err(KeyFileError::Exposed(0o640))));
        assert!(matches!(read_key_file(place.path()), Err(KeyFileError::NoFile)));
        assert!(!format!("{key:?}").contains(&to_hex(key.bytes())), "a key is never shown");
    }

    #[test]
    fn an_address_that_does_not_answer_to_one_key_is_tried_with_the_next() {
        let keys = parse_keys(format!("{A}\n{B}\n").as_bytes()).unwrap();
        let ring = KeyRing::new(keys.clone());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let here = Some(address);
        assert_eq!(ring.for_dial(here), keys[0]);
        ring.unanswered(address, keys[0].mark());
        assert_eq!(ring.for_dial(here), keys[1]);
        assert_eq!(ring.for_dial(None), keys[0], "the first one all the same, if that is asked for");
        assert_eq!(ring.for_dial(Some(SocketAddr::from(([127, 0, 0, 1], 2)))), keys[0]);
        ring.unanswered(address, keys[1].mark());
        assert_eq!(ring.for_dial(here), keys[0], "and then from the beginning");
        ring.unanswered(address, keys[0].mark());
        ring.answered(address, keys[1].mark());
        assert_eq!(ring.for_dial(here), keys[1]);
        ring.answered(address, keys[0].mark());
        assert_eq!(ring.for_dial(here), keys[0], "it takes the first key now");
        ring.replace(Vec::new());
        assert_eq!(ring.for_dial(here), NetworkKey::none());
    }
}
