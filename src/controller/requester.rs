//! Many requests to one node, without a thread for each.
//!
//! ```text
//!   Requester ── submit ──▶ window of the edge ──▶ …  ──▶ call-back, on the thread that takes the answer off the wire
//!   Pipeline  ── submit ──▶ its own window ──────▶ …  ──▶ its channel ──▶ recv
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::asking::{Asker, Target, Wanted, moment_after};
use super::lines::Way;
use crate::peer::waiter::Ending;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::requests::error::RequestError;
use crate::services::context;

/// Asks one node, over one edge that it shares with everybody else in this program who asks that node.
///
/// The edge is found or dialled when something is asked, and found anew if it has ended.
#[derive(Clone)]
pub struct Requester {
    asker: Asker,
    target: Target,
    way: Arc<Mutex<Option<Way>>>,
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requester({})", self.target.name)
    }
}

impl Requester {
    pub(super) fn new(asker: Asker, target: Target) -> Self {
        Self { asker, target, way: Arc::default() }
    }

    /// The node that is asked.
    pub fn target(&self) -> ControllerId {
        self.target.id
    }

    /// Asks, and returns as soon as that is on its way. `done` is called once, with the answer or with why there is none, by
    /// the thread that learns it: usually the reactor's, so it must not wait for anything (to ask from it is
    /// [`WouldDeadlock`](RequestError::WouldDeadlock)).
    ///
    /// While as much is open as may be (`limits.max_outstanding`), this waits, `timeout` at most; so does the first request
    /// while the node is dialled.
    ///
    /// # Errors
    /// The request was not sent, and `done` is not called.
    pub fn submit(
        &self,
        service: &str,
        payload: &[u8],
        timeout: Duration,
        done: impl FnOnce(Ending) + Send + 'static,
    ) -> Result<(), RequestError> {
        if context::current().is_inline {
            return Err(RequestError::WouldDeadlock);
        }
        let service = self.asker.service(service)?;
        let wanted = self.asker.wanted(&service, payload, timeout)?;
        self.ask(wanted, Box::new(done), Some(wanted.deadline))
    }

    /// The same, but waits for nothing: it needs an edge that stands and has room.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit); [`RequestError::Overloaded`] if it would have to wait.
    pub fn try_submit(
        &self,
        service: &str,
        payload: &[u8],
        timeout: Duration,
        done: impl FnOnce(Ending) + Send + 'static,
    ) -> Result<(), RequestError> {
        let service = self.asker.service(service)?;
        let wanted = self.asker.wanted(&service, payload, timeout)?;
        self.ask(wanted, Box::new(done), None)
    }

    /// Answers that are taken from a channel instead of by a call-back; at most so many requests are under way in it, or
    /// answered and not yet taken.
    pub fn pipeline(&self, window: usize) -> Pipeline {
        let window = window.max(1);
        let (sender, completions) = bounded(window);
        let open = Arc::new((Mutex::new(0), Condvar::new()));
        Pipeline { requester: self.clone(), window, sender, completions, open, next: Mutex::new(0) }
    }

    fn ask(&self, wanted: Wanted<'_>, done: Done, patience: Option<Instant>) -> Result<(), RequestError> {
        let mut waiter = self.asker.counted(done);
        if self.asker.is_me(&self.target.id) {
            self.asker.ask_myself(wanted, waiter);
            return Ok(());
        }
        let mut stale = None;
        loop {
            let way = self.way(stale, wanted.deadline, patience.is_some())?;
            match self.asker.submit(&way, wanted, waiter, patience) {
                Ok(()) => return Ok(()),
                // It ended between being found and being asked over: the next one is fresh.
                Err((RequestError::Closed { sent: false, .. }, back)) if stale.is_none() => {
                    (stale, waiter) = (Some(way.0), back);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// The edge of the last request, if it is of use; else another one. The lock is held for a look only: who must not wait
    /// finds it free, however long others wait for a dial.
    fn way(&self, stale: Option<PeerId>, deadline: Instant, may_wait: bool) -> Result<Way, RequestError> {
        let is_of_use = |(peer, requests): &&Way| Some(*peer) != stale && !requests.is_over();
        if let Some(way) = self.way.lock().as_ref().filter(is_of_use) {
            return Ok(way.clone());
        }
        let found = match may_wait {
            true => self.asker.way(&self.target, stale, deadline)?,
            false => self.asker.way_now(&self.target, stale).ok_or(RequestError::Overloaded)?,
        };
        *self.way.lock() = Some(found.clone());
        Ok(found)
    }
}

/// A request that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Which one, as [`Pipeline::submit`] numbered it.
    pub number: u64,
    /// The answer, or why there is none.
    pub ending: Ending,
}

/// Many requests under way at once, whose answers are taken from a channel, in the order in which they come.
///
/// Shared among threads, some may submit and others receive. A single thread that does both has to receive whenever
/// [`try_submit`](Self::try_submit) says that it is full.
pub struct Pipeline {
    requester: Requester,
    window: usize,
    sender: Sender<Completion>,
    completions: Receiver<Completion>,
    /// Under way, or answered and not taken.
    open: Arc<(Mutex<usize>, Condvar)>,
    next: Mutex<u64>,
}

impl Pipeline {
    /// Asks; waits for a place in the window, `timeout` at most. The number tells its completion from others.
    ///
    /// # Errors
    /// As for [`Requester::submit`]; there will be no completion.
    pub fn submit(&self, service: &str, payload: &[u8], timeout: Duration) -> Result<u64, RequestError> {
        self.take_place(Some(moment_after(timeout)))?;
        self.begin(|done| self.requester.submit(service, payload, timeout, done))
    }

    /// Asks, unless it would have to wait.
    ///
    /// # Errors
    /// As for [`Requester::try_submit`]; there will be no completion.
    pub fn try_submit(&self, service: &str, payload: &[u8], timeout: Duration) -> Result<u64, RequestError> {
        self.take_place(None)?;
        self.begin(|done| self.requester.try_submit(service, payload, timeout, done))
    }

    /// The next completion, if one comes by then.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Completion> {
        let completion = self.completions.recv_timeout(timeout).ok()?;
        self.leave_place();
        Some(completion)
    }

    /// The next completion, if one is there.
    pub fn try_recv(&self) -> Option<Completion> {
        let completion = self.completions.try_recv().ok()?;
        self.leave_place();
        Some(completion)
    }

    /// Requests that are under way, or answered and not yet taken.
    pub fn open(&self) -> usize {
        *self.open.0.lock()
    }

    fn begin(&self, ask: impl FnOnce(Done) -> Result<(), RequestError>) -> Result<u64, RequestError> {
        let number = {
            let mut next = self.next.lock();
            *next += 1;
            *next
        };
        let sender = self.sender.clone();
        // There is room: as many places as the channel has were given.
        let done = move |ending| drop(sender.try_send(Completion { number, ending }));
        match ask(Box::new(done)) {
            Ok(()) => Ok(number),
            Err(error) => {
                self.leave_place();
                Err(error)
            }
        }
    }

    fn take_place(&self, patience: Option<Instant>) -> Result<(), RequestError> {
        let mut open = self.open.0.lock();
        while *open >= self.window {
            let full = patience.is_none_or(|until| self.open.1.wait_until(&mut open, until).timed_out());
            if full && *open >= self.window {
                return Err(RequestError::Overloaded);
            }
        }
        *open += 1;
        Ok(())
    }

    fn leave_place(&self) {
        *self.open.0.lock() -= 1;
        self.open.1.notify_one();
    }
}

type Done = Box<dyn FnOnce(Ending) + Send>;
