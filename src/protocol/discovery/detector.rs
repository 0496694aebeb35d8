//! From silence to a witness of death.
//!
//! ```text
//!            silence, a failed dial,                no life within 700 ms,
//!            an edge that broke                     or evidence (refused, timed out)
//!   (nobody) ─────────────────────▶ Silent + probe ────────────────▶ Accused: stage-1 witness, flooded
//!      ▲                               │                                │ 2 s, neither life nor refutation
//!      │            life               │       life, or a greater       ▼
//!      └───────────────────────────────┴────────── record ───────── Testified: stage-2 witness, flooded,
//!                                                                   issued again if its need has fallen
//! ```
//!
//! A node whose accusation was refuted may accuse the same node again only after it has itself exchanged data with it:
//! otherwise, with one link cut and a third node reaching both ends, accusation and refutation would alternate for ever. A
//! deadline met more than a second late means that this process slept: all deadlines start anew (`discovery.md` 2.6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::protocol::hash::Hash;
use crate::protocol::heartbeat::{LATE, PROBE};
use crate::protocol::identity::ControllerId;
use crate::protocol::time::Time;

/// How often a testimony that did not suffice is looked at again.
const REVIEW: Duration = Duration::from_secs(1);

/// What this node holds against another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    /// Not heard; a probe is wanted or under way.
    Silent { deadline: Time, probe: Probe },
    /// Stage 1 is out against this record.
    Accused { deadline: Time, record: Hash },
    /// Stage 2 is out against this record.
    Testified { deadline: Time, record: Hash, need: u8 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Probe {
    Wanted,
    Sent,
}

/// A false alarm makes this node more patient for so long, and so many at most count (Lifeguard's local health, Dadgar 2018:
/// whoever often accuses the living is likely to be slow itself). With eight, a probe may take six seconds.
const ALARM_LASTS: Duration = Duration::from_secs(30);
const MAX_ALARMS: usize = 8;

/// What is to be said now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Stage 1 against this node.
    Suspect(ControllerId),
    /// Stage 2 against this node, if it still has this record.
    Down(ControllerId, Hash),
    /// Stage 2 once more, if the need is smaller than the one stated.
    Review(ControllerId, Hash, u8),
}

/// What this node means to do about another, unless that one lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// To issue stage 1.
    Accuse,
    /// To issue stage 2.
    Testify,
    /// To see whether stage 2 was enough.
    Review,
}

/// All cases of this node.
#[derive(Debug)]
pub struct Detector {
    cases: BTreeMap<ControllerId, Case>,
    barred: BTreeSet<ControllerId>,
    /// When this node's accusations proved false, the last few.
    alarms: VecDeque<Time>,
    refute_window: Duration,
}

impl Detector {
    /// Suspects nobody. `refute_window`: from stage 1 to stage 2.
    pub fn new(refute_window: Duration) -> Self {
        Self { cases: BTreeMap::new(), barred: BTreeSet::new(), alarms: VecDeque::new(), refute_window }
    }

    /// Nothing is heard of this node; a probe has so long to find it. False if that is known already, or this node may not
    /// accuse it.
    pub fn silent(&mut self, id: ControllerId, patience: Duration, now: Time) -> bool {
        self.open(id, Probe::Wanted, patience, now)
    }

    /// A dial to this node is under way, which has so long to find it. False as in [`Detector::silent`].
    pub fn asked(&mut self, id: ControllerId, patience: Duration, now: Time) -> bool {
        self.open(id, Probe::Sent, patience, now)
    }

    /// That dial was given up before its time: a probe is wanted after all.
    pub fn not_asked(&mut self, id: &ControllerId, now: Time) {
        if let Some(Case::Silent { deadline, probe }) = self.cases.get_mut(id)
            && *deadline > now
        {
            (*deadline, *probe) = (now + PROBE, Probe::Wanted);
        }
    }

