//! A story with measured steps: a network starts, things happen to it, and after each it settles.

use std::time::Duration;

use super::checks::Findings;
use super::measure::Settled;
use super::spread::Wanted;
use super::world::{Conditions, Host, Sent, World};
use crate::protocol::hash::Hash;
use crate::protocol::node::Input;
use crate::protocol::report::Status;
use crate::protocol::rng::Rng;
use crate::protocol::time::Time;

/// Up to this size it is measured when all have heard of all: beyond it the asking costs more than the story.
const ASKED: usize = 2048;
/// So long a network is left alone before a single change is measured, and so long the change is listened to: what it costs
/// is what is sent more in this time than in as long a time before.
const LISTENING: Duration = Duration::from_secs(10);
/// How long a restarted process is away.
const AWAY: Duration = Duration::from_secs(1);

/// How many of the nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Part {
    /// So many.
    Count(usize),
    /// This share of all.
    Share(f64),
    /// All but so many.
    AllBut(usize),
}

impl Part {
    /// True if nobody is meant, however many there are.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Count(0)) || *self == Self::Share(0.0)
    }
}

/// What can happen to a network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Trouble {
    /// Nothing, for so long: what is sent all the same is measured.
    Idle(Duration),
    /// One node has something new to say of itself.
    Change,
    /// The same where there is never full agreement, since things keep happening: only until it is known to all.
    Spread,
    /// Some nodes take their leave.
    Leave(Part),
    /// Some processes are killed, lose what they knew, and are back after a second.
    Restart(Part),
    /// Some processes are killed; their systems say so.
    Kill(Part),
    /// Some hosts vanish without a word.
    Crash(Part),
    /// The network is cut in two, and healed once each side has settled.
    Partition(Part),
}

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All know the first one's address, and start at once.
    pub nodes: usize,
    /// What holds all the time.
    pub conditions: Conditions,
    /// What happens, one after the other.
    pub troubles: Vec<Trouble>,
    /// How long each step may take until there is full agreement.
    pub patience: Duration,
}

/// One thing that happened, and how the network took it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it was.
    pub name: &'static str,
    /// How long it was to have settled.
    pub settled: Settled,
    /// Whether full agreement was asked for: not while nothing happens.
    pub must_agree: bool,
    /// How long the step was.
    pub span: Duration,
    /// What all nodes together sent in it; of a single change, what they sent more than without it.
    pub sent: Sent,
    /// Nodes that lived at its end.
    pub live: usize,
    /// Claims of unanimity that were not true.
    pub false_claims: usize,
    /// Times a node heard that a live, reachable one was down.
    pub false_downs: usize,
    /// Times a node held one for down from which it had never been split.
    pub own_side_downs: u64,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened, beginning with the start.
    pub steps: Vec<Step>,
    /// What all nodes sent until the end.
    pub sent: Sent,
    /// How many nodes there were.
    pub nodes: usize,
    /// What was found on the way.
    pub findings: Findings,
    /// Nodes that claim unanimity at the end, and all that live.
    pub agreeing: (usize, usize),
    /// Virtual time at the end.
    pub elapsed: Duration,
    /// Equal for equal runs.
    pub state_hash: Hash,
}

impl Outcome {
    /// True if full agreement came after every step, all showed it, and nobody said anything false.
    pub fn is_good(&self) -> bool {
        let Findings { false_claims, false_downs, .. } = &self.findings;
        let settled = |step: &Step| !step.must_agree || (step.settled.agreed.is_some() && step.settled.shown.is_some());
        self.steps.iter().all(settled) && false_claims.is_empty() && false_downs.is_empty()
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Bytes sent per node until the end, headers included.
    pub fn bytes_per_node(&self) -> u64 {
        self.sent.bytes / self.nodes.max(1) as u64
    }
}

impl Step {
    /// Bytes sent per node, headers included.
    pub fn bytes_per_node(&self) -> u64 {
        self.sent.bytes / self.live.max(1) as u64
    }

    /// The same for packets that only acknowledge.
    pub fn acks_per_node(&self) -> u64 {
        self.sent.acks / self.live.max(1) as u64
    }
}

impl Scenario {
    /// Lets it happen.
    pub fn run(&self) -> Outcome {
        let world = World::network(self.conditions.clone(), self.nodes);
        let rng = Rng::new(self.conditions.seed ^ 0x0c05e);
        let mut story = Story { world, rng, patience: self.patience, steps: Vec::new() };
        story.start();
        for trouble in &self.troubles {
            story.suffer(*trouble);
        }
        let Story { world, steps, .. } = story;
        Outcome {
            steps,
            sent: world.sent(),
            nodes: self.nodes,
            agreeing: (
                world.live().filter(|host| world.claims_unanimity(*host).is_some()).count(),
                world.live().count(),
            ),
            elapsed: world.now().since(Time::ZERO),
            state_hash: world.state_hash(),
            findings: world.findings,
        }
    }
}

/// A scenario under way.
struct Story {
    world: World,
    rng: Rng,
    patience: Duration,
    steps: Vec<Step>,
}

/// What was counted when a step began.
struct Before {
    at: Time,
    sent: Sent,
    false_claims: usize,
    false_downs: usize,
    own_side_downs: u64,
}

impl Story {
    fn start(&mut self) {
        let before =
            Before { at: Time::ZERO, sent: Sent::default(), false_claims: 0, false_downs: 0, own_side_downs: 0 };
        let all: Vec<Host> = self.world.hosts().collect();
        if all.len() <= ASKED {
            let subjects: Vec<_> = all.iter().map(|host| (*host, Wanted::Heard)).collect();
            self.world.follow(&subjects);
        }
        self.settle("start", &before);
    }

