//! Many requests to one node, without a thread for each.
//!
//! ```text
//!   Requester ── submit ──▶ window of the edge ──▶ …  ──▶ call-back, on the thread that takes the answer off the wire
//!   Pipeline  ── submit ──▶ its own window ──────▶ …  ──▶ its hall ──▶ recv
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::asking::{Asker, Target, moment_after};
use super::lines::Way;
use crate::peer::reading::{Sleeper, wake};
use crate::peer::waiter::{Collector, Ending, Waiter};
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
        self.ask(service, payload, timeout, Waiter::CallBack(Box::new(done)), true)
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
        self.ask(service, payload, timeout, Waiter::CallBack(Box::new(done)), false)
    }

    /// Answers that are waited for instead of a call-back; at most so many requests are under way in it, or
    /// answered and not yet taken.
    pub fn pipeline(&self, window: usize) -> Pipeline {
        Pipeline { requester: self.clone(), window: window.max(1), hall: Arc::default() }
    }

    /// See [`submit`](Self::submit), and [`try_submit`](Self::try_submit) for who may not wait.
    pub(super) fn ask(
        &self,
        service: &str,
        payload: &[u8],
        timeout: Duration,
        mut waiter: Waiter,
        may_wait: bool,
    ) -> Result<(), RequestError> {
        if may_wait && context::current().is_inline {
            return Err(RequestError::WouldDeadlock);
        }
        let service = self.asker.service(service)?;
        let wanted = self.asker.wanted(&service, payload, timeout)?;
        let patience = may_wait.then_some(wanted.deadline);
        if self.asker.is_me(&self.target.id) {
            self.asker.ask_myself(wanted, waiter);
            return Ok(());
        }
        let mut stale = None;
        loop {
            let way = self.way(stale, wanted.deadline, may_wait)?;
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
        // One that has ended says so when it is asked over.
        if let Some(way) = self.way.lock().as_ref().filter(|(peer, _)| Some(*peer) != stale) {
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

/// Many requests under way at once, whose answers are taken one by one, in the order in which they come.
///
/// Shared among threads, some may submit and others receive. A single thread that does both has to receive whenever
/// [`try_submit`](Self::try_submit) says that it is full.
pub struct Pipeline {
    requester: Requester,
    window: usize,
    hall: Arc<Hall>,
}

/// Where completions wait.
#[derive(Default)]
struct Hall {
    places: Mutex<Places>,
    /// A completion has come; a place is free.
    has_come: Condvar,
    is_free: Condvar,
}

#[derive(Default)]
struct Places {
    /// Under way, or answered and not taken.
    taken: usize,
    last: u64,
    completions: VecDeque<Completion>,
}

impl Pipeline {
    /// Asks; waits for a place in the window, `timeout` at most. The number tells its completion from others.
    ///
    /// # Errors
    /// As for [`Requester::submit`]; there will be no completion.
    pub fn submit(&self, service: &str, payload: &[u8], timeout: Duration) -> Result<u64, RequestError> {
        let number = self.take_place(Some(timeout))?;
        self.placed(number, self.requester.ask(service, payload, timeout, self.waiter(number), true))
    }

    /// Asks, unless it would have to wait.
    ///
    /// # Errors
    /// As for [`Requester::try_submit`]; there will be no completion.
    pub fn try_submit(&self, service: &str, payload: &[u8], timeout: Duration) -> Result<u64, RequestError> {
        let number = self.take_place(None)?;
        self.placed(number, self.requester.ask(service, payload, timeout, self.waiter(number), false))
    }

    /// The next completion, if one comes by then.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Completion> {
        let mut places = self.hall.places.lock();
        if places.completions.is_empty() {
            let until = moment_after(timeout);
            while places.completions.is_empty() && !self.hall.has_come.wait_until(&mut places, until).timed_out() {}
        }
        self.take(&mut places)
    }

    /// The next completion, if one is there.
    pub fn try_recv(&self) -> Option<Completion> {
        self.take(&mut self.hall.places.lock())
    }

    /// Requests that are under way, or answered and not yet taken.
    pub fn open(&self) -> usize {
        self.hall.places.lock().taken
    }

    fn take(&self, places: &mut Places) -> Option<Completion> {
        let completion = places.completions.pop_front()?;
        places.taken -= 1;
        self.hall.is_free.notify_one();
        if !places.completions.is_empty() {
            // Whoever else waits for one: all were announced at once.
            self.hall.has_come.notify_one();
        }
        Some(completion)
    }

    fn take_place(&self, patience: Option<Duration>) -> Result<u64, RequestError> {
        let mut places = self.hall.places.lock();
        if places.taken >= self.window {
            let until = moment_after(patience.ok_or(RequestError::Overloaded)?);
            while places.taken >= self.window {
                if self.hall.is_free.wait_until(&mut places, until).timed_out() && places.taken >= self.window {
                    return Err(RequestError::Overloaded);
                }
            }
        }
        places.taken += 1;
        places.last += 1;
        Ok(places.last)
    }

    fn waiter(&self, number: u64) -> Waiter {
        Waiter::Collector(number, Arc::<Hall>::clone(&self.hall))
    }

    fn placed(&self, number: u64, submitted: Result<(), RequestError>) -> Result<u64, RequestError> {
        match submitted {
            Ok(()) => Ok(number),
            Err(error) => {
                self.hall.places.lock().taken -= 1;
                self.hall.is_free.notify_one();
                Err(error)
            }
        }
    }
}

impl Collector for Hall {
    fn collect(self: Arc<Self>, number: u64, ending: Ending) {
        self.places.lock().completions.push_back(Completion { number, ending });
        wake(self);
    }
}

impl Sleeper for Hall {
    fn wake(&self) {
        self.has_come.notify_one();
    }
}
