//! The receiving half of a peer: runs on the reactor's thread, and so never waits.
//!
//! Frames become messages here: the first ones, of the handshake, go to the peer's thread as they are, since keys take long to
//! agree on; once it has handed over the session, records are opened in place. A heartbeat is answered at once, through the sink, whatever the peer's own thread is doing;
//! all messages of one read go to the main loop in one send. Is the main loop behind, the socket is not read, and TCP makes
//! the remote wait.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver as Inbox, Sender, bounded};
use parking_lot::Mutex;

use super::queues::Class;
use super::reading::wake_all;
use super::requests::Requests;
use super::sink::Sink;
use crate::clock::Clock;
use crate::protocol::codec::{
    Frames, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, PASSING, PREAMBLE, Preamble, decode_frame, encode_frame, messages,
};
use crate::protocol::discovery::agreement::Claim;
use crate::protocol::heartbeat::{Answers, Side};
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::peer_state::Input;
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;
use crate::reactor::{Flow, Receiver};
use crate::secure::session::{Opening, TAG};

/// Batches of messages between the reactor and the main loop; each is one read, 64 KiB at most.
const BATCHES: usize = 4;

/// Frames that a remote may send before the session is handed over: two of the handshake, and one `Hello`. A remote that
/// sends more did not wait for its answer.
const MAX_RAW: u64 = 4;

