//! The door: what was signed becomes [`Verified`] here, in the thread of the peer that brought it.
//!
//! A record reaches a node from many neighbours, and a check costs 50 µs: what passed lately is remembered by the hash of
//! all its bytes, signature included, so that a flood is checked once.

use std::sync::Arc;

use ed25519_dalek::{Signature as Ed25519, VerifyingKey};

use super::recent::Recent;
use crate::protocol::address::dialable;
use crate::protocol::codec::encoded_len;
use crate::protocol::hash::hash_parts;
use crate::protocol::identity::ControllerId;
use crate::protocol::reason::Reason;
use crate::protocol::record::{
    Item, MAX_RECORD, MAX_TAGS, NetworkId, Record, Signature, Signed, Verified, VerifiedItem,
};
use crate::protocol::testimony::{Nonce, Testimony};
use crate::protocol::view::CERTIFICATE;

/// Objects remembered as checked: more than two floods of the largest usual network.
const REMEMBERED: usize = 4096;

/// Checks for one network.
#[derive(Debug)]
pub struct Door {
    network: NetworkId,
    passed: Recent,
}

impl Door {
    /// For objects of this network only.
    pub fn new(network: NetworkId) -> Self {
        Self { network, passed: Recent::new(REMEMBERED) }
    }

    /// Checks a node's record of itself.
    ///
    /// # Errors
    /// [`Reason::OtherNetwork`], [`Reason::Malformed`] for one over its bounds, [`Reason::BadSignature`].
    pub fn record(&self, record: Arc<Record>) -> Result<Verified<Record>, Reason> {
        let body = &record.body;
        let tags: usize = body.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        // Each key and each edge once, in one order: a record is told in one way only.
        let sorted = body.edges.windows(2).all(|pair| pair[0] < pair[1])
            && body.tags.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && body.round_trips.len() == body.edges.len();
        // Nobody may be made to dial what no node can have as its address: 0.0.0.0 would be a port of his own machine.
        let nowhere = dialable(body.address).is_err();
        if encoded_len(&*record) > MAX_RECORD || tags > MAX_TAGS || !sorted || nowhere {
            return Err(Reason::Malformed);
        }
        self.check(body.network, &body.id, body, record.signature)?;
        Ok(Verified::vouch(record))
    }

    /// Checks any item of news.
    ///
    /// # Errors
    /// As [`Door::record`].
    pub fn item(&self, item: Item) -> Result<VerifiedItem, Reason> {
        match item {
            Item::Record(record) => self.record(record).map(VerifiedItem::Record),
            Item::Witness(witness) => {
                let body = &witness.body;
                if !(1..=CERTIFICATE).contains(&usize::from(body.need)) {
                    return Err(Reason::Malformed);
                }
                self.check(body.network, &body.observer, body, witness.signature)?;
                Ok(VerifiedItem::Witness(Verified::vouch(witness)))
            }
            Item::Forget(forget) => {
                self.check(forget.body.network, &forget.body.author, &forget.body, forget.signature)?;
                Ok(VerifiedItem::Forget(Verified::vouch(forget)))
            }
        }
    }

    /// Checks what a node says of itself in this census. Each comes by once, so none is remembered: ten thousand of them
    /// would push out what does come again.
    ///
    /// # Errors
    /// [`Reason::BadSignature`], also for what was signed in another census or another network.
    pub fn testimony(&self, nonce: Nonce, said: Testimony) -> Result<Verified<Testimony>, Reason> {
        holds(&said.id, &said.body(self.network, nonce).signed_bytes(), said.signature)?;
        Ok(Verified::vouch(Arc::new(said)))
    }

    fn check<B: Signed>(
        &self,
        network: NetworkId,
        author: &ControllerId,
        body: &B,
        signature: Signature,
    ) -> Result<(), Reason> {
        if network != self.network {
            return Err(Reason::OtherNetwork);
        }
        let bytes = body.signed_bytes();
        let mut mark = [0; 16];
        mark.copy_from_slice(&hash_parts(b"kith door", &[&bytes, &signature.0, &signature.1]).0[..16]);
        if self.passed.has_seen(&mark) {
            return Ok(());
        }
        holds(author, &bytes, signature)?;
        self.passed.remember(mark);
        Ok(())
    }
}

