//! Requests between nodes of one process: who is meant, which edge carries them, what goes wrong and how that is told.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::message::Purpose;
use kithd::protocol::reason::Reason;
use kithd::protocol::report::Direction;
use kithd::protocol::requests::message::{Failure, Refusal};
use kithd::{Config, Node, Outcome, Request, RequestError, Response};
use parking_lot::Mutex;
use tempfile::TempDir;

/// For an answer that is on its way; nothing waits for it in vain.
const SOON: Duration = Duration::from_secs(60);

fn network() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("requests-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A node that knows the others, and is known by them; `change` may change its configuration.
fn start(home: &TempDir, network: &str, label: &str, others: &[&Node], change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::default();
    config.node.label = label.parse().unwrap();
    config.node.state_dir = home.path().join(label);
    config.listen.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.network.name = network.parse().unwrap();
    config.network.connect = others.iter().map(|node| node.addresses()[0].to_string().parse().unwrap()).collect();
    change(&mut config);
    let node = Node::start(config).unwrap();
    let knows = |one: &Node, other: &Node| one.network().nodes.iter().any(|known| known.id == other.id().hex());
    for other in others {
        until("they know each other", || knows(&node, other) && knows(other, &node));
    }
    node
}

fn pair() -> (TempDir, Node, Node) {
    let (home, network) = (tempfile::tempdir().unwrap(), network());
    let alpha = start(&home, &network, "alpha", &[], |_| ());
    let beta = start(&home, &network, "beta", &[&alpha], |_| ());
    (home, alpha, beta)
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < SOON, "not within {} s: {what}", SOON.as_secs());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Until the test lets it go on.
fn waits(gate: &parking_lot::Mutex<mpsc::Receiver<()>>) -> &'static str {
    let _ = gate.lock().recv();
    ""
}

/// Connections by which a node may ask another.
fn ways(from: &Node, to: &Node) -> Vec<Purpose> {
    let rows = from.peers(false).peers.into_iter();
    let to = to.id().hex();
    let ways = rows.filter(|row| row.direction == Direction::Outgoing && row.id.as_ref() == Some(&to));
    ways.map(|row| row.purpose).collect()
}

#[test]
fn an_answer_comes_back_whatever_its_size_and_by_whatever_name() {
    let (_home, alpha, beta) = pair();
    alpha.handle("reverse", |request: Request| request.payload.into_iter().rev().collect::<Vec<u8>>()).unwrap();
    alpha.handle_inline("length", |request: Request| request.payload.len().to_string()).unwrap();
    let id = alpha.id().hex();
    for name in ["alpha", &id, &id[..10]] {
        for length in [0, 1, 16_000, 16_252, 16_253, 40_000, 1 << 20] {
            let payload: Vec<u8> = (0..length).map(|n| (n * 7 + n / 256) as u8).collect();
            let answer = beta.request(name, "reverse", &payload, SOON).unwrap();
            assert!(answer.iter().rev().eq(payload.iter()), "{length} bytes");
            assert_eq!(beta.request(name, "length", &payload, SOON).unwrap(), length.to_string().as_bytes());
        }
    }
    assert_eq!(alpha.request("beta", "echo", b"back", SOON).unwrap(), b"back", "the other way");
    assert_eq!(alpha.request("alpha", "length", b"own", SOON).unwrap(), b"3", "itself");
    let counts = beta.report().unwrap().requests;
    assert_eq!((counts.issued, counts.answered, counts.failed, counts.served), (42, 42, 0, 1));
    assert_eq!(alpha.report().unwrap().requests.served, 43);
}

