//! The truth, which only the simulator knows, and what the nodes say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{Host, World};
use crate::protocol::hash::{Hash, hash_parts};
use crate::protocol::identity::{ControllerId, ShortId};
use crate::protocol::message::Purpose;
use crate::protocol::node::{Node, Notice, Phase};
use crate::protocol::record::WitnessBody;
use crate::protocol::report::{Direction, Status};
use crate::protocol::time::Time;
use crate::protocol::view::Standing;

/// What was found while the world ran.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Claims of unanimity that were compared with the truth.
    pub claims: u64,
    /// Those that did not hold.
    pub false_claims: Vec<String>,
    /// Times a node heard that a live, reachable one was down.
    pub false_downs: Vec<String>,
    /// Accusations of live, reachable nodes, by whom and of whom: each may be refuted, and then does no harm.
    pub false_accusations: BTreeMap<(Host, Host), u64>,
    seen: BTreeSet<(ControllerId, ShortId, [u8; 8])>,
}

impl World {
    /// A host's node, if it runs and is not stopped.
    pub fn node(&self, host: Host) -> Option<&Node> {
        let machine = self.machine(host);
        machine.process.as_ref().filter(|_| machine.held.is_none()).map(|process| process.node())
    }

    /// The hosts whose nodes run.
    pub fn live(&self) -> impl Iterator<Item = Host> {
        self.hosts().filter(|host| self.node(*host).is_some())
    }

    /// What a host's node knows of another's life.
    pub fn status(&self, of: Host, at: Host) -> Option<Status> {
        self.node(at)?.status(&self.id(of))
    }

    /// True if all other live nodes know this of that host's node.
    pub fn all_know(&self, of: Host, status: Status) -> bool {
        self.live().filter(|at| *at != of).all(|at| self.status(of, at) == Some(status))
    }

    /// The first thing that keeps the network from full agreement, on each side of a partition by itself: all live nodes
    /// hold one digest, hold exactly the live nodes for up, and none has an edge that it has not published.
    pub fn disagreement(&self) -> Option<String> {
        let mut sides: BTreeMap<usize, Vec<Host>> = BTreeMap::new();
        for host in self.live() {
            sides.entry(self.links.side(host)).or_default().push(host);
        }
        sides.values().find_map(|hosts| self.disagreement_among(hosts))
    }

    /// True in full agreement.
    pub fn agrees(&self) -> bool {
        self.disagreement().is_none()
    }

    /// True if every live node says that all agree.
    pub fn all_claim_unanimity(&self) -> bool {
        self.live().all(|host| self.node(host).is_some_and(|node| node.agreement(self.now_at(host)).is_unanimous()))
    }

    /// Lets time pass until there has been full agreement for two seconds; when it began, from now.
    pub fn run_until_agreed(&mut self, limit: Duration) -> Option<Duration> {
        const HOLDS: Duration = Duration::from_secs(2);
        let start = self.now;
        let mut since = None;
        self.run_until(limit + HOLDS, |world| {
            since = since.filter(|_| world.agrees()).or_else(|| world.agrees().then_some(world.now));
            since.is_some_and(|since| world.now.since(since) >= HOLDS)
        })?;
        since.map(|since| since.since(start))
    }

    /// Bytes sent by all nodes so far, with the headers of their packets.
    pub fn bytes(&self) -> u64 {
        self.machines.iter().map(|machine| machine.bytes).sum()
    }

    /// A hash of all there is to know of the world's state: equal runs have equal ones.
    pub fn state_hash(&self) -> Hash {
        let mut told = Vec::new();
        for machine in &self.machines {
            told.extend(machine.bytes.to_le_bytes());
            told.extend(machine.packets.to_le_bytes());
            let Some(process) = &machine.process else { continue };
            told.extend(process.node().digest().0);
            for (id, entry) in process.node().view().iter() {
                told.extend(id.0);
                told.push(entry.standing() as u8);
                told.extend(entry.hash().0);
            }
        }
        hash_parts(b"simulated world", &[&self.now.0.to_le_bytes(), &told])
    }

