//! What this node lacks and whom it has asked.
//!
//! Many neighbours announce the same news at once. It is wanted of the first only; if that one does not send it within
//! 400 ms or is gone, of the next that announced it. Verdicts grow while they spread: if another one announced a verdict that
//! is not the one that came, he is asked as well. What nobody sends is found by the next comparison of views.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::Part;
use crate::protocol::time::Time;

/// From one to the next: twice the round trip of a slow link (`discovery.md` 2.4).
const RETRY: Duration = Duration::from_millis(400);
/// Others remembered for each: three that fail one after the other are seldom followed by a fourth that does not.
const OTHERS: usize = 3;

/// Deadlines that are not worth a sweep.
const FEW: usize = 64;

/// All that is asked for.
#[derive(Debug)]
pub struct Wants {
    asked: BTreeMap<ShortId, Asked>,
    /// In order, since all wait equally long; entries of what has come meanwhile are passed over, or swept out together when
    /// they are many.
    deadlines: VecDeque<(Time, ShortId)>,
    most: usize,
    /// The last peer that was heard of: tells the upper halves of peers' numbers.
    last: u64,
}

/// Small: while a network forms there is one for every third node of it, in each of its nodes.
#[derive(Debug)]
struct Asked {
    deadline: Time,
    /// `None`: whatever there is.
    version: Option<u32>,
    by: Neighbour,
    /// Whom to ask next, and for which verdict: the first `waiting` of these.
    others: [(Neighbour, [u8; 4]); OTHERS],
    waiting: u8,
    part: Part,
}

/// The lower half of a peer's number: the next one that has the same comes after four thousand million connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Neighbour(u32);

impl Wants {
    /// Nothing is lacking. `most`: so many nodes may be asked for at once, about 80 bytes each.
    pub fn new(most: usize) -> Self {
        Self { asked: BTreeMap::new(), deadlines: VecDeque::new(), most, last: 0 }
    }

    /// Somebody has this of a node, of this version and with this verdict, and this node lacks it. True if he is to be asked
    /// for it now.
    pub fn offered(
        &mut self,
        node: ShortId,
        part: Part,
        (version, verdict): (Option<u32>, [u8; 4]),
        by: PeerId,
        now: Time,
    ) -> bool {
        let neighbour = self.meet(by);
        if let Some(asked) = self.asked.get_mut(&node)
            && asked.part <= part
            && !version.zip(asked.version).is_some_and(|(offered, asked)| is_newer(offered, asked))
        {
            asked.queue(neighbour, verdict);
            return false;
        }
        if self.is_full() {
            return false;
        }
        let deadline = now + RETRY;
        let others = Default::default();
        self.asked.insert(node, Asked { deadline, version, by: neighbour, others, waiting: 0, part });
        self.sweep();
        self.deadlines.push_back((deadline, node));
        true
    }

    /// This much of a node has come, and this is its verdict now.
    pub fn came(&mut self, node: &ShortId, part: Part, version: u32, verdict: [u8; 4], now: Time) {
        let comes = |asked: &&mut Asked| part <= asked.part && !asked.version.is_some_and(|old| is_newer(old, version));
        let Some(asked) = self.asked.get_mut(node).filter(comes) else { return };
        if asked.part == Part::Verdict {
            asked.retain(|(_, offered)| offered != verdict);
        }
        if asked.part != Part::Verdict || asked.waiting == 0 {
            self.asked.remove(node);
        } else if asked.deadline != now {
            asked.deadline = now;
            self.deadlines.push_front((now, *node));
        }
    }

    /// This neighbour is gone: what it was asked for, the next is asked for now.
    pub fn part(&mut self, peer: PeerId, now: Time) {
        let gone = Neighbour::of(peer);
        for (node, asked) in &mut self.asked {
            asked.retain(|(other, _)| other != gone);
            if asked.by == gone && asked.deadline != now {
                asked.deadline = now;
                self.deadlines.push_front((now, *node));
            }
        }
    }

