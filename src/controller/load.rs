//! Loads: requests of one kind to one node, as fast as they are answered, and what came of them. What `kithd bench` measures
//! is made of these, and by the very calls that a program makes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use super::asking::Asker;
use super::node::Node;
use super::requester::Requester;
use crate::peer::waiter::Ending;
use crate::protocol::requests::error::RequestError;

/// For one answer: nothing that is measured takes as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Round trips that are remembered, 8 MiB of them: half a minute of the fastest. What is beyond is counted only.
const MOST_TRIPS: usize = 2 << 20;
/// A caller's stack: it asks, and nothing else.
const STACK: usize = 64 * 1024;

/// How requests are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// One caller, who waits for each answer ([`Node::request`]). The only one of which round trips are kept.
    Lone,
    /// One caller with so many under way ([`Pipeline`](super::requester::Pipeline)).
    Window(usize),
    /// So many callers, each on a thread that waits.
    Callers(usize),
    /// So many callers without threads: each asks again in the call-back of its last answer ([`Requester::try_submit`]).
    Logical(usize),
}

/// What is to be asked, and for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// How.
    pub manner: Manner,
    /// Which service. It has to answer with what it was sent.
    pub service: String,
    /// Bytes of each payload.
    pub payload: usize,
    /// For how long new ones are made.
    pub span: Duration,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Requests that were answered as they should.
    pub answered: u64,
    /// From the first to the last answer.
    pub elapsed: Duration,
    /// Round trips in nanoseconds, the shortest first; of [`Manner::Lone`] only.
    pub trips: Vec<u32>,
}

impl Node {
    /// Puts a load on a node, and waits until it is over.
    ///
    /// # Errors
    /// Of the first request that was not answered as it should.
    pub fn load(&self, target: &str, load: &Load) -> Result<Loaded, RequestError> {
        put(&self.asker, target, load)
    }
}

/// See [`Node::load`].
pub(super) fn put(asker: &Asker, target: &str, load: &Load) -> Result<Loaded, RequestError> {
    let payload = vec![0x5a; load.payload];
    // So that no dial is measured.
    check(asker.request(target, &load.service, &payload, PATIENCE), payload.len())?;
    match load.manner {
        Manner::Lone => lone(asker, target, load, &payload),
        Manner::Window(window) => pipelined(asker, target, load, &payload, window),
        Manner::Callers(count) => callers(asker, target, load, &payload, count),
        Manner::Logical(count) => logical(asker, target, load, payload, count),
    }
}

fn lone(asker: &Asker, target: &str, load: &Load, payload: &[u8]) -> Result<Loaded, RequestError> {
    let (mut trips, mut answered) = (Vec::new(), 0);
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < load.span {
        check(asker.request(target, &load.service, payload, PATIENCE), payload.len())?;
        let then = Instant::now();
        answered += 1;
        if trips.len() < MOST_TRIPS {
            // One that takes longer than four seconds is as bad as one of four.
            trips.push(u32::try_from(then.duration_since(now).as_nanos()).unwrap_or(u32::MAX));
        }
        now = then;
    }
    trips.sort_unstable();
    Ok(Loaded { answered, elapsed: now.duration_since(start), trips })
}

fn pipelined(asker: &Asker, target: &str, load: &Load, payload: &[u8], window: usize) -> Result<Loaded, RequestError> {
    let pipeline = Requester::new(asker.clone(), asker.find(target)?).pipeline(window);
    let mut answered = 0;
    let start = Instant::now();
    let mut is_over = false;
    loop {
        while !is_over && pipeline.open() < window {
            pipeline.submit(&load.service, payload, PATIENCE)?;
        }
        let Some(completion) = pipeline.recv_timeout(PATIENCE) else {
            return Err(RequestError::TimedOut { sent: true });
        };
        check(completion.ending, payload.len())?;
        answered += 1;
        // All that are there now, before new ones are made.
        while let Some(completion) = pipeline.try_recv() {
            check(completion.ending, payload.len())?;
            answered += 1;
        }
        is_over |= start.elapsed() >= load.span;
        if is_over && pipeline.open() == 0 {
            return Ok(Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() });
        }
    }
}

