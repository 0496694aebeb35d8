//! Whose accusations are still heard.
//!
//! ```text
//!   an accusation ──▶ the accused publishes a greater record ──▶ refuted: counted against each who accused
//!   2 refuted of the same node, or refuted ones of 24 nodes, within ten minutes
//!                 ──▶ from its own connection its accusations are heard once in half a minute
//!   brought by others ──▶ heard, and counted against whoever brought it as well, if it is refuted
//! ```
//!
//! Each accusation of a living node costs everybody a flood: the node's refutation. Who accuses without end would have the
//! whole network talk without end, at the price of one message: simulated, one such liar among 40 nodes (and nine of other
//! kinds) cost each node 151 KB a second and all agreement. A refutation is signed by the accused and seen by all, so all
//! come to nearly the same count, and nobody has to be told of it.
//!
//! Nearly: were every node to refuse what it counts as false, some would believe a verdict, others would not, and the
//! network would disagree for good. So it is refused at the door only, from him who says it; what an honest node has let in
//! goes through to all. Whoever brings what should have been refused answers for it as he who said it, so that a liar gains
//! nothing by an accomplice; until it is settled it takes one of his places. And since even the one who cried wolf may be
//! the only one who sees it, he is heard now and then.
//!
//! It is accusations that are not heard: the first word against a record. Verdicts that follow somebody else's accusation
//! count as ever, so that the dead are called down with the witnesses there are. Counted by accused, a node that lets
//! itself be missed again and again, to ruin the good name of its neighbours, ruins it for accusations of itself alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::protocol::identity::ShortId;
use crate::protocol::time::Time;

/// After its first refuted accusation, a node's count lasts so long. Longer holds liars down further; shorter forgives an
/// honest node sooner that was cut off for a while.
const WINDOW: Duration = Duration::from_secs(600);
/// Refuted accusations of one node by another. The second may be a link that breaks twice; the third has had its lesson.
const TIMES: u8 = 2;
/// Nodes that one may accuse falsely: about as many as it has neighbours (8 it dials, 20 that dial it), which all seem
/// dead to it at once when its own link is cut. With [`TIMES`] a liar causes 48 floods in ten minutes, one in 12 s.
const SUBJECTS: usize = 24;
/// Whoever accused falsely too often is heard once in so long: a flood that nobody notices, and soon enough for two halves of
/// a network to agree on what one of them was told.
const PAUSE: Duration = Duration::from_secs(30);
/// Observers with a count, about 1 KiB each at the most. Of more, the one that was counted first is forgotten.
const MAX_OBSERVERS: usize = 1024;

/// Refuted accusations, by those who made them.
#[derive(Debug, Default)]
pub struct Credence {
    doubts: BTreeMap<ShortId, Doubt>,
}

#[derive(Debug)]
struct Doubt {
    since: Time,
    heard: Option<Time>,
    refuted: BTreeMap<ShortId, u8>,
    /// Accused by others on its connection, and not yet refuted or gone.
    vouched: BTreeSet<ShortId>,
}

impl Doubt {
    fn is_over(&self, now: Time) -> bool {
        now.since(self.since) >= WINDOW
    }

    fn is_general(&self) -> bool {
        self.refuted.len() + self.vouched.len() >= SUBJECTS
    }

    /// How often it was wrong about this node, or may be.
    fn times(&self, subject: &ShortId) -> u8 {
        self.refuted.get(subject).copied().unwrap_or_default() + u8::from(self.vouched.contains(subject))
    }
}

impl Credence {
    /// The subject has shown that it lives, against the word of these observers and of those who brought it.
    pub fn refuted(&mut self, observers: impl IntoIterator<Item = ShortId>, subject: ShortId, now: Time) {
        for observer in observers {
            self.count(observer, subject, now);
        }
        let bringers = self.doubts.iter_mut().filter_map(|(id, doubt)| doubt.vouched.remove(&subject).then_some(*id));
        for bringer in bringers.collect::<Vec<_>>() {
            self.count(bringer, subject, now);
        }
    }

    /// The subject is gone: whoever accused it was right.
    pub fn proved(&mut self, subject: &ShortId) {
        self.doubts.values_mut().for_each(|doubt| _ = doubt.vouched.remove(subject));
    }

    fn count(&mut self, observer: ShortId, subject: ShortId, now: Time) {
        let doubt = self.doubt(observer, now);
        if doubt.refuted.len() < SUBJECTS || doubt.refuted.contains_key(&subject) {
            let times = doubt.refuted.entry(subject).or_default();
            *times = times.saturating_add(1);
        }
    }

    fn doubt(&mut self, observer: ShortId, now: Time) -> &mut Doubt {
        if self.doubts.get(&observer).is_some_and(|doubt| doubt.is_over(now)) {
            self.doubts.remove(&observer);
        }
        if self.doubts.len() >= MAX_OBSERVERS && !self.doubts.contains_key(&observer) {
            let oldest = self.doubts.iter().min_by_key(|(_, doubt)| doubt.since).map(|(id, _)| *id);
            oldest.map(|oldest| self.doubts.remove(&oldest));
        }
        let fresh = Doubt { since: now, heard: None, refuted: BTreeMap::new(), vouched: BTreeSet::new() };
        self.doubts.entry(observer).or_insert(fresh)
    }

