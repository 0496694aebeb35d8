//! A story with a measured end: a network starts, something happens to it, and it agrees again.

use std::time::Duration;

use super::checks::Findings;
use super::world::{Conditions, Host, World};
use crate::protocol::hash::Hash;
use crate::protocol::report::Status;
use crate::protocol::rng::Rng;
use crate::protocol::time::Time;

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// All know the first one's address, and start at once.
    pub nodes: usize,
    /// The share of nodes that vanish at one moment, once the network has agreed.
    pub crash: f64,
    /// The share of packets that are lost and come later.
    pub loss: f64,
    /// Whether the network is cut in two halves, once it has agreed, and healed, once each half has.
    pub partition: bool,
    /// How long each step may take until there is full agreement.
    pub duration: Duration,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What happened and how long it took until full agreement; `None` if it did not come.
    pub steps: Vec<(&'static str, Option<Duration>)>,
    /// Bytes sent per node until the end, headers included.
    pub bytes_per_node: u64,
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
        self.steps.iter().all(|(_, took)| took.is_some()) && false_claims.is_empty() && false_downs.is_empty()
    }
}

impl Scenario {
    /// Lets it happen.
    pub fn run(&self) -> Outcome {
        let conditions = Conditions { loss: self.loss, ..Conditions::new(self.seed) };
        let mut world = World::network(conditions, self.nodes);
        let mut steps = vec![("start", world.run_until_agreed(self.duration))];
        if self.crash > 0.0 {
            let gone = self.chosen(self.crash);
            for host in &gone {
                world.crash(*host);
            }
            let known =
                world.run_until(self.duration, |world| gone.iter().all(|host| world.all_know(*host, Status::Down)));
            let agreed = known.and_then(|known| Some(known + world.run_until_agreed(self.duration)?));
            steps.extend([("crash known", known), ("crash", agreed)]);
        }
        if self.partition {
            world.partition(&self.chosen(0.5));
            steps.push(("partition", world.run_until_agreed(self.duration)));
            world.heal();
            steps.push(("heal", world.run_until_agreed(self.duration)));
        }
        steps.push(("shown by all", world.run_until(self.duration, World::all_claim_unanimity)));
        let claims =
            |host: &Host| world.node(*host).is_some_and(|node| node.agreement(world.now_at(*host)).is_unanimous());
        Outcome {
            steps,
            bytes_per_node: world.bytes() / self.nodes.max(1) as u64,
            agreeing: (world.live().filter(claims).count(), world.live().count()),
            elapsed: world.now().since(Time::ZERO),
            state_hash: world.state_hash(),
            findings: world.findings,
        }
    }

    fn chosen(&self, share: f64) -> Vec<Host> {
        let mut rng = Rng::new(self.seed ^ 0x0c05e);
        let mut all: Vec<Host> = (0..self.nodes).map(Host).collect();
        // Somebody is left to see it.
        let wanted = ((self.nodes as f64 * share).round() as usize).min(self.nodes.saturating_sub(1));
        (0..wanted).filter_map(|_| rng.take(&mut all)).collect()
    }
}
