//! Which digests a process held, and until when: what its own claims, and those of others about it, are compared with.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::time::Time;

/// A statement's age ends at 25.5 s: a byte of tenths.
const OLDEST: Duration = Duration::from_millis(25_500);
/// So many heartbeats old a neighbour's statement may be when a claim is made of it.
const FRESH: u32 = 3;

/// The sketches of its digests, of as long as anybody can claim anything of: half a minute with the usual heartbeat. Among a
/// few thousand none have these in common by chance.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Time, u64)>);

impl History {
    /// From now on it holds this; `None`: there is no process.
    pub(super) fn note(&mut self, now: Time, digest: Option<u64>, heartbeat: Duration) {
        let digest = digest.unwrap_or_default();
        if self.0.back().is_some_and(|(_, last)| *last == digest) {
            return;
        }
        self.0.push_back((now, digest));
        while self.0.get(1).is_some_and(|(since, _)| now.since(*since) > OLDEST + heartbeat * FRESH) {
            self.0.pop_front();
        }
    }

    /// The last moment at which it held this digest, as far as anybody can claim.
    pub(super) fn last_held(&self, digest: u64, now: Time) -> Option<Time> {
        let mut until = now;
        for (since, held) in self.0.iter().rev() {
            if *held == digest {
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
        let (one, two) = (1, 2);
        let mut history = History::default();
        let beat = Duration::from_secs(1);
        history.note(Time(10), Some(one), beat);
        history.note(Time(20), Some(two), beat);
        history.note(Time(25), Some(two), beat);
        assert_eq!(history.last_held(two, Time(30)), Some(Time(30)));
        assert_eq!(history.last_held(one, Time(30)), Some(Time(20)));
        assert_eq!(history.last_held(3, Time(30)), None);
        history.note(Time(30), None, beat);
        assert_eq!(history.last_held(two, Time(40)), Some(Time(30)));
        for second in 1..100 {
            history.note(Time(second * 1_000_000), Some(if second % 2 == 0 { one } else { two }), beat);
        }
        assert!(history.0.len() < 35, "{}", history.0.len());
    }
}
