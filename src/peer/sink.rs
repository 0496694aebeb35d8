//! The sending half of a peer: queue many, flush once.
//!
//! ```text
//!  queue(Control) ──▶ [ heartbeats, Goodbye ] ────┐ first
//!  queue(News) ─────▶ [ discovery ] ──────────────┼──▶ seal ──▶ batch (≤ 64 KiB) ──▶ one write ──▶ socket
//!  queue(Bulk) ─────▶ [ what is large ] ──────────┘ last  ▲
//!  handshake messages, in the clear ──────────────────────┘ before all
//!       any thread           bounded, nothing is dropped            whoever flushes, one at a time
//! ```
//!
//! Messages that are drained together share records of up to 16 KiB. Until the session stands, messages wait: nothing but the
//! handshake leaves unsealed. What is in the batch is on its way: it is written to its last byte before anything else, in this order. Whoever flushes
//! while another does, returns at once; the other sends its frames along, so a hundred callers share a few writes
//! and the reactor never waits for a peer's thread.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use super::queues::{Body, Class, FRAME_COST, Queues, give_back, grow};
use crate::protocol::codec::{MAX_FRAME, Message};
use crate::protocol::reason::Reason;
use crate::reactor::Connection;
use crate::secure::session::Sealing;

/// What one write carries at most: large enough that the system call's cost is shared, small enough that a heartbeat behind
/// it is not late.
const BATCH: usize = 64 * 1024;
/// Above the bulk's bound, for control only: a `Goodbye` can be queued for a peer that does not read.
const CONTROL_RESERVE: usize = 64 * 1024;
/// The most that may wait of what discovery says to one remote. Both ends keep at most four questions of 16 KiB open, and
/// as much of what they volunteer: who has twice that waiting, asks and does not read.
const MAX_NEWS: usize = 256 * 1024;
/// Above this a remote's requests are not read until it has taken what it asked for: half of it fits into one write.
const HIGH_WATER: usize = 2 * BATCH;

/// One sink's bounds.
#[derive(Clone, Copy, Debug)]
pub struct SinkLimits {
    /// The most bytes queued. Larger forgives a slower reader and costs memory; smaller closes it sooner. Beside it, one batch of
    /// some 64 KiB may be on its way, and the kernel holds as much.
    pub max_queued: usize,
    /// The most bytes of what applications send. As many as they may have open: what found a place there finds one here.
    pub max_bodies: usize,
}

/// The bytes queued in all sinks together, and those of requests that are not yet answered: so many slow readers, or many
/// callers, cost no more than one bound.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// For all sinks of a node.
    pub fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0) }
    }

    /// The bytes queued now. Above the bound by at most 64 KiB of control for each peer.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True if what applications send or ask has room for so much more. The last quarter is for what keeps the network
    /// together: however much is asked, and however slowly answers are taken, no heartbeat is refused for it.
    pub(super) fn has_room_for_load(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.max - self.max / 4
    }

    pub(super) fn take(&self, bytes: usize, reserved: bool) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| reserved || *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Sends frames on one connection; shared by all who have something to say on it.
#[derive(Debug)]
pub struct Sink {
    connection: Connection,
    limits: SinkLimits,
    budget: Arc<Budget>,
    queues: Mutex<Queues>,
    /// Held while writing, and only ever tried: see [`flush`](Self::flush).
    outlet: Mutex<Outlet>,
    /// What is queued or in the batch; changed together with the budget.
    queued: AtomicUsize,
    /// Of that, what is bulk and not yet in the batch.
    bulk: AtomicUsize,
    /// Nothing more is to be said; and our direction has been ended.
    is_ending: AtomicBool,
    is_finished: AtomicBool,
}

impl Sink {
    /// For one connection. What is queued before it is connected, waits.
    pub fn new(connection: Connection, limits: SinkLimits, budget: Arc<Budget>) -> Self {
        Self {
            connection,
            limits,
            budget,
            queues: Mutex::default(),
            outlet: Mutex::default(),
            queued: AtomicUsize::new(0),
            bulk: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
        }
    }