    /// There was nothing to ask with, no descriptor or no thread: that says nothing of the node. Not asked again at once, which
    /// would fail as well; whoever notices its silence next misses it anew.
    pub fn cannot_ask(&mut self, id: &ControllerId) {
        if matches!(self.cases.get(id), Some(Case::Silent { .. })) {
            self.cases.remove(id);
        }
    }

    fn open(&mut self, id: ControllerId, probe: Probe, patience: Duration, now: Time) -> bool {
        if self.barred.contains(&id) || self.cases.contains_key(&id) {
            return false;
        }
        let deadline = now + patience * self.stretch(now);
        self.cases.insert(id, Case::Silent { deadline, probe });
        true
    }

    /// Nothing lives there, as far as this node can tell: accuse without waiting.
    pub fn evidence(&mut self, id: ControllerId, now: Time) {
        match self.cases.get_mut(&id) {
            Some(Case::Silent { deadline, .. }) => *deadline = now,
            Some(_) => {}
            None if self.barred.contains(&id) => {}
            None => {
                self.cases.insert(id, Case::Silent { deadline: now, probe: Probe::Sent });
            }
        }
    }

    /// Authenticated data came from this node itself. True if it was missed until now.
    pub fn life(&mut self, id: &ControllerId, now: Time) -> bool {
        self.barred.remove(id);
        let case = self.cases.remove(id);
        if case.as_ref().is_some_and(Case::is_told) {
            self.note_alarm(now);
        }
        case.is_some()
    }

    /// The node has a greater record: whatever was said is refuted.
    pub fn refuted(&mut self, id: &ControllerId, now: Time) {
        // A silence that nobody was told of is not refuted by news that others bring.
        if self.cases.get(id).is_some_and(Case::is_told) {
            self.cases.remove(id);
            self.barred.insert(*id);
            self.note_alarm(now);
        }
    }

    fn note_alarm(&mut self, now: Time) {
        if self.alarms.len() == MAX_ALARMS {
            self.alarms.pop_front();
        }
        self.alarms.push_back(now);
    }

    /// How often it accused falsely within the last half minute, as far as that counts.
    pub fn alarms(&self, now: Time) -> usize {
        self.alarms.iter().filter(|alarm| now.since(**alarm) < ALARM_LASTS).count()
    }

    /// How many times as long as usual this node waits: it may be the one that is slow.
    fn stretch(&self, now: Time) -> u32 {
        1 + self.alarms(now) as u32
    }

    /// The entry is settled or gone: no case any more.
    pub fn drop_case(&mut self, id: &ControllerId) {
        self.cases.remove(id);
    }

    /// True if this node misses it.
    pub fn misses(&self, id: &ControllerId) -> bool {
        self.cases.contains_key(id)
    }

    /// All whom this node misses.
    pub fn cases(&self) -> impl Iterator<Item = ControllerId> {
        self.cases.keys().copied()
    }

    /// What is meant to be done about a node, and when.
    pub fn intent(&self, id: &ControllerId) -> Option<(Intent, Time)> {
        let case = self.cases.get(id)?;
        let intent = match case {
            Case::Silent { .. } => Intent::Accuse,
            Case::Accused { .. } => Intent::Testify,
            Case::Testified { .. } => Intent::Review,
        };
        Some((intent, case.deadline()))
    }

    /// How many this node misses.
    pub fn missing(&self) -> usize {
        self.cases.len()
    }

    /// How many it looks for, of these.
    pub fn looking(&self) -> usize {
        self.cases.values().filter(|case| matches!(case, Case::Silent { .. })).count()
    }

    /// How many it may not accuse before it has met them.
    pub fn barred(&self) -> usize {
        self.barred.len()
    }

    /// True if somebody is to be dialled to see whether it lives.
    pub fn wants_probes(&self) -> bool {
        self.cases.values().any(|case| matches!(case, Case::Silent { probe: Probe::Wanted, .. }))
    }

