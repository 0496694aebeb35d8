//! Heartbeats as deadlines: the seeds' "heartbeat loop" and "heartbeat timeout" are two moments of the peer's `select!`.
//!
//! ```text
//!  tail:  answer ──interval──▶ request ──timeout──▶ silent ──700 ms──▶ close
//!  head:  life ───────interval + timeout──────────▶ silent ──700 ms──▶ close
//! ```
//!
//! An answer that comes in time moves the deadline; there is nothing to abort. Anything that arrives is life. Silence is
//! told to the controller, which looks for the node by a fresh dial; if the node lives, the connection is spared until it
//! has itself carried nothing for interval + timeout + 1.5 s. A deadline that was met more than a second late means that
//! this process slept, not the remote: all starts anew (`discovery.md` 2.6).

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Time;

/// From silence to closing: the time in which a fresh dial may prove that the node lives.
pub const PROBE: Duration = Duration::from_millis(700);
/// What a connection whose node lives gets instead: beyond it the connection itself is wedged.
const WEDGED: Duration = Duration::from_millis(1500);
/// A deadline met this late says that this process was suspended or starved.
pub const LATE: Duration = Duration::from_secs(1);

/// Edges that are no ring edges are asked so many times less often. Each node has sixteen edges but four on rings: at one rate
/// for all it would send three times as much while nothing happens, and what is gained, a fifth of a second until silence is
/// first seen, is less than all that follows. Whoever is suspected is asked at once over every edge.
pub const RELAXED: u32 = 5;

/// Which end of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Dialled: issues requests.
    Tail,
    /// Accepted: answers.
    Head,
}

/// What is due at a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Send a heartbeat of this number.
    Beat {
        /// Its number.
        seq: u32,
        /// The last answer that arrived.
        echo: Option<u32>,
    },
    /// Nothing was heard for too long: look for the node.
    Silent,
    /// And nothing came of it: close.
    TimedOut,
}

/// The deadlines of one connection.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    side: Side,
    interval: Duration,
    timeout: Duration,
    last_life: Time,
    next_beat: Time,
    outstanding: Option<Outstanding>,
    beat_wanted: bool,
    next_seq: u32,
    last_answer: Option<u32>,
    close_at: Option<Time>,
    rtt: RoundTrip,
}

impl Heartbeat {
    /// Starts with the connection; the tail's first heartbeat is due at once, so that round trips and agreement are
    /// known early, unless [`begin_after`](Self::begin_after) says otherwise.
    pub fn new(side: Side, interval: Duration, timeout: Duration, now: Time) -> Self {
        Self {
            side,
            interval,
            timeout,
            last_life: now,
            next_beat: now,
            outstanding: None,
            beat_wanted: false,
            next_seq: 1,
            last_answer: None,
            close_at: None,
            rtt: RoundTrip::default(),
        }
    }

    /// From now on this is the time between two heartbeats.
    pub fn set_interval(&mut self, interval: Duration, now: Time) {
        if interval < self.interval && self.side == Side::Head {
            // The tail learns of it as late as this end does, and has not promised anything for the time before.
            self.last_life = self.last_life.max(now);
        }
        self.interval = interval;
        self.next_beat = self.next_beat.min(now + interval);
    }

    /// The tail's first heartbeat is due only after so long.
    pub fn begin_after(&mut self, span: Duration, now: Time) {
        self.next_beat = now + span;
    }

    /// When [`Heartbeat::due`] wants to be called.
    pub fn deadline(&self) -> Time {
        self.close_at.unwrap_or_else(|| match (self.side, self.outstanding) {
            (Side::Tail, None) => self.next_beat,
            _ => self.silent_at(),
        })
    }

    /// What is due now, if anything.
    pub fn due(&mut self, now: Time) -> Option<Due> {
        let deadline = self.deadline();
        if now < deadline {
            return None;
        }
        if now.since(deadline) > LATE {
            self.restart(now);
        }
        if let Some(close_at) = self.close_at {
            return (now >= close_at).then_some(Due::TimedOut);
        }
        if self.side == Side::Tail && self.outstanding.is_none() {
            return (now >= self.next_beat).then(|| self.beat(now));
        }
        if now < self.silent_at() {
            return None;
        }
        self.close_at = Some(now + PROBE);
        Some(Due::Silent)
    }

