//! Lines over a Unix socket: what the admin thread waits on. It knows nothing of verbs, only of lines and of patience.
//!
//! One thread calls [`wait`](LineServer::wait) in a loop and answers with [`send`](LineServer::send); nothing here blocks
//! but that wait. All is bounded: clients, the length of a line, what is queued for a client that does not read, and the
//! time that half a line or a stuck write may take. A client that is merely idle may stay.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};

use super::connection::uninterrupted;
use super::line_client::Client;
use super::waker::PollWaker;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
const EVENTS: usize = 64;
const READ_BUFFER: usize = 16 * 1024;
/// How long nobody is accepted after the process ran out of descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long the log is not told of that again: who keeps the process at its bound is not to fill the log with it.
const EXHAUSTED_TOLD: Duration = Duration::from_secs(60);

/// How a server treats its clients.
#[derive(Clone, Debug)]
pub struct LineServerSettings {
    /// The most clients at once.
    pub max_clients: usize,
    /// The longest line of a client. Each may cost so much inward, and twice as much outward.
    pub max_line: usize,
    /// The line that one client more is told before it is closed.
    pub refusal: String,
    /// How long half a line may stay unfinished, and a write stuck: 5 s is long for a neighbour on the same machine.
    pub patience: Duration,
}

/// One client, as long as the server lives: never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(usize);

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFault {
    /// More than `max_line`.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Not finished in time.
    Unfinished,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineEvent {
    /// A client said a line; the newline is cut off.
    Line {
        /// Who.
        client: ClientId,
        /// What.
        line: String,
    },
    /// A client said something that is no line, and is heard no more: answer it, then close it.
    BadLine {
        /// Who.
        client: ClientId,
        /// What is wrong with it.
        why: LineFault,
    },
    /// A client hung up, or left its answers unread. Not told of clients closed by [`LineServer::close`].
    Gone {
        /// Who.
        client: ClientId,
    },
    /// One client too many, or one of another user, was turned away.
    Refused,
    /// The waker was used, or the moment has come to wake at.
    Woken,
}

/// Listens on a Unix socket.
pub struct LineServer {
    poll: Poll,
    events: Events,
    listener: UnixListener,
    waker: PollWaker,
    settings: LineServerSettings,
    clients: BTreeMap<ClientId, Client>,
    next_client: usize,
    /// Edge-triggered: there may be more to accept.
    is_ready: bool,
    /// Nobody is accepted until then.
    exhausted_until: Option<Instant>,
    /// When the log was told so.
    exhaustion_told: Option<Instant>,
    wakes_at: Option<Instant>,
    /// What is to be told with the next wait.
    found: Vec<LineEvent>,
    buffer: Vec<u8>,
}

impl LineServer {
    /// Binds `path`, mode 0600. The directory and a stale socket in it are the caller's: it has prepared the one (0700) and
    /// removed the other.
    ///
    /// # Errors
    /// The path is taken, too long, or not permitted.
    pub fn bind(path: &Path, settings: LineServerSettings) -> io::Result<Self> {
        let mut listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            waker: PollWaker::new(poll.registry(), WAKER)?,
            poll,
            events: Events::with_capacity(EVENTS),
            listener,
            settings,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            is_ready: true,
            exhausted_until: None,
            exhaustion_told: None,
            wakes_at: None,
            found: Vec::new(),
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// Wakes the thread that blocks in [`wait`](Self::wait).
    pub fn waker(&self) -> PollWaker {
        self.waker.clone()
    }

    /// When [`wait`](Self::wait) is to return even if nothing happens: once, and until this is called again.
    pub fn wake_at(&mut self, moment: Option<Instant>) {
        self.wakes_at = moment;
    }

    /// Waits until something happened: at least one event, and of one client never more than 64 lines at once.
    ///
    /// # Errors
    /// The poll failed, which it does not in practice.
    pub fn wait(&mut self) -> io::Result<Vec<LineEvent>> {
        loop {
            self.poll()?;
            let is_time = self.wakes_at.take_if(|moment| *moment <= Instant::now()).is_some();
            if self.waker.take() || is_time {
                self.found.push(LineEvent::Woken);
            }
            self.accept();
            self.hear();
            self.expire();
            if !self.found.is_empty() {
                return Ok(std::mem::take(&mut self.found));
            }
        }
    }

    /// Sends a line to a client; to one that is gone, nothing. More than two of its longest lines unread is the end of a
    /// client, but for a single line, which may be longer.
    pub fn send(&mut self, client: ClientId, line: &str) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        if known.push(line).is_err() {
            self.remove(client);
        }
    }

    /// Closes a client as soon as it has read what was sent to it.
    pub fn close(&mut self, client: ClientId) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        if known.close().is_err() {
            self.remove(client);
        }
    }

    fn poll(&mut self) -> io::Result<()> {
        let patience = self.patience();
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let mut gone = Vec::new();
        for event in self.events.iter() {
            match event.token() {
                LISTENER => self.is_ready = true,
                WAKER => {}
                Token(token) => {
                    let Some(client) = self.clients.get_mut(&ClientId(token)) else { continue };
                    client.note(event);
                    if event.is_writable() && client.flush().is_err() {
                        gone.push(ClientId(token));
                    }
                }
            }
        }
        gone.into_iter().for_each(|client| self.remove(client));
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        let accepts = self.is_ready && self.exhausted_until.is_none();
        if accepts || !self.found.is_empty() || self.waker.is_woken() || self.clients.values().any(Client::has_work) {
            return Some(Duration::ZERO);
        }
        let overdue = self.clients.values().filter_map(|client| client.deadline(self.settings.patience));
        let first = overdue.chain(self.exhausted_until).chain(self.wakes_at).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn accept(&mut self) {
        if !self.is_ready || self.exhausted_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.exhausted_until = None;
        // Those who only come to be refused have turns too.
        for _ in 0..EVENTS {
            match uninterrupted(|| self.listener.accept()) {
                Ok((stream, _)) => self.admit(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.is_ready = false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let now = Instant::now();
                    if self.exhaustion_told.is_none_or(|told| now.duration_since(told) >= EXHAUSTED_TOLD) {
                        log::warn!("cannot accept a client: {error}");
                        self.exhaustion_told = Some(now);
                    }
                    self.exhausted_until = Some(now + EXHAUSTED_PAUSE);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: UnixStream) {
        let token = Token(self.next_client);
        self.next_client += 1;
        if !is_ours(&stream) {
            self.found.push(LineEvent::Refused);
        } else if self.clients.len() >= self.settings.max_clients {
            // A fresh socket's buffer takes one line; if not, the client sees the end all the same.
            let _ = stream.write_all(format!("{}\n", self.settings.refusal).as_bytes());
            self.found.push(LineEvent::Refused);
        } else if self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            self.clients.insert(ClientId(token.0), Client::new(stream, self.settings.max_line));
        }
    }

    fn hear(&mut self) {
        let mut gone = Vec::new();
        for (id, client) in self.clients.iter_mut().filter(|(_, client)| client.has_work()) {
            let Ok(lines) = client.take_lines(&mut self.buffer) else {
                gone.push(*id);
                continue;
            };
            self.found.extend(lines.into_iter().map(|line| match line {
                Ok(line) => LineEvent::Line { client: *id, line },
                Err(why) => LineEvent::BadLine { client: *id, why },
            }));
        }
        gone.into_iter().for_each(|client| self.remove(client));
    }

    fn expire(&mut self) {
        let (now, patience, mut gone) = (Instant::now(), self.settings.patience, Vec::new());
        for (id, client) in &mut self.clients {
            match client.expire(now, patience) {
                Ok(None) => {}
                Ok(Some(why)) => self.found.push(LineEvent::BadLine { client: *id, why }),
                Err(_) => gone.push(*id),
            }
        }
        gone.into_iter().for_each(|client| self.remove(client));
    }

    fn remove(&mut self, client: ClientId) {
        if self.clients.remove(&client).is_some_and(|known| !known.is_closing()) {
            self.found.push(LineEvent::Gone { client });
        }
    }
}

/// Whether a client is of our user, or root. The socket's mode says so already; this holds where a mode is not heeded.
fn is_ours(stream: &UnixStream) -> bool {
    #[cfg(target_os = "linux")]
    if let Ok(client) = rustix::net::sockopt::socket_peercred(stream) {
        return client.uid.is_root() || client.uid == rustix::process::geteuid();
    }
    let _ = stream;
    true
}
