//! Whole networks of censuses without anything else: edges, and messages that take whatever time they like.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::protocol::record::{NetworkId, Signature, Signer};
use crate::protocol::rng::Rng;
use crate::protocol::testimony::{Counts, Holders, TestimonyBody};

const NONCE: Nonce = Nonce([7; 16]);
const NONE: Duration = Duration::ZERO;

fn id(number: usize) -> ControllerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    ControllerId(bytes)
}

fn at(ms: u64) -> Time {
    Time(ms * 1000)
}

/// A third of the nodes hold another digest than the rest.
fn digest(number: usize) -> Hash {
    Hash([u8::from(number % 3 == 2); 32])
}

struct Nobody(ControllerId);

impl Signer for Nobody {
    fn id(&self) -> ControllerId {
        self.0
    }
    fn sign(&self, _: &[u8]) -> Signature {
        Signature(self.0.0, [0; 32])
    }
}

fn testimony(number: usize) -> Verified<Testimony> {
    let body =
        TestimonyBody { network: NetworkId([1; 8]), nonce: NONCE, id: id(number), digest: digest(number), live: 1 };
    Testimony::signed(body, &Nobody(id(number)))
}

fn own(number: usize, mode: Mode) -> Own {
    match mode {
        Mode::Count => Own::Digest(digest(number)),
        Mode::Prove => Own::Testimony(testimony(number)),
    }
}

fn proof(numbers: impl IntoIterator<Item = usize>, last: bool) -> Proof {
    Returns::Testimonies { testimonies: numbers.into_iter().map(testimony).collect(), last }
}

fn numbers(last: bool) -> Proof {
    Returns::Counts { counts: Counts::default(), last }
}

fn poll() -> Asker {
    Asker::User(Poll { ticket: 1, live: BTreeSet::new(), digest: digest(0) })
}

fn head(number: u64) -> Head {
    Head { peer: PeerId(number), node: id(number as usize).short(), round_trip: NONE }
}

enum Said {
    Asks(Mode, Duration),
    Answers(Proof),
}

/// Nodes that count; an edge's number is its peer at both ends.
struct Network {
    rng: Rng,
    nodes: Vec<Option<Censuses>>,
    edges: Vec<(usize, usize)>,
    /// In order on each edge, by edge and whether it goes to the head.
    lines: BTreeMap<(u64, bool), VecDeque<Said>>,
    outcome: Option<Gain>,
    longest: usize,
    answers: usize,
}

impl Network {
    /// A ring through all, so that everybody can be reached, and random edges.
    fn new(nodes: usize, degree: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut edges: BTreeSet<(usize, usize)> = (0..nodes).map(|node| (node, (node + 1) % nodes)).collect();
        for node in 0..nodes {
            edges.extend((1..degree).map(|_| (node, rng.below(nodes))));
        }
        edges.retain(|(tail, head)| tail != head);
        Self {
            rng,
            nodes: (0..nodes).map(|_| Some(Censuses::default())).collect(),
            edges: edges.into_iter().collect(),
            lines: BTreeMap::new(),
            outcome: None,
            longest: 0,
            answers: 0,
        }
    }

