//! A peer's main loop: `select!` over commands, messages and the next deadline, around the pure state machine.
//!
//! **Up may wait, down never waits.** While the controller is too busy to take this peer's events, the loop goes on taking
//! commands, but takes no more messages: so the reactor stops reading this socket, and the remote has to wait.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Select, Sender};
use parking_lot::Mutex;

use super::crew::{Part, Stage};
use super::gauge::Gauge;
use super::greeting::{Greeted, Shaking};
use super::queues::Class;
use super::receiver::{FromWire, Handover, Inward, line};
use super::requests::Requests;
use super::sink::{Sink, SinkLimits};
use super::surroundings::{MAX_COMMANDS, Order, Surroundings};
use crate::protocol::codec::{Message, decode_frame, encode_frame, messages};
use crate::protocol::heartbeat::{Answers, Side};
use crate::protocol::identity::PeerId;
use crate::protocol::message::{Purpose, TailMessage};
use crate::protocol::node::Event;
use crate::protocol::peer_state::{Action, Command, Input, Peer, PeerEvent, PeerState};
use crate::protocol::reason::Reason;
use crate::protocol::record::{Item, Record};
use crate::protocol::time::Time;
use crate::reactor::{Connection, Stream, dial_reason};
use crate::secure::session::Opening;
use crate::services::Caller;

/// Events that one batch of messages may leave waiting for the controller before no more messages are taken.
const MAX_WAITING_EVENTS: usize = 1;

/// An event of a peer, signed parts checked.
pub type Checked = Event;

/// Gives a peer to a thread; it does nothing before its first command.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(
    id: PeerId,
    side: Side,
    stream: Option<Stream>,
    orders: Receiver<Order>,
    gauge: Arc<Gauge>,
    requests: Arc<Requests>,
    around: Arc<Surroundings>,
) -> io::Result<()> {
    let crew = Arc::clone(&around.crew);
    // Boxed, like some calls not inlined, to stay off the stack on the way to the deepest call (a signature): it is 16 KiB
    // deep so, four pages and not five.
    let main_loop = Box::new(MainLoop {
        id,
        peer: Peer::new(side, around.times),
        side,
        stream,
        orders,
        gauge,
        requests,
        link: None,
        waiting: VecDeque::new(),
        heard: Time::ZERO,
        edge_since: Time::ZERO,
        settles_at: None,
        parting: None,
        around,
    });
    crew.take_on(Stage::Greeting, id, main_loop.part(MainLoop::greet)).map_err(|(_, error)| error)
}

/// Runs a peer's loop. One that panics costs its own peer and nothing else: the controller is told that it is over.
pub fn contain(id: PeerId, events: &Sender<(PeerId, Checked)>, run: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        log::error!("peer {id}: its thread failed; the peer is dropped");
        // If the controller is gone, nobody is left to be told.
        let _ = events.send((id, PeerEvent::Closed { reason: Reason::Internal, by_remote: false }));
    }
}

/// The connection's two halves, once there is one.
struct Link {
    sink: Arc<Sink>,
    messages: Receiver<FromWire>,
    open: Arc<AtomicBool>,
    shaking: Shaking,
    /// The session's receiving half, until it can be handed over; and the raw frames taken so far.
    opening: Option<Opening>,
    taken: u64,
    handover: Arc<Mutex<Handover>>,
    /// What it had taken when it was last due and took too little.
    bytes_out: u64,
}

pub(super) struct MainLoop {
    id: PeerId,
    pub(super) peer: Peer,
    pub(super) side: Side,
    stream: Option<Stream>,
    orders: Receiver<Order>,
    gauge: Arc<Gauge>,
    pub(super) requests: Arc<Requests>,
    link: Option<Link>,
    pub(super) waiting: VecDeque<Checked>,
    /// When requests were last known to have shown life.
    pub(super) heard: Time,
    pub(super) edge_since: Time,
    /// When an edge is to leave the thread that made it, until it has.
    pub(super) settles_at: Option<Time>,
    /// It is to be closed when nothing is owed any more, or then at the latest.
    pub(super) parting: Option<(Reason, Time)>,
    pub(super) around: Arc<Surroundings>,
}

/// What the `select!` found.
enum Found {
    Order(Option<Order>),
    Message(Option<FromWire>),
    Sent(bool),
    Nothing,
}

impl MainLoop {
    /// A part of its life, for a thread to play.
    fn part(self: Box<Self>, play: fn(Box<Self>)) -> Part {
        let (id, around) = (self.id, Arc::clone(&self.around));
        Box::new(move || contain(id, &around.events, || play(self)))
    }

