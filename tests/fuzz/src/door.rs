//! The door: what was not signed, in exactly these words and for this network, by the node in whose name it speaks, does
//! not pass, however close to it somebody comes who has heard all that was ever said.

use std::sync::Arc;

use kithd::protocol::codec::{HEADER, decode_frame, encode_frame};
use kithd::protocol::identity::ControllerId;
use kithd::protocol::message::{News, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{
    Forget, ForgetBody, Item, NetworkId, Record, RecordBody, Signature, Signer, Stage, Witness, WitnessBody,
};
use kithd::secure::door::Door;
use kithd::secure::keys::Identity;

use super::bytes::Bytes;
use super::made::{Maker, NETWORK};

/// A check costs as much as a thousand changes.
const MOST_FORGERIES: usize = 16;

/// All that was ever said.
struct Heard {
    /// By two nodes of this network.
    here: Vec<Item>,
    /// By the first of them in another.
    elsewhere: Vec<Item>,
}

thread_local! {
    static HEARD: Heard = Heard::new();
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    HEARD.with(|heard| {
        let door = Door::new(NETWORK);
        if bytes.chance(2) {
            // What is remembered of the true ones must not help those that are like them.
            assert!(heard.here.iter().all(|item| door.item(item.clone()).is_ok()));
        }
        for _ in 0..MOST_FORGERIES {
            if bytes.is_empty() {
                break;
            }
            for item in heard.forge(&mut bytes) {
                let passed = door.item(item.clone()).map(|verified| verified.item());
                match passed {
                    Ok(passed) => assert!(heard.here.contains(&item) && passed == item, "{item:?} passes"),
                    Err(reason) => {
                        assert!(!heard.here.contains(&item), "{item:?}: {reason:?}");
                        let known = [Reason::BadSignature, Reason::Malformed, Reason::OtherNetwork];
                        assert!(known.contains(&reason), "{reason:?}");
                    }
                }
            }
        }
    });
}

impl Heard {
    fn new() -> Self {
        let both = [(); 2].map(|()| Identity::generate().expect("randomness"));
        let here = both.iter().flat_map(|identity| said(identity, NETWORK)).collect();
        Self { here, elsewhere: said(&both[0], NetworkId([2; 8])) }
    }

    fn any(&self, bytes: &mut Bytes<'_>) -> &Item {
        let at = bytes.below(self.here.len() + self.elsewhere.len());
        self.here.iter().chain(&self.elsewhere).nth(at).expect("one of them")
    }

    /// One of them with the signature of another, or under a weak key, or as it is; and then with some bytes changed.
    fn forge(&self, bytes: &mut Bytes<'_>) -> Vec<Item> {
        let mut item = self.any(bytes).clone();
        match bytes.below(4) {
            0 => *parts(&mut item).1 = *parts(&mut self.any(bytes).clone()).1,
            1 => {
                // The neutral point, under which a lenient check takes one signature for everything.
                let (mut point, mut scalar) = ([0; 32], [0; 32]);
                (point[0], scalar[0]) = (1, bytes.byte() % 2);
                let (author, signature) = parts(&mut item);
                (*author, *signature) = (ControllerId(point), Signature(point, scalar));
            }
            _ => {}
        }
        let news = News { items: [item].into_iter().collect(), ..News::default() };
        let mut frame = encode_frame(&TailMessage::Push(news)).split_off(HEADER);
        for _ in 0..bytes.below(4) {
            let at = usize::from(u16::from_le_bytes(bytes.array())) % frame.len();
            frame[at] ^= bytes.byte();
        }
        match decode_frame(&frame) {
            Ok(TailMessage::Push(news)) => news.items.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// In whose name it speaks, and the signature.
fn parts(item: &mut Item) -> (&mut ControllerId, &mut Signature) {
    match item {
        Item::Record(record) => {
            let record = Arc::make_mut(record);
            (&mut record.body.id, &mut record.signature)
        }
        Item::Witness(witness) => {
            let witness = Arc::make_mut(witness);
            (&mut witness.body.observer, &mut witness.signature)
        }
        Item::Forget(forget) => {
            let forget = Arc::make_mut(forget);
            (&mut forget.body.author, &mut forget.signature)
        }
    }
}

/// A node's record of itself, a witness and a forget, all signed by it.
fn said(identity: &Identity, network: NetworkId) -> Vec<Item> {
    // A record with a tag and edges, so that there is something to change.
    let made = Maker::default().record_of(identity.id(), &mut Bytes::new(&[0x13, 1, 2, 3, 4, 5, 6]));
    let record = Record::signed(RecordBody { network, ..made.body.clone() }, identity).shared();
    let (subject, accused) = (record.body.id.short(), record.hash().short());
    let witness =
        WitnessBody { network, subject, record: accused, stage: Stage::Down, need: 2, observer: identity.id() };
    let forget = ForgetBody { network, subject, record: accused, issued: 500_000, author: identity.id() };
    vec![
        Item::Record(record),
        Item::Witness(Witness::signed(witness, identity).shared()),
        Item::Forget(Forget::signed(forget, identity).shared()),
    ]
}
