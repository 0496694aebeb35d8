//! The census: a question that goes through the whole network once, and answers that come home the same way.
//!
//! ```text
//!  asker ──Census──▶ head ──Census──▶ head ...      the first receipt goes on, with less time left
//!        ◀─Returns──      ◀─Returns──               itself and all that were counted through it
//!            later receipts of the same nonce: "counted", at once
//! ```
//!
//! The edges of the rings make the graph strongly connected, so that the question reaches every node. Who hears it first
//! from whom makes a tree, and each node is in the answer of one tail. A head that does not answer, or whose edge breaks, is
//! given up with all that it stood for and had not said yet: each node gives its heads less time than it has itself, and
//! says every half second what it has, so that what did come is at home in time, and does not hang on edges that may
//! break while somebody silent is waited for. No answer changes anything in any view.
//!
//! A census makes the whole network work for one node's sake. So a node takes part in [`MAX_PER_MINUTE`] new ones a minute
//! and in four at a time, whoever asks; of more it says that it refuses. This list of nonces is also what tells the first
//! receipt from the later ones. A member that floods the network with censuses gets these twelve a minute from it, and until
//! he ends others may find theirs refused: that is all the harm he does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::protocol::hash::Hash;
use crate::protocol::identity::{ControllerId, PeerId, ShortId};
use crate::protocol::open_requests::MAX_CENSUSES;
use crate::protocol::reason::Reason;
use crate::protocol::record::Verified;
use crate::protocol::testimony::{Gathered, MAX_TESTIMONIES, Mode, Nonce, Returns, Testimony};
use crate::protocol::time::Time;

/// How long an asker waits at most, and so everybody: enough for some forty hops one after the other, and ten thousand
/// nodes are six hops deep, a dozen if the quickest way is one of many hops.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// New censuses of others in which a node takes part in a minute. More serves impatient operators, fewer leaves more of
/// the network's time to itself: at ten thousand nodes each proof is some 20 MB in all.
pub const MAX_PER_MINUTE: usize = 12;
/// Those that its own users begin, kept apart: nobody can take these from them.
pub const MAX_OWN_PER_MINUTE: usize = 6;
/// How long a node keeps to itself what it has, while it waits for more: longer than a census takes where all answer, so
/// that there is one answer an edge, and shorter than edges live that are about to be replaced.
const KEPT: Duration = Duration::from_millis(500);
/// Parts that a head may say in numbers: three times what [`KEPT`] makes of [`PATIENCE`].
const MAX_PARTS: usize = 30;
/// How long a nonce is remembered: longer than the last copy of its census can be under way.
const REMEMBERED: Duration = Duration::from_secs(60);
/// What a head has less than its tail: a sixteenth, and at least this much beside the round trip.
const MARGIN: Duration = Duration::from_millis(50);

type Proof = Returns<Verified<Testimony>>;

/// All censuses that a node knows of.
#[derive(Debug, Default)]
pub struct Censuses {
    open: BTreeMap<Nonce, Census>,
    /// When they were first heard of, and whether a user of this node began them.
    known: BTreeMap<Nonce, (Time, bool)>,
    /// What was asked of whom and has no last answer yet, and how much of what has to have an end came so far.
    asked: BTreeMap<(PeerId, Nonce), Endless>,
}

/// Who wants a census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The tail of this connection.
    Tail(PeerId),
    /// A user of this node.
    User(Poll),
}

/// What a user's census is held against: the asker's view at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The driver's number for it.
    pub ticket: u64,
    /// Who should answer.
    pub live: BTreeSet<ControllerId>,
    /// The view's digest.
    pub digest: Hash,
}

/// What a node says of itself; it also says what the census is to bring.
#[derive(Clone, Debug)]
pub enum Own {
    /// To be counted.
    Digest(Hash),
    /// To be proved.
    Testimony(Verified<Testimony>),
}

/// A connection on which this node is the tail.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The connection.
    pub peer: PeerId,
    /// The node at its other end.
    pub node: ShortId,
    /// Smoothed.
    pub round_trip: Duration,
}

