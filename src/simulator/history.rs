//! Which digests a process held, and until when: what its own claims, and those of others about it, are compared with.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::hash::Hash;
use crate::protocol::time::Time;

/// As far back as anybody can claim anything: a statement's age ends at 25.5 s, and a neighbour makes of it a claim that is
/// older by what a statement may be old (3 s with the usual heartbeat).
const MEMORY: Duration = Duration::from_secs(30);

/// The digests of the last half minute, eight bytes each: among a few thousand none have these in common by chance.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Time, [u8; 8])>);

impl History {
    /// From now on it holds this; `None`: there is no process.
    pub(super) fn note(&mut self, now: Time, digest: Option<Hash>) {
        let digest = digest.map_or([0; 8], |digest| digest.short());
        if self.0.back().is_some_and(|(_, last)| *last == digest) {
            return;
        }
        self.0.push_back((now, digest));
        while self.0.get(1).is_some_and(|(since, _)| now.since(*since) > MEMORY) {
            self.0.pop_front();
        }
    }

    /// The last moment at which it held this digest, as far as anybody can claim.
    pub(super) fn last_held(&self, digest: Hash, now: Time) -> Option<Time> {
        let mut until = now;
        for (since, held) in self.0.iter().rev() {
            if *held == digest.short() {
                return Some(until);
            }
            until = *since;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_was_held_until_the_next_one_and_is_forgotten_in_the_end() {
        let (one, two) = (Hash([1; 32]), Hash([2; 32]));
        let mut history = History::default();
        history.note(Time(10), Some(one));
        history.note(Time(20), Some(two));
        history.note(Time(25), Some(two));
        assert_eq!(history.last_held(two, Time(30)), Some(Time(30)));
        assert_eq!(history.last_held(one, Time(30)), Some(Time(20)));
        assert_eq!(history.last_held(Hash([3; 32]), Time(30)), None);
        history.note(Time(30), None);
        assert_eq!(history.last_held(two, Time(40)), Some(Time(30)));
        for second in 1..100 {
            history.note(Time(second * 1_000_000), Some(if second % 2 == 0 { one } else { two }));
        }
        assert!(history.0.len() < 35, "{}", history.0.len());
    }
}
