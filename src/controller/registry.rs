//! The registry: the node's thinking, and the handles of its peers, under one lock.
//!
//! [`Registry::think`] is the only way to the thinking. It holds the lock for one pure call, publishes in the same step
//! what the node may now state of its view, and does afterwards what the call wanted done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use parking_lot::Mutex;

use super::alarms::{Alarm, Alarms};
use super::lines::{Answer, Call, CountAnswer, End, IdleCall, Lines, ReachAnswer, StatusCall, Way};
use super::terse_log::TerseLog;
use crate::peer::main_loop::spawn;
use crate::peer::requests::Requests;
use crate::peer::{Gauge, MAX_COMMANDS, Order, Surroundings};
use crate::protocol::address::HostPort;
use crate::protocol::census_report::CensusReport;
use crate::protocol::heartbeat::Side;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::node::{Action, Input, Link, Node, Notice, Outcome, Ticket};
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::testimony::{Mode, Nonce};
use crate::protocol::time::{Now, Time};
use crate::reactor::{Counts, Stream};

/// Notices that a user's program may leave unread; more are dropped and counted.
const MAX_NOTICES: usize = 256;
/// As many closed peers' traffic as the node remembers closed peers.
const MAX_CLOSED: usize = 256;

/// A peer as the controller holds it.
struct Handle {
    /// `None` once the peer was let go: it then closes.
    orders: Option<Arc<Sender<Order>>>,
    gauge: Arc<Gauge>,
    requests: Arc<Requests>,
}

struct Inside {
    node: Node,
    peers: BTreeMap<PeerId, Handle>,
    closed: VecDeque<(PeerId, Counts)>,
    beats_of_closed: u64,
    tickets: BTreeMap<Ticket, Answer>,
    censuses: BTreeMap<Ticket, CountAnswer>,
    reaches: BTreeMap<Ticket, ReachAnswer>,
    next_ticket: Ticket,
    /// Until when the two ticking loops sleep; `None` is for ever.
    idle_sleeps: Option<Time>,
    discovery_sleeps: Option<Time>,
    memory_stamp: u64,
    farewell: Option<Sender<()>>,
    /// Programs that wait for an agreement of so many: each a thread that waits.
    waiting: Vec<(usize, Sender<()>)>,
}

/// See the module.
pub struct Registry {
    /// What every peer is given.
    pub around: Arc<Surroundings>,
    /// What is left to a moment.
    pub alarms: Alarms,
    lines: Lines,
    inside: Mutex<Inside>,
    subscribers: Mutex<Vec<Sender<Notice>>>,
    terse_log: Mutex<TerseLog>,
}

/// What is to be done once the lock is free.
#[derive(Default)]
struct Afterwards {
    commands: Vec<(PeerId, Arc<Sender<Order>>, Command)>,
    dials: Vec<(PeerId, Command)>,
    resolve: Vec<HostPort>,
    answers: Vec<(Answer, Outcome)>,
    counted: Vec<(CountAnswer, Result<Box<CensusReport>, Reason>)>,
    reached: Vec<(ReachAnswer, Result<Way, Reason>)>,
    notices: Vec<Notice>,
    fatal: Option<Reason>,
    farewell: Option<Sender<()>>,
    agreed: Vec<Sender<()>>,
    wake_idle: bool,
    wake_discovery: bool,
    save: bool,
}

impl Registry {
    /// Around a node that has not begun.
    pub fn new(node: Node, around: Arc<Surroundings>, lines: Lines) -> Self {
        let inside = Inside {
            node,
            peers: BTreeMap::new(),
            closed: VecDeque::new(),
            beats_of_closed: 0,
            tickets: BTreeMap::new(),
            censuses: BTreeMap::new(),
            reaches: BTreeMap::new(),
            next_ticket: 1,
            idle_sleeps: Some(Time::ZERO),
            discovery_sleeps: Some(Time::ZERO),
            memory_stamp: 0,
            farewell: None,
            waiting: Vec::new(),
        };
        let (alarms, inside) = (Alarms::default(), Mutex::new(inside));
        Self { around, alarms, lines, inside, subscribers: Mutex::default(), terse_log: Mutex::default() }
    }

    /// The loops' channels.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// One pure call under the lock, then what it wanted done.
    pub fn think<T>(&self, call: impl FnOnce(&mut Node, Now, &mut Vec<Action>) -> T) -> T {
        let mut actions = Vec::new();
        let mut inside = self.inside.lock();
        let now = self.around.clock.now();
        let result = call(&mut inside.node, now, &mut actions);
        *self.around.claim.lock() = inside.node.claim(now);
        let afterwards = inside.sort(actions, now);
        drop(inside);
        self.carry_out(afterwards);
        result
    }