/// What a census may do here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is new, and from now on known.
    New,
    /// This node is counted already.
    Known,
    /// There are too many.
    Refused,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Step {
    /// Ask a head, which has so long.
    Ask(PeerId, Nonce, Mode, Duration),
    /// Answer a tail.
    Answer(PeerId, Nonce, Proof),
    /// A user's census is over.
    Done(Poll, Nonce, Gain, Duration),
    /// A head broke the protocol, or a bound.
    Close(PeerId, Reason),
}

/// What a census has brought.
#[derive(Clone, Debug)]
pub enum Gain {
    /// Numbers, and some that were silent.
    Counts(Gathered),
    /// What each signed, by id.
    Proof(Vec<Verified<Testimony>>),
}

/// What a head could go on with for ever.
#[derive(Clone, Copy, Debug, Default)]
struct Endless {
    /// Parts in numbers.
    parts: usize,
    /// Nodes that are in no view.
    strangers: usize,
}

/// One in which this node takes part and has not answered.
#[derive(Debug)]
struct Census {
    asker: Asker,
    begun: Time,
    until: Time,
    /// When it last told its tail something.
    told: Time,
    /// Heads whose last answer has not come; named until the first part of one has.
    waiting: BTreeMap<PeerId, Option<ShortId>>,
    gain: Gain,
    /// Of a proof: who is in it, and who brought it; nobody brought this node. At most a view's nodes, some 50 bytes each, for
    /// as long as the census is open.
    brought: BTreeMap<ControllerId, Option<PeerId>>,
}

impl Censuses {
    /// What is to become of a census that this node hears of now.
    pub fn admit(&mut self, nonce: Nonce, is_own: bool, now: Time) -> Admission {
        self.known.retain(|_, (since, _)| now.since(*since) < REMEMBERED);
        if self.known.contains_key(&nonce) {
            return Admission::Known;
        }
        let most = if is_own { MAX_OWN_PER_MINUTE } else { MAX_PER_MINUTE };
        let same = self.known.values().filter(|(_, own)| *own == is_own).count();
        if same >= most || self.open.len() >= MAX_CENSUSES as usize {
            return Admission::Refused;
        }
        self.known.insert(nonce, (now, is_own));
        Admission::New
    }

    /// Takes part in a census that was admitted.
    pub fn join(
        &mut self,
        nonce: Nonce,
        asker: Asker,
        patience: Duration,
        own: Own,
        heads: &[Head],
        now: Time,
    ) -> Vec<Step> {
        let patience = patience.min(PATIENCE);
        let (mode, gain, brought) = match own {
            Own::Digest(digest) => {
                let mut gathered = Gathered::default();
                gathered.add(digest, 1);
                (Mode::Count, Gain::Counts(gathered), BTreeMap::new())
            }
            Own::Testimony(own) => (Mode::Prove, Gain::Proof(vec![own.clone()]), [(own.id, None)].into()),
        };
        let mut census =
            Census { asker, begun: now, until: now + patience, told: now, waiting: BTreeMap::new(), gain, brought };
        let mut steps = Vec::new();
        for head in heads {
            let open = self.asked.range((head.peer, Nonce([0; 16]))..=(head.peer, Nonce([u8::MAX; 16]))).count();
            match rest(patience, head.round_trip) {
                // One that owes so many answers is not asked for one more: it would have to take that for a breach.
                Some(rest) if open < MAX_CENSUSES as usize => {
                    self.asked.insert((head.peer, nonce), Endless::default());
                    census.waiting.insert(head.peer, Some(head.node));
                    steps.push(Step::Ask(head.peer, nonce, mode, rest));
                }
                _ => census.gain.miss(Some(head.node)),
            }
        }
        self.open.insert(nonce, census);
        self.settle(nonce, now, &mut steps);
        steps
    }