    /// Until it is an edge that stays, which lives on elsewhere: see [`crew`](super::crew).
    fn greet(mut self: Box<Self>) {
        while !self.is_over() && self.settles_at.is_none_or(|then| then > self.around.clock.time()) {
            if !self.turn() {
                return;
            }
        }
        if self.is_over() {
            return self.end();
        }
        self.settles_at = None;
        let (crew, id) = (Arc::clone(&self.around.crew), self.id);
        if let Err((part, error)) = crew.take_on(Stage::Keeping, id, self.part(Self::keep)) {
            log::debug!("peer {id} stays where it is, for want of a thread: {error}");
            part();
        }
    }

    /// As an edge.
    fn keep(mut self: Box<Self>) {
        while !self.is_over() {
            if !self.turn() {
                return;
            }
        }
        self.end();
    }

    /// Waits for something, and does what follows; false once nobody is there whom events could be told.
    fn turn(&mut self) -> bool {
        let found = self.wait();
        self.around.wakeups.fetch_add(1, Ordering::Relaxed);
        match found {
            Found::Order(Some(order)) => self.obey(order),
            // The controller has let go of this peer: it is behind, or the node is gone.
            Found::Order(None) => self.handle(Input::Command(Command::Close(Reason::Overloaded))),
            Found::Message(message) => self.message(message),
            Found::Sent(true) => drop(self.waiting.pop_front()),
            Found::Nothing => {}
            Found::Sent(false) => return false,
        }
        self.drain();
        self.stalled();
        self.look_after_requests();
        self.handle(Input::Tick);
        self.flush();
        true
    }

    /// The last events, the end among them.
    fn end(mut self: Box<Self>) {
        for event in std::mem::take(&mut self.waiting) {
            if self.around.events.send((self.id, event)).is_err() {
                break;
            }
        }
    }

    /// A remote that does not take its answers is not read either: when it would be late, whether it moves is looked at.
    #[inline(never)]
    fn stalled(&mut self) {
        let now = self.around.clock.time();
        let is_due = self.peer.deadline().is_some_and(|deadline| deadline <= now);
        if let Some(link) = self.link.as_mut().filter(|link| is_due && self.side == Side::Head && link.sink.is_high()) {
            let bytes_out = link.sink.connection().traffic().counts().bytes_out;
            let moves = std::mem::replace(&mut link.bytes_out, bytes_out) != bytes_out;
            self.handle(Input::Stalled(moves));
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.peer.state(), PeerState::Closed(_))
    }

