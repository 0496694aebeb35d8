//! The two halves of an encrypted connection, each with one owner: the sink seals, the receiver opens.
//!
//! ```text
//!  record:  length (4, big endian) │ ciphertext │ tag (16)          nothing but the length is in the clear
//!           = one frame; its plaintext is whole messages, one after another
//! ```
//!
//! Records are numbered from zero in each direction, and the number is the nonce: one that is left out, repeated or moved
//! opens as little as one that was changed, and ends the connection. After every [`REKEY_AFTER`] records both ends step to
//! the next key (Noise 11.3), counted, not negotiated: what a later theft of memory reveals reaches no further back.

use std::fmt;

use snow::types::Cipher;

use crate::protocol::codec::HEADER;
use crate::protocol::reason::Reason;

/// Bytes that a record is longer than its plaintext.
pub const TAG: usize = 16;
/// Records under one key. Far below what either cipher bears (AES-GCM's bound for records of 16 KiB is about 2^24.5, RFC
/// 8446, 5.5), and seldom enough to cost nothing.
pub const REKEY_AFTER: u64 = 1 << 16;

/// The sending half.
pub struct Sealing(Half);

/// The receiving half.
pub struct Opening(Half);

/// A key, and the number of the next record.
struct Half {
    cipher: Box<dyn Cipher>,
    next: u64,
}

impl Sealing {
    pub(super) fn new(cipher: Box<dyn Cipher>) -> Self {
        Self(Half { cipher, next: 0 })
    }

    /// Appends a record with this plaintext. Once sealed it must be sent, and in this order.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let sealed = plaintext.len() + TAG;
        // A record is a frame, and frames are bounded far below what fits 32 bits.
        out.extend_from_slice(&(sealed as u32).to_be_bytes());
        let start = out.len();
        out.resize(start + sealed, 0);
        self.0.cipher.encrypt(self.0.next, &[], plaintext, &mut out[start..]);
        self.0.step();
    }

    /// How much longer a record is than its plaintext, its length included.
    pub const fn overhead() -> usize {
        HEADER + TAG
    }
}

impl Opening {
    pub(super) fn new(cipher: Box<dyn Cipher>) -> Self {
        Self(Half { cipher, next: 0 })
    }

    /// The plaintext of the next record (without its length), into a buffer that is overwritten.
    ///
    /// # Errors
    /// [`Reason::BadRecordTag`]: it is not what the remote sealed next. The connection is of no more use.
    pub fn open(&mut self, record: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Reason> {
        let length = record.len().checked_sub(TAG).ok_or(Reason::BadRecordTag)?;
        // Not cleared before: that would take as long as to copy it.
        plaintext.resize(record.len(), 0);
        self.0.cipher.decrypt(self.0.next, &[], record, plaintext).map_err(|_| Reason::BadRecordTag)?;
        plaintext.truncate(length);
        self.0.step();
        Ok(())
    }
}

impl Half {
    fn step(&mut self) {
        // 2^64 records would take longer than the hardware lasts.
        self.next += 1;
        if self.next.is_multiple_of(REKEY_AFTER) {
            self.cipher.rekey();
        }
    }
}

impl Drop for Half {
    /// The ciphers keep their key's schedule where it is: writing another key over it wipes it.
    fn drop(&mut self) {
        self.cipher.set(&[0; 32]);
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealing({} records)", self.0.next)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} records)", self.0.next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secure::primitives::{Cipher as Choice, cipher};

    fn halves(choice: Choice) -> (Sealing, Opening) {
        let keyed = || {
            let mut cipher = cipher(choice);
            cipher.set(&[5; 32]);
            cipher
        };
        (Sealing::new(keyed()), Opening::new(keyed()))
    }

    const CIPHERS: [Choice; 2] = [Choice::ChaChaPoly, Choice::AesGcm];

    fn sealed(sealing: &mut Sealing, plaintext: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        sealing.seal(plaintext, &mut record);
        record
    }

    #[test]
    fn both_ends_step_to_the_next_key_at_the_same_record() {
        for choice in CIPHERS {
            let (mut sealing, mut opening) = halves(choice);
            let mut plaintext = Vec::new();
            for number in 0..2 * REKEY_AFTER + 2 {
                let record = sealed(&mut sealing, &number.to_le_bytes());
                opening.open(&record[HEADER..], &mut plaintext).unwrap();
                assert_eq!(plaintext, number.to_le_bytes());
            }
            let (mut stale, _) = halves(choice);
            stale.0.next = sealing.0.next;
            let record = sealed(&mut stale, b"x");
            assert_eq!(opening.open(&record[HEADER..], &mut plaintext), Err(Reason::BadRecordTag), "the first key");
        }
    }

    #[test]
    fn a_record_that_is_repeated_left_out_or_sent_back_does_not_open() {
        for choice in CIPHERS {
            let (mut sealing, mut opening) = halves(choice);
            let records: Vec<_> = (0..3u8).map(|number| sealed(&mut sealing, &[number])).collect();
            let mut plaintext = Vec::new();
            opening.open(&records[0][HEADER..], &mut plaintext).unwrap();
            let repeated = opening.open(&records[0][HEADER..], &mut plaintext);
            let ahead = opening.open(&records[2][HEADER..], &mut plaintext);
            assert_eq!([repeated, ahead], [Err(Reason::BadRecordTag); 2]);
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_and_any_cut_is_noticed(
            message in prop::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0u8..8, cut in any::<usize>(),
        ) {
            for choice in CIPHERS {
                let (mut sealing, mut opening) = halves(choice);
                let record = sealed(&mut sealing, &message)[HEADER..].to_vec();
                let mut flipped = record.clone();
                flipped[at % record.len()] ^= 1 << bit;
                let mut plaintext = Vec::new();
                prop_assert_eq!(opening.open(&flipped, &mut plaintext), Err(Reason::BadRecordTag));
                prop_assert_eq!(opening.open(&record[..cut % record.len()], &mut plaintext), Err(Reason::BadRecordTag));
                prop_assert_eq!(opening.open(&record, &mut plaintext), Ok(()));
                prop_assert_eq!(&plaintext, &message);
            }
        }
    }
}
