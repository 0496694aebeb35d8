//! Sockets: the only home of `mio`. Threads above it see frames, connections and lines, never readiness.
//!
//! ```text
//!            bytes               frames                       Receiver (a trait object from peer/)
//!  socket ──────────▶ Inlet ───────────────▶ frame, frame, ... flush ──▶ Flow::Continue: read on
//!    ▲      read     (one per                                      └───▶ Flow::Pause: into the list of the paused,
//!    │      buffer    connection)                                        until Connection::resume
//!    │
//!    └──────────────── Connection::write, from any thread: the sink (peer/sink.rs)
//!
//!  thread `reactor`: one poll, one 64 KiB read buffer, all peer sockets     poll_loop.rs, inlet.rs, connection.rs, steady.rs
//!  thread `ctl-listen`: blocks in Acceptor::accept, a poll of its own        acceptor.rs
//!  thread `admin`: blocks in LineServer::wait, a poll of its own             line_server.rs, line_client.rs
//! ```
//!
//! The reactor never waits for anybody, but for a few milliseconds for the only one who speaks. It is edge-triggered, so what
//! is not read at an event has to be remembered: a socket whose peer is full goes on the list of the paused, a socket that has
//! had its turn goes to the end of a queue. A timer exists only while a frame is unfinished or a close lingers; an idle reactor
//! is not woken at all.

pub mod acceptor;
pub mod connection;
mod inlet;
mod line_client;
pub mod line_server;
pub mod poll_loop;
mod seat;
mod steady;
mod waker;

pub use acceptor::{Accepted, Acceptor};
pub use connection::{Connection, Counts, Stream, Traffic, dial_reason};
pub use line_server::{ClientId, LineEvent, LineFault, LineServer, LineServerSettings};
pub use poll_loop::{Reactor, ReactorHandle, ReactorSettings};
pub use waker::PollWaker;

use crate::protocol::codec::Frames;
use crate::protocol::reason::Reason;

/// Whether a receiver can take more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// All was handed over: read on.
    Continue,
    /// Something is still gathered, since the peer's queue is full: read no more until
    /// [`Connection::resume`] is called.
    Pause,
}

/// What a connection's bytes become: the receiving half of a peer, run on the reactor's thread.
///
/// No call may block or wait for another thread's progress; each may use the [`Connection`] (write, close) freely.
///
/// ```text
///  dial ──▶ connected ──▶ ┌─▶ limit, preamble, frame ... flush ─┐ ──▶ closed(reason) ──▶ (writable)
///  adopt ───────────────▶ └──────── writable ◀──────────────────┘
/// ```
///
/// `closed` comes exactly once for every receiver given to [`ReactorHandle::register`], whatever happens.
pub trait Receiver: Frames + Send {
    /// The outgoing connection stands: flush the sink, which has kept what was queued until now.
    fn connected(&mut self);

    /// Called after the last frame of each read: hand over what was gathered, all of it in one send.
    ///
    /// After [`Flow::Pause`] it is called again at once (the consumer may just have made room) and after each
    /// [`Connection::resume`]; nothing is read, and so no `frame` comes, before it returned [`Flow::Continue`].
    fn flush(&mut self) -> Flow;

    /// The socket takes bytes again after a write that would have blocked: flush the sink.
    fn writable(&mut self);

    /// No frame comes any more.
    ///
    /// If the end was found by the reactor (the remote closed, a frame was refused, a timeout) then every frame before it
    /// has been handed over: while the receiver is paused, this waits for a successful `flush`. If the node itself ended
    /// it, by [`Connection::close`], [`Connection::finish`] ([`Reason::Local`]) or [`Reactor::stop`]
    /// ([`Reason::Leaving`]), it comes at once, and what a paused receiver still holds is forfeit: so a peer that is stuck
    /// cannot hold up a shutdown.
    ///
    /// After a frame that was refused or overdue the socket stays open, its input thrown away, so that a `Goodbye` can
    /// still be sent: the owner has to close the connection, and until then `writable` may be called, nothing else. In
    /// all other cases the socket is closed already.
    fn closed(&mut self, reason: Reason);
}
