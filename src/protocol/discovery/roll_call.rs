//! The roll call: how a network that agrees comes to know it within half a second, at three small messages a node.
//!
//! ```text
//!   everybody who holds digest d draws the same tree: of shortest ways to the node with the smallest id, over the edges
//!   (and round trips) that the records behind d name
//!
//!   root    Call ────▶ children ────▶ ... ────▶ leaves         "do you and all behind you hold d?"
//!   root  ◀──── Present ... ◀──── Present                      once all children have said so
//!   root    All{age} ─▶ children ─▶ ... ─▶ leaves              "all hold it, within the last age"
//! ```
//!
//! Why it is true: a node says `Present` only after `Call`, and when it holds d itself and all its children have said so. So
//! when the root has heard all its children, every node of the tree, which is every node that is up in d, held d at some
//! moment since the root called: the age. A node that hears `All` adds to it how long that may have been under way: since
//! its own `Present` left, less the time for which its parent had it. No clocks are compared. Whoever holds another view
//! does not answer, and nothing is claimed; a call for a view that a node does not hold yet waits for it there.
//!
//! This is a wave with feedback (Segall 1983) over a tree that costs no messages. The agreement radius (`agreement.rs`) needs
//! none of it, tells of parts of the network, and goes on when the root is wedged; but it takes a heartbeat for each hop.
//!
//! | parameter | raised | lowered |
//! | --- | --- | --- |
//! | quiet 50 ms | agreement is shown later | calls for views that are still changing |
//! | refresh 5 s | older claims | more bytes at rest: a node sends three messages of about 100 bytes each time |

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::graph::{Graph, Place};
use crate::protocol::hash::HalfHash;
use crate::protocol::identity::{ControllerId, ShortId};
use crate::protocol::message::{Roll, RollStep};
use crate::protocol::time::Time;
use crate::protocol::view::View;

/// The root's view must have been the same for so long before it calls.
const QUIET: Duration = Duration::from_millis(50);
/// Between two calls for one view that were answered.
const REFRESH: Duration = Duration::from_secs(5);
/// The same if somebody has not answered.
const AGAIN: Duration = Duration::from_secs(2);
/// A claim older than this is made no more.
const OLDEST: Duration = Duration::from_secs(20);

/// A node's part in the roll call of its present view.
#[derive(Debug)]
pub struct RollCall {
    me: ControllerId,
    place: OnceCell<Option<Place>>,
    round: u32,
    call: Option<Call>,
    /// A call for another view than is held: perhaps that comes.
    early: Option<(ShortId, Roll)>,
    shown: Option<(Time, Duration)>,
    due: Option<Time>,
}

/// A call that is being answered.
#[derive(Debug)]
struct Call {
    round: u32,
    /// When it left for the children.
    at: Time,
    missing: BTreeSet<ShortId>,
    present: BTreeMap<ShortId, Time>,
    /// When this node's `Present` left.
    answered: Option<Time>,
}

/// Something to be said to a neighbour in the tree.
pub type Said = (ShortId, Roll);

impl RollCall {
    /// Of this node.
    pub fn new(me: ControllerId) -> Self {
        Self { me, place: OnceCell::new(), round: 0, call: None, early: None, shown: None, due: None }
    }

    /// The view is another one: nothing that was said counts any more.
    pub fn changed(&mut self, now: Time) {
        (self.call, self.shown, self.place) = (None, None, OnceCell::new());
        self.due = Some(now + QUIET);
    }

    /// When [`RollCall::tick`] wants to be called.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// How long ago all held this view at the most, if that was shown.
    pub fn age(&self, now: Time) -> Option<Duration> {
        let (at, age) = self.shown?;
        Some(age + now.since(at)).filter(|age| *age <= OLDEST)
    }

    /// Perhaps it is time to call, or an early call can be answered.
    pub fn tick(&mut self, view: &View, now: Time) -> Vec<Said> {
        let mut said = Vec::new();
        if self.due.is_none_or(|due| due > now) {
            return said;
        }
        self.due = None;
        // The digest is worked out for whoever needs it: the root, and those that have heard from it.
        if let Some((from, roll)) = self.early.take_if(|(_, roll)| roll.digest == view.digest().half()) {
            self.heard(view, from, roll, now, &mut said);
        }
        if root(view) == Some(self.me) {
            self.due = Some(now + AGAIN);
            self.round = self.round.wrapping_add(1);
            self.call(view, view.digest().half(), self.round, now, &mut said);
        }
        said
    }

