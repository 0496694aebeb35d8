//! How fast connections may come from one network, counted before a thread, a handshake or a key is spent on them.
//!
//! A stranger's bad handshake costs him a packet and this node a thread and a curve multiplication. So each /24 or /64 has
//! a token bucket, and what finds it empty is closed at once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::bucket::{Bucket, Rate};
use super::neighbourhood::Neighbourhood;
use super::time::Time;

/// Networks remembered, about 100 bytes each. Of more, the one that has been quiet the longest is forgotten: its bucket
/// has filled the most. Whoever holds more networks than this is bounded by the number of pending connections instead.
const MAX_PREFIXES: usize = 4096;

/// A bucket for every network that came lately.
#[derive(Debug)]
pub struct AdmissionRate {
    rate: Rate,
    buckets: BTreeMap<Neighbourhood, (Bucket, u64)>,
    /// By the number of the last use: the first one has been quiet the longest.
    quiet: BTreeMap<u64, Neighbourhood>,
    uses: u64,
}

impl AdmissionRate {
    /// Nobody has come yet.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: BTreeMap::new(), quiet: BTreeMap::new(), uses: 0 }
    }

    /// A connection comes from there: false if too many have.
    pub fn admits(&mut self, from: IpAddr, now: Time) -> bool {
        let prefix = Neighbourhood::of(from);
        let (mut bucket, known) = match self.buckets.get(&prefix) {
            Some((bucket, used)) => (*bucket, Some(*used)),
            None => (Bucket::new(self.rate, now), None),
        };
        let admitted = bucket.take(self.rate, now);
        match known {
            Some(used) => drop(self.quiet.remove(&used)),
            None if self.buckets.len() >= MAX_PREFIXES => self.forget_the_quietest(),
            None => {}
        }
        self.uses += 1;
        self.buckets.insert(prefix, (bucket, self.uses));
        self.quiet.insert(self.uses, prefix);
        admitted
    }

    /// How many networks are remembered, and how many may be.
    pub fn size(&self) -> (usize, usize) {
        (self.buckets.len().max(self.quiet.len()), MAX_PREFIXES)
    }

    fn forget_the_quietest(&mut self) {
        if let Some((_, prefix)) = self.quiet.pop_first() {
            self.buckets.remove(&prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 4 };

    fn ip(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        IpAddr::from([a, b, c, d])
    }

    #[test]
    fn one_network_cannot_use_up_anothers_turn() {
        let mut rate = AdmissionRate::new(RATE);
        let flood = (0..=255).filter(|host| rate.admits(ip(10, 0, 0, *host), Time::ZERO)).count();
        assert_eq!(flood, 4, "the addresses of one /24 share one bucket");
        assert!(rate.admits(ip(10, 0, 1, 1), Time::ZERO));
        assert!(rate.admits("2001:db8::1".parse().unwrap(), Time::ZERO));
        assert!(!rate.admits(ip(10, 0, 0, 1), Time(50_000)) && rate.admits(ip(10, 0, 0, 1), Time(150_000)));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quietest() {
        let mut rate = AdmissionRate::new(RATE);
        let busy = ip(10, 0, 0, 1);
        for round in 0..3 * MAX_PREFIXES as u32 {
            let [_, b, c, _] = (round << 8).to_be_bytes();
            rate.admits(ip(11, b, c, 1), Time::ZERO);
            if round % 100 == 0 {
                rate.admits(busy, Time::ZERO);
            }
        }
        assert_eq!((rate.buckets.len(), rate.quiet.len()), (MAX_PREFIXES, MAX_PREFIXES));
        assert!(!rate.admits(busy, Time::ZERO), "whoever keeps coming is not forgotten");
    }
}
