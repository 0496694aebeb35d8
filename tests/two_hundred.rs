//! Two hundred nodes in one process, as a program may run them: what the project's goals ask of real processes, with
//! threads.
//!
//! Some four thousand threads share two processors here. A node that gets no turn for a second is not dead, and its
//! neighbours are told so: heartbeats may take ten seconds. Who ends is noticed by its closed sockets all the same.
//! What took how long is printed, not asserted.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use kithd::protocol::report::{NetworkReport, Status};
use kithd::{Config, Event, Node};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

const NODES: usize = 200;
/// For what takes some seconds on two processors that have nothing else to do.
const PATIENCE: Duration = Duration::from_secs(240);
/// Each connection has two ends here, each node about eight connections and a dozen descriptors of its own.
const DESCRIPTORS: u64 = 8192;

fn config(home: &TempDir, number: usize) -> Config {
    let mut config = Config::default();
    config.node.label = format!("node-{number}").parse().unwrap();
    config.node.state_dir = home.path().join(format!("{number}"));
    config.listen.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.network.name = format!("two-hundred-{}", std::process::id()).parse().unwrap();
    let seconds = Duration::from_secs;
    (config.heartbeat.interval, config.heartbeat.timeout) = (seconds(2), seconds(10));
    (config.discovery.dial_timeout, config.limits.handshake_timeout) = (seconds(10), seconds(20));
    config.discovery.refute_window = seconds(5);
    // Each record is checked by two hundred nodes, all on these processors: if all spoke each second, there would be time
    // for nothing else.
    (config.discovery.publish_stability, config.discovery.publish_interval) = (seconds(1), seconds(5));
    // Each edge is two threads.
    config.discovery.out_degree = 6;
    config
}

/// Many systems allow a process 1,024 descriptors to begin with.
fn raise_the_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum: limit.maximum });
        raised.unwrap_or_else(|error| panic!("{DESCRIPTORS} descriptors are needed ({limit:?}): {error}"));
    }
}

/// What the system says of this process.
fn measured() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value =
        |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned();
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    format!("{} threads, {open} descriptors, {} resident", value("Threads:"), value("VmRSS:"))
}

/// Waits until each of them can show that all of these live nodes, and no others, hold one view, and that it is the same
/// one.
fn agree(what: &str, nodes: &[Node]) -> Vec<NetworkReport> {
    let start = Instant::now();
    loop {
        let left = || PATIENCE.saturating_sub(start.elapsed());
        let agreed = nodes.iter().map(|node| node.await_agreement(nodes.len(), left()));
        let reports: Vec<NetworkReport> = agreed
            .map(|agreed| {
                agreed.unwrap_or_else(|last| panic!("{what}: {:?} after {:?}", last.agreement, start.elapsed()))
            })
            .collect();
        // The first may have changed its mind while the last was asked.
        let digests: BTreeSet<&str> = reports.iter().map(|report| report.digest.as_str()).collect();
        if digests.len() == 1 {
            println!("{what}: all agree after {:.2} s; {}", start.elapsed().as_secs_f64(), measured());
            return reports;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {} views", digests.len());
    }
}

fn count(report: &NetworkReport, status: Status) -> usize {
    report.nodes.iter().filter(|node| node.status == status).count()
}

/// What each of them was told of the node of that label since.
fn told_of(events: &[Receiver<Event>], node: &str) -> Vec<Vec<Status>> {
    let told = |event: Event| match event {
        Event::Status { label, status, .. } if label.as_str() == node => Some(status),
        _ => None,
    };
    events.iter().map(|events| events.try_iter().filter_map(told).collect()).collect()
}

#[test]
fn two_hundred_nodes_form_a_network_and_agree_on_who_goes_and_how() {
    raise_the_descriptor_limit();
    let home = tempfile::tempdir().unwrap();
    let before = measured();
    let start = Instant::now();
    let first = Node::start(config(&home, 0)).unwrap();
    let seed = first.addresses()[0];
    let mut nodes = vec![first];
    for number in 1..NODES {
        let mut config = config(&home, number);
        config.network.connect = vec![seed.into()];
        nodes.push(Node::start(config).unwrap());
    }
    println!("{NODES} nodes started within {:.2} s; before: {before}", start.elapsed().as_secs_f64());
    let reports = agree("a cold start from one seed", &nodes);
    assert!(reports.iter().all(|report| report.nodes.len() == NODES && count(report, Status::Up) == NODES));

    // One is gone without a word.
    let victim = nodes.remove(17);
    let label = victim.identity().label;
    victim.abort();
    let reports = agree("one killed", &nodes);
    for report in &reports {
        let row = report.nodes.iter().find(|node| node.label == label).unwrap();
        assert_eq!(row.status, Status::Down, "{row:?}");
    }

    // One takes its leave.
    let leaver = nodes.remove(42);
    let label = leaver.identity().label;
    let events: Vec<Receiver<Event>> = nodes.iter().map(Node::events).collect();
    leaver.shutdown();
    agree("one left", &nodes);
    for told in told_of(&events, &label) {
        assert_eq!(told, [Status::Left], "it was never down, nor suspected");
    }
    drop(events);

    // A third of them at once, the one that all began with among them.
    let rest = nodes.split_off(NODES * 3 / 10);
    thread::scope(|scope| nodes.drain(..).for_each(|node| drop(scope.spawn(|| node.abort()))));
    let reports = agree("thirty of a hundred killed at once", &rest);
    for report in &reports {
        let counts = [Status::Up, Status::Down, Status::Left].map(|status| count(report, status));
        assert_eq!(counts, [rest.len(), NODES - rest.len() - 1, 1]);
    }
    let start = Instant::now();
    thread::scope(|scope| rest.into_iter().for_each(|node| drop(scope.spawn(|| node.abort()))));
    println!("the rest ended within {:.2} s; {}", start.elapsed().as_secs_f64(), measured());
}
