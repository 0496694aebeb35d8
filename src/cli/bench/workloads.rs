//! What is measured, and how. Each figure is checked against what the other end has counted itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::crowd::{Caller, Crowd, Member};
use super::figures::{Figures, each, rate};
use super::pair::{INLINE, ON_WORKER, Pair, SERVER};
use super::system::{cpu_of, kernel_kib, resident_kib};
use crate::controller::load::{Ask, Load, Loaded, Manner, Over, circle};
use crate::protocol::requests::service::ServiceName;

/// Bytes of a small request, and of its answer.
const SMALL: usize = 64;
/// Of a large one.
const LARGE: usize = 1 << 20;
/// Connections of a fan-in, and what each has under way.
const FAN: usize = 64;
const FAN_WINDOW: usize = 16;
const IDLE: usize = 1000;
/// Connections that are made at the same time.
const AT_ONCE: usize = 8;
/// How many identities make them in turn.
const CAST: usize = 64;
/// For what has ended to be closed, and what has begun to calm down.
const CALM: Duration = Duration::from_secs(3);

/// One thing to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    kind: Kind,
    service: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Load(Manner, usize),
    FanIn,
    Idle,
    Connect,
}

/// All, in their order.
pub(super) const ALL: [Workload; 12] = [
    load("W1", "ping: one caller, one in flight, 64 B", Manner::Lone, SMALL, ON_WORKER),
    load("W1_inline", "the same, answered where it arrives", Manner::Lone, SMALL, INLINE),
    load("W2", "pipelined: one caller, a window of 128, 64 B", Manner::Window(128), SMALL, ON_WORKER),
    load("W2_inline", "the same, answered where it arrives", Manner::Window(128), SMALL, INLINE),
    load("W2c", "128 callers that block, on one connection, 64 B", Manner::Callers(128), SMALL, INLINE),
    load("W2p", "128 callers by call-backs, on one connection, 64 B", Manner::Logical(128), SMALL, INLINE),
    Workload {
        name: "W3",
        about: "fan-in: 64 connections, a window of 16 each, 64 B",
        kind: Kind::FanIn,
        service: ON_WORKER,
    },
    Workload { name: "W3_inline", about: "the same, answered where it arrives", kind: Kind::FanIn, service: INLINE },
    load("W4", "bulk: 1 MiB there and back, four in flight", Manner::Window(4), LARGE, ON_WORKER),
    load("W4_inline", "the same, answered where it arrives", Manner::Window(4), LARGE, INLINE),
    Workload { name: "W5", about: "1,000 idle peers", kind: Kind::Idle, service: INLINE },
    Workload { name: "W6", about: "connect, one request, close", kind: Kind::Connect, service: INLINE },
];

const fn load(name: &'static str, about: &'static str, manner: Manner, size: usize, service: &'static str) -> Workload {
    Workload { name, about, kind: Kind::Load(manner, size), service }
}

impl Workload {
    /// Of this name, with what belongs to it.
    pub(super) fn named(name: &str) -> Vec<Self> {
        let inline = format!("{name}_inline");
        ALL.into_iter().filter(|workload| workload.name == name || workload.name == inline).collect()
    }

    /// True if what counts is how many bytes there are, and not how many requests.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self.kind, Kind::Load(_, LARGE))
    }

    /// How a live node is asked, and with how many bytes: by one connection, for a service that every node has.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) fn for_one_connection(&self) -> Result<(Manner, usize), &'static str> {
        match self.kind {
            Kind::Load(manner, payload) if self.service == INLINE => Ok((manner, payload)),
            Kind::Load(..) => {
                Err("it wants a service that answers on a worker, and echo answers where requests arrive")
            }
            Kind::FanIn => Err("it wants 64 connections, and a node allows one of an identity in each direction"),
            Kind::Idle => Err("it wants 1,000 connections, and a node allows one of an identity in each direction"),
            Kind::Connect => {
                Err("it wants connections that come and go, and a node allows one of an identity in each \
                                  direction, which others may be using")
            }
        }
    }

    /// Measures it.
    pub(super) fn run(&self, pair: &Pair, span: Duration) -> Result<Figures, String> {
        match self.kind {
            Kind::Load(manner, payload) => {
                let load = Load { manner, service: self.service.to_owned(), payload, span };
                let put = || pair.client.load(SERVER, &load).map_err(|error| error.to_string());
                let (loaded, sides) = Sides::of(pair, put)?;
                // One more, before: so that no dial is measured.
                sides.check(loaded.answered + 1, (loaded.answered + 1) * 2 * payload as u64)?;
                Ok(figures(&loaded, &sides, payload))
            }
            Kind::FanIn => fan_in(pair, self.service, span),
            Kind::Idle => idle(pair, span),
            Kind::Connect => connect(pair, span),
        }
    }
}

/// What a load has come to.
pub(super) fn figures(loaded: &Loaded, sides: &Sides, payload: usize) -> Figures {
    Figures {
        p50_us: loaded.percentile(500),
        p99_us: loaded.percentile(990),
        p999_us: loaded.percentile(999),
        ..sides.each(loaded.answered).at_rate_of(loaded.answered, loaded.elapsed, payload, payload == LARGE)
    }
}

/// What both ends used of their processors, and what the server says that it did.
pub(super) struct Sides {
    client: Duration,
    server: Duration,
    served: u64,
    bytes: u64,
}

impl Sides {
    fn of<T>(pair: &Pair, run: impl FnOnce() -> Result<T, String>) -> Result<(T, Self), String> {
        let before = Self::now(pair)?;
        let outcome = run()?;
        let after = Self::now(pair)?;
        let sides = Self {
            client: after.client.saturating_sub(before.client),
            server: after.server.saturating_sub(before.server),
            served: after.served - before.served,
            bytes: after.bytes - before.bytes,
        };
        Ok((outcome, sides))
    }