    /// True if this observer's accusation of that node, on the connection of `bringer`, is worth asking it.
    pub fn admits(&mut self, observer: ShortId, bringer: ShortId, subject: ShortId, now: Time) -> bool {
        if self.is_heard(&observer, &subject, now) {
            return true;
        }
        if self.is_heard(&bringer, &subject, now) {
            self.doubt(bringer, now).vouched.insert(subject);
            return true;
        }
        let Some(doubt) = self.doubts.get_mut(&bringer) else { return true };
        let is_time = doubt.heard.is_none_or(|last| now.since(last) >= PAUSE);
        if is_time {
            doubt.heard = Some(now);
        }
        is_time
    }

    /// True if its accusations of that node count without more ado.
    fn is_heard(&self, observer: &ShortId, subject: &ShortId, now: Time) -> bool {
        self.doubts
            .get(observer)
            .is_none_or(|doubt| doubt.is_over(now) || !doubt.is_general() && doubt.times(subject) < TIMES)
    }

    /// Those who are not heard any more, of one node or of all.
    pub fn unheard(&self, now: Time) -> impl Iterator<Item = &ShortId> {
        let spent = |doubt: &Doubt| doubt.is_general() || doubt.refuted.values().any(|times| *times >= TIMES);
        self.doubts.iter().filter(move |(_, doubt)| !doubt.is_over(now) && spent(doubt)).map(|(id, _)| id)
    }

    /// How many observers are counted, and how many may be.
    pub fn size(&self) -> (usize, usize) {
        (self.doubts.len(), MAX_OBSERVERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(number: u32) -> ShortId {
        let mut id = [0; 8];
        id[..4].copy_from_slice(&number.to_be_bytes());
        ShortId(id)
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn the_third_false_accusation_of_one_node_is_not_heard() {
        let (mut credence, liar, x) = (Credence::default(), short(1), short(2));
        for second in 0..2 {
            assert!(credence.is_heard(&liar, &x, at(second)));
            credence.refuted([liar], x, at(second));
        }
        assert!(!credence.is_heard(&liar, &x, at(2)));
        assert!(credence.is_heard(&liar, &short(3), at(2)), "of others it is");
        assert!(credence.is_heard(&short(4), &x, at(2)), "and so are others");
        assert_eq!(credence.unheard(at(2)).collect::<Vec<_>>(), [&liar]);
        assert!(!credence.is_heard(&liar, &x, at(599)) && credence.is_heard(&liar, &x, at(600)));
        assert_eq!(credence.unheard(at(600)).count(), 0);
    }

    #[test]
    fn who_accuses_everybody_once_is_not_heard_of_anybody() {
        let (mut credence, liar) = (Credence::default(), short(1));
        let mut floods = 0;
        for number in 0..1000 {
            let subject = short(10 + number);
            if credence.is_heard(&liar, &subject, at(1)) {
                floods += 1;
                credence.refuted([liar], subject, at(1));
            }
        }
        assert_eq!(floods, SUBJECTS);
        credence.refuted([liar], short(5), at(700));
        assert!(credence.is_heard(&liar, &short(6), at(700)), "a new count has begun");
    }

    #[test]
    fn whoever_is_not_heard_has_a_word_in_half_a_minute() {
        let (mut credence, liar) = (Credence::default(), short(1));
        (10..40).for_each(|subject| credence.refuted([liar], short(subject), at(0)));
        let admitted = (0..300).filter(|second| credence.admits(liar, liar, short(50 + second), at((*second).into())));
        assert_eq!(admitted.count(), 10);
    }

    #[test]
    fn an_accomplice_is_believed_no_longer_than_the_liar() {
        let (mut credence, liar, friend) = (Credence::default(), short(1), short(2));
        (10..40).for_each(|subject| credence.refuted([liar], short(subject), at(0)));
        let admitted = (0..1000).filter(|subject| credence.admits(liar, friend, short(50 + subject), at(1)));
        assert_eq!(admitted.count(), SUBJECTS + 1, "and once in half a minute");
        assert!(credence.admits(short(4), short(5), short(6), at(1)), "nobody else");
    }

    #[test]
    fn whoever_brings_a_true_word_of_a_liar_is_as_good_as_before() {
        let (mut credence, liar, honest) = (Credence::default(), short(1), short(2));
        (10..40).for_each(|subject| credence.refuted([liar], short(subject), at(0)));
        for number in 50..500 {
            assert!(credence.admits(liar, honest, short(number), at(1)), "{number}");
            credence.proved(&short(number));
        }
        assert!(credence.admits(liar, honest, short(7), at(2)));
        credence.refuted([liar], short(7), at(2));
        assert_eq!(credence.doubts[&honest].refuted.len(), 1, "that one was false");
    }

    #[test]
    fn who_lets_itself_be_missed_ruins_nobody_elses_word() {
        let (mut credence, honest, x) = (Credence::default(), short(1), short(2));
        (0..1000).for_each(|_| credence.refuted([honest], x, at(1)));
        assert!(!credence.is_heard(&honest, &x, at(2)) && credence.is_heard(&honest, &short(3), at(2)));
    }

    #[test]
    fn the_counts_are_bounded() {
        let mut credence = Credence::default();
        for number in 0..3 * MAX_OBSERVERS as u32 {
            (0..30).for_each(|subject| credence.refuted([short(number)], short(subject), at(1)));
        }
        assert_eq!(credence.size(), (MAX_OBSERVERS, MAX_OBSERVERS));
        assert!(credence.doubts.values().all(|doubt| doubt.refuted.len() == SUBJECTS));
    }
}
