//! Nodes inside a program: many in one process, started and stopped, some of them without warning, none leaving a thread
//! or a descriptor behind.
//!
//! Most tests count what the process holds, so they take turns.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::report::{NetworkReport, Status};
use kithd::protocol::testimony::Mode;
use kithd::{AccessError, Config, Node, Outcome, Reloaded};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

static TURNS: Mutex<()> = Mutex::new(());
/// Fifty nodes share two processors with whatever else runs.
const PATIENCE: Duration = Duration::from_secs(180);

/// A network of this test's own, so that a port that changes hands joins nobody.
fn config(home: &TempDir, network: &str, label: &str) -> Config {
    let mut config = Config::default();
    config.node.label = label.parse().unwrap();
    config.node.state_dir = home.path().join(label);
    config.listen.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.network.name = network.parse().unwrap();
    config
}

fn network_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("library-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(instead) = look() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {} s, but {instead}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(100));
    }
    println!("{what}: after {:.2} s", start.elapsed().as_secs_f64());
}

/// All of them hold one view in which so many nodes are up and so many down, and each can show that all do.
fn agree(nodes: &[Node], up: usize, down: usize) -> Result<(), String> {
    let reports: Vec<NetworkReport> = nodes.iter().map(Node::network).collect();
    let count = |report: &NetworkReport, status| report.nodes.iter().filter(|node| node.status == status).count();
    let sound = reports.iter().filter(|report| {
        let (agreement, counts) = (&report.agreement, (count(report, Status::Up), count(report, Status::Down)));
        counts == (up, down) && agreement.unanimous && agreement.live == up && report.digest == reports[0].digest
    });
    let sound = sound.count();
    if sound == nodes.len() {
        return Ok(());
    }
    let digests: BTreeSet<&str> = reports.iter().map(|report| report.digest.as_str()).collect();
    let (ups, downs): (BTreeSet<usize>, BTreeSet<usize>) =
        reports.iter().map(|report| (count(report, Status::Up), count(report, Status::Down))).unzip();
    Err(format!("{sound} of {} do; {} digests, up {ups:?}, down {downs:?}", nodes.len(), digests.len()))
}

/// Threads of this process that a node may have started, by name. The test harness has its own.
fn threads() -> Vec<String> {
    let ours = ["ctl-", "peer", "work-", "reactor", "admin", "resolver", "signals", "http"];
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).filter(|name| ours.iter().any(|ours| name.starts_with(ours))).collect()
}

fn descriptors() -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| Some(fs::read_link(fd.ok()?.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// No thread of a node, and as many descriptors as before.
fn left_nothing(before: usize) {
    until("threads and descriptors are gone", || {
        let (threads, open) = (threads(), descriptors());
        let gone = threads.is_empty() && open.len() <= before;
        if gone { Ok(()) } else { Err(format!("{threads:?}, {} descriptors, {before} before: {open:?}", open.len())) }
    });
}

/// Many systems allow a process 1,024 descriptors to begin with, and fifty nodes have more connections.
fn raise_the_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(65_536).min(65_536);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
    }
}

#[test]
fn fifty_nodes_agree_and_agree_again_when_half_are_gone() {
    let _turn = TURNS.lock();
    raise_the_descriptor_limit();
    let (home, network) = (tempfile::tempdir().unwrap(), network_name());
    let before = descriptors().len();

    let first = Node::start(config(&home, &network, "node-0")).unwrap();
    let seed = first.addresses()[0];
    let mut nodes = vec![first];
    for number in 1..50 {
        let mut config = config(&home, &network, &format!("node-{number}"));
        config.network.connect = vec![seed.into()];
        nodes.push(Node::start(config).unwrap());
    }
    until("fifty nodes agree", || agree(&nodes, 50, 0));
    let mut askers = nodes.iter().cycle();
    until("fifty nodes sign that they do", || {
        let census = askers.next().unwrap().census(Mode::Prove).map_err(|reason| reason.to_string())?.census.unwrap();
        let all = census.unanimous && census.answered == 50 && census.proof.len() == 50;
        if all { Ok(()) } else { Err(format!("{} of {} in {} ms", census.answered, census.asked_live, census.took_ms)) }
    });
    println!("{} threads, {} descriptors", threads().len(), descriptors().len());
    let ids: BTreeSet<String> = nodes.iter().map(|node| node.id().hex()).collect();
    let known: BTreeSet<String> = nodes[49].network().nodes.into_iter().map(|node| node.id).collect();
    assert_eq!(ids, known);

    // Without warning, the first one among them.
    for node in nodes.drain(..25) {
        node.abort();
    }
    until("the other half agrees", || agree(&nodes, 25, 25));
    for node in nodes {
        node.shutdown();
    }
    left_nothing(before);
}

