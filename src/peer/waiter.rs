//! Who waits for an answer, and how they are told.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::reading::{Sleeper, wake};
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::message::{Failure, Outcome};
use crate::services::{Counts, context};

/// How a request ended.
pub type Ending = Result<Vec<u8>, RequestError>;

/// How a request ended that was answered so.
pub fn ending(outcome: Outcome, payload: Vec<u8>) -> Ending {
    match outcome {
        Outcome::Done => Ok(payload),
        Outcome::Refused(refusal) => Err(RequestError::Refused(refusal)),
        // The two ends' clocks run out at about the same moment: whichever says so first, the cause is the same.
        Outcome::Failed(Failure::TimedOut) => Err(RequestError::TimedOut { sent: true }),
        Outcome::Failed(failure) => Err(RequestError::Failed(failure, payload)),
    }
}

/// Whoever waits for an answer.
pub enum Waiter {
    /// A thread that blocks.
    Mailbox(Arc<Mailbox>),
    /// Called once, by whichever thread has the answer, and must not wait for anything.
    CallBack(Box<dyn FnOnce(Ending) + Send>),
    /// Somebody who has asked many things, and this one under this number.
    Collector(u64, Arc<dyn Collector>),
}

/// Takes many answers, from any thread, and waits for nothing.
pub trait Collector: Send + Sync {
    /// The request of this number has ended so.
    fn collect(self: Arc<Self>, number: u64, ending: Ending);
}

impl Waiter {
    /// True if it has to be told in time; a thread looks after that itself.
    pub fn has_to_be_told(&self) -> bool {
        !matches!(self, Self::Mailbox(_))
    }

    /// Tells how it ended. Whoever is called back is counted here; who waits counts himself, whatever he tries.
    pub fn tell(self, counts: &Counts, ending: Ending) {
        match self {
            Self::Mailbox(mailbox) => mailbox.put(ending),
            Self::CallBack(call_back) => {
                counts.note_own(ending.is_ok());
                context::inline(|| call_back(ending));
            }
            Self::Collector(number, collector) => {
                counts.note_own(ending.is_ok());
                collector.collect(number, ending);
            }
        }
    }
}

/// A place for one answer: cheaper than a channel for a thread that waits for just one.
#[derive(Debug, Default)]
pub struct Mailbox {
    ending: Mutex<Option<Ending>>,
    is_there: Condvar,
}

impl Mailbox {
    /// True if something is there.
    pub fn is_full(&self) -> bool {
        self.ending.lock().is_some()
    }

    /// Waits for what is put in, until then.
    pub fn wait(&self, deadline: Instant) -> Option<Ending> {
        let mut ending = self.ending.lock();
        while ending.is_none() {
            if self.is_there.wait_until(&mut ending, deadline).timed_out() {
                break;
            }
        }
        ending.take()
    }

    fn put(self: Arc<Self>, ending: Ending) {
        *self.ending.lock() = Some(ending);
        wake(self);
    }
}

impl Sleeper for Mailbox {
    fn wake(&self) {
        self.is_there.notify_one();
    }
}
