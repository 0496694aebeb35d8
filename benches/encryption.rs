//! What encryption costs: the same bytes over the same loopback connection, as they are and sealed by each cipher.
//!
//! `cargo bench --bench encryption` prints medians of interleaved rounds, so that a noisy machine is noisy for all alike. No
//! node is in between: two threads, blocking sockets, and the code that nodes seal, open and shake hands with.

use std::fs;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kithd::protocol::codec::{HEADER, PREAMBLE, Preamble};
use kithd::protocol::message::Purpose;
use kithd::protocol::record::NetworkId;
use kithd::secure::credentials::Credentials;
use kithd::secure::handshake::{Answer, Head, Secured, Tail};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;

/// Unix time that both ends of a handshake go by.
const NOW: u64 = 1_800_000_000;
const ROUNDS: usize = 7;
const PINGS: u32 = 5_000;
const WINDOWS: u32 = 1_000;
const WINDOW: usize = 128;
const SMALL: usize = 64;
/// The plaintext of the largest record.
const LARGE: usize = 16 * 1024;
const BULK: usize = 64 << 20;
const HANDSHAKES: u32 = 500;
const SESSIONS: usize = 4_000;

fn main() -> io::Result<()> {
    let members = Members::new()?;
    let modes = [None, Some(Cipher::ChaChaPoly), Some(Cipher::AesGcm)];
    let mut rows = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (mode, row) in modes.iter().zip(&mut rows) {
            row.push([round_trip(&members, *mode)?, pipelined(&members, *mode)?, bulk(&members, *mode)?]);
        }
    }
    println!("                    in the clear   ChaChaPoly       AES-GCM");
    let medians = rows.map(|row| [0, 1, 2].map(|what| median(row.iter().map(|one| one[what]))));
    let subjects = ["round trip, us", "pipelined, ns each", "bulk, MB/s"];
    for (what, subject) in subjects.into_iter().enumerate() {
        let [plain, rest @ ..] = medians.map(|one| one[what]);
        let rest = rest.map(|one| format!("{one:8.1} ({:.2}x)", one / plain)).join("  ");
        println!("{subject:18}  {plain:12.1}  {rest}");
    }
    println!("({SMALL} B; {WINDOW} of them in a record; records of {LARGE} B. Two threads, {ROUNDS} rounds.)\n");
    handshakes(&members);
    sessions(&members);
    Ok(())
}

struct Members {
    tail: Arc<Credentials>,
    head: Arc<Credentials>,
    key: NetworkKey,
}

impl Members {
    fn new() -> io::Result<Self> {
        let network = NetworkId::of("bench");
        let member = || Ok::<_, io::Error>(Arc::new(Credentials::new(Identity::generate()?, network)?));
        Ok(Self { tail: member()?, head: member()?, key: NetworkKey::generate()? })
    }

    fn shake_hands(&self, cipher: Cipher) -> (Secured, Secured) {
        let (tail, first) = Tail::begin(&self.tail, &self.key, cipher, Purpose::Overlay).expect("randomness");
        let (head, second) = self.answer(&first, &self.key).expect("the same key");
        let (third, at_tail) = tail.finish(&second[HEADER..], NOW).expect("an honest head");
        let at_head = head.third(&third[HEADER..], &self.head, NOW).expect("an honest tail");
        (at_tail, at_head)
    }

    fn answer(&self, first: &[u8], key: &NetworkKey) -> Option<(Head, Vec<u8>)> {
        let (preamble, message) = first.split_at(PREAMBLE);
        let preamble = Preamble::from_bytes(preamble.try_into().ok()?);
        let (keys, seen) = ([key.clone()], Recent::new(1));
        match Head::first(preamble, &message[HEADER..], &self.head, &keys, &seen, NOW).ok()? {
            Answer::Continue(head, second) => Some((head, second)),
            _ => None,
        }
    }
}

/// One end of a connection; sealed if there is a session.
struct End {
    stream: TcpStream,
    session: Option<Secured>,
    bytes: Vec<u8>,
}

impl End {
    fn send(&mut self, plaintext: &[u8]) -> io::Result<()> {
        self.bytes.clear();
        match &mut self.session {
            Some(session) => session.sealing.seal(plaintext, &mut self.bytes),
            None => {
                let length = u32::try_from(plaintext.len()).unwrap_or(u32::MAX);
                self.bytes.extend(length.to_be_bytes());
                self.bytes.extend_from_slice(plaintext);
            }
        }
        self.stream.write_all(&self.bytes)
    }

