//! Accepts connections on several addresses: a blocking call for `ctl-listen`, on a poll of its own.
//!
//! When the process has no descriptor left, `accept` fails and the connection stays in the backlog: an edge-triggered
//! poll would never tell again, a level-triggered one would spin. So a listener counts as ready until it said
//! `WouldBlock`, whatever else it said, and one descriptor is kept in reserve, to accept the stranger and turn him away.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::Stream;
use super::waker::PollWaker;

/// Connections the kernel holds for us while we are busy: a second of a storm's arrivals, at no cost of ours.
const BACKLOG: i32 = 1024;
const EVENTS: usize = 16;

/// What [`Acceptor::accept`] returns with.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, and who it is from.
    Connection(Stream, SocketAddr),
    /// The waker was used.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// No descriptor or no memory for another one (or the poll failed): [`pause`](Acceptor::pause) for 100 ms, then
    /// accept again. The connection that met this was turned away.
    Exhausted(io::Error),
}

/// Listens on one or several addresses.
#[derive(Debug)]
pub struct Acceptor {
    poll: Poll,
    events: Events,
    listeners: Vec<TcpListener>,
    /// Listeners that may have more, in turn.
    ready: VecDeque<usize>,
    waker: PollWaker,
    spare: Option<File>,
    turned_away: u64,
}

impl Acceptor {
    /// Binds all addresses; port 0 lets the system choose.
    ///
    /// # Errors
    /// The first address that cannot be had, and why.
    pub fn bind(addrs: &[SocketAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let at = |addr: SocketAddr| move |error| (addr, error);
        let first = at(addrs.first().copied().unwrap_or(unspecified));
        let poll = Poll::new().map_err(first)?;
        let waker = PollWaker::new(poll.registry(), Token(addrs.len())).map_err(first)?;
        let mut listeners = Vec::with_capacity(addrs.len());
        for (index, addr) in addrs.iter().enumerate() {
            let mut listener = listen(*addr).map_err(at(*addr))?;
            poll.registry().register(&mut listener, Token(index), Interest::READABLE).map_err(at(*addr))?;
            listeners.push(listener);
        }
        let (events, ready) = (Events::with_capacity(EVENTS), VecDeque::with_capacity(addrs.len()));
        Ok(Self { poll, events, listeners, ready, waker, spare: spare(), turned_away: 0 })
    }

    /// Where it listens, the ports as chosen.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Wakes the thread that blocks in [`accept`](Self::accept).
    pub fn waker(&self) -> PollWaker {
        self.waker.clone()
    }

    /// How many connections were turned away for want of a descriptor.
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// Waits for a connection, the waker or the deadline.
    pub fn accept(&mut self, deadline: Option<Duration>) -> Accepted {
        let until = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        loop {
            if self.waker.take() {
                return Accepted::Woken;
            }
            while let Some(index) = self.ready.pop_front() {
                match self.listeners[index].accept() {
                    Ok((stream, from)) => {
                        self.ready.push_back(index);
                        return Accepted::Connection(Stream(stream), from);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // The connection, not the listener, is at fault: accept(2).
                    Err(error) if is_passing(&error) => self.ready.push_front(index),
                    Err(error) => {
                        self.ready.push_back(index);
                        self.turn_away(index);
                        return Accepted::Exhausted(error);
                    }
                }
            }
            match self.wait(until) {
                Ok(true) => {}
                Ok(false) => return Accepted::TimedOut,
                Err(error) => return Accepted::Exhausted(error),
            }
        }
    }

    /// Accepts nothing for a while, unless the waker is used; then [`accept`](Self::accept) returns it.
    pub fn pause(&mut self, span: Duration) {
        let until = Instant::now().checked_add(span);
        while !self.waker.is_woken() && matches!(self.wait(until), Ok(true)) {}
    }

    /// Waits for an event: false if the time was over first.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<bool> {
        let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(true),
            Ok(()) => {}
        }
        for event in self.events.iter() {
            let Token(index) = event.token();
            if index < self.listeners.len() && !self.ready.contains(&index) {
                self.ready.push_back(index);
            }
        }
        Ok(!self.events.is_empty() || patience != Some(Duration::ZERO))
    }

    /// Spends the spare descriptor on one waiting connection, which learns at once that there is no place here.
    fn turn_away(&mut self, index: usize) {
        drop(self.spare.take());
        if self.listeners[index].accept().is_ok() {
            self.turned_away += 1;
        }
        self.spare = spare();
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // Each family is bound by itself, so that no IPv4 address ever arrives dressed as IPv6.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Errors of one connection that ended before it was accepted.
fn is_passing(error: &io::Error) -> bool {
    let passing = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PROTO,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::HOSTDOWN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::thread;

    use super::*;

    fn bound() -> Acceptor {
        Acceptor::bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).unwrap()
    }

    #[test]
    fn all_addresses_accept_in_turn() {
        let mut acceptor = bound();
        let addrs = acceptor.local_addrs();
        let dialled: Vec<_> = (0..6).map(|n| TcpStream::connect(addrs[n % 2]).unwrap()).collect();
        let mut accepted: Vec<SocketAddr> = Vec::new();
        while accepted.len() < dialled.len() {
            match acceptor.accept(Some(Duration::from_secs(20))) {
                Accepted::Connection(_, from) => accepted.push(from),
                other => panic!("{other:?}"),
            }
        }
        for stream in &dialled {
            assert!(accepted.contains(&stream.local_addr().unwrap()));
        }
        assert!(matches!(acceptor.accept(Some(Duration::ZERO)), Accepted::TimedOut));
        assert!(matches!(acceptor.accept(Some(Duration::from_millis(5))), Accepted::TimedOut));
    }

    #[test]
    fn a_waker_ends_the_wait_and_the_pause_even_before_they_begin() {
        let mut acceptor = bound();
        let waker = acceptor.waker();
        waker.wake();
        waker.wake();
        acceptor.pause(Duration::from_secs(60));
        assert!(matches!(acceptor.accept(None), Accepted::Woken));
        assert!(matches!(acceptor.accept(Some(Duration::ZERO)), Accepted::TimedOut));
        let other = thread::spawn(move || waker.wake());
        assert!(matches!(acceptor.accept(None), Accepted::Woken));
        other.join().unwrap();
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = bound().listeners.remove(0);
        let addr = taken.local_addr().unwrap();
        let (at, error) = Acceptor::bind(&["127.0.0.1:0".parse().unwrap(), addr]).unwrap_err();
        assert_eq!((at, error.kind()), (addr, io::ErrorKind::AddrInUse));
    }
}
