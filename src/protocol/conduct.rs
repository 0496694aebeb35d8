//! What a node has to answer for: points for each breach of the protocol that it committed on a connection on which it
//! had shown who it is.
//!
//! A breach closes the connection at once, whatever the score. The score is for those who come back: five breaches in
//! little more than a minute, and the node is not heard for ten. Points wear off, so that a program that was mended is
//! forgiven.

use std::collections::BTreeMap;
use std::time::Duration;

use super::identity::ControllerId;
use super::time::Time;

/// For a forged record, a record of another network, and whatever else breaks the protocol.
pub const BREACH: u32 = 20;
/// With so many a node is not heard for a while.
const TOO_MANY: u32 = 100;
/// One point wears off in this time: a single breach in two minutes.
const WEARS_OFF: Duration = Duration::from_secs(6);
/// As long as a misbehaving address is not dialled.
const SILENCED: Duration = Duration::from_secs(600);
/// Nodes with a score, about 100 bytes each. Of more, the one whose last breach is oldest is forgiven early.
const MAX_NODES: usize = 1024;

/// The nodes with a score.
#[derive(Debug, Default)]
pub struct Conduct {
    scores: BTreeMap<ControllerId, Score>,
}

#[derive(Clone, Copy, Debug)]
struct Score {
    points: u32,
    at: Time,
    silenced_until: Time,
}

impl Conduct {
    /// The node broke the protocol.
    pub fn breach(&mut self, id: ControllerId, now: Time) {
        if self.scores.len() >= MAX_NODES && !self.scores.contains_key(&id) {
            let oldest = self.scores.iter().min_by_key(|(_, score)| score.at).map(|(id, _)| *id);
            oldest.map(|oldest| self.scores.remove(&oldest));
        }
        let score = self.scores.entry(id).or_insert(Score { points: 0, at: now, silenced_until: Time::ZERO });
        let worn = now.since(score.at).as_secs() / WEARS_OFF.as_secs();
        let points = u64::from(score.points).saturating_sub(worn);
        // At most what it was.
        score.points = u32::try_from(points).unwrap_or(u32::MAX).saturating_add(BREACH);
        score.at = now;
        if score.points >= TOO_MANY {
            *score = Score { points: 0, at: now, silenced_until: now + SILENCED };
        }
    }

    /// How many nodes have a score, and how many may.
    pub fn size(&self) -> (usize, usize) {
        (self.scores.len(), MAX_NODES)
    }

    /// True while the node is not to be heard.
    pub fn is_silenced(&self, id: &ControllerId, now: Time) -> bool {
        self.scores.get(id).is_some_and(|score| score.silenced_until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn five_breaches_silence_for_ten_minutes() {
        let (mut conduct, id) = (Conduct::default(), ControllerId([1; 32]));
        for second in 0..4 {
            conduct.breach(id, at(second));
        }
        assert!(!conduct.is_silenced(&id, at(4)));
        conduct.breach(id, at(4));
        assert!(conduct.is_silenced(&id, at(4)) && conduct.is_silenced(&id, at(603)));
        assert!(!conduct.is_silenced(&id, at(604)) && !conduct.is_silenced(&ControllerId([2; 32]), at(5)));
    }

    #[test]
    fn a_breach_now_and_then_is_forgiven() {
        let (mut conduct, id) = (Conduct::default(), ControllerId([1; 32]));
        for round in 0..100 {
            conduct.breach(id, at(round * 120));
            assert!(!conduct.is_silenced(&id, at(round * 120)));
        }
    }

    #[test]
    fn the_scores_are_bounded() {
        let mut conduct = Conduct::default();
        for number in 0..3 * MAX_NODES as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            conduct.breach(ControllerId(id), at(number));
        }
        assert_eq!(conduct.scores.len(), MAX_NODES);
    }
}
