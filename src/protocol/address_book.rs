//! Where nodes may be found, and when it is time to try again.
//!
//! An address may be dialled if all of this holds (the conditions of "monitor idle"); [`Obstacle`] names the first that
//! does not:
//!
//! 1. it is not this node itself (once recognised, never tried again),
//! 2. no dial to it is under way (whether a *node* is linked already, the caller knows),
//! 3. it is not banned,
//! 4. its backoff is over: 1 s after the first failure, doubling to 60 s, with jitter, forgotten after a minute of good
//!    service. A node without any edge waits 5 s at most for a configured address.
//!
//! Configured addresses stay for ever; learned ones are dropped after a day without an answer. Heard-of addresses that
//! never answered are bounded in all and by the network that told of them (a liar makes ids as he likes, networks not so
//! easily), apart from those that did: nobody can crowd out the living by talking. Of those that answered, the youngest
//! goes when they are too many; who has answered for an hour is long known, and a node keeps edges to two of these
//! ([`AddressBook::long_known`]), also over its restarts, so that newcomers alone cannot surround it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::HostPort;
use super::identity::{ControllerId, from_hex};
use super::neighbourhood::Neighbourhood;
use super::rng::Rng;
use super::time::{Now, Time};

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_secs(60);
/// What a node that is alone waits at most for a configured address: a seed that starts late must not be waited for a
/// minute longer, and a few nodes that knock every five seconds are no load.
const BACKOFF_ALONE: Duration = Duration::from_secs(5);
/// For an address that ends handshakes without a word: it has another network key, and a person has to change that.
const BACKOFF_UNANSWERED: Duration = Duration::from_secs(600);
/// A connection that lasted this long was good: the next failure starts the backoff anew.
const GOOD_SERVICE: Duration = Duration::from_secs(60);
/// A busy head has told us who else is there; it need not be asked again soon.
const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// After a failed dial to an address that somebody only told of: one a minute is no attack on whoever is there.
const HEARSAY_PAUSE: Duration = Duration::from_secs(60);
/// Who answered first so long ago is long known: an attacker has to have come before, and to have served well.
const LONG_KNOWN_MS: u64 = 3_600_000;
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// After a breach of the protocol: long enough that a broken program is no load, short enough to notice its repair.
pub const MISBEHAVIOUR_BAN: Duration = Duration::from_secs(600);

/// Why an address is not dialled now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It leads back to this node.
    Myself,
    /// A dial is under way.
    UnderWay,
    /// Kept away from until then.
    Banned(Time),
    /// It failed or was busy, and its turn comes then.
    Backoff(Time),
}

/// One address and its history.
#[derive(Clone, Debug)]
struct Known {
    configured: bool,
    source: Option<Neighbourhood>,
    reached: bool,
    /// An earlier run has written it down, though nobody answered it there.
    remembered: bool,
    /// Since when this very node has answered there, in Unix milliseconds: it is kept over restarts.
    since: Option<u64>,
    node: Option<ControllerId>,
    myself: bool,
    under_way: bool,
    /// The last dial was accepted and met with silence.
    unanswered: bool,
    failures: u32,
    next_dial: Time,
    banned_until: Time,
    heard: Time,
    resolved: Vec<SocketAddr>,
}

impl Known {
    /// It was asked for, or has answered and not failed since: an edge may stand for weeks without a new dial.
    fn is_of_use(&self) -> bool {
        self.configured || self.reached && self.failures == 0
    }

    /// Between two dials to an address that somebody only told of.
    fn least_pause(&self) -> Duration {
        let hearsay = !self.reached && !self.configured && self.source.is_some();
        if hearsay { HEARSAY_PAUSE } else { Duration::ZERO }
    }
}

/// What is worth keeping over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// As it was dialled.
    pub address: String,
    /// Who answered there last, as hex digits.
    pub node: Option<String>,
    /// Since when that node has answered there, in Unix milliseconds; nothing if it was only told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// All addresses this node might dial.
#[derive(Debug)]
pub struct AddressBook {
    known: BTreeMap<HostPort, Known>,
    stamp: u64,
    max: usize,
    max_per_source: usize,
}

impl AddressBook {
    /// Empty, with its bounds on addresses that never answered: in all (and as many that did), and per network that told
    /// of them.
    pub fn new(max: usize, max_per_source: usize) -> Self {
        Self { known: BTreeMap::new(), stamp: 0, max, max_per_source }
    }

