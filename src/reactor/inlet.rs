//! The receiving half of one connection, on the reactor's thread: from readiness to the receiver's calls.
//!
//! ```text
//!  Connecting ──▶ Open ◀────────▶ Paused { ending }
//!      │           │ a frame refused     │ flushed, ending known
//!      │           ▼ or overdue          ▼
//!      │        Discarding ◀─────────────┘      (closed was told; input is thrown away, a Goodbye may leave)
//!      ▼           ▼
//!     gone  ◀── the remote's end, a broken link, the owner's close, in any stage
//! ```

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::connection::{Link, uninterrupted};
use super::{Flow, Receiver};
use crate::protocol::codec::{FrameSplitter, Frames, PREAMBLE};
use crate::protocol::reason::Reason;

/// The most bytes read from one socket before the others have their turn.
const TURN: usize = 256 * 1024;
/// How long a polite close waits for the remote's end.
const LINGER: Duration = Duration::from_secs(1);
/// And how much it takes meanwhile from a remote that goes on talking: what may have been on its way. Beyond that the
/// connection is reset, and the remote may lose the last word; for that it would have had to listen.
const LAST_BYTES: usize = 1024 * 1024;

pub(super) struct Inlet {
    link: Arc<Link>,
    receiver: Box<dyn Receiver>,
    splitter: FrameSplitter,
    stage: Stage,
    frame_timeout: Duration,
    /// When to call `expire`: only while a frame is unfinished or a close lingers.
    pub(super) deadline: Option<Instant>,
    /// It stands in the queue of those that have had their turn and have more to read.
    pub(super) is_waiting: bool,
    /// Its last turn was not only about whole frames: the next thing here may be something else.
    pub(super) is_unsteady: bool,
}

enum Stage {
    Connecting,
    Open,
    Paused { ending: Option<Reason> },
    Discarding { left: usize },
}

/// What the loop does with an inlet next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Waits for an event, a command or its deadline.
    Rests,
    /// It has more to read, when the others have had their turn.
    HasMore,
    /// It is over, and everybody was told.
    Gone,
}

impl Inlet {
    pub(super) fn new(link: Arc<Link>, receiver: Box<dyn Receiver>, frame_timeout: Duration) -> Self {
        let outgoing = link.outgoing;
        Self {
            link,
            receiver,
            splitter: if outgoing { FrameSplitter::new() } else { FrameSplitter::with_preamble() },
            stage: if outgoing { Stage::Connecting } else { Stage::Open },
            frame_timeout,
            deadline: None,
            is_waiting: false,
            is_unsteady: false,
        }
    }

    /// Something happened at the socket, or nothing: events may be spurious.
    pub(super) fn event(&mut self, event: &Event, buffer: &mut [u8]) -> Progress {
        let hung_up = event.is_read_closed() || event.is_write_closed() || event.is_error();
        if matches!(self.stage, Stage::Connecting) {
            match self.link.connect_outcome(hung_up) {
                None => return Progress::Rests,
                Some(Err(reason)) => return self.end(reason),
                Some(Ok(())) => {
                    self.stage = Stage::Open;
                    self.receiver.connected();
                }
            }
        } else if event.is_writable() && self.link.take_blocked() {
            self.is_unsteady = true;
            self.receiver.writable();
        }
        if self.is_waiting || !(event.is_readable() || hung_up) {
            return Progress::Rests;
        }
        self.drain(buffer, hung_up)
    }

    /// Reads until the socket is empty or the turn is over. A read that does not fill the buffer has emptied it (epoll(7)),
    /// and whatever comes later is a new event; only an end that was announced with it must still be looked for.
    pub(super) fn drain(&mut self, buffer: &mut [u8], to_the_end: bool) -> Progress {
        self.drain_by(Link::read, buffer, to_the_end).unwrap_or(Progress::Rests)
    }

    /// False if something else than a frame may come next here. Who waits to write is told by the poll alone.
    pub(super) fn is_steady(&self) -> bool {
        matches!(self.stage, Stage::Open) && self.deadline.is_none() && !self.is_waiting && !self.link.is_blocked()
    }

    /// Waits for what comes next, for a moment, as if nothing else could; `None` if nothing has.
    pub(super) fn drain_soon(&mut self, buffer: &mut [u8]) -> Option<Progress> {
        self.drain_by(Link::read_soon, buffer, false)
    }

