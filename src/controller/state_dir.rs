//! The state directory: what a node keeps over a restart.
//!
//! ```text
//!   identity.key   0600, created once, never silently replaced
//!   known.json     addresses, bans, the last version; written whole: temporary file, fsync, rename, fsync of the directory
//!   lock           held while the node runs: two nodes on one directory would be one identity twice
//!   admin.sock     see admin/
//! ```
//!
//! A damaged `known.json` is set aside and the node starts without it; a damaged identity stops the start.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::known_json;
use super::whole_file::replace;
use crate::protocol::node::Memory;
use crate::secure::keys::{Identity, IdentityError};

/// The most bytes of `known.json` that are read: [`MAX_KEPT`](crate::protocol::node::MAX_KEPT) addresses and as many bans as
/// `limits.max_bans` can allow need fewer, however long each is. What is longer, this node has not written.
const MAX_KNOWN: u64 = 32 * 1024 * 1024;
/// Names that are tried for what is set aside, one a second: whatever damages the file more often than that needs a person.
const MAX_ASIDE: usize = 60;

/// An open state directory; its lock goes with it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why a node cannot use a directory; each is one line with its cure.
#[derive(Debug)]
pub enum StateError {
    /// Another node runs on it.
    InUse(PathBuf),
    /// The identity file.
    Identity(PathBuf, IdentityError),
    /// The system said no to this file.
    Failed(PathBuf, io::Error),
}

impl StateDir {
    /// Locks a directory that exists.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let name = path.join("lock");
        let opened = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&name);
        let lock = opened.map_err(|error| StateError::Failed(name.clone(), error))?;
        match lock.try_lock() {
            Ok(()) => {
                let state = Self { path: path.to_owned(), _lock: lock };
                state.tidy();
                Ok(state)
            }
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(StateError::Failed(name, error)),
        }
    }

    /// The node's identity, made at the first start.
    ///
    /// # Errors
    /// See [`IdentityError`]: the file is never replaced.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let path = self.path.join("identity.key");
        Identity::load_or_create(&path).map_err(|error| StateError::Identity(path, error))
    }

    /// What the last run left. Of a damaged file, nothing, and a warning that says where it is now.
    pub fn load(&self) -> (Memory, Option<String>) {
        let path = self.known();
        let read = || -> io::Result<Memory> {
            // Whatever lies there is opened without waiting (a pipe that nobody writes to would hold up the start), and
            // no link is followed: what it leads to is somebody else's.
            let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
            let found = file.metadata()?;
            if !found.is_file() {
                return Err(io::Error::new(ErrorKind::InvalidData, "it is not a file"));
            }
            if found.len() > MAX_KNOWN {
                return Err(io::Error::new(ErrorKind::InvalidData, "it is too long"));
            }
            let mut text = Vec::new();
            file.take(MAX_KNOWN).read_to_end(&mut text)?;
            known_json::read(&text)
        };
        match read() {
            Ok(memory) => (memory, None),
            Err(error) if error.kind() == ErrorKind::NotFound => (Memory::default(), None),
            Err(error) => (Memory::default(), Some(self.set_aside(&path, &error))),
        }
    }

    /// Replaces what is kept; at no moment is there half a file.
    ///
    /// # Errors
    /// The system's; the old file is then whole.
    pub fn save(&self, memory: &Memory) -> io::Result<()> {
        replace(&self.known(), &known_json::written(memory)?)
    }

    /// Removes what was being written when an earlier run of the node was killed: the lock says that no other one is at it.
    fn tidy(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".known.json.") && name.ends_with(".new") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn known(&self) -> PathBuf {
        self.path.join("known.json")
    }

    fn set_aside(&self, path: &Path, why: &io::Error) -> String {
        let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let names = (seconds..).map(|number| self.path.join(format!("known.json.corrupt-{number}")));
        // Each has its own name, also several of one second: nothing that was set aside is written over.
        let free = names.take(MAX_ASIDE).find(|name| fs::symlink_metadata(name).is_err());
        let where_to = match free.map(|aside| fs::rename(path, &aside).map(|()| aside)) {
            Some(Ok(aside)) => format!("it was set aside as {}", aside.display()),
            Some(Err(error)) => format!("it could not be set aside: {error}"),
            None => format!("{MAX_ASIDE} were set aside already"),
        };
        format!(
            "{} is damaged ({why}): {where_to}; the node starts without known addresses and bans: give it an address with \
             --connect if nobody dials it, and ban anew whom you had banned",
            path.display()
        )
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "the state directory {} is in use by a running node: stop it, or choose another with --state-dir",
                path.display()
            ),
            Self::Identity(path, IdentityError::Damaged) => write!(
                f,
                "{} is damaged: restore it from a backup, or remove it to begin with a new identity",
                path.display()
            ),
            Self::Identity(path, IdentityError::Exposed(mode)) => {
                let path = path.display();
                write!(f, "{path} has mode {mode:04o} and can be read by others: close it with 'chmod 600 {path}'")
            }
            Self::Identity(path, IdentityError::Failed(error)) | Self::Failed(path, error) => {
                write!(f, "{}: {error}: make it writable, or choose another with --state-dir", path.display())
            }
        }
    }
}

