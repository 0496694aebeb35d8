//! The sink on a real socket: order, bounds, and a remote that reads late or never.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kithd::peer::{Budget, Class, Sink, SinkLimits};
use kithd::protocol::codec::{Frames, MAX_FRAME, PREAMBLE};
use kithd::protocol::codec::{HEADER, Preamble};
use kithd::protocol::message::Purpose;
use kithd::protocol::reason::Reason;
use kithd::protocol::record::NetworkId;
use kithd::reactor::{Flow, Reactor, ReactorHandle, ReactorSettings, Receiver};
use kithd::secure::credentials::Credentials;
use kithd::secure::handshake::{Answer, Head, Tail};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;
use kithd::secure::session::{Opening, Sealing};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a peer's receiver does for its sink, and nothing else.
struct Flusher {
    sink: Arc<Sink>,
    closed: Arc<OnceLock<Reason>>,
}

impl Frames for Flusher {
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

impl Receiver for Flusher {
    fn connected(&mut self) {
        let _ = self.sink.flush();
    }

    fn flush(&mut self) -> Flow {
        Flow::Continue
    }

    fn writable(&mut self) {
        let _ = self.sink.flush();
    }

    fn closed(&mut self, reason: Reason) {
        self.closed.set(reason).unwrap();
    }
}

fn reactor() -> Reactor {
    Reactor::start(ReactorSettings { frame_timeout: PATIENCE, wakeups: Arc::new(AtomicU64::new(0)) }).unwrap()
}

/// A sink that is not registered yet, and so not connected, and the remote's end.
fn dialled(reactor: &ReactorHandle, max_queued: usize, budget: &Arc<Budget>) -> (Arc<Sink>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = reactor.dial(listener.local_addr().unwrap()).unwrap();
    let (remote, _) = listener.accept().unwrap();
    remote.set_read_timeout(Some(PATIENCE)).unwrap();
    (Arc::new(Sink::new(connection, SinkLimits { max_queued, max_bodies: max_queued }, Arc::clone(budget))), remote)
}

/// The two ends of what a sink seals.
fn session() -> (Sealing, Opening) {
    let node = || Arc::new(Credentials::new(Identity::generate().unwrap(), NetworkId([1; 8])).unwrap());
    let (tail, head, key) = (node(), node(), NetworkKey::none());
    let preamble = Preamble::of(Cipher::ChaChaPoly as u8, Purpose::Overlay);
    let (waiting, one) = Tail::begin(&tail, &key, Cipher::ChaChaPoly, Purpose::Overlay).unwrap();
    let first = Head::first(preamble, &one[PREAMBLE + HEADER..], &head, &[key], &Recent::new(1), 0).unwrap();
    let Answer::Continue(waiting_head, two) = first else { panic!("refused") };
    let (three, at_tail) = waiting.finish(&two[HEADER..], 0).unwrap();
    let at_head = waiting_head.third(&three[HEADER..], &head, 0).unwrap();
    (at_tail.sealing, at_head.opening)
}

/// Reads records until they hold so much plaintext.
fn hear(remote: &mut TcpStream, opening: &mut Opening, length: usize) -> Vec<u8> {
    let (mut heard, mut plaintext) = (Vec::new(), Vec::new());
    while heard.len() < length {
        let mut header = [0; HEADER];
        remote.read_exact(&mut header).unwrap();
        let mut record = vec![0; u32::from_be_bytes(header) as usize];
        remote.read_exact(&mut record).unwrap();
        opening.open(&record, &mut plaintext).unwrap();
        heard.extend_from_slice(&plaintext);
    }
    assert_eq!(heard.len(), length);
    heard
}

fn register(reactor: &ReactorHandle, sink: &Arc<Sink>) -> Arc<OnceLock<Reason>> {
    let closed = Arc::default();
    let receiver = Flusher { sink: Arc::clone(sink), closed: Arc::clone(&closed) };
    reactor.register(sink.connection(), Box::new(receiver));
    closed
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn control_goes_first_and_all_waits_for_the_session() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(1 << 20)));
    let (sink, mut remote) = dialled(&reactor.handle(), 1 << 20, &budget);
    for (class, frame) in [(Class::Bulk, b"b1"), (Class::Control, b"c1"), (Class::Bulk, b"b2"), (Class::Control, b"c2")]
    {
        sink.queue(class, frame.to_vec()).unwrap();
        sink.flush().unwrap();
    }
    assert!(sink.queued_bytes() >= 8);
    assert_eq!(budget.used(), sink.queued_bytes());
    register(&reactor.handle(), &sink);
    sink.queue_in_the_clear(b"handshake".to_vec()).unwrap();
    sink.flush().unwrap();
    let mut first = [0; 9];
    remote.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"handshake");
    eventually("the handshake is out, and nothing else", || sink.connection().traffic().counts().bytes_out == 9);
    let (sealing, mut opening) = session();
    sink.secure(sealing);
    sink.flush().unwrap();
    assert_eq!(hear(&mut remote, &mut opening, 8), b"c1c2b1b2");
    eventually("empty", || sink.is_empty());
    assert_eq!(budget.used(), 0);
    let counts = sink.connection().traffic().counts();
    assert_eq!(
        (counts.frames_out, counts.bytes_out),
        (2, 9 + 8 + Sealing::overhead() as u64),
        "one record for all four"
    );
}

