//! The laws of the merge, by property tests, and what a status follows from.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::protocol::identity::Label;
use crate::protocol::list::List;
use crate::protocol::record::{
    Forget, ForgetBody, Marked, NetworkId, Reach, RecordBody, RecordState, Signature, Witness, WitnessBody,
};
use crate::protocol::tally::sketch_of;

const NETWORK: NetworkId = NetworkId([1; 8]);

/// Signatures are the door's business: here every object is vouched for.
fn vouched<T: Marked>(object: T) -> Verified<T> {
    Verified::vouch(Arc::new(object))
}

fn id(number: u8) -> ControllerId {
    ControllerId([number; 32])
}

fn record(number: u8, version: u64, state: RecordState) -> Verified<Record> {
    let body = RecordBody {
        network: NETWORK,
        id: id(number),
        version,
        issued: 0,
        incarnation: u64::from(number),
        state,
        reach: Reach::Proven,
        address: ([127, 0, 0, 1], 7100 + u16::from(number)).into(),
        label: Label::from_lossy(&format!("n{number}")),
        tags: List::new(),
        edges: List::new(),
        round_trips: List::new(),
    };
    vouched(Record { body, signature: Signature([0; 32], [0; 32]) })
}

fn witness(about: &Verified<Record>, observer: u8, need: u8, stage: Stage) -> VerifiedItem {
    let body = WitnessBody {
        network: NETWORK,
        subject: about.body.id.short(),
        record: about.hash().short(),
        stage,
        need,
        observer: id(observer),
    };
    VerifiedItem::Witness(vouched(Witness { body, signature: Signature([0; 32], [0; 32]) }))
}

fn forget(about: &Verified<Record>, author: u8, issued: u32) -> VerifiedItem {
    let body = ForgetBody {
        network: NETWORK,
        subject: about.body.id.short(),
        record: about.hash().short(),
        issued,
        author: id(author),
    };
    VerifiedItem::Forget(vouched(Forget { body, signature: Signature([0; 32], [0; 32]) }))
}

fn any_record() -> impl Strategy<Value = Verified<Record>> {
    (0u8..4, 1u64..4, prop::bool::weighted(0.2)).prop_map(|(number, version, left)| {
        record(number, version, if left { RecordState::Left } else { RecordState::Up })
    })
}

fn any_item() -> impl Strategy<Value = VerifiedItem> {
    prop_oneof![
        3 => any_record().prop_map(VerifiedItem::Record),
        4 => (any_record(), 10u8..16, 1u8..4).prop_map(|(about, by, need)| witness(&about, by, need, Stage::Down)),
        1 => (any_record(), 10u8..16).prop_map(|(about, by)| witness(&about, by, 1, Stage::Suspect)),
        1 => (any_record(), 10u8..12, 0u32..3).prop_map(|(about, by, issued)| forget(&about, by, issued)),
    ]
}

fn view_of(items: &[VerifiedItem]) -> View {
    let mut view = View::new(100);
    for item in items {
        view.merge(item.clone());
    }
    view
}

/// All that the merge is about: neither suspicions nor what waits for its record.
/// A digest, the states and the standings of a view: all that must not depend on the order of news.
type Essence = (Hash, Vec<(ShortId, [u8; 8])>, Vec<Standing>);

fn essence(view: &View) -> Essence {
    let states = view.states().collect();
    let standings = view.all().map(|(_, entry)| entry.standing()).collect();
    (view.digest(), states, standings)
}

/// All items a view would send.
fn everything(view: &View) -> Vec<VerifiedItem> {
    view.all().flat_map(|(_, entry)| entry.items()).collect()
}

