//! A running node: what a program holds, and all that the daemon uses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use super::access::{self, AccessError};
use super::asking::Asker;
use super::desk::NodeDesk;
use super::lines::{Call, End, IdleCall, Lines, StatusCall};
use super::loading::Loads;
use super::monitor_status::{self, About, MonitorStatus};
use super::registry::Registry;
use super::reload::{self, Reloaded};
use super::settings::{about, built_ins, settings, times, window};
use super::start_error::StartError;
use super::state_dir::StateDir;
use super::{allowance, built_in, configured};
use super::{counting, explain, listen, main_loop, monitor_idle, network_discovery, resolver, tagging, threads};
use crate::admin::api::AdminError;
use crate::admin::server::AdminServer;
use crate::admin::socket::prepare_directory;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::peer::Budget;
use crate::peer::Surroundings;
use crate::peer::main_loop::Checked;
use crate::protocol::address::HostPort;
use crate::protocol::explanation::WhyReport;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::node::{Input, Node as Thinking, Notice, Outcome};
use crate::protocol::reason::Reason;
use crate::protocol::record::Signer;
use crate::protocol::report::{
    BanReport, BansReport, IdentityReport, NetworkReport, PeersReport, Report, SCHEMA, UnbanReport,
};
use crate::protocol::tags::Tags;
use crate::protocol::testimony::Mode;
use crate::reactor::{Acceptor, PollWaker, Reactor, ReactorSettings};
use crate::secure::credentials::Credentials;
use crate::secure::door::Door;
use crate::secure::network_key::{KeyRing, NetworkKey, read_key_file};
use crate::secure::recent::Recent;
use crate::services::Services;

/// Events of all peers that wait for ctl-main; then peers wait, their sockets are not read, and remotes wait.
const MAX_EVENTS: usize = 256;
/// Calls that wait for a loop: users' verbs and wake-ups, which share one place.
const MAX_CALLS: usize = 64;
/// First messages of handshakes that are remembered, so that a replayed one is not answered. They come from holders of the
/// network's key only, so strangers cannot push others out.
const MAX_SEEN: usize = 4096;
/// For the neighbours' acknowledgements of a farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// For the peers to say goodbye and end.
const GOODBYES: Duration = Duration::from_millis(300);
/// For the resolver, whose question to the system cannot be taken back.
const RESOLVER: Duration = Duration::from_millis(50);

/// A node of the network, running in this process on threads of its own.
///
/// Dropping it takes leave of the network and joins its threads, as [`Node::shutdown`] does.
pub struct Node {
    pub(super) registry: Arc<Registry>,
    pub(super) asker: Asker,
    loads: Loads,
    reactor: Option<Reactor>,
    admin: Option<AdminServer>,
    acceptor: PollWaker,
    threads: Vec<JoinHandle<()>>,
    main: Option<JoinHandle<()>>,
    resolver: Option<(JoinHandle<()>, Receiver<()>)>,
    ended: Receiver<End>,
    id: ControllerId,
    pub(super) about: Arc<About>,
    /// What it runs with, as far as that can change.
    config: Mutex<Config>,
    is_over: bool,
}

/// What the loops wait on, made before they start.
struct Inlets {
    events: Receiver<(PeerId, Checked)>,
    main: Receiver<Call>,
    idle: Receiver<IdleCall>,
    discovery: Receiver<bool>,
    status: Receiver<StatusCall>,
    resolver: Receiver<Option<HostPort>>,
}