    fn now(pair: &Pair) -> Result<Self, String> {
        let report = pair.report()?;
        Ok(Self {
            client: cpu_of(std::process::id()),
            server: cpu_of(pair.server()),
            served: report.requests.served,
            bytes: report.traffic.bytes_in + report.traffic.bytes_out,
        })
    }

    /// What was counted here is what was served there, and has been on the wire.
    fn check(&self, requests: u64, bytes: u64) -> Result<(), String> {
        if self.served != requests {
            return Err(format!("{requests} requests were counted here, and {} at the server", self.served));
        }
        if self.bytes < bytes {
            return Err(format!("{bytes} bytes were counted here, and {} at the server", self.bytes));
        }
        Ok(())
    }

    fn each(&self, count: u64) -> Figures {
        Figures {
            cpu_us_per_request: each(self.client + self.server, count),
            client_cpu_us_per_request: each(self.client, count),
            server_cpu_us_per_request: each(self.server, count),
            ..Figures::default()
        }
    }
}

fn fan_in(pair: &Pair, service: &str, span: Duration) -> Result<Figures, String> {
    let crowd = Crowd::gather(&pair.config).map_err(|error| error.to_string())?;
    let members = crowd.members(FAN).map_err(|error| error.to_string())?;
    let callers = dial_all(&crowd, &members, pair)?;
    let service: ServiceName = service.parse()?;
    let (loaded, sides) = Sides::of(pair, || fan(&crowd, &callers, &service, span))?;
    callers.into_iter().for_each(Caller::leave);
    sides.check(loaded.answered, loaded.answered * 2 * SMALL as u64)?;
    Ok(figures(&loaded, &sides, SMALL))
}

/// Everybody asks again when he is answered.
fn fan(crowd: &Crowd, callers: &[Caller], service: &ServiceName, span: Duration) -> Result<Loaded, String> {
    let asks = callers.iter().flat_map(|caller| vec![crowd.asking(caller, service, vec![0x5a; SMALL]); FAN_WINDOW]);
    circle(&asks.collect::<Vec<Ask>>(), SMALL, span, Over::default()).map_err(|error| error.to_string())
}

fn dial_all(crowd: &Crowd, members: &[Member], pair: &Pair) -> Result<Vec<Caller>, String> {
    let dial = |member| crowd.dial(member, pair.address).map_err(|reason| format!("a connection failed: {reason}"));
    members.iter().map(dial).collect()
}

/// The server's memory for each of them, with what it knows of who they are; and its processor's time while nothing happens.
fn idle(pair: &Pair, span: Duration) -> Result<Figures, String> {
    let crowd = Crowd::gather(&pair.config).map_err(|error| error.to_string())?;
    let members = crowd.members(IDLE).map_err(|error| error.to_string())?;
    pair.wait(CALM)?;
    let (resident, kernel) = (resident_kib(pair.server()), kernel_kib());
    let callers = dial_all(&crowd, &members, pair)?;
    pair.wait(CALM)?;
    let incoming = pair.report()?.peers.incoming;
    if incoming < IDLE {
        return Err(format!("{IDLE} connections were made here, and {incoming} are at the server"));
    }
    let each = |after: u64, before: u64, of: f64| (after as f64 - before as f64) / of;
    let figures = Figures {
        rss_kib_per_peer: Some(each(resident_kib(pair.server()), resident, IDLE as f64)),
        // Both ends keep the same there: a socket, and a thread's stack.
        kernel_kib_per_peer: Some(each(kernel_kib(), kernel, 2.0 * IDLE as f64)),
        ..Figures::default()
    };
    let (before, start) = (cpu_of(pair.server()), Instant::now());
    pair.wait(span)?;
    let used = cpu_of(pair.server()).saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    callers.into_iter().for_each(Caller::leave);
    Ok(Figures { idle_cpu_percent: Some(used * 100.0), ..figures })
}

/// Several at a time, each identity again and again.
fn connect(pair: &Pair, span: Duration) -> Result<Figures, String> {
    let crowd = Crowd::gather(&pair.config).map_err(|error| error.to_string())?;
    let members = crowd.members(CAST).map_err(|error| error.to_string())?;
    let service: ServiceName = INLINE.parse()?;
    let (made, error) = (AtomicU64::new(0), Mutex::new(None));
    let start = Instant::now();
    let come_and_go = |members: &[Member]| {
        for member in members.iter().cycle() {
            if start.elapsed() >= span || error.lock().is_some() {
                return;
            }
            let served = crowd.dial(member, pair.address).map_err(|reason| reason.to_string()).and_then(|caller| {
                let said = crowd.ask(&caller, &service, &[0x5a; SMALL]).map_err(|error| error.to_string());
                caller.leave();
                said
            });
            match served {
                Ok(_) => _ = made.fetch_add(1, Ordering::Relaxed),
                Err(why) => _ = error.lock().get_or_insert(why),
            }
        }
    };
    let run = || {
        thread::scope(|scope| {
            for some in members.chunks(CAST / AT_ONCE) {
                scope.spawn(|| come_and_go(some));
            }
        });
        error.lock().take().map_or(Ok(start.elapsed()), Err)
    };
    let (elapsed, sides) = Sides::of(pair, run)?;
    let made = made.into_inner();
    sides.check(made, made * 2 * SMALL as u64)?;
    Ok(Figures {
        requests: made,
        connections_per_second: rate(made as f64, elapsed),
        server_cpu_us_per_connection: each(sides.server, made),
        ..sides.each(made)
    })
}