    fn ask(&mut self, node: usize, asker: Asker, mode: Mode, patience: Duration, now: Time) {
        let tail = match asker {
            Asker::Tail(peer) => Some(self.edges[peer.0 as usize].0),
            Asker::User(_) => None,
        };
        let out = (0..).zip(&self.edges).filter(|(_, (from, to))| *from == node && Some(*to) != tail);
        let heads = out.map(|(edge, (_, to))| Head { peer: PeerId(edge), node: id(*to).short(), round_trip: NONE });
        let heads: Vec<Head> = heads.collect();
        let Some(censuses) = &mut self.nodes[node] else { return };
        let steps = match censuses.admit(NONCE, tail.is_none(), now) {
            Admission::New => censuses.join(NONCE, asker, patience, own(node, mode), &heads, now),
            Admission::Known => {
                let Asker::Tail(peer) = asker else { panic!("asked twice") };
                vec![Step::Answer(peer, NONCE, Returns::Counted)]
            }
            Admission::Refused => panic!("one census is not too many"),
        };
        self.take(steps);
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Ask(peer, _, mode, patience) => self.line(peer, true).push_back(Said::Asks(mode, patience)),
                Step::Answer(peer, _, returns) => {
                    if let Returns::Testimonies { testimonies, .. } = &returns {
                        self.longest = self.longest.max(testimonies.len());
                    }
                    self.answers += 1;
                    self.line(peer, false).push_back(Said::Answers(returns));
                }
                Step::Done(_, _, gain, _) => assert!(self.outcome.replace(gain).is_none(), "over twice"),
                Step::Close(peer, reason) => panic!("{peer} is closed: {reason}"),
            }
        }
    }

    fn line(&mut self, peer: PeerId, to_head: bool) -> &mut VecDeque<Said> {
        self.lines.entry((peer.0, to_head)).or_default()
    }

    /// Delivers one message of any line; false if there is none.
    fn deliver(&mut self, now: Time) -> bool {
        self.lines.retain(|_, line| !line.is_empty());
        if self.lines.is_empty() {
            return false;
        }
        let chosen = self.rng.below(self.lines.len());
        let Some((&(edge, to_head), line)) = self.lines.iter_mut().nth(chosen) else { return false };
        let said = line.pop_front();
        let (tail, head) = self.edges[edge as usize];
        match said {
            Some(Said::Asks(mode, patience)) => self.ask(head, Asker::Tail(PeerId(edge)), mode, patience, now),
            Some(Said::Answers(returns)) => {
                let everybody = self.nodes.len();
                let Some(censuses) = &mut self.nodes[tail] else { return true };
                let known = |one: &ControllerId| (0..everybody).any(|number| id(number) == *one);
                let steps = censuses.answered(PeerId(edge), NONCE, returns, known, 0, now);
                self.take(steps);
            }
            None => unreachable!("{to_head}"),
        }
        true
    }

    /// Until the first node's user has his answer.
    fn run(&mut self, mode: Mode, mut trouble: impl FnMut(&mut Self, usize)) -> Gain {
        let mut now = at(1);
        self.ask(0, poll(), mode, PATIENCE, now);
        for turn in 0.. {
            trouble(self, turn);
            if self.deliver(now) {
                continue;
            }
            let Some(due) = self.nodes.iter().flatten().filter_map(Censuses::due).min() else { break };
            now = due;
            for node in 0..self.nodes.len() {
                let steps = self.nodes[node].as_mut().map(|censuses| censuses.expire(now)).unwrap_or_default();
                self.take(steps);
            }
        }
        assert!(now <= at(1) + PATIENCE, "{now:?}");
        self.outcome.take().expect("it ends")
    }

    /// It vanishes: nothing comes from it any more, and nobody is told.
    fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
    }
}

fn ids(gain: Gain) -> Vec<ControllerId> {
    match gain {
        Gain::Proof(held) => held.iter().map(|one| one.id).collect(),
        Gain::Counts(gathered) => panic!("{gathered:?} is no proof"),
    }
}

