//! One TCP connection as the rest of the house sees it: a handle that writes, resumes and closes, from any thread.
//!
//! The reactor's `Inlet` owns the receiving half; both share one `Link`. The link holds the socket
//! behind a lock that is taken for writing only at the start and the end, so that `close` frees the descriptor at once
//! however many handles are still about.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use parking_lot::RwLock;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::poll_loop::{Command, Shared};
use crate::protocol::reason::Reason;

/// What the kernel may hold of one socket's output, in bytes: a heartbeat waits behind it, and a peer that never reads
/// costs this much before the sink feels it (the system's default is megabytes).
const SEND_BUFFER: usize = 64 * 1024;
/// Of that, what may be waiting unsent before the socket counts as full: keeps control ahead of bulk in our own queues.
const NOT_SENT_LOW_WATER: u32 = 32 * 1024;
/// Sent bytes that stay unacknowledged this long mean a dead link, whatever the kernel's own patience.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a read that waits does so. The system counts in its own beats of 1 to 10 ms, and takes one or two.
const MOMENT: Duration = Duration::from_millis(1);
/// A write does not wait, and to a connection that is gone is an error, no signal.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::DONTWAIT;

/// A handle on one connection. Clones are the same connection; it lives until it is closed by either end.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) link: Arc<Link>,
}

impl Connection {
    /// Writes what the kernel takes, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now or is not yet connected: the receiver's `writable` or `connected` follows.
    /// `NotConnected` after a close. Anything else: the connection is broken, and the receiver's `closed` follows.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.link.write(bytes)
    }

    /// False while a write cannot succeed: not yet connected, or full. A call of the receiver follows when that changes.
    pub fn may_write(&self) -> bool {
        !self.link.connecting.load(Ordering::SeqCst) && !self.link.is_blocked()
    }

    /// Tells the reactor that the consumer took something, so that a paused receiver is flushed and read on. Costs one
    /// load if it is not paused: call it after every take.
    pub fn resume(&self) {
        // Against `Link::pause`: either the reactor's second flush sees the room just made, or this sees its flag.
        fence(Ordering::SeqCst);
        if self.link.paused.load(Ordering::SeqCst) && self.link.paused.swap(false, Ordering::SeqCst) {
            self.link.shared.command(Command::Resume(self.link.token));
        }
    }

    /// Has the reactor call the receiver's `writable`, once for all who want it until then: what many have to send leaves in
    /// few writes. False if the reactor has stopped, or may not hear of it soon.
    pub fn send_soon(&self) -> bool {
        let link = &self.link;
        let is_said = link.is_due.swap(true, Ordering::SeqCst) || link.shared.command(Command::Flush(link.token));
        is_said && !link.shared.reads_on.load(Ordering::SeqCst)
    }

    /// Ends our direction: the remote reads what was written, then the end. Errors are not told, since the reactor finds
    /// the same ones.
    pub fn shutdown_write(&self) {
        if let Some(stream) = self.link.stream.read().as_ref() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes at once: the descriptor is free on return. A socket closed with input unread resets the connection, and the
    /// remote may lose what was written last; after a `Goodbye` use [`finish`](Self::finish). Idempotent.
    pub fn close(&self) {
        if self.link.close() {
            self.link.shared.command(Command::Close(self.link.token));
        }
    }

    /// Closes politely: ends our direction, then the reactor throws input away until the remote ends its own, for a second
    /// at most. Idempotent.
    pub fn finish(&self) {
        self.link.is_closing.store(true, Ordering::SeqCst);
        self.shutdown_write();
        if !self.link.shared.command(Command::Finish(self.link.token)) {
            self.link.close();
        }
    }

    /// Our end's address.
    pub fn local_addr(&self) -> SocketAddr {
        self.link.local
    }

    /// The remote's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.link.peer
    }

    /// What went through this connection.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.link.traffic
    }

    /// Counts frames that were written: only the sink knows where they end.
    pub fn count_frames_out(&self, frames: u64) {
        self.link.count(|traffic| &traffic.frames_out, frames);
    }
}

/// An accepted socket that no reactor knows yet.
#[derive(Debug)]
pub struct Stream(pub(super) TcpStream);