#[test]
fn two_hundred_starts_and_stops_leave_nothing_behind() {
    let _turn = TURNS.lock();
    let (home, network) = (tempfile::tempdir().unwrap(), network_name());
    let before = descriptors().len();
    let start = Instant::now();
    let mut ids = BTreeSet::new();
    for round in 0..200 {
        // The same node each time, and each way of ending it.
        let node = Node::start(config(&home, &network, "again")).unwrap();
        ids.insert(node.id().hex());
        match round % 3 {
            0 => node.shutdown(),
            1 => node.abort(),
            _ => drop(node),
        }
    }
    println!("200 starts and stops within {:.2} s", start.elapsed().as_secs_f64());
    assert_eq!(ids.len(), 1, "it was another node each time");
    left_nothing(before);

    // The same with a neighbour, so that there are connections to end.
    let stays = Node::start(config(&home, &network, "stays")).unwrap();
    let mut with_neighbour = config(&home, &network, "again");
    with_neighbour.network.connect = vec![stays.addresses()[0].into()];
    for _ in 0..10 {
        let node = Node::start(with_neighbour.clone()).unwrap();
        until("they are linked", || match node.peers(false).peers.iter().any(|row| row.state == "established") {
            true => Ok(()),
            false => Err("no connection".to_owned()),
        });
        node.shutdown();
    }
    stays.shutdown();
    left_nothing(before);
}

/// Whoever follows the events learns of nodes that come, and of those that take their leave.
#[test]
fn events_tell_who_comes_and_goes() {
    let _turn = TURNS.lock();
    let (home, network) = (tempfile::tempdir().unwrap(), network_name());
    let a = Node::start(config(&home, &network, "a")).unwrap();
    let events = a.events();
    let b = Node::start(config(&home, &network, "b")).unwrap();
    let outcome = b.connect(&a.addresses()[0].into());
    assert!(matches!(&outcome, Outcome::Edge(id, ..) if *id == a.id()), "{outcome:?}");
    let follow = |what: &str| {
        let start = Instant::now();
        loop {
            let event = events.recv_timeout(PATIENCE.saturating_sub(start.elapsed()));
            let told = format!("{:?}", event.unwrap_or_else(|_| panic!("no event tells that b is {what}")));
            if told.contains(what) && told.contains("\"b\"") {
                break println!("{told}");
            }
        }
    };
    follow("Up");
    b.shutdown();
    follow("Left");
}

/// A program says what its node is for, whom it expects, and is told what became of whom.
#[test]
fn a_program_tags_its_node_expects_others_and_asks_why() {
    let _turn = TURNS.lock();
    let (home, network) = (tempfile::tempdir().unwrap(), network_name());
    let mut expecting = config(&home, &network, "a");
    expecting.network.expect = vec!["b".parse().unwrap()];
    let a = Node::start(expecting).unwrap();
    assert_eq!(a.network().expected_missing, ["b"]);
    assert!(a.why("b").unwrap().node.is_none() && a.why("nobody").is_err());
    let mut joining = config(&home, &network, "b");
    joining.network.connect = vec![a.addresses()[0].into()];
    let b = Node::start(joining).unwrap();
    assert_eq!(b.tag(&["role=db".to_owned()], &[]).unwrap().len(), 1);
    assert!(b.tag(&["role".to_owned()], &[]).is_err());
    until("a sees b and what it is for", || {
        let report = a.network();
        let row = report.nodes.iter().find(|node| node.label == "b").ok_or("no b")?;
        let is_told =
            row.expected && row.reachable == Some(true) && row.tags.get("role").is_some_and(|role| role == "db");
        if is_told && report.expected_missing.is_empty() { Ok(()) } else { Err(format!("{row:?}")) }
    });
    b.abort();
    until("a tells that b is down, and when it dials it next", || {
        let told = a.why("b").map_err(|error| error.to_string())?;
        let is_told = told.status == Some(Status::Down) && told.next_dial.is_some();
        if is_told && a.network().expected_missing == ["b"] { Ok(()) } else { Err(format!("{told:?}")) }
    });
    a.shutdown();
}

