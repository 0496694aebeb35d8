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
//! never answered are bounded in all and per source, apart from those that did, so that a liar cannot crowd out the living.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::HostPort;
use super::identity::ControllerId;
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
    source: Option<ControllerId>,
    reached: bool,
    node: Option<ControllerId>,
    myself: bool,
    under_way: bool,
    failures: u32,
    next_dial: Time,
    banned_until: Time,
    heard: Time,
    resolved: Vec<SocketAddr>,
}

/// What is worth keeping over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// As it was dialled.
    pub address: String,
    /// Who answered there last, as hex digits.
    pub node: Option<String>,
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
    /// Empty, with its bounds on addresses that never answered: in all, and per node that told of them.
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

    /// Adds an address somebody told of. False if it is unfit to be dialled, or its source or the book is full.
    pub fn learn(&mut self, address: SocketAddr, source: Option<ControllerId>, now: Time) -> bool {
        if !is_dialable(address) {
            return false;
        }
        let address = HostPort::Ip(address);
        if let Some(known) = self.known.get_mut(&address) {
            known.heard = now;
            return true;
        }
        self.known.retain(|_, known| known.configured || now.since(known.heard) < FORGET_AFTER);
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

    /// Somebody is there.
    pub fn reached(&mut self, address: &HostPort, node: ControllerId, now: Time) {
        let known = self.entry(address.clone(), now);
        let is_news = !known.reached || known.node != Some(node);
        known.under_way = false;
        known.reached = true;
        known.node = Some(node);
        known.heard = now;
        self.stamp += u64::from(is_news);
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
        known.under_way = false;
        if !known.resolved.is_empty() {
            // The next try takes the name's next address, and a new look once all had their turn.
            known.resolved.remove(0);
        }
        known.failures = if served >= GOOD_SERVICE { 1 } else { known.failures.saturating_add(1) };
        let most = if alone && known.configured { BACKOFF_ALONE } else { BACKOFF_MOST };
        known.next_dial = now + rng.jitter(doubled(known.failures).min(most));
    }

    /// The address accepted, and did not answer the handshake.
    pub fn unanswered(&mut self, address: &HostPort, now: Time, rng: &mut Rng) {
        self.failed(address, Duration::ZERO, false, now, rng);
        if let Some(known) = self.known.get_mut(address) {
            known.next_dial = now + rng.jitter(doubled(known.failures).min(BACKOFF_UNANSWERED));
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

    /// What to keep over a restart: whoever was reached and is not this node.
    pub fn worth_keeping(&self) -> Vec<KnownAddress> {
        let kept = self.known.iter().filter(|(_, known)| known.reached && !known.myself);
        kept.map(|(address, known)| KnownAddress {
            address: address.to_string(),
            node: known.node.map(|node| node.hex()),
        })
        .collect()
    }

    fn entry(&mut self, address: HostPort, now: Time) -> &mut Known {
        self.known.entry(address).or_insert_with(|| Known {
            configured: false,
            source: None,
            reached: false,
            node: None,
            myself: false,
            under_way: false,
            failures: 0,
            next_dial: Time::ZERO,
            banned_until: Time::ZERO,
            heard: now,
            resolved: Vec::new(),
        })
    }
}

/// False for what no node listens on, or what would turn our dials into an attack on others (port 0, broadcast,
/// multicast, unspecified, link-local without its interface).
pub fn is_dialable(address: SocketAddr) -> bool {
    let ip_fits = match address.ip() {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    };
    ip_fits && address.port() != 0
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
mod tests {
    use super::*;

    fn address(port: u16) -> HostPort {
        HostPort::Ip(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn backoff_doubles_to_a_minute_and_good_service_resets_it() {
        let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
        let target = address(1);
        let mut spans = Vec::new();
        for _ in 0..9 {
            book.failed(&target, Duration::ZERO, false, at(0), &mut rng);
            match book.obstacle(&target, at(0)) {
                Some(Obstacle::Backoff(until)) => spans.push(until.since(at(0)).as_secs_f64()),
                other => panic!("{other:?}"),
            }
        }
        for (span, nominal) in spans.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!(*span >= nominal * 0.74 && *span <= nominal * 1.26, "{spans:?}");
        }
        book.failed(&target, GOOD_SERVICE, false, at(0), &mut rng);
        assert_eq!(book.obstacle(&target, at(2)), None);
    }

    #[test]
    fn who_does_not_answer_the_handshake_is_left_alone_for_up_to_ten_minutes() {
        let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
        let target = address(1);
        book.configure(target.clone(), at(0));
        for _ in 0..20 {
            book.unanswered(&target, at(0), &mut rng);
        }
        let Some(Obstacle::Backoff(until)) = book.obstacle(&target, at(0)) else { panic!("no backoff") };
        assert!(until > at(400) && until < at(800), "{until:?}");
    }

    #[test]
    fn a_node_that_is_alone_keeps_knocking_at_configured_addresses() {
        let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
        book.configure(address(1), at(0));
        for target in [address(1), address(2)] {
            for _ in 0..20 {
                book.failed(&target, Duration::ZERO, true, at(0), &mut rng);
            }
        }
        assert_eq!(book.obstacle(&address(1), at(7)), None);
        assert!(book.obstacle(&address(2), at(40)).is_some(), "a learned one has its backoff");
    }

    #[test]
    fn each_condition_is_named() {
        let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
        assert_eq!(book.obstacle(&address(1), at(0)), None);
        book.begin(&address(1), at(0));
        assert_eq!(book.obstacle(&address(1), at(0)), Some(Obstacle::UnderWay));
        book.busy(&address(1), at(0), &mut rng);
        assert!(matches!(book.obstacle(&address(1), at(0)), Some(Obstacle::Backoff(_))));
        book.ban(&address(1), at(0));
        assert!(matches!(book.obstacle(&address(1), at(0)), Some(Obstacle::Banned(_))));
        book.mark_myself(&address(1), at(0));
        assert_eq!(book.obstacle(&address(1), at(1_000_000)), Some(Obstacle::Myself));
    }

    #[test]
    fn a_source_cannot_fill_the_book() {
        let mut book = AddressBook::new(5, 3);
        let (liar, other) = (Some(ControllerId([1; 32])), Some(ControllerId([2; 32])));
        let told = |book: &mut AddressBook, from, ports: std::ops::Range<u16>| {
            ports.filter(|port| book.learn(([10, 0, 0, 1], *port).into(), from, at(0))).count()
        };
        assert_eq!(told(&mut book, liar, 1..100), 3);
        assert_eq!(told(&mut book, other, 200..300), 2);
        book.reached(&HostPort::Ip(([10, 0, 0, 1], 1).into()), ControllerId([9; 32]), at(0));
        assert_eq!(told(&mut book, other, 400..500), 1, "what answered does not count");
    }

    #[test]
    fn unfit_addresses_are_not_learned() {
        let mut book = AddressBook::new(10, 10);
        for unfit in ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:9", "10.0.0.1:0", "[ff02::1]:1", "[fe80::1]:1"] {
            assert!(!book.learn(unfit.parse().unwrap(), None, at(0)), "{unfit}");
        }
    }
}