/// Whether the author has signed exactly these bytes.
///
/// # Errors
/// [`Reason::BadSignature`]
pub(super) fn holds(author: &ControllerId, bytes: &[u8], signature: Signature) -> Result<(), Reason> {
    let key = VerifyingKey::from_bytes(&author.0).map_err(|_| Reason::BadSignature)?;
    let signature = Ed25519::from_components(signature.0, signature.1);
    // Strict: no key of small order, no second form of a signature.
    key.verify_strict(bytes, &signature).map_err(|_| Reason::BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hash::Hash;
    use crate::protocol::identity::Label;
    use crate::protocol::list::List;
    use crate::protocol::record::{Reach, RecordBody, RecordState, Signer, Stage, Witness, WitnessBody};
    use crate::protocol::testimony::TestimonyBody;
    use crate::secure::keys::Identity;

    const NETWORK: NetworkId = NetworkId([3; 8]);

    fn body(identity: &Identity) -> RecordBody {
        RecordBody {
            network: NETWORK,
            id: identity.id(),
            version: 1,
            issued: 1,
            incarnation: 1,
            state: RecordState::Up,
            reach: Reach::Unproven,
            address: ([127, 0, 0, 1], 7100).into(),
            label: Label::from_lossy("a"),
            tags: List::new(),
            edges: List::new(),
            round_trips: List::new(),
        }
    }

    #[test]
    fn what_its_author_signed_passes_twice_and_what_was_changed_never() {
        let identity = Identity::generate().unwrap();
        let door = Door::new(NETWORK);
        let record = Record::signed(body(&identity), &identity);
        assert!(door.record(record.shared()).is_ok());
        assert!(door.record(record.shared()).is_ok());
        let mut forged = (*record).clone();
        forged.body.version = 2;
        assert_eq!(door.record(Arc::new(forged)).unwrap_err(), Reason::BadSignature);
        let mut stolen = (*record).clone();
        stolen.body.id = Identity::generate().unwrap().id();
        assert_eq!(door.record(Arc::new(stolen)).unwrap_err(), Reason::BadSignature);
        assert_eq!(Door::new(NetworkId([4; 8])).record(record.shared()).unwrap_err(), Reason::OtherNetwork);
    }

    #[test]
    fn a_testimony_is_of_one_node_one_census_and_one_network() {
        let (identity, nonce) = (Identity::generate().unwrap(), Nonce([1; 16]));
        let (id, digest) = (identity.id(), Hash([5; 32]));
        let signed = Testimony::signed(TestimonyBody { network: NETWORK, nonce, id, digest, live: 3 }, &identity);
        let (door, said) = (Door::new(NETWORK), || (*signed).clone());
        assert_eq!(door.testimony(nonce, said()).map(|one| (*one).clone()), Ok(said()));
        let other = Identity::generate().unwrap().id();
        for (wrong, nonce) in [
            (said(), Nonce([2; 16])),
            (Testimony { id: other, ..said() }, nonce),
            (Testimony { digest: Hash([6; 32]), ..said() }, nonce),
            (Testimony { live: 4, ..said() }, nonce),
        ] {
            assert_eq!(door.testimony(nonce, wrong).unwrap_err(), Reason::BadSignature);
        }
        assert_eq!(Door::new(NetworkId([4; 8])).testimony(nonce, said()).unwrap_err(), Reason::BadSignature);
    }

    #[test]
    fn tags_are_told_once_and_in_order() {
        let identity = Identity::generate().unwrap();
        let door = Door::new(NETWORK);
        for (keys, outcome) in
            [(["a", "b"], Ok(())), (["a", "a"], Err(Reason::Malformed)), (["b", "a"], Err(Reason::Malformed))]
        {
            let tags = keys.map(|key| (key.to_owned(), String::new())).into_iter().collect();
            let record = Record::signed(RecordBody { tags, ..body(&identity) }, &identity);
            assert_eq!(door.record(record.shared()).map(drop), outcome, "{keys:?}");
        }
    }

    #[test]
    fn bounds_hold_whoever_signs() {
        let identity = Identity::generate().unwrap();
        let door = Door::new(NETWORK);
        let tags = std::iter::once(("k".to_owned(), "v".repeat(MAX_TAGS))).collect();
        let large = Record::signed(RecordBody { tags, ..body(&identity) }, &identity);
        assert_eq!(door.record(large.shared()).unwrap_err(), Reason::Malformed);
        for need in [0, 4, 255] {
            let (subject, stage) = (identity.id().short(), Stage::Down);
            let accusation =
                WitnessBody { network: NETWORK, subject, record: [0; 8], stage, need, observer: identity.id() };
            let witness = Witness::signed(accusation, &identity);
            assert_eq!(door.item(Item::Witness(witness.shared())).unwrap_err(), Reason::Malformed);
        }
    }
}
