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
use crate::peer::waiter::{Ending, Waiter};
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

impl Manner {
    /// How many requests are under way at a time.
    pub fn count(self) -> usize {
        match self {
            Self::Lone => 1,
            Self::Window(count) | Self::Callers(count) | Self::Logical(count) => count,
        }
    }

    /// The same with no more of them than so many.
    pub fn at_most(self, most: usize) -> Self {
        match self {
            Self::Lone => Self::Lone,
            Self::Window(count) => Self::Window(count.min(most)),
            Self::Callers(count) => Self::Callers(count.min(most)),
            Self::Logical(count) => Self::Logical(count.min(most)),
        }
    }
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

impl Loaded {
    /// The round trip that so many of a thousand do not exceed, in microseconds: 999 is the 99.9th percentile.
    pub fn percentile(&self, per_mille: usize) -> Option<f64> {
        let at = (self.trips.len() * per_mille / 1000).min(self.trips.len().checked_sub(1)?);
        Some(f64::from(self.trips[at]) / 1000.0)
    }
}

/// Set once nobody wants a load any more: it then makes no new requests.
pub type Over = Arc<AtomicBool>;

impl Node {
    /// Puts a load on a node, and waits until it is over.
    ///
    /// # Errors
    /// Of the first request that was not answered as it should.
    pub fn load(&self, target: &str, load: &Load) -> Result<Loaded, RequestError> {
        self.load_until(target, load, Over::default())
    }

    /// The same, and over earlier if somebody wants that.
    pub(crate) fn load_until(&self, target: &str, load: &Load, over: Over) -> Result<Loaded, RequestError> {
        put(&self.asker, target, load, over)
    }
}

/// See [`Node::load`]. It returns when all that it has asked is answered, so that another one finds as much room as this did.
pub(super) fn put(asker: &Asker, target: &str, load: &Load, over: Over) -> Result<Loaded, RequestError> {
    let payload = vec![0x5a; load.payload];
    // So that no dial is measured.
    check(asker.request(target, &load.service, &payload, PATIENCE), payload.len())?;
    match load.manner {
        Manner::Lone => lone(asker, target, load, &payload, &over),
        Manner::Window(window) => pipelined(asker, target, load, &payload, window, &over),
        Manner::Callers(count) => callers(asker, target, load, &payload, count, &over),
        Manner::Logical(count) => logical(asker, target, load, payload, count, over),
    }
}

fn lone(asker: &Asker, target: &str, load: &Load, payload: &[u8], over: &AtomicBool) -> Result<Loaded, RequestError> {
    let (mut trips, mut answered) = (Vec::new(), 0);
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < load.span && !over.load(Ordering::Relaxed) {
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

fn pipelined(
    asker: &Asker,
    target: &str,
    load: &Load,
    payload: &[u8],
    window: usize,
    over: &AtomicBool,
) -> Result<Loaded, RequestError> {
    let pipeline = Requester::new(asker.clone(), asker.find(target)?).pipeline(window);
    let (mut answered, mut error) = (0, None);
    let start = Instant::now();
    let mut is_over = false;
    loop {
        while !is_over && pipeline.open() < window {
            if let Err(refused) = pipeline.submit(&load.service, payload, PATIENCE) {
                (error, is_over) = (error.or(Some(refused)), true);
            }
        }
        if is_over && pipeline.open() == 0 {
            let loaded = Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() };
            return error.map_or(Ok(loaded), Err);
        }
        let mut next = pipeline.recv_timeout(PATIENCE);
        if next.is_none() {
            return Err(RequestError::TimedOut { sent: true });
        }
        // All that are there now, before new ones are made.
        while let Some(completion) = next {
            match check(completion.ending, payload.len()) {
                Ok(()) => answered += 1,
                Err(refused) => (error, is_over) = (error.or(Some(refused)), true),
            }
            next = pipeline.try_recv();
        }
        is_over |= start.elapsed() >= load.span || over.load(Ordering::Relaxed);
    }
}

fn callers(
    asker: &Asker,
    target: &str,
    load: &Load,
    payload: &[u8],
    count: usize,
    over: &AtomicBool,
) -> Result<Loaded, RequestError> {
    let (start, has_failed) = (Instant::now(), AtomicBool::new(false));
    let is_over = || has_failed.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
    let call = || {
        let mut answered = 0;
        while start.elapsed() < load.span && !is_over() {
            let asked = check(asker.request(target, &load.service, payload, PATIENCE), payload.len());
            // The others need not go on either.
            asked.inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
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

fn logical(
    asker: &Asker,
    target: &str,
    load: &Load,
    payload: Vec<u8>,
    count: usize,
    over: Over,
) -> Result<Loaded, RequestError> {
    let requester = Requester::new(asker.clone(), asker.find(target)?);
    let (service, length) = (load.service.clone(), payload.len());
    let ask: Ask = Arc::new(move |done| requester.ask(&service, &payload, PATIENCE, Waiter::CallBack(done), false));
    circle(&vec![ask; count], length, load.span, over)
}

/// Asks once, without waiting.
pub type Ask = Arc<dyn Fn(Done) -> Result<(), RequestError> + Send + Sync>;
/// Whom to tell how that ended.
pub type Done = Box<dyn FnOnce(Ending) + Send>;

/// Callers without threads, each of whom asks again when he is answered, with as many bytes as he asked with.
///
/// # Errors
/// Of the first request that was not answered so.
pub fn circle(callers: &[Ask], length: usize, span: Duration, over: Over) -> Result<Loaded, RequestError> {
    let (ended, all_ended) = bounded(1);
    let circle = Arc::new(Circle {
        length,
        answered: AtomicU64::new(0),
        open: AtomicUsize::new(callers.len()),
        over,
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
    /// Somebody wants it to be.
    over: Over,
    /// Its time has come, or one of them has failed.
    is_over: AtomicBool,
    error: Mutex<Option<RequestError>>,
    ended: Sender<()>,
}

impl Circle {
    /// One caller's next request.
    fn next(self: Arc<Self>, ask: Ask) {
        if self.is_over.load(Ordering::Relaxed) || self.over.load(Ordering::Relaxed) {
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
            // The others need not go on either.
            self.is_over.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_that_there_are() {
        let of = |trips: Vec<u32>| Loaded { trips, ..Loaded::default() };
        let thousand = of((1..=1000).map(|number| number * 1000).collect());
        assert_eq!((thousand.percentile(500), thousand.percentile(999)), (Some(501.0), Some(1000.0)));
        assert_eq!((of(vec![1000]).percentile(999), of(vec![]).percentile(500)), (Some(1.0), None));
    }

    #[test]
    fn whoever_fails_in_a_circle_ends_it_for_all() {
        let answers: Ask = Arc::new(|done| {
            thread::spawn(move || done(Ok(vec![0; 3])));
            Ok(())
        });
        let refuses: Ask = Arc::new(|_| Err(RequestError::Overloaded));
        let start = Instant::now();
        let long = Duration::from_secs(600);
        assert_eq!(circle(&[Arc::clone(&answers), refuses], 3, long, Over::default()), Err(RequestError::Overloaded));
        let over = Over::new(AtomicBool::new(true));
        assert_eq!(circle(&[answers], 3, long, over).map(|loaded| loaded.answered), Ok(0));
        assert!(start.elapsed() < long);
    }
}