proptest! {
    #[test]
    fn in_any_order_everybody_is_counted_once(nodes in 1usize..300, degree in 2usize..9, seed: u64) {
        let Gain::Counts(gathered) = Network::new(nodes, degree, seed).run(Mode::Count, |_, _| ()) else { panic!() };
        let others = (0..nodes).filter(|node| digest(*node) != digest(0)).count() as u32;
        let mut expected = vec![Holders(digest(0), nodes as u32 - others)];
        expected.extend((others > 0).then_some(Holders(digest(2), others)));
        prop_assert_eq!((gathered.by_number(), gathered.silent().len()), (expected, 0));
    }

    #[test]
    fn in_any_order_everybody_is_proved_once(nodes in 1usize..300, degree in 2usize..9, seed: u64) {
        let mut network = Network::new(nodes, degree, seed);
        let mut found = ids(network.run(Mode::Prove, |_, _| ()));
        found.sort();
        let mut all: Vec<_> = (0..nodes).map(id).collect();
        all.sort();
        prop_assert_eq!(found, all);
        prop_assert!(network.longest <= MAX_TESTIMONIES);
        // An answer for each question, and some more where one is too long.
        prop_assert!(network.answers <= network.edges.len() + nodes * (1 + nodes / MAX_TESTIMONIES));
    }

    #[test]
    fn whoever_vanishes_is_waited_for_in_vain_and_nobody_is_counted_twice(
        nodes in 2usize..60,
        degree in 1usize..9,
        seed: u64,
        crashes in prop::collection::vec((0usize..200, 1usize..60), 1..6),
        mode in prop::sample::select(vec![Mode::Count, Mode::Prove]),
    ) {
        let mut network = Network::new(nodes, degree, seed);
        let gain = network.run(mode, |network, turn| {
            for (when, node) in &crashes {
                if *when == turn && *node < nodes {
                    network.crash(*node);
                }
            }
        });
        let counted = match gain {
            Gain::Counts(gathered) => gathered.nodes() as usize,
            gain => {
                let found = ids(gain);
                prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
                found.len()
            }
        };
        prop_assert!((1..=nodes).contains(&counted));
        prop_assert!(network.nodes.iter().flatten().all(|censuses| censuses.open.is_empty()), "nothing is left over");
    }
}

/// A node of which one head was asked, on edge 1, in that mode.
fn asked(mode: Mode) -> Censuses {
    let mut censuses = Censuses::default();
    assert_eq!(censuses.admit(NONCE, true, at(1)), Admission::New);
    let steps = censuses.join(NONCE, poll(), PATIENCE, own(0, mode), &[head(1)], at(1));
    assert!(matches!(steps[..], [Step::Ask(PeerId(1), ..)]), "{steps:?}");
    censuses
}

fn answer(censuses: &mut Censuses, returns: Proof) -> Vec<Step> {
    answer_at(censuses, returns, at(2))
}

fn answer_at(censuses: &mut Censuses, returns: Proof, now: Time) -> Vec<Step> {
    let is_known = |one: &ControllerId| (0..100).any(|number| id(number) == *one);
    censuses.answered(PeerId(1), NONCE, returns, is_known, 10, now)
}

#[track_caller]
fn closed(steps: &[Step], reason: Reason) {
    assert!(matches!(steps, [Step::Close(PeerId(1), told)] if *told == reason), "{steps:?}");
}

#[test]
fn what_nobody_asked_for_is_a_breach() {
    let mut censuses = asked(Mode::Prove);
    let strange = censuses.answered(PeerId(2), NONCE, Returns::Counted, |_| true, 10, at(2));
    assert!(matches!(strange[..], [Step::Close(PeerId(2), Reason::Unexpected)]));
    closed(&censuses.answered(PeerId(1), Nonce([8; 16]), Returns::Counted, |_| true, 10, at(2)), Reason::Unexpected);
    closed(&answer(&mut censuses, numbers(true)), Reason::Unexpected);
    closed(&answer(&mut asked(Mode::Count), proof([1], true)), Reason::Unexpected);

    let mut censuses = asked(Mode::Prove);
    assert!(matches!(answer(&mut censuses, proof([1], true))[..], [Step::Done(..)]));
    closed(&answer(&mut censuses, proof([2], true)), Reason::Unexpected);
}

#[test]
fn parts_without_end_find_one() {
    closed(&answer(&mut asked(Mode::Prove), proof([], false)), Reason::Unexpected);
    let mut censuses = asked(Mode::Prove);
    assert!(answer(&mut censuses, proof([1, 2], false)).is_empty());
    closed(&answer(&mut censuses, proof([2], false)), Reason::Unexpected);
    // Members that he made up take the room of nobody, and have an end.
    let mut censuses = asked(Mode::Prove);
    assert!(answer(&mut censuses, proof(100..110, false)).is_empty());
    closed(&answer(&mut censuses, proof(110..111, false)), Reason::Overloaded);
    let steps = censuses.gone(PeerId(1), at(3));
    assert!(matches!(&steps[..], [Step::Done(_, _, Gain::Proof(held), _)] if held.len() == 1), "{steps:?}");
    assert!(censuses.asked.is_empty());
    // So have numbers.
    let mut censuses = asked(Mode::Count);
    (0..MAX_PARTS).for_each(|_| assert!(answer(&mut censuses, numbers(false)).is_empty()));
    closed(&answer(&mut censuses, numbers(true)), Reason::Unexpected);
    // Also when the census is over.
    let mut censuses = asked(Mode::Prove);
    assert_eq!(censuses.expire(at(1) + PATIENCE).len(), 1);
    assert!(answer(&mut censuses, proof(100..110, false)).is_empty());
    closed(&answer(&mut censuses, proof(110..111, false)), Reason::Overloaded);
}

