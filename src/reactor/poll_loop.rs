//! The thread `reactor`: waits for all peer sockets at once (or for one, while there is nothing but that), reads what is ready,
//! and never waits for anything else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use parking_lot::Mutex;

use super::Receiver;
use super::connection::{Connection, Link, Stream, Traffic};
use super::inlet::{Inlet, Progress};
use super::seat::{Lease, Seat};
use super::steady::{Hope, Steady, Turn};
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
    /// Counts the returns from the poll, or from what is done in its place, for the status report: an idle node's stands still.
    pub wakeups: Arc<AtomicU64>,
}

/// Owns the thread. Dropping it stops and joins it.
#[derive(Debug)]
pub struct Reactor {
    seat: Arc<Seat>,
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
            reads_on: AtomicBool::new(false),
            lease: Lease::default(),
        });
        let poll_loop = PollLoop {
            poll,
            shared: Arc::clone(&shared),
            settings,
            inlets: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            buffer: vec![0; READ_BUFFER],
            events: Some(Events::with_capacity(EVENTS)),
            steady: Steady::default(),
            is_unsteady: false,
            is_over: false,
            is_broken: false,
        };
        let seat = Arc::new(Seat::new(poll_loop, shared));
        let kept = Arc::clone(&seat);
        let run = move || {
            interrupt_nobody();
            let orderly = catch_unwind(AssertUnwindSafe(|| kept.keep())).unwrap_or(false);
            kept.clear();
            kept.shared.refuse_all();
            if !orderly && let Some(tell) = kept.shared.on_failure.lock().take() {
                tell();
            }
        };
        let thread = thread::Builder::new().name("reactor".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { seat, thread: Some(thread) })
    }

    /// Says who is to be told, once, if the thread fails: nothing is read or accepted from then on, so the node has to end
    /// too.
    pub fn on_failure(&self, tell: impl FnOnce() + Send + 'static) {
        *self.seat.shared.on_failure.lock() = Some(Box::new(tell));
    }

    /// What others need to open connections.
    pub fn handle(&self) -> ReactorHandle {
        ReactorHandle { seat: Arc::clone(&self.seat) }
    }

    /// Closes all connections, telling each receiver [`Reason::Leaving`], and joins the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.seat.shared.command(Command::Stop);
        let Some(thread) = self.thread.take() else { return };
        // Dropped by a receiver, on the reactor itself or in its place: the thread ends by itself after this call.
        let is_own = thread.thread().id() == thread::current().id() || self.seat.is_taken_by_me();
        if !is_own && thread.join().is_err() {
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
    seat: Arc<Seat>,
}

impl ReactorHandle {
    /// Begins to connect; the receiver's `connected` or `closed` says how it went. The dial's deadline is the caller's: to
    /// give up, close.
    ///
    /// # Errors
    /// What the system says at once, see [`dial_reason`](super::dial_reason).
    pub fn dial(&self, addr: SocketAddr) -> io::Result<Connection> {
        Link::dial(&self.seat.shared, addr).map(|link| Connection { link: Arc::new(link) })
    }

    /// Takes over an accepted socket, whose stream begins with a preamble.
    ///
    /// # Errors
    /// The remote is gone already.
    pub fn adopt(&self, stream: Stream) -> io::Result<Connection> {
        Link::adopt(&self.seat.shared, stream).map(|link| Connection { link: Arc::new(link) })
    }

    /// Starts to read a connection into its receiver: once for each connection.
    pub fn register(&self, connection: &Connection, receiver: Box<dyn Receiver>) {
        self.seat.shared.command(Command::Start(Arc::clone(&connection.link), receiver));
    }

    /// Waits for an answer: `wait` does that, and returns as soon as it is there, or late. This thread may first read it itself,
    /// in the reactor's place, until `is_done` or the deadline: if it has been the only one that waits here many times in a row,
    /// and there is a connection on which the answer is all that is expected (`lone` is only asked then). Meanwhile it is this
    /// thread that tells other receivers what arrives, until the reactor has come back for them.
    pub fn attend<T>(
        &self,
        lone: impl FnOnce() -> Option<Connection>,
        deadline: Instant,
        is_done: impl Fn() -> bool,
        wait: impl FnOnce() -> T,
    ) -> T {
        let waiting = self.seat.wait();
        waiting.sit(|| Some(Hope::Of(lone()?.link.token)), Some(deadline), is_done);
        wait()
    }

    /// Waits for what may come next, whatever it is, by reading it on this thread until `is_done`: for a few milliseconds at most,
    /// and only if this thread has been the only one that waits here many times in a row. For whoever does what one remote asks
    /// for after the other.
    pub fn watch(&self, is_done: impl Fn() -> bool) {
        self.seat.wait().sit(|| Some(Hope::One), None, is_done);
    }

    /// What went through all connections since the start.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.seat.shared.totals
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
    /// Whoever sits waits for one connection alone, and does not hear of commands.
    pub(super) reads_on: AtomicBool,
    pub(super) lease: Lease,
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
        if is_first {
            self.wake();
        }
        self.lease.call_back();
        true
    }

    /// Ends the poll under way, or the next.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the reactor: {error}");
        }
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

