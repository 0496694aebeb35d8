//! A payload that comes in pieces.

use super::message::Bytes;
use crate::protocol::reason::Reason;

/// What has come so far. Grows with what arrived, never with what was claimed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Arriving {
    bytes: Vec<u8>,
    length: usize,
    /// Nobody wants it any more: it is only counted.
    left_out: Option<usize>,
}

impl Arriving {
    /// The beginning of a payload of that length.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if there is more of it than there can be, or nothing of something.
    pub(super) fn begin(length: u32, first: Bytes) -> Result<Self, Reason> {
        let length = length as usize;
        if first.0.len() > length || first.0.is_empty() && length > 0 {
            return Err(Reason::Malformed);
        }
        Ok(Self { bytes: first.0, length, left_out: None })
    }

    /// What follows.
    ///
    /// # Errors
    /// As in [`begin`](Self::begin).
    pub(super) fn add(&mut self, more: &Bytes) -> Result<(), Reason> {
        if more.0.is_empty() || more.0.len() > self.length - self.came() {
            return Err(Reason::Malformed);
        }
        match &mut self.left_out {
            Some(left_out) => *left_out += more.0.len(),
            None => self.bytes.extend_from_slice(&more.0),
        }
        Ok(())
    }

    /// From now on it is only counted.
    pub(super) fn leave_out(&mut self) {
        self.left_out = Some(self.came());
        self.bytes = Vec::new();
    }

    pub(super) fn is_whole(&self) -> bool {
        self.came() == self.length
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn came(&self) -> usize {
        self.left_out.unwrap_or(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Bytes {
        Bytes(vec![1; count])
    }

    #[test]
    fn it_is_whole_when_all_has_come_and_takes_no_more() {
        let mut arriving = Arriving::begin(10, bytes(4)).unwrap();
        assert!(!arriving.is_whole());
        assert_eq!(arriving.add(&bytes(7)), Err(Reason::Malformed));
        assert_eq!(arriving.add(&bytes(0)), Err(Reason::Malformed), "nothing could be sent for ever");
        arriving.add(&bytes(6)).unwrap();
        assert!(arriving.is_whole());
        assert_eq!(arriving.add(&bytes(1)), Err(Reason::Malformed));
        assert_eq!(arriving.into_bytes().len(), 10);
    }

    #[test]
    fn a_beginning_is_neither_more_than_all_nor_nothing_of_something() {
        assert!(Arriving::begin(0, bytes(0)).unwrap().is_whole());
        assert_eq!(Arriving::begin(1, bytes(0)), Err(Reason::Malformed));
        assert_eq!(Arriving::begin(1, bytes(2)), Err(Reason::Malformed));
        let claimed = Arriving::begin(u32::MAX, bytes(1)).unwrap();
        assert!(claimed.bytes.capacity() < 100, "what is claimed takes no memory");
    }

    #[test]
    fn what_is_left_out_is_counted_to_its_end() {
        let mut arriving = Arriving::begin(10, bytes(4)).unwrap();
        arriving.leave_out();
        arriving.add(&bytes(5)).unwrap();
        assert!(!arriving.is_whole() && arriving.add(&bytes(2)).is_err());
        arriving.add(&bytes(1)).unwrap();
        assert!(arriving.is_whole() && arriving.into_bytes().is_empty());
    }
}