    /// `None` if there was nothing to be read.
    fn drain_by(
        &mut self,
        mut first: fn(&Link, &mut [u8]) -> io::Result<usize>,
        buffer: &mut [u8],
        to_the_end: bool,
    ) -> Option<Progress> {
        let mut taken = 0;
        while !matches!(self.stage, Stage::Connecting | Stage::Paused { .. }) {
            let read = std::mem::replace(&mut first, Link::read);
            let read = match uninterrupted(|| read(&self.link, buffer)) {
                Ok(0) if self.splitter.is_partial() => return Some(self.end(Reason::EofInFrame)),
                Ok(0) => return Some(self.end(Reason::EndOfStream)),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Some(self.end(Reason::Local)),
                Err(_) => return Some(self.end(Reason::Reset)),
            };
            match &mut self.stage {
                Stage::Open => self.take(&buffer[..read]),
                Stage::Discarding { left } if *left < read => return Some(self.end(Reason::Local)),
                Stage::Discarding { left } => *left -= read,
                Stage::Connecting | Stage::Paused { .. } => {}
            }
            taken += read;
            if read < buffer.len() && !to_the_end {
                break;
            }
            if taken >= TURN {
                return Some(Progress::HasMore);
            }
        }
        (taken > 0).then_some(Progress::Rests)
    }

    /// The consumer took something.
    pub(super) fn resume(&mut self, buffer: &mut [u8]) -> Progress {
        let Stage::Paused { ending } = self.stage else { return Progress::Rests };
        self.hand_over(ending);
        if self.splitter.is_partial() && matches!(self.stage, Stage::Open) {
            self.deadline = Some(Instant::now() + self.frame_timeout);
        }
        // What arrived while it was paused gives no event any more.
        self.drain(buffer, true)
    }

    /// Something waits to be sent.
    pub(super) fn send(&mut self) -> Progress {
        // First: what comes from now on is said anew.
        self.link.is_due.store(false, Ordering::SeqCst);
        if matches!(self.stage, Stage::Open | Stage::Paused { .. }) {
            self.receiver.writable();
        }
        Progress::Rests
    }

    /// The deadline has passed.
    pub(super) fn expire(&mut self) -> Progress {
        match self.stage {
            Stage::Discarding { .. } => self.end(Reason::Local),
            _ => {
                self.refuse(Reason::FrameTimeout);
                Progress::Rests
            }
        }
    }

    /// The owner wants no more of it, and has ended our direction.
    pub(super) fn finish(&mut self, buffer: &mut [u8]) -> Progress {
        if !matches!(self.stage, Stage::Discarding { .. }) {
            self.refuse(Reason::Local);
        }
        self.deadline = Some(Instant::now() + LINGER);
        self.drain(buffer, true)
    }

    /// Tells the receiver, unless it was told before, and closes the socket.
    pub(super) fn end(&mut self, reason: Reason) -> Progress {
        self.link.close();
        if !matches!(self.stage, Stage::Discarding { .. }) {
            self.refuse(reason);
        }
        Progress::Gone
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut counted = Counted { receiver: &mut *self.receiver, frames: 0, preamble: false };
        let outcome = self.splitter.split(bytes, &mut counted);
        let (frames, progressed) = (counted.frames, counted.frames > 0 || counted.preamble);
        self.link.count(|traffic| &traffic.frames_in, frames);
        self.is_unsteady |= !progressed || self.splitter.is_partial();
        if !self.splitter.is_partial() {
            self.deadline = None;
        } else if progressed || self.deadline.is_none() {
            // The clock runs for each frame from its first byte, not from its latest one.
            self.deadline = Some(Instant::now() + self.frame_timeout);
        }
        if progressed || outcome.is_err() {
            self.hand_over(outcome.err());
        }
    }

    fn hand_over(&mut self, ending: Option<Reason>) {
        match (self.flush(), ending) {
            (Flow::Pause, ending) => {
                // While we are the slow ones, no frame is overdue.
                self.deadline = None;
                self.stage = Stage::Paused { ending };
            }
            (Flow::Continue, None) => self.stage = Stage::Open,
            (Flow::Continue, Some(reason)) => self.refuse(reason),
        }
    }

    fn flush(&mut self) -> Flow {
        if self.receiver.flush() == Flow::Continue {
            return Flow::Continue;
        }
        // The consumer may have taken all and gone to sleep before it could see that we pause.
        self.link.pause();
        let flow = self.receiver.flush();
        if flow == Flow::Continue {
            self.link.unpause();
        }
        flow
    }

    fn refuse(&mut self, reason: Reason) {
        self.deadline = None;
        self.stage = Stage::Discarding { left: LAST_BYTES };
        self.splitter = FrameSplitter::new();
        self.link.unpause();
        self.receiver.closed(reason);
    }
}

/// Counts on the way to the receiver.
struct Counted<'a> {
    receiver: &'a mut dyn Receiver,
    frames: u64,
    preamble: bool,
}

impl Frames for Counted<'_> {
    fn limit(&self) -> usize {
        self.receiver.limit()
    }

    fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason> {
        self.preamble = true;
        self.receiver.preamble(preamble)
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        self.frames += 1;
        self.receiver.frame(frame)
    }
}
