//! The dialling half of the handshake against any head: what does not come, unchanged, from a node that holds the network's
//! key and has signed its own Noise key, never makes a session, and never makes it panic.

use kithd::protocol::codec::HEADER;
use kithd::protocol::message::{Purpose, VERSION};
use kithd::secure::handshake::Tail;

use super::bytes::Bytes;
use super::hands::{NOW, changed, evil, hands, head_answer, proof};

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
            // A member.
            _ => {
                let mut member = evil(hands, false, cipher, preamble);
                member.read_message(one, &mut [0; 256]).expect("the key is the same");
                let version = if bytes.chance(8) { bytes.byte() } else { VERSION };
                let (proof, holds) = proof(hands, &mut bytes);
                let said = [&[version][..], &proof].concat();
                let mut two = vec![0; 1024];
                let length = member.write_message(&said, &mut two).expect("it fits");
                two.truncate(length);
                (two, holds && version == VERSION)
            }
        };
        let made = tail.finish(&two, NOW);
        assert_eq!(made.is_ok(), genuine, "{:?}", made.map(|(_, secured)| secured));
    });
}