    /// A heartbeat outside the schedule; while one is outstanding, as soon as that is answered.
    pub fn beat_now(&mut self, now: Time) -> Option<Due> {
        self.beat_wanted = self.outstanding.is_some();
        (self.side == Side::Tail && self.outstanding.is_none()).then(|| self.beat(now))
    }

    /// Something authenticated arrived. True if this ends a silence.
    pub fn life(&mut self, now: Time) -> bool {
        self.last_life = self.last_life.max(now);
        self.close_at.take().is_some()
    }

    /// The answer to a heartbeat arrived; the moment its request was sent and the round trip. `None`: nobody asked.
    pub fn answered(&mut self, seq: u32, now: Time) -> Option<(Time, Duration)> {
        let asked = self.outstanding.take_if(|asked| asked.seq == seq)?;
        self.last_answer = Some(seq);
        if std::mem::take(&mut self.beat_wanted) {
            self.next_beat = now;
        }
        let round_trip = now.since(asked.sent);
        if asked.measures {
            self.rtt.sample(round_trip);
        }
        Some((asked.sent, round_trip))
    }

    /// The node lives, as another connection showed: this one has until it is wedged itself.
    pub fn spare(&mut self) {
        if self.close_at.is_some() {
            self.close_at = Some(self.last_life + self.interval + self.timeout + WEDGED);
        }
    }

    /// The smoothed round trip, once one was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.rtt.smoothed
    }

    /// When the unanswered heartbeat was sent.
    pub fn outstanding_since(&self) -> Option<Time> {
        self.outstanding.map(|asked| asked.sent)
    }

    fn beat(&mut self, now: Time) -> Due {
        let seq = self.next_seq;
        self.next_seq = self.next_seq.wrapping_add(1);
        self.outstanding = Some(Outstanding { seq, sent: now, measures: true });
        self.next_beat = now + self.interval;
        Due::Beat { seq, echo: self.last_answer }
    }

    fn silent_at(&self) -> Time {
        let patience = self.rtt.patience(self.timeout);
        match (self.side, self.outstanding) {
            (Side::Tail, Some(asked)) => self.last_life.max(asked.sent) + patience,
            _ => self.last_life + self.interval + patience,
        }
    }

    fn restart(&mut self, now: Time) {
        self.last_life = now;
        self.close_at = None;
        if let Some(asked) = &mut self.outstanding {
            asked.measures = false;
        }
    }
}

/// A heartbeat without its answer.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    seq: u32,
    sent: Time,
    /// False if this process slept meanwhile: the time until the answer says nothing about the link.
    measures: bool,
}

/// RFC 6298's estimator of the round trip.
#[derive(Clone, Debug, Default)]
struct RoundTrip {
    smoothed: Option<Duration>,
    variance: Duration,
}

impl RoundTrip {
    fn sample(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variance = sample / 2;
            }
            Some(smoothed) => {
                self.variance = (self.variance * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    fn patience(&self, configured: Duration) -> Duration {
        self.smoothed.map_or(configured, |smoothed| configured.max(smoothed + self.variance * 4))
    }
}

/// The head's half: remembers when it answered, so that the tail's echo dates the tail's next statement.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    sent: VecDeque<(u32, Time)>,
}

impl Answers {
    /// A heartbeat of number `seq` is answered now. Returns the moment before which the tail's statement was not made:
    /// when the answer it echoes was sent (`discovery.md` 2.3).
    pub fn answer(&mut self, seq: u32, echo: Option<u32>, now: Time) -> Option<Time> {
        let dated = echo.and_then(|echo| self.sent.iter().find(|(sent, _)| *sent == echo)).map(|(_, at)| *at);
        // A tail echoes the last answer it got; more than a few are never under way.
        if self.sent.len() == 4 {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, now));
        dated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    #[test]
    fn a_tail_beats_each_interval_and_answers_move_the_deadline() {
        let mut heart = Heartbeat::new(Side::Tail, INTERVAL, TIMEOUT, at(0));
        assert_eq!(heart.due(at(0)), Some(Due::Beat { seq: 1, echo: None }));
        assert_eq!(heart.deadline(), at(500));
        heart.life(at(20));
        assert_eq!(heart.answered(1, at(20)), Some((at(0), Duration::from_millis(20))));
        assert_eq!(heart.deadline(), at(1000));
        assert_eq!(heart.due(at(999)), None);
        assert_eq!(heart.due(at(1000)), Some(Due::Beat { seq: 2, echo: Some(1) }));
        assert_eq!(heart.answered(1, at(1001)), None, "an answer nobody asked for");
    }

