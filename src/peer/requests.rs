//! Requests on one connection: what this end has asked, or what it was asked, and everybody who waits.
//!
//! ```text
//!   tail   a caller's thread ── ask ──▶ Asking ── sink ──▶              reactor's thread of the head
//!          reactor's thread  ◀─ heard ──────────────────── Response         │ Serving ── Services ─┬─ inline ─┐
//!                 │                                                         │                      └─ work-N ─┤
//!                 └─▶ mailbox of a blocked caller, or its call-back         └──────── sink ◀──────────────────┘
//! ```
//!
//! Neither the peer's thread nor the controller's is on the way: a request is written by whoever asks, and answered by whoever
//! has the answer. The peer's thread looks after deadlines, and after the end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::queues::{Body, Class};
use super::reading;
use super::sink::{Budget, Sink};
use super::waiter::{Ending, Waiter, ending};
use crate::clock::Clock;
use crate::protocol::codec::encode_frame;
use crate::protocol::heartbeat::Side;
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::reason::Reason;
use crate::protocol::requests::Window;
use crate::protocol::requests::asking::{Asking, Full, Heard};
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::message::{Bytes, Failure, Outcome, PIECE, Request, Response};
use crate::protocol::requests::service::ServiceName;
use crate::protocol::requests::serving::{Call, Serving, Taken};
use crate::protocol::time::Time;
use crate::services::{self, Caller, Services};

/// What is to be asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who is to answer.
    pub service: &'a ServiceName,
    /// What is sent along.
    pub payload: &'a [u8],
    /// When nobody waits any more.
    pub deadline: Time,
    /// How many requests this one is an effect of.
    pub depth: u8,
}

/// What one end of a connection gives its requests.
pub struct Line {
    /// This node's clock.
    pub clock: Clock,
    /// This node's services.
    pub services: Arc<Services>,
    /// How much may be open.
    pub window: Window,
    /// How long the pieces of a request may be under way.
    pub patience: Duration,
    /// What all queues, and all that is not yet answered, may take.
    pub budget: Arc<Budget>,
    /// Has the peer's thread look at its deadlines.
    pub look: Box<dyn Fn() + Send + Sync>,
}

/// The requests of one connection.
pub struct Requests {
    line: Line,
    link: Mutex<Option<Arc<Sink>>>,
    remote: OnceLock<Arc<Caller>>,
    tail: Mutex<Tail>,
    /// Something that was open is not any more.
    room: Condvar,
    head: Mutex<Head>,
    /// The remote may ask.
    may_ask: AtomicBool,
    /// When something was asked last, or heard on the reactor's thread.
    asked_at: AtomicU64,
    heard_at: AtomicU64,
}

struct Tail {
    asking: Asking<Waiter>,
    is_open: bool,
    ended: Option<Reason>,
    /// Until when the peer's thread sleeps.
    sleeps: Option<Time>,
}

struct Head {
    serving: Serving,
    /// As at the tail's end.
    sleeps: Option<Time>,
}

impl Requests {
    /// Of a connection that does not stand yet.
    pub fn new(line: Line) -> Self {
        let tail = Tail { asking: Asking::new(line.window), is_open: false, ended: None, sleeps: Some(Time::ZERO) };
        Self {
            link: Mutex::new(None),
            remote: OnceLock::new(),
            tail: Mutex::new(tail),
            room: Condvar::new(),
            head: Mutex::new(Head { serving: Serving::new(line.window, line.patience), sleeps: Some(Time::ZERO) }),
            may_ask: AtomicBool::new(false),
            asked_at: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            line,
        }
    }

