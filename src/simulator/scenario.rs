//! A story with measured steps: a network starts, things happen to it, and after each it settles.

use std::time::Duration;

use super::checks::Findings;
use super::measure::Settled;
use super::story::{Story, Told, tell};
use super::world::{Conditions, Sent};
use crate::protocol::hash::Hash;
use crate::protocol::time::Time;

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
    /// Nodes come and go, so many events a second, for so long; then it is measured how the network settles.
    Churn(f64, Duration),
    /// This share of all pairs hears each other in one direction only; then all hear each other again.
    OneWay(f64),
    /// Some vanish and some leave; two days pass, until nobody speaks of them any more; then everything that anybody ever
    /// signed is said again to everybody, in any order.
    Expiry,
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
    pub false_claims: u64,
    /// Times a node heard that a live, reachable one was down.
    pub false_downs: u64,
    /// Times a node held one for down from which it had never been split, both being of the larger side.
    pub own_side_downs: u64,
    /// Entries of nodes that nobody spoke of any more, which came back.
    pub resurrected: u64,
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
    /// How many of them lied.
    pub hostile: usize,
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
        let Findings { false_claims, false_downs, resurrected, .. } = &self.findings;
        // Where members lie, one of them can have anybody called down, until he hears of it and refutes it.
        let excused = self.hostile > 0 || false_downs.is_empty();
        let settled = |step: &Step| !step.must_agree || (step.settled.agreed.is_some() && step.settled.shown.is_some());
        self.steps.iter().all(settled) && false_claims.is_empty() && excused && *resurrected == 0
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
        self.run_heard(&mut |_| {})
    }

    /// The same; `listener` hears how far it is: the steps of a large network are long in coming.
    pub fn run_heard(&self, listener: &mut dyn FnMut(Told<'_>)) -> Outcome {
        let Story { world, steps } = tell(self, listener);
        Outcome {
            steps,
            sent: world.sent(),
            nodes: self.nodes,
            hostile: world.liars.len(),
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
