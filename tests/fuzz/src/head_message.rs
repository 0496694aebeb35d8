//! What a head may send: bytes that decode have exactly that encoding, and cost no more memory than a frame allows.

use kithd::protocol::codec::{Direction, MAX_FRAME, decode_frame, encode_frame};
use kithd::protocol::message::HeadMessage;

pub fn run(data: &[u8]) {
    if let Ok(message) = decode_frame::<HeadMessage>(data) {
        assert_eq!(data[0], Direction::FromHead as u8);
        assert!(data.len() <= MAX_FRAME + 1);
        let frame = encode_frame(&message);
        assert_eq!(&frame[4..], data);
        assert_eq!(decode_frame::<HeadMessage>(&frame[4..]).as_ref(), Ok(&message));
    }
}