    /// One input for the node.
    pub fn handle(&self, input: Input) {
        self.think(|node, now, actions| node.handle(now, input, actions));
    }

    /// How often its view has changed.
    pub fn changes(&self) -> u64 {
        self.inside.lock().node.view().changes()
    }

    /// A look at the node that changes nothing of its thinking.
    pub fn read<T>(&self, look: impl FnOnce(&mut Node, Now) -> T) -> T {
        let mut inside = self.inside.lock();
        let now = self.around.clock.now();
        look(&mut inside.node, now)
    }

    /// A user's `connect`: `answer` is called once it is known how it ended.
    pub fn connect(&self, address: HostPort, answer: Answer) {
        let ticket = {
            let mut inside = self.inside.lock();
            let ticket = inside.next_ticket;
            inside.next_ticket += 1;
            inside.tickets.insert(ticket, answer);
            ticket
        };
        self.handle(Input::Connect(address, ticket));
    }

    /// A user's census: `answer` is called once it is over.
    pub fn count(&self, nonce: Nonce, mode: Mode, answer: CountAnswer) {
        let ticket = {
            let mut inside = self.inside.lock();
            let ticket = inside.next_ticket;
            inside.next_ticket += 1;
            inside.censuses.insert(ticket, answer);
            ticket
        };
        self.handle(Input::Census(nonce, mode, ticket));
    }

    /// Over which peer a node can be asked now, if there is one.
    pub fn way_to(&self, id: &ControllerId) -> Option<Way> {
        let inside = self.inside.lock();
        let peer = inside.node.way_to(id, None)?;
        let requests = &inside.peers.get(&peer)?.requests;
        (!requests.is_over()).then(|| (peer, Arc::clone(requests)))
    }

    /// A program wants to ask a node something; of no use to it is this peer, which may be there still.
    pub fn reach(&self, id: ControllerId, stale: Option<PeerId>, answer: ReachAnswer) {
        let (ticket, idlest) = {
            let mut inside = self.inside.lock();
            let ticket = inside.next_ticket;
            inside.next_ticket += 1;
            inside.reaches.insert(ticket, answer);
            (ticket, inside.idlest())
        };
        self.handle(Input::Reach { id, stale, idlest, ticket });
    }

    /// Does something at that moment, on ctl-idle; it must not wait for anything.
    pub fn at(&self, moment: Instant, call: impl FnOnce() + Send + 'static) -> Alarm {
        let (alarm, is_first) = self.alarms.set(moment, Box::new(call));
        if is_first {
            // A loop that has no place for one more call is about to look.
            let _ = self.lines.idle.try_send(IdleCall::Wake);
        }
        alarm
    }

    /// The end: whoever is still to be called is not, and what their calls hold is let go. They may hold this registry.
    pub fn forget_callers(&self) {
        self.alarms.clear();
        let reaches = std::mem::take(&mut self.inside.lock().reaches);
        drop(reaches);
    }

    /// Notices from now on.
    pub fn subscribe(&self) -> Receiver<Notice> {
        let (sender, receiver) = bounded(MAX_NOTICES);
        self.subscribers.lock().push(sender);
        receiver
    }

    /// Takes note of until when ctl-idle sleeps, so that it is woken if something is due earlier.
    pub fn idle_sleeps_until(&self) -> Option<Time> {
        let mut inside = self.inside.lock();
        inside.idle_sleeps = inside.node.idle_due();
        inside.idle_sleeps
    }

    /// The same for ctl-discovery.
    pub fn discovery_sleeps_until(&self) -> Option<Time> {
        let mut inside = self.inside.lock();
        inside.discovery_sleeps = inside.node.discovery_due();
        inside.discovery_sleeps
    }

    /// Wants a word on `told` as soon as every neighbour has this node's farewell.
    pub fn await_farewell(&self, told: Sender<()>) {
        self.inside.lock().farewell = Some(told);
        self.think(|_, _, _| ());
    }

    /// Wants a word on `told` as soon as this node can show that so many live nodes, and no others, hold its view.
    pub fn await_agreement(&self, live: usize, told: Sender<()>) {
        self.inside.lock().waiting.push((live, told));
        self.think(|_, _, _| ());
    }

    /// Whoever waited has had enough of it, or has been told.
    pub fn await_no_more(&self, told: &Sender<()>) {
        self.inside.lock().waiting.retain(|(_, other)| !other.same_channel(told));
    }