    #[inline(never)]
    fn wait(&self) -> Found {
        let mut select = Select::new();
        let orders = select.recv(&self.orders);
        let sent = (!self.waiting.is_empty()).then(|| select.send(&self.around.events));
        let link = self.link.as_ref().filter(|_| self.waiting.len() < MAX_WAITING_EVENTS);
        let messages = link.map(|link| select.recv(&link.messages));
        let found = match self.requests.sleeps_until(self.deadline()) {
            Some(deadline) => select.select_timeout(self.around.clock.until(deadline)).ok(),
            None => Some(select.select()),
        };
        match (found, link) {
            (Some(found), _) if found.index() == orders => Found::Order(found.recv(&self.orders).ok()),
            (Some(found), Some(link)) if Some(found.index()) == messages => {
                Found::Message(found.recv(&link.messages).ok())
            }
            (Some(found), _) if Some(found.index()) == sent => match self.waiting.front() {
                Some(event) => Found::Sent(found.send(&self.around.events, (self.id, event.clone())).is_ok()),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    /// Takes what else is there, so that one flush serves it all.
    #[inline(never)]
    fn drain(&mut self) {
        self.offer();
        for _ in 0..MAX_COMMANDS {
            let Ok(order) = self.orders.try_recv() else { break };
            self.obey(order);
        }
        while self.waiting.len() < MAX_WAITING_EVENTS && !self.is_over() {
            let Some(Ok(message)) = self.link.as_ref().map(|link| link.messages.try_recv()) else { break };
            self.message(Some(message));
            self.offer();
        }
    }

    /// Hands events up without waiting, in order.
    #[inline(never)]
    fn offer(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            if let Err(refused) = self.around.events.try_send((self.id, event)) {
                return self.waiting.push_front(refused.into_inner().1);
            }
        }
        // Not kept: events are large, and most peers idle.
        self.waiting = VecDeque::new();
    }

    fn message(&mut self, message: Option<FromWire>) {
        if let Some(link) = &self.link {
            link.sink.connection().resume();
        }
        match message {
            Some(FromWire::Connected) => self.handle(Input::Connected),
            Some(FromWire::Preamble(preamble)) => {
                if let Some(link) = &mut self.link {
                    link.shaking = Shaking::accepted(preamble);
                }
            }
            Some(FromWire::Raw(frames)) => self.raw(frames),
            Some(FromWire::Messages(at, inputs)) => {
                for input in inputs {
                    self.handle_at(at, input);
                }
            }
            Some(FromWire::Ended(reason)) => {
                if let Some(link) = &self.link
                    && let Some(key) = link.shaking.unanswered()
                {
                    self.around.keys.unanswered(link.sink.connection().peer_addr(), key);
                }
                self.handle(Input::Ended(reason));
            }
            None => self.handle(Input::Ended(Reason::Leaving)),
        }
    }

    /// Frames that came before the session was handed over: of the handshake, or already sealed.
    fn raw(&mut self, frames: Vec<Vec<u8>>) {
        for frame in frames {
            if self.is_over() {
                return;
            }
            match self.inputs_of(&frame) {
                Ok(inputs) => inputs.into_iter().for_each(|input| self.handle(input)),
                Err(reason) => return self.handle(Input::Ended(reason)),
            }
        }
        if let Some(link) = &mut self.link
            && let Some(opening) = link.opening.take()
        {
            link.opening = link.handover.lock().offer(link.taken, opening);
        }
    }

    /// What such a frame brings. Not inlined: see [`spawn`].
    #[inline(never)]
    fn inputs_of(&mut self, frame: &[u8]) -> Result<Vec<Input>, Reason> {
        let Some(link) = &mut self.link else { return Ok(Vec::new()) };
        link.taken += 1;
        if let Some(opening) = &mut link.opening {
            let (mut plaintext, mut inputs) = (Vec::new(), Vec::new());
            opening.open(frame, &mut plaintext)?;
            messages(&plaintext, |message| {
                inputs.push(match self.side {
                    Side::Head => Input::Request { message: decode_frame(message)?, dated: None },
                    Side::Tail => Input::Answer(decode_frame(message)?),
                });
                Ok(())
            })?;
            return Ok(inputs);
        }
        let Greeted { send, secured } = link.shaking.take(&self.around, frame)?;
        if let Some(bytes) = send {
            link.sink.queue_in_the_clear(bytes)?;
        }
        if let Some(reason) = link.shaking.refusal() {
            return Err(reason);
        }
        let Some(secured) = secured else { return Ok(Vec::new()) };
        link.opening = Some(secured.opening);
        link.sink.secure(secured.sealing);
        if self.side == Side::Tail {
            self.around.keys.answered(link.sink.connection().peer_addr(), secured.key);
        }
        Ok(vec![Input::Secured(secured.remote, secured.key)])
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.handle_at(self.around.clock.time(), input);
    }

    fn handle_at(&mut self, now: Time, input: Input) {
        let adopted = !matches!(input, Input::Command(Command::Accept)) || self.adopt();
        // Seldom more; see `report` too.
        let mut actions = Vec::with_capacity(2);
        let was_open = !self.is_over();
        self.peer.handle(now, input, &mut actions);
        if !adopted {
            // The remote has gone before it was taken in.
            self.peer.handle(now, Input::Ended(Reason::Reset), &mut actions);
        }
        let was_over = self.is_over();
        for action in actions {
            // What fails after the end (a goodbye to somebody who does not read) changes nothing: the rest must be done.
            if let Err(reason) = self.act(action)
                && !was_over
            {
                return self.handle_at(now, Input::Ended(reason));
            }
        }
        let outstanding = match self.peer.state() {
            PeerState::Established { heartbeat, .. } => heartbeat.outstanding_since(),
            _ => None,
        };
        self.gauge.outstanding_since.store(outstanding.map_or(0, |since| since.0), Ordering::Relaxed);
        if let (true, PeerState::Closed(reason)) = (was_open, self.peer.state()) {
            self.requests.end(*reason);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Reason> {
        match action {
            Action::Dial(address) => {
                let connection = self.around.reactor.dial(address).map_err(|error| dial_reason(&error))?;
                self.attach(connection);
                Ok(())
            }
            Action::Secure { purpose, first_key } => {
                let Some(link) = &mut self.link else { return Ok(()) };
                let address = (!first_key).then(|| link.sink.connection().peer_addr());
                let (shaking, bytes) = Shaking::dial(&self.around, address, purpose)?;
                link.shaking = shaking;
                link.sink.queue_in_the_clear(bytes)
            }
            Action::Issue(message) => self.send(Class::of_request(&message), &message),
            Action::Answer(message) => self.send(Class::of_answer(&message), &message),
            Action::Beat { seq, echo } => {
                self.gauge.beats.fetch_add(1, Ordering::Relaxed);
                let statement = self.around.claim.lock().statement(self.around.clock.time());
                self.send(Class::Control, &TailMessage::Heartbeat { seq, statement, echo })
            }
            Action::Open => {
                if let Some(link) = &self.link {
                    link.open.store(true, Ordering::Release);
                }
                self.begin();
                if self.peer.purpose() != Purpose::Probe {
                    self.requests.open_up();
                }
                Ok(())
            }
            Action::Report(event) => self.report(event),
            Action::Shut => {
                if let Some(link) = &self.link {
                    let is_told = !link.sink.is_empty() || link.sink.connection().traffic().counts().bytes_out > 0;
                    // Who was told nothing has nothing to read to its end: a stranger's socket is not kept for it.
                    if self.side == Side::Tail || is_told { link.sink.finish() } else { link.sink.connection().close() }
                }
                Ok(())
            }
        }
    }

    /// Checks what is signed, and puts the event in line for the controller.
    fn report(&mut self, event: PeerEvent<Arc<Record>, Item>) -> Result<(), Reason> {
        let door = &self.around.door;
        let checked =
            event.check(|said| door.record(said), |said| door.item(said), |nonce, said| door.testimony(nonce, said))?;
        if let PeerEvent::Hello { record, .. } | PeerEvent::Welcome { record, .. } = &checked {
            self.requests.meet(Caller { id: record.body.id, label: record.body.label.clone() });
        }
        if self.waiting.capacity() == 0 {
            // Room for one: what this thread frees stays its own, and left to itself the queue begins with four.
            self.waiting.reserve_exact(1);
        }
        self.waiting.push_back(checked);
        Ok(())
    }

    fn send<M: Message>(&self, class: Class, message: &M) -> Result<(), Reason> {
        self.queue(class, encode_frame(message))
    }

    fn queue(&self, class: Class, bytes: Vec<u8>) -> Result<(), Reason> {
        match &self.link {
            Some(link) => link.sink.queue(class, bytes),
            None => Ok(()),
        }
    }

    fn flush(&self) {
        if let Some(link) = &self.link {
            // A broken sink is told by the reactor, with the reason.
            let _ = link.sink.flush();
        }
    }

    fn adopt(&mut self) -> bool {
        let connection = self.stream.take().and_then(|stream| self.around.reactor.adopt(stream).ok());
        connection.map(|connection| self.attach(connection)).is_some()
    }

    fn attach(&mut self, connection: Connection) {
        let (sender, messages) = line();
        let limits = SinkLimits { max_queued: self.around.max_queued, max_bodies: self.around.window.bytes };
        let sink = Arc::new(Sink::new(connection.clone(), limits, Arc::clone(&self.around.budget)));
        let (open, handover) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Handover::default())));
        *self.gauge.sink.lock() = Some(Arc::clone(&sink));
        self.requests.attach(&sink);
        let inward = Inward {
            side: self.side,
            clock: self.around.clock,
            claim: Arc::clone(&self.around.claim),
            answered: Arc::clone(&self.around.answered),
            sink: Arc::clone(&sink),
            requests: Arc::clone(&self.requests),
            messages: sender,
            open: Arc::clone(&open),
            answers: Answers::default(),
            handover: Arc::clone(&handover),
            opening: None,
            preamble: None,
            raw: Vec::new(),
            batch: Vec::new(),
            at: None,
            has_parted: false,
            was_load: false,
        };
        let shaking = Shaking::default();
        self.link = Some(Link { sink, messages, open, shaking, opening: None, taken: 0, handover, bytes_out: 0 });
        self.around.reactor.register(&connection, Box::new(inward));
    }
}

impl Drop for MainLoop {
    /// However the loop ended, the socket does not outlive it, and nobody waits for answers over it.
    fn drop(&mut self) {
        self.requests.end(Reason::Internal);
        if let Some(link) = &self.link
            && !self.is_over()
        {
            link.sink.connection().close();
        }
    }
}
