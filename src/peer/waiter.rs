//! Who waits for an answer, and how they are told.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::message::{Failure, Outcome};
use crate::services::context;

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
}

impl Waiter {
    /// Tells how it ended.
    pub fn tell(self, ending: Ending) {
        match self {
            Self::Mailbox(mailbox) => mailbox.put(ending),
            Self::CallBack(call_back) => context::inline(|| call_back(ending)),
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

    fn put(&self, ending: Ending) {
        *self.ending.lock() = Some(ending);
        self.is_there.notify_one();
    }
}
