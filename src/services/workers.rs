//! The workers: a few threads for handlers that may block.
//!
//! ```text
//!   offer ──▶ Line (bounded, callers take turns) ──▶ work-0 … work-7 ──▶ reply
//!                │ full: of whoever waits with most the newest, or this one
//!                └──▶ refused: overloaded
//! ```
//!
//! Threads are started when there is work for them, and end when there was none for a while. Who has done a short call waits
//! for the next one where it comes in, for a moment: a switch of threads takes longer than such a call. A handler that panics
//! costs its own call; one that never returns costs its thread. At the end the threads that are still at work are left behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::context::{self, Context};
use super::{Handler, Reply, Request};
use crate::protocol::identity::ControllerId;
use crate::protocol::requests::line::Line;
use crate::protocol::requests::message::{Failure, Outcome, Refusal};
use crate::scheduling::interrupt_nobody;

/// A worker's stack: what runs on it is other people's code, which expects what threads usually have. Untouched, it costs
/// nothing.
const STACK: usize = 2 * 1024 * 1024;
/// A thread that had nothing to do for so long ends. Shorter starts threads more often; longer keeps their stacks.
const IDLE: Duration = Duration::from_secs(10);

/// At the end what has no more reason to wait, such as for a program that was killed, has so long to find out.
const LAST: Duration = Duration::from_millis(200);

/// A call that took no longer was short: whoever was asked may be asked the next thing at once.
const SHORT: Duration = Duration::from_micros(100);

/// Where a worker that has nothing to do may wait: the place at which calls come in. It is given what says that there is work,
/// and returns as soon as there is, or after a moment (milliseconds): while one waits there, what is offered elsewhere is not
/// seen by it, and is left to another worker if there may be one more.
pub type Lookout = Box<dyn Fn(&dyn Fn() -> bool) + Send + Sync>;

/// One call for a handler.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) depth: u8,
    pub(super) handler: Handler,
    pub(super) reply: Reply,
}

/// The threads and their line.
pub(super) struct Workers(Arc<Hall>);

struct Hall {
    limit: usize,
    state: Mutex<State>,
    /// There is work, or the end has come.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    lookout: OnceLock<Lookout>,
}

struct State {
    line: Line<ControllerId, Job>,
    /// Threads that wait for work.
    idle: usize,
    /// One was woken or started, and has not come yet. Whoever takes a call summons the next if there are more: so a burst of
    /// short calls is done by the few threads that it takes, and one of long calls soon has them all.
    is_summoned: bool,
    /// Who waits at the lookout. What comes in there is brought by this thread, and so needs no other to be woken.
    looks_out: Option<ThreadId>,
    threads: BTreeMap<usize, JoinHandle<()>>,
    /// Threads that have come to their end, and are to be joined.
    over: Vec<usize>,
    is_over: bool,
}

impl Workers {
    /// At most so many threads, and calls that wait for one.
    pub(super) fn new(limit: usize, waiting: usize) -> Self {
        let line = Line::new(limit.saturating_add(waiting));
        let state = State {
            line,
            idle: 0,
            is_summoned: false,
            looks_out: None,
            threads: BTreeMap::new(),
            over: Vec::new(),
            is_over: false,
        };
        let (work, ended, lookout) = (Condvar::new(), Condvar::new(), OnceLock::new());
        Self(Arc::new(Hall { limit, state: Mutex::new(state), work, ended, lookout }))
    }

    /// Where a worker may wait: it is called there with how to see that there is work, and returns soon. Said once.
    pub(super) fn look_out(&self, lookout: Lookout) {
        let _ = self.0.lookout.set(lookout);
    }

    /// Takes a call in, or answers it: there is no place, or no thread to be had.
    pub(super) fn offer(&self, job: Job) {
        let mut state = self.0.state.lock();
        if state.is_over {
            drop(state);
            return job.reply.answer(Outcome::Refused(Refusal::Leaving), Vec::new());
        }
        let caller = job.request.caller.id;
        let refused = match state.line.offer(caller, job) {
            Ok(evicted) => evicted,
            Err(job) => Some(job),
        };
        self.0.summon(&mut state);
        drop(state);
        if let Some(job) = refused {
            job.reply.answer(Outcome::Refused(Refusal::Overloaded), Vec::new());
        }
    }

    /// Nothing more is begun, and threads end that have nothing to do; waits for what is at work, until then.
    pub(super) fn finish(&self, deadline: Instant) {
        let mut state = self.0.state.lock();
        state.is_over = true;
        let waiting = state.line.clear();
        self.0.work.notify_all();
        drop(state);
        for job in waiting {
            job.reply.answer(Outcome::Refused(Refusal::Leaving), Vec::new());
        }
        let mut state = self.0.state.lock();
        while state.over.len() < state.threads.len() && !self.0.ended.wait_until(&mut state, deadline).timed_out() {}
    }

