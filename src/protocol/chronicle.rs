//! What happened to whom, as this node saw it: dials, silence, accusations, statuses and what caused them. It is what
//! `kithd why` tells, and it decides nothing.
//!
//! A node that nobody looks at must not pay for being explained, and a network that changes all at once must not grow this
//! without bound. So there are at most [`MAX_EVENTS`] events in all and 32 of one subject; what happens again in the same way
//! is counted and not repeated; and where there is no room the oldest event of whoever has the most goes. In a mass change
//! each node therefore keeps its newest event for as long as there are no more nodes than events.
//!
//! An event takes 56 bytes and its subject about 220 beside: 4,096 events of as many subjects are a little more than a
//! mebibyte, as many of a hundred nodes 300 KiB. Since when each node has had its status is kept apart, in some 40 bytes a
//! node. To note an event takes about a microsecond, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::address::HostPort;
use super::identity::{ControllerId, ShortId};
use super::message::Purpose;
use super::reason::Reason;
use super::report::Status;
use super::time::{Now, Time};

/// Events of all subjects together, unless a driver wants fewer.
pub const MAX_EVENTS: usize = 4096;
/// Events of one subject: an outage from its first missed heartbeat to its end is about ten.
const MAX_OF_ONE: usize = 32;
/// So many of the last events are looked at for one that happens again.
const REPEATED: usize = 6;
/// Observers of one event: a down certificate has so many.
const MAX_BY: usize = 3;

/// Whom something happened to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A node, wherever it is.
    Node(ControllerId),
    /// An address of which no node is known.
    Place(HostPort),
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It has had this status from then on.
    Status(Status),
    /// This node missed it, and looked for it.
    Missed,
    /// An observer's word that was not enough yet.
    Witnessed,
    /// It has a new incarnation.
    Restarted,
    /// It has another address.
    Moved,
    /// It has another label.
    Renamed,
    /// It has other tags.
    Tagged,
    /// This node has an edge to it.
    Dialled,
    /// It has an edge to this node.
    Accepted,
    /// An edge ended.
    Closed,
    /// A dial to it came to nothing.
    DialFailed,
    /// A look found it.
    ProbeAnswered,
    /// A look did not.
    ProbeFailed,
    /// It was not let in.
    Refused,
    /// The user keeps it out.
    Banned,
    /// And no more.
    Unbanned,
    /// A member had it dropped everywhere.
    Forgotten,
    /// It was dropped because it has been gone for as long as the network remembers.
    Dropped,
}

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Of an edge: what it is for.
    Purpose(Purpose),
    /// Of an end or a refusal.
    Reason(Reason),
    /// It was heard of for the first time.
    FirstRecord,
    /// It did not answer an observer.
    Silence,
    /// Enough observers agree that it does not answer.
    Witnesses,
    /// It spoke up: a greater record of the same run.
    Refutation,
    /// Another run of its process.
    Restart,
    /// It said so itself.
    Leave,
    /// A user said so.
    User,
}

/// Something that happened, perhaps several times in the same way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it happened first, by both clocks.
    pub at: Now,
    /// When it happened last.
    pub last: Time,
    /// How often.
    pub times: u32,
    /// What.
    pub what: What,
    /// Why, if there is more to say.
    pub cause: Option<Cause>,
    by: [ShortId; MAX_BY],
    by_count: u8,
}

impl Event {
    /// Who said so; nobody if this node saw it itself.
    pub fn by(&self) -> &[ShortId] {
        &self.by[..usize::from(self.by_count)]
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.what, self.cause, self.by()) == (other.what, other.cause, other.by())
    }
}

/// All that is remembered. Without room for any event it remembers nothing at all, not even statuses: for a simulation of
/// many nodes, where nobody asks.
#[derive(Debug)]
pub struct Chronicle {
    max: usize,
    count: usize,
    lives: BTreeMap<Subject, Life>,
    /// Who goes first where there is no room: the most events, and then the longest without news.
    order: BTreeSet<(usize, Reverse<Time>, Subject)>,
    statuses: BTreeMap<ShortId, Now>,
}

/// Events of one subject, and when the last of them happened, first or again.
#[derive(Debug)]
struct Life {
    events: VecDeque<Event>,
    last: Time,
}

impl Chronicle {
    /// Empty, for so many events.
    pub fn new(max: usize) -> Self {
        Self { max, count: 0, lives: BTreeMap::new(), order: BTreeSet::new(), statuses: BTreeMap::new() }
    }