    /// Starts a peer the node has admitted or wants dialled, and gives it its first command.
    pub fn start_peer(&self, peer: PeerId, side: Side, stream: Option<Stream>, first: Command) {
        // Unbounded in form; `send` holds it to `MAX_COMMANDS`. A bounded one would allocate all its slots for every peer.
        // This one has them by 31: of pointers, for with room for the longest command they would take 3.7 KiB of each peer.
        let (sender, orders) = unbounded();
        let sender = Arc::new(sender);
        let gauge = Arc::new(Gauge::default());
        let requests = Arc::new(Requests::new(self.around.line(&sender)));
        let handle =
            Handle { orders: Some(Arc::clone(&sender)), gauge: Arc::clone(&gauge), requests: Arc::clone(&requests) };
        self.inside.lock().peers.insert(peer, handle);
        match spawn(peer, side, stream, orders, gauge, requests, Arc::clone(&self.around)) {
            Ok(()) => _ = sender.send(Order::Command(Box::new(first))),
            Err(error) => {
                self.log_refusal(Reason::Internal, &format!("peer {peer}, for want of a thread ({error})"));
                self.inside.lock().peers.remove(&peer);
                self.think(|node, now, actions| node.not_started(now, peer, actions));
            }
        }
    }

    /// The last event of a peer is there: its handle goes, its traffic is remembered.
    pub fn part(&self, peer: PeerId) {
        let mut inside = self.inside.lock();
        let Some(handle) = inside.peers.remove(&peer) else { return };
        inside.beats_of_closed += handle.gauge.beats();
        if inside.closed.len() == MAX_CLOSED {
            inside.closed.pop_front();
        }
        inside.closed.push_back((peer, handle.gauge.traffic()));
    }

    /// Somebody was refused, or closed for cause: a line in the log, unless it has ten of that reason in this minute.
    pub fn log_refusal(&self, reason: Reason, whom: &str) {
        self.terse_log.lock().refusal(self.around.clock.time(), reason, whom);
    }

    /// What the log has not been told of minutes that are over.
    pub fn sum_up_log(&self) {
        self.terse_log.lock().sum_up(self.around.clock.time());
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.inside.lock().peers.len()
    }

    /// The gauges of the open peers, and the traffic of those that were closed last.
    pub fn gauges(&self) -> (BTreeMap<PeerId, Arc<Gauge>>, BTreeMap<PeerId, Counts>) {
        let inside = self.inside.lock();
        let open = inside.peers.iter().map(|(peer, handle)| (*peer, Arc::clone(&handle.gauge)));
        (open.collect(), inside.closed.iter().copied().collect())
    }

    /// Heartbeats this node has sent as a tail.
    pub fn beats(&self) -> u64 {
        let inside = self.inside.lock();
        inside.beats_of_closed + inside.peers.values().map(|handle| handle.gauge.beats()).sum::<u64>()
    }

    fn carry_out(&self, afterwards: Afterwards) {
        for (peer, line, command) in afterwards.commands {
            self.send(peer, &line, command);
        }
        for (peer, connect) in afterwards.dials {
            self.start_peer(peer, Side::Tail, None, connect);
        }
        for address in afterwards.resolve {
            if let Err(TrySendError::Full(Some(address))) = self.lines.resolver.try_send(Some(address)) {
                // Answered as not found: it has its backoff, and its turn comes again.
                let _ = self.lines.main.try_send(Call::Resolved(address, Vec::new()));
            }
        }
        for (answer, outcome) in afterwards.answers {
            answer(outcome);
        }
        for (answer, counted) in afterwards.counted {
            answer(counted);
        }
        for (answer, reached) in afterwards.reached {
            answer(reached);
        }
        self.tell(&afterwards.notices);
        if let Some(told) = afterwards.farewell {
            let _ = told.try_send(());
        }
        for told in afterwards.agreed {
            let _ = told.try_send(());
        }
        if let Some(reason) = afterwards.fatal {
            let _ = self.lines.end.try_send(End::Fatal(reason));
        }
        if afterwards.wake_idle {
            let _ = self.lines.idle.try_send(IdleCall::Wake);
        }
        if afterwards.wake_discovery {
            let _ = self.lines.discovery.try_send(true);
        }
        if afterwards.save && matches!(self.lines.status.try_send(StatusCall::Save), Err(TrySendError::Full(_))) {
            // Whatever happens next says it once more.
            self.inside.lock().memory_stamp = 0;
        }
    }

