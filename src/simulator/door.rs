//! The door of all simulated nodes: what was signed becomes [`Verified`] here.
//!
//! Ten thousand nodes hold ten thousand records each. Equal ones are one object in memory, and are checked once, whoever
//! brings them: what passed is found again by its signature and compared whole. Of this no node can tell anything; what a
//! check would have cost it is counted apart, by `process`.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::protocol::hash::hash_parts;
use crate::protocol::identity::ControllerId;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Item, Marked, NetworkId, Record, Signature, Signed, Signer, Verified, VerifiedItem};
use crate::protocol::testimony::{Nonce, Testimony};

/// How many objects are kept before those that nobody holds any more are dropped: small beside what nodes hold.
const FEW: usize = 1 << 14;

/// One door, which all processes share, on whatever threads they think.
#[derive(Clone, Default)]
pub(super) struct Door(Arc<RwLock<Passed>>);

/// By the first bytes of the signature. Only looked up, never gone through in order: so a run is the same every time.
#[derive(Default)]
struct Passed {
    items: HashMap<u64, VerifiedItem>,
    sweep_at: usize,
    /// All that ever passed, in that order, if that is wanted.
    all: Option<Vec<VerifiedItem>>,
}

impl Door {
    /// From now on all that passes is kept.
    pub(super) fn keep_all(&self) {
        self.0.write().all.get_or_insert_default();
    }

    /// True if all that passes is kept, in the order in which it passes: that must not depend on which thread is faster.
    pub(super) fn keeps_all(&self) -> bool {
        self.0.read().all.is_some()
    }

    /// All that was kept.
    pub(super) fn all(&self) -> Vec<VerifiedItem> {
        self.0.read().all.clone().unwrap_or_default()
    }

    pub(super) fn record(&self, record: Arc<Record>) -> Result<Verified<Record>, Reason> {
        let mark = mark(record.signature);
        if let Some(VerifiedItem::Record(held)) = self.0.read().items.get(&mark)
            && held.is(&record)
        {
            return Ok(held.clone());
        }
        let checked = verify(record.body.id, &record.body, record.signature, Arc::clone(&record))?;
        self.keep(mark, VerifiedItem::Record(checked.clone()));
        Ok(checked)
    }

    pub(super) fn item(&self, item: Item) -> Result<VerifiedItem, Reason> {
        Ok(match item {
            Item::Record(record) => VerifiedItem::Record(self.record(record)?),
            Item::Witness(witness) => {
                let mark = mark(witness.signature);
                if let Some(VerifiedItem::Witness(held)) = self.0.read().items.get(&mark)
                    && held.is(&witness)
                {
                    return Ok(VerifiedItem::Witness(held.clone()));
                }
                let (by, signature) = (witness.body.observer, witness.signature);
                let checked = VerifiedItem::Witness(verify(by, &witness.body, signature, Arc::clone(&witness))?);
                self.keep(mark, checked.clone());
                checked
            }
            Item::Forget(forget) => {
                let (by, signature) = (forget.body.author, forget.signature);
                let checked = VerifiedItem::Forget(verify(by, &forget.body, signature, Arc::clone(&forget))?);
                self.keep(mark(signature), checked.clone());
                checked
            }
        })
    }

    /// None is kept: each answers one census and comes by once.
    pub(super) fn testimony(
        &self,
        network: NetworkId,
        nonce: Nonce,
        said: Testimony,
    ) -> Result<Verified<Testimony>, Reason> {
        verify(said.id, &said.body(network, nonce), said.signature, Arc::new(said))
    }

    fn keep(&self, mark: u64, item: VerifiedItem) {
        let Passed { items, sweep_at, all } = &mut *self.0.write();
        if let Some(all) = all {
            all.push(item.clone());
        }
        items.insert(mark, item);
        if items.len() > (*sweep_at).max(FEW) {
            items.retain(|_, item| is_held(item));
            *sweep_at = 2 * items.len();
        }
    }
}

/// True if anybody but the door holds it.
fn is_held(item: &VerifiedItem) -> bool {
    // The door itself is one.
    match item {
        VerifiedItem::Record(record) => record.holders() > 1,
        VerifiedItem::Witness(witness) => witness.holders() > 1,
        VerifiedItem::Forget(forget) => forget.holders() > 1,
    }
}

fn mark(signature: Signature) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = signature.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Stands in for a key: its signature is a hash that anybody could make, but nobody here does.
pub(super) struct StandIn(pub(super) ControllerId);

impl Signer for StandIn {
    fn id(&self) -> ControllerId {
        self.0
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(hash_parts(b"stand-in", &[&self.0.0, bytes]).0, [0; 32])
    }
}

fn verify<T: Marked>(
    by: ControllerId,
    body: &impl Signed,
    signature: Signature,
    whole: Arc<T>,
) -> Result<Verified<T>, Reason> {
    let holds = StandIn(by).sign(&body.signed_bytes()) == signature;
    if holds { Ok(Verified::vouch(whole)) } else { Err(Reason::BadSignature) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record::{Stage, Witness, WitnessBody};

    fn witness(need: u8) -> Arc<Witness> {
        let body = WitnessBody {
            network: NetworkId([1; 8]),
            subject: ControllerId([2; 32]).short(),
            record: [3; 8],
            stage: Stage::Down,
            need,
            observer: ControllerId([4; 32]),
        };
        Witness::signed(body, &StandIn(ControllerId([4; 32]))).shared()
    }

    #[test]
    fn equal_objects_are_one_and_a_changed_one_is_found_out() {
        let door = Door::default();
        let held = |item| match door.item(Item::Witness(item)) {
            Ok(VerifiedItem::Witness(witness)) => Ok(witness.shared()),
            Ok(_) => panic!("it was a witness"),
            Err(reason) => Err(reason),
        };
        let (one, two) = (held(witness(1)).unwrap(), held(witness(1)).unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        let mut forged = (*one).clone();
        forged.body.need = 2;
        assert_eq!(held(Arc::new(forged)), Err(Reason::BadSignature));
    }
}
