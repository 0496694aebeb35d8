//! Members of a network that is only thought of: what they say of themselves, for benches of the thinking.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use kithd::protocol::identity::{ControllerId, Label};
use kithd::protocol::list::List;
use kithd::protocol::record::{NetworkId, Reach, Record, RecordBody, RecordState, Signature, Verified};

pub const NETWORK: NetworkId = NetworkId([1; 8]);

/// Unix hours in which all of them have spoken.
pub const ISSUED: u32 = 500_000;

/// The id of the member with this number. The numbers spread over the first byte, as keys do.
pub fn id(number: u16) -> ControllerId {
    let mut bytes = [7; 32];
    bytes[0] = number as u8;
    bytes[1] = (number >> 8) as u8;
    ControllerId(bytes)
}

/// Where it is to be found.
pub fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7100))
}

/// What it says of itself, with eight edges.
pub fn body(number: u16, id: ControllerId, version: u64) -> RecordBody {
    RecordBody {
        network: NETWORK,
        id,
        version,
        issued: ISSUED,
        incarnation: 1,
        state: RecordState::Up,
        reach: Reach::Proven,
        address: address(number),
        label: Label::from_lossy(&format!("node-{number}")),
        tags: List::new(),
        edges: (0..8).map(|edge| self::id(number + edge).short()).collect::<BTreeSet<_>>().into_iter().collect(),
        round_trips: [20; 8].into_iter().collect(),
    }
}

/// The same, as if it had passed the door: the thinking does not look at signatures.
pub fn record(number: u16, version: u64) -> Verified<Record> {
    let signature = Signature([0; 32], [0; 32]);
    Verified::vouch(Arc::new(Record { body: body(number, id(number), version), signature }))
}
