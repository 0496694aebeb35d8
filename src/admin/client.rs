//! The command line's end of the admin socket: a call, an answer, and words for when there is nobody.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::value::RawValue;
use socket2::{Domain, SockAddr, Socket, Type};

use super::api::{AdminError, Answer, Verb};

/// How long a node may take: `connect` waits for a dial and its handshake, most else is answered at once. What takes as
/// long as it is told to has [`Client::call_within`].
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer: a view of 16,384 nodes with 16 edges each comes to some 50 MB.
const LONGEST_ANSWER: u64 = 128 << 20;

/// One connection to a node's admin socket. Calls block, one at a time.
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    patience: Duration,
}

impl Client {
    /// Connects; the error's message tells how to get a node that answers.
    pub fn connect(socket: &Path) -> Result<Self, AdminError> {
        match dial(socket) {
            Ok(stream) => Ok(Self { socket: socket.to_owned(), stream: BufReader::new(stream), patience: PATIENCE }),
            Err(error) => Err(nobody(socket, &error)),
        }
    }

    /// Asks, and waits for the answer: as the node wrote it, for `serde_json::from_str` or to be passed on.
    pub fn call(&mut self, verb: &Verb) -> Result<Box<RawValue>, AdminError> {
        self.ask(verb, PATIENCE, false)
    }

    /// The same for what may take this long.
    pub fn call_within(&mut self, verb: &Verb, patience: Duration) -> Result<Box<RawValue>, AdminError> {
        self.ask(verb, patience, false)
    }

    /// The same for what takes as long as the node's configuration says: for as long as the node answers others.
    pub fn call_while_it_lives(&mut self, verb: &Verb) -> Result<Box<RawValue>, AdminError> {
        self.ask(verb, PATIENCE, true)
    }

    fn ask(&mut self, verb: &Verb, patience: Duration, while_it_lives: bool) -> Result<Box<RawValue>, AdminError> {
        let mut line = serde_json::to_vec(verb).map_err(|error| AdminError::internal(error.to_string()))?;
        line.push(b'\n');
        self.patience = patience;
        let asked = self.stream.get_ref().set_read_timeout(Some(patience));
        let answer = match asked.and_then(|()| self.stream.get_mut().write_all(&line)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            // Whoever was turned away finds the reason waiting.
            _ => self.answer(while_it_lives),
        };
        match answer.map_err(|error| self.lost(&error))? {
            Answer::Ok(value) => Ok(value),
            Answer::Error(error) => Err(error),
        }
    }

    fn answer(&mut self, while_it_lives: bool) -> io::Result<Answer> {
        let mut line = Vec::new();
        // What came before a wait was over stays in the line.
        while let Err(error) = (&mut self.stream).take(LONGEST_ANSWER).read_until(b'\n', &mut line) {
            if !(while_it_lives && is_silence(&error) && self.lives()) {
                return Err(error);
            }
        }
        match line.last() {
            Some(b'\n') => {
                serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// One that has no place for another client lives as well.
    fn lives(&self) -> bool {
        let asked = Self::connect(&self.socket).and_then(|mut other| other.call(&Verb::Identity));
        asked.map_or_else(|error| error.exit != 3, |_| true)
    }

    fn lost(&self, error: &io::Error) -> AdminError {
        let node = format!("the node at {}", self.socket.display());
        match error.kind() {
            _ if is_silence(error) => {
                AdminError::unreachable(format!("{node} did not answer within {} s", self.patience.as_secs()))
            }
            io::ErrorKind::InvalidData => AdminError::internal(format!("{node} sent what is no answer: {error}")),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                AdminError::unreachable(format!("{node} hung up: it has ended, or serves too many clients"))
            }
            _ => AdminError::unreachable(format!("{node} cannot be asked: {error}")),
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A Unix socket's connect waits while the other side's backlog is full, for as long as the write timeout says.
fn dial(socket: &Path) -> io::Result<UnixStream> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.connect(&SockAddr::unix(socket)?)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(stream)))
}

/// Two cases have a cure that can be named; in all others the system's word has to do.
fn nobody(socket: &Path, error: &io::Error) -> AdminError {
    let at = format!("no node answers at {}", socket.display());
    let start = match (socket.parent(), socket.file_name()) {
        (Some(state_dir), Some(name)) if name == super::socket::NAME => format!("--state-dir {}", state_dir.display()),
        _ => format!("--socket {}", socket.display()),
    };
    AdminError::unreachable(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("{at}: start one with 'kithd run {start}', or name its socket with --socket")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{at} for this user: run this as the user the node runs as, or name another socket with --socket")
        }
        _ => format!("{at}: {error}; name its socket with --socket"),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A node of one client and one answer.
    fn node(answer: &'static [u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            BufReader::new(&client).read_line(&mut String::new()).unwrap();
            client.write_all(answer).unwrap();
        });
        (dir, socket)
    }

    fn ask(answer: &'static [u8]) -> Result<Box<RawValue>, AdminError> {
        let (_dir, socket) = node(answer);
        Client::connect(&socket).unwrap().call(&Verb::Identity)
    }

    #[test]
    fn an_answer_comes_back_as_it_was_written() {
        assert_eq!(ask(b"{\"ok\":{\"b\":1.10,\"a\":2}}\n").unwrap().get(), r#"{"b":1.10,"a":2}"#);
        let error = ask(b"{\"error\":{\"code\":\"busy\",\"exit\":1,\"message\":\"m\",\"new\":1}}\n").unwrap_err();
        assert_eq!(error, AdminError::negative("busy", "m"));
    }

    #[test]
    fn half_answers_and_nonsense_are_errors() {
        assert_eq!(ask(b"").unwrap_err().exit, 3);
        assert_eq!(ask(b"{\"ok\":1").unwrap_err().exit, 3);
        assert_eq!(ask(b"hello\n").unwrap_err().exit, 70);
        assert_eq!(ask(b"{\"ok\":1,\"error\":2}\n").unwrap_err().exit, 70);
    }

    #[test]
    fn without_a_node_the_line_says_how_to_start_one() {
        let missing = |socket: &str| Client::connect(Path::new(socket)).err().unwrap();
        assert_eq!(
            missing("/nowhere/admin.sock"),
            AdminError::unreachable(
                "no node answers at /nowhere/admin.sock: \
                 start one with 'kithd run --state-dir /nowhere', or name its socket with --socket"
            )
        );
        assert!(missing("/nowhere/other").message.contains("'kithd run --socket /nowhere/other'"));
        assert!(missing(&format!("/{}", "x".repeat(200))).message.contains("--socket"));
    }
}