    /// A neighbour has said something.
    pub fn heard(&mut self, view: &View, from: ShortId, roll: Roll, now: Time, said: &mut Vec<Said>) {
        let digest = view.digest().half();
        if roll.digest != digest {
            if roll.step == RollStep::Call {
                self.early = Some((from, roll));
            }
            return;
        }
        match roll.step {
            RollStep::Call if self.place(view).is_some_and(|place| place.parent == Some(from)) => {
                self.call(view, digest, roll.round, now, said);
            }
            RollStep::Call => {}
            RollStep::Present => self.present(view, digest, from, roll.round, now, said),
            RollStep::All { age_ms, held_ms } => {
                let Some(call) = self.call.as_ref().filter(|call| call.round == roll.round) else { return };
                let is_parent = self.place(view).is_some_and(|place| place.parent == Some(from));
                let Some(answered) = call.answered.filter(|_| is_parent) else { return };
                let ms = |ms| Duration::from_millis(u64::from(ms));
                let under_way = now.since(answered).saturating_sub(ms(held_ms));
                self.show(digest, ms(age_ms) + under_way, now, said);
            }
        }
    }

    fn call(&mut self, view: &View, digest: HalfHash, round: u32, now: Time, said: &mut Vec<Said>) {
        let Some(place) = self.place(view) else { return };
        let missing: BTreeSet<ShortId> = place.children.iter().copied().collect();
        said.extend(missing.iter().map(|child| (*child, Roll { digest, round, step: RollStep::Call })));
        self.call = Some(Call { round, at: now, missing, present: BTreeMap::new(), answered: None });
        self.answer(view, digest, now, said);
    }

    fn present(&mut self, view: &View, digest: HalfHash, from: ShortId, round: u32, now: Time, said: &mut Vec<Said>) {
        let Some(call) = self.call.as_mut().filter(|call| call.round == round) else { return };
        if call.missing.remove(&from) {
            call.present.insert(from, now);
            self.answer(view, digest, now, said);
        }
    }

    /// Once all children are present: says so, or, at the root, shows it.
    fn answer(&mut self, view: &View, digest: HalfHash, now: Time, said: &mut Vec<Said>) {
        let parent = self.place(view).map(|place| place.parent);
        let Some(call) = self.call.as_mut().filter(|call| call.missing.is_empty() && call.answered.is_none()) else {
            return;
        };
        call.answered = Some(now);
        let (round, age) = (call.round, now.since(call.at));
        match parent {
            Some(Some(parent)) => said.push((parent, Roll { digest, round, step: RollStep::Present })),
            Some(None) => {
                self.due = Some(now + REFRESH);
                self.show(digest, age, now, said);
            }
            None => {}
        }
    }

    fn show(&mut self, digest: HalfHash, age: Duration, now: Time, said: &mut Vec<Said>) {
        self.shown = Some((now, age));
        let Some(call) = &self.call else { return };
        // Rounded so that the claim can only be weaker.
        let up = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
        let down = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        said.extend(call.present.iter().map(|(child, since)| {
            let step = RollStep::All { age_ms: up(age), held_ms: down(now.since(*since)) };
            (*child, Roll { digest, round: call.round, step })
        }));
    }

    fn place(&self, view: &View) -> Option<&Place> {
        let place = self.place.get_or_init(|| {
            let graph = Graph::of(view);
            let (root, me) = (graph.number(&root(view)?.short())?, graph.number(&self.me.short())?);
            graph.place(root, me)
        });
        place.as_ref()
    }
}

