//! What was seen lately: a bounded set of marks, the oldest forgotten first.

use std::collections::{BTreeSet, VecDeque};

use parking_lot::Mutex;

/// Sixteen bytes of something that was seen.
pub type Mark = [u8; 16];

/// A set of the latest marks, shared by threads.
#[derive(Debug)]
pub struct Recent {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    known: BTreeSet<Mark>,
    order: VecDeque<Mark>,
}

impl Recent {
    /// For so many marks, 16 bytes each and a little.
    pub fn new(most: usize) -> Self {
        Self { most, inside: Mutex::default() }
    }

    /// True if it was seen lately.
    pub fn has_seen(&self, mark: &Mark) -> bool {
        self.inside.lock().known.contains(mark)
    }

    /// True if it is new; it is not from now on.
    pub fn remember(&self, mark: Mark) -> bool {
        let mut inside = self.inside.lock();
        if !inside.known.insert(mark) {
            return false;
        }
        inside.order.push_back(mark);
        if inside.order.len() > self.most
            && let Some(oldest) = inside.order.pop_front()
        {
            inside.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let recent = Recent::new(100);
        for number in 0..250u128 {
            assert!(recent.remember(number.to_le_bytes()));
            assert!(!recent.remember(number.to_le_bytes()));
        }
        let inside = recent.inside.lock();
        assert_eq!((inside.known.len(), inside.order.len()), (100, 100));
        drop(inside);
        assert!(recent.has_seen(&150u128.to_le_bytes()) && !recent.has_seen(&149u128.to_le_bytes()));
    }
}