    /// Rises whenever there is something new to keep.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds an address of the configuration: never dropped, dialled for ever.
    pub fn configure(&mut self, address: HostPort, now: Time) {
        self.entry(address, now).configured = true;
    }

    /// These addresses and no others are those of the configuration from now on. Of the others, those that answered are
    /// kept as if somebody had told of them.
    pub fn configure_only(&mut self, addresses: &[HostPort], now: Time) {
        self.known.retain(|address, known| {
            let was_configured = std::mem::replace(&mut known.configured, addresses.contains(address));
            known.configured || !was_configured || known.reached || known.under_way
        });
        for address in addresses {
            self.configure(address.clone(), now);
        }
    }

    /// Adds what an earlier run of the node has written down: those that answered first. Those that records told of
    /// get half of the room for addresses that never answered, so that talk of new ones finds some; they are no hearsay
    /// of one source, which a quarter of a large network would not fit into.
    pub fn remember(&mut self, kept: &[KnownAddress], now: Time) {
        let mut untried = Vec::new();
        for kept in kept {
            let Ok(address @ HostPort::Ip(_)) = kept.address.parse() else { continue };
            let node = kept.node.as_deref().and_then(from_hex::<32>).map(ControllerId);
            match (node, kept.since) {
                (Some(node), Some(since)) if self.known.len() < self.max => {
                    let known = self.entry(address, now);
                    (known.reached, known.node, known.since) = (true, Some(node), Some(since));
                }
                (Some(_), Some(_)) => {}
                _ if untried.len() < self.max / 2 => untried.push(address),
                _ => {}
            }
        }
        for address in untried {
            self.entry(address, now).remembered = true;
        }
    }

    /// Adds an address somebody told of. False if its source or the book is full.
    pub fn learn(&mut self, address: SocketAddr, source: Option<Neighbourhood>, now: Time) -> bool {
        let address = HostPort::Ip(address);
        if let Some(known) = self.known.get_mut(&address) {
            known.heard = now;
            return true;
        }
        self.known.retain(|_, known| known.is_of_use() || now.since(known.heard) < FORGET_AFTER);
        let unreached = self.known.values().filter(|known| !known.reached && !known.configured);
        let (mut all, mut same) = (0, 0);
        for known in unreached {
            all += 1;
            same += usize::from(known.source == source);
        }
        if all >= self.max || same >= self.max_per_source {
            return false;
        }
        self.entry(address, now).source = source;
        true
    }

    /// The first condition that is not met, if any.
    pub fn obstacle(&self, address: &HostPort, now: Time) -> Option<Obstacle> {
        let known = self.known.get(address)?;
        if known.myself {
            Some(Obstacle::Myself)
        } else if known.under_way {
            Some(Obstacle::UnderWay)
        } else if known.banned_until > now {
            Some(Obstacle::Banned(known.banned_until))
        } else if known.next_dial > now {
            Some(Obstacle::Backoff(known.next_dial))
        } else {
            None
        }
    }

    /// Configured addresses, with the node that last answered there.
    pub fn configured(&self) -> impl Iterator<Item = (&HostPort, Option<ControllerId>)> {
        self.known.iter().filter(|(_, known)| known.configured).map(|(address, known)| (address, known.node))
    }

    /// Addresses somebody told of, with the node that last answered there.
    pub fn learned(&self) -> impl Iterator<Item = (&HostPort, Option<ControllerId>)> {
        self.known.iter().filter(|(_, known)| !known.configured).map(|(address, known)| (address, known.node))
    }

    /// What a name was resolved to, next one first.
    pub fn resolved(&self, address: &HostPort) -> Option<SocketAddr> {
        match address {
            HostPort::Ip(address) => Some(*address),
            HostPort::Name { .. } => self.known.get(address)?.resolved.first().copied(),
        }
    }

    /// The resolver's answer. Names are asked anew for each dial, since their answers change.
    pub fn set_resolved(&mut self, address: &HostPort, found: Vec<SocketAddr>) {
        if let Some(known) = self.known.get_mut(address) {
            known.under_way = false;
            known.resolved = found;
        }
    }

    /// A dial, or the resolving of its name, begins.
    pub fn begin(&mut self, address: &HostPort, now: Time) {
        self.entry(address.clone(), now).under_way = true;
    }

