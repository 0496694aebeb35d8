//! Tails that ask: against the rules, for too much, without end, or without listening. Whatever they do, the node answers the
//! others.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::codec::{HEADER, encode_frame, frame};
use kithd::protocol::message::{HeadMessage, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::requests::message::{
    Bytes as Payload, Failure, MAX_DEPTH, Outcome, PIECE, Piece, Refusal, Request, Response,
};

use crate::daemon::{Daemon, Network};
use crate::evil_member::{PATIENT, is_sound, memory};
use crate::evil_peer::Bytes::Sealed;
use crate::evil_peer::{Breach, answers, counted, tails_commit};
use crate::patience::{SOON, until};
use crate::report::closed_for_any;
use crate::stranger::{Line, Stranger, heartbeat, is_end};

/// A minute: for what is not to be over before the test is.
const LONG: u32 = 60_000;
/// What a node bears of one tail.
const WINDOW: usize = 256;

/// A request of a service, whole.
fn request(id: u64, service: &str, payload: &[u8]) -> Request {
    assert!(payload.len() <= PIECE);
    let length = u32::try_from(payload.len()).unwrap();
    let service = service.parse().unwrap();
    Request { id, service, remaining_ms: LONG, depth: 0, length, payload: Payload(payload.to_vec()) }
}

/// Of which only the beginning comes.
fn begun(id: u64, length: u32, first: usize) -> Request {
    Request { length, ..request(id, "echo", &vec![7; first]) }
}

fn asks(request: Request) -> Vec<u8> {
    encode_frame(&TailMessage::Request(request))
}

fn goes_on(id: u64, length: usize) -> Vec<u8> {
    encode_frame(&TailMessage::Piece(Piece { id, payload: Payload(vec![7; length]) }))
}

/// What a tail was answered.
#[derive(Default)]
struct Answers {
    whole: BTreeMap<u64, (Outcome, Vec<u8>)>,
    begun: BTreeMap<u64, (Outcome, usize, Vec<u8>)>,
}

impl Answers {
    /// Takes the next message in.
    fn hear(&mut self, line: &mut Line) {
        let id = match line.hear::<HeadMessage>() {
            Some(HeadMessage::Response(Response { id, outcome, length, payload })) => {
                assert!(!self.whole.contains_key(&id), "{id} is answered twice");
                assert!(self.begun.insert(id, (outcome, length as usize, payload.0)).is_none(), "{id} begins twice");
                id
            }
            Some(HeadMessage::Piece(Piece { id, payload })) => {
                self.begun.get_mut(&id).expect("it has begun").2.extend(payload.0);
                id
            }
            Some(HeadMessage::Goodbye(reason)) => panic!("the node closes: {reason}"),
            None => panic!("the node is gone"),
            Some(_) => return,
        };
        if self.begun.get(&id).is_some_and(|(_, length, bytes)| *length == bytes.len()) {
            let (outcome, _, bytes) = self.begun.remove(&id).unwrap();
            self.whole.insert(id, (outcome, bytes));
        }
    }

    /// Waits for one of them.
    fn of(&mut self, id: u64, line: &mut Line) -> (Outcome, Vec<u8>) {
        loop {
            if let Some(answer) = self.whole.remove(&id) {
                return answer;
            }
            self.hear(line);
        }
    }

    /// Waits for so many, and how often each outcome was among them.
    fn tally(&mut self, count: usize, line: &mut Line) -> BTreeMap<Outcome, usize> {
        while self.whole.len() < count {
            self.hear(line);
        }
        let mut tally = BTreeMap::new();
        for (_, (outcome, _)) in std::mem::take(&mut self.whole) {
            *tally.entry(outcome).or_default() += 1;
        }
        tally
    }
}

/// A member whose requests are honest, and how long the slowest of his took.
struct Honest {
    line: Line,
    answers: Answers,
    asked: u64,
    slowest: Duration,
}

impl Honest {
    fn at(network: &Network, address: SocketAddr) -> Self {
        let line = Stranger::new(network, "honest").dial_for(Purpose::Application, address);
        Self { line, answers: Answers::default(), asked: 0, slowest: Duration::ZERO }
    }

    /// He asks, and has his answer.
    fn is_served(&mut self, service: &str) {
        let start = Instant::now();
        self.asked += 1;
        self.line.say(&asks(request(self.asked, service, b"honest")));
        let (outcome, _) = self.answers.of(self.asked, &mut self.line);
        self.slowest = self.slowest.max(start.elapsed());
        assert_eq!(outcome, Outcome::Done);
    }
}

/// How often the node has refused a request for that.
fn refusals(node: &Daemon, refusal: Refusal) -> u64 {
    node.status()["requests"]["refused"][refusal.to_string()].as_u64().unwrap_or(0)
}

/// Flags for a node with a service that takes long.
fn slow(network: &Network) -> Daemon {
    let setup = network.node("node").with(&PATIENT);
    let file = setup.home().join("kithd.toml");
    fs::write(&file, "[services.slow]\ncommand = [\"sleep\", \"30\"]\ntimeout = \"1m\"\n").unwrap();
    setup.with(&["--config", file.to_str().unwrap()]).start()
}

#[test]
fn what_breaks_the_rules_of_requests_ends_the_edge() {
    let network = Network::new();
    let node = slow(&network);
    let mut honest = Honest::at(&network, node.address);
    let breach = |what, said: &[&[u8]], reason| -> Breach { (what, Sealed(said.concat()), reason) };
    let echo = |id| asks(request(id, "echo", b"?"));
    let begun = |length, first| asks(begun(1, length, first));
    let above = Request { length: LONG, payload: Payload(vec![7; PIECE + 1]), ..request(1, "echo", b"") };
    let answer = Response { id: 1, outcome: Outcome::Done, length: 0, payload: Payload::default() };
    let breaches = vec![
        breach("a request number zero", &[&echo(0)], Reason::Unexpected),
        breach("a number twice", &[&echo(1), &echo(1)], Reason::Unexpected),
        breach("the number of what was refused", &[&begun(1 << 31, 1), &echo(1)], Reason::Unexpected),
        breach("a number below the last", &[&echo(u64::MAX), &echo(5)], Reason::Unexpected),
        breach("a piece of nothing", &[&goes_on(1, 1)], Reason::Unexpected),
        breach("a piece of what has not begun", &[&echo(1), &goes_on(2, 1)], Reason::Unexpected),
        breach("nothing of something", &[&begun(10, 0)], Reason::Malformed),
        breach("more than was announced", &[&begun(10, 11)], Reason::Malformed),
        breach("something of nothing", &[&begun(0, 1)], Reason::Malformed),
        breach("an empty piece", &[&begun(10, 5), &goes_on(1, 0)], Reason::Malformed),
        breach("a piece too long", &[&begun(10, 5), &goes_on(1, 6)], Reason::Malformed),
        breach("a piece behind the end", &[&asks(request(1, "slow", b"")), &goes_on(1, 1)], Reason::Malformed),
        breach("more than a message may have", &[&asks(above)], Reason::Malformed),
        breach("a service without a name", &[&named(b"")], Reason::Malformed),
        breach("a service with a long name", &[&named(&[b'x'; 64])], Reason::Malformed),
        breach("a service with two lines for a name", &[&named(b"ec\no")], Reason::Malformed),
        breach("an answer", &[&encode_frame(&HeadMessage::Response(answer))], Reason::WrongDirection),
    ];
    tails_commit(&network, &node, breaches);
    honest.is_served("echo");
    is_sound(&node);
}

/// A request for a service of that name, which no [`ServiceName`](kithd::protocol::requests::service::ServiceName) can hold.
fn named(name: &[u8]) -> Vec<u8> {
    let whole = asks(request(1, "echo", b""));
    let at = whole.windows(4).position(|bytes| bytes == b"echo").unwrap();
    frame(&[&whole[HEADER..at - 8], &(name.len() as u64).to_le_bytes(), name, &whole[at + 4..]].concat())
}

/// Before he is welcome, in the same breath as his introduction, or on a connection that was only to show who is there.
#[test]
fn who_is_no_peer_asks_in_vain() {
    let network = Network::new();
    let node = network.node("node").with(&PATIENT).start();
    let (one, question) = (Stranger::new(&network, "hasty"), asks(request(1, "echo", b"?")));
    let secured = || {
        let mut line = Line::to(node.address);
        line.secure(&one, Purpose::Application);
        line
    };
    let mut line = secured();
    line.say(&question);
    assert_eq!(line.dismissed(), None, "who has not said who he is hears nothing");
    counted(&node, "unexpected", 1);
    let mut line = secured();
    line.say(&[encode_frame(&one.hello_for(Purpose::Application, node.address)), question.clone()].concat());
    assert_eq!(line.dismissed(), Some(Reason::Unexpected));
    counted(&node, "unexpected", 2);
    let mut line = Stranger::new(&network, "looker").dial_for(Purpose::Probe, node.address);
    line.say(&question);
    assert_eq!(line.dismissed(), Some(Reason::Unexpected));
    counted(&node, "unexpected", 3);
    assert_eq!(node.status()["requests"]["served"], 0);
    Honest::at(&network, node.address).is_served("echo");
}

/// Two GiB are announced a thousand times, and then as much as may be open: nothing is allocated before it has come.
#[test]
fn a_payload_that_is_announced_takes_no_memory() {
    let network = Network::new();
    let node = network.node("node").with(&PATIENT).start();
    let mut line = Stranger::new(&network, "boaster").dial_for(Purpose::Application, node.address);
    let mut honest = Honest::at(&network, node.address);
    honest.is_served("echo");
    let (before, mut heard) = (memory(&node, "VmHWM"), Answers::default());
    for id in 1..=1000 {
        line.say(&[asks(begun(id, 1 << 31, 1)), goes_on(id, 100)].concat());
    }
    assert_eq!(heard.tally(1000, &mut line), [(Outcome::Refused(Refusal::TooLarge), 1000)].into());
    for id in 1001..=1100 {
        line.say(&asks(begun(id, 1 << 20, 1)));
    }
    // Each counts with what it announced, and a little more: seven MiB fit into eight.
    assert_eq!(heard.tally(93, &mut line), [(Outcome::Refused(Refusal::Overloaded), 93)].into());
    assert_eq!((refusals(&node, Refusal::TooLarge), refusals(&node, Refusal::Overloaded)), (1000, 93));
    honest.is_served("echo");
    let grown = memory(&node, "VmHWM") - before;
    println!("{} KiB more for two TiB", grown >> 10);
    assert!(grown < 4 << 20, "{grown} bytes more");
    line.tell(&heartbeat(1));
    answers(&mut line, 1);
}

/// What is beyond the window is refused and counted; what is in it goes on, and so do the others.
#[test]
fn of_three_hundred_open_requests_256_are_served() {
    let network = Network::new();
    let node = network.node("node").with(&PATIENT).start();
    let mut line = Stranger::new(&network, "eager").dial_for(Purpose::Application, node.address);
    let mut heard = Answers::default();
    line.say(&(1..=300).flat_map(|id| asks(begun(id, 10, 5))).collect::<Vec<u8>>());
    assert_eq!(heard.tally(300 - WINDOW, &mut line), [(Outcome::Refused(Refusal::Overloaded), 300 - WINDOW)].into());
    assert_eq!(refusals(&node, Refusal::Overloaded), 300 - WINDOW as u64);
    Honest::at(&network, node.address).is_served("echo");
    line.tell(&heartbeat(1));
    answers(&mut line, 1);
    line.say(&(1..=WINDOW as u64).flat_map(|id| goes_on(id, 5)).collect::<Vec<u8>>());
    assert_eq!(heard.tally(WINDOW, &mut line), [(Outcome::Done, WINDOW)].into());
    line.say(&asks(request(301, "echo", b"?")));
    assert_eq!(heard.of(301, &mut line), (Outcome::Done, b"?".to_vec()), "there is room again");
}

#[test]
fn each_request_is_answered_by_its_deadline_whatever_has_come_of_it() {
    let network = Network::new();
    let node = slow(&network);
    let mut line = Stranger::new(&network, "slow").dial_for(Purpose::Application, node.address);
    let mut heard = Answers::default();
    let mut is_told = |request: Request, outcome| {
        let id = request.id;
        line.say(&asks(request));
        assert_eq!(heard.of(id, &mut line), (outcome, Vec::new()));
    };
    is_told(Request { remaining_ms: 200, ..begun(1, 10, 5) }, Outcome::Refused(Refusal::TimedOut));
    is_told(Request { remaining_ms: 500, ..request(2, "slow", b"") }, Outcome::Failed(Failure::TimedOut));
    is_told(Request { remaining_ms: 0, ..request(3, "echo", b"") }, Outcome::Refused(Refusal::TimedOut));
    is_told(Request { depth: MAX_DEPTH + 1, ..request(4, "echo", b"") }, Outcome::Refused(Refusal::TooDeep));
    is_told(request(5, "nothing", b"?"), Outcome::Refused(Refusal::UnknownService));
    // What was still on its way is passed over, whatever it is.
    line.say(&[goes_on(1, 5), goes_on(1, 0), goes_on(3, 9), asks(request(6, "echo", b"?"))].concat());
    assert_eq!(heard.of(6, &mut line), (Outcome::Done, b"?".to_vec()));
    for (refusal, count) in [(Refusal::TimedOut, 2), (Refusal::TooDeep, 1), (Refusal::UnknownService, 1)] {
        assert_eq!(refusals(&node, refusal), count, "{refusal}");
    }
}

/// Answers that nobody takes are bounded, and so is what is read of him who does not take them. In the end he goes.
#[test]
fn a_tail_that_never_reads_is_read_no_more_and_then_closed() {
    let network = Network::new();
    let node = network.node("node").with(&["--heartbeat-timeout", "3s"]).start();
    let mut honest = Honest::at(&network, node.address);
    honest.is_served("echo");
    let before = memory(&node, "VmHWM");
    let deaf = Stranger::new(&network, "deaf");
    let mut line = deaf.welcomed_for(Purpose::Application, node.address, Line::narrow_to(node.address));
    line.socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut sent = 0;
    for id in 1.. {
        match line.try_say(&asks(request(id, "echo", &[7; PIECE]))) {
            Ok(()) => sent += PIECE,
            // Nothing is taken of him any more; or it is over already.
            Err(error) if is_end(&error) || matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken of somebody who takes none");
    }
    println!("{} KiB were taken of him", sent >> 10);
    honest.is_served("echo");
    closed_for_any(&node, Some(&deaf.id()), &["slow-reader"]);
    counted(&node, "slow-reader", 1);
    let grown = memory(&node, "VmHWM") - before;
    println!("{} KiB more for it", grown >> 10);
    // Half of the 8 MiB that he may have open, what one read adds to them, and what becomes of that on the way.
    assert!(grown < 16 << 20, "{grown} bytes more");
    Honest::at(&network, node.address).is_served("echo");
}

/// One who always has as much open as he may, of a service that takes a worker each time.
#[test]
fn a_tail_that_floods_is_refused_and_keeps_nobody_waiting() {
    let network = Network::new();
    let node = network.node("node").with(&PATIENT).with(&["--limits-max-calls", "8"]).start();
    let mut honest = Honest::at(&network, node.address);
    let mut line = Stranger::new(&network, "flooder").dial_for(Purpose::Application, node.address);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let (mut heard, mut tally, mut id) = (Answers::default(), BTreeMap::<Outcome, usize>::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let first = id + 1;
                id += WINDOW as u64;
                line.say(&(first..=id).flat_map(|id| asks(request(id, "status", b""))).collect::<Vec<u8>>());
                for (outcome, count) in heard.tally(WINDOW, &mut line) {
                    *tally.entry(outcome).or_default() += count;
                }
            }
            tally
        });
        until("he is refused", SOON, || match refusals(&node, Refusal::Overloaded) {
            0 => Err("he is not".to_owned()),
            count => Ok(count),
        });
        (0..50).for_each(|_| honest.is_served("status"));
        is_over.store(true, Ordering::Relaxed);
        let tally = flooding.join().unwrap();
        println!("the slowest of 50 took {:.1} ms; of the flood: {tally:?}", honest.slowest.as_secs_f64() * 1e3);
        let refused = tally[&Outcome::Refused(Refusal::Overloaded)] as u64;
        assert_eq!(refusals(&node, Refusal::Overloaded), refused, "each is counted, and was his");
    });
    is_sound(&node);
}
