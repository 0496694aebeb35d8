//! The evil peer: a [`Stranger`](crate::stranger::Stranger) who has come in honestly, and what he may do then.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use kithd::protocol::codec::{MAX_FRAME, encode_frame};
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, TailMessage};
use kithd::protocol::reason::Reason;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::{closed_for, refused};
use crate::stranger::{Line, Stranger, Trap, heartbeat, ignorance, is_end};

// Framing, handshake and identity: cases 1 to 31.

/// What he puts on the line: sealed, or as it is.
#[derive(Clone)]
pub enum Bytes {
    Sealed(Vec<u8>),
    Raw(Vec<u8>),
}

impl Line {
    pub fn put(&mut self, bytes: &Bytes) {
        match bytes {
            Bytes::Sealed(plaintext) => self.say(plaintext),
            Bytes::Raw(bytes) => self.send(bytes),
        }
    }
}

impl Line {
    /// Sends byte after byte, ten a second, until the node has had enough; how many went.
    pub fn drip(&mut self, bytes: &[u8]) -> usize {
        for (sent, byte) in bytes.iter().enumerate() {
            match self.try_send(&[*byte]) {
                Ok(()) => thread::sleep(Duration::from_millis(100)),
                Err(error) if is_end(&error) => return sent,
                Err(error) => panic!("{error}"),
            }
        }
        bytes.len()
    }

    /// The next so many bytes, as they are.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// True if nothing has come, the end neither.
    pub fn is_open(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let answer = self.socket.read(&mut [0; 1]);
        self.socket.set_nonblocking(false).unwrap();
        answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// What it is, the bytes of it, and the reason for which whoever hears it ends the edge.
pub type Breach = (&'static str, Bytes, Reason);

/// Waits until the node has counted so many refusals for that reason, and no more.
pub fn counted(node: &Daemon, reason: &str, count: u64) {
    until(&format!("{} counts {count} {reason}", node.label), SOON, || {
        let now = refused(node, reason);
        assert!(now <= count, "{now} {reason} and not {count}");
        if now == count { Ok(()) } else { Err(format!("it counts {now}")) }
    });
}

/// Strangers dial a node, and each commits one of these. The node closes it, tells him why, shows why, and counts it once.
pub fn tails_commit(network: &Network, node: &Daemon, breaches: Vec<Breach>) {
    for (number, (what, bytes, reason)) in breaches.into_iter().enumerate() {
        let stranger = Stranger::new(network, &format!("tail-{number}"));
        let before = refused(node, &reason.to_string());
        let mut line = stranger.dial(node);
        line.put(&bytes);
        assert_eq!(line.dismissed(), Some(reason), "{what}");
        println!("{what}: {reason}");
        closed_for(node, Some(&stranger.id()), &reason.to_string());
        counted(node, &reason.to_string(), before + 1);
    }
}

/// The same of strangers whom a node dials: none of them is dialled again.
pub fn heads_commit(network: &Network, breaches: Vec<Breach>) {
    let traps: Vec<Trap> = (0..breaches.len()).map(|number| Trap::new(network, &format!("trap-{number}"))).collect();
    let setup = network.node("dialler").with(&["--discovery-out-degree", "32"]);
    let node = traps.iter().fold(setup, |setup, trap| setup.connect(trap.address)).start();

    let spring = |trap: &Trap, (what, bytes, reason): &Breach| {
        let mut line = trap.catch(&node);
        line.tell(&trap.stranger.welcome());
        // News before the first heartbeat, which arms two Watch, would be unasked for.
        while !matches!(line.hear::<TailMessage>(), Some(TailMessage::Heartbeat { .. }) | None) {}
        line.put(bytes);
        let heard = line.abandoned();
        println!("{what}: {heard:?}");
        (heard != Some(*reason)).then(|| format!("{what}: {heard:?} and not {reason}"))
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let spring = &spring;
        let sprung: Vec<_> =
            traps.iter().zip(&breaches).map(|(trap, breach)| scope.spawn(move || spring(trap, breach))).collect();
        sprung.into_iter().filter_map(|trap| trap.join().unwrap_or_else(|_| Some("a trap failed".to_owned()))).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (trap, (_, _, reason)) in traps.iter().zip(&breaches) {
        closed_for(&node, Some(&trap.stranger.id()), &reason.to_string());
        let same = breaches.iter().filter(|(_, _, other)| other == reason).count();
        counted(&node, &reason.to_string(), same as u64);
    }
    // Who broke the protocol is not dialled again for minutes.
    thread::sleep(Duration::from_secs(3));
    let rows = node.peers();
    for (trap, (what, ..)) in traps.iter().zip(&breaches) {
        // By this node: others may dial a port that was somebody else's in another test.
        let dialled = rows.iter().filter(|row| row["address"] == trap.address.to_string()).count();
        assert_eq!(dialled, 1, "{what}: dialled again");
    }
}

/// Somebody sends this and nothing else: it is closed without a byte, shown and counted once.
pub fn closed_unheard(node: &Daemon, what: &str, bytes: &[u8], reason: &str) {
    let before = refused(node, reason);
    let mut line = Line::to(node.address);
    line.send(bytes);
    assert_eq!(line.rest(), b"", "{what}");
    println!("{what}: {reason}");
    counted(node, reason, before + 1);
    closed_for(node, None, reason);
}

/// An answer that nobody asked for.
pub fn stray_answer() -> HeadMessage {
    HeadMessage::Heartbeat { seq: 99, statement: ignorance() }
}

/// Heartbeats that fill a record to its last byte, and how many they are.
pub fn brimful() -> (Vec<u8>, u32) {
    let sized = |seq: u32, age: usize| {
        let TailMessage::Heartbeat { mut statement, echo, .. } = heartbeat(seq) else { unreachable!() };
        statement.ages = std::iter::repeat_n(0, age).collect::<List<u8, 16>>();
        encode_frame(&TailMessage::Heartbeat { seq, statement, echo })
    };
    let count = MAX_FRAME / sized(0, 0).len();
    let lacking = MAX_FRAME - count * sized(0, 0).len();
    let age = |index| lacking / count + usize::from(index < lacking % count);
    let all = (0..count).flat_map(|index| sized(index as u32 + 1, age(index))).collect::<Vec<u8>>();
    assert_eq!(all.len(), MAX_FRAME);
    (all, count as u32)
}

/// The line stands: the node answers that heartbeat.
pub fn answers(line: &mut Line, number: u32) {
    loop {
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Heartbeat { seq, .. }) if seq == number => break,
            Some(HeadMessage::Goodbye(reason)) => panic!("{reason}, and no answer to heartbeat {number}"),
            Some(_) => continue,
            None => panic!("closed, and no answer to heartbeat {number}"),
        }
    }
}