proptest! {
    #[test]
    fn the_order_of_news_does_not_matter(
        items in prop::collection::vec(any_item(), 0..40),
        shuffles in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut shuffled = items.clone();
        for (at, other) in shuffles.iter().enumerate().take(items.len()) {
            shuffled.swap(at, other.index(items.len()));
        }
        prop_assert_eq!(essence(&view_of(&items)), essence(&view_of(&shuffled)));
    }

    #[test]
    fn hearing_it_again_changes_nothing(items in prop::collection::vec(any_item(), 0..40)) {
        let mut once = view_of(&items);
        let before = essence(&once);
        for item in everything(&once) {
            prop_assert_eq!(once.merge(item), Merged::Known);
        }
        prop_assert_eq!(before, essence(&once));
    }

    #[test]
    fn merging_whole_views_is_a_join(
        a in prop::collection::vec(any_item(), 0..20),
        b in prop::collection::vec(any_item(), 0..20),
        c in prop::collection::vec(any_item(), 0..20),
    ) {
        let join = |left: &[VerifiedItem], right: &[VerifiedItem]| {
            let mut view = view_of(left);
            for item in everything(&view_of(right)) {
                view.merge(item);
            }
            view
        };
        // What a view parks is not sent on, so the law is stated on what each view holds.
        let [a, b, c] = [a, b, c].map(|items| everything(&view_of(&items)));
        prop_assert_eq!(essence(&join(&a, &b)), essence(&join(&b, &a)));
        let left = everything(&join(&a, &b));
        let right = everything(&join(&b, &c));
        prop_assert_eq!(essence(&join(&left, &c)), essence(&join(&a, &right)));
    }

    #[test]
    fn certificates_are_bounded_and_name_each_observer_once(items in prop::collection::vec(any_item(), 0..80)) {
        let view = view_of(&items);
        for (_, entry) in view.all() {
            let observers: BTreeSet<_> = entry.certificate().iter().map(|witness| witness.body.observer).collect();
            prop_assert_eq!(observers.len(), entry.certificate().len());
            prop_assert!(entry.certificate().len() <= CERTIFICATE);
        }
    }
}

#[test]
fn down_takes_as_many_witnesses_as_the_smallest_need() {
    let held = record(1, 5, RecordState::Up);
    let mut view = view_of(&[VerifiedItem::Record(held.clone()), witness(&held, 10, 3, Stage::Down)]);
    assert_eq!(view.get(&id(1)).unwrap().standing(), Standing::Up);
    view.merge(witness(&held, 11, 2, Stage::Down));
    assert_eq!(view.get(&id(1)).unwrap().standing(), Standing::Down);
}

#[test]
fn a_greater_record_refutes_and_revives() {
    let held = record(1, 5, RecordState::Up);
    let mut view = view_of(&[VerifiedItem::Record(held.clone()), witness(&held, 10, 1, Stage::Down)]);
    let down = view.digest();
    view.merge(forget(&held, 11, 3));
    assert_eq!(view.get(&id(1)).unwrap().standing(), Standing::Forgotten);
    assert_eq!(view.iter().count(), 0);
    assert_eq!(view.digest(), down, "only nodes that are up are in the digest");
    view.merge(VerifiedItem::Record(record(1, 6, RecordState::Up)));
    assert_eq!(view.get(&id(1)).unwrap().standing(), Standing::Up);
    assert_eq!(view.merge(witness(&held, 12, 1, Stage::Down)), Merged::Wanted(id(1).short()), "accuses the past");
}

#[test]
fn whichever_signature_of_the_same_words_came_first_the_views_are_the_same() {
    let held = record(1, 5, RecordState::Up);
    let again = |item: VerifiedItem| {
        let signature = Signature([9; 32], [9; 32]);
        match item {
            VerifiedItem::Witness(said) => VerifiedItem::Witness(vouched(Witness { signature, ..(*said).clone() })),
            VerifiedItem::Forget(said) => VerifiedItem::Forget(vouched(Forget { signature, ..(*said).clone() })),
            record => record,
        }
    };
    for said in [witness(&held, 10, 1, Stage::Down), forget(&held, 10, 1)] {
        let (one, other) = (said.clone(), again(said));
        let held = VerifiedItem::Record(held.clone());
        let first = view_of(&[held.clone(), one.clone(), other.clone()]);
        let second = view_of(&[held, other, one]);
        assert_eq!(essence(&first), essence(&second), "they would be compared for ever");
    }
}