    /// Most of what is asked for comes long before its deadline: of a flood those would be most of what is kept here.
    fn sweep(&mut self) {
        if self.deadlines.len() >= FEW + 2 * self.asked.len() {
            let asked = &self.asked;
            self.deadlines.retain(|(due, node)| asked.get(node).is_some_and(|asked| asked.deadline == *due));
            self.deadlines.shrink_to(FEW + 2 * asked.len());
        }
    }

    fn meet(&mut self, peer: PeerId) -> Neighbour {
        self.last = self.last.max(peer.0);
        Neighbour::of(peer)
    }

    /// How many are asked for.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// True if nothing is.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// True if nothing more is asked for until something has come: what is offered meanwhile is lost here.
    pub fn is_full(&self) -> bool {
        self.asked.len() >= self.most || self.deadlines.len() >= 4 * self.most
    }

    /// When [`Wants::due`] wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Whom to ask next for what has not come.
    pub fn due(&mut self, now: Time) -> Vec<(ShortId, Part, PeerId)> {
        let mut next = Vec::new();
        while let Some((deadline, node)) = self.deadlines.front().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_front();
            let Some(asked) = self.asked.get_mut(&node).filter(|asked| asked.deadline == deadline) else { continue };
            let Some(other) = asked.take_next() else {
                self.asked.remove(&node);
                continue;
            };
            asked.by = other;
            next.push((node, asked.part, other.peer(self.last)));
            asked.deadline = now + RETRY;
            self.deadlines.push_back((asked.deadline, node));
        }
        if self.deadlines.is_empty() {
            // A flood is over: the room that it took is others'.
            self.deadlines.shrink_to(FEW);
        }
        next
    }
}

impl Asked {
    /// This one may be asked as well, if there is room.
    fn queue(&mut self, other: Neighbour, verdict: [u8; 4]) {
        let waiting = usize::from(self.waiting);
        match self.others[..waiting].iter().position(|(known, _)| *known == other) {
            Some(place) => self.others[place].1 = verdict,
            None if waiting < OTHERS => {
                self.others[waiting] = (other, verdict);
                self.waiting += 1;
            }
            None => {}
        }
    }

    fn take_next(&mut self) -> Option<Neighbour> {
        self.waiting = self.waiting.checked_sub(1)?;
        let (next, _) = self.others[0];
        self.others.rotate_left(1);
        Some(next)
    }

    /// Of the others these remain.
    fn retain(&mut self, stays: impl Fn((Neighbour, [u8; 4])) -> bool) {
        let mut kept = 0;
        for at in 0..usize::from(self.waiting) {
            if stays(self.others[at]) {
                self.others[kept] = self.others[at];
                kept += 1;
            }
        }
        // At most three.
        self.waiting = kept as u8;
    }
}

impl Neighbour {
    fn of(peer: PeerId) -> Self {
        Self(peer.0 as u32)
    }

    /// Its whole number, which is not above that of the last peer there was.
    fn peer(self, last: u64) -> PeerId {
        let back = (last as u32).wrapping_sub(self.0);
        PeerId(last.saturating_sub(u64::from(back)))
    }
}

