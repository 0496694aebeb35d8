//! A caller that is alone reads its answer itself, in the reactor's place: whatever else happens, nobody waits in vain.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use kithd::protocol::codec::{Frames, MAX_FRAME, PREAMBLE};
use kithd::protocol::reason::Reason;
use kithd::reactor::{Connection, Flow, Reactor, ReactorHandle, ReactorSettings, Receiver, Stream};
use parking_lot::{Condvar, Mutex};

const PATIENCE: Duration = Duration::from_secs(60);
/// A body that makes the receiver panic.
const CRASH: &[u8] = b"crash";

/// What the last frame was, and which thread has read it.
type Answer = Option<Result<(Vec<u8>, ThreadId), Reason>>;

#[derive(Default)]
struct Slot {
    answer: Mutex<Answer>,
    filled: Condvar,
}

impl Slot {
    fn fill(&self, answer: Result<(Vec<u8>, ThreadId), Reason>) {
        *self.answer.lock() = Some(answer);
        self.filled.notify_one();
    }

    fn wait(&self, deadline: Instant) -> Answer {
        let mut answer = self.answer.lock();
        while answer.is_none() && !self.filled.wait_until(&mut answer, deadline).timed_out() {}
        answer.take()
    }
}

/// Puts each frame into the slot.
struct Reader(Arc<Slot>);

impl Frames for Reader {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        assert_ne!(frame, CRASH, "as the test wants it");
        self.0.fill(Ok((frame.to_vec(), thread::current().id())));
        Ok(())
    }
}

impl Receiver for Reader {
    fn connected(&mut self) {}

    fn flush(&mut self) -> Flow {
        Flow::Continue
    }

    fn writable(&mut self) {}

    fn closed(&mut self, reason: Reason) {
        self.0.fill(Err(reason));
    }
}

/// A connection whose remote end is a plain socket.
struct Caller {
    handle: ReactorHandle,
    connection: Connection,
    slot: Arc<Slot>,
}

impl Caller {
    fn new(reactor: &Reactor) -> (Self, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let handle = reactor.handle();
        let connection = handle.adopt(Stream::try_from(stream).unwrap()).unwrap();
        let slot = Arc::<Slot>::default();
        handle.register(&connection, Box::new(Reader(Arc::clone(&slot))));
        remote.write_all(b"kith\x01\x01\0\0").unwrap();
        (Self { handle, connection, slot }, remote)
    }

    /// One whose remote end sends back what it gets.
    fn echoed(reactor: &Reactor) -> Self {
        let (caller, mut remote) = Self::new(reactor);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = remote.read(&mut buffer) {
                remote.write_all(&buffer[..length]).unwrap();
            }
        });
        caller
    }

    fn wait(&self, deadline: Instant) -> Answer {
        let is_done = || self.slot.answer.lock().is_some();
        self.handle.attend(|| Some(self.connection.clone()), deadline, is_done, || self.slot.wait(deadline))
    }

    /// Asks and waits; which thread has read the answer.
    fn ask(&self, body: &[u8]) -> ThreadId {
        self.connection.write(&framed(body)).unwrap();
        let (answer, reader) = self.wait(Instant::now() + PATIENCE).expect("no answer").expect("closed");
        assert_eq!(answer, body);
        reader
    }

    /// Asks until this thread has read an answer itself.
    fn take_the_seat(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(b"one after the other") != thread::current().id() {
            assert!(Instant::now() < deadline, "the reactor has read them all");
        }
    }
}

fn reactor() -> Reactor {
    Reactor::start(ReactorSettings { frame_timeout: PATIENCE, wakeups: Arc::new(AtomicU64::new(0)) }).unwrap()
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

#[test]
fn who_asks_alone_reads_the_answers_and_may_stop_at_any_time() {
    let reactor = reactor();
    let caller = Caller::echoed(&reactor);
    assert_ne!(caller.ask(b"the first"), thread::current().id(), "one answer says nothing yet");
    for _ in 0..3 {
        caller.take_the_seat();
        // Nobody sits now: the reactor comes back for what arrives.
        caller.connection.write(&framed(b"later")).unwrap();
        let (answer, reader) = caller.slot.wait(Instant::now() + PATIENCE).expect("nobody reads").unwrap();
        assert_eq!((answer.as_slice(), reader == thread::current().id()), (&b"later"[..], false));
    }
}

#[test]
fn what_comes_for_others_is_read_while_a_caller_sits() {
    let reactor = reactor();
    let caller = Caller::echoed(&reactor);
    let (silent, _remote) = Caller::new(&reactor);
    let (other, mut remote) = Caller::new(&reactor);
    for n in 0..100u32 {
        caller.take_the_seat();
        thread::scope(|scope| {
            // It waits for an answer that does not come, perhaps in the reactor's place.
            let waiting = scope.spawn(|| silent.wait(Instant::now() + Duration::from_millis(20)));
            remote.write_all(&framed(&n.to_be_bytes())).unwrap();
            let (frame, _) = other.slot.wait(Instant::now() + PATIENCE).expect("nobody reads").unwrap();
            assert_eq!(frame, n.to_be_bytes());
            assert!(waiting.join().unwrap().is_none());
        });
    }
}

#[test]
fn callers_that_come_and_go_all_get_their_answers() {
    let reactor = reactor();
    let is_over = AtomicBool::new(false);
    let lone = Caller::echoed(&reactor);
    thread::scope(|scope| {
        for crowd in 1..4 {
            let (reactor, is_over) = (&reactor, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let caller = Caller::echoed(reactor);
                    (0..40 * crowd).for_each(|n: u32| _ = caller.ask(&n.to_be_bytes()));
                    thread::sleep(Duration::from_millis(u64::from(crowd)));
                }
            });
        }
        for n in 0..5_000u32 {
            lone.ask(&n.to_be_bytes());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    lone.take_the_seat();
}

#[test]
fn a_caller_in_the_reactors_place_is_no_longer_there_than_it_wants_to_wait() {
    let reactor = reactor();
    let caller = Caller::echoed(&reactor);
    caller.take_the_seat();
    let (silent, mut remote) = Caller::new(&reactor);
    assert!(silent.wait(Instant::now() + Duration::from_millis(50)).is_none());
    remote.write_all(&framed(b"late")).unwrap();
    assert_eq!(silent.slot.wait(Instant::now() + PATIENCE).unwrap().unwrap().0, b"late");
}

#[test]
fn a_stop_ends_the_wait_of_whoever_sits() {
    for _ in 0..20 {
        let reactor = reactor();
        let (silent, _remote) = Caller::new(&reactor);
        Caller::echoed(&reactor).take_the_seat();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| silent.wait(Instant::now() + PATIENCE));
            reactor.stop();
            assert_eq!(waiting.join().unwrap().expect("not told"), Err(Reason::Leaving));
        });
    }
}

#[test]
fn a_panic_in_the_reactors_place_ends_the_reactor_and_is_told() {
    let reactor = reactor();
    let (tell, told) = crossbeam_channel::bounded(1);
    reactor.on_failure(move || tell.send(()).unwrap());
    let caller = Caller::echoed(&reactor);
    caller.take_the_seat();
    caller.connection.write(&framed(CRASH)).unwrap();
    let ending = caller.wait(Instant::now() + Duration::from_secs(1));
    assert!(!matches!(ending, Some(Ok(_))), "{ending:?}");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(()));
    // Whoever comes later is told.
    let (late, _remote) = Caller::new(&reactor);
    assert_eq!(late.slot.wait(Instant::now() + PATIENCE), Some(Err(Reason::Leaving)));
}
