//! What happens in a demonstration, and when: pure, so that it can be read and tested without a network.
//!
//! ```text
//!            all agree          3 s         the rest agree        2 s          all agree
//!  Gathering ─────────▶ Calm ─────────▶ Missing ─────────▶ Missed ─────────▶ Returning ───┐
//!                        ▲    stop one             that it      start it                  │
//!                        │                         is down      again                     │
//!                        └────────────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

/// How long all is well before one is stopped: for the viewer to see it.
const CALM: Duration = Duration::from_secs(3);
/// How long one is missed before it is started again: likewise.
const MISSED: Duration = Duration::from_secs(2);
/// What must be left of a limited time for one to be stopped and to come back: it takes 5.5 s on an idle machine.
const CYCLE: Duration = Duration::from_secs(7);
/// When so little of it is left, a missed node is started again at once.
const RETURN: Duration = Duration::from_secs(2);

/// What is to be done with the node of this number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cue {
    /// Stop it as if killed.
    Stop(usize),
    /// Start it again.
    Start(usize),
}

/// Where the play is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// The nodes find each other.
    Gathering,
    /// All agree since then.
    Calm(Duration),
    /// This one has been stopped.
    Missing(usize),
    /// Since then the rest agree that this one is down.
    Missed(usize, Duration),
    /// This one has been started again.
    Returning,
}

/// The play, which repeats until it is stopped.
#[derive(Debug)]
pub(super) struct Script {
    nodes: usize,
    act: Act,
    next: usize,
    end: Option<Duration>,
    calm: Duration,
}

impl Script {
    /// For so many nodes, and a time that may be limited.
    pub(super) fn new(nodes: usize, end: Option<Duration>) -> Self {
        // A short show hurries, so that there is something to be seen.
        let calm = end.map_or(CALM, |end| CALM.min(end / 6));
        Self { nodes, act: Act::Gathering, next: 1, end, calm }
    }

    /// What is to be done now, given whether all running nodes agree on who is running.
    pub(super) fn step(&mut self, now: Duration, agreed: bool) -> Option<Cue> {
        match self.act {
            Act::Gathering | Act::Returning if agreed => self.act = Act::Calm(now),
            Act::Calm(since) if now.saturating_sub(since) >= self.calm && self.has_time_for_another(now) => {
                let chosen = self.choose();
                self.act = Act::Missing(chosen);
                return Some(Cue::Stop(chosen));
            }
            Act::Missing(node) if agreed => self.act = Act::Missed(node, now),
            Act::Missed(node, since) if now.saturating_sub(since) >= MISSED || self.has_to_hurry(now) => {
                self.act = Act::Returning;
                return Some(Cue::Start(node));
            }
            _ => {}
        }
        None
    }

    /// True if all nodes run and agree: a good moment to end.
    pub(super) fn is_calm(&self) -> bool {
        matches!(self.act, Act::Calm(_))
    }

    fn has_to_hurry(&self, now: Duration) -> bool {
        self.end.is_some_and(|end| now + RETURN >= end)
    }

    fn has_time_for_another(&self, now: Duration) -> bool {
        self.end.is_none_or(|end| now + CYCLE <= end)
    }

    /// In turn all but the first, through whose eyes the viewer looks.
    fn choose(&mut self) -> usize {
        let chosen = self.next;
        self.next = if chosen + 1 < self.nodes { chosen + 1 } else { 1 };
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps once a second; the network takes two of them to notice anything.
    fn cues(script: &mut Script, seconds: u64) -> Vec<(u64, Cue)> {
        let mut changed = 0;
        let mut cues = Vec::new();
        for second in 0..seconds {
            if let Some(cue) = script.step(Duration::from_secs(second), second >= changed + 2) {
                cues.push((second, cue));
                changed = second;
            }
        }
        cues
    }

    #[test]
    fn each_but_the_first_is_stopped_and_started_in_its_turn() {
        let cues = cues(&mut Script::new(3, None), 24);
        let stop_start = |node| [Cue::Stop(node), Cue::Start(node)];
        let expected = [stop_start(1), stop_start(2), stop_start(1)].concat();
        assert_eq!(cues.iter().map(|(_, cue)| *cue).collect::<Vec<_>>(), expected[..cues.len()]);
        assert_eq!(cues[..3].iter().map(|(when, _)| *when).collect::<Vec<_>>(), [5, 9, 14]);
    }

    #[test]
    fn nothing_is_stopped_that_has_no_time_to_come_back() {
        let end = Duration::from_secs(16);
        assert_eq!(cues(&mut Script::new(2, Some(end)), 16).len(), 2);
        assert_eq!(cues(&mut Script::new(2, Some(CYCLE)), 7), []);
    }

    #[test]
    fn a_missed_node_comes_back_at_once_when_time_is_short() {
        let end = Duration::from_secs(12);
        let mut script = Script::new(2, Some(end));
        let mut step = |seconds, agreed| script.step(Duration::from_secs(seconds), agreed);
        assert_eq!((step(3, true), step(5, true)), (None, Some(Cue::Stop(1))));
        assert_eq!((step(10, true), step(10, true)), (None, Some(Cue::Start(1))));
        assert_eq!(step(11, true), None);
        assert!(script.is_calm());
    }

    #[test]
    fn without_agreement_nothing_happens() {
        let mut script = Script::new(5, None);
        assert!((0..100).all(|second| script.step(Duration::from_secs(second), false).is_none()));
    }
}
