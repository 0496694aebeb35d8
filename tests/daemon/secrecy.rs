//! What travels between two nodes, seen by somebody on the line: nothing to read, nothing to change, nothing to repeat; and
//! what a process without the network's key is told, which is nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use kithd::protocol::codec::PREAMBLE;
use parking_lot::Mutex;

use crate::daemon::{Daemon, Ended, Network, Setup, kithd};
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for, refused};
use crate::stranger::Line;

/// A key file of this test's own, made as a user makes one.
struct Key {
    path: PathBuf,
    _place: tempfile::TempDir,
}

impl Key {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("network.key");
        let made = Ended::of(kithd().arg("keygen").arg("--out").arg(&path));
        assert_eq!(made.code, Some(0), "{made:?}");
        Self { path, _place: place }
    }

    fn digits(&self) -> String {
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned()
    }

    fn given_to(&self, setup: Setup) -> Setup {
        setup.with(&["--network-key-file", self.path.to_str().unwrap()])
    }
}

/// Somebody on the line, who passes on what both ends send, and keeps it.
struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// In front of a node; of what a dialling node sends, the byte at that place has a bit flipped.
    fn before(node: SocketAddr, flip: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Self { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let heard = Arc::clone(&tap.heard);
        // Ends with the test's process.
        thread::spawn(move || {
            for tail in listener.incoming().flatten() {
                let Ok(head) = TcpStream::connect(node) else { continue };
                let index = {
                    let mut heard = heard.lock();
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                let (back_from, back_to) = (head.try_clone().unwrap(), tail.try_clone().unwrap());
                let (forward, backward) = (Arc::clone(&heard), Arc::clone(&heard));
                thread::spawn(move || pass_on(tail, head, flip, |bytes| forward.lock()[index].extend(bytes)));
                thread::spawn(move || pass_on(back_from, back_to, None, |_| drop(backward.lock())));
            }
        });
        tap
    }

    /// What dialling nodes have sent, connection by connection.
    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().clone()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, flip: Option<usize>, keep: impl Fn(&[u8])) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(at) = flip.and_then(|at| at.checked_sub(passed)).filter(|at| *at < read) {
            buffer[at] ^= 1;
        }
        passed += read;
        keep(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn pair(network: &Network, key: &Key, flip: Option<usize>) -> (Daemon, Tap, Daemon) {
    let node = key.given_to(network.node("visible-label").with(&["--tag", "secret=treasure"])).start();
    let tap = Tap::before(node.address, flip);
    let other = key.given_to(network.node("other-label").with(&["--tag", "secret=treasure"])).connect(tap.address);
    (node, tap, other.start())
}

#[test]
fn nothing_can_be_read_on_the_line() {
    let (network, key) = (Network::new(), Key::new());
    let (node, tap, other) = pair(&network, &key, None);
    agreed(&[&node, &other]);
    let heard = tap.heard().concat();
    assert!(heard.len() > 500, "{} bytes", heard.len());
    let id = kithd::protocol::identity::from_hex::<32>(&other.id).unwrap();
    for secret in [&b"visible-label"[..], b"other-label", b"treasure", network.name().as_bytes(), &id] {
        assert!(!contains(&heard, secret), "{}", String::from_utf8_lossy(secret));
    }
    assert!(contains(&heard, b"kith"), "but for the magic of the preamble");
    let shown = Ended::of(kithd().args(["config", "show", "--network-key-file"]).arg(&key.path));
    for told in [node.stderr(), other.stderr(), node.status().to_string(), shown.stdout, shown.stderr] {
        assert!(!told.contains(&key.digits()), "the key is shown");
    }
}

/// A bit of the preamble, of each message of the handshake, of the `Hello`, and of what follows.
#[test]
fn any_flipped_bit_closes_the_connection_with_a_counted_reason() {
    let (network, key) = (Network::new(), Key::new());
    // 8 of preamble, 4 + 48 of message 1, 4 + 168 of message 3, then records.
    for at in [4, 6, 7, 14, 50, 70, 150, 231, 300] {
        let (node, _tap, other) = pair(&network, &key, Some(at));
        let reasons = ["network-key", "bad-record-tag", "version-mismatch"];
        until(&format!("the bit at {at} is counted"), SOON, || {
            let counted: u64 = reasons.iter().map(|reason| refused(&node, reason)).sum();
            if counted > 0 { Ok(()) } else { Err(node.status()["refused"].to_string()) }
        });
        drop(other);
    }
}

#[test]
fn a_replayed_recording_makes_no_state() {
    let (network, key) = (Network::new(), Key::new());
    let (node, tap, mut other) = pair(&network, &key, None);
    agreed(&[&node, &other]);
    other.kill();
    until("the other is down", SOON, || {
        let view = node.status()["network_view"].clone();
        if view["down"] == 1 { Ok(()) } else { Err(view.to_string()) }
    });
    let before = node.network()["digest"].clone();
    for recording in tap.heard() {
        if recording.len() < PREAMBLE + 4 {
            continue;
        }
        let mut line = Line::to(node.address);
        line.send(&recording);
        assert_eq!(line.rest(), b"", "the first message was seen before");
    }
    closed_for(&node, None, "replayed");
    assert!(refused(&node, "replayed") > 0);
    assert_eq!(node.network()["digest"], before);
    assert_eq!(node.status()["network_view"]["down"], 1, "who was recorded is as dead as before");
}

#[test]
fn without_the_key_a_stranger_gets_not_one_byte_and_the_operator_sees_him() {
    let (network, key) = (Network::new(), Key::new());
    let node = key.given_to(network.node("node")).start();
    let tap = Tap::before(node.address, None);
    let with_another = Key::new().given_to(network.node("another-key")).connect(tap.address).start();
    let without = network.node("no-key").connect(tap.address).start();
    for stranger in [&with_another, &without] {
        closed_for(stranger, None, "no-answer");
    }
    until("both are counted", SOON, || {
        let counted = refused(&node, "network-key");
        if counted >= 2 { Ok(()) } else { Err(format!("{counted}")) }
    });
    assert!(node.stderr().contains("refused 127.0.0.1:"), "{}", node.stderr());
    assert_eq!(node.status()["network_view"]["nodes"], 1);
    // The dialling nodes heard nothing at all: a read at their end of the line finds its end.
    let mut line = Line::to(node.address);
    line.send(&tap.heard()[0]);
    assert_eq!(line.rest(), b"");
}

#[test]
fn a_key_is_made_private_and_never_replaced() {
    let key = Key::new();
    assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Ended::of(kithd().arg("keygen").arg("--out").arg(&key.path));
    again.one_line(2);
    assert_eq!(key.digits().len(), 64);
    let printed = Ended::of(kithd().arg("keygen"));
    assert!(printed.code == Some(0) && !printed.stdout.contains(&key.digits()), "another key each time");
}

/// A network that changes its key: a node that holds the old and the new one talks to nodes that hold either.
#[test]
fn a_node_with_two_keys_is_understood_by_nodes_with_either() {
    let (network, old, new) = (Network::new(), Key::new(), Key::new());
    let both = Key::new();
    fs::write(&both.path, format!("{}\n{}\n", new.digits(), old.digits())).unwrap();
    let a = old.given_to(network.node("a")).start();
    let b = both.given_to(network.node("b")).connect(a.address).start();
    // Dials with the new key first, in vain, then with the old one.
    agreed(&[&a, &b]);
    let c = new.given_to(network.node("c")).connect(b.address).start();
    until("b knows all three", SOON, || {
        let nodes = b.status()["network_view"]["up"].clone();
        if nodes == 3 { Ok(()) } else { Err(nodes.to_string()) }
    });
    drop(c);
}
