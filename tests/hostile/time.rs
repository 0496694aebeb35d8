//! Cases about time, and about processes that stop, end or fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use kithd::controller::{End, threads};
use kithd::peer::main_loop::contain;
use kithd::protocol::codec::{Frames, MAX_FRAME, PREAMBLE};
use kithd::protocol::identity::PeerId;
use kithd::protocol::peer_event::PeerEvent;
use kithd::protocol::reason::Reason;
use kithd::reactor::{Flow, Reactor, ReactorSettings, Receiver};
use kithd::simulator::world::{Conditions, Host, World};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Network};
use crate::evil_member::is_sound;
use crate::patience::{SOON, throughout};
use crate::report::{agreed, closed_for, shown_as};

/// The connections that stand in the whole world, by host.
fn edges(world: &World) -> BTreeMap<Host, BTreeSet<u64>> {
    let of = |host: Host| {
        let rows = world.node(host).unwrap().peer_rows(world.now_at(host));
        rows.into_iter().filter(|row| row.state == "established").map(|row| row.peer_id).collect()
    };
    world.hosts().map(|host| (host, of(host))).collect()
}

/// A wall clock that is set by a year or by some seconds, and back: every timer runs on the other clock, so no connection
/// ends and nobody is missed. (The wall clock of a machine is not a test's to set: this is the same thinking in the
/// simulator's world.)
#[test]
fn case_52_a_wall_clock_that_jumps_disconnects_nobody() {
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;
    let span = Duration::from_secs(60);
    for (seed, by) in (1..).zip([YEAR_MS, -YEAR_MS, 7_000, -7_000]) {
        let mut world = World::network(Conditions::new(seed), 8);
        assert!(world.run_until_agreed(span).is_some(), "{:?}", world.disagreement());
        world.run_for(span);
        let before = edges(&world);
        for by in [by, -by] {
            world.shift_clock(Host(1), by);
            world.run_for(span);
            assert_eq!(edges(&world), before, "seed {seed}, {by} ms");
            assert!(world.agrees(), "seed {seed}, {by} ms: {:?}", world.disagreement());
        }
        let findings = &world.findings;
        assert!(findings.false_downs.is_empty() && findings.false_accusations.is_empty(), "{findings:?}");
    }
}

/// No other node is down in this view, and none is accused by that node. It may read for a moment that itself was.
fn accuses_nobody(view: &Value, accuser: &Daemon) -> Result<(), String> {
    let nodes = view["nodes"].as_array().unwrap();
    let accused = nodes.iter().filter(|node| {
        let others = node["id"] != accuser.id && node["status"] == "down";
        others || node["witnesses"].as_array().unwrap().iter().any(|witness| *witness == accuser.id)
    });
    let accused: Vec<_> = accused.map(|node| format!("{} {}", node["label"], node["status"])).collect();
    if accused.is_empty() { Ok(()) } else { Err(format!("{accused:?}")) }
}

/// Stops a node for that long at least; the others miss it, and it misses nobody when it wakes.
fn stopped_for(span: Duration) {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);

    b.signal(Signal::STOP);
    let stopped = Instant::now();
    for other in [&a, &c] {
        closed_for(other, Some(&b.id), "heartbeat-timeout");
    }
    shown_as(&[&a, &c], "b", "down");
    assert_eq!(a.client(&["network"]).code, Some(1), "a known node is down");
    thread::sleep(span.saturating_sub(stopped.elapsed()));

    b.signal(Signal::CONT);
    throughout("the woken one declares nobody down", Duration::from_secs(3), || accuses_nobody(&b.network(), &b));
    agreed(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        accuses_nobody(&node.network(), &b).unwrap();
        is_sound(node);
    }
    assert_eq!(a.client(&["network"]).code, Some(0));
}

/// The others miss a process that is stopped, and have it back, without an old rumour, when it goes on.
#[test]
fn case_53_a_stopped_node_is_missed_and_comes_back() {
    stopped_for(Duration::ZERO);
}

/// A process that was stopped for longer than it waits for anybody does not take that for everybody's silence.
#[test]
fn case_54_a_node_that_wakes_from_a_long_stop_misses_nobody() {
    stopped_for(Duration::from_secs(6));
}

/// `cargo test --test hostile -- --ignored`
#[test]
#[ignore = "takes more than a minute"]
fn case_54_a_node_stopped_for_a_minute_misses_nobody_when_it_wakes() {
    stopped_for(Duration::from_secs(60));
}

/// A neighbour that does not answer any more cannot hold it back.
#[test]
fn case_55_a_stuck_neighbour_does_not_delay_the_end() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    a.signal(Signal::STOP);
    let start = Instant::now();
    b.signal(Signal::TERM);
    assert_eq!(b.ended().code(), Some(0));
    let took = start.elapsed();
    println!("left within {:.2} s", took.as_secs_f64());
    assert!(took.as_secs() < 10, "{took:?}");
}

