//! The merge of news into a view: the same whatever the order, and nothing new the second time (`view_laws.rs` states it).

use std::collections::BTreeSet;

use kithd::protocol::hash::Hash;
use kithd::protocol::identity::{ControllerId, ShortId};
use kithd::protocol::record::VerifiedItem;
use kithd::protocol::view::{CERTIFICATE, Merged, Standing, View};

use super::bytes::Bytes;
use super::made::{Maker, WALL_HOURS, vouched};

/// More than the nodes there are: a full view depends on who came first, and is meant to.
const ROOM: usize = 64;
const MOST_ITEMS: usize = 96;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut maker = Maker::default();
    let swaps: [u8; 16] = bytes.array();
    let mut items = Vec::new();
    while !bytes.is_empty() && items.len() < MOST_ITEMS {
        items.push(vouched(maker.item(&mut bytes)));
    }
    let mut other = items.clone();
    other.reverse();
    for (at, swap) in swaps.into_iter().enumerate().take(items.len()) {
        other.swap(at, usize::from(swap) % items.len());
    }
    let (mut one, mut two) = (view_of(&items), view_of(&other));
    assert_eq!(essence(&mut one), essence(&mut two), "the order of news matters");

    let before = essence(&mut one);
    for item in everything(&one) {
        assert_eq!(one.merge(item), Merged::Known);
    }
    assert_eq!(essence(&mut one), before, "hearing it again changes something");

    // A view that is told by others instead of by the authors ends where they are.
    let mut told = view_of(&everything(&one));
    assert_eq!(essence(&mut told), before, "what is passed on says less");
    for (_, entry) in one.iter() {
        let observers: BTreeSet<_> = entry.certificate().iter().map(|witness| witness.body.observer).collect();
        assert!(observers.len() == entry.certificate().len() && observers.len() <= CERTIFICATE);
    }

    // Whoever is gone for long is dropped, in all views alike, and nobody has to agree anew.
    let hours = WALL_HOURS + u32::from(swaps[0]) % 64;
    assert_eq!(one.expire(hours), two.expire(hours));
    let after = essence(&mut one);
    assert_eq!(after, essence(&mut two));
    assert_eq!(after.0, before.0, "the digest covers only who is up");
    assert_eq!(essence(&mut view_of(&everything(&one))), after);
}

fn view_of(items: &[VerifiedItem]) -> View {
    let mut view = View::new(ROOM);
    for item in items {
        view.merge(item.clone());
    }
    view
}

/// What must not depend on the order of news; suspicions are neither merged nor digested.
type Essence = (Hash, Vec<(ShortId, [u8; 8])>, Vec<(ControllerId, Standing)>);

fn essence(view: &mut View) -> Essence {
    let states = view.states().collect();
    let standings = view.iter().map(|(id, entry)| (*id, entry.standing())).collect();
    (view.digest(), states, standings)
}

/// All that a view passes on of what it holds.
fn everything(view: &View) -> Vec<VerifiedItem> {
    let ids: Vec<ControllerId> = view.states().filter_map(|(short, _)| view.resolve(&short)).collect();
    ids.iter().filter_map(|id| view.get(id)).flat_map(|entry| entry.items()).collect()
}
