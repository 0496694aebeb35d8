//! The truth, which only the simulator knows, and what the nodes say of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{AFTERMATH, Host, Sent, World};
use crate::protocol::census_report::CensusReport;
use crate::protocol::hash::{Hash, hash_parts};
use crate::protocol::identity::{ControllerId, ShortId};
use crate::protocol::node::{Node, Notice};
use crate::protocol::reason::Reason;
use crate::protocol::record::WitnessBody;
use crate::protocol::report::Status;
use crate::protocol::time::Time;

/// Cases told in words; of the others only the number: in a large network that goes wrong they are millions.
const MAX_TOLD: usize = 100;

/// What was found while the world ran.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Claims of unanimity that were compared with the truth.
    pub claims: u64,
    /// Those that did not hold. A claim takes members' word; of one who lies, nobody who believes him is to blame, so that
    /// while there are such, their number alone is told, in `misled_claims`.
    pub false_claims: Vec<String>,
    /// How many these were; the first of them are told.
    pub false_claim_count: u64,
    /// Claims that did not hold in a network in which members lie.
    pub misled_claims: u64,
    /// Times a node heard that a live, reachable one was down.
    pub false_downs: Vec<String>,
    /// How many these were; the first of them are told.
    pub false_down_count: u64,
    /// Times a node held for down one that lives, and from which it was never split, both being of the larger side: while a
    /// split lasts and when it heals.
    pub own_side_downs: u64,
    /// How often a live node spoke of one of which nobody should any more, counted pair by pair.
    pub resurrected: u64,
    /// Accusations of live, reachable nodes, by whom and of whom: each may be refuted, and then does no harm.
    pub false_accusations: BTreeMap<(Host, Host), u64>,
    /// Censuses that ended, by whom they were begun.
    pub censuses: Vec<(Host, Result<CensusReport, Reason>)>,
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

    /// True if every live node says that all agree.
    pub fn all_claim_unanimity(&self) -> bool {
        self.live().all(|host| self.claims_unanimity(host).is_some())
    }

    /// Within how long all held its digest, if this host's node says that all do.
    pub(super) fn claims_unanimity(&self, host: Host) -> Option<Duration> {
        let now = self.now_at(host);
        let node = self.node(host)?;
        node.unanimous_within(now)
    }

    /// Bytes sent by all nodes so far, with the headers of their packets.
    pub fn bytes(&self) -> u64 {
        self.sent().bytes
    }

    /// All that was sent so far, by all.
    pub fn sent(&self) -> Sent {
        self.machines.iter().map(|machine| machine.sent).fold(Sent::default(), |all, one| Sent {
            packets: all.packets + one.packets,
            bytes: all.bytes + one.bytes,
            acks: all.acks + one.acks,
        })
    }

    /// A hash of all there is to know of the world's state: equal runs have equal ones.
    pub fn state_hash(&self) -> Hash {
        // Host by host: of a large network, all of it at once would take as much memory as the network.
        let hosts = self.machines.iter().map(|machine| {
            let mut told = [machine.sent.bytes.to_le_bytes(), machine.sent.packets.to_le_bytes()].concat();
            if let Some(process) = &machine.process {
                told.extend(process.node().digest().0);
                for (id, entry) in process.node().view().iter() {
                    told.extend(id.0);
                    told.push(entry.standing() as u8);
                    told.extend(entry.hash().0);
                }
            }
            hash_parts(b"simulated host", &[&told]).0
        });
        let hosts: Vec<[u8; 32]> = hosts.collect();
        hash_parts(b"simulated world", &[&self.now.0.to_le_bytes(), &hosts.concat()])
    }

    /// Compares what nodes claim now with what all held: a claim of age a says that each node of the claimer's view held
    /// the digest at some moment of the last a.
    pub(super) fn check_claims(&mut self) {
        // A digest fixes who is meant: when each of these held it last is looked up once for all claimers.
        let mut oldest: BTreeMap<u64, (Time, Option<Host>)> = BTreeMap::new();
        for host in self.hosts() {
            let Some(age) = self.claims_unanimity(host) else { continue };
            let Some(node) = self.node(host) else { continue };
            let digest = node.view().sketch();
            let (held, member) = *oldest.entry(digest).or_insert_with(|| self.oldest_holder(node));
            let from = Time(self.now.0.saturating_sub(age.as_micros() as u64));
            self.findings.claims += 1;
            if held < from && !self.liars.is_empty() {
                self.findings.misled_claims += 1;
            } else if held < from {
                self.findings.false_claim_count += 1;
                if self.findings.false_claims.len() < MAX_TOLD {
                    let wrong =
                        format!("{:?}: {host:?} claims {digest:016x} within {age:?}, {member:?} had it not", self.now);
                    self.findings.false_claims.push(wrong);
                }
            }
        }
    }

    /// Of all that a node holds for up, the one that held its digest last the longest ago; [`Time::ZERO`] for never.
    fn oldest_holder(&self, claimer: &Node) -> (Time, Option<Host>) {
        let digest = claimer.view().sketch();
        let held = claimer.view().up().map(|(id, _)| {
            let member = self.hosts.get(id).copied();
            let held = member.and_then(|member| self.machine(member).history.last_held(digest, self.now));
            (held.unwrap_or_default(), member)
        });
        held.min().unwrap_or((self.now, None))
    }

    /// A node told its user of a change.
    pub(super) fn note(&mut self, at: Host, notice: &Notice) {
        let Notice::Status { id, status: Status::Down, .. } = notice else { return };
        if self.liars.contains(&at) {
            return;
        }
        self.findings.own_side_downs += u64::from(self.was_never_split(at, id));
        if let Some(subject) = self.well(id) {
            self.findings.false_down_count += 1;
            if self.findings.false_downs.len() < MAX_TOLD {
                let wrong = format!("{:?}: {at:?} holds {subject:?} for down", self.now);
                self.findings.false_downs.push(wrong);
            }
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

    /// True for two live nodes of the larger side, during a split and after it. Of the smaller side the larger one has true
    /// witnesses, and those arrive before anybody can refute them.
    fn was_never_split(&self, at: Host, id: &ControllerId) -> bool {
        let Some(subject) = self.hosts.get(id).copied() else { return false };
        let lives = self.lives(subject) && self.machine(subject).alive_since + AFTERMATH <= self.now;
        lives && self.links.was_with_the_most(at) && self.links.was_with_the_most(subject)
    }

    /// The node's host, if nothing has been wrong with it for a while.
    fn well(&self, id: &ControllerId) -> Option<Host> {
        let host = *self.hosts.get(id)?;
        (self.lives(host) && self.machine(host).undisturbed <= self.now).then_some(host)
    }

    /// True if it runs and is not stopped, whether or not it is just thinking.
    fn lives(&self, host: Host) -> bool {
        let machine = self.machine(host);
        machine.runs() && machine.held.is_none()
    }
}