    /// Accepts a frame (its length included) for the next flush.
    ///
    /// # Errors
    /// [`Reason::SlowReader`] above this sink's bound, [`Reason::Overloaded`] above that of all peers, [`Reason::Internal`]
    /// for one that no record can hold (the remote would refuse it, and rightly), or the reason why the sink is broken. The
    /// frame is not queued then, and nothing else is lost.
    pub fn queue(&self, class: Class, frame: Vec<u8>) -> Result<(), Reason> {
        if frame.len() > MAX_FRAME {
            return Err(Reason::Internal);
        }
        let cost = frame.len() + FRAME_COST;
        let mut queues = self.queues.lock();
        if let Some(reason) = queues.broken {
            return Err(reason);
        }
        let bound = match class {
            Class::Control => self.limits.max_queued.saturating_add(CONTROL_RESERVE),
            Class::News | Class::Bulk => self.limits.max_queued,
        };
        // What applications send has a bound of its own, and takes no room from what keeps the network together.
        let waiting = if class == Class::Bulk { queues.cost(class) } else { self.urgent() };
        // Only this place and the sealing add, under a lock; a flush that subtracts meanwhile makes the sum smaller.
        let crowded = class == Class::News && queues.cost(class) + cost > MAX_NEWS;
        if crowded || waiting.saturating_add(cost) > bound {
            return Err(Reason::SlowReader);
        }
        let reserved = class == Class::Control && queues.cost(class) + cost <= CONTROL_RESERVE;
        if !self.budget.take(cost, reserved) {
            return Err(Reason::Overloaded);
        }
        self.add(cost, class == Class::Bulk);
        queues.push(class, &frame);
        Ok(())
    }

    /// Accepts what an application sends: its first message, with as much of the payload as that holds, and what does not fit
    /// into it. If the connection ends before the first message has left, [`unsent`](Self::unsent) names it.
    ///
    /// # Errors
    /// As [`queue`](Self::queue); the bound is that of applications.
    pub fn queue_load(&self, id: u64, first: &impl Message, payload: &[u8], body: Option<Body>) -> Result<(), Reason> {
        let mut queues = self.queues.lock();
        if let Some(reason) = queues.broken {
            return Err(reason);
        }
        let waiting = queues.cost(Class::Bulk);
        let length = queues.write_first(first, payload);
        let cost = length + FRAME_COST + body.as_ref().map_or(0, Body::cost);
        let refused = match () {
            () if length > MAX_FRAME => Some(Reason::Internal),
            // One of any size may wait: else a bound that is smaller than a payload would let none through.
            () if waiting > 0 && waiting.saturating_add(cost) > self.limits.max_bodies => Some(Reason::SlowReader),
            // Between the look and the taking others may have taken too: by so much the bound is exceeded, and no more.
            () if !self.budget.has_room_for_load(cost) || !self.budget.take(cost, false) => Some(Reason::Overloaded),
            () => None,
        };
        if let Some(reason) = refused {
            queues.unwrite(length);
            return Err(reason);
        }
        self.add(cost, true);
        queues.push_load(id, length, body);
        Ok(())
    }

    /// Which loads have not left this node, now that the connection is over.
    pub fn unsent(&self) -> Vec<u64> {
        self.queues.lock().unsent()
    }

    /// Accepts a handshake message (its length included): it leaves as it is, before everything else.
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub fn queue_in_the_clear(&self, message: Vec<u8>) -> Result<(), Reason> {
        let mut queues = self.queues.lock();
        if let Some(reason) = queues.broken {
            return Err(reason);
        }
        let cost = message.len() + FRAME_COST;
        if !self.budget.take(cost, true) {
            return Err(Reason::Overloaded);
        }
        self.queued.fetch_add(cost, Ordering::SeqCst);
        queues.handshake.push(message);
        Ok(())
    }

    /// The handshake is over: from now on messages are sealed, and leave.
    pub fn secure(&self, sealing: Sealing) {
        let mut queues = self.queues.lock();
        (queues.sealing, queues.is_secured) = (Some(sealing), true);
    }

    /// Writes all that is queued, in as few writes as possible, until the socket is full; then the receiver's `writable`
    /// (or `connected`) has to call this again. If another thread is flushing, it does this one's work too.
    ///
    /// # Errors
    /// The connection is broken: [`Reason::Reset`]. What was queued is given up; the receiver's `closed` says more.
    pub fn flush(&self) -> Result<(), Reason> {
        loop {
            // Who finds the lock taken leaves his frames, his wish to end, or his news that the socket is writable, to its
            // holder; who gives the lock back looks for all of them once more. The fences put each one's word before his
            // look.
            fence(Ordering::SeqCst);
            let Some(mut outlet) = self.outlet.try_lock() else { return Ok(()) };
            let drained = self.drain(&mut outlet);
            let is_ending = self.is_ending.load(Ordering::SeqCst);
            if is_ending && !self.is_finished.swap(true, Ordering::SeqCst) {
                self.connection.finish();
            }
            drop(outlet);
            fence(Ordering::SeqCst);
            if !is_ending && self.is_ending.load(Ordering::SeqCst) {
                continue;
            }
            drained?;
            if self.is_empty() || !self.connection.may_write() || self.queues.lock().must_wait() {
                return Ok(());
            }
        }
    }

