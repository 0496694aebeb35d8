//! The dialling half of the handshake against any head: what does not come, unchanged, from a node that holds the network's
//! key and has signed its own Noise key, never makes a session, and never makes it panic.

use kithd::protocol::codec::HEADER;
use kithd::protocol::message::{Purpose, VERSION};
use kithd::secure::handshake::Tail;

use super::bytes::Bytes;
use super::hands::{NOW, changed, evil, hands, head_answer, payload};

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    hands(|hands| {
        let (cipher, purpose) = (bytes.pick(&hands.ciphers()), Purpose::Overlay);
        let (tail, sent) = Tail::begin(&hands.mine, &hands.key, cipher, purpose).expect("randomness");
        let (preamble, one) = (&sent[..8], &sent[8 + HEADER..]);
        let (two, genuine) = match bytes.below(4) {
            // Somebody without the key.
            0 => (bytes.rest().to_vec(), false),
            // Somebody in between, who changes what an honest head says.
            1 => changed(head_answer(hands, preamble, one), &mut bytes),
            // A member that says of itself what it likes, or shows another's proof.
            _ => {
                let mut member = evil(hands, false, cipher, preamble);
                member.read_message(one, &mut [0; 256]).expect("the key is the same");
                let said = payload(&hands.stolen, VERSION, &mut bytes);
                let mut two = vec![0; 1024];
                let length = member.write_message(&said, &mut two).expect("it fits");
                two.truncate(length);
                (two, false)
            }
        };
        let now = if genuine { NOW } else { NOW.wrapping_add(bytes.number()) };
        let made = tail.finish(&two, now);
        assert_eq!(made.is_ok(), genuine, "{:?}", made.map(|(_, secured)| secured));
    });
}
