//! Services: under which names this node answers what others ask, who may ask, and where the answer is made.
//!
//! ```text
//!   request ──▶ Services: known? allowed? ──┬─▶ inline: here and now, on the thread that took it off the wire
//!                   │                       ├─▶ worker: work-N, which may block
//!                   └─▶ refused             └─▶ elsewhere: a program at the admin socket; it replies when it can
//! ```
//!
//! Who asks is known by the key that the connection was made with, never by what it calls itself.

pub mod children;
pub mod context;
pub mod program;
mod said;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::RwLock;

use crate::protocol::identity::{ControllerId, Label};
use crate::protocol::requests::message::{Failure, Outcome, Refusal};
use crate::protocol::requests::service::ServiceName;
use children::Children;
use context::Context;
use workers::{Job, Workers};

pub use workers::Lookout;

/// Services of one node, about 200 bytes each: a program that registers a name for each request is found out.
pub const MAX_SERVICES: usize = 1024;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Proven by the key the connection was made with.
    pub id: ControllerId,
    /// What it calls itself: for people, and never to be trusted.
    pub label: Label,
}

/// A request as its service sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub caller: Arc<Caller>,
    /// What was asked for.
    pub service: ServiceName,
    /// What was sent along.
    pub payload: Vec<u8>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

/// What a service says to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    outcome: Outcome,
    payload: Vec<u8>,
}

impl Response {
    /// An answer.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { outcome: Outcome::Done, payload: payload.into() }
    }

    /// The service cannot do what it was asked for, and says why. The caller sees
    /// [`RequestError::Failed`](crate::protocol::requests::error::RequestError::Failed) with these bytes.
    pub fn failed(why: impl Into<Vec<u8>>) -> Self {
        Self { outcome: Outcome::Failed(Failure::Service), payload: why.into() }
    }

    /// How a request went, with what there is to say about it.
    pub(crate) fn of(outcome: Outcome, payload: Vec<u8>) -> Self {
        Self { outcome, payload }
    }

    pub(crate) fn into_parts(self) -> (Outcome, Vec<u8>) {
        (self.outcome, self.payload)
    }
}

impl<T: Into<Vec<u8>>> From<T> for Response {
    fn from(payload: T) -> Self {
        Self::new(payload)
    }
}

/// Makes answers.
pub type Handler = Arc<dyn Fn(Request) -> Response + Send + Sync>;
/// Takes requests that are answered later, by whoever has the [`Reply`].
pub type Taker = Arc<dyn Fn(Request, Reply) + Send + Sync>;

/// The duty to answer one request. Dropped, it says that whoever had it is gone.
pub struct Reply(Option<Deliver>);

type Deliver = Box<dyn FnOnce(Outcome, Vec<u8>) + Send>;

impl Reply {
    /// Which hands the answer to `deliver`.
    pub fn new(deliver: impl FnOnce(Outcome, Vec<u8>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    /// Answers.
    pub fn answer(mut self, outcome: Outcome, payload: Vec<u8>) {
        if let Some(deliver) = self.0.take() {
            deliver(outcome, payload);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(deliver) = self.0.take() {
            deliver(Outcome::Failed(Failure::Gone), Vec::new());
        }
    }
}

/// Where a service's answers are made.
#[derive(Clone)]
pub enum Runs {
    /// On the thread that took the request off the wire: it must not wait for anything.
    Inline(Handler),
    /// On a worker.
    OnWorker(Handler),
    /// Somewhere else.
    Elsewhere(Taker),
}

/// Why a service could not be registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceError {
    /// The name is none; why.
    Name(String),
    /// The name is taken.
    Taken(ServiceName),
    /// There are as many as may be.
    TooMany,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => f.write_str(why),
            Self::Taken(name) => {
                write!(f, "the service {name} is served already: choose another name, or end it first")
            }
            Self::TooMany => write!(f, "a node has at most {MAX_SERVICES} services"),
        }
    }
}

impl std::error::Error for ServiceError {}