    /// Has the reactor do that, in a moment: for those who are many, and need not wait until it is written. A reactor that may
    /// not hear of it soon is not waited for.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_soon(&self) -> Result<(), Reason> {
        if self.connection.send_soon() { Ok(()) } else { self.flush() }
    }

    /// Writes what is queued, as far as the socket takes it, then closes politely ([`Connection::finish`]). If another thread
    /// is flushing, it does both: to end the connection under its hands would lose the last word, a `Goodbye` as a rule.
    pub fn finish(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        // A broken sink has nothing more to say.
        let _ = self.flush();
    }

    /// The bytes accepted and not yet taken by the kernel, with what their queueing costs.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// True while so much waits that the remote should take it before it asks for more. Who stops reading for this is
    /// resumed ([`Connection::resume`]) when it is over.
    pub fn is_high(&self) -> bool {
        self.urgent() > HIGH_WATER || self.bulk.load(Ordering::SeqCst) > self.limits.max_bodies / 2
    }

    /// True when the kernel has taken everything.
    pub fn is_empty(&self) -> bool {
        self.queued_bytes() == 0
    }

    /// The connection it writes to.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn drain(&self, outlet: &mut Outlet) -> Result<(), Reason> {
        while self.connection.may_write() {
            if outlet.is_written() {
                if !self.is_empty() {
                    self.gather(outlet);
                }
                if outlet.is_written() {
                    // As what waits: not kept.
                    give_back(std::mem::take(&mut outlet.batch));
                    outlet.written = 0;
                    break;
                }
            }
            match self.connection.write(&outlet.batch[outlet.written..]) {
                Ok(written @ 1..) => {
                    outlet.written += written;
                    self.release(written);
                    if !self.is_high() {
                        self.connection.resume();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => return Err(self.give_up(outlet, Reason::Reset)),
            }
        }
        Ok(())
    }

    /// Fills the batch: control before news before bulk, sealed. From here on the order is fixed.
    fn gather(&self, outlet: &mut Outlet) {
        outlet.batch.clear();
        outlet.written = 0;
        let mut queues = self.queues.lock();
        let (mut frames, mut taken, mut bulk) = (0, 0, 0);
        for message in std::mem::take(&mut queues.handshake) {
            grow(&mut outlet.batch, message.len());
            outlet.batch.extend_from_slice(&message);
            (frames, taken) = (frames + 1, taken + message.len() + FRAME_COST);
        }
        if outlet.sealing.is_none() {
            outlet.sealing = queues.sealing.take();
        }
        let Outlet { batch, sealing, .. } = outlet;
        if let Some(sealing) = sealing {
            // Most often it is what waits, as it lies there: it has no room of its own until it is made of several.
            let mut record = Vec::new();
            while batch.len() < BATCH {
                record.clear();
                while let Some(popped) = queues.pop(MAX_FRAME.saturating_sub(record.len()), &mut record) {
                    taken += popped.cost;
                    bulk += if popped.is_bulk { popped.cost } else { 0 };
                }
                if record.is_empty() {
                    break;
                }
                grow(batch, record.len() + Sealing::overhead());
                sealing.seal(&record, batch);
                frames += 1;
            }
            give_back(record);
        }
        drop(queues);
        if frames == 0 {
            return;
        }
        // What was queued has become the batch, longer by what sealing adds and shorter by what queueing costs.
        let length = outlet.batch.len();
        match length.checked_sub(taken) {
            Some(more) => {
                self.budget.take(more, true);
                self.queued.fetch_add(more, Ordering::SeqCst);
            }
            None => self.release(taken - length),
        }
        self.bulk.fetch_sub(bulk, Ordering::SeqCst);
        self.connection.count_frames_out(frames);
    }

    fn give_up(&self, outlet: &mut Outlet, reason: Reason) -> Reason {
        let mut queues = self.queues.lock();
        queues.give_up(reason);
        *outlet = Outlet::default();
        self.bulk.store(0, Ordering::SeqCst);
        self.release(self.queued_bytes());
        reason
    }

    /// What waits beside the bulk.
    fn urgent(&self) -> usize {
        self.queued_bytes().saturating_sub(self.bulk.load(Ordering::SeqCst))
    }

    /// The caller holds the lock and the budget.
    fn add(&self, cost: usize, is_bulk: bool) {
        self.queued.fetch_add(cost, Ordering::SeqCst);
        if is_bulk {
            self.bulk.fetch_add(cost, Ordering::SeqCst);
        }
    }

    fn release(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::SeqCst);
        self.budget.give_back(bytes);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.release(self.queued_bytes());
    }
}

/// What is on its way.
#[derive(Debug, Default)]
struct Outlet {
    batch: Vec<u8>,
    written: usize,
    /// Here, so that sealing and appending are one step.
    sealing: Option<Sealing>,
}

impl Outlet {
    fn is_written(&self) -> bool {
        self.written == self.batch.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_counts_what_is_reserved_but_does_not_refuse_it() {
        let budget = Budget::new(10);
        assert!(budget.take(10, false) && !budget.take(1, false) && budget.take(1, true));
        assert!(!budget.take(usize::MAX, true));
        budget.give_back(11);
        assert_eq!(budget.used(), 0);
    }
}
