//! Too much of everything: frames faster than they can be handled, answers that nobody reads, connections that say
//! nothing. The node's memory stays bounded and its other neighbours notice nothing.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::codec::encode_frame;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, News, Part, TailMessage, Want};
use kithd::protocol::record::Item;
use parking_lot::{Mutex, MutexGuard};

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::{self, agreed_and, closed_for_any, refused, rows_of};
use crate::stranger::{Line, Stranger, heartbeat, is_end};

/// What a node's memory may grow by under a flood: some times the bound of one peer's queue, far below what is sent.
const GROWTH: u64 = 24 << 20;
/// A flood takes all the processors there are: only one at a time.
static FLOODS: Mutex<()> = Mutex::new(());

/// Two honest nodes, before a flood and after it.
struct Witnessed {
    a: Daemon,
    b: Daemon,
    rss: u64,
    edges: BTreeSet<u64>,
    network: Network,
    _alone: MutexGuard<'static, ()>,
}

impl Witnessed {
    fn new(flags: &[&str]) -> Self {
        let alone = FLOODS.lock();
        let network = Network::new();
        let a = network.node("a").with(flags).start();
        let b = network.node("b").connect(a.address).start();
        // Each is the other's successor in both rings: with an edge each way all is settled.
        agreed_and(&[&a, &b], |view| report::edges(view).len() == 2);
        let (rss, edges) = (rss(&a), edges(&a, &b));
        assert!(!edges.is_empty());
        Self { a, b, rss, edges, network, _alone: alone }
    }

    /// The node's memory is what it was, and so are the edges of the honest nodes.
    fn is_unharmed(&self) {
        let now = rss(&self.a);
        println!("resident: {} KiB before, {} KiB now", self.rss >> 10, now >> 10);
        assert!(now < self.rss + GROWTH, "{} bytes before, {now} now", self.rss);
        let edges = edges(&self.a, &self.b);
        assert_eq!(edges, self.edges);
        for (node, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let rows = node.peers();
            let closed: Vec<_> = rows_of(&rows, Some(&other.id))
                .into_iter()
                .filter(|row| row["close_reason"] == "heartbeat-timeout" || row["close_reason"] == "slow-reader")
                .collect();
            assert!(closed.is_empty(), "{closed:?}");
        }
    }
}

fn rss(node: &Daemon) -> u64 {
    node.status()["memory"]["rss_bytes"].as_u64().unwrap()
}

/// The numbers of the established connections between a and b, as a counts them.
fn edges(a: &Daemon, b: &Daemon) -> BTreeSet<u64> {
    let rows = a.peers();
    let open = rows_of(&rows, Some(&b.id)).into_iter().filter(|row| row["state"] == "established");
    open.map(|row| row["peer_id"].as_u64().unwrap()).collect()
}