    /// Asks. While as much is open as may be, this waits for room, until `patience` if there is one.
    ///
    /// # Errors
    /// Nothing was sent then, and nobody waits: the waiter comes back with the cause.
    pub fn ask(
        &self,
        question: Question<'_>,
        waiter: Waiter,
        patience: Option<Instant>,
    ) -> Result<u64, (RequestError, Waiter)> {
        let most = self.line.window.payload;
        let length = question.payload.len();
        let mut waiter = waiter;
        let mut tail = self.tail.lock();
        let id = loop {
            if let Some(reason) = tail.ended {
                return Err((RequestError::Closed { reason, sent: false }, waiter));
            }
            if !tail.is_open {
                return Err((RequestError::Closed { reason: Reason::Unexpected, sent: false }, waiter));
            }
            let is_timed = waiter.has_to_be_told();
            match tail.asking.ask(waiter, length, question.deadline) {
                Ok(id) => {
                    if is_timed && tail.sleeps.is_none_or(|sleeps| question.deadline < sleeps) {
                        tail.sleeps = Some(question.deadline);
                        (self.line.look)();
                    }
                    break id;
                }
                Err((Full::TooLarge, back)) => return Err((RequestError::TooLarge(length, most), back)),
                Err((Full::Requests | Full::Bytes, back)) => {
                    waiter = back;
                    let full = match patience {
                        Some(until) => self.room.wait_until(&mut tail, until).timed_out(),
                        None => true,
                    };
                    if full {
                        return Err((RequestError::Overloaded, waiter));
                    }
                }
            }
        };
        let now = self.line.clock.time();
        // Under the lock: ids leave in the order in which they were given.
        if let Err(reason) = self.send_request(id, question, now) {
            let back = tail.asking.take_back(id);
            drop(tail);
            let error = match reason {
                Reason::SlowReader | Reason::Overloaded => RequestError::Overloaded,
                reason => RequestError::Closed { reason, sent: false },
            };
            // It was put there a moment ago, and the lock was held since.
            return match back {
                Some(waiter) => Err((error, waiter)),
                None => Ok(id),
            };
        }
        let is_alone = tail.asking.len() == 1;
        drop(tail);
        self.asked_at.store(now.0, Ordering::Relaxed);
        self.flush(|| is_alone);
        Ok(id)
    }

    /// The caller waits no more; false if its answer is being told at this moment.
    pub fn give_up(&self, id: u64) -> bool {
        self.tail.lock().asking.give_up(id).is_some()
    }

    /// The connection, if one request is open on it and all has left: then its answer is what comes next.
    pub fn lone(&self) -> Option<Arc<Sink>> {
        let is_alone = self.tail.lock().asking.len() == 1;
        self.sink().filter(|sink| is_alone && sink.is_empty())
    }

    /// True if something that was asked here may not have left this node yet.
    pub fn is_unsent(&self, id: u64) -> bool {
        self.sink().is_some_and(|sink| sink.unsent().contains(&id))
    }

    /// Who is at the other end, once that is known.
    pub fn remote(&self) -> Option<Arc<Caller>> {
        self.remote.get().cloned()
    }

    /// True if nothing can be asked here any more.
    pub fn is_over(&self) -> bool {
        self.tail.lock().ended.is_some()
    }

    /// Requests that are open here, as the tail.
    pub fn open(&self) -> usize {
        self.tail.lock().asking.len()
    }

    /// Requests that are open here, as the head.
    pub fn owed(&self) -> usize {
        self.head.lock().serving.len()
    }

    /// When something was asked here last; zero if nothing was.
    pub fn asked_at(&self) -> Time {
        Time(self.asked_at.load(Ordering::Relaxed))
    }

    /// When a request or an answer was heard last; zero if none was.
    pub(super) fn heard_at(&self) -> Time {
        Time(self.heard_at.load(Ordering::Relaxed))
    }

    /// There is a connection, though nothing may be asked yet.
    pub(super) fn attach(&self, sink: &Arc<Sink>) {
        *self.link.lock() = Some(Arc::clone(sink));
    }

    /// Who is at the other end.
    pub(super) fn meet(&self, remote: Caller) {
        // A connection has one: it is met once.
        let _ = self.remote.set(Arc::new(remote));
    }

    /// The connection stands, and is more than a look: it may be asked over.
    pub(super) fn open_up(&self) {
        self.may_ask.store(true, Ordering::Release);
        self.tail.lock().is_open = true;
    }

    /// When [`due`](Self::due) wants to be called; the peer's thread sleeps until then, or until `other`.
    pub(super) fn sleeps_until(&self, other: Option<Time>) -> Option<Time> {
        let (mut head, mut tail) = (self.head.lock(), self.tail.lock());
        let wanted = [other, head.serving.deadline(), tail.asking.deadline()].into_iter().flatten().min();
        (head.sleeps, tail.sleeps) = (wanted, wanted);
        wanted
    }

    /// Looks after deadlines.
    ///
    /// # Errors
    /// The head has not answered what it had to.
    pub(super) fn due(&self, now: Time) -> Result<(), Reason> {
        let owed = self.serving(|serving| serving.due(now));
        for (id, outcome) in owed {
            self.respond(id, outcome, Vec::new());
        }
        let late = self.tail.lock().asking.due(now)?;
        if !late.is_empty() {
            let unsent = self.sink().map(|sink| sink.unsent()).unwrap_or_default();
            for (id, waiter) in late {
                self.tell(waiter, Err(RequestError::TimedOut { sent: !unsent.contains(&id) }));
            }
        }
        Ok(())
    }