impl TryFrom<std::net::TcpStream> for Stream {
    type Error = io::Error;

    fn try_from(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(TcpStream::from_std(stream)))
    }
}

/// Counters of one connection, or of all.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes the kernel took.
    pub bytes_out: AtomicU64,
    /// Whole frames read.
    pub frames_in: AtomicU64,
    /// Frames put on their way.
    pub frames_out: AtomicU64,
}

/// A reading of [`Traffic`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Whole frames read.
    pub frames_in: u64,
    /// Frames put on their way.
    pub frames_out: u64,
}

impl Traffic {
    /// The counters as they stand.
    pub fn counts(&self) -> Counts {
        Counts {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            frames_in: self.frames_in.load(Ordering::Relaxed),
            frames_out: self.frames_out.load(Ordering::Relaxed),
        }
    }
}

/// Why a dial failed, from the error of [`ReactorHandle::dial`](super::ReactorHandle::dial) or of the connect itself.
pub fn dial_reason(error: &io::Error) -> Reason {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Reason::ConnectionRefused,
        Some(Errno::TIMEDOUT) => Reason::ConnectTimeout,
        Some(Errno::CONNRESET | Errno::PIPE) => Reason::Reset,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => Reason::Overloaded,
        // No route, no network, no free port, not permitted.
        _ => Reason::Unreachable,
    }
}

/// What the handles and the reactor share of one connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) token: Token,
    /// Whether we dialled: then no preamble comes in.
    pub(super) outgoing: bool,
    stream: RwLock<Option<TcpStream>>,
    local: SocketAddr,
    peer: SocketAddr,
    /// The connect is under way. Nothing may be written: a write would take the error that the reactor looks for.
    connecting: AtomicBool,
    /// A write would have blocked: the next writable event is news. (Nearly every event says writable.)
    blocked: AtomicBool,
    /// The receiver said `Pause`, and nobody resumed it yet.
    paused: AtomicBool,
    /// The reactor is to call the receiver's `writable`.
    pub(super) is_due: AtomicBool,
    /// The socket has been read by waiting for what comes, and all else has to say that it does not wait.
    is_blocking: AtomicBool,
    /// We end it, now or when the remote has.
    is_closing: AtomicBool,
    traffic: Arc<Traffic>,
    shared: Arc<Shared>,
}

impl Link {
    pub(super) fn dial(shared: &Arc<Shared>, peer: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        tune(SockRef::from(&socket));
        match socket.connect(&peer.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
            _ => {}
        }
        Self::new(shared, TcpStream::from_std(socket.into()), Some(peer))
    }

    pub(super) fn adopt(shared: &Arc<Shared>, Stream(stream): Stream) -> io::Result<Self> {
        tune(SockRef::from(&stream));
        Self::new(shared, stream, None)
    }

    fn new(shared: &Arc<Shared>, stream: TcpStream, dialled: Option<SocketAddr>) -> io::Result<Self> {
        Ok(Self {
            token: shared.next_token(),
            outgoing: dialled.is_some(),
            local: stream.local_addr()?,
            peer: dialled.map_or_else(|| stream.peer_addr(), Ok)?,
            stream: RwLock::new(Some(stream)),
            connecting: AtomicBool::new(dialled.is_some()),
            blocked: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            is_due: AtomicBool::new(false),
            is_blocking: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            traffic: Arc::default(),
            shared: Arc::clone(shared),
        })
    }

