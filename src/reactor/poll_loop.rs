//! The thread `reactor`: waits for all peer sockets at once, reads what is ready, and never waits for anything else.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use parking_lot::Mutex;

use super::Receiver;
use super::connection::{Connection, Link, Stream, Traffic};
use super::inlet::{Inlet, Progress};
use crate::protocol::reason::Reason;
use crate::scheduling::interrupt_nobody;

/// Decrypting, decoding and the handlers that are declared not to block all run here.
const STACK: usize = 1024 * 1024;
/// One buffer for all sockets: whole batches of small frames in one read.
const READ_BUFFER: usize = 64 * 1024;
/// Events taken from one poll; more of them wait for the next.
const EVENTS: usize = 1024;
const WAKER: Token = Token(0);

/// How a reactor runs.
#[derive(Clone, Debug)]
pub struct ReactorSettings {
    /// How long a frame may be unfinished: shorter cuts off slow links in the midst of a frame, longer lets a stranger hold
    /// a buffer for nothing.
    pub frame_timeout: Duration,
    /// Counts the returns from the poll, for the status report: an idle node's stands still.
    pub wakeups: Arc<AtomicU64>,
}

/// Owns the thread. Dropping it stops and joins it.
#[derive(Debug)]
pub struct Reactor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    /// Starts the thread.
    ///
    /// # Errors
    /// No poll, or no thread, to be had.
    pub fn start(settings: ReactorSettings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            commands: Mutex::new(Some(Vec::new())),
            waker: Waker::new(poll.registry(), WAKER)?,
            tokens: AtomicUsize::new(WAKER.0 + 1),
            totals: Arc::default(),
            on_failure: Mutex::default(),
        });
        let poll_loop = PollLoop {
            poll,
            shared: Arc::clone(&shared),
            settings,
            inlets: HashMap::new(),
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            buffer: vec![0; READ_BUFFER],
            is_broken: false,
        };
        let left = Arc::clone(&shared);
        let run = move || {
            interrupt_nobody();
            let orderly = catch_unwind(AssertUnwindSafe(|| poll_loop.run())).unwrap_or(false);
            left.refuse_all();
            if !orderly && let Some(tell) = left.on_failure.lock().take() {
                tell();
            }
        };
        let thread = thread::Builder::new().name("reactor".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says who is to be told, once, if the thread fails: nothing is read or accepted from then on, so the node has to end
    /// too.
    pub fn on_failure(&self, tell: impl FnOnce() + Send + 'static) {
        *self.shared.on_failure.lock() = Some(Box::new(tell));
    }

    /// What others need to open connections.
    pub fn handle(&self) -> ReactorHandle {
        ReactorHandle { shared: Arc::clone(&self.shared) }
    }

    /// Closes all connections, telling each receiver [`Reason::Leaving`], and joins the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.shared.command(Command::Stop);
        let Some(thread) = self.thread.take() else { return };
        // Dropped on the reactor itself, by a receiver: the thread ends by itself after this call.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            log::error!("the reactor's thread has panicked");
        }
    }
}

/// Opens connections on a reactor, from any thread.
///
/// A receiver usually holds the sink, and the sink the connection; so a connection is made first, and its receiver
/// given afterwards by [`register`](Self::register). Until then nothing is read and nothing is lost. The reactor owns the
/// receiver and a connection does not, so there is no cycle.
#[derive(Clone, Debug)]
pub struct ReactorHandle {
    shared: Arc<Shared>,
}

impl ReactorHandle {
    /// Begins to connect; the receiver's `connected` or `closed` says how it went. The dial's deadline is the caller's: to
    /// give up, close.
    ///
    /// # Errors
    /// What the system says at once, see [`dial_reason`](super::dial_reason).
    pub fn dial(&self, addr: SocketAddr) -> io::Result<Connection> {
        Link::dial(&self.shared, addr).map(|link| Connection { link: Arc::new(link) })
    }

    /// Takes over an accepted socket, whose stream begins with a preamble.
    ///
    /// # Errors
    /// The remote is gone already.
    pub fn adopt(&self, stream: Stream) -> io::Result<Connection> {
        Link::adopt(&self.shared, stream).map(|link| Connection { link: Arc::new(link) })
    }

    /// Starts to read a connection into its receiver: once for each connection.
    pub fn register(&self, connection: &Connection, receiver: Box<dyn Receiver>) {
        self.shared.command(Command::Start(Arc::clone(&connection.link), receiver));
    }

    /// What went through all connections since the start.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.shared.totals
    }
}

pub(super) enum Command {
    Start(Arc<Link>, Box<dyn Receiver>),
    Resume(Token),
    Flush(Token),
    Close(Token),
    Finish(Token),
    Stop,
}