    /// A request, or a piece of one, has come from the tail.
    ///
    /// # Errors
    /// It breaks the protocol.
    pub(super) fn asked(self: &Arc<Self>, message: TailMessage, at: Time) -> Result<(), Reason> {
        if !self.may_ask.load(Ordering::Acquire) {
            return Err(Reason::Unexpected);
        }
        self.heard_at.store(at.0, Ordering::Relaxed);
        let taken = match message {
            TailMessage::Request(request) => {
                let has_room = self.line.budget.has_room_for_load(request.length as usize);
                self.serving(|serving| serving.request(request, at, has_room))?
            }
            TailMessage::Piece(piece) => self.serving(|serving| serving.piece(&piece))?,
            _ => return Err(Reason::Unexpected),
        };
        match taken {
            Taken::Nothing => {}
            Taken::Refused(id, refusal) => self.respond(id, Outcome::Refused(refusal), Vec::new()),
            Taken::Whole(call) => self.reading(|| self.serve(call)),
        }
        Ok(())
    }

    /// An answer, or a piece of one, has come from the head.
    ///
    /// # Errors
    /// It breaks the protocol.
    pub(super) fn heard(&self, message: HeadMessage, at: Time) -> Result<(), Reason> {
        self.heard_at.store(at.0, Ordering::Relaxed);
        let (heard, is_drained) = {
            let mut tail = self.tail.lock();
            let heard = match message {
                HeadMessage::Response(response) => tail.asking.response(response)?,
                HeadMessage::Piece(piece) => tail.asking.piece(&piece)?,
                _ => return Err(Reason::Unexpected),
            };
            (heard, tail.ended.is_some() && tail.asking.is_empty())
        };
        if is_drained {
            (self.line.look)();
        }
        match heard {
            Heard::Nothing => {}
            Heard::TooLarge(waiter) => self.reading(|| self.tell(waiter, Err(RequestError::AnswerTooLarge))),
            Heard::Answered(waiter, outcome, payload) => self.reading(|| self.tell(waiter, ending(outcome, payload))),
        }
        Ok(())
    }

    /// All of a read was gone through.
    pub(super) fn after_read(&self, side: Side) {
        match side {
            Side::Head => self.look_in_time(),
            Side::Tail => _ = self.room.notify_all(),
        }
    }

    /// The connection is over: everybody who waits is told.
    pub(super) fn end(&self, reason: Reason) {
        let unsent = self.sink().map(|sink| sink.unsent()).unwrap_or_default();
        let waiting = {
            let mut tail = self.tail.lock();
            tail.ended.get_or_insert(reason);
            tail.asking.end()
        };
        for (id, waiter) in waiting {
            self.tell(waiter, Err(RequestError::Closed { reason, sent: !unsent.contains(&id) }));
        }
        self.room.notify_all();
        // What handlers still have for it finds nobody.
        *self.link.lock() = None;
    }

    /// Nothing more is asked here, if nothing is open; whoever wants to ask later finds another connection.
    pub(super) fn retire(&self, reason: Reason) -> bool {
        let mut tail = self.tail.lock();
        let may_go = tail.asking.is_empty();
        if may_go {
            tail.ended.get_or_insert(reason);
        }
        may_go
    }

    /// Nothing more is asked here, whatever is open; how much that is. The peer's thread wants to know when it is nothing.
    pub(super) fn drain(&self, reason: Reason) -> usize {
        let mut tail = self.tail.lock();
        tail.ended.get_or_insert(reason);
        tail.asking.len()
    }

    /// Of what is open now something may have to be answered before the peer's thread wakes. Most requests are not: they are
    /// answered where they arrive, or have longer than a heartbeat takes.
    fn look_in_time(&self) {
        let mut head = self.head.lock();
        let Some(deadline) = head.serving.deadline() else { return };
        if head.sleeps.is_none_or(|sleeps| deadline < sleeps) {
            head.sleeps = Some(deadline);
            drop(head);
            (self.line.look)();
        }
    }

    fn tell(&self, waiter: Waiter, ending: Ending) {
        waiter.tell(&self.line.services.counts, ending);
    }

    fn serve(self: &Arc<Self>, call: Call) {
        let Call { id, service, depth, deadline, payload } = call;
        let Some(caller) = self.remote() else { return };
        let deadline = self.line.clock.instant(deadline);
        let request = services::Request { caller, service, payload, deadline };
        let requests = Arc::clone(self);
        self.line.services.serve(request, depth, move |outcome, payload| requests.answer(id, outcome, payload));
    }