    /// The nodes to be dialled; each is given once.
    pub fn take_probes(&mut self) -> Vec<ControllerId> {
        let mut wanted = Vec::new();
        for (id, case) in &mut self.cases {
            if let Case::Silent { probe: probe @ Probe::Wanted, .. } = case {
                *probe = Probe::Sent;
                wanted.push(*id);
            }
        }
        wanted
    }

    /// When [`Detector::due`] wants to be called.
    pub fn deadline(&self) -> Option<Time> {
        self.cases.values().map(Case::deadline).min()
    }

    /// Stage 1 was issued, by this node or, since then, by another: the accused has had so long to speak up.
    pub fn accused(&mut self, id: ControllerId, record: Hash, since: Time, now: Time) {
        let deadline = now.max(since + self.refute_window * self.stretch(now));
        self.cases.insert(id, Case::Accused { deadline, record });
    }

    /// Stage 2 was issued, with this need.
    pub fn testified(&mut self, id: ControllerId, record: Hash, need: u8, now: Time) {
        self.cases.insert(id, Case::Testified { deadline: now + REVIEW, record, need });
    }

    /// What is to be said now; each verdict must be answered by `accused`, `testified` or `drop_case`.
    pub fn due(&mut self, now: Time) -> Vec<Verdict> {
        if self.deadline().is_some_and(|deadline| now.since(deadline) > LATE) {
            self.restart(now);
        }
        let ripe = self.cases.iter().filter(|(_, case)| case.deadline() <= now);
        ripe.map(|(id, case)| match *case {
            Case::Silent { .. } => Verdict::Suspect(*id),
            Case::Accused { record, .. } => Verdict::Down(*id, record),
            Case::Testified { record, need, .. } => Verdict::Review(*id, record, need),
        })
        .collect()
    }

    fn restart(&mut self, now: Time) {
        for case in self.cases.values_mut() {
            match case {
                Case::Silent { deadline, probe } => {
                    *deadline = now + PROBE;
                    *probe = Probe::Wanted;
                }
                Case::Accused { deadline, .. } => *deadline = now + self.refute_window,
                Case::Testified { deadline, .. } => *deadline = now + REVIEW,
            }
        }
    }
}

impl Case {
    /// True if others have been told.
    fn is_told(&self) -> bool {
        matches!(self, Self::Accused { .. } | Self::Testified { .. })
    }