/// What handles, links and the loop share.
pub(super) struct Shared {
    /// Bounded by the connections: each has at most one of every kind of command under way. `None` once stopped.
    commands: Mutex<Option<Vec<Command>>>,
    waker: Waker,
    /// Never reused, so an event that comes late finds nobody.
    tokens: AtomicUsize,
    pub(super) totals: Arc<Traffic>,
    on_failure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Shared {
    pub(super) fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// False if the reactor has stopped: then a receiver is told here.
    pub(super) fn command(&self, command: Command) -> bool {
        let mut commands = self.commands.lock();
        let Some(waiting) = commands.as_mut() else {
            drop(commands);
            refuse(command);
            return false;
        };
        let is_first = waiting.is_empty();
        waiting.push(command);
        drop(commands);
        if is_first && let Err(error) = self.waker.wake() {
            log::error!("cannot wake the reactor: {error}");
        }
        true
    }

    /// From here on commands are refused on their senders' threads.
    fn refuse_all(&self) {
        let left = self.commands.lock().take();
        left.into_iter().flatten().for_each(refuse);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("totals", &self.totals).finish_non_exhaustive()
    }
}

/// What a stopped reactor does with a command.
fn refuse(command: Command) {
    if let Command::Start(link, mut receiver) = command {
        link.close();
        receiver.closed(Reason::Leaving);
    }
}

struct PollLoop {
    poll: Poll,
    shared: Arc<Shared>,
    settings: ReactorSettings,
    inlets: HashMap<Token, Inlet>,
    /// The inlets' deadlines in order; the poll waits for the first.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Those that have had their turn and have more to read.
    waiting: VecDeque<Token>,
    buffer: Vec<u8>,
    /// The system does not let it wait any more.
    is_broken: bool,
}

impl PollLoop {
    /// Until it is told to stop; false if it could not go on.
    fn run(mut self) -> bool {
        let mut events = Events::with_capacity(EVENTS);
        while self.turn(&mut events) {}
        self.shared.refuse_all();
        for inlet in self.inlets.values_mut() {
            inlet.end(Reason::Leaving);
        }
        !self.is_broken
    }

    /// One poll and what follows from it; false when it is time to stop.
    fn turn(&mut self, events: &mut Events) -> bool {
        let polled = self.poll.poll(events, self.patience());
        self.settings.wakeups.fetch_add(1, Ordering::Relaxed);
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => {
                log::error!("the reactor cannot poll: {error}");
                self.is_broken = true;
                return false;
            }
            Ok(()) => {}
        }
        let mut stop = false;
        for event in events.iter() {
            match event.token() {
                WAKER => stop |= self.obey(),
                token => self.with(token, |inlet, buffer| inlet.event(event, buffer)),
            }
        }
        for _ in 0..self.waiting.len() {
            let Some(token) = self.waiting.pop_front() else { break };
            self.with(token, |inlet, buffer| {
                inlet.is_waiting = false;
                inlet.drain(buffer, true)
            });
        }
        self.expire();
        !stop
    }

    /// How long to wait: for ever, if nothing is unfinished.
    fn patience(&self) -> Option<Duration> {
        if !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()))
    }

    /// Carries out what was commanded; true to stop.
    fn obey(&mut self) -> bool {
        let commands = self.shared.commands.lock().as_mut().map(std::mem::take);
        let mut stop = false;
        for command in commands.into_iter().flatten() {
            match command {
                Command::Start(link, receiver) => self.start(link, receiver),
                Command::Resume(token) => self.with(token, Inlet::resume),
                Command::Flush(token) => self.with(token, |inlet, _| inlet.send()),
                Command::Close(token) => self.with(token, |inlet, _| inlet.end(Reason::Local)),
                Command::Finish(token) => self.with(token, Inlet::finish),
                Command::Stop => stop = true,
            }
        }
        stop
    }

    fn start(&mut self, link: Arc<Link>, receiver: Box<dyn Receiver>) {
        let token = link.token;
        let watched = link.watch(self.poll.registry());
        let mut inlet = Inlet::new(link, receiver, self.settings.frame_timeout);
        match watched {
            Ok(true) => {
                self.inlets.insert(token, inlet);
            }
            Ok(false) => {
                inlet.end(Reason::Local);
            }
            Err(error) => {
                log::warn!("cannot watch a socket: {error}");
                inlet.end(Reason::Internal);
            }
        }
    }

    fn expire(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((_, token)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.with(token, |inlet, _| inlet.expire());
        }
    }

    /// Lets one inlet act, and keeps the deadlines, the queue and the map in step with it.
    fn with(&mut self, token: Token, act: impl FnOnce(&mut Inlet, &mut [u8]) -> Progress) {
        let Some(inlet) = self.inlets.get_mut(&token) else { return };
        let before = inlet.deadline;
        let progress = act(inlet, &mut self.buffer);
        if progress == Progress::HasMore && !inlet.is_waiting {
            inlet.is_waiting = true;
            self.waiting.push_back(token);
        }
        let after = inlet.deadline.filter(|_| progress != Progress::Gone);
        if before != after {
            before.map(|deadline| self.deadlines.remove(&(deadline, token)));
            after.map(|deadline| self.deadlines.insert((deadline, token)));
        }
        if progress == Progress::Gone {
            self.inlets.remove(&token);
        }
    }
}
