//! What one node answers to one input.

use super::*;
use crate::protocol::hash::hash_parts;
use crate::protocol::message::HeadMessage;
use crate::protocol::record::{RecordBody, Signature};

const NOW: Now = Now { mono: Time(1_000_000), wall_ms: 1_795_254_185_042 };

struct Key(u8);

impl Signer for Key {
    fn id(&self) -> ControllerId {
        ControllerId([self.0; 32])
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(hash_parts(b"test", &[&[self.0], bytes]).0, [0; 32])
    }
}

fn settings(number: u8) -> Settings {
    let ms = Duration::from_millis;
    Settings {
        label: Label::from_lossy(&format!("n{number}")),
        network: NetworkId([0; 8]),
        advertise: SocketAddr::from(([10, 0, 0, number], 7100)),
        tags: BTreeMap::new(),
        connect: Vec::new(),
        peer: PeerTimes { interval: ms(1000), timeout: ms(500), dial: ms(2000), handshake: ms(5000) },
        idle_period: ms(1000),
        out_degree: 8,
        accept: 16,
        accept_ring: 4,
        flush_first: ms(5),
        flush_interval: ms(100),
        publish_stability: ms(250),
        publish_interval: ms(1000),
        refute_window: ms(2000),
        max_outgoing: 64,
        max_incoming: 1024,
        max_pending: 128,
        max_pending_per_prefix: 8,
        max_nodes: 64,
        max_addresses: 64,
        max_addresses_per_source: 64,
    }
}

fn node(number: u8) -> Node {
    Node::new(settings(number), Box::new(Key(number)), &Memory::default(), u64::from(number), NOW)
}

/// A tail of this number that `head` has welcomed.
fn tail(head: &mut Node, number: u8, purpose: Purpose) -> PeerId {
    let stranger = node(number);
    let record = Record::signed(RecordBody { reachable: true, ..stranger.record.body.clone() }, &Key(number));
    let peer = head.accepted(NOW, stranger.settings.advertise).unwrap();
    let dialled = SocketAddr::from(([10, 0, 0, 200], 1));
    let hello = PeerEvent::Hello { record, clock_ms: NOW.wall_ms, purpose, dialled };
    let mut actions = Vec::new();
    head.handle(NOW, Input::Peer(peer, hello), &mut actions);
    let welcome = |action: &Action| matches!(action, Action::Command(_, Command::Answer(HeadMessage::Welcome { .. })));
    assert!(actions.iter().any(welcome), "{actions:?}");
    peer
}

#[test]
fn a_look_cannot_become_an_edge_nor_an_edge_a_look() {
    let mut head = node(1);
    let edge = tail(&mut head, 2, Purpose::Overlay);
    let look = tail(&mut head, 3, Purpose::Probe);
    let closes = |head: &mut Node, peer, purpose| {
        let mut actions = Vec::new();
        head.handle(NOW, Input::Peer(peer, PeerEvent::Repurpose(purpose)), &mut actions);
        let close = |action: &Action| matches!(action, Action::Command(closed, Command::Close(Reason::Unexpected)) if *closed == peer);
        actions.iter().any(close)
    };
    assert!(!closes(&mut head, edge, Purpose::Ring));
    assert_eq!(head.link(edge).unwrap().purpose, Purpose::Ring);
    assert!(closes(&mut head, look, Purpose::Overlay), "it would be an edge that no bound has seen");
    assert!(closes(&mut head, edge, Purpose::Probe), "it would keep its thread and leave its place");
    assert_eq!(head.link(edge).unwrap().purpose, Purpose::Ring);
}