pub(super) struct PollLoop {
    poll: Poll,
    shared: Arc<Shared>,
    settings: ReactorSettings,
    inlets: BTreeMap<Token, Inlet>,
    /// The inlets' deadlines in order; the poll waits for the first.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Those that have had their turn and have more to read.
    waiting: VecDeque<Token>,
    buffer: Vec<u8>,
    /// Here but during a turn.
    events: Option<Events>,
    steady: Steady,
    /// This turn was about more than whole frames.
    is_unsteady: bool,
    /// It was told to stop, or cannot go on.
    is_over: bool,
    /// The system does not let it wait any more.
    is_broken: bool,
}

impl std::fmt::Debug for PollLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollLoop").field("inlets", &self.inlets.len()).finish_non_exhaustive()
    }
}

impl PollLoop {
    /// The end: everybody is told. False if it could not go on.
    pub(super) fn end(mut self) -> bool {
        self.shared.refuse_all();
        for inlet in self.inlets.values_mut() {
            inlet.end(Reason::Leaving);
        }
        !self.is_broken
    }

    /// True if there is no turn any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// True if something has to be done soon whatever comes.
    pub(super) fn has_more(&self) -> bool {
        !self.waiting.is_empty() || !self.deadlines.is_empty()
    }

    /// It cannot go on.
    pub(super) fn give_up(&mut self) {
        (self.is_over, self.is_broken) = (true, true);
    }

    /// One poll, of so long at most, and what follows from it. Or none, if what comes next is known and hoped for: see
    /// [`Steady`]. That may take longer.
    pub(super) fn turn(&mut self, most: Option<Duration>, hope: Option<Hope>, now: impl FnOnce() -> Instant) -> Turn {
        if let Some(token) = hope.and_then(|hope| self.steady.expects(hope, now))
            && let Some(turn) = self.read_on(token)
        {
            return turn;
        }
        // Not there if the last turn has panicked.
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS));
        let patience = [self.patience(), most].into_iter().flatten().min();
        let polled = self.poll.poll(&mut events, patience);
        self.settings.wakeups.fetch_add(1, Ordering::Relaxed);
        let turn = match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Turn::Idle,
            Err(error) => {
                log::error!("the reactor cannot poll: {error}");
                self.give_up();
                Turn::Several
            }
            Ok(()) => self.heed(&events),
        };
        self.events = Some(events);
        self.steady.note(if std::mem::take(&mut self.is_unsteady) { Turn::Several } else { turn });
        turn
    }

    /// Waits for what comes next from there, for a few milliseconds. `None` if there is something else to do.
    fn read_on(&mut self, token: Token) -> Option<Turn> {
        if !cfg!(target_os = "linux") {
            // Elsewhere a socket that may wait does so with every call, whatever that says.
            return None;
        }
        // First: who commands from now on, sees it.
        self.shared.reads_on.store(true, Ordering::SeqCst);
        let may_wait = !self.has_more()
            && self.inlets.get(&token).is_some_and(Inlet::is_steady)
            && self.shared.commands.lock().as_ref().is_some_and(Vec::is_empty);
        let turn = may_wait.then(|| self.read_soon(token));
        self.shared.reads_on.store(false, Ordering::SeqCst);
        if !may_wait || std::mem::take(&mut self.is_unsteady) {
            self.steady.note(Turn::Several);
        }
        turn
    }

    /// The turn of a read that waits.
    fn read_soon(&mut self, token: Token) -> Turn {
        let mut has_come = false;
        self.with(token, |inlet, buffer| {
            let progress = inlet.drain_soon(buffer);
            has_come = progress.is_some();
            progress.unwrap_or(Progress::Rests)
        });
        self.settings.wakeups.fetch_add(1, Ordering::Relaxed);
        if !has_come {
            self.steady.doubt();
        }
        if has_come { Turn::One(token) } else { Turn::Idle }
    }

    fn heed(&mut self, events: &Events) -> Turn {
        let mut turn = Turn::Idle;
        for event in events.iter() {
            match event.token() {
                WAKER if self.obey() => turn = Turn::Several,
                WAKER => {}
                token => {
                    turn = turn.and(token);
                    self.with(token, |inlet, buffer| inlet.event(event, buffer));
                }
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
        turn
    }

    /// How long to wait: for ever, if nothing is unfinished.
    fn patience(&self) -> Option<Duration> {
        if !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadlines.first().map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()))
    }

    /// Carries out what was commanded; false if nothing was: a caller wants the seat.
    fn obey(&mut self) -> bool {
        let commands = self.shared.commands.lock().as_mut().map(std::mem::take).unwrap_or_default();
        let are_there = !commands.is_empty();
        for command in commands {
            match command {
                Command::Start(link, receiver) => self.start(link, receiver),
                Command::Resume(token) => self.with(token, Inlet::resume),
                Command::Flush(token) => self.with(token, |inlet, _| inlet.send()),
                Command::Close(token) => self.with(token, |inlet, _| inlet.end(Reason::Local)),
                Command::Finish(token) => self.with(token, Inlet::finish),
                Command::Stop => self.is_over = true,
            }
        }
        are_there
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
        self.is_unsteady |= std::mem::take(&mut inlet.is_unsteady);
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
