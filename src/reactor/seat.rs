//! Who sits at the poll: the reactor's thread, or for a moment a caller that waits for an answer and is alone. Or a worker:
//! what it waits for is the next request, and that it has just answered the last is as good a reason to expect one.
//!
//! ```text
//!   caller                                   reactor
//!   16 answers in a row, alone in this node  sits: polls, reads, hands over
//!   asks for the seat ─────── wakes ───────▶ leaves it, looks once in a millisecond
//!   sits: polls, reads its own answer          │
//!   asks again, sits again ...                 │
//!   something else has come, others wait: ───▶ sits again
//!   or nobody sat for a millisecond ─────────▶
//! ```
//!
//! An answer that is read by whoever waits for it takes one switch of threads less, which is a good part of a round trip
//! ("leader and followers": Schmidt and others, *Pattern-Oriented Software Architecture* 2, 2000). What comes while nobody
//! sits waits for a few milliseconds at most, and then not again: the first sign that there is more to do than to answer
//! this one caller brings the reactor back.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::poll_loop::{PollLoop, Shared};
use super::steady::{Hope, PATIENCE};

/// For so long nobody may sit. Longer makes what comes in between wait; shorter wakes the reactor more often while a caller
/// asks one thing after the other.
const GRACE: Duration = Duration::from_millis(1);
/// Answers in a row that callers have waited for alone before one is believed to go on like that. More gives the gain away
/// to short runs, fewer moves the seat to and fro for callers that only happen to be alone.
const SURE: u32 = 16;
/// How long a caller sits for one answer, or until a read ends that waits in vain. What takes longer gains nothing by a switch
/// less; and the thread is the application's, which may have it wait behind others, and with it all that the node should hear.
const SITTING: Duration = Duration::from_millis(2);

thread_local! {
    /// In whose place this thread sits: an address, or 0.
    static SITS: Cell<usize> = const { Cell::new(0) };
}

/// The place at the poll.
#[derive(Debug)]
pub(super) struct Seat {
    /// Whoever holds this sits. `None` once it is over.
    poll_loop: Mutex<Option<PollLoop>>,
    /// What all know who have something for the loop to do, the lease among it.
    pub(super) shared: Arc<Shared>,
}

/// Whether callers have the seat, and whether they may.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The reactor's thread stays away, or is asked to.
    is_lent: AtomicBool,
    /// How often a caller has sat down.
    sittings: AtomicU64,
    /// Callers that wait for an answer now.
    waiting: AtomicUsize,
    /// Waits in a row in which nobody else waited, and nothing else was to be done.
    alone: AtomicU32,
    /// The reactor is to come back at once.
    is_called: Mutex<bool>,
    called: Condvar,
}

impl Lease {
    /// There is something to do that is no caller's answer: if the reactor is away it comes back, and no caller is believed
    /// for a while.
    pub(super) fn call_back(&self) {
        if self.is_lent.load(Ordering::SeqCst) {
            self.alone.store(0, Ordering::Relaxed);
            *self.is_called.lock() = true;
            self.called.notify_one();
        }
    }

    /// True if the caller that asks may sit: it is the only one, and was so often.
    fn is_due(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 1
            && self.alone.fetch_add(1, Ordering::Relaxed) >= SURE
            && SITS.get() == 0
    }
}

impl Seat {
    pub(super) fn new(poll_loop: PollLoop, shared: Arc<Shared>) -> Self {
        Self { poll_loop: Mutex::new(Some(poll_loop)), shared }
    }

    /// The reactor's thread, until it is told to stop; false if it could not go on.
    pub(super) fn keep(&self) -> bool {
        loop {
            let mut place = self.poll_loop.lock();
            let Some(poll_loop) = place.as_mut() else { return false };
            while !poll_loop.is_over() && !self.lease().is_lent.load(Ordering::SeqCst) {
                poll_loop.turn(None, Some(Hope::Anything), Instant::now);
            }
            if poll_loop.is_over() {
                return place.take().is_some_and(PollLoop::end);
            }
            drop(place);
            self.stay_away();
        }
    }

    /// True on a caller's thread while it sits here.
    pub(super) fn is_taken_by_me(&self) -> bool {
        SITS.get() == self.address()
    }

    /// Lets go of what a reactor that has panicked leaves behind: nobody sits any more.
    pub(super) fn clear(&self) {
        let left = self.poll_loop.lock().take();
        drop(left);
    }

