//! Who has to go when every place is taken and somebody new has proved who he is.
//!
//! After the idea of Bitcoin Core's `SelectNodeToEvict`: some are kept for what an attacker cannot fake, and of the rest
//! the largest group pays.
//!
//! 1. kept: the `KEPT` with the longest uptime (an attacker has to have been here first),
//! 2. kept: the `KEPT` with the shortest round trip that *this* node measured (he has to be near),
//! 3. kept: the one of longest uptime in each of `KEPT_NETWORKS` networks, the longest-served first (he has to have
//!    an address there),
//! 4. of all others the youngest of the network (/24 or /64) with the most connections goes.
//!
//! The newcomer is counted as the youngest of its own network. Is that the largest, it is the one that does not get in:
//! so nobody is sent away for somebody just like him, and places do not go round in a circle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::identity::PeerId;
use super::neighbourhood::Neighbourhood;
use super::time::Time;

/// Kept for uptime, and as many for round trip: enough to hold a graph together whatever becomes of the others.
const KEPT: usize = 8;
/// Networks of which the oldest connection is kept.
const KEPT_NETWORKS: usize = 8;

/// An established connection that may have to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which one.
    pub peer: PeerId,
    /// Where it comes from.
    pub ip: IpAddr,
    /// Since when it stands.
    pub since: Time,
    /// As measured by this node; what it has not measured itself counts for nothing.
    pub round_trip: Option<Duration>,
}

/// Who goes in favour of a newcomer from `from`; `None` if the newcomer itself does not get in.
pub fn select(candidates: &[Candidate], from: IpAddr) -> Option<PeerId> {
    let mut sizes: BTreeMap<Neighbourhood, usize> = BTreeMap::new();
    for ip in candidates.iter().map(|one| one.ip).chain([from]) {
        *sizes.entry(Neighbourhood::of(ip)).or_default() += 1;
    }
    let size = |ip| sizes.get(&Neighbourhood::of(ip)).copied().unwrap_or(0);
    let kept = kept(candidates);
    let others = candidates.iter().filter(|one| !kept.contains(&one.peer));
    // Numbers rise with time, so the greater one is the younger where moments are equal.
    let victim = others.max_by_key(|one| (size(one.ip), Neighbourhood::of(one.ip), one.since, one.peer))?;
    (size(victim.ip) > size(from)).then_some(victim.peer)
}

/// Which stranger goes in favour of a newcomer: the oldest of the network that has the most of them, the newcomer counted.
/// So a flood pays for itself, and whoever comes alone from elsewhere has the time to say who he is. `pending` is in the
/// order of arrival.
pub fn oldest_of_largest(pending: &[(PeerId, Neighbourhood)], newcomer: Neighbourhood) -> Option<PeerId> {
    let mut groups: BTreeMap<Neighbourhood, (usize, PeerId)> = BTreeMap::new();
    for (peer, prefix) in pending {
        groups.entry(*prefix).or_insert((0, *peer)).0 += 1;
    }
    groups.entry(newcomer).and_modify(|(count, _)| *count += 1);
    // Among equals the one that has waited longest.
    groups.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest))).map(|(_, oldest)| oldest)
}