/// Serial numbers (RFC 1982).
fn is_newer(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: ShortId = ShortId([1; 8]);
    const NONE: [u8; 4] = [0; 4];

    #[test]
    fn the_first_is_asked_and_the_others_in_their_turn() {
        let mut wants = Wants::new(10);
        assert!(wants.offered(NODE, Part::All, (Some(5), NONE), PeerId(1), Time(0)));
        for other in 2..9 {
            assert!(!wants.offered(NODE, Part::All, (Some(5), NONE), PeerId(other), Time(0)));
        }
        assert!(wants.due(Time(399_999)).is_empty());
        assert_eq!(wants.due(Time(400_000)), [(NODE, Part::All, PeerId(2))]);
        assert_eq!(wants.due(Time(800_000)), [(NODE, Part::All, PeerId(3))]);
        assert_eq!(wants.due(Time(1_200_000)), [(NODE, Part::All, PeerId(4))]);
        assert!(wants.due(Time(1_600_000)).is_empty());
        assert!(wants.is_empty() && wants.deadline().is_none());
    }

    #[test]
    fn something_newer_is_asked_for_at_once_and_what_came_no_more() {
        let mut wants = Wants::new(10);
        assert!(wants.offered(NODE, Part::Verdict, (Some(5), NONE), PeerId(1), Time(0)));
        assert!(
            wants.offered(NODE, Part::All, (Some(5), NONE), PeerId(2), Time(0)),
            "the record says more than the verdict"
        );
        assert!(wants.offered(NODE, Part::All, (Some(6), NONE), PeerId(3), Time(0)));
        wants.came(&NODE, Part::All, 5, NONE, Time(0));
        assert_eq!(wants.len(), 1);
        wants.came(&NODE, Part::All, 6, NONE, Time(0));
        assert!(wants.is_empty() && wants.due(Time(400_000)).is_empty());
    }

    #[test]
    fn when_the_one_that_was_asked_is_gone_the_next_is_asked_at_once() {
        let mut wants = Wants::new(10);
        for peer in 1..4 {
            assert_eq!(wants.offered(NODE, Part::All, (Some(1), NONE), PeerId(peer), Time(0)), peer == 1);
        }
        wants.part(PeerId(2), Time(5));
        assert_eq!(wants.due(Time(5)), [], "it was not asked");
        wants.part(PeerId(1), Time(10));
        assert_eq!(wants.deadline(), Some(Time(10)));
        assert_eq!(wants.due(Time(10)), [(NODE, Part::All, PeerId(3))]);
        wants.part(PeerId(3), Time(20));
        assert_eq!((wants.due(Time(20)), wants.len()), (vec![], 0), "nobody is left: the views are compared one day");
    }

    #[test]
    fn a_verdict_that_has_grown_meanwhile_is_asked_for_as_well() {
        let (mut wants, small, grown) = (Wants::new(10), [1; 4], [2; 4]);
        assert!(wants.offered(NODE, Part::Verdict, (Some(1), small), PeerId(1), Time(0)));
        assert!(!wants.offered(NODE, Part::Verdict, (Some(1), small), PeerId(2), Time(0)));
        assert!(!wants.offered(NODE, Part::Verdict, (Some(1), grown), PeerId(3), Time(0)));
        wants.came(&NODE, Part::Verdict, 1, small, Time(100));
        assert_eq!(wants.due(Time(100)), [(NODE, Part::Verdict, PeerId(3))], "the other one has nothing more to say");
        wants.came(&NODE, Part::Verdict, 1, [3; 4], Time(200));
        assert!(wants.is_empty(), "all was said");
        assert!(wants.offered(NODE, Part::Verdict, (Some(1), small), PeerId(1), Time(0)));
        assert!(!wants.offered(NODE, Part::Verdict, (Some(1), grown), PeerId(3), Time(0)));
        for verdict in [small, grown] {
            wants.came(&NODE, Part::Verdict, 1, verdict, Time(300));
        }
        assert!(wants.is_empty() && wants.due(Time(300)).is_empty(), "one message brought both");
    }

    #[test]
    fn peers_are_told_apart_after_any_number_of_connections() {
        let mut wants = Wants::new(10);
        let first = u64::from(u32::MAX) - 1;
        for peer in first..first + 4 {
            wants.offered(NODE, Part::All, (Some(5), NONE), PeerId(peer), Time(0));
        }
        let asked: Vec<_> = (1..4).flat_map(|time| wants.due(Time(time * 400_000))).map(|(.., peer)| peer.0).collect();
        assert_eq!(asked, [first + 1, first + 2, first + 3]);
        assert!(size_of::<Asked>() <= 48, "{}", size_of::<Asked>());
    }

    #[test]
    fn what_may_be_asked_for_is_bounded() {
        let mut wants = Wants::new(10);
        for number in 0..100 {
            wants.offered(ShortId([number; 8]), Part::All, (Some(1), NONE), PeerId(1), Time(0));
            wants.came(&ShortId([number; 8]), Part::All, 1, NONE, Time(0));
            wants.offered(ShortId([number; 8]), Part::All, (Some(1), NONE), PeerId(1), Time(0));
        }
        assert!(wants.len() <= 10 && wants.deadlines.len() <= 40 && wants.is_full());
    }
}
