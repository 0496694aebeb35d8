//! The reactor on real loopback sockets: what a receiver is told, in which order, and when nothing happens at all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver as Inbox, Sender, TrySendError, bounded, unbounded};
use kithd::protocol::codec::{Frames, MAX_FRAME, PREAMBLE};
use kithd::protocol::reason::Reason;
use kithd::reactor::{Connection, Flow, Reactor, ReactorSettings, Receiver, Stream};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the probe was told, but for frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Connected,
    Preamble,
    Writable,
    Closed(Reason),
}

/// A receiver that passes all on; its batches into a queue that may be full.
struct Probe {
    gathered: Vec<Vec<u8>>,
    batches: Sender<Vec<Vec<u8>>>,
    told: Sender<Told>,
    closed: bool,
}

impl Frames for Probe {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        let _ = self.told.send(Told::Preamble);
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        assert!(!self.closed, "a frame after the end");
        if frame == b"refuse me" {
            return Err(Reason::Malformed);
        }
        self.gathered.push(frame.to_vec());
        Ok(())
    }
}

impl Receiver for Probe {
    fn connected(&mut self) {
        let _ = self.told.send(Told::Connected);
    }

    fn flush(&mut self) -> Flow {
        if self.gathered.is_empty() {
            return Flow::Continue;
        }
        match self.batches.try_send(std::mem::take(&mut self.gathered)) {
            Err(TrySendError::Full(batch)) => {
                self.gathered = batch;
                Flow::Pause
            }
            _ => Flow::Continue,
        }
    }

    fn writable(&mut self) {
        let _ = self.told.send(Told::Writable);
    }

    fn closed(&mut self, reason: Reason) {
        assert!(!std::mem::replace(&mut self.closed, true), "closed twice");
        let _ = self.told.send(Told::Closed(reason));
    }
}

/// Our end of a connection, and what its probe tells.
struct End {
    connection: Connection,
    batches: Inbox<Vec<Vec<u8>>>,
    told: Inbox<Told>,
}

impl End {
    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the reactor says nothing")
    }

    /// Takes frames, resuming after each batch, until there are this many.
    fn frames(&self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while frames.len() < count {
            frames.extend(self.batches.recv_timeout(PATIENCE).expect("a frame is lost"));
            self.connection.resume();
        }
        frames
    }
}

fn reactor(frame_timeout: Duration) -> (Reactor, Arc<AtomicU64>) {
    let wakeups = Arc::new(AtomicU64::new(0));
    let settings = ReactorSettings { frame_timeout, wakeups: Arc::clone(&wakeups) };
    (Reactor::start(settings).unwrap(), wakeups)
}

fn probe(capacity: usize) -> (Box<Probe>, Inbox<Vec<Vec<u8>>>, Inbox<Told>) {
    let (batches, batches_out) = bounded(capacity);
    let (told, told_out) = unbounded();
    (Box::new(Probe { gathered: Vec::new(), batches, told, closed: false }), batches_out, told_out)
}

/// A remote's plain socket, and our adopted end whose peer queues so many batches.
fn adopted(reactor: &Reactor, capacity: usize) -> (TcpStream, End) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut remote = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    remote.set_write_timeout(Some(PATIENCE)).unwrap();
    remote.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let connection = reactor.handle().adopt(Stream::try_from(stream).unwrap()).unwrap();
    let (probe, batches, told) = probe(capacity);
    reactor.handle().register(&connection, probe);
    remote.write_all(b"kith\x01\x01\0\0").unwrap();
    let end = End { connection, batches, told };
    assert_eq!(end.next(), Told::Preamble);
    (remote, end)
}

fn dialled(reactor: &Reactor, addr: SocketAddr) -> End {
    let connection = reactor.handle().dial(addr).unwrap();
    let (probe, batches, told) = probe(8);
    reactor.handle().register(&connection, probe);
    End { connection, batches, told }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn frames_arrive_whole_however_they_were_split() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 64);
    let bodies: Vec<Vec<u8>> = (1..40usize).map(|n| vec![n as u8; n * 7 % 61 + 1]).collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
    remote.set_nodelay(true).unwrap();
    for (n, piece) in stream.chunks(5).enumerate() {
        remote.write_all(piece).unwrap();
        if n % 16 == 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(end.frames(bodies.len()), bodies);
    let counts = end.connection.traffic().counts();
    assert_eq!((counts.frames_in, counts.bytes_in), (bodies.len() as u64, stream.len() as u64 + PREAMBLE as u64));
    assert_eq!(reactor.handle().traffic().counts(), counts);
}

