//! What the yardsticks have in common, so that all of them are read off like `kithd bench`: the same workloads, two processes
//! on one machine, figures of the same names.
//!
//! ```text
//!   this process: asks                              its child, the same program with --serve: answers
//!   raw.rs      blocking sockets, a thread each
//!   tokio.rs    tokio, LengthDelimitedCodec, bincode, in the clear
//!   libp2p.rs   rust-libp2p: TCP, Noise, Yamux, request-response
//! ```

pub mod child;
pub mod figures;
pub mod plan;
pub mod runtime;
pub mod system;

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use self::child::Server;
use self::figures::{Figures, Loaded};
use self::plan::{Plan, Workload};
use self::system::{cpu_of, kernel_kib, raise_limit, resident_kib};

/// Bytes of a small request, and of its answer.
pub const SMALL: usize = 64;
/// Of a large one.
pub const LARGE: usize = 1 << 20;
/// What one caller has under way who does not wait for each answer.
pub const WINDOW: usize = 128;
/// The same of large ones.
pub const LARGE_WINDOW: usize = 4;
/// Callers who share a connection.
pub const CALLERS: usize = 128;
/// Connections of a fan-in, and what each has under way.
pub const FAN: usize = 64;
/// See [`FAN`].
pub const FAN_WINDOW: usize = 16;
/// Connections that are made at the same time.
pub const AT_ONCE: usize = 8;
/// Connections on which nothing happens.
const IDLE: usize = 1000;
/// For what has begun to calm down.
const CALM: Duration = Duration::from_secs(3);

/// One system to measure. Whatever goes wrong ends the process, with a word on standard error: half a measurement is none.
pub trait Yardstick {
    /// Answers each request with its own bytes, for ever. Says first where: [`child::say_and_follow`].
    fn serve(&self) -> !;
    /// Puts a load on the server. Dials before the time begins, except for [`Workload::W6`]; never asked for
    /// [`Workload::W5`].
    fn load(&self, workload: Workload, server: SocketAddr, span: Duration) -> Loaded;
    /// Makes connections on which nothing happens, until the value is dropped.
    fn idle(&self, server: SocketAddr, count: usize) -> Box<dyn Any>;
}

/// Serves, or measures and prints.
pub fn run(plan: &Plan, against: &str, yardstick: &impl Yardstick) {
    raise_limit();
    if plan.serve {
        yardstick.serve();
    }
    let mut workloads = BTreeMap::new();
    for workload in plan.chosen() {
        let server = Server::start();
        let figures = match workload {
            Workload::W5 => idle(yardstick, &server, plan.span),
            _ => load(yardstick, workload, &server, plan.span),
        };
        workloads.insert(format!("{workload:?}"), figures);
    }
    let seconds = plan.span.as_secs_f64();
    println!("{:#}", json!({ "schema": 1, "against": against, "seconds": seconds, "workloads": workloads }));
}

fn load(yardstick: &impl Yardstick, workload: Workload, server: &Server, span: Duration) -> Figures {
    let own = std::process::id();
    let before = (cpu_of(own), cpu_of(server.pid()));
    let loaded = yardstick.load(workload, server.address, span);
    let (client, served) = (cpu_of(own).saturating_sub(before.0), cpu_of(server.pid()).saturating_sub(before.1));
    Figures::of(workload, loaded, client, served)
}

fn idle(yardstick: &impl Yardstick, server: &Server, span: Duration) -> Figures {
    thread::sleep(CALM);
    let (resident, kernel) = (resident_kib(server.pid()), kernel_kib());
    let connections = yardstick.idle(server.address, IDLE);
    thread::sleep(CALM);
    let share = |after: u64, before: u64, of: usize| (after as f64 - before as f64) / of as f64;
    let rss_kib = share(resident_kib(server.pid()), resident, IDLE);
    // Both ends keep the same there.
    let kernel_kib = share(kernel_kib(), kernel, 2 * IDLE);
    let (before, start) = (cpu_of(server.pid()), Instant::now());
    thread::sleep(span);
    let used = cpu_of(server.pid()).saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    drop(connections);
    Figures::of_idle(rss_kib, kernel_kib, used * 100.0)
}
