//! What the thinking costs: codec, merge, digest and signatures, as medians over many rounds.
//!
//! `cargo bench --bench thinking` prints one line a subject. Machines are noisy: compare two runs on one machine, and
//! read the ratio, not the figure.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use kithd::protocol::codec::{FrameSplitter, Frames, MAX_FRAME, PREAMBLE, decode_frame, encode_frame};
use kithd::protocol::hash::HalfHash;
use kithd::protocol::identity::{ControllerId, Label};
use kithd::protocol::list::List;
use kithd::protocol::message::{Statement, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{
    NetworkId, Reach, Record, RecordBody, RecordState, Signature, Signer, Verified, VerifiedItem,
};
use kithd::protocol::view::View;
use kithd::secure::door::Door;
use kithd::secure::keys::Identity;

const NETWORK: NetworkId = NetworkId([1; 8]);
const NODES: u16 = 64;

fn main() {
    let heartbeat = TailMessage::Heartbeat {
        seq: 1,
        statement: Statement { digest: HalfHash([7; 16]), ages: [1, 2, 3].into_iter().collect() },
        echo: Some(0),
    };
    let frame = encode_frame(&heartbeat);
    measure("encode a heartbeat", 1000, || drop(black_box(encode_frame(black_box(&heartbeat)))));
    measure("decode a heartbeat", 1000, || drop(black_box(decode_frame::<TailMessage>(&frame[4..]))));

    let stream: Vec<u8> = std::iter::repeat_n(frame, 500).flatten().collect();
    measure("split 500 heartbeats", 10, || {
        let mut counted = Counted(0);
        // Cannot fail: these are frames.
        let _ = FrameSplitter::new().split(black_box(&stream), &mut counted);
        assert_eq!(counted.0, 500);
    });

    let Ok(identity) = Identity::generate() else { return println!("no randomness: signatures are not measured") };
    let signed = Record::signed(body(0, identity.id()), &identity);
    assert!(Door::new(NETWORK).record(signed.shared()).is_ok());
    measure("sign a record", 20, || drop(black_box(Record::signed(body(0, identity.id()), &identity))));
    measure("check a record", 20, || drop(black_box(Door::new(NETWORK).record(signed.shared()))));
    let door = Door::new(NETWORK);
    measure("check it again", 100, || drop(black_box(door.record(signed.shared()))));

    let records: Vec<_> = (0..NODES).map(unsigned).collect();
    measure("merge 64 records and digest them", 1, || {
        let mut view = View::new(1024);
        for record in &records {
            view.merge(VerifiedItem::Record(record.clone()));
        }
        black_box(view.digest());
    });
}

/// Prints the median of 50 rounds, per call.
fn measure(subject: &str, calls: u32, mut call: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{subject:<34} {:>10.2} µs   ({:.2} to {:.2})", rounds[25], rounds[0], rounds[49]);
}

fn body(number: u16, id: ControllerId) -> RecordBody {
    RecordBody {
        network: NETWORK,
        id,
        version: 1,
        issued: 1,
        incarnation: 1,
        state: RecordState::Up,
        reach: Reach::Proven,
        address: ([127, 0, 0, 1], 7100 + number).into(),
        label: Label::from_lossy(&format!("node-{number}")),
        tags: List::new(),
        edges: (0..8).map(|edge| ControllerId([edge; 32]).short()).collect::<BTreeSet<_>>().into_iter().collect(),
        round_trips: [20; 8].into_iter().collect(),
    }
}

/// The merge does not look at signatures: the door did.
fn unsigned(number: u16) -> Verified<Record> {
    let id = ControllerId([number as u8; 32]);
    Verified::vouch(Arc::new(Record { body: body(number, id), signature: Signature([0; 32], [0; 32]) }))
}

struct Counted(usize);

impl Frames for Counted {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        black_box(frame);
        self.0 += 1;
        Ok(())
    }
}