#[test]
fn what_two_heads_say_of_one_node_counts_once() {
    let mut censuses = Censuses::default();
    censuses.admit(NONCE, true, at(1));
    censuses.join(NONCE, poll(), PATIENCE, own(0, Mode::Prove), &[head(1), head(2)], at(1));
    assert!(answer(&mut censuses, proof([0, 1, 5], true)).is_empty());
    let steps = censuses.answered(PeerId(2), NONCE, proof([5, 2, 1], true), |_| true, 0, at(2));
    let [Step::Done(_, NONCE, gain, took)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(ids(gain.clone()), [0, 1, 5, 2].map(id));
    assert_eq!(*took, Duration::from_millis(1));
}

#[test]
fn the_silent_the_broken_and_the_refusing_are_named() {
    let mut censuses = Censuses::default();
    censuses.admit(NONCE, true, at(1));
    let heads = [1, 2, 3, 4].map(head);
    censuses.join(NONCE, poll(), PATIENCE, own(0, Mode::Count), &heads, at(1));
    assert!(answer(&mut censuses, Returns::Refused).is_empty());
    assert!(censuses.gone(PeerId(2), at(2)).is_empty());
    assert!(censuses.answered(PeerId(3), NONCE, Returns::Counted, |_| true, 0, at(2)).is_empty());
    assert!(censuses.expire(at(2)).is_empty());
    let steps = censuses.expire(at(1) + PATIENCE);
    let [Step::Done(_, _, Gain::Counts(gathered), PATIENCE)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((gathered.nodes(), gathered.silent()), (1, &[1, 2, 4].map(|node| id(node).short())[..]));
    assert!(censuses.due().is_none());
    // Too late.
    assert!(censuses.answered(PeerId(4), NONCE, numbers(true), |_| true, 0, at(9)).is_empty());
}

/// What has come home is at home, whatever befalls the edges while a silent node is waited for.
#[test]
fn what_is_known_is_said_every_half_second() {
    for mode in [Mode::Count, Mode::Prove] {
        let mut censuses = Censuses::default();
        censuses.admit(NONCE, false, at(0));
        let heads = [head(1), head(2)];
        let steps = censuses.join(NONCE, Asker::Tail(PeerId(9)), PATIENCE, own(0, mode), &heads, at(0));
        assert_eq!(steps.len(), 2, "it asks, and has time to wait");
        let said = |steps: &[Step]| match steps {
            [Step::Answer(PeerId(9), NONCE, Returns::Testimonies { testimonies, last })] => (testimonies.len(), *last),
            [Step::Answer(PeerId(9), NONCE, Returns::Counts { counts, last })] => {
                (counts.digests.iter().map(|Holders(_, nodes)| *nodes as usize).sum(), *last)
            }
            other => panic!("{other:?}"),
        };
        let counts = Counts { digests: [Holders(digest(1), 2)].into_iter().collect(), ..Counts::default() };
        let two = match mode {
            Mode::Count => Returns::Counts { counts, last: false },
            Mode::Prove => proof([1, 3], false),
        };
        assert_eq!(censuses.due(), Some(at(500)));
        assert_eq!(said(&censuses.expire(at(500))), (1, false), "itself");
        assert_eq!((censuses.due(), censuses.expire(at(1000)).len()), (Some(at(0) + PATIENCE), 0), "nothing new");
        assert_eq!(said(&answer_at(&mut censuses, two, at(1100))), (2, false), "at once, after so long");
        assert_eq!(said(&censuses.expire(at(0) + PATIENCE)), (0, true));
    }
}

#[test]
fn each_hop_has_less_time_and_the_last_does_not_ask() {
    assert_eq!(rest(PATIENCE, NONE), Some(PATIENCE * 15 / 16));
    assert_eq!(rest(Duration::from_secs(1), Duration::from_millis(200)), Some(Duration::from_millis(750)));
    assert_eq!(rest(MARGIN * 2, NONE), Some(MARGIN));
    assert_eq!(rest(MARGIN, NONE), None);
    let mut censuses = Censuses::default();
    censuses.admit(NONCE, false, at(1));
    let steps = censuses.join(NONCE, Asker::Tail(PeerId(9)), NONE, own(0, Mode::Count), &[head(1)], at(1));
    let [Step::Answer(PeerId(9), NONCE, Returns::Counts { counts, last: true })] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!((counts.digests.len(), &counts.silent[..]), (1, &[id(1).short()][..]));
    // Nobody makes a node wait longer than a user of it would.
    censuses.admit(Nonce([8; 16]), false, at(1));
    let long = Duration::from_secs(1 << 30);
    censuses.join(Nonce([8; 16]), Asker::Tail(PeerId(9)), long, own(0, Mode::Count), &[head(1)], at(1));
    assert!(matches!(censuses.expire(at(501))[..], [Step::Answer(..)]), "a part");
    assert_eq!(censuses.due(), Some(at(1) + PATIENCE));
}

#[test]
fn so_many_at_a_time_and_so_many_a_minute() {
    let nonce = |number: usize| Nonce([number as u8; 16]);
    let mut censuses = Censuses::default();
    let admit = |censuses: &mut Censuses, number, now| censuses.admit(nonce(number), number >= 100, at(now));
    for number in 0..MAX_PER_MINUTE {
        assert_eq!(admit(&mut censuses, number, 1000), Admission::New);
        assert_eq!(admit(&mut censuses, number, 1000), Admission::Known);
    }
    assert_eq!(admit(&mut censuses, 50, 2000), Admission::Refused);
    // The users' own are theirs.
    for number in 0..MAX_OWN_PER_MINUTE {
        assert_eq!(admit(&mut censuses, 100 + number, 2000), Admission::New);
    }
    assert_eq!(admit(&mut censuses, 150, 2000), Admission::Refused);
    assert_eq!(admit(&mut censuses, 50, 60_999), Admission::Refused);
    assert_eq!(admit(&mut censuses, 50, 61_000), Admission::New);
    for number in 1..MAX_CENSUSES as usize + 1 {
        let heads = [head(1)];
        censuses.join(nonce(number), poll(), PATIENCE, own(0, Mode::Count), &heads, at(61_000));
    }
    assert_eq!(admit(&mut censuses, 51, 61_000), Admission::Refused);
    let sizes = censuses.sizes();
    assert!(sizes.iter().all(|(_, held, most)| held <= most), "{sizes:?}");
    // A head that owes four answers is not asked for a fifth.
    assert_eq!(censuses.expire(at(70_000)).len(), MAX_CENSUSES as usize);
    let steps = censuses.join(nonce(51), poll(), PATIENCE, own(0, Mode::Count), &[head(1)], at(70_000));
    assert!(matches!(&steps[..], [Step::Done(_, _, Gain::Counts(gathered), _)] if gathered.silent().len() == 1));
}

#[test]
fn a_tail_that_is_gone_is_not_answered() {
    let mut censuses = Censuses::default();
    censuses.admit(NONCE, false, at(1));
    censuses.join(NONCE, Asker::Tail(PeerId(9)), PATIENCE, own(0, Mode::Prove), &[head(1)], at(1));
    assert!(censuses.gone(PeerId(9), at(2)).is_empty() && censuses.due().is_none());
    assert!(answer(&mut censuses, proof([1], true)).is_empty());
    assert_eq!(censuses.admit(NONCE, false, at(3)), Admission::Known);
}
