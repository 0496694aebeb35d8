//! What one turn of a process has for a connection: it travels as one packet or several, and arrives at once.
//!
//! Messages are handed over as they are. What they have in bytes is counted, but only those that share a packet with a
//! handshake, and those that are to arrive in pieces, are written out and read again: with a thousand nodes that was a
//! third of all the time, and most of what was under way was copies of a few records.

use super::sieve::Said;
use crate::protocol::codec::{HEADER, Message, encode_frame, encoded_len};

/// What goes together.
#[derive(Clone, Debug, Default)]
pub(super) struct Parcel {
    /// What is written out; if there is any, everything is.
    bytes: Vec<u8>,
    said: Vec<Spoken>,
    length: usize,
}

/// A message, and how long its frame is without its length.
#[derive(Clone, Debug)]
pub(super) struct Spoken {
    pub(super) said: Said,
    pub(super) length: usize,
}

impl Parcel {
    /// Adds bytes that are no message.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let said = std::mem::take(&mut self.said);
        said.iter().for_each(|spoken| self.bytes.extend(spoken.said.frame()));
        self.bytes.extend(bytes);
        self.length += bytes.len();
    }

    /// Adds a message.
    pub(super) fn say<M: Message>(&mut self, message: M, said: impl FnOnce(M) -> Said) {
        if !self.bytes.is_empty() {
            return self.write(&encode_frame(&message));
        }
        // Its direction takes a byte.
        let length = 1 + encoded_len(&message);
        self.length += HEADER + length;
        self.said.push(Spoken { said: said(message), length });
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Its messages, if nothing else is in it.
    pub(super) fn messages(self) -> Result<Vec<Spoken>, Self> {
        if self.bytes.is_empty() { Ok(self.said) } else { Err(self) }
    }

    /// All of it, written out.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.write(&[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::TailMessage;

    #[test]
    fn what_is_counted_is_what_would_be_written() {
        for raw in [false, true] {
            let mut parcel = Parcel::default();
            if raw {
                parcel.write(b"hands");
            }
            parcel.say(TailMessage::Watch, Said::Request);
            parcel.say(TailMessage::Eager(true), Said::Request);
            let length = parcel.len();
            let parcel = match parcel.messages() {
                Ok(said) => {
                    assert!(!raw && said.len() == 2);
                    continue;
                }
                Err(parcel) => parcel,
            };
            assert!(raw);
            let bytes = parcel.into_bytes();
            assert_eq!(bytes.len(), length);
            let frames = [encode_frame(&TailMessage::Watch), encode_frame(&TailMessage::Eager(true))].concat();
            assert_eq!(bytes[5..], frames);
        }
        let mut parcel = Parcel::default();
        parcel.say(TailMessage::Watch, Said::Request);
        assert_eq!(parcel.len(), encode_frame(&TailMessage::Watch).len());
        assert_eq!(parcel.into_bytes(), encode_frame(&TailMessage::Watch));
    }
}