/// Who calls: nobody has to be chosen, and nobody can choose himself but by making keys until one is small.
fn root(view: &View) -> Option<ControllerId> {
    view.up().next().map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::identity::Label;
    use crate::protocol::list::List;
    use crate::protocol::record::{
        NetworkId, Reach, Record, RecordBody, RecordState, Signature, Verified, VerifiedItem,
    };

    fn id(number: u8) -> ControllerId {
        ControllerId([number; 32])
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    /// A node with edges to these, each 10 ms away.
    fn record(number: u8, version: u64, heads: &[u8]) -> VerifiedItem {
        let body = RecordBody {
            network: NetworkId([1; 8]),
            id: id(number),
            version,
            issued: 0,
            incarnation: 1,
            state: RecordState::Up,
            reach: Reach::Proven,
            address: ([127, 0, 0, 1], 7100).into(),
            label: Label::from_lossy("n"),
            tags: List::new(),
            edges: heads.iter().map(|head| id(*head).short()).collect(),
            round_trips: heads.iter().map(|_| 10).collect(),
        };
        VerifiedItem::Record(Verified::vouch(Arc::new(Record { body, signature: Signature([0; 32], [0; 32]) })))
    }

    /// 1 ─▶ 2 ─▶ 3, all of whom hold the same view: each node's roll call.
    struct Chain {
        view: View,
        nodes: Vec<RollCall>,
    }

    impl Chain {
        fn new() -> Self {
            let mut view = View::new(10);
            for (number, heads) in [(1, &[2][..]), (2, &[3]), (3, &[])] {
                view.merge(record(number, 1, heads));
            }
            let mut nodes: Vec<RollCall> = (1..=3).map(|number| RollCall::new(id(number))).collect();
            nodes.iter_mut().for_each(|node| node.changed(at(0)));
            Self { view, nodes }
        }

        /// Delivers what was said, each word after 10 ms, until nobody says anything more; when that was.
        fn deliver(&mut self, from: u8, said: Vec<Said>, mut now: u64, reaches: impl Fn(u8, &Roll) -> bool) -> u64 {
            let mut under_way: Vec<(u8, Said)> = said.into_iter().map(|said| (from, said)).collect();
            while !under_way.is_empty() {
                now += 10;
                for (from, (to, roll)) in std::mem::take(&mut under_way) {
                    let number = to.0[0];
                    if !reaches(number, &roll) {
                        continue;
                    }
                    let mut said = Vec::new();
                    self.nodes[usize::from(number) - 1].heard(&self.view, id(from).short(), roll, at(now), &mut said);
                    under_way.extend(said.into_iter().map(|said| (number, said)));
                }
            }
            now
        }

        fn call(&mut self, now: u64, reaches: impl Fn(u8, &Roll) -> bool) -> u64 {
            let said = self.nodes[0].tick(&self.view, at(now));
            self.deliver(1, said, now, reaches)
        }

        fn ages(&self, now: u64) -> Vec<Option<u128>> {
            self.nodes.iter().map(|node| node.age(at(now)).map(|age| age.as_millis())).collect()
        }
    }

    #[test]
    fn all_present_is_shown_to_all_and_grows_older() {
        let mut chain = Chain::new();
        assert!(chain.nodes[1].tick(&chain.view, at(50)).is_empty(), "only the root calls");
        assert!(chain.nodes[0].tick(&chain.view, at(49)).is_empty(), "and only what has been quiet");
        let end = chain.call(50, |_, _| true);
        assert_eq!(end, 110, "down, up and down again over two edges");
        // The call left at 50: whatever was shown was so since then. Rounding and the way back make it older, never younger.
        for age in chain.ages(110) {
            assert!(age.is_some_and(|age| (60..=90).contains(&age)), "{age:?}");
        }
        assert_eq!(chain.nodes[0].age(at(1110)).map(|age| age.as_millis()), Some(1060));
        assert_eq!(chain.ages(30_000), [None; 3], "nobody claims what is long ago");
    }

    #[test]
    fn whoever_is_not_heard_of_is_claimed_nothing_of_and_called_again() {
        let mut chain = Chain::new();
        chain.call(50, |to, roll| (to, roll.step) != (3, RollStep::Call));
        assert_eq!(chain.ages(200), [None; 3]);
        assert_eq!(chain.nodes[0].due(), Some(at(2050)));
        chain.call(2050, |_, _| true);
        assert!(chain.ages(2200).iter().all(Option::is_some));
    }

    #[test]
    fn an_answer_to_an_older_call_is_none_to_a_newer() {
        let mut chain = Chain::new();
        let first = chain.nodes[0].tick(&chain.view, at(50));
        let Some((_, Roll { digest, round, .. })) = first.first().copied() else { panic!("nobody is called") };
        let second = chain.nodes[0].tick(&chain.view, at(2050));
        assert_eq!(second.len(), 1);
        let mut said = Vec::new();
        let late = Roll { digest, round, step: RollStep::Present };
        chain.nodes[0].heard(&chain.view, id(2).short(), late, at(2051), &mut said);
        assert!(said.is_empty() && chain.nodes[0].age(at(2051)).is_none(), "it was said before the newer call");
    }

    #[test]
    fn a_call_for_a_view_that_is_still_under_way_waits_for_it() {
        let mut chain = Chain::new();
        let early = Roll { digest: HalfHash([9; 16]), round: 1, step: RollStep::Call };
        let mut said = Vec::new();
        chain.nodes[2].heard(&chain.view, id(2).short(), early, at(10), &mut said);
        assert!(said.is_empty());
        let digest = chain.view.digest().half();
        chain.nodes[2].early = Some((id(2).short(), Roll { digest, ..early }));
        chain.nodes[2].changed(at(20));
        let said = chain.nodes[2].tick(&chain.view, at(70));
        assert_eq!(said, [(id(2).short(), Roll { digest, round: 1, step: RollStep::Present })]);
    }

    #[test]
    fn a_change_takes_back_what_was_shown_and_strangers_are_not_heard() {
        let mut chain = Chain::new();
        chain.call(50, |_, _| true);
        let digest = chain.view.digest().half();
        let all = Roll { digest, round: 1, step: RollStep::All { age_ms: 0, held_ms: 0 } };
        let mut said = Vec::new();
        chain.nodes[2].changed(at(200));
        chain.nodes[2].heard(&chain.view, id(2).short(), all, at(201), &mut said);
        chain.nodes[2].heard(&chain.view, id(1).short(), Roll { step: RollStep::Call, ..all }, at(202), &mut said);
        assert!(chain.nodes[2].age(at(203)).is_none() && said.is_empty(), "not its parent, and it has answered nobody");
    }
}
