//! Many members on one reactor, each with an identity and a connection of its own: a node lets each identity in once. They
//! are peers as every node has them, thread and all, under a controller that only watches them come and go.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::Config;
use crate::controller::load::Ask;
use crate::controller::settings::{times, window};
use crate::peer::main_loop::{Checked, spawn};
use crate::peer::requests::{Question, Requests};
use crate::peer::waiter::{Ending, Mailbox, Waiter};
use crate::peer::{Budget, Gauge, Order, Surroundings};
use crate::protocol::discovery::agreement::Claim;
use crate::protocol::hash::Hash;
use crate::protocol::heartbeat::Side;
use crate::protocol::identity::{Label, PeerId};
use crate::protocol::list::List;
use crate::protocol::message::Purpose;
use crate::protocol::peer_state::{Command, Greeting, PeerEvent};
use crate::protocol::reason::Reason;
use crate::protocol::record::{NetworkId, Reach, Record, RecordBody, RecordState, Signer};
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::service::ServiceName;
use crate::protocol::time::Time;
use crate::reactor::{Reactor, ReactorSettings};
use crate::secure::credentials::Credentials;
use crate::secure::door::Door;
use crate::secure::keys::Identity;
use crate::secure::network_key::{KeyRing, NetworkKey};
use crate::secure::recent::Recent;
use crate::services::Services;

/// For a connection, and for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events that wait to be sorted: then peers wait.
const MAX_EVENTS: usize = 1024;

/// Those who come.
pub(super) struct Crowd {
    // First: what runs ends before what it talks to.
    around: Surroundings,
    sorter: Option<JoinHandle<()>>,
    awaited: Awaited,
    /// Ends its thread when it goes.
    _reactor: Reactor,
    network: NetworkId,
    next: AtomicU64,
}

/// Who waits for which peer.
type Awaited = Arc<Mutex<HashMap<PeerId, Sender<Result<(), Reason>>>>>;

/// An identity.
pub(super) struct Member {
    credentials: Arc<Credentials>,
    record: Arc<Record>,
}

/// A member that is connected.
pub(super) struct Caller {
    pub(super) requests: Arc<Requests>,
    orders: Arc<Sender<Order>>,
    told: Receiver<Result<(), Reason>>,
}

impl Crowd {
    /// Nobody yet; with the bounds of this configuration, and in its network.
    pub(super) fn gather(config: &Config) -> io::Result<Self> {
        let clock = Clock::start();
        let wakeups = Arc::new(AtomicU64::new(0));
        let frame_timeout = config.limits.frame_timeout;
        let reactor = Reactor::start(ReactorSettings { frame_timeout, wakeups: Arc::clone(&wakeups) })?;
        let network = NetworkId::of(config.network.name.as_str());
        let (events, coming) = bounded(MAX_EVENTS);
        let member = Credentials::new(Identity::generate()?, network)?;
        let around = Surroundings {
            clock,
            crew: Arc::default(),
            reactor: reactor.handle(),
            door: Arc::new(Door::new(network)),
            credentials: Arc::new(member),
            keys: Arc::new(KeyRing::new(vec![NetworkKey::none()])),
            seen: Arc::new(Recent::new(1)),
            claim: Arc::new(Mutex::new(nothing())),
            budget: Arc::new(Budget::new(config.limits.queued_total())),
            max_queued: config.limits.queued(),
            window: window(config),
            patience: frame_timeout,
            services: Arc::new(Services::new(1, 1, config.limits.max_payload)),
            // Nobody closes what is measured.
            idle_close: Duration::from_secs(3600),
            times: times(config),
            wakeups,
            answered: Arc::default(),
            events,
        };
        let awaited = Awaited::default();
        let sorted = Arc::clone(&awaited);
        let sorter = thread::Builder::new().name("bench-events".to_owned()).spawn(move || sort(&coming, &sorted))?;
        Ok(Self { around, sorter: Some(sorter), awaited, _reactor: reactor, network, next: AtomicU64::new(1) })
    }

    /// New identities.
    pub(super) fn members(&self, count: usize) -> io::Result<Vec<Member>> {
        (0..count).map(|number| self.member(number)).collect()
    }

