//! The evil member: what a [`Stranger`](crate::stranger::Stranger) who has come in honestly says of others and of himself; and the
//! honest pair of nodes that must not notice.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kithd::protocol::codec::{HEADER, Message, encode, encode_frame};
use kithd::protocol::message::{HeadMessage, News, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, Record, Signature, Signed, Signer};
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, throughout, until};
use crate::report::{self, agreed_and, closed_for, refused, rows_of};
use crate::stranger::{Line, Stranger, heartbeat};

/// For nodes that strangers stay with: who says nothing for a minute is no case of these tests.
pub const PATIENT: [&str; 2] = ["--heartbeat-timeout", "60s"];

/// Two honest nodes with an edge each way. Whatever befalls the first one, their edges and their agreement stand.
pub struct Pair {
    pub network: Network,
    pub a: Daemon,
    pub b: Daemon,
    edges: BTreeSet<u64>,
}

impl Pair {
    /// The first node with these flags.
    pub fn new(flags: &[&str]) -> Self {
        let network = Network::new();
        let a = network.node("a").with(flags).start();
        Self::of(network, a)
    }

    /// Of a node that runs, and one more.
    pub fn of(network: Network, a: Daemon) -> Self {
        let b = network.node("b").with(&PATIENT).connect(a.address).start();
        agreed_and(&[&a, &b], |view| report::edges(view).len() == 2);
        let edges = edges(&a, &b);
        assert!(!edges.is_empty());
        Self { network, a, b, edges }
    }

    /// The edges are the same ones, both nodes hold one view, and neither has failed in any part.
    pub fn is_unharmed(&self) {
        assert_eq!(edges(&self.a, &self.b), self.edges, "the honest nodes' edges");
        until("the honest nodes hold one view, and each other for up", SOON, || {
            let views = [&self.a, &self.b].map(Daemon::network);
            let up = |label| views.iter().all(|view| report::statuses(view).get(label) == Some(&"up"));
            let is_one = views[0]["digest"] == views[1]["digest"] && up("a") && up("b");
            if is_one { Ok(()) } else { Err(format!("{views:?}")) }
        });
        for node in [&self.a, &self.b] {
            is_sound(node);
        }
    }
}

/// No thread of the node has failed.
pub fn is_sound(node: &Daemon) {
    let said = node.stderr();
    assert!(!said.contains("panicked") && !said.contains("internal error"), "{}: {said}", node.label);
}

fn edges(a: &Daemon, b: &Daemon) -> BTreeSet<u64> {
    let rows = a.peers();
    let open = rows_of(&rows, Some(&b.id)).into_iter().filter(|row| row["state"] == "established");
    open.map(|row| row["peer_id"].as_u64().unwrap()).collect()
}

/// Waits until the node has refused so many for that reason.
pub fn counted(node: &Daemon, reason: &str, least: u64) {
    until(&format!("{} counts {least} {reason}", node.label), SOON, || {
        let count = refused(node, reason);
        if count >= least { Ok(()) } else { Err(format!("{count}")) }
    });
}

/// The same of what it dropped without ending a connection.
pub fn dropped(node: &Daemon, reason: &str, least: u64) {
    until(&format!("{} has dropped {least} {reason}", node.label), SOON, || {
        let count = node.status()["dropped"][reason].as_u64().unwrap_or(0);
        if count >= least { Ok(()) } else { Err(format!("{count}")) }
    });
}