#[test]
fn each_cause_has_its_error() {
    let (_home, alpha, beta) = pair();
    alpha.handle("fails", |_: Request| Response::failed("no such disk")).unwrap();
    alpha.handle("panics", |_: Request| -> Response { panic!("as the test wants it") }).unwrap();
    alpha.handle_inline("panics.here", |_: Request| -> Response { panic!("as the test wants it") }).unwrap();
    alpha.handle("long", |_: Request| vec![0; (1 << 20) + 1]).unwrap();
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    alpha.handle("stuck", move |_: Request| waits(&gate)).unwrap();
    let ask = |name: &str, service: &str| beta.request(name, service, b"x", SOON).unwrap_err();
    assert_eq!(ask("gamma", "echo"), RequestError::UnknownNode("gamma".to_owned()));
    assert_eq!(ask(&"ab".repeat(32), "echo"), RequestError::UnknownNode("abababab".to_owned()));
    assert!(matches!(ask("", "echo"), RequestError::UnknownNode(_)));
    assert_eq!(ask("alpha", "nothing"), RequestError::Refused(Refusal::UnknownService));
    assert_eq!(ask("alpha", "no name"), RequestError::Refused(Refusal::UnknownService));
    assert_eq!(ask("alpha", "fails"), RequestError::Failed(Failure::Service, b"no such disk".to_vec()));
    assert_eq!(ask("alpha", "panics"), RequestError::Failed(Failure::Panicked, vec![]));
    assert_eq!(ask("alpha", "panics.here"), RequestError::Failed(Failure::Panicked, vec![]));
    assert_eq!(ask("alpha", "long"), RequestError::Failed(Failure::TooLarge, vec![]));
    let large = beta.request("alpha", "echo", &vec![0; (1 << 20) + 1], SOON);
    assert_eq!(large, Err(RequestError::TooLarge((1 << 20) + 1, 1 << 20)));
    let late = beta.request("alpha", "stuck", b"", Duration::from_millis(300));
    assert_eq!(late, Err(RequestError::TimedOut { sent: true }));
    assert_eq!(beta.request("alpha", "echo", b"on", SOON).unwrap(), b"on", "the others go on");
    assert!(matches!(alpha.handle("echo", |_: Request| ""), Err(kithd::ServiceError::Taken(_))));
    assert!(matches!(alpha.handle("kithd.mine", |_: Request| ""), Err(kithd::ServiceError::Taken(_))));
    assert!(matches!(alpha.handle("a b", |_: Request| ""), Err(kithd::ServiceError::Name(_))));
    let refused = alpha.report().unwrap().requests.refused;
    assert_eq!(
        refused.get(&Refusal::UnknownService),
        Some(&1),
        "a name that is none is not even asked for: {refused:?}"
    );
    drop(release);
}

#[test]
fn who_is_meant_by_a_name_is_found_out_anew_when_the_network_has_changed() {
    let (home, network) = (tempfile::tempdir().unwrap(), network());
    let alpha = start(&home, &network, "alpha", &[], |_| ());
    let beta = start(&home, &network, "beta", &[&alpha], |_| ());
    let ask = || alpha.request("beta", "echo", b"", SOON);
    assert!((0..3).all(|_| ask().is_ok()));
    // Another one comes that calls itself so too: nobody is meant in its place, and it in nobody's.
    let other = start(&home, &network, "gamma", &[&alpha], |config| config.node.label = "beta".parse().unwrap());
    assert!((0..3).all(|_| matches!(ask(), Err(RequestError::AmbiguousNode(..)))));
    assert!(alpha.request(&beta.id().hex(), "echo", b"", SOON).is_ok());
    drop(other);
}