    fn deadline(&self) -> Time {
        match self {
            Self::Silent { deadline, .. } | Self::Accused { deadline, .. } | Self::Testified { deadline, .. } => {
                *deadline
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ControllerId = ControllerId([1; 32]);
    const RECORD: Hash = Hash([2; 32]);

    fn at(ms: u64) -> Time {
        Time(ms * 1000)
    }

    fn detector() -> Detector {
        Detector::new(Duration::from_secs(2))
    }

    #[test]
    fn who_cannot_be_asked_for_want_of_means_is_not_accused() {
        let mut detector = detector();
        assert!(detector.silent(X, PROBE, at(0)));
        assert_eq!(detector.take_probes(), [X]);
        detector.cannot_ask(&X);
        assert_eq!((detector.due(at(10_000)), detector.missing()), (vec![], 0));
        assert!(detector.silent(X, PROBE, at(10_000)), "the next who misses it looks again");
        detector.accused(X, RECORD, at(10_000), at(10_700));
        detector.cannot_ask(&X);
        assert!(detector.misses(&X), "what was said stands until it is refuted or confirmed");
    }

    #[test]
    fn silence_is_probed_then_accused_then_testified() {
        let mut detector = detector();
        assert!(detector.silent(X, PROBE, at(0)));
        assert_eq!(detector.take_probes(), [X]);
        assert_eq!(detector.take_probes(), []);
        assert_eq!(detector.due(at(699)), []);
        assert_eq!(detector.due(at(1000)), [Verdict::Suspect(X)]);
        detector.accused(X, RECORD, at(1000), at(1000));
        assert_eq!(detector.due(at(2999)), []);
        assert_eq!(detector.due(at(3000)), [Verdict::Down(X, RECORD)]);
        detector.testified(X, RECORD, 3, at(3000));
        assert_eq!(detector.due(at(4000)), [Verdict::Review(X, RECORD, 3)]);
    }

    #[test]
    fn a_dial_under_way_is_a_probe_unless_it_is_given_up() {
        let mut detector = detector();
        assert!(detector.asked(X, PROBE, at(0)) && detector.looking() == 1);
        assert!(!detector.wants_probes());
        assert_eq!(detector.due(at(700)), [Verdict::Suspect(X)]);
        detector.not_asked(&X, at(700));
        assert_eq!(detector.due(at(700)), [Verdict::Suspect(X)], "it had its time");
        detector.life(&X, at(700));

        detector.asked(X, PROBE, at(1000));
        detector.not_asked(&X, at(1500));
        assert_eq!((detector.due(at(1700)), detector.take_probes()), (vec![], vec![X]));
        assert_eq!(detector.due(at(2200)), [Verdict::Suspect(X)]);
    }

    #[test]
    fn false_alarms_make_more_patient_for_half_a_minute() {
        let mut detector = detector();
        let due = |detector: &mut Detector, from: u64| {
            detector.silent(X, PROBE, at(from));
            let due = detector.deadline().map(|due| due.since(at(from)));
            detector.life(&X, at(from));
            due
        };
        assert_eq!(due(&mut detector, 0), Some(PROBE));
        assert_eq!(due(&mut detector, 10), Some(PROBE), "nobody was told: no alarm");
        for alarm in 1..20 {
            detector.silent(X, PROBE, at(20));
            detector.accused(X, RECORD, at(20), at(20));
            assert_eq!(detector.deadline(), Some(at(20) + detector.refute_window * alarm.min(9)));
            if alarm % 2 == 0 {
                detector.refuted(&X, at(20))
            } else {
                assert!(detector.life(&X, at(20)))
            }
            detector.life(&X, at(20));
        }
        assert_eq!(due(&mut detector, 30_019), Some(PROBE * 9), "at most eight count");
        assert_eq!(due(&mut detector, 30_020), Some(PROBE), "they are forgotten");
    }

    #[test]
    fn the_accused_has_one_window_however_many_accuse_it() {
        let mut detector = detector();
        detector.silent(X, PROBE, at(500));
        detector.evidence(X, at(900));
        detector.accused(X, RECORD, at(0), at(900));
        assert_eq!(detector.due(at(1999)), []);
        assert_eq!(detector.due(at(2000)), [Verdict::Down(X, RECORD)]);
        detector.accused(X, RECORD, at(0), at(2500));
        assert_eq!(detector.due(at(2500)), [Verdict::Down(X, RECORD)], "whoever comes late does not make it longer");
    }

    #[test]
    fn evidence_does_not_wait_for_the_probe() {
        let mut detector = detector();
        detector.silent(X, PROBE, at(0));
        detector.evidence(X, at(100));
        assert_eq!(detector.due(at(100)), [Verdict::Suspect(X)]);
    }

    #[test]
    fn life_acquits() {
        let mut detector = detector();
        detector.silent(X, PROBE, at(0));
        detector.life(&X, Time(0));
        assert_eq!(detector.deadline(), None);
    }

    #[test]
    fn a_refuted_accuser_must_meet_the_node_first() {
        let mut detector = detector();
        detector.evidence(X, at(0));
        detector.accused(X, RECORD, at(0), at(0));
        detector.refuted(&X, Time(0));
        assert!(!detector.silent(X, PROBE, at(10)));
        detector.evidence(X, at(10));
        assert_eq!(detector.deadline(), None);
        detector.life(&X, Time(0));
        assert!(detector.silent(X, PROBE, at(20)));
    }

    #[test]
    fn a_process_that_slept_starts_anew() {
        let mut detector = detector();
        detector.evidence(X, at(0));
        detector.accused(X, RECORD, at(0), at(0));
        assert_eq!(detector.due(at(60_000)), []);
        assert_eq!(detector.deadline(), Some(at(62_000)));
    }
}
