//! The node's Ed25519 key: who it is, in the whole network and for ever.
//!
//! The file holds two lines of hex digits, the secret seed and the public id that follows from it: a damaged file is
//! recognised, and never silently replaced by a new identity.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::protocol::identity::{ControllerId, from_hex, to_hex};
use crate::protocol::record::{Signature, Signer};

/// The most bytes an identity file can have; what is longer is none.
const MAX_FILE: u64 = 1024;

/// The secret half; the library wipes it from memory when it is dropped.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

/// Why there is no identity.
#[derive(Debug)]
pub enum IdentityError {
    /// The file is not an identity, or its halves do not belong together.
    Damaged,
    /// Others may read the secret: the file's mode.
    Exposed(u32),
    /// The system said no.
    Failed(io::Error),
}

impl Identity {
    /// A new identity from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { key: SigningKey::from_bytes(&seed) })
    }

    /// Reads the identity at this path, or makes one there if nothing is there.
    ///
    /// # Errors
    /// See [`IdentityError`]; a file that exists is never touched.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match fs::metadata(path) {
            Ok(found) if !found.is_file() || found.len() > MAX_FILE => Err(IdentityError::Damaged),
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                Err(IdentityError::Exposed(found.permissions().mode() & 0o777))
            }
            Ok(_) => {
                let text = fs::read(path).map(Zeroizing::new).map_err(IdentityError::Failed)?;
                Self::parse(&text).ok_or(IdentityError::Damaged)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path).map_err(IdentityError::Failed),
            Err(error) => Err(IdentityError::Failed(error)),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let seed = Zeroizing::new(from_hex::<32>(lines.next()?)?);
        let id = ControllerId(from_hex::<32>(lines.next()?)?);
        let identity = Self { key: SigningKey::from_bytes(&seed) };
        (identity.id() == id && lines.next().is_none()).then_some(identity)
    }

    /// Written whole or not at all: a temporary file with the final mode, synced, then linked to its name, which fails
    /// rather than replace an identity that appeared meanwhile.
    fn create(path: &Path) -> io::Result<Self> {
        let identity = Self::generate()?;
        let text = Zeroizing::new(format!("{}\n{}\n", to_hex(identity.key.as_bytes()), identity.id()));
        let temporary = path.with_extension("key.new");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        linked?;
        if let Some(directory) = path.parent() {
            fs::File::open(directory)?.sync_all()?;
        }
        Ok(identity)
    }
}

impl Signer for Identity {
    fn id(&self) -> ControllerId {
        ControllerId(self.key.verifying_key().to_bytes())
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = self.key.sign(bytes);
        Signature(*signature.r_bytes(), *signature.s_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_the_same_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().id(), made.id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Exposed(0o644))));
    }

    #[test]
    fn any_damage_is_noticed_and_nothing_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        Identity::load_or_create(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            // The last byte is a newline: a line may end otherwise, but its digits must be the same.
            if let Ok(identity) = Identity::load_or_create(&path) {
                panic!("byte {at} can be flipped: {identity:?}");
            }
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        fs::write(&path, b"").unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Damaged)));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Damaged)));
    }
}