    /// A service has its answer.
    fn answer(&self, id: u64, outcome: Outcome, payload: Vec<u8>) {
        if !self.serving(|serving| serving.answered(id)) {
            return;
        }
        self.respond(id, outcome, payload);
        self.flush(|| self.owed() == 0);
    }

    /// Does something with what is owed; what that holds is held by the node's budget too.
    fn serving<T>(&self, change: impl FnOnce(&mut Serving) -> T) -> T {
        let serving = &mut self.head.lock().serving;
        let before = serving.bytes();
        let result = change(serving);
        let after = serving.bytes();
        match after >= before {
            // It was asked whether there is room.
            true => _ = self.line.budget.take(after - before, true),
            false => self.line.budget.give_back(before - after),
        }
        result
    }

    fn send_request(&self, id: u64, question: Question<'_>, now: Time) -> Result<(), Reason> {
        let Question { service, payload, deadline, depth } = question;
        let (first, rest) = payload.split_at(payload.len().min(PIECE));
        let request = Request {
            id,
            service: *service,
            // Whoever waits for longer than 49 days is answered before.
            remaining_ms: u32::try_from(deadline.since(now).as_millis()).unwrap_or(u32::MAX),
            depth,
            length: u32::try_from(payload.len()).map_err(|_| Reason::Internal)?,
            payload: Bytes::default(),
        };
        let body = (!rest.is_empty()).then(|| Body::new(Side::Tail, id, payload.to_vec(), first.len()));
        let request = TailMessage::Request(request);
        self.queue(|sink| sink.queue_load(id, &request, first, body)).unwrap_or(Err(Reason::Unexpected))
    }

    /// An answer that finds no room is replaced by word of that: whoever asked must not wait in vain, be it that he or that
    /// others do not take theirs. Such words are short, and have the room that is kept for what is urgent; if they find none
    /// there, nobody has read the many before. What was served and then unsent counts as both.
    fn respond(&self, id: u64, outcome: Outcome, payload: Vec<u8>) {
        // Before it is sent: who has an answer finds it counted.
        self.line.services.counts.note(outcome);
        if self.send_response(id, outcome, payload).is_ok() {
            return;
        }
        let outcome = Outcome::Failed(Failure::Unsent);
        self.line.services.counts.note(outcome);
        let response = HeadMessage::Response(Response { id, outcome, length: 0, payload: Bytes::default() });
        let _ = self.queue(|sink| sink.queue(Class::Control, encode_frame(&response)));
    }

    fn send_response(&self, id: u64, outcome: Outcome, payload: Vec<u8>) -> Result<(), Reason> {
        let first = payload.len().min(PIECE);
        let length = u32::try_from(payload.len()).map_err(|_| Reason::Internal)?;
        let response = HeadMessage::Response(Response { id, outcome, length, payload: Bytes::default() });
        if first == payload.len() {
            return self.queue(|sink| sink.queue_load(id, &response, &payload, None)).unwrap_or(Ok(()));
        }
        let beginning = payload[..first].to_vec();
        let body = Body::new(Side::Head, id, payload, first);
        self.queue(|sink| sink.queue_load(id, &response, &beginning, Some(body))).unwrap_or(Ok(()))
    }

    /// Queues something, if there is a connection. It knows nothing of requests, so the lock may be held meanwhile.
    fn queue<T>(&self, put: impl FnOnce(&Sink) -> T) -> Option<T> {
        self.link.lock().as_deref().map(put)
    }

    /// Sends what waits: at once if this is the only request that is open, as a switch of threads takes longer than a write.
    /// Beside others, by the reactor: there are more to come, and one write carries many. (As in Nagle's algorithm, RFC 896,
    /// but nothing waits for the remote.)
    fn flush(&self, is_alone: impl FnOnce() -> bool) {
        // What is asked or answered while a read of this connection is gone through, leaves when all of it was.
        if reading::is_of(self.place()) {
            return;
        }
        if let Some(sink) = self.sink() {
            // A broken sink is told by the reactor, with the reason.
            let _ = if is_alone() { sink.flush() } else { sink.flush_soon() };
        }
    }

    /// Does something for a message of this connection, on the thread that reads it.
    fn reading<T>(&self, work: impl FnOnce() -> T) -> T {
        reading::within(self.place(), work)
    }

    /// Where it lies: no two that live are at one place.
    fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn sink(&self) -> Option<Arc<Sink>> {
        self.link.lock().clone()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.line.budget.give_back(self.head.get_mut().serving.bytes());
    }
}
