//! Why a node does not start: one line each, with the culprit, the cause and the cure.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::state_dir::StateError;
use crate::admin::socket::SocketError;
use crate::config::ConfigError;
use crate::secure::network_key::KeyFileError;

/// See [`Node::start`](super::node::Node::start).
#[derive(Debug)]
pub enum StartError {
    /// A value of the configuration: exit code 2.
    Config(ConfigError),
    /// The state directory, or what lies in it.
    State(StateError),
    /// The directory or the admin socket.
    Socket(SocketError),
    /// This address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// Others could connect, and there is no network key to keep strangers out.
    Exposed(SocketAddr),
    /// The listening address is none that others could dial, and there is no route to tell a better one by: exit code 2.
    NoAddress(SocketAddr),
    /// The network key's file.
    KeyFile(PathBuf, KeyFileError),
    /// The system gives no thread, descriptor or randomness.
    System(io::Error),
}

impl StartError {
    /// True if it is a mistake in the configuration rather than the state of the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::NoAddress(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::State(error) => write!(f, "{error}"),
            Self::Socket(error) => write!(f, "{error}"),
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: the port is in use: choose another with --listen, or port 0 for any"
                )
            }
            Self::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}: choose another address with --listen")
            }
            Self::Exposed(address) => write!(
                f,
                "cannot listen on {address}: beyond loopback a network key keeps strangers out: make one with \
                 'kithd keygen --out network.key' and name it with --network-key-file"
            ),
            Self::NoAddress(address) => write!(
                f,
                "listen.addresses = \"{address}\" is no address that others could dial, and there is no default route to \
                 find one by: name one with --advertise"
            ),
            Self::KeyFile(path, error) => write!(f, "network.key_file = {}: {error}", path.display()),
            Self::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<SocketError> for StartError {
    fn from(error: SocketError) -> Self {
        Self::Socket(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