#[test]
fn a_dialled_connection_speaks_both_ways() {
    let (reactor, _) = reactor(PATIENCE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = dialled(&reactor, listener.local_addr().unwrap());
    let (mut remote, from) = listener.accept().unwrap();
    assert_eq!(end.next(), Told::Connected);
    assert_eq!((end.connection.local_addr(), end.connection.peer_addr()), (from, listener.local_addr().unwrap()));
    assert_eq!(end.connection.write(b"to you").unwrap(), 6);
    let mut heard = [0; 6];
    remote.read_exact(&mut heard).unwrap();
    remote.write_all(&framed(b"to me")).unwrap();
    assert_eq!(end.frames(1), [b"to me"]);
    // Registered connections are told of their own close as well, once.
    end.connection.close();
    end.connection.close();
    assert_eq!(end.next(), Told::Closed(Reason::Local));
    assert_eq!(end.connection.write(b"more").unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(remote.read(&mut heard).unwrap(), 0);
}

#[test]
fn what_arrives_before_the_receiver_is_registered_is_not_lost() {
    let (reactor, _) = reactor(PATIENCE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = reactor.handle().dial(listener.local_addr().unwrap()).unwrap();
    let (mut remote, _) = listener.accept().unwrap();
    remote.write_all(&framed(b"early")).unwrap();
    drop(remote);
    let (probe, batches, told) = probe(8);
    reactor.handle().register(&connection, probe);
    let end = End { connection, batches, told };
    assert_eq!(end.frames(1), [b"early"]);
    assert_eq!([end.next(), end.next()], [Told::Connected, Told::Closed(Reason::EndOfStream)]);
}

#[test]
fn a_refused_connect_says_so() {
    let (reactor, _) = reactor(PATIENCE);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let end = dialled(&reactor, unused);
    assert_eq!(end.next(), Told::Closed(Reason::ConnectionRefused));
}

#[test]
fn a_paused_receiver_is_not_read_and_loses_nothing() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 1);
    remote.set_nonblocking(true).unwrap();
    let body = |n: u32| [&n.to_be_bytes()[..], &[7; 8_000]].concat();
    let (mut stream, mut count, mut sent) = (framed(&body(0)), 1, 0);
    // Until the sender's socket is full and stays so: nobody reads at the other end.
    let mut full_since = None;
    while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(300)) {
        match remote.write(&stream[sent..]) {
            Ok(written) => (sent, full_since) = (sent + written, None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full_since.get_or_insert_with(Instant::now);
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        if sent == stream.len() {
            stream.extend(framed(&body(count)));
            count += 1;
        }
        assert!(stream.len() < 64 << 20, "the reactor reads on");
    }
    remote.set_nonblocking(false).unwrap();
    let rest = stream[sent..].to_vec();
    let sender = std::thread::spawn(move || remote.write_all(&rest).map(|()| remote));
    let frames = end.frames(count as usize);
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame, &body(n as u32));
    }
    drop(sender.join().unwrap().unwrap());
    assert_eq!(end.next(), Told::Closed(Reason::EndOfStream));
}

#[test]
fn a_remote_that_ends_while_we_are_paused_is_heard_out_first() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 1);
    remote.write_all(&framed(b"one")).unwrap();
    eventually("the queue is full", || end.batches.is_full());
    remote.write_all(&framed(b"two")).unwrap();
    remote.write_all(&framed(b"refuse me")).unwrap();
    drop(remote);
    assert_eq!(end.told.recv_timeout(Duration::from_millis(100)).ok(), None);
    assert_eq!(end.frames(2), [b"one", b"two"]);
    assert_eq!(end.next(), Told::Closed(Reason::Malformed));
}