/// What a node was asked and has asked, and what became of it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered by a service.
    pub served: AtomicU64,
    /// Begun and failed.
    pub unserved: AtomicU64,
    /// Asked by this node.
    pub issued: AtomicU64,
    /// Of these, answered.
    pub answered: AtomicU64,
    /// Of these, come to nothing.
    pub failed: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counts {
    /// Takes note of one that was answered so.
    pub fn note(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Done => &self.served,
            Outcome::Failed(_) => &self.unserved,
            Outcome::Refused(refusal) => &self.refused[refusal as usize],
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of how one of this node's own has ended.
    pub fn note_own(&self, is_answered: bool) {
        let count = if is_answered { &self.answered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused requests by cause.
    pub fn refused(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().map(|refusal| (refusal, self.refused[refusal as usize].load(Ordering::Relaxed)))
    }
}

#[derive(Default)]
struct Table {
    runs: BTreeMap<ServiceName, Runs>,
    /// Of those services that are not for everybody.
    allowed: BTreeMap<ServiceName, BTreeSet<ControllerId>>,
}

/// All services of one node.
pub struct Services {
    table: RwLock<Table>,
    workers: Workers,
    max_payload: usize,
    is_closing: AtomicBool,
    /// The programs that run for services now.
    pub children: Children,
    /// What became of all that was asked.
    pub counts: Counts,
}

impl Services {
    /// None yet; with so many workers, calls that may wait for them, and bytes of an answer.
    pub fn new(workers: usize, max_calls: usize, max_payload: usize) -> Self {
        Self {
            table: RwLock::default(),
            workers: Workers::new(workers, max_calls),
            max_payload,
            is_closing: AtomicBool::new(false),
            children: Children::new(),
            counts: Counts::default(),
        }
    }

    /// Serves under this name from now on.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn register(&self, name: ServiceName, runs: Runs) -> Result<(), ServiceError> {
        let table = &mut self.table.write().runs;
        if table.contains_key(&name) {
            return Err(ServiceError::Taken(name));
        }
        if table.len() >= MAX_SERVICES {
            return Err(ServiceError::TooMany);
        }
        table.insert(name, runs);
        Ok(())
    }

    /// Serves no more under this name; what was begun goes on.
    pub fn remove(&self, name: &ServiceName) {
        self.table.write().runs.remove(name);
    }

    /// From now on a service is for these only, if there are any, else for everybody in the network.
    pub fn allow(&self, name: ServiceName, ids: impl IntoIterator<Item = ControllerId>) {
        let ids: BTreeSet<ControllerId> = ids.into_iter().collect();
        let allowed = &mut self.table.write().allowed;
        match ids.is_empty() {
            true => allowed.remove(&name),
            false => allowed.insert(name, ids),
        };
    }

    /// Has a request answered: at once, or later by another thread.
    pub fn serve(&self, request: Request, depth: u8, reply: impl FnOnce(Outcome, Vec<u8>) + Send + 'static) {
        match self.find(&request) {
            Err(refusal) => reply(Outcome::Refused(refusal), Vec::new()),
            Ok(Runs::Inline(handler)) => {
                let context = Context { depth, deadline: Some(request.deadline), is_inline: true };
                let (outcome, payload) = workers::run(&*handler, request, context);
                let (outcome, payload) = within(self.max_payload, outcome, payload);
                reply(outcome, payload);
            }
            Ok(Runs::OnWorker(handler)) => {
                let reply = self.bounded(reply);
                self.workers.offer(Job { request, depth, handler, reply });
            }
            Ok(Runs::Elsewhere(taker)) => taker(request, self.bounded(reply)),
        }
    }

    /// Where a worker that has nothing to do may wait for the next call, see [`Lookout`]; said once.
    pub fn look_out(&self, lookout: Lookout) {
        self.workers.look_out(lookout);
    }

    /// Refuses whatever comes from now on.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
    }

    /// Refuses what comes from now on, and waits for what is at work, until then.
    pub fn finish(&self, deadline: Instant) {
        self.close();
        self.workers.finish(deadline);
    }

    /// The end: programs are killed, and handlers that are still at work are left to themselves.
    pub fn end(&self) {
        self.close();
        self.children.kill_all();
        self.workers.end();
        self.table.write().runs.clear();
    }

    fn bounded(&self, reply: impl FnOnce(Outcome, Vec<u8>) + Send + 'static) -> Reply {
        let most = self.max_payload;
        Reply::new(move |outcome, payload| {
            let (outcome, payload) = within(most, outcome, payload);
            reply(outcome, payload);
        })
    }

    fn find(&self, request: &Request) -> Result<Runs, Refusal> {
        if self.is_closing.load(Ordering::SeqCst) {
            return Err(Refusal::Leaving);
        }
        let table = self.table.read();
        let runs = table.runs.get(&request.service).ok_or(Refusal::UnknownService)?;
        match table.allowed.get(&request.service) {
            Some(allowed) if !allowed.contains(&request.caller.id) => Err(Refusal::NotAllowed),
            _ => Ok(runs.clone()),
        }
    }
}

/// An answer that is longer than may be sent is none.
fn within(most: usize, outcome: Outcome, payload: Vec<u8>) -> (Outcome, Vec<u8>) {
    match payload.len() > most {
        true => (Outcome::Failed(Failure::TooLarge), Vec::new()),
        false => (outcome, payload),
    }
}

#[cfg(test)]
mod tests;