/// A second node on one directory, and a configuration that contradicts itself, are errors and no panics.
#[test]
fn what_cannot_start_says_why() {
    let _turn = TURNS.lock();
    let (home, network) = (tempfile::tempdir().unwrap(), network_name());
    let before = descriptors().len();
    let a = Node::start(config(&home, &network, "a")).unwrap();
    let in_use = Node::start(config(&home, &network, "a")).map(drop).unwrap_err().to_string();
    let mut taken = config(&home, &network, "b");
    taken.listen.addresses = a.addresses().to_vec();
    let port = Node::start(taken).map(drop).unwrap_err().to_string();
    let mut nonsense = config(&home, &network, "c");
    nonsense.heartbeat.timeout = Duration::ZERO;
    let refused = Node::start(nonsense).map(drop).unwrap_err().to_string();
    println!("{in_use}\n{port}\n{refused}");
    assert!(port.contains(&a.addresses()[0].to_string()), "{port}");
    assert!(refused.contains("heartbeat.timeout"), "{refused}");
    for line in [in_use, port, refused] {
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    drop(a);
    left_nothing(before);
}

#[test]
fn a_program_keeps_out_whom_it_names_and_changes_the_list_while_it_runs() {
    let _turn = TURNS.lock();
    let home = tempfile::tempdir().unwrap();
    let network = network_name();
    let settings = config(&home, &network, "a");
    let a = Node::start(settings.clone()).unwrap();
    let mut of_b = config(&home, &network, "b");
    of_b.network.connect = vec![a.addresses()[0].into()];
    let b = Node::start(of_b).unwrap();
    let linked = |wanted: bool| {
        let rows = a.peers(false).peers;
        let is = rows.iter().any(|row| row.state == "established" && row.id == Some(b.id().hex()));
        if is == wanted { Ok(()) } else { Err(format!("{rows:?}")) }
    };
    until("there is an edge", || linked(true));

    let report = a.ban("b", Duration::from_secs(3600), Some("a test")).unwrap();
    assert_eq!((report.ban.id, report.ban.label.as_deref()), (Some(b.id().hex()), Some("b")));
    let kept = fs::read_to_string(home.path().join("a/known.json")).unwrap();
    assert!(kept.contains("a test"), "on disk before the call is over: {kept}");
    until("there is none", || linked(false));
    assert_eq!(a.bans().bans.len(), 1);
    assert!(matches!(a.ban("nobody", Duration::from_secs(9), None), Err(AccessError::UnknownNode(_))));
    assert!(matches!(a.ban("b", Duration::ZERO, None), Err(AccessError::Wrong(_))));
    assert!(matches!(a.unban("10.0.0.7"), Err(AccessError::NotBanned(_))));
    a.unban("b").unwrap();
    until("there is an edge again", || linked(true));

    let mut changed = settings.clone();
    changed.network.allow = vec![a.id()];
    changed.limits.max_nodes = 99;
    let expected = Reloaded { applied: vec!["network.allow"], needs_restart: vec!["limits.max_nodes"] };
    assert_eq!(a.reload(&changed), Ok(expected));
    until("it is on the list no more", || linked(false));
    changed.limits.max_nodes = 0;
    changed.network.allow.clear();
    assert!(a.reload(&changed).is_err());
    let expected = Reloaded { applied: vec!["network.allow"], needs_restart: Vec::new() };
    assert_eq!(a.reload(&settings), Ok(expected), "what was refused has changed nothing");
    until("anybody may come in again", || linked(true));
    b.shutdown();
    a.shutdown();
}