    #[test]
    fn a_heartbeat_wanted_while_one_is_under_way_follows_its_answer() {
        let mut heart = Heartbeat::new(Side::Tail, INTERVAL, TIMEOUT, at(0));
        heart.due(at(0));
        assert_eq!(heart.beat_now(at(10)), None);
        heart.answered(1, at(20));
        assert_eq!(heart.due(at(20)), Some(Due::Beat { seq: 2, echo: Some(1) }));
        heart.answered(2, at(40));
        assert_eq!(heart.deadline(), at(1020), "only once");
    }

    #[test]
    fn silence_closes_within_interval_timeout_and_the_probes_time() {
        let mut heart = Heartbeat::new(Side::Tail, INTERVAL, TIMEOUT, at(0));
        heart.due(at(0));
        heart.life(at(1));
        heart.answered(1, at(1));
        heart.due(at(1000));
        assert_eq!(heart.due(at(1500)), Some(Due::Silent));
        assert_eq!(heart.due(at(2199)), None);
        assert_eq!(heart.due(at(2200)), Some(Due::TimedOut));

        let mut heart = Heartbeat::new(Side::Head, INTERVAL, TIMEOUT, at(0));
        assert_eq!(heart.due(at(1500)), Some(Due::Silent));
        assert_eq!(heart.due(at(2500)), Some(Due::TimedOut));
    }

    #[test]
    fn any_life_ends_silence_and_a_live_node_spares_its_connection() {
        let mut heart = Heartbeat::new(Side::Head, INTERVAL, TIMEOUT, at(0));
        heart.due(at(1500));
        assert!(heart.life(at(1600)));
        assert_eq!(heart.deadline(), at(3100));
        heart.due(at(3100));
        heart.spare();
        assert_eq!(heart.due(at(4100)), None);
        assert_eq!(heart.due(at(1600 + 3000)), Some(Due::TimedOut), "wedged itself");
    }

    #[test]
    fn a_process_that_slept_blames_nobody() {
        for side in [Side::Tail, Side::Head] {
            let mut heart = Heartbeat::new(side, INTERVAL, TIMEOUT, at(0));
            heart.due(at(0));
            assert_eq!(heart.due(at(60_000)), None, "{side:?}");
            assert!(heart.deadline() >= at(60_500), "{side:?}");
        }
    }

    #[test]
    fn slow_links_get_more_patience() {
        let mut heart = Heartbeat::new(Side::Tail, INTERVAL, TIMEOUT, at(0));
        heart.due(at(0));
        heart.answered(1, at(900));
        heart.due(at(1000));
        assert!(heart.deadline() > at(2000), "{:?}", heart.deadline());
    }

    #[test]
    fn a_heads_answers_date_the_tails_statements() {
        let mut answers = Answers::default();
        assert_eq!(answers.answer(1, None, at(10)), None);
        assert_eq!(answers.answer(2, Some(1), at(1010)), Some(at(10)));
        for seq in 3..9 {
            answers.answer(seq, None, at(u64::from(seq) * 1000));
        }
        assert_eq!(answers.answer(9, Some(1), at(9000)), None, "too old to be remembered");
    }
}