impl std::error::Error for StateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::address_book::KnownAddress;
    use crate::protocol::bans::Note;
    use crate::protocol::expected::{KeptPlace, MAX_EXPECTED};
    use crate::protocol::node::MAX_KEPT;
    use crate::protocol::report::BanRow;
    use crate::protocol::time::rfc3339;

    #[test]
    fn a_directory_belongs_to_one_node_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let held = StateDir::open(place.path()).unwrap();
        assert!(matches!(StateDir::open(place.path()), Err(StateError::InUse(_))));
        drop(held);
        assert!(StateDir::open(place.path()).is_ok());
    }

    #[test]
    fn whatever_a_node_may_keep_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(place.path()).unwrap();
        let address = format!("{}:65535", "x".repeat(253));
        let known = KnownAddress { address, node: Some("f".repeat(64)), since: Some(253_402_300_799_999) };
        let ban = BanRow {
            id: Some("f".repeat(64)),
            address: None,
            label: Some("l".repeat(63)),
            until: rfc3339(u64::MAX),
            reason: Some("\u{1f980}".repeat(Note::MAX)),
        };
        let place = KeptPlace { expected: "f".repeat(64), node: "f".repeat(64), address: "x".repeat(60) };
        let expected = vec![place; MAX_EXPECTED];
        // As many as `limits.max_bans` can be.
        let memory = Memory {
            version: 253_402_300_799_999,
            addresses: vec![known; MAX_KEPT],
            bans: vec![ban; 16_384],
            expected,
        };
        state.save(&memory).unwrap();
        assert_eq!(state.load(), (memory, None));
    }

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_set_aside() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(place.path()).unwrap();
        assert_eq!(state.load(), (Memory::default(), None));
        let memory = Memory { version: 7, ..Memory::default() };
        state.save(&memory).unwrap();
        assert_eq!(state.load(), (memory, None));
        fs::write(place.path().join("known.json"), b"{\"version\": 7, \"addr").unwrap();
        let (found, warning) = state.load();
        assert_eq!(found, Memory::default());
        assert!(warning.unwrap().contains("set aside as"));
        assert_eq!(state.load(), (Memory::default(), None));
        fs::create_dir(place.path().join("known.json")).unwrap();
        assert!(state.load().1.is_some(), "a directory in the file's place");
        let aside = fs::read_dir(place.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("known.json.corrupt-"));
        assert_eq!(aside.count(), 2, "both of one second are kept");
    }

    #[test]
    fn what_a_killed_node_left_half_written_is_removed_by_the_next() {
        let place = tempfile::tempdir().unwrap();
        let names = [".known.json.7.new", ".known.json.8.new", "known.json.corrupt-1", ".known.json.mine"];
        names.iter().for_each(|name| fs::write(place.path().join(name), b"{\"ver").unwrap());
        let state = StateDir::open(place.path()).unwrap();
        let left = names.map(|name| place.path().join(name).exists());
        assert_eq!(left, [false, false, true, true]);
        assert_eq!(state.load(), (Memory::default(), None));
    }
}