#[test]
fn a_paused_receiver_does_not_hold_up_a_close_or_the_reactor() {
    let (reactor, _) = reactor(PATIENCE);
    let pause = |name: &[u8]| {
        let (mut remote, end) = adopted(&reactor, 1);
        remote.write_all(&framed(name)).unwrap();
        eventually("the queue is full", || end.batches.is_full());
        remote.write_all(&framed(b"second")).unwrap();
        (remote, end)
    };
    let (_remote, closed) = pause(b"first");
    let (_remote, stopped) = pause(b"other");
    closed.connection.close();
    assert_eq!(closed.next(), Told::Closed(Reason::Local));
    let handle = reactor.handle();
    reactor.stop();
    assert_eq!(stopped.next(), Told::Closed(Reason::Leaving));
    // A receiver that comes too late is told too.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let late = handle.dial(listener.local_addr().unwrap()).unwrap();
    let (probe, _batches, told) = probe(1);
    handle.register(&late, probe);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Closed(Reason::Leaving)));
}

#[test]
fn an_end_within_a_frame_is_not_an_end_between_two() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 8);
    remote.write_all(&framed(b"whole")).unwrap();
    remote.write_all(&framed(b"half")[..6]).unwrap();
    drop(remote);
    assert_eq!(end.frames(1), [b"whole"]);
    assert_eq!(end.next(), Told::Closed(Reason::EofInFrame));
    let (remote, end) = adopted(&reactor, 8);
    drop(remote);
    assert_eq!(end.next(), Told::Closed(Reason::EndOfStream));
}

#[test]
fn after_a_refused_frame_the_last_word_is_ours() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 8);
    remote.write_all(&[framed(b"good"), framed(b"refuse me"), framed(b"unheard")].concat()).unwrap();
    assert_eq!(end.frames(1), [b"good"]);
    assert_eq!(end.next(), Told::Closed(Reason::Malformed));
    remote.write_all(&vec![9; 1 << 20]).unwrap();
    assert_eq!(end.connection.write(b"goodbye").unwrap(), 7);
    end.connection.finish();
    // No reset destroys it, although we never looked at what came after the error.
    let mut heard = Vec::new();
    remote.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"goodbye");
    drop(remote);
    eventually("closed", || end.connection.write(b"x").is_err_and(|error| error.kind() == ErrorKind::NotConnected));
    assert!(end.batches.is_empty());
}

#[test]
fn a_close_does_not_linger_for_ever() {
    let (reactor, _) = reactor(PATIENCE);
    let (_remote, end) = adopted(&reactor, 8);
    end.connection.finish();
    assert_eq!(end.next(), Told::Closed(Reason::Local));
    eventually("closed", || end.connection.write(b"x").is_err_and(|error| error.kind() == ErrorKind::NotConnected));
}

#[test]
fn a_frame_must_be_finished_in_time_but_a_silence_between_frames_may_last() {
    let (reactor, _) = reactor(Duration::from_millis(200));
    let (_silent, silent) = adopted(&reactor, 8);
    let (mut remote, end) = adopted(&reactor, 8);
    remote.write_all(&framed(b"in time")).unwrap();
    remote.write_all(&framed(&[1; 100])[..3]).unwrap();
    assert_eq!(end.frames(1), [b"in time"]);
    let begun = Instant::now();
    // Dripping does not help.
    let drip = std::thread::spawn(move || {
        for byte in [100, 1, 1, 1, 1] {
            std::thread::sleep(Duration::from_millis(80));
            let _ = remote.write_all(&[byte]);
        }
        remote
    });
    assert_eq!(end.next(), Told::Closed(Reason::FrameTimeout));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(drip.join().unwrap());
    assert!(silent.told.is_empty());
}

#[test]
fn a_full_socket_tells_when_it_takes_more() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 8);
    let mut sent = 0;
    let error = loop {
        match end.connection.write(&[1; 10_000]) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "the kernel's buffer has no bound");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(!end.connection.may_write());
    assert!(end.told.is_empty());
    let mut buffer = vec![0; 1 << 20];
    let mut taken = 0;
    while end.told.is_empty() {
        taken += remote.read(&mut buffer).unwrap();
        assert!(taken <= sent);
        if taken == sent {
            break;
        }
    }
    assert_eq!(end.next(), Told::Writable);
    assert!(end.connection.may_write());
}

/// A reactor that has heard so many things in a row from a remote that it expects the next there, and nowhere else.
fn expecting() -> (Reactor, TcpStream, End) {
    let (reactor, _) = reactor(PATIENCE);
    let (mut remote, end) = adopted(&reactor, 8);
    go_on(&mut remote, &end);
    (reactor, remote, end)
}

fn go_on(remote: &mut TcpStream, end: &End) {
    for _ in 0..300 {
        remote.write_all(&framed(b"and on")).unwrap();
        end.frames(1);
    }
}

