//! Strangers and members who want more of a node than it has, all of them at a time, until it is over.
//!
//! They come from thousands of addresses of 127.0.0.0/8, each a network (/24) of its own. Members give way to all others
//! (`nice`), as if they sat elsewhere; strangers, who have little to do for what they cost, do not.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kithd::protocol::codec::{Preamble, encode_frame};
use kithd::protocol::message::{HeadMessage, Purpose, TailMessage};
use kithd::protocol::record::NetworkId;
use kithd::protocol::requests::message::{Bytes, PIECE, Request};
use kithd::secure::handshake::Tail;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use rustix::process::nice;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::stranger::{Line, Stranger, is_end};

/// Connections that strangers hold open at a time.
const HELD: usize = 200;
/// Between two of them: many hundred a second.
const BREATH: Duration = Duration::from_millis(1);
/// Before a member comes back.
const REST: Duration = Duration::from_millis(100);
/// How long a member waits for the node to read on.
const STUCK: Duration = Duration::from_secs(3);
/// Requests in one breath of a member.
const BATCH: u64 = 64;

/// What they did.
#[derive(Debug, Default)]
pub struct Done {
    pub strangers: AtomicU64,
    pub members: AtomicU64,
    pub requests: AtomicU64,
}

/// All floods at once, until it is over.
pub fn all(network: NetworkId, node: SocketAddr, over: &AtomicBool) -> Done {
    let done = Done::default();
    thread::scope(|scope| {
        scope.spawn(|| strangers(network, node, &done, over));
        scope.spawn(|| boasters(network, node, &done, over));
        scope.spawn(|| askers(network, node, true, &done, over));
        scope.spawn(|| askers(network, node, false, &done, over));
    });
    done
}

/// Strangers only, who are no members.
pub fn strangers(network: NetworkId, node: SocketAddr, done: &Done, over: &AtomicBool) {
    let begun = half_a_handshake(network);
    let mut held = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        let number = done.strangers.fetch_add(1, Ordering::Relaxed);
        let Some(socket) = connect(address(64, number), node) else { continue };
        let _ = match number % 4 {
            // One who says nothing, one who speaks another language, one who has another key, and one who goes no further.
            0 => Ok(0),
            1 => socket.send(b"GET / HTTP/1.1\r\n\r\n"),
            2 => socket.send(&[&begun[..begun.len() - 8], &number.to_le_bytes()].concat()),
            // A repeated one would be known from the last time.
            _ if number % 32 == 3 => socket.send(&half_a_handshake(network)),
            _ => socket.send(&begun[..begun.len() / 2]),
        };
        held.push_back(socket);
        if held.len() > HELD {
            held.pop_front();
        }
        thread::sleep(BREATH);
    }
}

/// Members who announce a frame of four gigabytes.
fn boasters(network: NetworkId, node: SocketAddr, done: &Done, over: &AtomicBool) {
    let _ = nice(19);
    while !over.load(Ordering::Relaxed) {
        if let Some(mut line) = member(network, node, done) {
            let _ = line.try_send(&[0xff; 64]);
            let _ = line.rest();
        }
        thread::sleep(REST);
    }
}

/// Members who ask without end, and take the answers or leave them.
fn askers(network: NetworkId, node: SocketAddr, hears: bool, done: &Done, over: &AtomicBool) {
    let _ = nice(19);
    while !over.load(Ordering::Relaxed) {
        if let Some(mut line) = member(network, node, done) {
            // A node that has enough reads no more: what is then cut off makes garbage of the rest, which is as well.
            let _ = line.socket.set_write_timeout(Some(STUCK));
            thread::scope(|scope| {
                let mut answers = line.socket.try_clone().unwrap();
                let listener = hears.then(|| {
                    scope.spawn(move || {
                        let mut buffer = vec![0; 1 << 16];
                        while answers.read(&mut buffer).is_ok_and(|read| read > 0) {}
                    })
                });
                let mut first = 1;
                while !over.load(Ordering::Relaxed) && !line.try_say(&batch(first)).is_err_and(|error| is_end(&error)) {
                    first += BATCH;
                    done.requests.fetch_add(BATCH, Ordering::Relaxed);
                }
                let _ = line.socket.shutdown(Shutdown::Both);
                drop(listener);
            });
        }
        thread::sleep(REST);
    }
}

/// Small ones that are answered, some for nobody, and large ones.
fn batch(first: u64) -> Vec<u8> {
    let request = |id: u64| {
        let (service, length) = match id % 8 {
            0 => ("nothing", 64),
            1 => ("identity", PIECE),
            _ => ("identity", 0),
        };
        let (service, payload) = (service.parse().unwrap(), Bytes(vec![7; length]));
        let length = u32::try_from(length).unwrap();
        Request { id, service, remaining_ms: 60_000, depth: 0, length, payload }
    };
    (first..first + BATCH).flat_map(|id| encode_frame(&TailMessage::Request(request(id)))).collect()
}

/// Somebody who has come in to ask; `None` if he was refused.
fn member(network: NetworkId, node: SocketAddr, done: &Done) -> Option<Line> {
    let number = done.members.fetch_add(1, Ordering::Relaxed);
    let stranger = Stranger::new_in(network, &format!("member-{number}"));
    let mut line = Line::over(connect(address(128, number), node)?);
    let preamble = Preamble::of(Cipher::preferred() as u8, Purpose::Application);
    line.secure_with(&stranger.credentials(network), preamble).ok()?;
    line.tell(&stranger.hello_for(Purpose::Application, node));
    matches!(line.hear::<HeadMessage>(), Some(HeadMessage::Welcome { .. })).then_some(line)
}

/// A preamble and the first message, each time another.
fn half_a_handshake(network: NetworkId) -> Vec<u8> {
    let credentials = Stranger::new_in(network, "half").credentials(network);
    let preamble = Preamble::of(Cipher::preferred() as u8, Purpose::Overlay);
    Tail::begin_with(&credentials, &NetworkKey::none(), preamble, None).unwrap().1
}

/// The next of 16,384 addresses, each of another /24.
fn address(first: u8, number: u64) -> Ipv4Addr {
    let bytes = number.to_le_bytes();
    Ipv4Addr::new(127, first | bytes[1] & 63, bytes[0], 1)
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SockAddr::from(SocketAddr::from((from, 0)))).ok()?;
    // No lingering in TIME_WAIT: ports would run out.
    socket.set_linger(Some(Duration::ZERO)).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5)).ok()?;
    Some(socket)
}
