//! Somebody on the line between two nodes: what he hears, and what he does to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use crate::daemon::{Daemon, Key, Network};

/// What somebody on the line does to what passes.
#[derive(Clone, Copy, Debug)]
pub struct Meddling {
    /// Of what a dialling node sends, the byte at that place has a bit flipped.
    pub flip: Option<usize>,
    /// The same of what it is answered.
    pub flip_back: Option<usize>,
    /// No more bytes than this are passed on at once.
    pub piece: usize,
}

impl Meddling {
    pub const NONE: Self = Self { flip: None, flip_back: None, piece: 4096 };
}

/// Somebody on the line, who passes on what both ends send, and keeps it.
pub struct Tap {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// In front of a node.
    pub fn before(node: SocketAddr, meddling: Meddling) -> Self {
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
                thread::spawn(move || pass_on(tail, head, meddling, |bytes| forward.lock()[index].extend(bytes)));
                let meddling = Meddling { flip: meddling.flip_back, ..meddling };
                thread::spawn(move || pass_on(back_from, back_to, meddling, |_| drop(backward.lock())));
            }
        });
        tap
    }

    /// What dialling nodes have sent, connection by connection.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().clone()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, Meddling { flip, piece, .. }: Meddling, keep: impl Fn(&[u8])) {
    // Else the system gathers the pieces again.
    to.set_nodelay(true).unwrap();
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(at) = flip.and_then(|at| at.checked_sub(passed)).filter(|at| *at < read) {
            buffer[at] ^= 1;
        }
        passed += read;
        keep(&buffer[..read]);
        if buffer[..read].chunks(piece).any(|piece| to.write_all(piece).is_err()) {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

/// Two nodes of one network, and him between them.
pub fn tapped(network: &Network, key: &Key, meddling: Meddling) -> (Daemon, Tap, Daemon) {
    let node = key.given_to(network.node("visible-label").with(&["--tag", "secret=treasure"])).start();
    let tap = Tap::before(node.address, meddling);
    let other = key.given_to(network.node("other-label").with(&["--tag", "secret=treasure"])).connect(tap.address);
    (node, tap, other.start())
}
