//! A hundred thousand requests that come to nothing, in every way there is, leave a node as it was: its threads, its
//! descriptors, its memory; and meanwhile the good ones on the same edge are answered. One test, since it counts what the
//! whole process has.

use std::fs;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::codec::{Preamble, encode_frame};
use kithd::protocol::message::{HeadMessage, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::NetworkId;
use kithd::protocol::requests::message::{self, Bytes, Failure, Refusal};
use kithd::secure::primitives::Cipher;
use kithd::{Config, Node, Request, RequestError, Response};
use tempfile::TempDir;

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/stranger.rs"]
mod stranger;

use daemon::Network;
use patience::{SOON, until};
use stranger::{Line, Stranger, Trap};

/// Over the edge of two nodes; the rest comes over connections that end with it.
const ALL: u64 = 97_000;
const COME_AND_GO: usize = 2400;
const BREACHES: usize = 100;
const HALVES: usize = 500;
/// First a tenth of all, until memory has what it takes for so many at a time.
const WARMING: u64 = 10;
/// Of the head, as little as may be; the tail may send more.
const MAX_PAYLOAD: usize = 64 << 10;
/// Less than 90 bytes for each: what the allocator's pools grow by when so much happens at once, however often it does (four
/// times as many take no more), and what a hundred strangers have said of themselves, which is remembered for two days.
const GROWTH: u64 = 8 << 20;
const WANTED: &str = "as the test wants it";

fn start(home: &TempDir, network: &Network, label: &str, connect: Option<&Node>, max_payload: usize) -> Node {
    let mut config = Config::default();
    config.node.label = label.parse().unwrap();
    config.node.state_dir = home.path().join(label);
    config.listen.addresses = vec!["127.0.0.1:0".parse().unwrap()];
    config.network.name = network.name().parse().unwrap();
    config.network.connect = connect.iter().map(|node| node.addresses()[0].to_string().parse().unwrap()).collect();
    config.limits.max_payload = max_payload;
    Node::start(config).unwrap()
}

/// Everything that can be wrong with a service.
fn serve(head: &Node) {
    head.handle("panics", |_: Request| -> Response { panic!("{WANTED}") }).unwrap();
    head.handle_inline("panics.here", |_: Request| -> Response { panic!("{WANTED}") }).unwrap();
    head.handle("fails", |_: Request| Response::failed("no such disk")).unwrap();
    head.handle("long", |_: Request| vec![7; MAX_PAYLOAD + 1]).unwrap();
    head.handle("late", |request: Request| {
        thread::sleep(request.deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        "nobody waits for it"
    })
    .unwrap();
}

/// One bad request.
fn ask_badly(tail: &Node, number: u64, late: &AtomicU64) {
    let ask = |service: &str, length| tail.request("head", service, &vec![7; length], SOON);
    let failed = |failure, said: &[u8]| Err(RequestError::Failed(failure, said.to_vec()));
    let expect = |ending, expected: Result<Vec<u8>, RequestError>| {
        assert_eq!(ending, expected);
        0
    };
    match number % 20 {
        // It takes a worker for a while. The last word on who was first, the answer or the end, is the machine's.
        0 => match tail.request("head", "late", b"", Duration::from_millis(2)) {
            Err(RequestError::TimedOut { .. } | RequestError::Refused(Refusal::TimedOut)) => {
                late.fetch_add(1, Ordering::Relaxed)
            }
            Ok(_) => 0,
            Err(error) => panic!("{error}"),
        },
        1..=4 => expect(ask("nothing", 100), Err(RequestError::Refused(Refusal::UnknownService))),
        5..=6 => expect(ask("echo", MAX_PAYLOAD + 1), Err(RequestError::Refused(Refusal::TooLarge))),
        7..=9 => expect(ask("panics", 100), failed(Failure::Panicked, b"")),
        10..=12 => expect(ask("panics.here", 100), failed(Failure::Panicked, b"")),
        13..=15 => expect(ask("fails", 100), failed(Failure::Service, b"no such disk")),
        16..=18 => expect(ask("long", 100), failed(Failure::TooLarge, b"")),
        _ => expect(ask("echo", (1 << 20) + 1), Err(RequestError::TooLarge((1 << 20) + 1, 1 << 20))),
    };
}

fn question(id: u64, service: &str) -> Vec<u8> {
    let service = service.parse().unwrap();
    let payload = Bytes(b"?".to_vec());
    let request = message::Request { id, service, remaining_ms: 60_000, depth: 0, length: 1, payload };
    encode_frame(&TailMessage::Request(request))
}

/// Dials until he is welcome: his last connection may not be over yet.
fn welcome(stranger: &Stranger, head: &Node) -> Line {
    let preamble = Preamble::of(Cipher::preferred() as u8, Purpose::Application);
    until("he is welcome", SOON, || {
        let address = head.addresses()[0];
        let mut line = Line::to(address);
        line.secure_with(&stranger.credentials(stranger.body.network), preamble)
            .map_err(|reason| reason.to_string())?;
        line.tell(&stranger.hello_for(Purpose::Application, address));
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Welcome { .. }) => Ok(line),
            other => Err(format!("{other:?}")),
        }
    })
}

/// Callers who ask, and go before they are answered.
fn come_and_go(network: &Network, head: &Node, count: usize) {
    let id = NetworkId::of(network.name());
    let strangers: Vec<Stranger> = (0..16).map(|number| Stranger::new_in(id, &format!("goes-{number}"))).collect();
    for stranger in strangers.iter().cycle().take(count) {
        let mut line = welcome(stranger, head);
        line.say(&(1..=10).flat_map(|id| question(id, "fails")).collect::<Vec<u8>>());
    }
}