    fn suffer(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Idle(span) => self.idle(span),
            Trouble::Change => self.change(),
            Trouble::Spread => self.spread(),
            Trouble::Leave(part) => self.lose("leave", part, Status::Left, World::leave),
            Trouble::Kill(part) => self.lose("kill", part, Status::Down, World::kill),
            Trouble::Crash(part) => self.lose("crash", part, Status::Down, World::crash),
            Trouble::Restart(part) => self.restart(part),
            Trouble::Partition(part) => self.partition(part),
        }
    }

    fn idle(&mut self, span: Duration) {
        let before = self.before();
        self.world.run_for(span);
        self.close("idle", &before, Settled::default(), false);
    }

    fn change(&mut self) {
        self.world.run_for(LISTENING);
        let quiet = self.before();
        self.world.run_for(LISTENING);
        let before = self.before();
        let usual = before.sent - quiet.sent;
        self.say_something_new();
        let settled = self.world.settle(self.patience);
        let rest = (before.at + LISTENING).since(self.world.now());
        self.world.run_for(rest);
        self.close("change", &before, settled, true);
        if let Some(step) = self.steps.last_mut() {
            // Of a change that took longer than it was listened to, all is counted that was sent.
            step.sent = if step.span == LISTENING { step.sent - usual } else { step.sent };
        }
    }

    fn spread(&mut self) {
        let before = self.before();
        self.say_something_new();
        self.world.run_until(self.patience, |world| world.reach().is_some());
        let settled = Settled { reach: self.world.reach(), ..Settled::default() };
        self.close("spread", &before, settled, false);
        self.world.run_for(LISTENING);
    }

    fn say_something_new(&mut self) {
        let Some(host) = self.chosen(Part::Count(1)).pop() else { return };
        let id = self.world.id(host);
        let entry = self.world.node(host).and_then(|node| node.view().get(&id));
        let version = entry.map_or(0, |entry| entry.record().body.version);
        self.world.follow(&[(host, Wanted::Version(version + 1))]);
        self.world.tell(host, Input::Tags([("changed".to_owned(), version.to_string())].into()));
    }

    /// Some nodes go in one way, and all others learn of it.
    fn lose(&mut self, name: &'static str, part: Part, seen: Status, go: impl Fn(&mut World, Host)) {
        let gone = self.chosen(part);
        let before = self.before();
        let subjects: Vec<_> = gone.iter().map(|host| (*host, Wanted::Status(seen))).collect();
        self.world.follow(&subjects);
        gone.iter().for_each(|host| go(&mut self.world, *host));
        self.settle(name, &before);
    }

    fn restart(&mut self, part: Part) {
        let chosen = self.chosen(part);
        chosen.iter().for_each(|host| self.world.kill(*host));
        self.world.run_for(AWAY);
        let before = self.before();
        let version = |host: &Host| self.world.now_at(*host).wall_ms;
        let subjects: Vec<_> = chosen.iter().map(|host| (*host, Wanted::Version(version(host)))).collect();
        self.world.follow(&subjects);
        for host in chosen {
            self.world.lose_memory(host);
            self.world.start(host);
        }
        self.settle("restart", &before);
    }

    fn partition(&mut self, part: Part) {
        let aside = self.chosen(part);
        let before = self.before();
        self.world.partition(&aside);
        self.settle("partition", &before);
        let before = self.before();
        self.world.heal();
        self.settle("heal", &before);
    }

    fn before(&mut self) -> Before {
        self.world.unfollow();
        let findings = &self.world.findings;
        Before {
            at: self.world.now(),
            sent: self.world.sent(),
            false_claims: findings.false_claims.len(),
            false_downs: findings.false_downs.len(),
            own_side_downs: findings.own_side_downs,
        }
    }

    fn settle(&mut self, name: &'static str, before: &Before) {
        let settled = self.world.settle(self.patience);
        self.close(name, before, settled, true);
    }

    fn close(&mut self, name: &'static str, before: &Before, settled: Settled, must_agree: bool) {
        let findings = &self.world.findings;
        self.steps.push(Step {
            name,
            settled,
            must_agree,
            span: self.world.now().since(before.at),
            sent: self.world.sent() - before.sent,
            live: self.world.live().count(),
            false_claims: findings.false_claims.len() - before.false_claims,
            false_downs: findings.false_downs.len() - before.false_downs,
            own_side_downs: findings.own_side_downs - before.own_side_downs,
        });
    }

    /// Live nodes by lot; somebody is left to see it.
    fn chosen(&mut self, part: Part) -> Vec<Host> {
        let mut live: Vec<Host> = self.world.live().collect();
        let wanted = match part {
            Part::Count(count) => count,
            Part::Share(share) => (live.len() as f64 * share).round() as usize,
            Part::AllBut(left) => live.len().saturating_sub(left),
        };
        let wanted = wanted.min(live.len().saturating_sub(1));
        (0..wanted).filter_map(|_| self.rng.take(&mut live)).collect()
    }
}
