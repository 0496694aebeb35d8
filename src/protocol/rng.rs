//! Chance as an argument: a small generator whose seed comes from outside, so that every run can be replayed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): fast, tiny, good enough for jitter and choice. Never for keys.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half of a 128-bit product is uniform enough for choices among thousands.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64 <= probability && probability > 0.0
    }

    /// A duration of `span` give or take a quarter: neighbours that failed together must not return together.
    pub fn jitter(&mut self, span: Duration) -> Duration {
        let quarter = span / 4;
        span - quarter + (quarter * 2).mul_f64((self.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Removes and returns a random element; `None` if there is none.
    pub fn take<T>(&mut self, items: &mut Vec<T>) -> Option<T> {
        if items.is_empty() { None } else { Some(items.swap_remove(self.below(items.len()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_and_all_within_bounds() {
        let (mut one, mut two) = (Rng::new(7), Rng::new(7));
        for _ in 0..1000 {
            assert_eq!(one.next_u64(), two.next_u64());
            assert!(one.below(3) < 3);
            two.below(3);
            let span = one.jitter(Duration::from_secs(4));
            assert!(span >= Duration::from_secs(3) && span <= Duration::from_secs(5));
            two.jitter(Duration::ZERO);
        }
        assert_eq!(one.below(0), 0);
        assert!(!one.chance(0.0) && one.chance(1.0));
    }
}