    fn member(&self, number: usize) -> io::Result<Member> {
        let identity = Identity::generate()?;
        let wall_ms = self.around.clock.now().wall_ms;
        let body = RecordBody {
            network: self.network,
            id: identity.id(),
            version: wall_ms,
            issued: u32::try_from(wall_ms / 3_600_000).unwrap_or(u32::MAX),
            incarnation: 1,
            state: RecordState::Up,
            // Nobody is to dial it.
            reach: Reach::Unproven,
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            label: Label::from_lossy(&format!("bench-{number}")),
            tags: List::new(),
            edges: List::new(),
            round_trips: List::new(),
        };
        let record = Record::signed(body, &identity).shared();
        Ok(Member { credentials: Arc::new(Credentials::new(identity, self.network)?), record })
    }

    /// Connects, as the tail of an edge for applications.
    pub(super) fn dial(&self, member: &Member, address: SocketAddr) -> Result<Caller, Reason> {
        let id = PeerId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, orders) = unbounded();
        let sender = Arc::new(sender);
        let requests = Arc::new(Requests::new(self.around.line(&sender)));
        let (tell, told) = bounded(2);
        self.awaited.lock().insert(id, tell);
        let around = Arc::new(Surroundings { credentials: Arc::clone(&member.credentials), ..self.around.clone() });
        spawn(id, Side::Tail, None, orders, Arc::new(Gauge::default()), Arc::clone(&requests), around)
            .map_err(|_| Reason::Internal)?;
        let greeting = Greeting {
            address,
            record: Arc::clone(&member.record),
            clock_ms: self.around.clock.now().wall_ms,
            purpose: Purpose::Application,
            first_key: false,
        };
        let caller = Caller { requests, orders: sender, told };
        caller.order(Command::Connect(Box::new(greeting)));
        match caller.told.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(caller),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(Reason::NoAnswer),
        }
    }

    /// Has one of them ask without waiting, as often as it is called.
    pub(super) fn asking(&self, caller: &Caller, service: &ServiceName, payload: Vec<u8>) -> Ask {
        let (clock, requests, service) = (self.around.clock, Arc::clone(&caller.requests), *service);
        Arc::new(move |done| {
            let asked = requests.ask(question(clock, &service, &payload), Waiter::CallBack(done), None);
            asked.map(drop).map_err(|(error, _)| error)
        })
    }

    /// Asks and waits.
    pub(super) fn ask(&self, caller: &Caller, service: &ServiceName, payload: &[u8]) -> Ending {
        let mailbox = Arc::new(Mailbox::default());
        let (waiter, deadline) = (Waiter::Mailbox(Arc::clone(&mailbox)), Instant::now() + PATIENCE);
        let question = question(self.around.clock, service, payload);
        caller.requests.ask(question, waiter, Some(deadline)).map_err(|(error, _)| error)?;
        mailbox.wait(deadline).unwrap_or(Err(RequestError::TimedOut { sent: true }))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // All callers have left: the last sender of events goes with these.
        self.around.crew.end();
        let (nowhere, _) = bounded(1);
        self.around.events = nowhere;
        if let Some(sorter) = self.sorter.take() {
            let _ = sorter.join();
        }
    }
}

impl Caller {
    /// Leaves, and waits until that is done.
    pub(super) fn leave(self) {
        self.order(Command::Close(Reason::Idle));
        let _ = self.told.recv_timeout(PATIENCE);
    }

    fn order(&self, command: Command) {
        let _ = self.orders.send(Order::Command(Box::new(command)));
    }
}

fn question<'a>(clock: Clock, service: &'a ServiceName, payload: &'a [u8]) -> Question<'a> {
    Question { service, payload, deadline: clock.time() + PATIENCE, depth: 0 }
}

/// Until nobody is left.
fn sort(events: &Receiver<(PeerId, Checked)>, awaited: &Awaited) {
    for (peer, event) in events {
        match event {
            PeerEvent::Welcome { .. } => {
                let tell = awaited.lock().get(&peer).cloned();
                let _ = tell.map(|tell| tell.try_send(Ok(())));
            }
            PeerEvent::Closed { reason, .. } => {
                let tell = awaited.lock().remove(&peer);
                let _ = tell.map(|tell| tell.try_send(Err(reason)));
            }
            _ => {}
        }
    }
}

/// What somebody states who knows nothing.
fn nothing() -> Claim {
    Claim { digest: Hash([0; 32]), ages: Vec::new(), at: Time::ZERO, expires: Time::ZERO }
}