    /// A head answered. `is_known` tells nodes that are in the view from those that anybody could have made up; at most
    /// `max_strangers` of the latter may come from one head.
    pub fn answered(
        &mut self,
        peer: PeerId,
        nonce: Nonce,
        returns: Proof,
        is_known: impl Fn(&ControllerId) -> bool,
        max_strangers: usize,
        now: Time,
    ) -> Vec<Step> {
        let Some(endless) = self.asked.get_mut(&(peer, nonce)) else {
            return vec![Step::Close(peer, Reason::Unexpected)];
        };
        let is_last = returns.is_last();
        if let Err(reason) = endless.add(&returns, &is_known, max_strangers) {
            return vec![Step::Close(peer, reason)];
        }
        if is_last {
            self.asked.remove(&(peer, nonce));
        }
        // What comes too late has been given up.
        let Some(census) = self.open.get_mut(&nonce).filter(|census| census.waiting.contains_key(&peer)) else {
            return Vec::new();
        };
        let taken = census.take(peer, returns, is_known);
        let mut steps = census.relay(nonce, now);
        if let Err(reason) = taken {
            // Its end, which follows, gives it up.
            steps.push(Step::Close(peer, reason));
            return steps;
        }
        if is_last {
            census.waiting.remove(&peer);
        } else {
            census.waiting.insert(peer, None);
        }
        self.settle(nonce, now, &mut steps);
        steps
    }

    /// A connection is over: nothing will come on it, and nobody waits at its other end.
    pub fn gone(&mut self, peer: PeerId, now: Time) -> Vec<Step> {
        self.asked.retain(|(other, _), _| *other != peer);
        self.open.retain(|_, census| census.asker != Asker::Tail(peer));
        for census in self.open.values_mut() {
            if let Some(node) = census.waiting.remove(&peer) {
                census.gain.miss(node);
            }
        }
        self.settle_all(now)
    }

    /// Gives up whoever has not answered in time, and says what has been kept for long enough.
    pub fn expire(&mut self, now: Time) -> Vec<Step> {
        for census in self.open.values_mut().filter(|census| census.until <= now) {
            for (_, node) in std::mem::take(&mut census.waiting) {
                census.gain.miss(node);
            }
        }
        let mut steps = self.settle_all(now);
        for (nonce, census) in &mut self.open {
            steps.extend(census.relay(*nonce, now));
        }
        steps
    }

    /// When [`Censuses::expire`] is wanted.
    pub fn due(&self) -> Option<Time> {
        self.open.values().map(Census::due).min()
    }

    /// What is open, what is remembered, what is asked of one head; and the most of each.
    pub fn sizes(&self) -> [(&'static str, usize, usize); 3] {
        let mut asked: BTreeMap<PeerId, usize> = BTreeMap::new();
        self.asked.keys().for_each(|(peer, _)| *asked.entry(*peer).or_default() += 1);
        let most = asked.into_values().max().unwrap_or_default();
        [
            ("censuses", self.open.len(), MAX_CENSUSES as usize),
            ("censuses: remembered", self.known.len(), MAX_PER_MINUTE + MAX_OWN_PER_MINUTE),
            ("censuses: asked of one head", most, MAX_CENSUSES as usize),
        ]
    }

    fn settle_all(&mut self, now: Time) -> Vec<Step> {
        let mut steps = Vec::new();
        let nonces: Vec<Nonce> = self.open.keys().copied().collect();
        nonces.into_iter().for_each(|nonce| self.settle(nonce, now, &mut steps));
        steps
    }

    /// Answers, once nobody is waited for.
    fn settle(&mut self, nonce: Nonce, now: Time, steps: &mut Vec<Step>) {
        if self.open.get(&nonce).is_none_or(|census| !census.waiting.is_empty()) {
            return;
        }
        let Some(Census { asker, begun, gain, .. }) = self.open.remove(&nonce) else { return };
        match (asker, gain) {
            (Asker::User(poll), gain) => steps.push(Step::Done(poll, nonce, gain, now.since(begun))),
            (Asker::Tail(tail), Gain::Counts(gathered)) => {
                steps.push(Step::Answer(tail, nonce, Returns::Counts { counts: gathered.counts(), last: true }));
            }
            (Asker::Tail(tail), Gain::Proof(testimonies)) => {
                let last = Returns::Testimonies { testimonies: testimonies.into_iter().collect(), last: true };
                steps.push(Step::Answer(tail, nonce, last));
            }
        }
    }
}

impl Census {
    /// # Errors
    /// What is no answer to this census.
    fn take(&mut self, peer: PeerId, returns: Proof, is_known: impl Fn(&ControllerId) -> bool) -> Result<(), Reason> {
        match (&mut self.gain, returns) {
            (_, Returns::Counted) => {}
            (gain, Returns::Refused) => {
                gain.miss(self.waiting.get(&peer).copied().flatten());
            }
            (Gain::Counts(gathered), Returns::Counts { counts, .. }) => gathered.take(&counts),
            (Gain::Proof(held), Returns::Testimonies { testimonies, .. }) => {
                for one in testimonies.into_vec() {
                    // Whoever is in no view is nobody's to count, and would only take the room of others.
                    if !is_known(&one.id) {
                        continue;
                    }
                    match self.brought.get(&one.id) {
                        // An honest head says of each node once that it is there.
                        Some(Some(before)) if *before == peer => return Err(Reason::Unexpected),
                        // A node that answers two tails is counted once.
                        Some(_) => {}
                        None => {
                            self.brought.insert(one.id, Some(peer));
                            held.push(one);
                        }
                    }
                }
            }
            (Gain::Counts(_), Returns::Testimonies { .. }) | (Gain::Proof(_), Returns::Counts { .. }) => {
                return Err(Reason::Unexpected);
            }
        }
        Ok(())
    }

