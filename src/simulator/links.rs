//! Packets between hosts: latency, loss and order as TCP makes them, and links that are cut.
//!
//! A packet that is lost, or meets a cut link, is sent again after 200 ms, then 400, 800, ...; those behind it wait, since
//! a stream keeps its order. So loss is never silent: it is delay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::parcel::Parcel;
use super::world::Host;
use crate::protocol::rng::Rng;
use crate::protocol::time::Time;

/// TCP's first retransmission, with a round trip below it.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What connects the hosts.
pub(super) struct Links {
    seed: u64,
    latency: RangeInclusive<Duration>,
    loss: f64,
    rng: Rng,
    sides: BTreeMap<Host, usize>,
    last_sides: BTreeMap<Host, usize>,
    larger: usize,
    cuts: BTreeSet<(Host, Host)>,
    one_way: f64,
}

/// What travels on a stream.
#[derive(Clone, Debug)]
pub(super) enum Segment {
    Parcel(Parcel),
    End,
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    waiting: VecDeque<Segment>,
    last_arrival: Time,
    retry: Option<Duration>,
}

/// What becomes of packets.
#[derive(Debug)]
pub(super) enum Fate {
    Arrives(Time, Segment),
    RetryAt(Time),
}

impl Links {
    pub(super) fn new(seed: u64, latency: RangeInclusive<Duration>, loss: f64) -> Self {
        let rng = Rng::new(seed ^ 0x11_4e4b5);
        Self {
            seed,
            latency,
            loss,
            rng,
            sides: BTreeMap::new(),
            last_sides: BTreeMap::new(),
            larger: 0,
            cuts: BTreeSet::new(),
            one_way: 0.0,
        }
    }

    /// One way, always the same for a pair.
    pub(super) fn latency(&self, one: Host, other: Host) -> Duration {
        let (one, other) = ordered(one, other);
        let mut rng = Rng::new(self.seed ^ ((one.0 as u64) << 32) ^ other.0 as u64);
        let span = (*self.latency.end() - *self.latency.start()).as_micros() as usize;
        *self.latency.start() + Duration::from_micros(rng.below(span + 1) as u64)
    }

    /// Nothing gets from one host to another in less.
    pub(super) fn least_latency(&self) -> Duration {
        *self.latency.start()
    }

    /// A packet sent now passes.
    pub(super) fn pass(&mut self, from: Host, to: Host) -> bool {
        self.joins(from, to) && !self.is_deaf(from, to) && !self.rng.chance(self.loss)
    }

    /// This share of all pairs hears each other in one direction only, from now on; it is decided for each by the seed.
    pub(super) fn set_one_way(&mut self, share: f64) {
        self.one_way = share;
    }

    fn is_deaf(&self, from: Host, to: Host) -> bool {
        if self.one_way == 0.0 {
            return false;
        }
        let (low, high) = ordered(from, to);
        let mut rng = Rng::new(self.seed.rotate_left(32) ^ ((low.0 as u64) << 32) ^ high.0 as u64);
        rng.chance(self.one_way) && rng.chance(0.5) == (from == low)
    }

    /// Nothing is cut between the two.
    pub(super) fn joins(&self, one: Host, other: Host) -> bool {
        self.side(one) == self.side(other) && !self.cuts.contains(&ordered(one, other))
    }

    pub(super) fn side(&self, host: Host) -> usize {
        self.sides.get(&host).copied().unwrap_or_default()
    }

    pub(super) fn set_side(&mut self, host: Host, side: usize) {
        self.sides.insert(host, side);
        self.last_sides.insert(host, side);
    }

    /// True if it was on the larger side of the last split, or there was none.
    pub(super) fn was_with_the_most(&self, host: Host) -> bool {
        self.last_sides.get(&host).copied().unwrap_or_default() == self.larger
    }

    /// Which side is the larger one, as long as nothing else is said.
    pub(super) fn set_larger(&mut self, side: usize) {
        self.larger = side;
    }

    pub(super) fn heal(&mut self) {
        self.sides.clear();
    }

    pub(super) fn cut(&mut self, one: Host, other: Host) {
        self.cuts.insert(ordered(one, other));
    }
}

impl Stream {
    pub(super) fn send(&mut self, segment: Segment, now: Time, passes: bool, latency: Duration) -> Option<Fate> {
        if self.retry.is_some() {
            self.waiting.push_back(segment);
            return None;
        }
        if passes {
            return Some(self.arrives(segment, now + latency));
        }
        self.waiting.push_back(segment);
        Some(self.wait(now, FIRST_RETRY))
    }

    /// The retransmission timer: what waits is sent, until something is lost again.
    pub(super) fn retry(&mut self, now: Time, mut passes: impl FnMut() -> bool, latency: Duration) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut pause = self.retry.take().map_or(FIRST_RETRY, |last| (last * 2).min(LAST_RETRY));
        while let Some(segment) = self.waiting.pop_front() {
            if !passes() {
                self.waiting.push_front(segment);
                fates.push(self.wait(now, pause));
                break;
            }
            pause = FIRST_RETRY;
            fates.push(self.arrives(segment, now + latency));
        }
        fates
    }

    fn arrives(&mut self, segment: Segment, at: Time) -> Fate {
        self.last_arrival = self.last_arrival.max(at);
        Fate::Arrives(self.last_arrival, segment)
    }

    fn wait(&mut self, now: Time, pause: Duration) -> Fate {
        self.retry = Some(pause);
        Fate::RetryAt(now + pause)
    }
}

fn ordered(one: Host, other: Host) -> (Host, Host) {
    if one <= other { (one, other) } else { (other, one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_millis(10);

    fn bytes(fate: &Fate) -> (Time, u8) {
        let Fate::Arrives(at, Segment::Parcel(parcel)) = fate else { panic!("{fate:?}") };
        (*at, parcel.clone().into_bytes()[0])
    }

    fn parcel(byte: u8) -> Segment {
        let mut parcel = Parcel::default();
        parcel.write(&[byte]);
        Segment::Parcel(parcel)
    }

    #[test]
    fn a_lost_packet_holds_up_those_behind_it() {
        let mut stream = Stream::default();
        let first = stream.send(parcel(1), Time::ZERO, false, LATENCY);
        assert!(matches!(first, Some(Fate::RetryAt(Time(200_000)))), "{first:?}");
        assert!(stream.send(parcel(2), Time(1), true, LATENCY).is_none());
        let again = stream.retry(Time(200_000), || false, LATENCY);
        assert!(matches!(again[..], [Fate::RetryAt(Time(600_000))]), "{again:?}");
        let both = stream.retry(Time(600_000), || true, LATENCY);
        let both: Vec<_> = both.iter().map(bytes).collect();
        assert_eq!(both, [(Time(610_000), 1), (Time(610_000), 2)]);
    }

    #[test]
    fn a_pair_has_one_latency_in_both_directions() {
        let range = Duration::from_millis(1)..=Duration::from_millis(100);
        let links = Links::new(7, range.clone(), 0.0);
        let mut seen = BTreeSet::new();
        for other in 1..50 {
            let latency = links.latency(Host(0), Host(other));
            assert_eq!(latency, links.latency(Host(other), Host(0)));
            assert!(range.contains(&latency));
            seen.insert(latency);
        }
        assert!(seen.len() > 40);
    }
}