    /// True if anything is remembered: what only this needs, need not be found out otherwise.
    pub fn is_kept(&self) -> bool {
        self.max > 0
    }

    /// Something happened. Of the observers three are kept.
    pub fn note(&mut self, now: Now, subject: Subject, what: What, cause: Option<Cause>, by: &[ShortId]) {
        if !self.is_kept() {
            return;
        }
        if let (Subject::Node(id), What::Status(_)) = (&subject, what) {
            self.statuses.insert(id.short(), now);
        }
        let mut kept = [ShortId([0; 8]); MAX_BY];
        let by_count = by.len().min(MAX_BY);
        kept[..by_count].copy_from_slice(&by[..by_count]);
        // At most 3.
        let event = Event { at: now, last: now.mono, times: 1, what, cause, by: kept, by_count: by_count as u8 };
        // Room for one: in a mass change most have no more, and a collection left to itself begins with four.
        let first = || Life { events: VecDeque::with_capacity(1), last: Time::ZERO };
        let life = self.lives.entry(subject.clone()).or_insert_with(first);
        self.order.remove(&(life.events.len(), Reverse(life.last), subject.clone()));
        if !counted(&mut life.events, &event) {
            if life.events.len() == MAX_OF_ONE {
                life.events.pop_front();
                self.count -= 1;
            }
            // One at a time: most have two, and would have room for four.
            life.events.reserve_exact(1);
            life.events.push_back(event);
            self.count += 1;
        }
        life.last = now.mono;
        self.order.insert((life.events.len(), Reverse(life.last), subject));
        while self.count > self.max {
            self.part_with_one();
        }
    }

    /// What happened to it, oldest first.
    pub fn of(&self, subject: &Subject) -> impl Iterator<Item = &Event> {
        self.lives.get(subject).into_iter().flat_map(|life| &life.events)
    }

    /// The nodes of which anything is remembered.
    pub fn nodes(&self) -> impl Iterator<Item = ControllerId> {
        self.lives.keys().filter_map(|subject| match subject {
            Subject::Node(id) => Some(*id),
            Subject::Place(_) => None,
        })
    }

    /// Since when a node has had its status, by both clocks.
    pub fn status_since(&self, id: &ControllerId) -> Option<Now> {
        self.statuses.get(&id.short()).copied()
    }

    /// A node has no status any more.
    pub fn gone(&mut self, id: &ControllerId) {
        self.statuses.remove(&id.short());
    }

    /// How many events and statuses are remembered.
    pub fn size(&self) -> (usize, usize) {
        (self.count, self.statuses.len())
    }

    fn part_with_one(&mut self) {
        let Some((length, last, subject)) = self.order.pop_last() else { return };
        let Some(life) = self.lives.get_mut(&subject) else { return };
        life.events.pop_front();
        self.count -= 1;
        if life.events.is_empty() {
            self.lives.remove(&subject);
        } else {
            self.order.insert((length - 1, last, subject));
        }
    }
}