#[test]
fn a_remote_that_never_reads_costs_its_bound_and_still_gets_a_goodbye() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(64 << 20)));
    // What is on its way is one batch, begun below 64 KiB and ended by a record; sealing makes it a little longer.
    let (bound, batch) = (300_000, (64 + 16 + 1) * 1024);
    let (sink, mut remote) = dialled(&reactor.handle(), bound, &budget);
    let (sealing, mut opening) = session();
    sink.secure(sealing);
    register(&reactor.handle(), &sink);
    let (mut accepted, mut refused) = (0, 0);
    // The kernel's buffers fill first, then ours; refusals do not disturb what was accepted.
    while refused < 1000 {
        match sink.queue(Class::Bulk, vec![5; 1000]) {
            Ok(()) => accepted += 1,
            Err(reason) => {
                assert_eq!(reason, Reason::SlowReader);
                refused += 1;
            }
        }
        sink.flush().unwrap();
        assert!(sink.queued_bytes() <= bound + batch);
        assert!(accepted < 64_000, "nothing stops it");
    }
    sink.queue(Class::Control, b"goodbye".to_vec()).unwrap();
    assert!(budget.used() == sink.queued_bytes() && sink.queued_bytes() <= bound + batch);
    let mut heard = hear(&mut remote, &mut opening, accepted * 1000 + 7);
    let at = heard.windows(7).position(|bytes| bytes == b"goodbye").unwrap();
    assert!(at < heard.len() - 7, "it went before the bulk that waited");
    heard.drain(at..at + 7);
    assert!(heard.iter().all(|byte| *byte == 5));
    eventually("empty", || sink.is_empty() && budget.used() == 0);
}

#[test]
fn one_budget_bounds_all_sinks_and_gets_back_what_they_held() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(100_000)));
    let sinks: Vec<_> = (0..4).map(|_| dialled(&reactor.handle(), 80_000, &budget)).collect();
    let mut reasons = Vec::new();
    for (sink, _) in &sinks {
        let refused = std::iter::repeat_with(|| sink.queue(Class::Bulk, vec![0; 1000])).find_map(Result::err);
        reasons.extend(refused);
    }
    // The first fills its own bound, the second the rest of the common one.
    assert_eq!(reasons, [Reason::SlowReader, Reason::Overloaded, Reason::Overloaded, Reason::Overloaded]);
    assert!(budget.used() <= 100_000);
    for (sink, _) in &sinks {
        assert_eq!(sink.queue(Class::Control, vec![0; 100]), Ok(()), "heartbeats go on");
    }
    drop(sinks);
    assert_eq!(budget.used(), 0);
}

