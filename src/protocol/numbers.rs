//! A set of nodes, by the numbers that a view gives its entries: a bit for each.
//!
//! What is still to be announced is remembered for each link by itself, and while a network forms that is all of it: ten
//! thousand nodes on sixteen links. A tree of ids takes some fifteen bytes for each and a walk to find one; this takes a bit,
//! and no walk.

/// The numbers of some entries. As large as the greatest number needs, so at most an eighth of a byte for each node that the
/// view has room for.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    words: Vec<u64>,
    count: usize,
}

impl Numbers {
    /// Adds one.
    pub fn insert(&mut self, number: u32) {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, number: u32) {
        let (word, bit) = place(number);
        if let Some(held) = self.words.get_mut(word) {
            self.count -= usize::from(*held & bit != 0);
            *held &= !bit;
        }
    }

    /// Adds all of another set.
    pub fn unite(&mut self, other: &Self) {
        other.iter().for_each(|number| self.insert(number));
    }

    /// True if it is there.
    pub fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|held| held & bit != 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.words.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            let bits = (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1);
            // There are fewer words than numbers.
            bits.map(move |bit| at as u32 * u64::BITS + bit)
        })
    }
}

impl FromIterator<u32> for Numbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

/// Which word, and which bit of it.
fn place(number: u32) -> (usize, u64) {
    ((number / u64::BITS) as usize, 1 << (number % u64::BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..300), 0..400)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for (adds, number) in steps {
                if adds {
                    numbers.insert(number);
                    model.insert(number);
                } else {
                    numbers.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(numbers.contains(number), adds);
                prop_assert_eq!((numbers.len(), numbers.is_empty()), (model.len(), model.is_empty()));
            }
            prop_assert!(numbers.iter().eq(model.iter().copied()));
            let mut both: Numbers = [3, 1000].into_iter().collect();
            both.unite(&numbers);
            model.extend([3, 1000]);
            prop_assert!(both.iter().eq(model));
        }
    }
}