fn callers(asker: &Asker, target: &str, load: &Load, payload: &[u8], count: usize) -> Result<Loaded, RequestError> {
    let start = Instant::now();
    let call = || {
        let mut answered = 0;
        while start.elapsed() < load.span {
            check(asker.request(target, &load.service, payload, PATIENCE), payload.len())?;
            answered += 1;
        }
        Ok(answered)
    };
    thread::scope(|scope| {
        let builder = || thread::Builder::new().name("load".to_owned()).stack_size(STACK);
        let threads: io::Result<Vec<_>> = (0..count).map(|_| builder().spawn_scoped(scope, call)).collect();
        // Without a thread there is nobody to ask; those that were started end by themselves.
        let threads = threads.map_err(|_| RequestError::Overloaded)?;
        let mut answered = 0;
        for thread in threads {
            answered += thread.join().unwrap_or(Err(RequestError::Ended))?;
        }
        Ok(Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() })
    })
}

fn logical(asker: &Asker, target: &str, load: &Load, payload: Vec<u8>, count: usize) -> Result<Loaded, RequestError> {
    let requester = Requester::new(asker.clone(), asker.find(target)?);
    let (service, length) = (load.service.clone(), payload.len());
    let ask: Ask = Arc::new(move |done| requester.try_submit(&service, &payload, PATIENCE, done));
    circle(&vec![ask; count], length, load.span)
}

/// Asks once, without waiting.
pub type Ask = Arc<dyn Fn(Done) -> Result<(), RequestError> + Send + Sync>;
/// Whom to tell how that ended.
pub type Done = Box<dyn FnOnce(Ending) + Send>;

/// Callers without threads, each of whom asks again when he is answered, with as many bytes as he asked with.
///
/// # Errors
/// Of the first request that was not answered so.
pub fn circle(callers: &[Ask], length: usize, span: Duration) -> Result<Loaded, RequestError> {
    let (ended, all_ended) = bounded(1);
    let circle = Arc::new(Circle {
        length,
        answered: AtomicU64::new(0),
        open: AtomicUsize::new(callers.len()),
        is_over: AtomicBool::new(false),
        error: Mutex::new(None),
        ended,
    });
    let start = Instant::now();
    callers.iter().for_each(|ask| Arc::clone(&circle).next(Arc::clone(ask)));
    let early = all_ended.recv_timeout(span);
    circle.is_over.store(true, Ordering::Relaxed);
    if early.is_err() && all_ended.recv_timeout(PATIENCE).is_err() {
        return Err(RequestError::TimedOut { sent: true });
    }
    let elapsed = start.elapsed();
    match circle.error.lock().take() {
        Some(error) => Err(error),
        None => Ok(Loaded { answered: circle.answered.load(Ordering::Relaxed), elapsed, trips: Vec::new() }),
    }
}

struct Circle {
    length: usize,
    answered: AtomicU64,
    open: AtomicUsize,
    is_over: AtomicBool,
    error: Mutex<Option<RequestError>>,
    ended: Sender<()>,
}

impl Circle {
    /// One caller's next request.
    fn next(self: Arc<Self>, ask: Ask) {
        if self.is_over.load(Ordering::Relaxed) {
            return self.leave(None);
        }
        let (circle, again) = (Arc::clone(&self), Arc::clone(&ask));
        let done = move |ending: Ending| match check(ending, circle.length) {
            Ok(()) => {
                circle.answered.fetch_add(1, Ordering::Relaxed);
                circle.next(again);
            }
            Err(error) => circle.leave(Some(error)),
        };
        if let Err(error) = ask(Box::new(done)) {
            self.leave(Some(error));
        }
    }

    fn leave(&self, error: Option<RequestError>) {
        if let Some(error) = error {
            self.error.lock().get_or_insert(error);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.ended.try_send(());
        }
    }
}

/// An answer is as long as its request.
fn check(ending: Ending, length: usize) -> Result<(), RequestError> {
    let said = ending?;
    if said.len() == length { Ok(()) } else { Err(RequestError::AnswerTooLarge) }
}