/// A number of `/proc/PID/status`, in bytes: `RssAnon`, `VmHWM`.
pub fn memory(node: &Daemon, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// News of these items, as a tail brings them.
pub fn push(items: impl IntoIterator<Item = Item>) -> TailMessage {
    TailMessage::Push(News { items: items.into_iter().collect(), ..News::default() })
}

pub fn item(record: Arc<Record>) -> Item {
    Item::Record(record)
}

/// His record with a bit of its signature flipped.
pub fn forged(stranger: &Stranger) -> Arc<Record> {
    let record = stranger.record();
    let Signature(one, mut two) = record.signature;
    two[3] ^= 1;
    Arc::new(Record { signature: Signature(one, two), ..(*record).clone() })
}

/// A message with these bytes for his label, which no [`Label`](kithd::protocol::identity::Label) can hold. The signature
/// is right.
pub fn mislabelled<M: Message>(stranger: &Stranger, label: &[u8], message: impl Fn(Arc<Record>) -> M) -> Vec<u8> {
    let swap = |bytes: &[u8], old: &[u8], new: &[u8]| -> Vec<u8> {
        let at = bytes.windows(old.len()).position(|window| window == old).expect("what is to be replaced");
        [&bytes[..at], new, &bytes[at + old.len()..]].concat()
    };
    let counted = |text: &[u8]| [&(text.len() as u64).to_le_bytes()[..], text].concat();
    let (old, new) = (counted(stranger.body.label.as_str().as_bytes()), counted(label));
    let record = stranger.record();
    let signature = stranger.sign(&swap(&stranger.body.signed_bytes(), &old, &new));
    let whole = swap(&encode_frame(&message(Arc::clone(&record)))[HEADER..], &old, &new);
    framed(&swap(&whole, &encode(&record.signature), &encode(&signature)))
}

/// Bytes as a frame that says its length.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Dials from that address of loopback.
pub fn dial_from(from: Ipv4Addr, to: SocketAddr) -> Line {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Line::over(socket)
}

/// Made-up members.
pub fn crowd(network: &Network, count: usize) -> Vec<Stranger> {
    (0..count).map(|number| Stranger::new(network, &format!("made-up-{number}"))).collect()
}

impl Line {
    /// Asks for life, and gives back all that the head says up to its answer; the reason, if it takes its leave instead.
    pub fn converse(&mut self, seq: u32) -> Result<Vec<HeadMessage>, Option<Reason>> {
        self.tell(&heartbeat(seq));
        let mut heard = Vec::new();
        loop {
            match self.hear::<HeadMessage>() {
                Some(HeadMessage::Heartbeat { seq: answered, .. }) if answered == seq => return Ok(heard),
                Some(HeadMessage::Goodbye(reason)) => return Err(Some(reason)),
                Some(message) => heard.push(message),
                None => return Err(None),
            }
        }
    }

    /// Brings news, and gives back all that the head says up to an `Ack`: who does not wait for those is no honest member.
    pub fn bring(&mut self, news: &TailMessage) -> Result<Vec<HeadMessage>, Option<Reason>> {
        self.tell(news);
        // Of two one is acknowledged at once, as soon as the news was taken in; the heartbeat acknowledges the other.
        self.tell(&TailMessage::Push(News::default()));
        self.tell(&heartbeat(0));
        let (mut heard, mut is_acknowledged, mut is_answered) = (Vec::new(), false, false);
        while !is_acknowledged || !is_answered {
            match self.hear::<HeadMessage>() {
                Some(HeadMessage::Goodbye(reason)) => return Err(Some(reason)),
                Some(message) => heard.push(message),
                None => return Err(None),
            }
            is_acknowledged |= matches!(heard.last(), Some(HeadMessage::Ack(_)));
            is_answered |= matches!(heard.last(), Some(HeadMessage::Heartbeat { .. }));
        }
        Ok(heard)
    }

    /// The node ends this edge for that reason: it says so, shows it in its list, and counts it.
    pub fn ends_for(mut self, node: &Daemon, stranger: &Stranger, reason: Reason, before: u64) {
        assert_eq!(self.dismissed(), Some(reason));
        is_ended(node, Some(&stranger.id()), reason, before);
    }

    /// The same of somebody who did not become a peer, and whose name is therefore not in the list.
    pub fn turned_away(mut self, node: &Daemon, reason: Reason, before: u64) {
        assert_eq!(self.dismissed(), Some(reason));
        is_ended(node, None, reason, before);
    }

    /// The same of somebody who has broken off the introduction, and is not told why.
    pub fn shut_out(mut self, node: &Daemon, reason: Reason, before: u64) {
        assert_eq!(self.dismissed(), None);
        is_ended(node, None, reason, before);
    }
}

fn is_ended(node: &Daemon, id: Option<&str>, reason: Reason, before: u64) {
    closed_for(node, id, &reason.to_string());
    counted(node, &reason.to_string(), before + 1);
    assert_eq!(refused(node, &reason.to_string()), before + 1, "counted once");
}

/// Nobody is refused for that reason for a while.
pub fn nobody_is_refused_for(node: &Daemon, reason: &str, span: Duration) {
    let before = refused(node, reason);
    throughout(&format!("nobody is refused for {reason}"), span, || match refused(node, reason) {
        now if now == before => Ok(()),
        now => Err(format!("{before} before, {now} now")),
    });
}