    fn disagreement_among(&self, hosts: &[Host]) -> Option<String> {
        let live: BTreeSet<ControllerId> = hosts.iter().map(|host| self.id(*host)).collect();
        let digest = |host: &Host| self.node(*host).map(Node::digest);
        hosts.iter().find_map(|host| {
            let node = self.node(*host)?;
            if digest(host) != digest(hosts.first()?) {
                return Some(format!("{host:?} and {:?} hold different digests", hosts[0]));
            }
            let up: BTreeSet<ControllerId> = node.view().up().map(|(id, _)| *id).collect();
            if let Some(odd) = up.symmetric_difference(&live).next() {
                let told = if live.contains(odd) { "live" } else { "gone" };
                return Some(format!("{host:?} does not know that {:?} is {told}", self.hosts.get(odd)));
            }
            (published(node) != edges(node)).then(|| format!("{host:?} has an edge that it has not published"))
        })
    }

    /// Compares what nodes claim now with what all held: a claim of age a says that each node of the claimer's view held
    /// the digest at some moment of the last a.
    pub(super) fn check_claims(&mut self) {
        for host in self.hosts() {
            let now = self.now_at(host);
            let Some(node) = self.node(host) else { continue };
            let shown = node.agreement(now);
            if !shown.is_unanimous() {
                continue;
            }
            let digest = node.digest();
            let from = Time(self.now.0.saturating_sub(shown.age.as_micros() as u64));
            let held = |id: &ControllerId| self.hosts.get(id).is_some_and(|member| self.held(*member, digest, from));
            let liar = node.view().up().map(|(id, _)| id).find(|id| !held(id));
            let wrong = liar.map(|id| {
                let member = self.hosts.get(id);
                format!("{:?}: {host:?} claims {digest:?} within {:?}, {member:?} had it not", self.now, shown.age)
            });
            self.findings.claims += 1;
            self.findings.false_claims.extend(wrong);
        }
    }

    /// A node told its user of a change.
    pub(super) fn note(&mut self, at: Host, notice: &Notice) {
        let Notice::Status { id, status: Status::Down, .. } = notice else { return };
        if let Some(subject) = self.well(id) {
            let wrong = format!("{:?}: {at:?} holds {subject:?} for down", self.now);
            self.findings.false_downs.push(wrong);
        }
    }

    /// A witness was under way.
    pub(super) fn overhear(&mut self, witness: &WitnessBody) {
        if !self.findings.seen.insert((witness.observer, witness.subject, witness.record)) {
            return;
        }
        let subject = self.machines.iter().map(|machine| machine.id).find(|id| id.short() == witness.subject);
        let subject = subject.and_then(|id| self.well(&id));
        if let (Some(subject), Some(observer)) = (subject, self.hosts.get(&witness.observer)) {
            *self.findings.false_accusations.entry((*observer, subject)).or_default() += 1;
        }
    }

    /// The node's host, if nothing has been wrong with it for a while.
    fn well(&self, id: &ControllerId) -> Option<Host> {
        let host = *self.hosts.get(id)?;
        self.node(host)?;
        (self.machine(host).undisturbed <= self.now).then_some(host)
    }

    fn held(&self, host: Host, digest: Hash, from: Time) -> bool {
        let mut until = Time(u64::MAX);
        for (since, held) in self.machine(host).digests.iter().rev() {
            if until < from {
                return false;
            }
            if *held == digest {
                return true;
            }
            until = *since;
        }
        false
    }
}

fn published(node: &Node) -> BTreeSet<ShortId> {
    let record = node.view().get(&node.id()).filter(|entry| entry.standing() == Standing::Up);
    record.map(|entry| entry.record().body.edges.iter().copied().collect()).unwrap_or_default()
}

fn edges(node: &Node) -> BTreeSet<ShortId> {
    let edges = node.links().filter(|(_, link)| {
        link.phase == Phase::Established && link.direction == Direction::Outgoing && link.purpose != Purpose::Probe
    });
    edges.filter_map(|(_, link)| Some(link.node?.short())).collect()
}