impl Node {
    /// Starts a node: opens its state directory, listens, and begins to look for others.
    ///
    /// # Errors
    /// [`StartError`], one line with its cure; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let keys = network_keys(&config)?;
        prepare_directory(&config.node.state_dir)?;
        let state = StateDir::open(&config.node.state_dir)?;
        let identity = state.identity()?;
        let (memory, damage) = state.load();
        let listened = Acceptor::bind(&config.listen.addresses);
        let acceptor = listened.map_err(|(address, error)| StartError::Listen(address, error))?;
        let clock = Clock::start();
        let wakeups = Arc::new(AtomicU64::new(0));
        let frame_timeout = config.limits.frame_timeout;
        let reactor = Reactor::start(ReactorSettings { frame_timeout, wakeups: Arc::clone(&wakeups) })?;
        let about = Arc::new(about(&config, acceptor.local_addrs())?);

        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| std::io::Error::other(error.to_string()))?;
        let settings = settings(&config, about.advertise);
        let id = identity.id();
        let network = settings.network;
        let credentials = Arc::new(Credentials::new(identity.clone(), network)?);
        let mut thinking = Thinking::new(settings, Box::new(identity), &memory, u64::from_le_bytes(seed), clock.now());
        if let Some(damage) = damage {
            log::warn!("{damage}");
            thinking.warn("known-addresses", Some(damage));
        }
        if let Some(lack) = allowance::lack(&config) {
            log::warn!("{lack}");
            thinking.warn("descriptors", Some(lack));
        }
        let services =
            Arc::new(Services::new(config.limits.workers, config.limits.max_calls, config.limits.max_payload));
        let lookout = reactor.handle();
        services.look_out(Box::new(move |is_done| lookout.watch(is_done)));
        let keys = KeyRing::new(keys);
        thinking.handle(clock.now(), Input::Keys(keys.marks()), &mut Vec::new());
        let (lines, inlets, ended, events) = channels();
        let end = lines.end.clone();
        reactor.on_failure(move || {
            let _ = end.try_send(End::Panicked("reactor"));
        });
        let around = Surroundings {
            clock,
            crew: Arc::default(),
            reactor: reactor.handle(),
            door: Arc::new(Door::new(network)),
            credentials,
            keys: Arc::new(keys),
            seen: Arc::new(Recent::new(MAX_SEEN)),
            claim: Arc::new(Mutex::new(thinking.claim(clock.now()))),
            budget: Arc::new(Budget::new(config.limits.queued_total())),
            max_queued: config.limits.queued(),
            window: window(&config),
            patience: frame_timeout,
            services: Arc::clone(&services),
            idle_close: config.requests.idle_close,
            times: times(&config),
            wakeups,
            answered: Arc::default(),
            events,
        };
        let registry = Arc::new(Registry::new(thinking, Arc::new(around), lines));
        let mut node = Self {
            asker: Asker::new(Arc::clone(&registry), id, config.node.label.clone()),
            registry,
            loads: Loads::default(),
            reactor: Some(reactor),
            admin: None,
            acceptor: acceptor.waker(),
            threads: Vec::new(),
            main: None,
            resolver: None,
            ended,
            id,
            about,
            config: Mutex::new(config.clone()),
            is_over: false,
        };
        // From here on dropping the node ends whatever has been started.
        let said = built_in::identity(id.hex(), node.about.label.clone());
        built_in::register(built_ins(&config), &node.registry, &said)
            .and_then(|()| configured::register(&config.services, &services))
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        let (loads, label) = (node.loads.clone(), node.about.label.clone());
        let desk = NodeDesk::new(node.asker.clone(), loads, label, config.requests.timeout);
        let path = config.node.socket_path();
        let limits = &config.limits;
        let desk = Box::new(desk);
        node.admin = Some(AdminServer::start(&path, limits.max_admin_clients, limits.admin_line(), desk)?);
        node.start_loops(acceptor, inlets, state, &config)?;
        Ok(node)
    }

    /// This node's id.
    pub fn id(&self) -> ControllerId {
        self.id
    }

    /// Where it listens, ports as chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.about.listen
    }

    /// Id, label and the marks of the network keys, as `kithd identity` prints them.
    pub fn identity(&self) -> IdentityReport {
        let keys = Some(monitor_status::keys(&self.registry));
        IdentityReport { schema: SCHEMA, id: self.id.hex(), label: self.about.label.clone(), keys }
    }

    /// This node's report, as `kithd status` prints it.
    pub fn report(&self) -> Option<Report> {
        let (answer, report) = bounded(1);
        let answer = move |report| drop(answer.send(report));
        self.registry.lines().status.send(StatusCall::Report(Box::new(answer))).ok()?;
        report.recv().ok()
    }

    /// The whole network as this node knows it, as `kithd network` prints it.
    pub fn network(&self) -> NetworkReport {
        self.registry.read(|node, now| node.network_report(now))
    }

    /// The same, and who of it answers within five seconds, as `kithd network --census` and `--prove` print it.
    ///
    /// # Errors
    /// Why there was no census: [`Reason::Overloaded`] for more than six a minute or four at a time.
    pub fn census(&self, mode: Mode) -> Result<NetworkReport, Reason> {
        let (answer, counted) = bounded(1);
        counting::count(&self.registry, mode, move |report| drop(answer.send(report)));
        counted.recv().unwrap_or(Err(Reason::Leaving))
    }

    /// The recorded life of a node (by label, id or unique beginning of its id) or an address, as `kithd why` prints it.
    ///
    /// # Errors
    /// Nothing is known of it, or several nodes may be meant.
    pub fn why(&self, target: &str) -> Result<WhyReport, AdminError> {
        explain::why(&self.registry, target)
    }

    /// Its connections, as `kithd peers` prints them.
    pub fn peers(&self, all: bool) -> PeersReport {
        monitor_status::peers(&self.registry, all)
    }

    /// What happens from now on: members' statuses, edges that come and go. At most 256 notices wait unread; more are
    /// dropped, and counted in the report.
    pub fn events(&self) -> Receiver<Notice> {
        self.registry.subscribe()
    }

    /// Dials an address now, whatever its backoff says, and waits until it is known how that ended.
    pub fn connect(&self, address: &HostPort) -> Outcome {
        let (answer, outcome) = bounded(1);
        let answer = Box::new(move |outcome| drop(answer.send(outcome)));
        let asked = self.registry.lines().idle.send(IdleCall::Connect(address.clone(), answer));
        let failed = Outcome::Failed(Reason::Leaving);
        if asked.is_err() { failed } else { outcome.recv().unwrap_or(failed) }
    }

    /// Keeps somebody out for so long: a node (by label, id or unique beginning of its id), an address or a range of
    /// addresses. His connections are closed, others refused, and he is not dialled; it lasts over a restart.
    /// [`Ban::DEFAULT`](crate::protocol::bans::Ban::DEFAULT) is for whoever has no better idea.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn ban(&self, target: &str, span: Duration, reason: Option<&str>) -> Result<BanReport, AccessError> {
        let report = access::ban(&self.registry, target, span, reason)?;
        self.await_kept();
        Ok(report)
    }

    /// Takes a ban back.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn unban(&self, target: &str) -> Result<UnbanReport, AccessError> {
        let report = access::unban(&self.registry, target)?;
        self.await_kept();
        Ok(report)
    }

    /// Who is kept out, as `kithd bans` prints it.
    pub fn bans(&self) -> BansReport {
        access::bans(&self.registry)
    }

    /// Sets some of this node's tags, in words such as `role=db`, and removes others by their keys; gives back what they
    /// are then. None of both: what they are. The next start takes those of its configuration.
    ///
    /// # Errors
    /// One line with the cure; nothing has changed then.
    pub fn tag(&self, set: &[String], remove: &[String]) -> Result<Tags, String> {
        tagging::tag(&self.registry, set, remove)
    }

    /// Takes over what can change while it runs (`network.allow`, `network.connect`, `node.tags`, the keys in `network.key_file`, which is
    /// read anew in any case), and says what cannot. Edges with nodes that are allowed no more are closed; those made with
    /// an older key are made anew.
    ///
    /// # Errors
    /// The configuration contradicts itself; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<Reloaded, ConfigError> {
        reload::reload(&self.registry, &mut self.config.lock(), config)
    }

    /// Dumps a report to the log, and to the status file if there is one.
    pub fn dump(&self) {
        let _ = self.registry.lines().status.try_send(StatusCall::Dump);
    }

    /// Another way to say that the node should end: [`Node::wait`] then returns.
    pub fn stopper(&self) -> Sender<End> {
        self.registry.lines().end.clone()
    }

    /// Waits until somebody wants the node to end (`kithd leave`, a [`Node::stopper`]), or it cannot go on.
    pub fn wait(&self) -> End {
        // The registry, which lives as long as the node, holds a sender.
        self.ended.recv().unwrap_or(End::Wanted)
    }

    /// Takes leave of the network, so that others see it as `left` and not as `down`, and joins its threads.
    pub fn shutdown(mut self) {
        self.leave();
    }

    /// Ends as if killed: nobody is told, sockets just close. For tests and for those who must be quick.
    pub fn abort(mut self) {
        self.end();
    }

    fn await_kept(&self) {
        let (kept, wait) = bounded(1);
        access::once_kept(&self.registry, move || {
            let _ = kept.send(());
        });
        // If the loop has ended, what was kept last was written then.
        let _ = wait.recv();
    }

    fn start_loops(
        &mut self,
        acceptor: Acceptor,
        inlets: Inlets,
        state: StateDir,
        config: &Config,
    ) -> Result<(), StartError> {
        let end = || self.registry.lines().end.clone();
        let registry = || Arc::clone(&self.registry);
        let Inlets { events, main, idle, discovery, status, resolver: names } = inlets;
        let (period, file) = (config.monitor.status_period, config.monitor.status_file.clone());
        let monitor = MonitorStatus::new(registry(), Arc::clone(&self.about), state, period, file);
        let (one, two, three, four, five) = (registry(), registry(), registry(), registry(), registry());
        self.main = Some(threads::start("ctl-main", end(), move || main_loop::run(&one, &events, &main))?);
        let resolved = bounded(1);
        let looking_up = threads::start("resolver", end(), move || {
            resolver::run(&two, &names);
            drop(resolved.0);
        })?;
        let mut started = vec![
            threads::start("ctl-listen", end(), move || listen::run(&three, acceptor))?,
            threads::start("ctl-idle", end(), move || monitor_idle::run(&four, &idle))?,
            threads::start("ctl-discovery", end(), move || network_discovery::run(&five, &discovery))?,
            threads::start("ctl-status", end(), move || monitor.run(&status))?,
        ];
        self.resolver = Some((looking_up, resolved.1));
        self.threads.append(&mut started);
        Ok(())
    }

    /// The order matters: no new work, then the farewell, then goodbyes while ctl-main drains, the reactor last.
    fn leave(&mut self) {
        if self.is_over {
            return;
        }
        self.acceptor.wake();
        self.loads.stop();
        let _ = self.registry.lines().idle.send(IdleCall::Stop);
        let services = Arc::clone(&self.registry.around.services);
        services.close();
        let latest = Instant::now() + FAREWELL;
        let (told, delivered) = bounded(1);
        self.registry.handle(Input::Leave);
        self.registry.await_farewell(told);
        let heard = delivered.recv_deadline(latest).is_ok();
        // What is at work may still be answered while the edges stand.
        services.finish(latest);
        log::debug!("the farewell is {}", if heard { "delivered" } else { "not acknowledged in time" });
        self.registry.handle(Input::CloseAll(Reason::Leaving));
        let deadline = Instant::now() + GOODBYES;
        let changes = self.registry.subscribe();
        while self.registry.peer_count() > 0 && changes.recv_deadline(deadline).is_ok() {}
        log::debug!("{} peers have not ended yet", self.registry.peer_count());
        self.end();
        log::debug!("all threads have ended");
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let lines = self.registry.lines();
        self.acceptor.wake();
        let _ = lines.idle.send(IdleCall::Stop);
        let _ = lines.discovery.send(false);
        let _ = lines.status.send(StatusCall::Stop);
        let _ = lines.resolver.try_send(None);
        drop(self.admin.take());
        self.loads.stop();
        self.registry.around.services.end();
        for thread in self.threads.drain(..) {
            // Its panic has been told already.
            let _ = thread.join();
        }
        if let Some((thread, done)) = self.resolver.take()
            && done.recv_timeout(RESOLVER) == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
        {
            let _ = thread.join();
        }
        drop(self.reactor.take());
        let _ = lines.main.send(Call::Stop);
        if let Some(thread) = self.main.take() {
            let _ = thread.join();
        }
        // Every peer has said its last word.
        self.registry.around.crew.end();
        self.registry.forget_callers();
        self.loads.end();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The network's keys as the file has them; none is enough for loopback only.
///
/// # Errors
/// [`StartError::KeyFile`], or [`StartError::Exposed`] without one.
pub fn network_keys(config: &Config) -> Result<Vec<NetworkKey>, StartError> {
    match (&config.network.key_file, config.listen.exposed()) {
        (Some(file), _) => read_key_file(file).map_err(|error| StartError::KeyFile(file.clone(), error)),
        (None, Some(address)) => Err(StartError::Exposed(address)),
        (None, None) => Ok(Vec::new()),
    }
}

fn channels() -> (Lines, Inlets, Receiver<End>, Sender<(PeerId, Checked)>) {
    let (to_events, events) = bounded(MAX_EVENTS);
    // What a peer's creator says to ctl-main may not be refused, and is bounded by the number of peers.
    let (to_main, main) = unbounded();
    let (to_idle, idle) = bounded(MAX_CALLS);
    let (to_discovery, discovery) = bounded(1);
    let (to_status, status) = bounded(MAX_CALLS);
    let (to_resolver, resolver) = bounded(MAX_CALLS);
    let (to_end, ended) = bounded(1);
    let lines = Lines {
        main: to_main,
        idle: to_idle,
        discovery: to_discovery,
        status: to_status,
        resolver: to_resolver,
        end: to_end,
    };
    (lines, Inlets { events, main, idle, discovery, status, resolver }, ended, to_events)
}
