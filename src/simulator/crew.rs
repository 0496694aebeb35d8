//! Who lets processes think: the thread of the world, and others beside it.
//!
//! Jobs are thought about in any order, by whoever has time, and come back in the order in which they were given. So what
//! follows from them does not depend on how many threads there are.
//!
//! A process is thought about by one and the same thread as far as that keeps none waiting: what it knows lies in memory
//! that this thread has asked for, and two threads that free each other's memory wait for each other all the time.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::job::Job;

/// As many jobs are under way at most: far more than threads, so that none of them waits for work before all is done.
pub(super) const MOST: usize = 1024;
/// As much as the world's own thread has: a process thinks as deep on the one as on the other.
const STACK: usize = 8 * 1024 * 1024;
/// Of so many parts of the hosts each thread has, the world's own has one less: it has other things to do as well.
const PARTS: usize = 4;

/// Jobs under way, and the threads beside this one.
#[derive(Default)]
pub(super) struct Crew {
    size: usize,
    helpers: Vec<Helper>,
    thoughts: Option<Receiver<Thought>>,
    /// Given, and not taken back: those that have been thought about.
    jobs: VecDeque<Option<Box<Job>>>,
    /// The number of the first of these.
    first: u64,
    /// For this thread.
    own: VecDeque<Numbered>,
}

type Numbered = (u64, Box<Job>);

/// A job that was thought about; or the panic in which its process ended.
type Thought = Result<Numbered, Box<dyn Any + Send>>;

struct Helper {
    /// `None` only when it is to go.
    todo: Option<Sender<Numbered>>,
    /// What it has not begun.
    rest: Receiver<Numbered>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// From now on it is so many threads, the world's own among them; not while jobs are under way.
    pub(super) fn be(&mut self, threads: usize) {
        if self.size != threads {
            self.size = threads;
            let (say, thoughts) = bounded(MOST);
            // With fewer threads it only takes longer.
            self.helpers = (1..threads).filter_map(|number| Helper::hire(number, say.clone())).collect();
            self.thoughts = Some(thoughts);
        }
    }

    /// How many were given and not taken back.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// One more job, of [`MOST`].
    pub(super) fn give(&mut self, job: Job) {
        let part = job.host.0 % (PARTS * (1 + self.helpers.len()) - 1);
        let helper = (part + 1).checked_sub(PARTS).and_then(|part| self.helpers.get(part / PARTS));
        let job = (self.first + self.jobs.len() as u64, Box::new(job));
        self.jobs.push_back(None);
        match helper.and_then(|helper| helper.todo.as_ref()) {
            // Its channel has room for all there are.
            Some(todo) => self.own.extend(todo.send(job).err().map(|unsent| unsent.0)),
            None => self.own.push_back(job),
        }
    }

    /// The next job, thought about, in the order in which they were given; `None` once all are back.
    pub(super) fn take(&mut self) -> Option<Box<Job>> {
        while self.jobs.front()?.is_none() {
            let (number, job) = self.thought().unwrap_or_else(|panic| resume_unwind(panic));
            self.jobs[(number - self.first) as usize] = Some(job);
        }
        self.first += 1;
        self.jobs.pop_front()?
    }

    /// What others have thought about, or this thread thinks about now: what is its own before what others have not begun.
    /// If all have begun the last ones, it waits for them.
    fn thought(&mut self) -> Thought {
        if let Some(Ok(thought)) = self.thoughts.as_ref().map(Receiver::try_recv) {
            return thought;
        }
        let job = self.own.pop_front().or_else(|| self.helpers.iter().find_map(|helper| helper.rest.try_recv().ok()));
        match (job, &self.thoughts) {
            (Some(job), _) => think(job),
            // As long as there are jobs with helpers, these say what becomes of them.
            (None, thoughts) => thoughts.as_ref().and_then(|thoughts| thoughts.recv().ok()).expect("a helper is at it"),
        }
    }
}

impl Helper {
    fn hire(number: usize, say: Sender<Thought>) -> Option<Self> {
        let (todo, rest) = bounded::<Numbered>(MOST);
        let jobs = rest.clone();
        let work = move || {
            let _ = jobs.iter().map(think).try_for_each(|thought| say.send(thought));
        };
        let thread = Builder::new().name(format!("sim-think{number}")).stack_size(STACK).spawn(work).ok()?;
        Some(Self { todo: Some(todo), rest, thread: Some(thread) })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.todo = None;
        // After a panic there is something left, which nobody asks for any more.
        self.rest.try_iter().for_each(drop);
        if let Some(thread) = self.thread.take() {
            // It catches what its processes do, and has nothing else to panic about.
            let _ = thread.join();
        }
    }
}

fn think((number, mut job): Numbered) -> Thought {
    catch_unwind(AssertUnwindSafe(|| {
        job.think();
        (number, job)
    }))
}