    /// One more caller waits, until what this returns is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        if self.lease().waiting.fetch_add(1, Ordering::SeqCst) > 0 {
            self.lease().alone.store(0, Ordering::Relaxed);
        }
        Waiting(self)
    }

    fn lease(&self) -> &Lease {
        &self.shared.lease
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Until nobody has sat here for a while, or the reactor is called.
    fn stay_away(&self) {
        let lease = self.lease();
        let mut before = lease.sittings.load(Ordering::SeqCst);
        let mut is_called = lease.is_called.lock();
        while !*is_called {
            if !lease.called.wait_for(&mut is_called, GRACE).timed_out() {
                continue;
            }
            let sittings = lease.sittings.load(Ordering::SeqCst);
            if sittings == before && !self.poll_loop.is_locked() {
                break;
            }
            before = sittings;
        }
        *is_called = false;
        lease.is_lent.store(false, Ordering::SeqCst);
    }
}

/// Somebody who waits for an answer, or for the next request.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Seat);

impl Waiting<'_> {
    /// Sits in the reactor's place until it is done, if this caller may: only then it is asked what it is there for, which
    /// is nothing if it has to leave that to others. Returns at the deadline at the latest, and earlier when it takes long or
    /// there is more to do: then the reactor does the rest.
    pub(super) fn sit(
        &self,
        hope: impl FnOnce() -> Option<Hope>,
        deadline: Option<Instant>,
        is_done: impl Fn() -> bool,
    ) {
        let Self(seat) = self;
        let lease = seat.lease();
        let hope = if lease.is_due() { hope() } else { None };
        let Some((hope, mut place)) = hope.and_then(|hope| Some((hope, self.take()?))) else {
            // If the reactor is away, nobody is about to read this caller's answer.
            return lease.call_back();
        };
        // Over: the reactor's thread has taken it along.
        let Some(poll_loop) = place.as_mut() else { return };
        SITS.set(seat.address());
        let turns = catch_unwind(AssertUnwindSafe(|| turns(poll_loop, hope, deadline, is_done)));
        SITS.set(0);
        let is_busy = turns.unwrap_or_else(|_| {
            // As if it had happened to the reactor: half a node would be worse than none.
            log::error!("the reactor's work has panicked on a caller's thread");
            poll_loop.give_up();
            true
        });
        drop(place);
        if is_busy || lease.waiting.load(Ordering::SeqCst) > 1 {
            lease.call_back();
        }
    }

    /// The place, if nobody has it, or the reactor leaves it for this caller.
    fn take(&self) -> Option<MutexGuard<'_, Option<PollLoop>>> {
        let Self(seat) = self;
        let place = if seat.lease().is_lent.swap(true, Ordering::SeqCst) {
            seat.poll_loop.try_lock()
        } else {
            seat.shared.wake();
            seat.poll_loop.try_lock_for(GRACE)
        };
        place.inspect(|_| _ = seat.lease().sittings.fetch_add(1, Ordering::SeqCst))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lease().waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Turns until it is done; true if the reactor is to come back, as there is more to do than was expected, or it is late.
fn turns(poll_loop: &mut PollLoop, hope: Hope, deadline: Option<Instant>, is_done: impl Fn() -> bool) -> bool {
    let mut now = Instant::now();
    let until = deadline.map_or(now + SITTING, |deadline| deadline.min(now + SITTING));
    // Who has less time than a turn without a poll may take, does with it what a poll can.
    let known = Some(hope).filter(|_| deadline.is_none_or(|deadline| deadline > now + PATIENCE));
    while !is_done() && !poll_loop.is_over() {
        if now >= until || !hope.fits(poll_loop.turn(Some(until - now), known, || now)) {
            return true;
        }
        if is_done() {
            break;
        }
        now = Instant::now();
    }
    poll_loop.is_over() || poll_loop.has_more()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_something_to_do_calls_the_reactor_only_if_it_is_away() {
        let lease = Lease { alone: AtomicU32::new(SURE), ..Lease::default() };
        lease.call_back();
        assert!(!*lease.is_called.lock() && lease.alone.load(Ordering::SeqCst) == SURE);
        lease.is_lent.store(true, Ordering::SeqCst);
        lease.call_back();
        assert!(*lease.is_called.lock() && lease.alone.load(Ordering::SeqCst) == 0);
    }

    #[test]
    fn only_the_one_that_has_waited_alone_for_long_may_sit() {
        let lease = Lease::default();
        lease.waiting.store(1, Ordering::SeqCst);
        assert_eq!((0..SURE).filter(|_| lease.is_due()).count(), 0);
        assert!(lease.is_due());
        lease.waiting.store(2, Ordering::SeqCst);
        assert!(!lease.is_due());
    }
}
