//! What this node lacks and whom it has asked.
//!
//! Many neighbours announce the same news at once. It is wanted of the first only; if that one does not send it within
//! 400 ms, of the next that announced it. What nobody sends is found by the next comparison of views.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::Part;
use crate::protocol::time::Time;

/// From one to the next: twice the round trip of a slow link (`discovery.md` 2.4).
const RETRY: Duration = Duration::from_millis(400);
/// Others remembered for each: three that fail one after the other are seldom followed by a fourth that does not.
const OTHERS: usize = 3;

/// All that is asked for.
#[derive(Debug)]
pub struct Wants {
    asked: BTreeMap<ShortId, Asked>,
    /// In order, since all wait equally long; entries of what has come meanwhile are passed over.
    deadlines: VecDeque<(Time, ShortId)>,
    most: usize,
}

#[derive(Debug)]
struct Asked {
    part: Part,
    /// `None`: whatever there is.
    version: Option<u32>,
    deadline: Time,
    /// Whom to ask next, those that are free at the end.
    others: [Option<PeerId>; OTHERS],
}

impl Wants {
    /// Nothing is lacking. `most`: so many nodes may be asked for at once, about 120 bytes each.
    pub fn new(most: usize) -> Self {
        Self { asked: BTreeMap::new(), deadlines: VecDeque::new(), most }
    }

    /// Somebody has this of a node, of this version, and this node lacks it. True if he is to be asked for it now.
    pub fn offered(&mut self, node: ShortId, part: Part, version: Option<u32>, by: PeerId, now: Time) -> bool {
        if let Some(asked) = self.asked.get_mut(&node)
            && asked.part <= part
            && !version.zip(asked.version).is_some_and(|(offered, asked)| is_newer(offered, asked))
        {
            if !asked.others.contains(&Some(by))
                && let Some(free) = asked.others.iter_mut().find(|other| other.is_none())
            {
                *free = Some(by);
            }
            return false;
        }
        if self.is_full() {
            return false;
        }
        let deadline = now + RETRY;
        self.asked.insert(node, Asked { part, version, deadline, others: [None; OTHERS] });
        self.deadlines.push_back((deadline, node));
        true
    }

    /// This much of a node has come.
    pub fn came(&mut self, node: &ShortId, part: Part, version: u32) {
        let comes = |asked: &Asked| part <= asked.part && !asked.version.is_some_and(|asked| is_newer(asked, version));
        if self.asked.get(node).is_some_and(comes) {
            self.asked.remove(node);
        }
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
            let Some(other) = asked.others[0].take() else {
                self.asked.remove(&node);
                continue;
            };
            asked.others.rotate_left(1);
            next.push((node, asked.part, other));
            asked.deadline = now + RETRY;
            self.deadlines.push_back((asked.deadline, node));
        }
        next
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

    #[test]
    fn the_first_is_asked_and_the_others_in_their_turn() {
        let mut wants = Wants::new(10);
        assert!(wants.offered(NODE, Part::All, Some(5), PeerId(1), Time(0)));
        for other in 2..9 {
            assert!(!wants.offered(NODE, Part::All, Some(5), PeerId(other), Time(0)));
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
        assert!(wants.offered(NODE, Part::Verdict, Some(5), PeerId(1), Time(0)));
        assert!(wants.offered(NODE, Part::All, Some(5), PeerId(2), Time(0)), "the record says more than the verdict");
        assert!(wants.offered(NODE, Part::All, Some(6), PeerId(3), Time(0)));
        wants.came(&NODE, Part::All, 5);
        assert_eq!(wants.len(), 1);
        wants.came(&NODE, Part::All, 6);
        assert!(wants.is_empty() && wants.due(Time(400_000)).is_empty());
    }

    #[test]
    fn what_may_be_asked_for_is_bounded() {
        let mut wants = Wants::new(10);
        for number in 0..100 {
            wants.offered(ShortId([number; 8]), Part::All, Some(1), PeerId(1), Time(0));
            wants.came(&ShortId([number; 8]), Part::All, 1);
            wants.offered(ShortId([number; 8]), Part::All, Some(1), PeerId(1), Time(0));
        }
        assert!(wants.len() <= 10 && wants.deadlines.len() <= 40 && wants.is_full());
    }
}
