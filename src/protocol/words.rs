//! How arrays of bytes are read and written: as numbers of four, eight and sixteen bytes, little end first.
//!
//! On the wire that is the same bytes in the same order. But serde takes arrays for tuples, and handles each byte of a key or
//! a signature by itself: that was most of what it cost to read or write a record.
//!
//! Named in `#[serde(with = "...")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An array that is as long as some numbers.
pub trait Words: Copy + Serialize + for<'de> Deserialize<'de> {
    /// These numbers.
    type Numbers: Serialize + for<'de> Deserialize<'de>;
    /// The array as numbers.
    fn numbers(self) -> Self::Numbers;
    /// The array of these numbers.
    fn of(numbers: Self::Numbers) -> Self;
}

impl Words for [u8; 4] {
    type Numbers = u32;

    fn numbers(self) -> u32 {
        u32::from_le_bytes(self)
    }

    fn of(numbers: u32) -> Self {
        numbers.to_le_bytes()
    }
}

impl Words for [u8; 8] {
    type Numbers = u64;

    fn numbers(self) -> u64 {
        u64::from_le_bytes(self)
    }

    fn of(numbers: u64) -> Self {
        numbers.to_le_bytes()
    }
}

impl Words for [u8; 16] {
    type Numbers = u128;

    fn numbers(self) -> u128 {
        u128::from_le_bytes(self)
    }

    fn of(numbers: u128) -> Self {
        numbers.to_le_bytes()
    }
}

impl Words for [u8; 32] {
    type Numbers = (u128, u128);

    fn numbers(self) -> (u128, u128) {
        let (mut low, mut high) = ([0; 16], [0; 16]);
        low.copy_from_slice(&self[..16]);
        high.copy_from_slice(&self[16..]);
        (low.numbers(), high.numbers())
    }

    fn of((low, high): (u128, u128)) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&low.to_le_bytes());
        bytes[16..].copy_from_slice(&high.to_le_bytes());
        bytes
    }
}

/// Writes an array; for people, as serde usually does.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<B: Words, S: Serializer>(bytes: &B, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { bytes.serialize(serializer) } else { bytes.numbers().serialize(serializer) }
}

/// Reads it again.
///
/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, B: Words, D: Deserializer<'de>>(deserializer: D) -> Result<B, D::Error> {
    if deserializer.is_human_readable() {
        return B::deserialize(deserializer);
    }
    B::Numbers::deserialize(deserializer).map(B::of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::protocol::codec::encode;

    #[derive(Serialize, Deserialize)]
    #[serde(bound = "B: Words")]
    struct Written<B: Words>(#[serde(with = "crate::protocol::words")] B);

    fn is_the_same<B: Words + PartialEq>(bytes: B) -> bool
    where
        Written<B>: DeserializeOwned,
    {
        let json = serde_json::to_string(&Written(bytes)).unwrap();
        let same_json = json == serde_json::to_string(&bytes).unwrap();
        let read: Written<B> = serde_json::from_str(&json).unwrap();
        same_json && read.0 == bytes && encode(&Written(bytes)) == encode(&bytes) && B::of(bytes.numbers()) == bytes
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_array(bytes in any::<[u8; 32]>()) {
            prop_assert!(is_the_same(bytes));
            prop_assert!(is_the_same::<[u8; 16]>(*bytes.first_chunk().unwrap()));
            prop_assert!(is_the_same::<[u8; 8]>(*bytes.first_chunk().unwrap()));
            prop_assert!(is_the_same::<[u8; 4]>(*bytes.first_chunk().unwrap()));
        }
    }
}