#[test]
fn who_says_one_thing_after_the_other_is_waited_for_and_holds_up_nobody() {
    let (_reactor, mut remote, end) = expecting();
    // Meanwhile it does not hear that there is something to be sent, and says so; later it has heard it.
    eventually("waited for", || {
        let is_waited_for = !end.connection.send_soon();
        assert_eq!(end.next(), Told::Writable);
        go_on(&mut remote, &end);
        is_waited_for
    });
    let (reactor, _) = reactor(PATIENCE);
    let ((mut remote, end), (mut other, heard)) = (adopted(&reactor, 8), adopted(&reactor, 8));
    go_on(&mut remote, &end);
    other.write_all(&framed(b"me too")).unwrap();
    assert_eq!(heard.frames(1), [b"me too"]);
}

#[test]
fn who_says_one_thing_after_the_other_is_ended_as_anybody() {
    for _ in 0..10 {
        let (_reactor, mut remote, end) = expecting();
        end.connection.close();
        assert_eq!(end.next(), Told::Closed(Reason::Local));
        assert_eq!(remote.read(&mut [0; 8]).ok(), Some(0));
        let (_reactor, mut remote, end) = expecting();
        end.connection.finish();
        assert_eq!(remote.read(&mut [0; 8]).ok(), Some(0));
        drop(remote);
        assert_eq!(end.next(), Told::Closed(Reason::Local));
        let (reactor, _remote, end) = expecting();
        reactor.stop();
        assert_eq!(end.next(), Told::Closed(Reason::Leaving));
    }
}

#[test]
fn who_goes_on_talking_still_hears_the_last_word() {
    for _ in 0..50 {
        let (_reactor, mut remote, end) = expecting();
        let talker = std::thread::spawn(move || {
            let mut said = [0];
            while said != *b"!" {
                remote.write_all(&framed(b"and on")).unwrap();
                remote.read_exact(&mut said).unwrap();
            }
            remote.write_all(&framed(b"and on")).unwrap();
            remote.read(&mut said)
        });
        for said in b"......!" {
            end.frames(1);
            end.connection.write(&[*said]).unwrap();
        }
        end.connection.finish();
        assert_eq!(talker.join().unwrap().expect("reset"), 0);
    }
}

#[test]
fn who_says_one_thing_after_the_other_may_be_written_to_without_waiting() {
    let (_reactor, mut remote, end) = expecting();
    let sent = std::iter::from_fn(|| end.connection.write(&[1; 10_000]).ok()).sum();
    assert!(!end.connection.may_write());
    remote.read_exact(&mut vec![0; sent]).unwrap();
    assert_eq!(end.next(), Told::Writable);
}

#[test]
fn a_busy_sender_leaves_the_others_their_turn() {
    let (reactor, _) = reactor(PATIENCE);
    let (mut busy, sink) = adopted(&reactor, 4);
    let (mut quiet, end) = adopted(&reactor, 8);
    let flood = std::thread::spawn(move || -> io::Result<()> {
        let stream = framed(&[3; 16_000]).repeat(64);
        for _ in 0..64 {
            busy.write_all(&stream)?;
        }
        Ok(())
    });
    let taker = std::thread::spawn(move || sink.frames(64 * 64).len());
    for _ in 0..50 {
        quiet.write_all(&framed(b"ping")).unwrap();
        assert_eq!(end.frames(1), [b"ping"]);
    }
    flood.join().unwrap().unwrap();
    assert_eq!(taker.join().unwrap(), 64 * 64);
}

#[test]
fn an_idle_reactor_is_not_woken() {
    let (reactor, wakeups) = reactor(Duration::from_millis(100));
    let (mut remote, end) = adopted(&reactor, 8);
    remote.write_all(&framed(b"once")[..3]).unwrap();
    remote.write_all(&framed(b"once")[3..]).unwrap();
    assert_eq!(end.frames(1), [b"once"]);
    // The events under way come to rest; then nothing may follow for many times the frame's timeout.
    let mut before = u64::MAX;
    eventually("rest", || {
        std::thread::sleep(Duration::from_millis(20));
        std::mem::replace(&mut before, wakeups.load(Ordering::Relaxed)) == wakeups.load(Ordering::Relaxed)
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(wakeups.load(Ordering::Relaxed), before);
}