thread_local! {
    /// Into which records are opened: one for all connections of a reactor, at most as long as a record.
    static PLAINTEXT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The line between a connection's receiving half and its main loop: the batches, and one place for the last word.
pub(super) fn line() -> (Sender<FromWire>, Inbox<FromWire>) {
    bounded(BATCHES + 1)
}

/// What the reactor's thread tells the peer's.
pub(super) enum FromWire {
    /// The dial succeeded.
    Connected,
    /// The tail's first bytes.
    Preamble(Preamble),
    /// Frames that came before the session was handed over.
    Raw(Vec<Vec<u8>>),
    /// The messages of one read, and when it was.
    Messages(Time, Vec<Input>),
    /// Nothing follows.
    Ended(Reason),
}

/// Where the peer's thread puts the session's receiving half, once it has taken all frames that came before.
#[derive(Default)]
pub(super) struct Handover {
    /// Frames sent on as they are.
    sent: u64,
    opening: Option<Opening>,
}

impl Handover {
    /// Hands over unless there are raw frames on their way, of which so many have been taken.
    pub(super) fn offer(&mut self, taken: u64, opening: Opening) -> Option<Opening> {
        if self.sent != taken {
            return Some(opening);
        }
        self.opening = Some(opening);
        None
    }
}

/// One connection's receiving half.
pub(super) struct Inward {
    pub(super) side: Side,
    pub(super) clock: Clock,
    pub(super) claim: Arc<Mutex<Claim>>,
    pub(super) answered: Arc<AtomicU64>,
    pub(super) sink: Arc<Sink>,
    pub(super) requests: Arc<Requests>,
    pub(super) messages: Sender<FromWire>,
    /// Set by the main loop once the remote is identified.
    pub(super) open: Arc<AtomicBool>,
    pub(super) answers: Answers,
    pub(super) handover: Arc<Mutex<Handover>>,
    pub(super) opening: Option<Opening>,
    pub(super) preamble: Option<Preamble>,
    pub(super) raw: Vec<Vec<u8>>,
    pub(super) batch: Vec<Input>,
    /// When this read was, once somebody wants to know.
    pub(super) at: Option<Time>,
    /// The remote has taken its leave: nothing is asked or answered after that.
    pub(super) has_parted: bool,
    /// Something was asked or answered in this read.
    pub(super) was_load: bool,
}

impl Frames for Inward {
    fn limit(&self) -> usize {
        TAG + if self.is_open() { MAX_FRAME } else { MAX_FRAME_BEFORE_HELLO }
    }

    fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason> {
        self.preamble = Some(Preamble::from_bytes(preamble));
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        if self.opening.is_none() && !self.take_over(frame)? {
            return Ok(());
        }
        let Some(opening) = &mut self.opening else { return Ok(()) };
        // Put back at the end; what goes on meanwhile on this thread finds none and makes its own.
        let mut plaintext = PLAINTEXT.take();
        let taken = match opening.open(frame, &mut plaintext) {
            Ok(()) => messages(&plaintext, |message| self.message(message)),
            Err(reason) => Err(reason),
        };
        PLAINTEXT.set(plaintext);
        taken
    }
}

impl Receiver for Inward {
    fn connected(&mut self) {
        // The first message of all: there is room.
        let _ = self.messages.try_send(FromWire::Connected);
    }

    fn flush(&mut self) -> Flow {
        // What others have queued they flush themselves. A broken sink is found by the main loop, and by the reactor.
        if !self.sink.is_empty() {
            let _ = self.sink.flush();
        }
        if std::mem::take(&mut self.was_load) {
            self.requests.after_read(self.side);
        }
        wake_all();
        // A tail's requests make answers: it gets no more of them before it has taken those. What a head says is always read,
        // so that two of them cannot wait for each other.
        if self.side == Side::Head && self.sink.is_high() {
            return Flow::Pause;
        }
        let raw = usize::from(self.preamble.is_some()) + usize::from(!self.raw.is_empty());
        if self.batch.is_empty() && raw == 0 {
            self.at = None;
            return Flow::Continue;
        }
        // Only this thread sends, so what has room now still has it in the next lines.
        if self.messages.len() + raw > BATCHES - usize::from(!self.batch.is_empty()) {
            return Flow::Pause;
        }
        if let Some(preamble) = self.preamble.take() {
            let _ = self.messages.try_send(FromWire::Preamble(preamble));
        }
        if !self.raw.is_empty() {
            let _ = self.messages.try_send(FromWire::Raw(std::mem::take(&mut self.raw)));
        }
        let Some(at) = self.at.take().filter(|_| !self.batch.is_empty()) else { return Flow::Continue };
        // Fails if nobody reads any more: the main loop has ended and closes the connection.
        let _ = self.messages.try_send(FromWire::Messages(at, std::mem::take(&mut self.batch)));
        Flow::Continue
    }

    fn writable(&mut self) {
        let _ = self.sink.flush();
    }

    fn closed(&mut self, reason: Reason) {
        // The place that batches leave free is for this: the last word and its reason must not be lost behind them.
        let _ = self.messages.try_send(FromWire::Ended(reason));
    }
}

impl Inward {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// True if the session is here now; else the frame goes to the peer's thread.
    fn take_over(&mut self, frame: &[u8]) -> Result<bool, Reason> {
        let mut handover = self.handover.lock();
        self.opening = handover.opening.take();
        if self.opening.is_some() {
            return Ok(true);
        }
        handover.sent += 1;
        if handover.sent > MAX_RAW {
            return Err(Reason::Unexpected);
        }
        self.raw.push(frame.to_vec());
        Ok(false)
    }

    fn message(&mut self, message: &[u8]) -> Result<(), Reason> {
        let at = *self.at.get_or_insert_with(|| self.clock.time());
        let input = match self.side {
            Side::Head => {
                let message: TailMessage = decode_frame(message)?;
                if matches!(message, TailMessage::Request(_) | TailMessage::Piece(_)) {
                    self.was_load = true;
                    return if self.may_be_asked()? { self.requests.asked(message, at) } else { Ok(()) };
                }
                self.has_parted |= matches!(message, TailMessage::Goodbye(_));
                let dated = self.answer_heartbeat(&message)?;
                Input::Request { message, dated }
            }
            Side::Tail => {
                let message: HeadMessage = decode_frame(message)?;
                if matches!(message, HeadMessage::Response(_) | HeadMessage::Piece(_)) {
                    self.was_load = true;
                    return if self.may_be_asked()? { self.requests.heard(message, at) } else { Ok(()) };
                }
                self.has_parted |= matches!(message, HeadMessage::Goodbye(_));
                Input::Answer(message)
            }
        };
        if self.batch.is_empty() {
            // Most reads bring one message.
            self.batch.reserve_exact(1);
        } else if self.batch.len() == 1 {
            // This thread takes it and the peer's gives it back: see there.
            self.batch.reserve_exact(PASSING / size_of::<Input>());
        }
        self.batch.push(input);
        Ok(())
    }

    /// True if requests and their answers are in order now, false if they come too late to matter.
    fn may_be_asked(&self) -> Result<bool, Reason> {
        if self.is_open() { Ok(!self.has_parted) } else { Err(Reason::Unexpected) }
    }

    /// Of a heartbeat, the moment before which its statement was not made.
    fn answer_heartbeat(&mut self, message: &TailMessage) -> Result<Option<Time>, Reason> {
        let TailMessage::Heartbeat { seq, echo, .. } = *message else { return Ok(None) };
        if !self.is_open() {
            return Err(Reason::Unexpected);
        }
        let now = self.clock.time();
        let statement = self.claim.lock().statement(now);
        let dated = self.answers.answer(seq, echo, now);
        self.sink.queue(Class::Control, encode_frame(&HeadMessage::Heartbeat { seq, statement }))?;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(dated)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::peer::requests::Line;
    use crate::peer::sink::{Budget, SinkLimits};
    use crate::protocol::hash::Hash;
    use crate::protocol::requests::Window;
    use crate::reactor::{Reactor, ReactorSettings, Stream};
    use crate::services::Services;

    #[test]
    fn the_reason_of_the_end_is_heard_however_far_behind_the_main_loop_is() {
        let settings = ReactorSettings { frame_timeout: Duration::from_secs(30), wakeups: Arc::default() };
        let reactor = Reactor::start(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::try_from(listener.accept().unwrap().0).unwrap();
        let connection = reactor.handle().adopt(stream).unwrap();
        let limits = SinkLimits { max_queued: 1024, max_bodies: 1024 };
        let claim = Claim { digest: Hash([0; 32]), ages: Vec::new(), at: Time::ZERO, expires: Time::ZERO };
        let (messages, inbox) = line();
        let window = Window { requests: 1, bytes: 1024, payload: 1024 };
        let (clock, services) = (Clock::start(), Arc::new(Services::new(1, 1, 1024)));
        let requests = Arc::new(Requests::new(Line {
            clock,
            services,
            window,
            patience: Duration::from_secs(30),
            budget: Arc::new(Budget::new(1024)),
            look: Box::new(|| ()),
        }));
        let mut inward = Inward {
            side: Side::Head,
            clock,
            claim: Arc::new(Mutex::new(claim)),
            answered: Arc::default(),
            sink: Arc::new(Sink::new(connection, limits, Arc::new(Budget::new(1024)))),
            requests,
            messages,
            open: Arc::default(),
            answers: Answers::default(),
            handover: Arc::default(),
            opening: None,
            preamble: None,
            raw: Vec::new(),
            batch: Vec::new(),
            at: None,
            has_parted: false,
            was_load: false,
        };
        let watch = encode_frame(&TailMessage::Watch);
        let mut read = || {
            inward.message(&watch[4..]).unwrap();
            inward.flush()
        };
        for _ in 0..BATCHES {
            assert_eq!(read(), Flow::Continue);
        }
        assert_eq!(read(), Flow::Pause, "the fifth waits");
        inward.closed(Reason::Reset);
        let last = inbox.try_iter().last();
        assert!(matches!(last, Some(FromWire::Ended(Reason::Reset))), "the main loop hears why");
    }
}