    /// Sends on what fills a message, so that a relay holds no more than one and what comes with one more; and whatever has
    /// been kept for long enough.
    fn relay(&mut self, nonce: Nonce, now: Time) -> Vec<Step> {
        let is_due = self.has_news() && self.told + KEPT <= now;
        let Asker::Tail(tail) = self.asker else { return Vec::new() };
        let mut steps = Vec::new();
        match &mut self.gain {
            Gain::Proof(held) => {
                while held.len() > MAX_TESTIMONIES || (is_due && !held.is_empty()) {
                    let testimonies = held.drain(..held.len().min(MAX_TESTIMONIES)).collect();
                    steps.push(Step::Answer(tail, nonce, Returns::Testimonies { testimonies, last: false }));
                }
            }
            Gain::Counts(gathered) if is_due => {
                let counts = gathered.hand_over();
                steps.push(Step::Answer(tail, nonce, Returns::Counts { counts, last: false }));
            }
            Gain::Counts(_) => {}
        }
        if is_due {
            self.told = now;
        }
        steps
    }

    fn due(&self) -> Time {
        let part = self.told + KEPT;
        if self.has_news() { part.min(self.until) } else { self.until }
    }

    /// True if it has what its tail should know.
    fn has_news(&self) -> bool {
        let is_relay = matches!(self.asker, Asker::Tail(_));
        is_relay
            && match &self.gain {
                Gain::Counts(gathered) => gathered.nodes() > 0,
                Gain::Proof(held) => !held.is_empty(),
            }
    }
}

impl Endless {
    /// # Errors
    /// It has gone on for too long.
    fn add(
        &mut self,
        returns: &Proof,
        is_known: impl Fn(&ControllerId) -> bool,
        max_strangers: usize,
    ) -> Result<(), Reason> {
        match returns {
            Returns::Counts { .. } => self.parts += 1,
            Returns::Testimonies { testimonies, last } => {
                if testimonies.is_empty() && !last {
                    return Err(Reason::Unexpected);
                }
                self.strangers += testimonies.iter().filter(|one| !is_known(&one.id)).count();
            }
            Returns::Counted | Returns::Refused => {}
        }
        match self {
            Self { parts, .. } if *parts > MAX_PARTS => Err(Reason::Unexpected),
            Self { strangers, .. } if *strangers > max_strangers => Err(Reason::Overloaded),
            _ => Ok(()),
        }
    }
}

impl Gain {
    /// A proof shows by itself who is not in it.
    fn miss(&mut self, node: Option<ShortId>) {
        if let (Self::Counts(gathered), Some(node)) = (self, node) {
            gathered.add_silent(node);
        }
    }
}

/// What a head has of this node's time: all but what the answer's way needs; none if that is too little to begin.
fn rest(patience: Duration, round_trip: Duration) -> Option<Duration> {
    let share = (patience / 16).max(MARGIN + round_trip);
    patience.checked_sub(share).filter(|rest| *rest >= MARGIN)
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;
