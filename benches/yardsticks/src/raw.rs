//! Blocking sockets, a thread for each connection, nothing else: as fast as this machine is without a library.
//!
//! A message is its length and a number, in big-endian order, and its bytes. What one read has brought is answered, or asked
//! anew, in one write.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use yardsticks::child::say_and_follow;
use yardsticks::figures::Loaded;
use yardsticks::plan::{Plan, Workload};
use yardsticks::{AT_ONCE, CALLERS, FAN, FAN_WINDOW, LARGE, LARGE_WINDOW, SMALL, WINDOW, Yardstick};

/// The workloads of kithd bench, on blocking sockets.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    plan: Plan,
}

fn main() {
    yardsticks::run(&Words::parse().plan, "raw", &Raw);
}

/// Four bytes of length, eight of number.
const HEADER: usize = 12;
/// What a connection reads at once: more than a window of small messages.
const BUFFER: usize = 16 * 1024;
/// Of a thread that does nothing but read and write.
const STACK: usize = 64 * 1024;

struct Raw;

impl Yardstick for Raw {
    fn serve(&self) -> ! {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        say_and_follow(listener.local_addr().expect("it has an address"));
        let door: &'static Door = Box::leak(Box::new(Door { listener, waiting: AtomicUsize::new(1) }));
        door.keep()
    }

    fn load(&self, workload: Workload, server: SocketAddr, span: Duration) -> Loaded {
        match workload {
            Workload::W1 => lone(Line::dial(server), span),
            // Callers who wait for nobody are no different without a library.
            Workload::W2 | Workload::W2p => pipelined(Line::dial(server), WINDOW, Instant::now(), span),
            Workload::W2c => callers(Line::dial(server), span),
            Workload::W3 => fan_in(server, span),
            Workload::W4 => bulk(Line::dial(server), span),
            Workload::W6 => connect(server, span),
            Workload::W5 => unreachable!("it is no load"),
        }
    }

    fn idle(&self, server: SocketAddr, count: usize) -> Box<dyn Any> {
        let wait = |_| {
            let line = Line::dial(server);
            let mut other = line.stream.try_clone().expect("there are descriptors enough");
            // As at the server, a thread waits for each.
            spawn(move || drop(other.read(&mut [0])));
            line
        };
        Box::new((0..count).map(wait).collect::<Vec<Line>>())
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) {
    thread::Builder::new().stack_size(STACK).spawn(work).expect("there are threads enough");
}

/// Where connections come in. Whoever lets one in answers it and then comes back: so there are as many threads as there ever
/// were connections at a time, and none is made for each.
struct Door {
    listener: TcpListener,
    /// Threads that wait there.
    waiting: AtomicUsize,
}

impl Door {
    fn keep(&'static self) -> ! {
        loop {
            let (stream, _) = self.listener.accept().expect("a connection comes");
            if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                spawn(|| self.keep());
            }
            // Whoever asks may leave in any way he likes.
            let _ = answer(stream);
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Until nobody asks any more.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = Inbox::default();
    while inbox.fill(&mut stream)? {
        // An answer is what was asked.
        stream.write_all(inbox.take_all().0)?;
    }
    Ok(())
}

/// What has come and was not looked at yet.
struct Inbox {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER], from: 0, to: 0 }
    }
}

impl Inbox {
    /// Reads once; false at the end.
    fn fill(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let wanted = self.next_length().unwrap_or(HEADER);
        if wanted > self.buffer.len() {
            // The next one's beginning comes with it.
            self.buffer.resize(wanted + BUFFER, 0);
        }
        let count = stream.read(&mut self.buffer[self.to..])?;
        self.to += count;
        Ok(count > 0)
    }

    /// Of the first message, its header included, if so much of it is there.
    fn next_length(&self) -> Option<usize> {
        let length = self.buffer[self.from..self.to].first_chunk::<4>()?;
        Some(HEADER + u32::from_be_bytes(*length) as usize)
    }

    /// The first message, if all of it is there: its number and its bytes.
    fn take(&mut self) -> Option<(u64, &[u8])> {
        let end = self.from + self.next_length().filter(|length| self.from + length <= self.to)?;
        let (header, payload) = self.buffer[self.from..end].split_at(HEADER);
        self.from = end;
        let number = header.last_chunk::<8>().expect("a header is longer");
        Some((u64::from_be_bytes(*number), payload))
    }

    /// All messages that are there as they came, and how many they are.
    fn take_all(&mut self) -> (&[u8], usize) {
        let (from, mut count) = (self.from, 0);
        while self.take().is_some() {
            count += 1;
        }
        (&self.buffer[from..self.from], count)
    }
}

/// The asking side of a connection.
struct Line {
    stream: TcpStream,
    inbox: Inbox,
}

impl Line {
    /// Connected, and answered once.
    fn dial(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("the server is there");
        stream.set_nodelay(true).expect("the system lets it");
        let mut line = Self { stream, inbox: Inbox::default() };
        line.ask(&message(0, SMALL)).expect("it is asked");
        assert_eq!(line.hear(), Some((0, SMALL)), "it answers");
        line
    }

    fn ask(&mut self, messages: &[u8]) -> io::Result<()> {
        self.stream.write_all(messages)
    }

