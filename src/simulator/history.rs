//! Which digests a process held, and until when: what its own claims, and those of others about it, are compared with.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::time::Time;

/// A statement's age ends at 25.5 s: a byte of tenths.
const OLDEST: Duration = Duration::from_millis(25_500);
/// So many heartbeats old a neighbour's statement may be when a claim is made of it.
const FRESH: u32 = 3;

/// The sketches of its digests, of as long as anybody can claim anything of: half a minute with the usual heartbeat. Among a
/// few thousand none have these in common by chance, nor their lower halves. While a network forms each process has held
/// thousands, and there are thousands of processes: of each only the lower halves are kept, and of its moment.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Since when it held what.
    held: VecDeque<(u32, u32)>,
    /// The moment of the last one, whole: those that matter came within an hour before it.
    last: Time,
}

impl History {
    /// From now on it holds this; `None`: there is no process.
    pub(super) fn note(&mut self, now: Time, digest: Option<u64>, heartbeat: Duration) {
        let digest = digest.unwrap_or_default() as u32;
        if self.held.back().is_some_and(|(_, last)| *last == digest) {
            return;
        }
        let span = OLDEST + heartbeat * FRESH;
        if now.since(self.last) > span {
            self.held.drain(..self.held.len().saturating_sub(1));
        }
        if self.held.len() == self.held.capacity() {
            self.held.reserve_exact(4 + self.held.len() / 4);
        }
        self.held.push_back((now.0 as u32, digest));
        self.last = now;
        while self.held.get(1).is_some_and(|(since, _)| now.since(self.moment(*since)) > span) {
            self.held.pop_front();
        }
    }

    /// The last moment at which it held this digest, as far as anybody can claim.
    pub(super) fn last_held(&self, digest: u64, now: Time) -> Option<Time> {
        let mut until = now;
        for (since, held) in self.held.iter().rev() {
            if *held == digest as u32 {
                return Some(until);
            }
            until = self.moment(*since);
        }
        None
    }

    /// What it is the lower half of.
    fn moment(&self, since: u32) -> Time {
        let before = (self.last.0 as u32).wrapping_sub(since);
        Time(self.last.0.saturating_sub(u64::from(before)))
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
        assert!(history.held.len() < 35, "{}", history.held.len());
        // What an hour and more lies between is told apart all the same.
        let (late, later) = (Time(10_000_000_000), Time(20_000_000_000));
        history.note(late, Some(7), beat);
        assert_eq!((history.last_held(two, later), history.last_held(one, later)), (Some(late), None));
        history.note(later, Some(8), beat);
        assert_eq!((history.last_held(7, later), history.last_held(8, later)), (Some(later), Some(later)));
    }
}