/// Counts the event with one like it since the last change of status, if there is one lately.
fn counted(held: &mut VecDeque<Event>, event: &Event) -> bool {
    let lately = held.iter_mut().rev().take(REPEATED).take_while(|held| !matches!(held.what, What::Status(_)));
    match lately.into_iter().find(|held| held.is_like(event)) {
        Some(held) => {
            held.times = held.times.saturating_add(1);
            held.last = event.last;
            true
        }
        None => false,
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status(status) => status.name(),
            Self::Missed => "missed",
            Self::Witnessed => "witnessed",
            Self::Restarted => "restarted",
            Self::Moved => "moved",
            Self::Renamed => "renamed",
            Self::Tagged => "tagged",
            Self::Dialled => "dialled",
            Self::Accepted => "accepted",
            Self::Closed => "closed",
            Self::DialFailed => "dial-failed",
            Self::ProbeAnswered => "probe-answered",
            Self::ProbeFailed => "probe-failed",
            Self::Refused => "refused",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
            Self::Forgotten => "forgotten",
            Self::Dropped => "dropped",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Purpose(Purpose::Overlay) => "overlay",
            Self::Purpose(Purpose::Ring) => "ring",
            Self::Purpose(Purpose::Probe) => "probe",
            Self::Purpose(Purpose::Application) => "application",
            Self::Reason(reason) => return reason.fmt(f),
            Self::FirstRecord => "first-record",
            Self::Silence => "silence",
            Self::Witnesses => "witnesses",
            Self::Refutation => "refutation",
            Self::Restart => "restart",
            Self::Leave => "leave",
            Self::User => "user",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Time(seconds * 1_000_000), wall_ms: 1_800_000_000_000 + seconds * 1000 }
    }

    fn node(number: u16) -> Subject {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Subject::Node(ControllerId(id))
    }

    /// More than are looked back at for one that happens again.
    const REASONS: [Reason; 8] = [
        Reason::Reset,
        Reason::Busy,
        Reason::Banned,
        Reason::Local,
        Reason::Remote,
        Reason::Surplus,
        Reason::Replaced,
        Reason::Leaving,
    ];

    fn refused() -> Option<Cause> {
        Some(Cause::Reason(Reason::ConnectionRefused))
    }

    #[test]
    fn what_happens_again_is_counted_until_the_status_changes() {
        let mut chronicle = Chronicle::new(8);
        for second in [1, 2, 4] {
            chronicle.note(at(second), node(1), What::DialFailed, refused(), &[]);
            chronicle.note(at(second), node(1), What::ProbeFailed, refused(), &[]);
        }
        chronicle.note(at(5), node(1), What::Status(Status::Down), Some(Cause::Witnesses), &[ShortId([7; 8])]);
        chronicle.note(at(6), node(1), What::DialFailed, refused(), &[]);
        let told: Vec<_> = chronicle
            .of(&node(1))
            .map(|event| (event.what, event.times, event.at.mono.0 / 1_000_000, event.last.0 / 1_000_000))
            .collect();
        let down = What::Status(Status::Down);
        let expected =
            [(What::DialFailed, 3, 1, 4), (What::ProbeFailed, 3, 1, 4), (down, 1, 5, 5), (What::DialFailed, 1, 6, 6)];
        assert_eq!(told, expected);
        assert_eq!(chronicle.of(&node(1)).nth(2).map(Event::by), Some(&[ShortId([7; 8])][..]));
        let Subject::Node(id) = node(1) else { unreachable!() };
        assert_eq!(chronicle.status_since(&id), Some(at(5)));
    }

    #[test]
    fn in_a_mass_change_each_keeps_its_newest() {
        let mut chronicle = Chronicle::new(64);
        for second in 0..20 {
            let what = if second % 2 == 0 { What::Dialled } else { What::Closed };
            chronicle.note(at(second), node(0), what, Some(Cause::Reason(REASONS[second as usize % 8])), &[]);
        }
        for number in 1..64 {
            chronicle.note(at(100), node(number), What::Status(Status::Up), None, &[]);
            chronicle.note(at(101), node(number), What::Status(Status::Down), None, &[]);
        }
        for number in 1..64 {
            let newest = chronicle.of(&node(number)).last().map(|event| event.what);
            assert_eq!(newest, Some(What::Status(Status::Down)), "{number}");
        }
        assert_eq!(chronicle.of(&node(0)).count(), 1);
        chronicle.note(at(102), node(99), What::Missed, None, &[]);
        assert_eq!(chronicle.of(&node(0)).count(), 0, "the oldest of all goes when there is one of each");
        assert_eq!(chronicle.size(), (64, 63));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut chronicle = Chronicle::new(0);
        chronicle.note(at(1), node(1), What::Status(Status::Up), None, &[]);
        assert_eq!((chronicle.size(), chronicle.of(&node(1)).count()), ((0, 0), 0));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_counts_are_true(happened in proptest::collection::vec((0u16..40, 0usize..8), 0..600), max in 1usize..50) {
            let mut chronicle = Chronicle::new(max);
            for (second, (number, reason)) in happened.iter().enumerate() {
                let cause = Some(Cause::Reason(REASONS[*reason]));
                chronicle.note(at(second as u64), node(*number), What::Closed, cause, &[]);
                let held: usize = chronicle.lives.values().map(|life| life.events.len()).sum();
                prop_assert_eq!(held, chronicle.count);
                prop_assert!(held <= max && chronicle.lives.values().all(|life| (1..=MAX_OF_ONE).contains(&life.events.len())));
                prop_assert_eq!(chronicle.order.len(), chronicle.lives.len());
                prop_assert!(chronicle.of(&node(*number)).count() > 0, "what was just noted is there");
            }
        }
    }
}