    /// A signed record names this address: it is no mere hearsay any more.
    pub fn vouch(&mut self, address: &HostPort) {
        if let Some(known) = self.known.get_mut(address) {
            known.source = None;
        }
    }

    /// True if it was configured, or somebody has answered there.
    pub fn is_proven(&self, address: &HostPort) -> bool {
        self.known.get(address).is_some_and(|known| known.configured || known.reached)
    }

    /// Who answered at an address last.
    pub fn node_at(&self, address: &HostPort) -> Option<ControllerId> {
        self.known.get(address)?.node
    }

    /// Where a node answered last.
    pub fn places_of(&self, node: ControllerId) -> impl Iterator<Item = &HostPort> {
        self.known.iter().filter(move |(_, known)| known.node == Some(node)).map(|(address, _)| address)
    }

    /// True if there is anything to tell of an address.
    pub fn is_known(&self, address: &HostPort) -> bool {
        self.known.contains_key(address)
    }

    /// True if it is one of the configuration's.
    pub fn is_configured(&self, address: &HostPort) -> bool {
        self.known.get(address).is_some_and(|known| known.configured)
    }

    /// Nodes that first answered an hour ago or earlier, and where.
    pub fn long_known(&self, wall_ms: u64) -> impl Iterator<Item = (&HostPort, ControllerId)> {
        let old = move |known: &Known| known.since.is_some_and(|since| since.saturating_add(LONG_KNOWN_MS) <= wall_ms);
        let kept = self.known.iter().filter(move |(_, known)| known.reached && !known.myself && old(known));
        kept.filter_map(|(address, known)| Some((address, known.node?)))
    }

    /// How many were heard of and never answered, configured ones apart.
    pub fn unreached(&self) -> usize {
        self.known.values().filter(|known| !known.reached && !known.configured).count()
    }

    /// How many have answered, configured ones apart.
    pub fn reached_count(&self) -> usize {
        self.known.values().filter(|known| known.reached && !known.configured).count()
    }

    /// Somebody is there.
    pub fn reached(&mut self, address: &HostPort, node: ControllerId, now: Now) {
        let (wall_ms, now) = (now.wall_ms, now.mono);
        let known = self.entry(address.clone(), now);
        let is_news = !known.reached || known.node != Some(node);
        known.under_way = false;
        known.reached = true;
        if is_news || known.since.is_none() {
            known.since = Some(wall_ms);
        }
        known.node = Some(node);
        known.heard = now;
        self.stamp += u64::from(is_news);
        self.part_with_the_youngest(address);
    }

    /// This node is there, and nothing else is to be concluded from it.
    pub fn found(&mut self, address: &HostPort, node: ControllerId) {
        if let Some(known) = self.known.get_mut(address) {
            known.node = Some(node);
        }
    }

    /// The node at this address made contact by itself: no reason to wait any longer.
    pub fn alive(&mut self, address: SocketAddr) {
        if let Some(known) = self.known.get_mut(&HostPort::Ip(address)) {
            known.failures = 0;
            known.next_dial = Time::ZERO;
        }
    }

    /// A dial failed, or a connection ended for cause after `served`. `alone`: this node has no edge at all, and so nothing
    /// better to do than to try its configured addresses.
    pub fn failed(&mut self, address: &HostPort, served: Duration, alone: bool, now: Time, rng: &mut Rng) {
        let known = self.entry(address.clone(), now);
        (known.under_way, known.unanswered) = (false, false);
        if !known.resolved.is_empty() {
            // The next try takes the name's next address, and a new look once all had their turn.
            known.resolved.remove(0);
        }
        if !served.is_zero() {
            known.heard = now;
        }
        known.failures = if served >= GOOD_SERVICE { 1 } else { known.failures.saturating_add(1) };
        let most = if alone && known.configured { BACKOFF_ALONE } else { BACKOFF_MOST };
        known.next_dial = now + rng.jitter(doubled(known.failures).min(most)).max(known.least_pause());
    }

    /// The address accepted, and did not answer the handshake.
    pub fn unanswered(&mut self, address: &HostPort, now: Time, rng: &mut Rng) {
        self.failed(address, Duration::ZERO, false, now, rng);
        if let Some(known) = self.known.get_mut(address) {
            known.unanswered = true;
            let pause = rng.jitter(doubled(known.failures).min(BACKOFF_UNANSWERED));
            known.next_dial = now + pause.max(known.least_pause());
        }
    }