    /// The number and the length of the next answer; none after the last one.
    fn hear(&mut self) -> Option<(u64, usize)> {
        loop {
            if let Some((number, payload)) = self.inbox.take() {
                return Some((number, payload.len()));
            }
            if !self.inbox.fill(&mut self.stream).ok()? {
                return None;
            }
        }
    }

    /// For a thread of its own.
    fn asker(&self) -> TcpStream {
        self.stream.try_clone().expect("there are descriptors enough")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Where a thread waits, a descriptor that is closed is no end.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn message(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + size);
    bytes.extend((size as u32).to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.resize(HEADER + size, 0x5a);
    bytes
}

fn lone(mut line: Line, span: Duration) -> Loaded {
    let (message, mut trips) = (message(1, SMALL), Vec::new());
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < span {
        line.ask(&message).expect("it is asked");
        assert_eq!(line.hear(), Some((1, SMALL)), "it answers");
        let then = Instant::now();
        trips.push(u32::try_from(then.duration_since(now).as_nanos()).unwrap_or(u32::MAX));
        now = then;
    }
    Loaded { answered: trips.len() as u64, elapsed: now.duration_since(start), trips }
}

/// One thread: as many as one read has answered are asked in the next write.
fn pipelined(mut line: Line, window: usize, start: Instant, span: Duration) -> Loaded {
    let messages = message(1, SMALL).repeat(window);
    let one = messages.len() / window;
    let (mut answered, mut open) = (0, window);
    line.ask(&messages).expect("it is asked");
    while open > 0 {
        assert!(line.inbox.fill(&mut line.stream).expect("it answers"), "it stays");
        let (bytes, count) = line.inbox.take_all();
        assert_eq!(bytes.len(), count * one, "an answer is as long as its request");
        (answered, open) = (answered + count as u64, open - count);
        if count > 0 && start.elapsed() < span {
            line.ask(&messages[..count * one]).expect("it is asked");
            open += count;
        }
    }
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

/// A thread asks and another one hears: with one for both, each end would wait until the other one reads.
fn bulk(mut line: Line, span: Duration) -> Loaded {
    let (free, places) = channel();
    (0..LARGE_WINDOW).for_each(|_| free.send(()).expect("it is held here"));
    let (start, mut stream) = (Instant::now(), line.asker());
    let asking = thread::spawn(move || {
        let (message, mut asked) = (message(1, LARGE), 0);
        while places.recv().is_ok() && start.elapsed() < span {
            stream.write_all(&message).expect("it is asked");
            asked += 1;
        }
        // The server closes when it has answered.
        stream.shutdown(Shutdown::Write).expect("the connection is there");
        asked
    });
    let mut answered = 0;
    while let Some((_, size)) = line.hear() {
        assert_eq!(size, LARGE, "an answer is as long as its request");
        answered += 1;
        let _ = free.send(());
    }
    let elapsed = start.elapsed();
    assert_eq!(asking.join().expect("it asks"), answered, "all are answered");
    Loaded { answered, elapsed, trips: Vec::new() }
}

/// Threads that share a connection, and one more that hears for them.
fn callers(mut line: Line, span: Duration) -> Loaded {
    let (asker, stream) = (Mutex::new(line.asker()), line.asker());
    let (tell, told): (Vec<Sender<usize>>, Vec<Receiver<usize>>) = (0..CALLERS).map(|_| channel()).unzip();
    let start = Instant::now();
    let call = |number: usize, told: Receiver<usize>| {
        let (message, mut answered) = (message(number as u64, SMALL), 0);
        while start.elapsed() < span {
            asker.lock().expect("nobody panics").write_all(&message).expect("it is asked");
            assert_eq!(told.recv().expect("it answers"), SMALL, "an answer is as long as its request");
            answered += 1;
        }
        answered
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Some((number, size)) = line.hear() {
                let _ = tell[number as usize].send(size);
            }
        });
        let call = &call;
        let threads = told.into_iter().enumerate().map(|(number, told)| scope.spawn(move || call(number, told)));
        let threads: Vec<_> = threads.collect();
        let answered = threads.into_iter().map(|thread| thread.join().expect("it calls")).sum();
        let elapsed = start.elapsed();
        stream.shutdown(Shutdown::Both).expect("the connection is there");
        Loaded { answered, elapsed, trips: Vec::new() }
    })
}

/// A thread for each connection here too.
fn fan_in(server: SocketAddr, span: Duration) -> Loaded {
    let lines: Vec<Line> = (0..FAN).map(|_| Line::dial(server)).collect();
    let start = Instant::now();
    let threads =
        lines.into_iter().map(|line| thread::spawn(move || pipelined(line, FAN_WINDOW, start, span).answered));
    let threads: Vec<_> = threads.collect();
    let answered = threads.into_iter().map(|thread| thread.join().expect("it asks")).sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

fn connect(server: SocketAddr, span: Duration) -> Loaded {
    let start = Instant::now();
    let come_and_go = move || {
        let mut made = 0;
        while start.elapsed() < span {
            // It is asked once, and closed.
            drop(Line::dial(server));
            made += 1;
        }
        made
    };
    let threads: Vec<_> = (0..AT_ONCE).map(|_| thread::spawn(come_and_go)).collect();
    let answered = threads.into_iter().map(|thread| thread.join().expect("it connects")).sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}
