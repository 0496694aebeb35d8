//! Who holds what, kept as it changes: so that agreement among ten thousand is a matter of counting digests, and not of
//! comparing every view with every other.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::world::{Host, World};
use crate::protocol::identity::{ControllerId, ShortId};
use crate::protocol::node::{Node, Phase};
use crate::protocol::report::Direction;
use crate::protocol::view::Standing;

/// What every live node holds, as of the last look.
#[derive(Default)]
pub(super) struct Ledger(RefCell<Book>);

#[derive(Default)]
struct Book {
    held: Vec<Option<Held>>,
    /// How many hold a digest, side by side.
    crowds: BTreeMap<(usize, u64), usize>,
    /// To be looked at again.
    touched: Vec<Host>,
    is_touched: Vec<bool>,
    /// Those whose edges are to be looked at, once digests are equal: that costs more, and before it is of no use.
    unsure: BTreeSet<Host>,
    /// Those that have an edge which they have not published.
    unpublished: BTreeSet<Host>,
    /// Counts who came and went: what was right before may be wrong now.
    epoch: u64,
    /// Digests under which the live set is exactly right, of this epoch.
    right: BTreeMap<(usize, u64), (u64, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    side: usize,
    /// What a liar holds is its own affair.
    digest: Option<u64>,
}

impl Ledger {
    /// Something happened to this host.
    pub(super) fn touch(&self, host: Host) {
        let mut book = self.0.borrow_mut();
        if book.is_touched.len() <= host.0 {
            book.is_touched.resize(host.0 + 1, false);
            book.held.resize(host.0 + 1, None);
        }
        if !std::mem::replace(&mut book.is_touched[host.0], true) {
            book.touched.push(host);
        }
    }
}

impl World {
    /// True in full agreement: on each side of a partition by itself all live nodes that do not lie hold one digest,
    /// hold exactly the live nodes for up, and none has an edge that it has not published.
    pub fn agrees(&self) -> bool {
        let mut book = self.ledger.0.borrow_mut();
        book.catch_up(self);
        let crowds: Vec<(usize, u64)> = book.crowds.keys().copied().collect();
        // By rising side: two digests on one side would stand beside each other.
        crowds.windows(2).all(|pair| pair[0].0 != pair[1].0)
            && book.all_is_published(self)
            && crowds.into_iter().all(|(side, digest)| book.is_right(self, side, digest))
    }

    /// How many different views live nodes hold, each side of a partition for itself.
    pub fn views(&self) -> usize {
        let mut book = self.ledger.0.borrow_mut();
        book.catch_up(self);
        book.crowds.len()
    }

    /// The first thing that keeps the network from full agreement; `None` if there is agreement.
    pub fn disagreement(&self) -> Option<String> {
        if self.agrees() {
            return None;
        }
        let mut sides: BTreeMap<usize, Vec<Host>> = BTreeMap::new();
        for host in self.live().filter(|host| !self.liars.contains(host)) {
            sides.entry(self.links.side(host)).or_default().push(host);
        }
        sides.values().find_map(|hosts| self.disagreement_among(hosts))
    }

    /// The node there, if it does not lie.
    fn honest(&self, host: Host) -> Option<&Node> {
        self.node(host).filter(|_| !self.liars.contains(&host))
    }

    fn disagreement_among(&self, hosts: &[Host]) -> Option<String> {
        let beside = |host: &Host| hosts.first().is_some_and(|first| self.links.side(*first) == self.links.side(*host));
        let live: BTreeSet<ControllerId> = self.live().filter(beside).map(|host| self.id(host)).collect();
        let digest = |host: &Host| self.node(*host).map(|node| node.view().sketch());
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
}

impl Book {
    fn catch_up(&mut self, world: &World) {
        for host in std::mem::take(&mut self.touched) {
            self.is_touched[host.0] = false;
            self.unsure.insert(host);
            let digest = world.honest(host).map(|node| node.view().sketch());
            let now = world.node(host).map(|_| Held { side: world.links.side(host), digest });
            let before = std::mem::replace(&mut self.held[host.0], now);
            if before == now {
                continue;
            }
            if before.map(|held| held.side) != now.map(|held| held.side) {
                self.epoch += 1;
            }
            if let Some(Held { side, digest: Some(digest) }) = before {
                let count = self.crowds.entry((side, digest)).or_default();
                *count -= 1;
                if *count == 0 {
                    self.crowds.remove(&(side, digest));
                }
            }
            if let Some(Held { side, digest: Some(digest) }) = now {
                *self.crowds.entry((side, digest)).or_default() += 1;
            }
        }
    }

    fn all_is_published(&mut self, world: &World) -> bool {
        for host in std::mem::take(&mut self.unsure) {
            match world.honest(host).filter(|node| published(node) != edges(node)) {
                Some(_) => self.unpublished.insert(host),
                None => self.unpublished.remove(&host),
            };
        }
        self.unpublished.is_empty()
    }

    /// Equal digests mean equal live sets: one node of the side is looked at for all.
    fn is_right(&mut self, world: &World, side: usize, digest: u64) -> bool {
        if let Some((epoch, right)) = self.right.get(&(side, digest))
            && *epoch == self.epoch
        {
            return *right;
        }
        let mut live = BTreeSet::new();
        let mut witness = None;
        for (number, held) in self.held.iter().enumerate() {
            if held.is_some_and(|held| held.side == side) {
                live.insert(world.id(Host(number)));
                witness = held.and_then(|held| held.digest).map(|_| Host(number)).or(witness);
            }
        }
        let node = witness.and_then(|host| world.node(host));
        let right = node.is_some_and(|node| node.view().up().map(|(id, _)| *id).collect::<BTreeSet<_>>() == live);
        let epoch = self.epoch;
        self.right.retain(|_, (of, _)| *of == epoch);
        self.right.insert((side, digest), (epoch, right));
        right
    }
}

fn published(node: &Node) -> BTreeSet<ShortId> {
    let record = node.view().get(&node.id()).filter(|entry| entry.standing() == Standing::Up);
    record.map(|entry| entry.record().body.edges.iter().copied().collect()).unwrap_or_default()
}

fn edges(node: &Node) -> BTreeSet<ShortId> {
    let edges = node.links().filter(|(_, link)| {
        link.phase == Phase::Established && link.direction == Direction::Outgoing && link.purpose.is_of_discovery()
    });
    edges.filter_map(|(_, link)| Some(link.node?.short())).collect()
}