    /// Down never waits: a peer that is too far behind is let go, and closes.
    fn send(&self, peer: PeerId, line: &Sender<Order>, command: Command) {
        if line.len() < MAX_COMMANDS {
            // A peer that has just ended takes no commands.
            let _ = line.send(Order::Command(Box::new(command)));
            return;
        }
        let mut inside = self.inside.lock();
        if let Some(handle) = inside.peers.get_mut(&peer) {
            handle.orders = None;
            inside.node.count_dropped(Reason::Overloaded);
        }
    }

    /// Tells the user's program; what it leaves unread is dropped and counted, and who listens no more is forgotten.
    fn tell(&self, notices: &[Notice]) {
        let mut dropped = 0;
        for notice in notices {
            self.terse_log.lock().notice(self.around.clock.time(), notice);
            self.subscribers.lock().retain(|subscriber| match subscriber.try_send(notice.clone()) {
                Err(TrySendError::Disconnected(_)) => false,
                Err(TrySendError::Full(_)) => {
                    dropped += 1;
                    true
                }
                Ok(()) => true,
            });
        }
        for _ in 0..dropped {
            self.inside.lock().node.count_dropped(Reason::Overloaded);
        }
    }
}

impl Inside {
    /// Splits actions into what is to be done afterwards; needs the lock only for handles.
    fn sort(&mut self, actions: Vec<Action>, now: Now) -> Afterwards {
        let mut afterwards = Afterwards::default();
        for action in actions {
            match action {
                Action::Dial(peer, greeting) => afterwards.dials.push((peer, Command::Connect(greeting))),
                Action::Resolve(address) => afterwards.resolve.push(address),
                Action::Command(peer, command) => {
                    let line = self.peers.get(&peer).and_then(|handle| handle.orders.clone());
                    afterwards.commands.extend(line.map(|line| (peer, line, command)));
                }
                Action::Notify(notice) => afterwards.notices.push(notice),
                Action::Connected(ticket, outcome) => {
                    afterwards.answers.extend(self.tickets.remove(&ticket).map(|answer| (answer, outcome)));
                }
                Action::Counted(ticket, counted) => {
                    afterwards.counted.extend(self.censuses.remove(&ticket).map(|answer| (answer, counted)));
                }
                Action::Reached(ticket, reached) => {
                    let way = reached.and_then(|peer| {
                        let handle = self.peers.get(&peer).ok_or(Reason::Internal)?;
                        Ok((peer, Arc::clone(&handle.requests)))
                    });
                    afterwards.reached.extend(self.reaches.remove(&ticket).map(|answer| (answer, way)));
                }
                Action::Fatal(reason) => afterwards.fatal = Some(reason),
            }
        }
        self.plan(now, &mut afterwards);
        afterwards
    }

    /// Of the peers that applications asked for, the one that has been of no use for longest.
    fn idlest(&self) -> Option<PeerId> {
        let is_idle = |peer: &PeerId, handle: &Handle| {
            self.node.link(*peer).is_some_and(Link::is_for_applications) && handle.requests.open() == 0
        };
        let idle = self.peers.iter().filter(|(peer, handle)| is_idle(peer, handle));
        idle.min_by_key(|(_, handle)| handle.requests.asked_at()).map(|(peer, _)| *peer)
    }

    fn plan(&mut self, now: Now, afterwards: &mut Afterwards) {
        // A loop whose time has come is about to look by itself.
        let earlier = |due: Option<Time>, sleeps: Option<Time>| {
            due.is_some_and(|due| sleeps.is_none_or(|sleeps| due < sleeps && sleeps > now.mono))
        };
        if earlier(self.node.idle_due(), self.idle_sleeps) {
            self.idle_sleeps = self.node.idle_due();
            afterwards.wake_idle = true;
        }
        if earlier(self.node.discovery_due(), self.discovery_sleeps) {
            self.discovery_sleeps = self.node.discovery_due();
            afterwards.wake_discovery = true;
        }
        let stamp = self.node.memory_stamp();
        if stamp != self.memory_stamp {
            self.memory_stamp = stamp;
            afterwards.save = true;
        }
        if self.farewell.is_some() && self.node.farewell_delivered() {
            afterwards.farewell = self.farewell.take();
        }
        // Who agrees is reckoned only while somebody waits for just so many.
        let up = self.node.view().up_count();
        if self.waiting.iter().any(|(live, _)| *live == up) && self.node.agreement(now).is_unanimous() {
            let told = self.waiting.extract_if(.., |(live, _)| *live == up).map(|(_, told)| told);
            afterwards.agreed.extend(told);
        }
    }
}
