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
/// Bytes that one connection may have under way each way, whatever its payloads: half of what a node lets it.
const UNDER_WAY: usize = 4 << 20;
/// And all together: half of what a node lets them queue.
const ALL_UNDER_WAY: usize = 32 << 20;
/// And requests: a heartbeat waits behind as many, and more would make it late.
const MOST_UNDER_WAY: usize = 16 << 10;
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
    FanIn(Size),
    Idle(usize),
    Connect,
}

/// What there is of each, and how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    peers: usize,
    /// What each of them has under way.
    window: usize,
    payload: usize,
}

const FAN_IN: Kind = Kind::FanIn(Size { peers: FAN, window: FAN_WINDOW, payload: SMALL });

/// What is wanted otherwise than the workloads have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sizes {
    /// Of W3 and W5; the others have one connection, or several in turn.
    pub(super) peers: Option<usize>,
    /// Bytes of each request, and of its answer; W5 has none, and W6 is about all else.
    pub(super) payload: Option<usize>,
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
        kind: FAN_IN,
        service: ON_WORKER,
    },
    Workload { name: "W3_inline", about: "the same, answered where it arrives", kind: FAN_IN, service: INLINE },
    load("W4", "bulk: 1 MiB there and back, four in flight", Manner::Window(4), LARGE, ON_WORKER),
    load("W4_inline", "the same, answered where it arrives", Manner::Window(4), LARGE, INLINE),
    Workload { name: "W5", about: "1,000 idle peers", kind: Kind::Idle(IDLE), service: INLINE },
    Workload { name: "W6", about: "connect, one request, close", kind: Kind::Connect, service: INLINE },
];

const fn load(name: &'static str, about: &'static str, manner: Manner, size: usize, service: &'static str) -> Workload {
    Workload { name, about, kind: Kind::Load(manner, size), service }
}

impl Workload {
    /// Of this name, in capitals or not, with what belongs to it.
    pub(super) fn named(name: &str) -> Vec<Self> {
        let (name, inline) = (name.trim(), format!("{}_inline", name.trim()));
        let is_meant = |of: &str| of.eq_ignore_ascii_case(name) || of.eq_ignore_ascii_case(&inline);
        ALL.into_iter().filter(|workload| is_meant(workload.name)).collect()
    }

    /// True if what counts is how many bytes there are, and not how many requests.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self.usual(), Kind::Load(_, LARGE))
    }

    /// The same with other sizes, and with no more under way than a node lets others have open at the same time.
    pub(super) fn sized(self, sizes: Sizes) -> Self {
        let kind = match self.kind {
            Kind::Load(manner, usual) => {
                let payload = sizes.payload.unwrap_or(usual);
                Kind::Load(manner.at_most((UNDER_WAY / payload.max(1)).max(1)), payload)
            }
            Kind::FanIn(usual) => {
                let (peers, payload) = (sizes.peers.unwrap_or(usual.peers), sizes.payload.unwrap_or(usual.payload));
                let share = (UNDER_WAY / payload.max(1)).min(ALL_UNDER_WAY / (peers * payload).max(1));
                let share = share.min(MOST_UNDER_WAY / peers);
                Kind::FanIn(Size { peers, window: usual.window.min(share.max(1)), payload })
            }
            Kind::Idle(usual) => Kind::Idle(sizes.peers.unwrap_or(usual)),
            Kind::Connect => Kind::Connect,
        };
        Self { kind, ..self }
    }

    /// Of these figures what is not as it usually is.
    pub(super) fn with_sizes(&self, figures: Figures) -> Figures {
        let (size, usual) = (size(self.kind), size(self.usual()));
        let other = |of: fn(&Size) -> usize| Some(of(&size)).filter(|some| *some != of(&usual));
        Figures {
            peers: other(|size| size.peers),
            window: figures.window.or(other(|size| size.window)),
            payload_bytes: figures.payload_bytes.or(other(|size| size.payload)),
            ..figures
        }
    }

    fn usual(&self) -> Kind {
        ALL.into_iter().find(|usual| usual.name == self.name).map_or(self.kind, |usual| usual.kind)
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
            Kind::FanIn(_) => Err("it wants 64 connections, and a node allows one of an identity in each direction"),
            Kind::Idle(_) => Err("it wants 1,000 connections, and a node allows one of an identity in each direction"),
            Kind::Connect => {
                Err("it wants connections that come and go, and a node allows one of an identity in each \
                                  direction, which others may be using")
            }
        }
    }

    /// Measures it.
    pub(super) fn run(&self, pair: &Pair, span: Duration) -> Result<Figures, String> {
        let figures = match self.kind {
            Kind::Load(manner, payload) => {
                let load = Load { manner, service: self.service.to_owned(), payload, span };
                let put = || pair.client.load_until(SERVER, &load, pair.over()).map_err(|error| error.to_string());
                let (loaded, sides) = Sides::of(pair, put)?;
                // One more, before: so that no dial is measured.
                sides.check(loaded.answered + 1, (loaded.answered + 1) * 2 * payload as u64)?;
                Ok(figures(&loaded, &sides, payload, self.is_bulk()))
            }
            Kind::FanIn(size) => fan_in(pair, self.service, size, span),
            Kind::Idle(peers) => idle(pair, peers, span),
            Kind::Connect => connect(pair, span),
        };
        pair.go_on()?;
        figures.map(|figures| self.with_sizes(figures))
    }
}

