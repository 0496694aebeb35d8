//! What a node is told at its start, and what it remembers for the next one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::Node;
use crate::protocol::address::HostPort;
use crate::protocol::address_book::KnownAddress;
use crate::protocol::bucket::Rate;
use crate::protocol::expected::{Expected, KeptPlace, MAX_EXPECTED};
use crate::protocol::identity::{ControllerId, Label};
use crate::protocol::list::List;
use crate::protocol::peer_state::PeerTimes;
use crate::protocol::record::NetworkId;
use crate::protocol::report::BanRow;
use crate::protocol::tags::Tags;
use crate::protocol::view::Standing;

/// What a node is told about itself at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its readable name.
    pub label: Label,
    /// The network it belongs to.
    pub network: NetworkId,
    /// Where others find it.
    pub advertise: SocketAddr,
    /// What its owner says about it, until he says something else.
    pub tags: Tags,
    /// Addresses to dial for ever.
    pub connect: Vec<HostPort>,
    /// The nodes that should be there.
    pub expect: Vec<Expected>,
    /// The nodes that may be neighbours; none: anybody.
    pub allow: Vec<ControllerId>,
    /// Durations of every connection.
    pub peer: PeerTimes,
    /// The base of monitor idle's pace; it works four times as fast while edges are lacking.
    pub idle_period: Duration,
    /// Outgoing overlay edges wanted.
    pub out_degree: usize,
    /// Incoming overlay edges accepted, and more for ring edges.
    pub accept: usize,
    /// See `accept`.
    pub accept_ring: usize,
    /// From a change to the first flush.
    pub flush_first: Duration,
    /// Between flushes.
    pub flush_interval: Duration,
    /// How long heads must be the same before they are published.
    pub publish_stability: Duration,
    /// Between two records of one's own.
    pub publish_interval: Duration,
    /// From suspicion to testimony.
    pub refute_window: Duration,
    /// Bound on outgoing connections.
    pub max_outgoing: usize,
    /// Bound on established incoming connections.
    pub max_incoming: usize,
    /// How fast connections may come from all who are not known to live at their address.
    pub arrivals: Rate,
    /// How fast connections may come from one /24 or /64.
    pub admission: Rate,
    /// Whether loopback is exempt from what is counted per /24.
    pub exempt_loopback: bool,
    /// Bound on connections that have not identified themselves.
    pub max_pending: usize,
    /// The same per /24 or /64, once half of `max_pending` is used.
    pub max_pending_per_prefix: usize,
    /// Bound on the view.
    pub max_nodes: usize,
    /// Bound on addresses heard of.
    pub max_addresses: usize,
    /// The same per source.
    pub max_addresses_per_source: usize,
    /// Bound on bans.
    pub max_bans: usize,
    /// Bound on events remembered for whoever asks why; 0 remembers nothing.
    pub max_events: usize,
}

impl Settings {
    /// Looks under way that others may cause, each a socket and a thread beside those of `max_outgoing`: so many, and on a small
    /// machine no more than its owner lets it dial.
    pub(super) fn max_looks(&self, most: usize) -> usize {
        most.min(self.max_outgoing)
    }
}

/// Addresses remembered over a restart, at most 450 bytes each: whoever finds none of so many alive is alone for other
/// reasons. `known.json` stays far below the length at which it is taken for damaged, and no ban is lost to that, however
/// large the limits are.
pub const MAX_KEPT: usize = 32_768;
/// Bans that are read again: as many as `limits.max_bans` can allow.
const MAX_KEPT_BANS: usize = 16_384;

/// What a node remembers over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The greatest version it has published.
    pub version: u64,
    /// Addresses that answered, or were told of by records; [`MAX_KEPT`] at most, or they are not what a node wrote.
    #[serde(deserialize_with = "at_most::<_, _, MAX_KEPT>")]
    pub addresses: Vec<KnownAddress>,
    /// Who is kept out. Files of an older version have none.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_KEPT_BANS>")]
    pub bans: Vec<BanRow>,
    /// Where expected nodes were found last.
    #[serde(default, deserialize_with = "at_most::<_, _, MAX_EXPECTED>")]
    pub expected: Vec<KeptPlace>,
}

/// A sequence that is given up as soon as it is longer than whoever wrote it would have made it.
fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error> {
    List::<T, MAX>::deserialize(from).map(List::into_vec)
}

impl Node {
    /// What to keep over a restart.
    pub fn memory(&self) -> Memory {
        let mut addresses = self.book.worth_keeping();
        if addresses.len() > MAX_KEPT {
            // Those that have answered for longest: they will again.
            addresses.sort_by_key(|kept| (Reverse(kept.since.is_some()), kept.since));
            addresses.truncate(MAX_KEPT);
        }
        let mut known: BTreeSet<String> = addresses.iter().map(|kept| kept.address.clone()).collect();
        // Who is down may be so only as seen from here: a node whose network is away must not forget where it was.
        let down = self.view.iter().filter(|(_, entry)| entry.standing() == Standing::Down);
        for (id, entry) in self.view.up().chain(down).filter(|(id, _)| **id != self.me) {
            if addresses.len() == MAX_KEPT {
                break;
            }
            let address = entry.record().body.address.to_string();
            if known.insert(address.clone()) {
                addresses.push(KnownAddress { address, node: Some(id.hex()), since: None });
            }
        }
        Memory { version: self.version, addresses, bans: self.bans.rows(), expected: self.expectations.kept() }
    }
}
