//! Where nodes that live as long as a command keep their state: a directory of its own, gone when the command ends.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::admin::socket;
use crate::config;

/// Names tried before giving up: one is taken only if a command of the same process number was killed.
const ATTEMPTS: u32 = 64;

/// A directory that only its user may enter. It is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// A new directory in the system's place for temporary files, with room for the sockets' names; the verb is in its own.
    pub(super) fn make(verb: &str) -> Result<Self, String> {
        Self::within(&env::temp_dir(), verb)
    }

    /// The state directory of the node with this number; the node makes it.
    pub(super) fn of(&self, number: usize) -> PathBuf {
        self.0.join(number.to_string())
    }

    fn within(parent: &Path, verb: &str) -> Result<Self, String> {
        let cure = "name another directory in TMPDIR";
        for attempt in 0..ATTEMPTS {
            let place = parent.join(format!("kithd-{verb}-{}-{attempt}", process::id()));
            // The longest of all: three digits are more than there are nodes.
            let length = place.join("999").join(socket::NAME).as_os_str().as_bytes().len();
            if length > config::Node::SOCKET_PATH_MAX {
                return Err(format!("{} is too long a path for sockets in it: {cure}", parent.display()));
            }
            // Creating fails if anything has that name, so nobody can have prepared it.
            match DirBuilder::new().mode(0o700).create(&place) {
                Ok(()) => return Ok(Self(place)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}: {cure}", place.display())),
            }
        }
        let error = io::Error::from(ErrorKind::AlreadyExists);
        Err(format!("{}/kithd-{verb}-*: {error}: remove what is left there of earlier ones", parent.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody is left to be told, and the system clears its temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_place_is_private_and_goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) =
            (Place::within(parent.path(), "demo").unwrap(), Place::within(parent.path(), "demo").unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(fs::metadata(&one.0).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(one.of(7)).unwrap();
        drop((one, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_without_room_for_sockets_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("d".repeat(80));
        fs::create_dir(&deep).unwrap();
        assert!(Place::within(&deep, "demo").unwrap_err().contains("TMPDIR"));
        assert!(Place::within(&parent.path().join("absent"), "demo").unwrap_err().contains("TMPDIR"));
    }
}