fn size(kind: Kind) -> Size {
    match kind {
        Kind::Load(manner, payload) => Size { peers: 1, window: manner.count(), payload },
        Kind::FanIn(size) => size,
        Kind::Idle(peers) => Size { peers, window: 0, payload: 0 },
        Kind::Connect => Size { peers: 1, window: 1, payload: SMALL },
    }
}

/// What a load has come to.
fn figures(loaded: &Loaded, sides: &Sides, payload: usize, in_bytes: bool) -> Figures {
    Figures {
        p50_us: loaded.percentile(500),
        p99_us: loaded.percentile(990),
        p999_us: loaded.percentile(999),
        ..sides.each(loaded.answered).at_rate_of(loaded.answered, loaded.elapsed, payload, in_bytes)
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

fn fan_in(pair: &Pair, service: &str, size: Size, span: Duration) -> Result<Figures, String> {
    let crowd = Crowd::gather(&pair.config).map_err(|error| error.to_string())?;
    let members = crowd.members(size.peers).map_err(|error| error.to_string())?;
    let callers = dial_all(&crowd, &members, pair)?;
    let service: ServiceName = service.parse()?;
    let (loaded, sides) = Sides::of(pair, || fan(&crowd, &callers, &service, size, (span, pair.over())))?;
    callers.into_iter().for_each(Caller::leave);
    sides.check(loaded.answered, loaded.answered * 2 * size.payload as u64)?;
    Ok(figures(&loaded, &sides, size.payload, false))
}

/// Everybody asks again when he is answered.
fn fan(
    crowd: &Crowd,
    callers: &[Caller],
    service: &ServiceName,
    size: Size,
    (span, over): (Duration, Over),
) -> Result<Loaded, String> {
    let Size { window, payload, .. } = size;
    let asks = callers.iter().flat_map(|caller| vec![crowd.asking(caller, service, vec![0x5a; payload]); window]);
    circle(&asks.collect::<Vec<Ask>>(), payload, span, over).map_err(|error| error.to_string())
}

fn dial_all(crowd: &Crowd, members: &[Member], pair: &Pair) -> Result<Vec<Caller>, String> {
    let dial = |member| {
        pair.go_on()?;
        crowd.dial(member, pair.address).map_err(|reason| format!("a connection failed: {reason}"))
    };
    members.iter().map(dial).collect()
}

/// The server's memory for each of them, with what it knows of who they are; and its processor's time while nothing happens.
fn idle(pair: &Pair, peers: usize, span: Duration) -> Result<Figures, String> {
    let crowd = Crowd::gather(&pair.config).map_err(|error| error.to_string())?;
    let members = crowd.members(peers).map_err(|error| error.to_string())?;
    pair.wait(CALM)?;
    let (resident, kernel) = (resident_kib(pair.server()), kernel_kib());
    let callers = dial_all(&crowd, &members, pair)?;
    pair.wait(CALM)?;
    let incoming = pair.report()?.peers.incoming;
    if incoming < peers {
        return Err(format!("{peers} connections were made here, and {incoming} are at the server"));
    }
    let each = |after: u64, before: u64, of: f64| (after as f64 - before as f64) / of;
    let figures = Figures {
        rss_kib_per_peer: Some(each(resident_kib(pair.server()), resident, peers as f64)),
        // Both ends keep the same there: a socket, and a thread's stack.
        kernel_kib_per_peer: Some(each(kernel_kib(), kernel, 2.0 * peers as f64)),
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
            if start.elapsed() >= span || error.lock().is_some() || pair.go_on().is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(name: &str, peers: Option<usize>, payload: Option<usize>) -> Size {
        let of = ALL.into_iter().find(|workload| workload.name == name).unwrap();
        size(of.sized(Sizes { peers, payload }).kind)
    }

    #[test]
    fn sizes_change_what_they_are_about_and_nothing_without_them() {
        for workload in ALL {
            assert_eq!(workload.sized(Sizes::default()), workload);
            assert_eq!(workload.with_sizes(Figures::default()), Figures::default());
        }
        assert_eq!(sized("W3", Some(4096), None), Size { peers: 4096, window: 4, payload: 64 });
        assert_eq!(sized("W3", Some(1024), None), Size { peers: 1024, window: 16, payload: 64 });
        assert_eq!(sized("W3", Some(4096), Some(1 << 20)), Size { peers: 4096, window: 1, payload: 1 << 20 });
        assert_eq!(sized("W2_inline", Some(9), Some(4096)), Size { peers: 1, window: 128, payload: 4096 });
        assert_eq!(sized("W2p", None, Some(1 << 18)), Size { peers: 1, window: 16, payload: 1 << 18 });
        assert_eq!(sized("W1", None, Some(0)), Size { peers: 1, window: 1, payload: 0 });
        assert_eq!(sized("W5", Some(3), Some(9)).peers, 3);
    }

    #[test]
    fn what_is_not_as_usual_is_told() {
        let small = Workload::named("W4")[0].sized(Sizes { peers: None, payload: Some(1000) });
        assert!(small.is_bulk());
        let told = small.with_sizes(Figures::default());
        assert_eq!((told.peers, told.window, told.payload_bytes), (None, None, Some(1000)));
        let many = Workload::named("W2")[0].sized(Sizes { peers: None, payload: Some(1 << 20) });
        let told = many.with_sizes(Figures { window: Some(2), ..Figures::default() });
        assert_eq!((told.window, told.payload_bytes), (Some(2), Some(1 << 20)), "a node has allowed still fewer");
    }
}