/// A second signal, while the first is at work, does no harm.
#[test]
fn case_55_impatient_signals_do_no_harm() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    for signal in [Signal::TERM, Signal::INT, Signal::TERM, Signal::USR1, Signal::HUP] {
        b.signal(signal);
    }
    assert_eq!(b.ended().code(), Some(0));
}

/// Killed a moment after its start, a little later each time, while it writes what it learns.
#[test]
fn case_55_a_node_that_is_killed_at_any_moment_starts_again() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    let id = b.id.clone();
    for round in 0..20 {
        thread::sleep(Duration::from_millis(round * 23));
        b.kill();
        b.start_again();
        assert_eq!(b.id, id, "in round {round}");
        let said = b.stderr();
        assert!(!said.contains("damaged") && !said.contains("panicked"), "in round {round}: {said}");
    }
    agreed(&[&a, &b]);
    let left: Vec<_> = fs::read_dir(b.setup().state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    println!("in the state directory: {left:?}");
    assert!(left.len() <= 6, "temporary files heap up: {left:?}");
}

/// A receiver, run on the reactor's thread, that fails at its first call.
struct Failing;

impl Frames for Failing {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, _: &[u8]) -> Result<(), Reason> {
        Ok(())
    }
}

impl Receiver for Failing {
    fn connected(&mut self) {
        panic!("on purpose: a reactor that fails");
    }

    fn flush(&mut self) -> Flow {
        Flow::Continue
    }

    fn writable(&mut self) {}

    fn closed(&mut self, _: Reason) {}
}

/// No byte from outside makes a thread fail, so this is shown where the threads are started: a peer that fails is dropped
/// and counted, a loop or the reactor ends the node, with exit code 70 for whoever starts it anew.
#[test]
fn case_56_a_peer_that_fails_is_dropped_and_a_loop_that_fails_ends_the_node() {
    let (events, told) = unbounded();
    contain(PeerId(7), &events, || panic!("on purpose: a peer that fails"));
    let (peer, event) = told.recv_timeout(SOON).unwrap();
    assert!(peer == PeerId(7) && matches!(event, PeerEvent::Closed { reason: Reason::Internal, by_remote: false }));
    assert!(Reason::Internal.is_refusal(), "it is counted");

    let (end, ended) = bounded(1);
    let failed = threads::start("ctl-test", end.clone(), || panic!("on purpose: a loop that fails")).unwrap();
    assert_eq!(ended.recv_timeout(SOON), Ok(End::Panicked("ctl-test")));
    failed.join().unwrap();

    let settings = ReactorSettings { frame_timeout: SOON, wakeups: Arc::new(AtomicU64::new(0)) };
    let reactor = Reactor::start(settings).unwrap();
    reactor.on_failure(move || end.send(End::Panicked("reactor")).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = || {
        let connection = reactor.handle().dial(listener.local_addr().unwrap()).unwrap();
        reactor.handle().register(&connection, Box::new(Failing));
    };
    dial();
    assert_eq!(ended.recv_timeout(SOON), Ok(End::Panicked("reactor")));
    // Who comes after that is told, and nobody waits for it.
    dial();
    reactor.stop();
    assert_eq!(kithd::cli::INTERNAL, 70);
}

/// The numbers and flags of a process's descriptors; nothing if it may not be looked at.
fn descriptors(process: &str) -> Option<Vec<(u32, u32)>> {
    let open = fs::read_dir(format!("/proc/{process}/fdinfo")).ok()?;
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        // One may be closed while we look.
        let info = fs::read_to_string(&path).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some((path.file_name()?.to_str()?.parse().ok()?, u32::from_str_radix(flags.trim(), 8).ok()?))
    };
    Some(open.filter_map(read).collect())
}

/// Children of its process have it too, and it is none of the three that are theirs.
fn is_left((number, flags): &(u32, u32)) -> bool {
    const CLOSED_AT_EXEC: u32 = 0o2_000_000;
    *number > 2 && flags & CLOSED_AT_EXEC == 0
}

/// What a node's children would inherit: nothing but the three that everybody has.
#[test]
fn case_57_no_descriptor_is_left_to_children() {
    let network = Network::new();
    let setup = network.node("a");
    let log = setup.home().join("log");
    let a = setup.with(&["--log-file", log.to_str().unwrap()]).start();
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let inherited: Vec<u32> = descriptors("self").unwrap().into_iter().filter(is_left).map(|(one, _)| one).collect();
    let Some(open) = descriptors(&a.pid().to_string()) else {
        println!("SKIPPED: this user may not look at the descriptors of a process that holds keys");
        return;
    };
    let left: Vec<_> = open.iter().filter(|one| is_left(one) && !inherited.contains(&one.0)).collect();
    assert!(left.is_empty(), "{left:?}");
    let seen = open.len();
    // Two polls and their wakers, a listener, the admin socket, the lock, the log, two edges, the signals' pipe.
    assert!(seen >= 10, "{seen} descriptors");
    println!("{seen} descriptors are closed at exec");
}