    /// The end: joins all threads but those that are stuck.
    pub(super) fn end(&self) {
        self.finish(Instant::now() + LAST);
        let mut state = self.0.state.lock();
        let ended = state.take_ended();
        let stuck = state.threads.len();
        drop(state);
        ended.into_iter().for_each(join);
        if stuck > 0 {
            log::warn!("{stuck} handlers are still at work: they are left to themselves");
        }
    }
}

impl Hall {
    /// Has one more thread come for what waits, unless one is on its way.
    fn summon(self: &Arc<Self>, state: &mut State) {
        if state.is_summoned || state.line.waiting() == 0 {
            return;
        }
        if state.looks_out.is_some_and(|thread| thread == thread::current().id()) {
            return;
        }
        if state.idle > 0 {
            state.is_summoned = true;
            self.work.notify_one();
        } else if state.threads.len() - state.over.len() < self.limit {
            self.start_thread(state);
        }
    }

    /// A call without a thread waits for the next one; if there is none at all, it is answered.
    fn start_thread(self: &Arc<Self>, state: &mut State) {
        state.take_ended().into_iter().for_each(join);
        // There are fewer than `limit`: one of so many numbers is free.
        let number = (0..self.limit).find(|number| !state.threads.contains_key(number)).unwrap_or(self.limit);
        let hall = Arc::clone(self);
        let named = thread::Builder::new().name(format!("work-{number}")).stack_size(STACK);
        match named.spawn(move || hall.run(number)) {
            Ok(thread) => {
                state.threads.insert(number, thread);
                state.is_summoned = true;
            }
            Err(error) => {
                log::error!("no thread for a handler ({error}): raise the limit of threads, or lower limits.workers");
                if state.threads.len() == state.over.len() {
                    // Dropped, they answer for themselves.
                    drop(state.line.clear());
                }
            }
        }
    }

    fn run(self: &Arc<Self>, number: usize) {
        interrupt_nobody();
        let mut state = self.state.lock();
        state.is_summoned = false;
        let mut was_short = false;
        loop {
            if let Some((place, job)) = state.line.take() {
                self.summon(&mut state);
                drop(state);
                was_short = work(job) < SHORT;
                state = self.state.lock();
                state.line.done(place);
                continue;
            }
            if state.is_over {
                break;
            }
            if let Some(lookout) = self.lookout.get().filter(|_| was_short && state.looks_out.is_none()) {
                was_short = false;
                state.looks_out = Some(thread::current().id());
                drop(state);
                lookout(&|| self.state.lock().line.waiting() > 0);
                state = self.state.lock();
                state.looks_out = None;
                continue;
            }
            state.idle += 1;
            let waited = self.work.wait_for(&mut state, IDLE);
            state.idle -= 1;
            // Perhaps another one was: it is summoned again if it is needed.
            state.is_summoned = false;
            if waited.timed_out() && state.line.waiting() == 0 {
                break;
            }
        }
        state.line.rest();
        state.over.push(number);
        self.ended.notify_all();
    }
}

impl State {
    fn take_ended(&mut self) -> Vec<JoinHandle<()>> {
        let over = std::mem::take(&mut self.over);
        over.iter().filter_map(|number| self.threads.remove(number)).collect()
    }
}

/// A thread that has said that it is over: this is short.
fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a worker has failed");
    }
}

/// Does a call, and answers it; how long that took.
fn work(job: Job) -> Duration {
    let Job { request, depth, handler, reply } = job;
    let start = Instant::now();
    if request.deadline <= start {
        reply.answer(Outcome::Refused(Refusal::TimedOut), Vec::new());
    } else {
        let context = Context { depth, deadline: Some(request.deadline), is_inline: false };
        let (outcome, payload) = run(&*handler, request, context);
        reply.answer(outcome, payload);
    }
    start.elapsed()
}

/// Runs a handler; one that panics has failed, and nothing else has.
pub(super) fn run(
    handler: &(dyn Fn(Request) -> super::Response + Send + Sync),
    request: Request,
    context: Context,
) -> (Outcome, Vec<u8>) {
    let service = request.service;
    match catch_unwind(AssertUnwindSafe(|| context::within(context, || handler(request)))) {
        Ok(response) => response.into_parts(),
        Err(_) => {
            log::error!("the handler of service {service} panicked");
            (Outcome::Failed(Failure::Panicked), Vec::new())
        }
    }
}
