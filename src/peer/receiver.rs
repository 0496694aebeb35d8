//! The receiving half of a peer: runs on the reactor's thread, and so never waits.
//!
//! Frames become messages here. A heartbeat is answered at once, through the sink, whatever the peer's own thread is doing;
//! all messages of one read go to the main loop in one send. Is the main loop behind, the socket is not read, and TCP makes
//! the remote wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver as Inbox, Sender, bounded};
use parking_lot::Mutex;

use super::sink::{Class, Sink};
use crate::clock::Clock;
use crate::protocol::codec::{
    Frames, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, PREAMBLE, check_preamble, decode_frame, encode_frame,
};
use crate::protocol::discovery::agreement::Claim;
use crate::protocol::heartbeat::{Answers, Side};
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::peer_state::Input;
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;
use crate::reactor::{Flow, Receiver};

/// Batches of messages between the reactor and the main loop; each is one read, 64 KiB at most.
const BATCHES: usize = 4;

/// The line between a connection's receiving half and its main loop: the batches, and one place for the last word.
pub(super) fn line() -> (Sender<FromWire>, Inbox<FromWire>) {
    bounded(BATCHES + 1)
}

/// What the reactor's thread tells the peer's.
pub(super) enum FromWire {
    /// The dial succeeded.
    Connected,
    /// The messages of one read, and when it was.
    Messages(Time, Vec<Input>),
    /// Nothing follows.
    Ended(Reason),
}

/// One connection's receiving half.
pub(super) struct Inward {
    pub(super) side: Side,
    pub(super) clock: Clock,
    pub(super) claim: Arc<Mutex<Claim>>,
    pub(super) answered: Arc<AtomicU64>,
    pub(super) sink: Arc<Sink>,
    pub(super) messages: Sender<FromWire>,
    /// Set by the main loop once the remote is identified.
    pub(super) open: Arc<AtomicBool>,
    pub(super) answers: Answers,
    pub(super) batch: Vec<Input>,
    pub(super) at: Time,
}

impl Frames for Inward {
    fn limit(&self) -> usize {
        if self.is_open() { MAX_FRAME } else { MAX_FRAME_BEFORE_HELLO }
    }

    fn preamble(&mut self, preamble: [u8; PREAMBLE]) -> Result<(), Reason> {
        check_preamble(preamble)
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        if self.batch.is_empty() {
            self.at = self.clock.time();
        }
        let input = match self.side {
            Side::Head => {
                let message: TailMessage = decode_frame(frame)?;
                let dated = self.answer_heartbeat(&message)?;
                Input::Request { message, dated }
            }
            Side::Tail => Input::Answer(decode_frame(frame)?),
        };
        self.batch.push(input);
        Ok(())
    }
}

impl Receiver for Inward {
    fn connected(&mut self) {
        // The first message of all: there is room.
        let _ = self.messages.try_send(FromWire::Connected);
    }

    fn flush(&mut self) -> Flow {
        // A broken sink is found by the main loop, and by the reactor.
        let _ = self.sink.flush();
        if self.batch.is_empty() {
            return Flow::Continue;
        }
        // Only this thread sends, so what has room now still has it in the next line.
        if self.messages.len() >= BATCHES {
            return Flow::Pause;
        }
        // Fails if nobody reads any more: the main loop has ended and closes the connection.
        let _ = self.messages.try_send(FromWire::Messages(self.at, std::mem::take(&mut self.batch)));
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
    use crate::peer::sink::{Budget, SinkLimits};
    use crate::protocol::hash::Hash;
    use crate::reactor::{Reactor, ReactorSettings, Stream};

    #[test]
    fn the_reason_of_the_end_is_heard_however_far_behind_the_main_loop_is() {
        let settings = ReactorSettings { frame_timeout: Duration::from_secs(30), wakeups: Arc::default() };
        let reactor = Reactor::start(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::try_from(listener.accept().unwrap().0).unwrap();
        let connection = reactor.handle().adopt(stream).unwrap();
        let limits = SinkLimits { max_queued: 1024 };
        let claim = Claim { digest: Hash([0; 32]), ages: Vec::new(), at: Time::ZERO, expires: Time::ZERO };
        let (messages, inbox) = line();
        let mut inward = Inward {
            side: Side::Head,
            clock: Clock::start(),
            claim: Arc::new(Mutex::new(claim)),
            answered: Arc::default(),
            sink: Arc::new(Sink::new(connection, limits, Arc::new(Budget::new(1024)))),
            messages,
            open: Arc::default(),
            answers: Answers::default(),
            batch: Vec::new(),
            at: Time::ZERO,
        };
        let watch = encode_frame(&TailMessage::Watch);
        let mut read = || {
            inward.frame(&watch[4..]).unwrap();
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