#[test]
fn a_thousand_callers_of_a_cold_node_make_one_dial() {
    let (home, network) = (tempfile::tempdir().unwrap(), network());
    let mut nodes: Vec<Node> = Vec::new();
    // Each dials its two ring successors and nobody else.
    for label in ["a1", "a2", "a3", "a4", "a5", "a6"] {
        let known: Vec<&Node> = nodes.first().into_iter().collect();
        let node = start(&home, &network, label, &known, |config| {
            config.discovery.out_degree = 2;
            config.requests.idle_close = Duration::from_secs(2);
        });
        nodes.push(node);
    }
    let calm = || nodes.iter().all(|node| node.network().agreement.unanimous);
    until("all agree", calm);
    let edges = |node: &Node| node.report().unwrap().network_view.edges;
    let before = edges(&nodes[0]);
    let is_cold = |pair: &(usize, usize)| pair.0 != pair.1 && ways(&nodes[pair.0], &nodes[pair.1]).is_empty();
    let (from, to) =
        (0..36).map(|n| (n / 6, n % 6)).find(is_cold).expect("six nodes have 30 pairs and 17 edges at most");
    let (from, to) = (&nodes[from], &nodes[to]);
    let label = to.identity().label;
    let dials = AtomicUsize::new(0);
    let count = || from.peers(true).peers.iter().filter(|row| row.purpose == Purpose::Application).count();
    let barrier = Barrier::new(100);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..10 {
                    assert_eq!(from.request(&label, "echo", b"?", SOON).unwrap(), b"?");
                }
                dials.fetch_max(count(), Ordering::Relaxed);
            });
        }
    });
    assert_eq!((ways(from, to), dials.into_inner()), (vec![Purpose::Application], 1));
    until("all agree still", calm);
    assert!(nodes.iter().all(|node| edges(node) == before), "an application's edge is in no record");
    let heads = |node: &Node| node.peers(false).peers.iter().filter(|row| row.purpose == Purpose::Application).count();
    assert_eq!(heads(to), 1, "its head shows it for what it is");
    let closed = || from.peers(true).peers.iter().any(|row| row.close_reason == Some(Reason::Idle));
    until("it is closed when nobody has asked for a while", || closed() && ways(from, to).is_empty());
}

#[test]
fn a_handler_may_ask_others_and_circles_find_an_end() {
    let (_home, alpha, beta) = pair();
    let (alpha, beta) = (Arc::new(alpha), Arc::new(beta));
    for (node, next) in [(&alpha, "beta"), (&beta, "alpha")] {
        let own = Arc::downgrade(node);
        node.handle("around", move |_: Request| {
            let Some(own) = own.upgrade() else { return Response::failed("gone") };
            match own.request(next, "around", b"", SOON) {
                Ok(answer) => answer.into(),
                Err(error) => Response::failed(error.to_string()),
            }
        })
        .unwrap();
        let own = Arc::downgrade(node);
        node.handle_inline("waits", move |_: Request| {
            own.upgrade().map(|own| format!("{:?}", own.request(next, "echo", b"", SOON))).unwrap_or_default()
        })
        .unwrap();
    }
    let Err(RequestError::Failed(Failure::Service, why)) = alpha.request("beta", "around", b"", SOON) else {
        panic!("it goes in a circle");
    };
    assert!(String::from_utf8(why).unwrap().contains("circle"));
    assert_eq!(alpha.request("beta", "waits", b"", SOON).unwrap(), b"Err(WouldDeadlock)");
}

/// It reads its answers itself, in the reactor's place, until there is more to read.
#[test]
fn who_asks_one_thing_after_the_other_is_answered_whatever_else_begins() {
    let (_home, alpha, beta) = pair();
    let alpha = Arc::new(alpha);
    let own = Arc::downgrade(&alpha);
    alpha
        .handle("back", move |request: Request| match own.upgrade() {
            Some(own) => own.request("beta", "echo", &request.payload, SOON).map_or(Response::failed("no"), Into::into),
            None => Response::failed("gone"),
        })
        .unwrap();
    let requester = beta.requester("alpha").unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let lone = scope.spawn(|| {
            let large = vec![7; 100_000];
            for number in 0..4_000u32 {
                let (service, payload) = match number % 97 {
                    96 => ("echo", &large[..]),
                    rest if rest % 8 == 7 => ("back", &number.to_le_bytes()[..]),
                    _ => ("echo", &number.to_le_bytes()[..]),
                };
                assert_eq!(beta.request("alpha", service, payload, SOON).unwrap(), payload, "{service} {number}");
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) && !lone.is_finished() {
            thread::sleep(Duration::from_millis(3));
            let beside = requester.pipeline(8);
            (0..8).for_each(|_| _ = beside.submit("echo", b"beside", SOON).unwrap());
            (0..8).for_each(|_| _ = beside.recv_timeout(SOON).expect("one comes").ending.unwrap());
        }
    });
}