#[test]
fn a_witness_waits_for_its_record() {
    let held = record(1, 5, RecordState::Up);
    let mut view = View::new(10);
    assert_eq!(view.merge(witness(&held, 10, 1, Stage::Down)), Merged::Wanted(id(1).short()));
    view.merge(VerifiedItem::Record(held));
    assert_eq!(view.get(&id(1)).unwrap().standing(), Standing::Down);
}

#[test]
fn what_waits_is_bounded() {
    let mut view = View::new(10);
    for version in 0..MAX_PARKED as u64 + 50 {
        view.merge(witness(&record(1, version, RecordState::Up), 10, 1, Stage::Down));
    }
    assert_eq!(view.parked_order.len(), MAX_PARKED);
    assert!(view.parked.len() <= MAX_PARKED);
}

#[test]
fn a_full_view_refuses_new_nodes_and_still_takes_news_of_known_ones() {
    let mut view = View::new(2);
    for number in 0..2 {
        view.merge(VerifiedItem::Record(record(number, 1, RecordState::Up)));
    }
    let refused = view.merge(VerifiedItem::Record(record(2, 1, RecordState::Up)));
    assert_eq!(refused, Merged::Refused(Reason::Overloaded));
    assert_eq!(view.merge(VerifiedItem::Record(record(1, 2, RecordState::Up))), Merged::Changed(id(1)));
}

/// How many entries there are, how many are up and can be reached; who is accused and who is down; whether anybody is gone;
/// the sketch; and who has an edge to the centre.
type Kept = (usize, usize, usize, BTreeSet<ShortId>, BTreeSet<ShortId>, bool, u64, BTreeSet<ShortId>);

/// All that is kept at hand, worked out afresh.
fn afresh(view: &View) -> Kept {
    let up: Vec<&Entry> = view.up().map(|(_, entry)| entry).collect();
    let short = |entry: &Entry| entry.record().body.id.short();
    let down =
        view.all().filter(|(_, entry)| entry.standing() == Standing::Down).map(|(_, entry)| short(entry)).collect();
    let tails = view.all().filter(|(_, entry)| entry.record().body.edges.contains(&id(0).short()));
    (
        view.all().count(),
        up.len(),
        up.iter().filter(|entry| entry.record().body.reach.may_be_dialled()).count(),
        up.iter().filter(|entry| entry.is_accused()).map(|entry| short(entry)).collect(),
        down,
        up.len() < view.all().count(),
        up.iter().fold(0, |sketch, entry| sketch ^ sketch_of(entry)),
        tails.map(|(_, entry)| short(entry)).collect(),
    )
}

proptest! {
    #[test]
    fn what_is_kept_at_hand_is_what_going_through_all_would_find(
        items in prop::collection::vec((any_item(), any::<bool>()), 0..60),
        later in 0u32..60,
    ) {
        let mut view = View::around(&id(0), 100);
        for (item, asked) in items {
            let item = match item {
                VerifiedItem::Record(record) if asked => {
                    let mut record = (*record).clone();
                    record.body.edges = [id(0).short()].into_iter().collect();
                    VerifiedItem::Record(vouched(record))
                }
                item => item,
            };
            let (changes, before) = (view.changes(), view.states().collect::<Vec<_>>());
            view.merge(item);
            prop_assert!(view.changes() > changes || view.states().eq(before), "who has looked through it looks again");
            if asked {
                view.digest();
                view.bucket_hashes(0).count();
            }
        }
        view.expire(later);
        let tally = &view.tally;
        let kept = (
            view.len(), tally.up, tally.reachable, tally.accused.clone(), tally.down.clone(), view.has_gone(), tally.sketch,
            tally.tails.clone(),
        );
        prop_assert_eq!(kept, afresh(&view));
        let again = view_of(&everything(&view));
        prop_assert_eq!(view.digest(), again.digest(), "hashes are taken back when entries change");
        prop_assert!(view.bucket_hashes(0).eq(again.bucket_hashes(0)));
    }
}
