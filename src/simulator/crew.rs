//! Who lets processes think: the thread of the world, and others beside it.
//!
//! Jobs are thought about in any order, by whoever has time, and come back in the order in which they were given. So what
//! follows from them does not depend on how many threads there are.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::job::Job;

/// As many jobs are under way at most: far more than threads, so that none of them waits for work before all is done.
pub(super) const MOST: usize = 1024;

/// Jobs under way, and the threads beside this one.
#[derive(Default)]
pub(super) struct Crew {
    size: usize,
    helpers: Option<Helpers>,
    /// Given, and not taken back.
    jobs: VecDeque<Place>,
    /// The number of the first of these.
    first: u64,
}

enum Place {
    /// Not thought about; kept for the world's own thread.
    Here(Box<Job>),
    /// In a channel, or with a helper.
    Away,
    /// Thought about.
    Done(Box<Job>),
}

/// A job with its number; or the panic in which its process ended.
type Thought = Result<(u64, Box<Job>), Box<dyn Any + Send>>;

struct Helpers {
    /// `None` only when they are to go.
    todo: Option<Sender<(u64, Box<Job>)>>,
    rest: Receiver<(u64, Box<Job>)>,
    done: Receiver<Thought>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// From now on it is so many threads, the world's own among them; not while jobs are under way.
    pub(super) fn be(&mut self, threads: usize) {
        if self.size != threads {
            self.size = threads;
            self.helpers = (threads > 1).then(|| Helpers::hire(threads - 1));
        }
    }

    /// How many were given and not taken back.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// One more job, of [`MOST`]. The first is kept for this thread, which will ask for it first: a single one wakes nobody.
    pub(super) fn give(&mut self, job: Job) {
        let (number, job) = (self.first + self.jobs.len() as u64, Box::new(job));
        let todo = self.helpers.as_ref().and_then(|helpers| helpers.todo.as_ref());
        let place = match todo.filter(|_| !self.jobs.is_empty()) {
            // Whoever cannot be reached has ended, and says why when it is asked.
            Some(todo) => todo.send((number, job)).map_or_else(|unsent| Place::Here(unsent.0.1), |()| Place::Away),
            None => Place::Here(job),
        };
        self.jobs.push_back(place);
    }

    /// The next job, thought about, in the order in which they were given; `None` once all are back.
    pub(super) fn take(&mut self) -> Option<Box<Job>> {
        loop {
            match self.jobs.front_mut()? {
                Place::Here(_) | Place::Done(_) => break,
                Place::Away => self.help_or_wait(),
            }
        }
        self.first += 1;
        match self.jobs.pop_front()? {
            Place::Here(mut job) => {
                job.think();
                Some(job)
            }
            Place::Done(job) => Some(job),
            Place::Away => None,
        }
    }

    /// Does what a helper would do next; if nothing is left, waits for one.
    fn help_or_wait(&mut self) {
        let Some(helpers) = &self.helpers else { return };
        let thought = helpers.done.try_recv().or_else(|_| match helpers.rest.try_recv() {
            Ok(job) => Ok(think(job)),
            Err(_) => helpers.done.recv(),
        });
        match thought {
            Ok(Ok((number, job))) => {
                if let Some(place) = self.jobs.get_mut((number - self.first) as usize) {
                    *place = Place::Done(job);
                }
            }
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => unreachable!("a helper ends only when its channel is closed"),
        }
    }
}

impl Helpers {
    fn hire(count: usize) -> Self {
        let ((todo, rest), (say, done)) = (bounded(MOST), bounded(MOST));
        let threads = (0..count).filter_map(|number| {
            let (rest, say): (Receiver<(u64, Box<Job>)>, Sender<Thought>) = (rest.clone(), say.clone());
            let work = move || rest.iter().map(think).try_for_each(|thought| say.send(thought));
            // With fewer threads it only takes longer.
            Builder::new().name(format!("sim-think{number}")).spawn(move || drop(work())).ok()
        });
        let threads: Vec<_> = threads.collect();
        Self { todo: Some(todo), rest, done, threads }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.todo = None;
        // After a panic there is something left, which nobody asks for any more.
        self.rest.try_iter().for_each(drop);
        for thread in self.threads.drain(..) {
            // It catches what its processes do, and has nothing else to panic about.
            let _ = thread.join();
        }
    }
}

fn think((number, mut job): (u64, Box<Job>)) -> Thought {
    catch_unwind(AssertUnwindSafe(|| {
        job.think();
        (number, job)
    }))
}
