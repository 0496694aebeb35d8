//! Looking something up by id: ids are keys, which lie evenly, so it is looked for where it should be.

/// How many of `length` ids in rising order lie below the wanted one, which lies at `position` of all there can be. It is
/// looked for where it should be and around that, twice as far each time: that touches a line or two of memory where
/// halving touches five, and of a large view no line is at hand. Ids that somebody has chosen to lie unevenly are found by
/// halving.
pub(crate) fn count_below(length: usize, position: u64, is_below: impl Fn(usize) -> bool) -> usize {
    let guess = ((u128::from(position) * length as u128) >> u64::BITS) as usize;
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while high < length && is_below(high) {
        (low, high, step) = (high + 1, (high + step).min(length), step * 2);
    }
    // All below `low` lie below, and none from `high` on.
    while low > 0 && !is_below(low - 1) {
        (high, low, step) = (low - 1, low.saturating_sub(step), step * 2);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_halving_finds(
            mut ids in prop_oneof![
                prop::collection::vec(any::<u64>(), 0..200),
                prop::collection::vec(0u64..50, 0..200),
                prop::collection::vec(u64::MAX - 50..=u64::MAX, 0..200),
            ],
            others in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..50, u64::MAX - 50..=u64::MAX], 1..50),
        ) {
            ids.sort_unstable();
            for wanted in others.iter().chain(&ids) {
                let found = count_below(ids.len(), *wanted, |at| ids[at] < *wanted);
                prop_assert_eq!(found, ids.partition_point(|id| id < wanted));
            }
        }
    }
}