fn kept(candidates: &[Candidate]) -> BTreeSet<PeerId> {
    let mut oldest: Vec<&Candidate> = candidates.iter().collect();
    oldest.sort_by_key(|one| (one.since, one.peer));
    let mut nearest: Vec<&Candidate> = candidates.iter().filter(|one| one.round_trip.is_some()).collect();
    nearest.sort_by_key(|one| (one.round_trip, one.since, one.peer));
    let mut networks = BTreeSet::new();
    let first = oldest.iter().filter(|one| networks.insert(Neighbourhood::of(one.ip))).take(KEPT_NETWORKS);
    let first: Vec<PeerId> = first.map(|one| one.peer).collect();
    let served = oldest.iter().take(KEPT).chain(nearest.iter().take(KEPT)).map(|one| one.peer);
    served.chain(first).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(peer: u64, network: u8, since: u64, ms: Option<u64>) -> Candidate {
        let ip = IpAddr::from([10, 0, network, peer as u8]);
        Candidate { peer: PeerId(peer), ip, since: Time(since), round_trip: ms.map(Duration::from_millis) }
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec((0u8..6, 0u64..1000, prop::option::of(0u64..300)), 0..80).prop_map(|rows| {
            let rows = rows.into_iter().enumerate();
            rows.map(|(peer, (network, since, ms))| candidate(peer as u64, network, since, ms)).collect()
        })
    }

    fn elsewhere() -> IpAddr {
        IpAddr::from([192, 0, 2, 1])
    }

    proptest! {
        #[test]
        fn whoever_goes_is_the_youngest_unprotected_of_the_largest_network_left(all in any_candidates()) {
            let kept = kept(&all);
            let Some(victim) = select(&all, elsewhere()) else { return Ok(()) };
            prop_assert!(!kept.contains(&victim));
            let size = |one: &Candidate| all.iter().filter(|other| Neighbourhood::of(other.ip) == Neighbourhood::of(one.ip)).count();
            let gone = all.iter().find(|one| one.peer == victim).unwrap();
            for other in all.iter().filter(|one| !kept.contains(&one.peer)) {
                prop_assert!(size(other) <= size(gone));
                prop_assert!(Neighbourhood::of(other.ip) != Neighbourhood::of(gone.ip) || other.since <= gone.since);
            }
        }

        #[test]
        fn those_that_served_longest_and_the_nearest_are_never_sent_away(all in any_candidates()) {
            let Some(victim) = select(&all, elsewhere()) else { return Ok(()) };
            let gone = *all.iter().find(|one| one.peer == victim).unwrap();
            prop_assert!(all.iter().filter(|one| (one.since, one.peer) < (gone.since, gone.peer)).count() >= KEPT);
            if let Some(rtt) = gone.round_trip {
                let nearer = all.iter().filter(|one| one.round_trip.is_some_and(|other| other <= rtt)).count();
                prop_assert!(nearer > KEPT);
            }
        }

        #[test]
        fn the_answer_does_not_depend_on_the_order(
            all in any_candidates(), swaps in prop::collection::vec(any::<prop::sample::Index>(), 80),
        ) {
            let mut shuffled = all.clone();
            for (at, other) in swaps.iter().enumerate().take(all.len()) {
                shuffled.swap(at, other.index(all.len()));
            }
            prop_assert_eq!(select(&all, elsewhere()), select(&shuffled, elsewhere()));
        }

        /// However many come from a few networks, they cannot send away the last one of another.
        #[test]
        fn a_flood_from_one_network_pays_for_itself(flood in 20u64..200, honest in 1u8..20) {
            let mut all: Vec<_> = (0..u64::from(honest)).map(|n| candidate(n, 100 + n as u8, 500, None)).collect();
            all.extend((0..flood).map(|n| candidate(1000 + n, 1, n, Some(1))));
            let victim = select(&all, elsewhere()).unwrap();
            prop_assert!(victim.0 >= 1000, "{victim} is honest");
            prop_assert_eq!(select(&all, IpAddr::from([10, 0, 1, 250])), None, "and lets no more of itself in");
        }
    }

    #[test]
    fn a_flood_of_strangers_pays_for_itself() {
        let network = |number: u8| Neighbourhood::of(IpAddr::from([10, 0, number, 1]));
        let pending: Vec<_> = (0..10).map(|n| (PeerId(n), network(if n % 5 == 0 { n as u8 } else { 99 }))).collect();
        assert_eq!(oldest_of_largest(&pending, network(50)), Some(PeerId(1)));
        assert_eq!(oldest_of_largest(&pending, network(99)), Some(PeerId(1)));
        let alone: Vec<_> = (0..10).map(|n| (PeerId(n), network(n as u8))).collect();
        assert_eq!(oldest_of_largest(&alone, network(50)), Some(PeerId(0)));
        assert_eq!(oldest_of_largest(&alone, network(7)), Some(PeerId(7)));
        assert_eq!(oldest_of_largest(&[], network(1)), None);
    }

    #[test]
    fn among_equals_nobody_goes() {
        let all: Vec<_> = (0..100).map(|n| candidate(n, n as u8, n, None)).collect();
        assert_eq!(select(&all, elsewhere()), None);
        assert_eq!(select(&[], elsewhere()), None);
    }
}