#[test]
fn many_callers_lose_nothing_and_share_writes() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(64 << 20)));
    let (sink, mut remote) = dialled(&reactor.handle(), 64 << 20, &budget);
    let (sealing, mut opening) = session();
    sink.secure(sealing);
    register(&reactor.handle(), &sink);
    let (callers, frames) = (8u8, 2000usize);
    let threads: Vec<_> = (0..callers)
        .map(|caller| {
            let sink = Arc::clone(&sink);
            std::thread::spawn(move || {
                for n in 0..frames {
                    let body = [&[caller][..], &(n as u32).to_be_bytes()].concat();
                    sink.queue(Class::Bulk, body).unwrap();
                    sink.flush().unwrap();
                }
            })
        })
        .collect();
    let heard = hear(&mut remote, &mut opening, usize::from(callers) * frames * 5);
    let mut expected = vec![0u32; usize::from(callers)];
    for frame in heard.chunks(5) {
        let next = &mut expected[usize::from(frame[0])];
        assert_eq!(frame[1..], next.to_be_bytes(), "each caller's frames keep their order");
        *next += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    eventually("empty", || sink.is_empty());
}

#[test]
fn a_broken_connection_gives_up_what_was_queued() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(1 << 20)));
    let (sink, remote) = dialled(&reactor.handle(), 1 << 20, &budget);
    let closed = register(&reactor.handle(), &sink);
    drop(remote);
    eventually("closed", || closed.get().is_some());
    assert_eq!(closed.get(), Some(&Reason::EndOfStream));
    sink.secure(session().0);
    sink.queue(Class::Bulk, vec![1; 100]).unwrap();
    assert_eq!(sink.flush(), Err(Reason::Reset));
    assert_eq!(sink.queue(Class::Control, vec![1; 100]), Err(Reason::Reset));
    assert_eq!((sink.queued_bytes(), budget.used(), sink.flush()), (0, 0, Ok(())));
}

/// Whoever ends a connection may meet another thread in the midst of a flush, as the one that answers heartbeats.
#[test]
fn the_last_word_is_heard_whoever_flushes_meanwhile() {
    let (reactor, budget) = (reactor(), Arc::new(Budget::new(64 << 20)));
    for round in 0..200 {
        let (sink, mut remote) = dialled(&reactor.handle(), 1 << 20, &budget);
        let (sealing, mut opening) = session();
        sink.secure(sealing);
        register(&reactor.handle(), &sink);
        sink.queue(Class::Control, b"first".to_vec()).unwrap();
        sink.flush().unwrap();
        hear(&mut remote, &mut opening, 5);
        std::thread::scope(|scope| {
            // Few enough that the socket takes them all, though nobody reads yet.
            scope.spawn(|| {
                let mut beats = 0..500;
                let beat = || sink.queue(Class::Bulk, b"beat".to_vec()).and_then(|()| sink.flush());
                // The end of our direction breaks the sink.
                let _ = beats.all(|_| beat().is_ok());
            });
            for _ in 0..round {
                std::hint::spin_loop();
            }
            let said = sink.queue(Class::Control, b"last".to_vec());
            sink.finish();
            said.unwrap();
        });
        let (mut bytes, mut heard, mut plaintext) = (Vec::new(), Vec::new(), Vec::new());
        remote.read_to_end(&mut bytes).unwrap();
        let mut rest = &bytes[..];
        while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
            let (record, after) = after.split_at(u32::from_be_bytes(*header) as usize);
            opening.open(record, &mut plaintext).unwrap();
            heard.extend_from_slice(&plaintext);
            rest = after;
        }
        assert!(heard.windows(4).any(|word| word == b"last"), "round {round}: {} bytes heard", heard.len());
    }
}