/// A worker that was asked one short thing after the other reads the next one itself, in the reactor's place; until what it
/// was asked takes longer.
#[test]
fn a_worker_that_looks_out_for_the_next_request_keeps_nobody_waiting() {
    let (_home, alpha, beta) = pair();
    let thread = || thread::current().name().unwrap_or_default().to_owned();
    alpha.handle("works", move |_: Request| thread()).unwrap();
    alpha.handle_inline("reads", move |_: Request| thread()).unwrap();
    let (go_on, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    alpha.handle("long", move |_: Request| waits(&gate)).unwrap();
    let ask = |service: &str| String::from_utf8(beta.request("alpha", service, b"", SOON).unwrap()).unwrap();
    let looks_out = || {
        assert!((0..40).all(|_| ask("works").starts_with("work-")));
        ask("reads").starts_with("work-")
    };
    for _ in 0..3 {
        until("a worker reads", looks_out);
        thread::scope(|scope| {
            let long = scope.spawn(|| ask("long"));
            assert!((0..100).all(|_| ask("works").starts_with("work-")), "the reactor is back, or another worker");
            go_on.send(()).unwrap();
            assert_eq!(long.join().unwrap(), "");
        });
    }
}

#[test]
fn many_requests_share_an_edge_without_a_thread_for_each() {
    let (_home, _alpha, beta) = pair();
    let requester = beta.requester("alpha").unwrap();
    let pipeline = requester.pipeline(64);
    let (mut open, mut answered) = (BTreeSet::new(), 0);
    for number in 0u32..2000 {
        while let Some(completion) = pipeline
            .try_recv()
            .or_else(|| (pipeline.open() == 64).then(|| pipeline.recv_timeout(SOON).expect("one comes")))
        {
            assert!(open.remove(&completion.number) && completion.ending.is_ok());
            answered += 1;
        }
        assert!(open.insert(pipeline.submit("echo", &number.to_le_bytes(), SOON).unwrap()));
    }
    while answered < 2000 {
        let completion = pipeline.recv_timeout(SOON).expect("one comes");
        assert!(open.remove(&completion.number) && completion.ending.is_ok());
        answered += 1;
    }
    assert!(open.is_empty() && pipeline.open() == 0);

    let (told, heard) = mpsc::channel();
    let again = requester.clone();
    let inside = move |ending: Result<Vec<u8>, RequestError>| {
        let nested = again.submit("echo", b"", SOON, |_| ());
        told.send((ending, nested)).unwrap();
    };
    requester.submit("echo", b"call-back", SOON, inside).unwrap();
    let (ending, nested) = heard.recv_timeout(SOON).unwrap();
    assert_eq!((ending, nested), (Ok(b"call-back".to_vec()), Err(RequestError::WouldDeadlock)));
}

/// There is an edge, and room on it for all of them.
#[test]
fn who_asks_without_waiting_is_not_refused_because_others_ask_too() {
    let (_home, _alpha, beta) = pair();
    let requester = beta.requester("alpha").unwrap();
    for round in 0..50 {
        // The first finds the edge, the others share it.
        requester.submit("echo", b"?", SOON, |_| ()).unwrap();
        let (told, heard) = mpsc::channel();
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let told = told.clone();
                    barrier.wait();
                    for _ in 0..40 {
                        let told = told.clone();
                        requester.try_submit("echo", b"?", SOON, move |ending| told.send(ending).unwrap()).unwrap();
                    }
                });
            }
        });
        for _ in 0..160 {
            assert_eq!(heard.recv_timeout(SOON).unwrap(), Ok(b"?".to_vec()), "round {round}");
        }
    }
}

#[test]
fn a_call_back_is_told_in_time_though_nobody_answers() {
    let (_home, alpha, beta) = pair();
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    alpha.handle("stuck", move |_: Request| waits(&gate)).unwrap();
    for asker in [&beta, &alpha] {
        let (told, heard) = mpsc::channel();
        let requester = asker.requester("alpha").unwrap();
        requester.submit("stuck", b"", Duration::from_millis(200), move |ending| told.send(ending).unwrap()).unwrap();
        assert_eq!(heard.recv_timeout(SOON).unwrap(), Err(RequestError::TimedOut { sent: true }));
    }
    assert_eq!(beta.request("alpha", "echo", b"", Duration::MAX).unwrap(), b"", "as long as it takes");
    drop(release);
}