    /// Makes the poll watch it; what is ready already is reported. False if it was closed in the meantime.
    pub(super) fn watch(&self, registry: &Registry) -> io::Result<bool> {
        match self.stream.write().as_mut() {
            Some(stream) => {
                registry.register(stream, self.token, Interest::READABLE | Interest::WRITABLE).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// `NotConnected` if it was closed on our side.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read().as_ref() {
            Some(stream) => self.has_read(recv(stream, buffer, RecvFlags::DONTWAIT)?.0),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// As [`read`](Self::read), of what comes within a [`MOMENT`] without an interruption: else `WouldBlock`.
    pub(super) fn read_soon(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream.read();
        let stream = stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if !self.is_blocking.load(Ordering::SeqCst) {
            let socket = SockRef::from(stream);
            // Without a bound it must not wait: it is of use, not necessary.
            socket
                .set_read_timeout(Some(MOMENT))
                .and_then(|()| socket.set_nonblocking(false))
                .map_err(|_| io::ErrorKind::WouldBlock)?;
            self.is_blocking.store(true, Ordering::SeqCst);
        }
        // Against `close`: either it sees that somebody may wait here, or this its wish. A command follows.
        if self.is_closing.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match recv(stream, buffer, RecvFlags::empty()) {
            Ok((read, _)) => self.has_read(read),
            Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn has_read(&self, read: usize) -> io::Result<usize> {
        if read == 0 && self.is_closing.load(Ordering::SeqCst) {
            // That end is our doing.
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.count(|traffic| &traffic.bytes_in, read as u64);
        Ok(read)
    }

    /// How the connect went: `None` if it is still under way.
    pub(super) fn connect_outcome(&self, hung_up: bool) -> Option<Result<(), Reason>> {
        let stream = self.stream.read();
        let Some(stream) = stream.as_ref() else { return Some(Err(Reason::Local)) };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => return Some(Err(dial_reason(&error))),
            Ok(None) => {}
        }
        match stream.peer_addr() {
            // Nobody listens on this loopback port, and the system chose it for our own end: a socket joined to itself.
            Ok(peer) if stream.local_addr().is_ok_and(|local| local == peer) => Some(Err(Reason::ConnectionRefused)),
            Ok(_) => {
                self.connecting.store(false, Ordering::SeqCst);
                Some(Ok(()))
            }
            Err(_) if hung_up => Some(Err(Reason::Unreachable)),
            Err(_) => None,
        }
    }

    /// True while a writer waits.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst)
    }

    /// True if a writer was waiting for this.
    pub(super) fn take_blocked(&self) -> bool {
        self.is_blocked() && self.blocked.swap(false, Ordering::SeqCst)
    }

    /// From here on [`Connection::resume`] wakes the reactor. Flush once more after it.
    pub(super) fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(super) fn unpause(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Drops the socket, which takes it out of the poll too. False if it was closed already.
    pub(super) fn close(&self) -> bool {
        self.is_closing.store(true, Ordering::SeqCst);
        if self.is_blocking.load(Ordering::SeqCst)
            && let Some(stream) = self.stream.try_read_recursive()
            && let Some(stream) = stream.as_ref()
        {
            // Somebody may wait for what comes there: he is to return, and the remote not to hear of it.
            let _ = stream.shutdown(Shutdown::Read);
        }
        self.stream.write().take().is_some()
    }

    pub(super) fn count(&self, counter: impl Fn(&Traffic) -> &AtomicU64, by: u64) {
        for traffic in [&self.traffic, &self.shared.totals] {
            counter(traffic).fetch_add(by, Ordering::Relaxed);
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.connecting.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let stream = self.stream.read();
        let stream = stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let write = || uninterrupted(|| Ok(send(stream, bytes, SEND)?));
        let mut wrote = write();
        if would_block(&wrote) {
            // The socket may become writable just now, and its event pass unheeded. So say that we wait, then try again:
            // if that blocks too, the event is yet to come.
            self.blocked.store(true, Ordering::SeqCst);
            wrote = write();
            if !would_block(&wrote) {
                self.blocked.store(false, Ordering::SeqCst);
            }
        }
        let wrote = wrote?;
        self.count(|traffic| &traffic.bytes_out, wrote as u64);
        Ok(wrote)
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// An option that the system refuses costs latency or memory, not correctness: it is left as it was.
fn tune(socket: SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER);
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_dial_have_their_reasons() {
        let expected = [
            (Errno::CONNREFUSED, Reason::ConnectionRefused),
            (Errno::TIMEDOUT, Reason::ConnectTimeout),
            (Errno::NETUNREACH, Reason::Unreachable),
            (Errno::HOSTUNREACH, Reason::Unreachable),
            (Errno::ADDRNOTAVAIL, Reason::Unreachable),
            (Errno::ACCESS, Reason::Unreachable),
            (Errno::MFILE, Reason::Overloaded),
        ];
        for (errno, reason) in expected {
            assert_eq!(dial_reason(&errno.into()), reason, "{errno}");
        }
    }
}