    /// This node's keys have changed: where they were met with silence, others may not be.
    pub fn forgive_unanswered(&mut self) {
        for known in self.known.values_mut().filter(|known| known.unanswered) {
            (known.unanswered, known.failures, known.next_dial) = (false, 0, Time::ZERO);
        }
    }

    /// A dial ended without fault: as a probe, or because the edge was not wanted.
    pub fn ended(&mut self, address: &HostPort) {
        if let Some(known) = self.known.get_mut(address) {
            known.under_way = false;
            known.resolved.clear();
        }
    }

    /// A head had no room.
    pub fn busy(&mut self, address: &HostPort, now: Time, rng: &mut Rng) {
        self.ended(address);
        if let Some(known) = self.known.get_mut(address) {
            known.next_dial = now + rng.jitter(BUSY_PAUSE);
        }
    }

    /// True for an address that has answered, and not failed since: if it may not be dialled now, it was busy.
    pub fn is_merely_busy(&self, address: &HostPort) -> bool {
        self.known.get(address).is_some_and(|known| known.reached && known.failures == 0 && !known.under_way)
    }

    /// The address leads back to this node: it is never tried again.
    pub fn mark_myself(&mut self, address: &HostPort, now: Time) {
        let known = self.entry(address.clone(), now);
        known.myself = true;
        known.under_way = false;
    }

    /// Keeps away from an address for a while.
    pub fn ban(&mut self, address: &HostPort, now: Time) {
        let known = self.entry(address.clone(), now);
        known.banned_until = now + MISBEHAVIOUR_BAN;
        known.under_way = false;
    }

    /// What to keep over a restart: whoever was reached and is not this node, and what was kept the last time. A node that
    /// is started while its network is away would otherwise forget where it was.
    pub fn worth_keeping(&self) -> Vec<KnownAddress> {
        let kept = self.known.iter().filter(|(_, known)| (known.reached || known.remembered) && !known.myself);
        kept.map(|(address, known)| KnownAddress {
            address: address.to_string(),
            node: known.node.map(|node| node.hex()),
            since: known.since,
        })
        .collect()
    }

    /// More have answered than there is room for: the one that did so last goes, other than the newest of all.
    fn part_with_the_youngest(&mut self, newest: &HostPort) {
        let reached = || self.known.iter().filter(|(_, known)| known.reached && !known.configured);
        if reached().count() > self.max {
            let idle = reached().filter(|(address, known)| !known.under_way && *address != newest);
            let youngest = idle.max_by_key(|(_, known)| known.since).map(|(address, _)| address.clone());
            youngest.map(|address| self.known.remove(&address));
        }
    }

    /// What was dialled because a record named it, and never answered, is bounded as well: the oldest goes.
    fn part_with_the_unreached(&mut self) {
        if self.known.len() > self.max.saturating_mul(3) {
            let idle = |known: &Known| !(known.configured || known.reached || known.under_way || known.myself);
            let silent = self.known.iter().filter(|(_, known)| idle(known));
            let oldest = silent.min_by_key(|(_, known)| known.heard).map(|(address, _)| address.clone());
            oldest.map(|address| self.known.remove(&address));
        }
    }

    fn entry(&mut self, address: HostPort, now: Time) -> &mut Known {
        if !self.known.contains_key(&address) {
            self.part_with_the_unreached();
        }
        self.known.entry(address).or_insert_with(|| Known {
            configured: false,
            source: None,
            reached: false,
            remembered: false,
            since: None,
            node: None,
            myself: false,
            under_way: false,
            unanswered: false,
            failures: 0,
            next_dial: Time::ZERO,
            banned_until: Time::ZERO,
            heard: now,
            resolved: Vec::new(),
        })
    }
}

/// The moment from which `obstacle` no longer stands in the way; `None` if only an event can remove it.
pub fn until(obstacle: Option<Obstacle>, now: Now) -> Option<Time> {
    match obstacle {
        None => Some(now.mono),
        Some(Obstacle::Backoff(then) | Obstacle::Banned(then)) => Some(then),
        Some(Obstacle::Myself | Obstacle::UnderWay) => None,
    }
}

/// The pause after so many failures in a row, before its bound.
fn doubled(failures: u32) -> Duration {
    BACKOFF_FIRST * 2u32.pow(failures.saturating_sub(1).min(10))
}

#[cfg(test)]
mod tests;