/// Callers who use a number twice. Each is of another name: none is let in again for ten minutes.
fn use_numbers_twice(network: &Network, head: &Node, count: usize) {
    for number in 0..count {
        let stranger = Stranger::new_in(NetworkId::of(network.name()), &format!("twice-{number}"));
        let mut line = welcome(&stranger, head);
        line.say(&[question(1, "echo"), question(1, "echo")].concat());
        assert_eq!(line.dismissed(), Some(Reason::Unexpected));
    }
}

/// A responder that is gone when it has been asked.
fn die_half_way(network: &Network, tail: &Node, count: usize) {
    let trap = Trap::new(network, "dies");
    let address = trap.address.to_string().parse().unwrap();
    let id = trap.stranger.id();
    thread::scope(|scope| {
        scope.spawn(|| tail.connect(&address));
        let asking = scope.spawn(|| {
            until("it is known", SOON, || match tail.request(&id, "any", b"", SOON) {
                Err(RequestError::UnknownNode(name)) => Err(name),
                _ => Ok(()),
            });
            for _ in 1..count {
                let ending = tail.request(&id, "any", b"", SOON);
                assert!(matches!(ending, Err(RequestError::Closed { sent: true, .. })), "{ending:?}");
            }
        });
        while !asking.is_finished() {
            let Some(line) = trap.accept_within(Duration::from_millis(20)) else { continue };
            // Others dial him too, and ask nothing.
            let trap = &trap;
            scope.spawn(move || {
                let Some((_, mut line)) = trap.introduced(line) else { return };
                line.tell(&trap.stranger.welcome());
                while !matches!(
                    line.hear::<TailMessage>(),
                    Some(TailMessage::Request(_) | TailMessage::Goodbye(_)) | None
                ) {}
            });
        }
        asking.join().unwrap();
    });
}

/// All of it; how many were made.
fn all(network: &Network, head: &Node, tail: &Node, share: u64) -> u64 {
    let (next, late, of) = (AtomicU64::new(0), AtomicU64::new(0), ALL / share);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= of {
                        break;
                    }
                    ask_badly(tail, number, &late);
                }
            });
        }
    });
    assert!(late.into_inner() > of / 50, "nobody was late");
    let part = |count: usize| count.div_ceil(usize::try_from(share).unwrap());
    come_and_go(network, head, part(COME_AND_GO));
    use_numbers_twice(network, head, part(BREACHES));
    die_half_way(network, tail, part(HALVES));
    of + (part(COME_AND_GO) + part(BREACHES) + part(HALVES)) as u64
}

/// Says so when it goes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What this process has: threads, descriptors, bytes of memory. Without the workers and those that wait for another peer,
/// which come when they are needed and go when they are not.
fn has() -> (usize, usize, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let figure = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let threads = fs::read_dir("/proc/self/task").unwrap().filter(|thread| {
        let name = fs::read_to_string(thread.as_ref().unwrap().path().join("comm")).unwrap_or_default();
        !name.starts_with("work-") && name != "peer-spare\n"
    });
    (threads.count(), fs::read_dir("/proc/self/fd").unwrap().count(), figure("VmRSS:") * 1024)
}

/// The same once what is over is closed.
fn has_at_rest(head: &Node, tail: &Node) -> (usize, usize, u64) {
    let open = |node: &Node| node.peers(false).peers.len();
    // What it was at the last look, and at how many looks in a row.
    let mut still = (0, 0);
    until("only the two are left", SOON, || {
        let open = (open(head), open(tail));
        let served = head.report().unwrap().requests.served;
        still = (served, if served == still.0 { still.1 + 1 } else { 0 });
        if open.0 <= 2 && open.1 <= 2 && still.1 >= 5 { Ok(()) } else { Err(format!("{open:?}")) }
    });
    has()
}

#[test]
fn a_hundred_thousand_bad_requests_leave_nothing() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |said| {
        if said.payload_as_str() != Some(WANTED) {
            usual(said);
        }
    }));
    let (home, network) = (tempfile::tempdir().unwrap(), Network::new());
    let head = start(&home, &network, "head", None, MAX_PAYLOAD);
    serve(&head);
    let tail = start(&home, &network, "tail", Some(&head), 1 << 20);
    until("they know each other", SOON, || tail.request("head", "echo", b"?", SOON).map_err(|error| error.to_string()));
    all(&network, &head, &tail, WARMING);
    let before = has_at_rest(&head, &tail);

    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    let made = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(tail.request("head", "echo", b"good", SOON), Ok(b"good".to_vec()));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also if it panics: nobody waits for this test for ever.
        let _guard = Over(&is_over);
        all(&network, &head, &tail, 1)
    });
    let took = start.elapsed();
    let after = has_at_rest(&head, &tail);
    println!(
        "{made} bad requests and {} good ones in {:.1} s; threads, descriptors, bytes before {before:?}, after {after:?}",
        answered.into_inner(),
        took.as_secs_f64(),
    );
    assert!(made >= 100_000);
    assert!(after.0 <= before.0 && after.1 <= before.1);
    assert!(after.2 < before.2 + GROWTH, "{} bytes more", after.2 - before.2);
    let refused = head.report().unwrap().requests.refused;
    println!("refused: {refused:?}");
    assert!(refused[&Refusal::UnknownService] > 19_000 && refused[&Refusal::TooLarge] > 9_000, "{refused:?}");
}
