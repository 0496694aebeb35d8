//! Who waits for an answer, and how they are told.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

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

/// Somebody who sleeps until something is there for him.
pub trait Sleeper: Send + Sync {
    /// It is.
    fn wake(&self);
}

thread_local! {
    /// Whom this thread has something for, while it goes through what was read.
    static SLEEPERS: RefCell<Option<Vec<Arc<dyn Sleeper>>>> = const { RefCell::new(None) };
}

/// From now on until [`wake_all`] this thread wakes nobody: whoever is woken at the first of a hundred answers interrupts this
/// thread, takes that one, sleeps, and is woken for the next.
pub(super) fn wake_later() {
    SLEEPERS.with_borrow_mut(|sleepers| _ = sleepers.get_or_insert_default());
}

/// Wakes all for whom there is something.
pub(super) fn wake_all() {
    // Taken out first: who is woken is none of the cell's business.
    let sleepers = SLEEPERS.with_borrow_mut(Option::take);
    sleepers.into_iter().flatten().for_each(|sleeper| sleeper.wake());
}

/// Wakes somebody, or has him woken with all others.
pub fn wake(sleeper: Arc<dyn Sleeper>) {
    let at_once = SLEEPERS.with_borrow_mut(|sleepers| match sleepers {
        Some(sleepers) => {
            // Many answers for the same one, as a rule.
            if !sleepers.last().is_some_and(|last| Arc::ptr_eq(last, &sleeper)) {
                sleepers.push(sleeper);
            }
            None
        }
        None => Some(sleeper),
    });
    at_once.inspect(|sleeper| sleeper.wake());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Sleeper for Counting {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_has_many_answers_of_one_read_is_woken_once_at_its_end() {
        let (one, other) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let woken = || (one.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed));
        wake(one.clone());
        assert_eq!(woken(), (1, 0));
        wake_later();
        for _ in 0..3 {
            wake(one.clone());
            wake_later();
        }
        wake(other.clone());
        assert_eq!(woken(), (1, 0));
        wake_all();
        assert_eq!(woken(), (2, 1));
        wake(other.clone());
        assert_eq!(woken(), (2, 2), "the read is over");
    }
}
