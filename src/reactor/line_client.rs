//! One client of a [`LineServer`](super::LineServer): its socket, its unfinished line and what it has not read yet.
//!
//! ```text
//!  Open ──▶ Spoiled      a bad line: nothing more is read, the server says why
//!   │          │
//!   └──────────┴──▶ Closing     by the server: what is queued is still written
//!  any of them ──▶ gone: hung up, broken, stuck, or closed and written out
//! ```
//!
//! A client that only ended its own half (`nc -N`) stays: its answers are yet to come.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::UnixStream;

use super::connection::uninterrupted;
use super::line_server::LineFault;

/// Lines taken from a client before the others have their turn.
const LINES_A_TURN: usize = 64;
/// Bytes read before it.
const BYTES_A_TURN: usize = 256 * 1024;
/// A client that leaves this much unread is not read from: it would only make more answers.
const UNREAD_ANSWERS: usize = 64 * 1024;

pub(super) struct Client {
    stream: UnixStream,
    stage: Stage,
    /// Edge-triggered: true until a read said `WouldBlock`.
    readable: bool,
    /// Nobody is there to read an answer. What it said before still counts: it may have hung up on purpose.
    hung_up: bool,
    inward: Vec<u8>,
    /// So far there is no newline in `inward`.
    scanned: usize,
    outward: VecDeque<u8>,
    max_line: usize,
    half_line_since: Option<Instant>,
    stuck_since: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Spoiled,
    Closing,
}

/// The client is no more.
pub(super) struct Gone;

impl Client {
    pub(super) fn new(stream: UnixStream, max_line: usize) -> Self {
        Self {
            stream,
            stage: Stage::Open,
            readable: true,
            hung_up: false,
            inward: Vec::new(),
            scanned: 0,
            outward: VecDeque::new(),
            max_line,
            half_line_since: None,
            stuck_since: None,
        }
    }

    pub(super) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed();
        self.hung_up |= event.is_write_closed();
    }

    /// True if `take_lines` would find something without a new event.
    pub(super) fn has_work(&self) -> bool {
        self.hung_up || self.is_heard() && !self.is_heard_out()
    }

    /// Reads, and takes the lines that are whole.
    pub(super) fn take_lines(&mut self, buffer: &mut [u8]) -> Result<Vec<Result<String, LineFault>>, Gone> {
        let mut lines = Vec::new();
        if self.is_heard() {
            self.read(buffer);
            self.cut(&mut lines);
        }
        let is_over = self.hung_up && lines.is_empty() && (!self.is_heard() || self.is_heard_out());
        if is_over { Err(Gone) } else { Ok(lines) }
    }

    /// Queues a line; the newline is added here.
    pub(super) fn push(&mut self, line: &str) -> Result<(), Gone> {
        if matches!(self.stage, Stage::Closing) {
            return Ok(());
        }
        if !self.outward.is_empty() && self.outward.len() + line.len() >= 2 * self.max_line {
            return Err(Gone);
        }
        self.outward.extend(line.as_bytes());
        self.outward.push_back(b'\n');
        self.flush()
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        while !self.outward.is_empty() {
            let Self { stream, outward, .. } = self;
            match uninterrupted(|| stream.write(outward.as_slices().0)) {
                Ok(written) if written > 0 => {
                    self.outward.drain(..written);
                    self.stuck_since = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                _ => return Err(Gone),
            }
        }
        self.outward.shrink_to(0);
        if self.stage == Stage::Closing { Err(Gone) } else { Ok(()) }
    }

    /// Takes no more lines; gone as soon as it has read all.
    pub(super) fn close(&mut self) -> Result<(), Gone> {
        self.stop_reading(Stage::Closing);
        self.flush()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    /// When its patience is over, if nothing moves until then.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        [self.half_line_since, self.stuck_since].into_iter().flatten().min().map(|since| since + patience)
    }

    /// Looks for what is overdue: half a line is a fault, a stuck write the end.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) -> Result<Option<LineFault>, Gone> {
        let overdue = |since: Option<Instant>| since.is_some_and(|since| now >= since + patience);
        if overdue(self.stuck_since) {
            return Err(Gone);
        }
        if !overdue(self.half_line_since) {
            return Ok(None);
        }
        self.stop_reading(Stage::Spoiled);
        Ok(Some(LineFault::Unfinished))
    }

    fn is_heard(&self) -> bool {
        self.stage == Stage::Open && (self.hung_up || self.outward.len() <= UNREAD_ANSWERS)
    }

    /// True if all it sent so far was read, and looked through for lines.
    fn is_heard_out(&self) -> bool {
        !self.readable && self.scanned == self.inward.len()
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let mut taken = 0;
        while self.readable && taken < BYTES_A_TURN && self.inward.len() <= self.max_line {
            match uninterrupted(|| self.stream.read(buffer)) {
                Ok(0) => {
                    self.readable = false;
                    // The last line needs no newline.
                    if self.inward.last().is_some_and(|last| *last != b'\n') {
                        self.inward.push(b'\n');
                    }
                }
                Ok(read) => {
                    self.inward.extend_from_slice(&buffer[..read]);
                    taken += read;
                }
                Err(error) => {
                    self.readable = false;
                    self.hung_up |= error.kind() != ErrorKind::WouldBlock;
                }
            }
        }
    }

    fn cut(&mut self, lines: &mut Vec<Result<String, LineFault>>) {
        let mut start = 0;
        while lines.len() < LINES_A_TURN {
            let from = self.scanned.max(start);
            let Some(end) = self.inward[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at) else {
                self.scanned = self.inward.len();
                break;
            };
            let line = std::str::from_utf8(&self.inward[start..end]).map(str::to_owned);
            let fault = if end - start > self.max_line { Some(LineFault::TooLong) } else { None };
            self.scanned = end + 1;
            start = end + 1;
            self.half_line_since = None;
            match (line, fault) {
                (Ok(line), None) => lines.push(Ok(line)),
                (_, fault) => return self.spoil(fault.unwrap_or(LineFault::NotUtf8), lines),
            }
        }
        self.inward.drain(..start);
        self.scanned -= start;
        if self.inward.len() > self.max_line && self.scanned == self.inward.len() {
            return self.spoil(LineFault::TooLong, lines);
        }
        if self.inward.is_empty() {
            self.inward = Vec::new();
        } else if self.scanned == self.inward.len() {
            self.half_line_since.get_or_insert_with(Instant::now);
        }
    }

    fn spoil(&mut self, fault: LineFault, lines: &mut Vec<Result<String, LineFault>>) {
        lines.push(Err(fault));
        self.stop_reading(Stage::Spoiled);
    }

    fn stop_reading(&mut self, stage: Stage) {
        self.stage = stage;
        (self.inward, self.scanned, self.half_line_since) = (Vec::new(), 0, None);
    }
}
