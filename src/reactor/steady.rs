//! When the loop knows what comes next: one connection asks, or answers, one thing after the other, and nothing else happens.
//!
//! ```text
//!   poll ─▶ A, poll ─▶ A, ... often, and nothing else ──▶ read A, which waits ─▶ read A ─▶ ...
//!     ▲                                                      │
//!     └── nothing came, or a millisecond is over ◀───────────┘
//! ```
//!
//! To wait at the poll and then to read is two calls of the system where one does: of the six of a round trip, one at each
//! end. What else comes meanwhile, on other connections or as a command, waits until this one has been heard, or for as long as
//! such a read waits for nothing: 4 to 8 ms on a kernel that counts 250 beats a second. So the loop has to be sure, and each time
//! it was wrong it wants to be twice as sure: a remote that stops on purpose whenever it is believed takes a few hundredths of
//! the loop's time at most. Who is slow is not waited for so: there is nothing to be gained.

use std::time::{Duration, Instant};

use mio::Token;

/// Turns in a row that were about the same connection before it is believed to go on like that: a few milliseconds of
/// asking and answering. Fewer would be wrong at the end of every short run.
const SURE: u32 = 256;
/// After so many it is believed whatever was before.
const SUREST: u32 = 16 * 1024;
/// So often the loop looks for what else there is.
const LOOK: Duration = Duration::from_millis(1);
/// After so many looks at which it had been right it wants to be half as sure.
const RIGHT: u32 = 512;
/// More than a read waits that waits for nothing, on any system.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// What a turn was about.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Turn {
    /// Nothing.
    #[default]
    Idle,
    /// One connection.
    One(Token),
    /// More than that, or something that was commanded.
    Several,
}

impl Turn {
    /// With an event of that connection.
    pub(super) fn and(self, token: Token) -> Self {
        match self {
            Self::Idle => Self::One(token),
            Self::One(one) if one == token => self,
            _ => Self::Several,
        }
    }
}

/// What whoever sits at the poll is there for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hope {
    /// Whatever comes.
    Anything,
    /// What comes on one connection, whichever it is.
    One,
    /// What comes on this one.
    Of(Token),
}

impl Hope {
    /// False if there was more to do than that.
    pub(super) fn fits(self, turn: Turn) -> bool {
        match self {
            Self::Anything => true,
            Self::One => turn != Turn::Several,
            Self::Of(token) => matches!(turn, Turn::Idle) || turn == Turn::One(token),
        }
    }
}

/// What the last polls were about.
#[derive(Debug)]
pub(super) struct Steady {
    turn: Turn,
    /// How many in a row were.
    polls: u32,
    /// How many have to be.
    sure: u32,
    /// Looks since the loop was wrong.
    right: u32,
    /// When the next look is, once they were enough.
    until: Option<Instant>,
}

impl Default for Steady {
    fn default() -> Self {
        Self { turn: Turn::default(), polls: 0, sure: SURE, right: 0, until: None }
    }
}

impl Steady {
    /// A poll was about that.
    pub(super) fn note(&mut self, turn: Turn) {
        if turn == self.turn {
            self.polls = self.polls.saturating_add(1);
        } else {
            (self.turn, self.polls, self.until) = (turn, 1, None);
        }
    }

    /// What was expected has not come.
    pub(super) fn doubt(&mut self) {
        (self.polls, self.right, self.until) = (0, 0, None);
        self.sure = SUREST.min(2 * self.sure);
    }

    /// The connection on which the next thing is expected, if it is time for it and what is hoped for.
    pub(super) fn expects(&mut self, hope: Hope, now: impl FnOnce() -> Instant) -> Option<Token> {
        let Turn::One(token) = self.turn else { return None };
        if self.polls < self.sure || !hope.fits(self.turn) {
            return None;
        }
        let now = now();
        match self.until {
            Some(until) if now < until => return Some(token),
            Some(until) if now > until + LOOK => {
                // One of the last turns took long: that is nothing to be right about.
                (self.polls, self.until) = (0, None);
                return None;
            }
            // This time the loop polls, and then not for a while.
            _ => self.until = Some(now + LOOK),
        }
        self.right += 1;
        if self.right == RIGHT {
            (self.right, self.sure) = (0, SURE.max(self.sure / 2));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Turn = Turn::One(Token(1));

    #[test]
    fn a_turn_is_about_one_connection_until_another_has_something() {
        assert_eq!(Turn::Idle.and(Token(1)).and(Token(1)), A);
        assert_eq!(A.and(Token(2)), Turn::Several);
        assert_eq!(Turn::Several.and(Token(1)), Turn::Several);
    }

    fn run(steady: &mut Steady, turns: u32) {
        (0..turns).for_each(|_| steady.note(A));
    }

    fn never() -> Instant {
        panic!("nobody asks for the time")
    }

    #[test]
    fn what_comes_next_is_known_after_many_turns_of_the_same_and_only_for_a_while() {
        let (mut steady, start) = (Steady::default(), Instant::now());
        run(&mut steady, SURE - 1);
        assert_eq!(steady.expects(Hope::Anything, never), None);
        run(&mut steady, 1);
        assert_eq!(steady.expects(Hope::Anything, || start), None, "a look first");
        for hope in [Hope::Anything, Hope::One, Hope::Of(Token(1))] {
            assert_eq!(steady.expects(hope, || start + LOOK / 2), Some(Token(1)));
        }
        assert_eq!(steady.expects(Hope::Of(Token(2)), never), None, "who waits for another hears no other");
        assert_eq!(steady.expects(Hope::Anything, || start + LOOK), None, "a look between");
        for other in [Turn::Idle, Turn::Several, Turn::One(Token(2))] {
            steady.note(other);
            assert_eq!(steady.expects(Hope::Anything, never), None, "{other:?}");
            run(&mut steady, SURE);
            assert_eq!(steady.expects(Hope::Anything, || start), None);
            assert_eq!(steady.expects(Hope::Anything, || start), Some(Token(1)));
        }
    }

    #[test]
    fn who_is_slow_is_not_waited_for() {
        let (mut steady, mut now) = (Steady::default(), Instant::now());
        for _ in 0..4 * SURE {
            steady.note(A);
            now += 3 * LOOK;
            assert_eq!(steady.expects(Hope::Anything, || now), None);
        }
        assert!(steady.right <= 4, "only what was looked at again in time");
    }

    #[test]
    fn a_loop_that_was_wrong_wants_to_be_surer_until_it_was_right_for_long() {
        let (mut steady, start) = (Steady::default(), Instant::now());
        // How many turns it takes until the loop believes.
        let believes = |steady: &mut Steady| {
            let turns = (1..).find(|_| {
                steady.note(A);
                steady.expects(Hope::Anything, || start);
                steady.expects(Hope::Anything, || start).is_some()
            });
            turns.unwrap()
        };
        assert_eq!(believes(&mut steady), SURE);
        for sure in [2 * SURE, 4 * SURE] {
            steady.doubt();
            assert_eq!(believes(&mut steady), sure);
        }
        for look in 1..=RIGHT {
            assert_eq!(steady.expects(Hope::Anything, || start + look * LOOK), None);
        }
        steady.note(Turn::Idle);
        assert_eq!(believes(&mut steady), 2 * SURE, "half as much is enough again");
        (0..100).for_each(|_| steady.doubt());
        assert_eq!(believes(&mut steady), SUREST);
    }
}