    fn receive(&mut self, plaintext: &mut Vec<u8>) -> io::Result<()> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header)?;
        self.bytes.resize(u32::from_be_bytes(header) as usize, 0);
        self.stream.read_exact(&mut self.bytes)?;
        plaintext.clear();
        match &mut self.session {
            Some(session) => {
                session.opening.open(&self.bytes, plaintext).map_err(|reason| io::Error::other(reason.to_string()))
            }
            None => {
                plaintext.extend_from_slice(&self.bytes);
                Ok(())
            }
        }
    }
}

fn ends(members: &Members, mode: Option<Cipher>) -> io::Result<(End, End)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (two, _) = listener.accept()?;
    let (mut tail, mut head) = (None, None);
    if let Some(cipher) = mode {
        let (at_tail, at_head) = members.shake_hands(cipher);
        (tail, head) = (Some(at_tail), Some(at_head));
    }
    let end = |stream: TcpStream, session| {
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(End { stream, session, bytes: Vec::new() })
    };
    Ok((end(one, tail)?, end(two, head)?))
}

/// One message to and fro, so many times; what one takes.
fn echo(members: &Members, mode: Option<Cipher>, size: usize, times: u32) -> io::Result<Duration> {
    let (mut tail, mut head) = ends(members, mode)?;
    let echo = thread::spawn(move || {
        let mut plaintext = Vec::new();
        while head.receive(&mut plaintext).is_ok() && head.send(&plaintext).is_ok() {}
    });
    let (message, mut plaintext) = (vec![7; size], Vec::new());
    let start = Instant::now();
    for _ in 0..times {
        tail.send(&message)?;
        tail.receive(&mut plaintext)?;
    }
    let took = start.elapsed();
    drop(tail);
    let _ = echo.join();
    Ok(took / times)
}

fn round_trip(members: &Members, mode: Option<Cipher>) -> io::Result<f64> {
    Ok(echo(members, mode, SMALL, PINGS)?.as_secs_f64() * 1e6)
}

/// Many small messages share a record, as a node's sink has them do.
fn pipelined(members: &Members, mode: Option<Cipher>) -> io::Result<f64> {
    Ok(echo(members, mode, SMALL * WINDOW, WINDOWS)?.as_secs_f64() * 1e9 / WINDOW as f64)
}

fn bulk(members: &Members, mode: Option<Cipher>) -> io::Result<f64> {
    let (mut tail, mut head) = ends(members, mode)?;
    let sink = thread::spawn(move || {
        let (mut plaintext, mut taken) = (Vec::new(), 0);
        while taken < BULK && head.receive(&mut plaintext).is_ok() {
            taken += plaintext.len();
        }
    });
    let (record, start) = (vec![7; LARGE], Instant::now());
    for _ in 0..BULK / LARGE {
        tail.send(&record)?;
    }
    let _ = sink.join();
    Ok(BULK as f64 / 1e6 / start.elapsed().as_secs_f64())
}

fn handshakes(members: &Members) {
    let both = each(|| drop(black_box(members.shake_hands(Cipher::preferred()))));
    let begin = || Tail::begin(&members.tail, &members.key, Cipher::preferred(), Purpose::Overlay).expect("randomness");
    let (_, first) = begin();
    let wrong = NetworkKey::none();
    let refused = each(|| assert!(black_box(members.answer(&first, &wrong)).is_none()));
    println!("a handshake, both ends on one core: {both:.1} us, {:.0} a second", 1e6 / both);
    println!("a first message with another network key, refused: {refused:.1} us");
}

fn each(mut work: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..HANDSHAKES {
            work();
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(HANDSHAKES)
    });
    median(rounds.collect::<Vec<_>>())
}

/// What the system holds for a session, both halves.
fn sessions(members: &Members) {
    let before = resident();
    let kept: Vec<Secured> =
        (0..SESSIONS / 2).flat_map(|_| <[Secured; 2]>::from(members.shake_hands(Cipher::preferred()))).collect();
    let bytes = (resident() - before) * 1024 / kept.len() as u64;
    println!("a session, both halves: {bytes} bytes resident, of {} sessions", kept.len());
}

/// Resident memory in KiB; 0 where the system does not say.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
