//! A sequence with a maximum, for every list on the wire.
//!
//! `Vec` as serde reads it trusts the length the sender claims for its first allocation, and has no bound of its own:
//! sixteen bytes could claim 2^30 elements. `List` refuses a claim above its bound before it reads an element, and
//! grows only with elements that really arrived. On the wire its length takes two bytes, not eight: half of all messages
//! are heartbeats, and a list is a good part of each.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// At most `MAX` elements, each of which takes bytes on the wire:
///
/// ```
/// use kithd::protocol::list::List;
///
/// let list: List<u8, 4> = serde_json::from_str("[1, 2]").unwrap();
/// assert_eq!(*list, [1, 2]);
/// assert!(serde_json::from_str::<List<u8, 4>>("[1, 2, 3, 4, 5]").is_err());
/// ```
///
/// What takes none cannot be in a list, or the whole would not compile:
///
/// ```compile_fail
/// use kithd::protocol::list::List;
///
/// let list: List<(), 4> = serde_json::from_str("[null]").unwrap();
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// The bound, in elements.
    pub const MAX: usize = MAX;

    /// No elements.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an element, or gives it back if the list is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.0.len() == MAX {
            return Err(item);
        }
        self.0.push(item);
        Ok(())
    }

    /// The elements as an ordinary vector.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the first `MAX`: whoever collects more has to send several messages.
impl<T, const MAX: usize> FromIterator<T> for List<T, MAX> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for List<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let mut parts = serializer.serialize_tuple(self.0.len() + 1)?;
        // At most MAX, which fits.
        parts.serialize_element(&(self.0.len() as u16))?;
        self.0.iter().try_for_each(|item| parts.serialize_element(item))?;
        parts.end()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A zero-sized element costs no input bytes: 2^60 of them would be read for ever.
        const { assert!(size_of::<T>() > 0, "no zero-sized elements on the wire") };
        const { assert!(MAX <= u16::MAX as usize, "its length is said in two bytes") };
        if deserializer.is_human_readable() {
            return deserializer.deserialize_seq(ListVisitor(PhantomData, false));
        }
        deserializer.deserialize_tuple(MAX + 1, ListVisitor(PhantomData, true))
    }
}

/// Reads the elements; of the wire's form, behind their number.
struct ListVisitor<T, const MAX: usize>(PhantomData<T>, bool);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = List<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let counted = match self.1 {
            true => sequence.next_element::<u16>()?.map(usize::from),
            false => sequence.size_hint(),
        };
        if let Some(claimed) = counted.filter(|claimed| *claimed > MAX) {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut list = List::new();
        while !(self.1 && Some(list.len()) == counted) {
            let Some(item) = sequence.next_element()? else { break };
            list.push(item).map_err(|_| A::Error::invalid_length(MAX + 1, &self))?;
        }
        Ok(list)
    }
}