#[test]
fn whoever_waits_is_told_when_the_responder_dies() {
    let (_home, alpha, beta) = pair();
    let (started, at_work) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    alpha
        .handle("stuck", move |_: Request| {
            started.send(()).unwrap();
            waits(&gate)
        })
        .unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| beta.request("alpha", "stuck", b"", SOON));
        at_work.recv_timeout(SOON).unwrap();
        alpha.abort();
        let ending = waiting.join().unwrap();
        let gone = |reason| matches!(reason, Reason::EndOfStream | Reason::Reset);
        assert!(matches!(ending, Err(RequestError::Closed { sent: true, reason }) if gone(reason)), "{ending:?}");
    });
    let unreachable = beta.request("alpha", "echo", b"", SOON);
    assert_eq!(unreachable, Err(RequestError::Unreachable("alpha".to_owned(), Reason::ConnectionRefused)));
    drop(release);
}

#[test]
fn what_is_at_work_is_answered_before_its_node_leaves() {
    let (_home, alpha, beta) = pair();
    let (started, at_work) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    alpha
        .handle("slow", move |_: Request| {
            started.send(()).unwrap();
            waits(&gate);
            "done"
        })
        .unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| beta.request("alpha", "slow", b"", SOON));
        at_work.recv_timeout(SOON).unwrap();
        let leaves = scope.spawn(|| alpha.shutdown());
        let refused = || beta.request("alpha", "echo", b"", SOON) == Err(RequestError::Refused(Refusal::Leaving));
        until("new work is refused", || refused() || waiting.is_finished());
        drop(release);
        assert_eq!(waiting.join().unwrap(), Ok(b"done".to_vec()));
        leaves.join().unwrap();
    });
}

#[test]
fn an_outcome_of_connect_is_the_edge_that_requests_use() {
    let (_home, alpha, beta) = pair();
    let address = beta.addresses()[0].to_string().parse().unwrap();
    assert!(matches!(alpha.connect(&address), Outcome::Edge(..)));
    assert_eq!(alpha.request("beta", "echo", b"!", SOON).unwrap(), b"!");
    assert_eq!(ways(&alpha, &beta).len(), 1);
}

#[test]
fn no_request_fails_while_the_network_changes_its_key() {
    let (home, network) = (tempfile::tempdir().unwrap(), network());
    let (old, new) = ("aa".repeat(32), "bb".repeat(32));
    let path = |label: &str| home.path().join(format!("{label}.key"));
    let hold = |label: &str, keys: &[&str]| {
        let _ = fs::remove_file(path(label));
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(label));
        file.unwrap().write_all(keys.join("\n").as_bytes()).unwrap();
    };
    let configs = Mutex::new(Vec::new());
    let begin = |label: &str, others: &[&Node]| {
        hold(label, &[&old]);
        start(&home, &network, label, others, |config| {
            config.network.key_file = Some(path(label));
            configs.lock().push((label.to_owned(), config.clone()));
        })
    };
    let alpha = begin("alpha", &[]);
    alpha
        .handle("slow", |request: Request| {
            thread::yield_now();
            request.payload
        })
        .unwrap();
    let beta = begin("beta", &[&alpha]);
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for service in ["echo", "slow"] {
            let (beta, is_over, asked) = (&beta, &is_over, &asked);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(beta.request("alpha", service, b"on", SOON), Ok(b"on".to_vec()));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for keys in [[&*old, &*new], [&*new, &*old]] {
            for (node, (label, config)) in [&alpha, &beta].into_iter().zip(configs.lock().iter()) {
                hold(label, &keys);
                node.reload(config).unwrap();
            }
        }
        let replaced = || beta.peers(true).peers.iter().any(|row| row.close_reason == Some(Reason::Replaced));
        until("the edge was made anew", replaced);
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() > 10);
    assert_eq!(beta.report().unwrap().requests.failed, 0);
}