/// Sends these bytes over and over for that long, while another thread reads what comes back, and a third one looks at
/// the node's memory. Gives back the most that was seen of it, and what was sent.
fn flood(node: &Daemon, mut line: Line, bytes: &[u8], span: Duration) -> (u64, u64) {
    let mut answers = line.socket.try_clone().unwrap();
    let (over, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut sent = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while answers.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(rss(node), Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        while start.elapsed() < span {
            match line.try_say(bytes) {
                Ok(()) => sent += bytes.len() as u64,
                Err(error) if is_end(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
        over.store(true, Ordering::Relaxed);
        line.socket.shutdown(std::net::Shutdown::Both).ok();
    });
    (peak.load(Ordering::Relaxed), sent)
}

#[test]
fn a_flood_of_heartbeats_is_paused_and_not_kept() {
    let nodes = Witnessed::new(&[]);
    let stranger = Stranger::new(&nodes.network, "eager");
    let line = stranger.dial(&nodes.a);
    let many: Vec<u8> = (1..500).flat_map(|seq| encode_frame(&heartbeat(seq))).collect();
    let (peak, sent) = flood(&nodes.a, line, &many, Duration::from_secs(4));
    println!("{} KiB of heartbeats; at most {} KiB resident", sent >> 10, peak >> 10);
    assert!(sent > 4 << 20, "only {sent} bytes were taken: this is no flood");
    assert!(peak < nodes.rss + GROWTH, "{} bytes before, {peak} in the flood", nodes.rss);
    nodes.is_unharmed();
}

/// Each of these costs the node a dozen signatures to check, and the sender nothing: four may be without an answer.
#[test]
fn a_flood_of_news_is_closed_and_not_kept() {
    let nodes = Witnessed::new(&[]);
    let stranger = Stranger::new(&nodes.network, "eager");
    let line = stranger.dial(&nodes.a);
    let items: List<Item, 128> = crowd(&nodes.network, 16).iter().map(|one| Item::Record(one.record())).collect();
    let push = encode_frame(&TailMessage::Push(News { items, ..News::default() })).repeat(16);
    let (peak, sent) = flood(&nodes.a, line, &push, Duration::from_secs(60));
    println!("{} KiB of news; at most {} KiB resident", sent >> 10, peak >> 10);
    closed_for_any(&nodes.a, Some(&stranger.id()), &["unexpected"]);
    assert!(peak < nodes.rss + GROWTH, "{} bytes before, {peak} in the flood", nodes.rss);
    nodes.is_unharmed();
}

/// Made-up members, whose records are as large as records get.
fn crowd(network: &Network, count: usize) -> Vec<Stranger> {
    let crowd = (0..count).map(|number| {
        let mut one = Stranger::new(network, &format!("extra-{number}"));
        one.body.tags = [("note".to_owned(), "x".repeat(252))].into_iter().collect();
        one
    });
    crowd.collect()
}

/// Tells the node of members with large records, and gives back a request for them all and the size of its answer.
fn large_request(nodes: &Witnessed, line: &mut Line) -> (Vec<u8>, usize) {
    let crowd = crowd(&nodes.network, 18);
    for some in crowd.chunks(9) {
        let items = some.iter().map(|one| Item::Record(one.record())).collect();
        line.tell(&TailMessage::Push(News { items, ..News::default() }));
    }
    let want: List<Want, 256> = crowd.iter().map(|one| Want(one.body.id.short(), Part::All)).collect();
    let request = encode_frame(&TailMessage::Push(News { want, ..News::default() }));
    (request, crowd.iter().map(|one| kithd::protocol::codec::encoded_len(&*one.record())).sum())
}

/// What the node has written to him or has waiting for him; `None` once the edge is closed.
fn answered(node: &Daemon, stranger: &Stranger) -> Option<(u64, u64)> {
    let (rows, id) = (node.peers(), stranger.id());
    let row = *rows_of(&rows, Some(&id)).iter().find(|row| row["state"] == "established")?;
    let count = |what: &str| row[what].as_u64().unwrap();
    Some((count("bytes_out") + count("queued_bytes"), count("queued_bytes")))
}

/// Asks once, and waits until the node has answered, not for the answer. What then waits; `None` if he is closed instead.
fn ask(node: &Daemon, stranger: &Stranger, line: &mut Line, (request, answer): &(Vec<u8>, usize)) -> Option<u64> {
    let (before, _) = answered(node, stranger)?;
    line.say(request);
    until("it has answered", SOON, || match answered(node, stranger) {
        // Less than all of it: what is written no longer costs a place in the queue.
        Some((now, _)) if now < before + *answer as u64 / 2 => Err(format!("{before} bytes before, {now} now")),
        other => Ok(other.map(|(_, queued)| queued)),
    })
}

/// When more waits for somebody than the node likes, it does not read him until he has taken it.
#[test]
fn who_takes_no_answers_is_not_read_and_closed_and_who_takes_them_late_goes_on() {
    let nodes = Witnessed::new(&[]);
    let [deaf, late] = ["deaf", "late"].map(|label| Stranger::new(&nodes.network, label));

    let mut line = Line::narrow_to(nodes.a.address);
    deaf.introduce(&nodes.a, &mut line);
    let request = large_request(&nodes, &mut line);
    let (mut owed, mut peak) = (0, 0);
    while ask(&nodes.a, &deaf, &mut line, &request).is_some() {
        owed += request.1;
        peak = peak.max(rss(&nodes.a));
        assert!(owed < 4 << 20, "nothing is read, and the node answers on");
    }
    println!("{} KiB were owed; at most {} KiB resident", owed >> 10, peak >> 10);
    closed_for_any(&nodes.a, Some(&deaf.id()), &["slow-reader"]);
    assert!(refused(&nodes.a, "slow-reader") > 0 && peak < nodes.rss + GROWTH, "{} bytes, then {peak}", nodes.rss);
    until("nothing is queued for it any more", SOON, || {
        let queued = nodes.a.status()["memory"]["queued_bytes"].as_u64().unwrap();
        if queued < 64 << 10 { Ok(()) } else { Err(format!("{queued} bytes")) }
    });

    let mut line = Line::narrow_to(nodes.a.address);
    late.introduce(&nodes.a, &mut line);
    let request = large_request(&nodes, &mut line);
    while ask(&nodes.a, &late, &mut line, &request).expect("he may have so much waiting") < 100 << 10 {}
    line.say(&request.0.repeat(4));
    line.tell(&heartbeat(7));
    while !matches!(line.hear().expect("the node goes on"), HeadMessage::Heartbeat { seq: 7, .. }) {}
    assert!(answered(&nodes.a, &late).is_some());
    nodes.is_unharmed();
}

/// Comes and goes a thousand times: neither threads nor descriptors nor memory stay behind.
#[test]
fn a_thousand_short_connections_leave_nothing_behind() {
    let nodes = Witnessed::new(&[]);
    let counts = || {
        let pid = nodes.a.pid();
        let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        (count("fd"), count("task"))
    };
    let before = counts();
    let stranger = Stranger::new(&nodes.network, "restless");
    for number in 0..1000 {
        match number % 3 {
            0 => drop(Line::to(nodes.a.address)),
            1 => Line::to(nodes.a.address).send(b"nonsense"),
            _ => drop(stranger.dial(&nodes.a)),
        }
    }
    until("threads and descriptors are what they were", SOON, || {
        let now = counts();
        // Spare threads wait for the next peer, eight at each stage at most.
        if now.0 <= before.0 && now.1 <= before.1 + 16 { Ok(()) } else { Err(format!("{now:?}, {before:?} before")) }
    });
    nodes.is_unharmed();
}
