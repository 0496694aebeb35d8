//! The admin socket's place: a directory that only its user may enter, so that nobody else can open the socket even in
//! the moment before it has its mode; and a free path in it. What lies there and is not a dead node's socket is never
//! touched.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use socket2::{Domain, SockAddr, Socket, Type};

/// The socket's name in its state directory.
pub const NAME: &str = "admin.sock";

/// Why there can be no socket. The node does not start: exit 4.
#[derive(Debug)]
pub enum SocketError {
    /// Others may enter the state directory, and it may be more than that: it is for its owner to close.
    Open(PathBuf),
    /// Another user owns the state directory.
    Foreign(PathBuf),
    /// Anybody may take away what lies in the socket's directory, and put something else there.
    Public(PathBuf),
    /// Something lies at the socket's path that is no socket.
    Occupied(PathBuf),
    /// A node answers there.
    InUse(PathBuf),
    /// The system said no.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path) => {
                let path = path.display();
                write!(f, "other users may enter the state directory {path}: close it with 'chmod 700 {path}'")
            }
            Self::Foreign(path) => {
                let path = path.display();
                write!(
                    f,
                    "the state directory {path} belongs to another user: run kithd as that user, or choose another with \
                     --state-dir"
                )
            }
            Self::Public(path) => {
                let path = path.display();
                write!(
                    f,
                    "any user may replace the socket in {path}: close it with 'chmod o-w {path}', or name another place \
                     with --socket"
                )
            }
            Self::Occupied(path) => {
                write!(f, "{} is not a socket and is left alone: name another one with --socket", path.display())
            }
            Self::InUse(path) => write!(f, "a node already answers at {}: stop it first", path.display()),
            Self::Failed(path, error) => {
                let path = path.display();
                write!(f, "{path}: {error}: name a place that this user may write to, with --state-dir or --socket")
            }
        }
    }
}

impl error::Error for SocketError {}

/// Makes sure of a state directory that only its user may enter. One that exists is closed to others if it is empty or
/// was a node's before; any other is left as it is, for `--state-dir /tmp` must not lock everybody out of it.
pub fn prepare_directory(path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Failed(path.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let found = fs::metadata(path).map_err(failed)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let a_nodes = path.join("identity.key").exists() || fs::read_dir(path).map_err(failed)?.next().is_none();
    if !ours {
        return Err(SocketError::Foreign(path.to_owned()));
    }
    if !a_nodes {
        return Err(SocketError::Open(path.to_owned()));
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}

/// Leaves a path free for a socket, or says who needs it. Its directory may be a shared one, where only owners take their
/// files away (`/tmp`), but not one where everybody may: users would talk to whoever put his own socket there. A crashed node's socket refuses connections and is taken away;
/// anything else is alive, or no socket, and stays.
pub fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Failed(path.to_owned(), error);
    let address = SockAddr::unix(path).map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = fs::metadata(directory).map_err(failed)?;
    if found.mode() & 0o1002 == 0o002 {
        return Err(SocketError::Public(directory.to_owned()));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => {}
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // A node that hangs with a full backlog must not make this one hang.
    caller.set_nonblocking(true).map_err(failed)?;
    match caller.connect(&address) {
        Ok(()) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::WouldBlock => Err(SocketError::InUse(path.to_owned())),
            _ => Err(failed(error)),
        },
    }
}

/// Tells one socket file from another that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(u64, u64);

impl FileId {
    /// Of the socket at a path; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        found.file_type().is_socket().then(|| Self(found.dev(), found.ino()))
    }
}

/// Takes a socket away again, unless it is another one by now.
pub fn remove(path: &Path, id: FileId) {
    if FileId::of(path) == Some(id)
        && let Err(error) = fs::remove_file(path)
    {
        log::warn!("{}: cannot be removed: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_dead_nodes_socket_gives_way_and_a_live_ones_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        clear(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        clear(&path).unwrap();
        assert!(!path.exists());

        let _live = UnixListener::bind(&path).unwrap();
        assert!(matches!(clear(&path), Err(SocketError::InUse(_))));
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_stream_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        fs::write(at("file"), "precious").unwrap();
        drop(UnixListener::bind(at(NAME)).unwrap());
        std::os::unix::fs::symlink(at(NAME), at("link")).unwrap();
        let _bound = UnixDatagram::bind(at("datagram")).unwrap();
        for name in ["file", "link", "datagram", ""] {
            assert!(clear(&at(name)).is_err(), "{name}");
            assert!(fs::symlink_metadata(at(name)).is_ok(), "{name}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
        assert!(matches!(clear(&dir.path().join("x".repeat(120))), Err(SocketError::Failed(..))));
    }

    #[test]
    fn where_everybody_may_replace_it_no_socket_is_made() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, fit) in [(0o700, true), (0o775, true), (0o1777, true), (0o777, false), (0o702, false)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let found = clear(&dir.path().join(NAME));
            assert_eq!(found.is_ok(), fit, "{mode:o}");
            assert!(fit || matches!(found, Err(SocketError::Public(_))), "{mode:o}");
        }
    }

    #[test]
    fn only_ones_own_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let _first = UnixListener::bind(&path).unwrap();
        let id = FileId::of(&path).unwrap();
        // Kept under another name, so that its number is not given to the next one.
        fs::rename(&path, dir.path().join("old")).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        remove(&path, id);
        assert!(path.exists());
        remove(&path, FileId::of(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_state_directory_is_closed_to_others_but_a_shared_one_is_not_locked() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("a/b");
        prepare_directory(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);

        fs::set_permissions(&fresh, Permissions::from_mode(0o755)).unwrap();
        prepare_directory(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);

        fs::write(fresh.join("letters"), "").unwrap();
        fs::set_permissions(&fresh, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(prepare_directory(&fresh), Err(SocketError::Open(_))));
        assert_eq!(mode(&fresh), 0o755);
        assert!(prepare_directory(&fresh.join("letters")).is_err());
    }
}
