//! Everything that was ever signed, said again: a node that is gone must not come back by it.

use std::time::Duration;

use super::world::{Host, World};
use crate::protocol::node::{Input, Phase};
use crate::protocol::peer_event::Tidings;
use crate::protocol::peer_state::{NewsKind, PeerEvent};
use crate::protocol::record::VerifiedItem;
use crate::protocol::report::Direction;
use crate::protocol::rng::Rng;

/// Items said at once.
const MOUTHFUL: usize = 32;
/// Between two of these, so that a node that has thrown out who said them has found somebody else to listen to.
const PAUSE: Duration = Duration::from_millis(250);

impl World {
    /// From now on whatever is signed is kept, to be said again: a megabyte for some thousand records.
    pub fn keep_all_said(&self) {
        self.door.keep_all();
    }

    /// Says all that was kept to every node, in an order of its own for each, as if one of its neighbours did.
    pub fn say_all_again(&mut self, seed: u64) {
        let all = self.door.all();
        let mut rng = Rng::new(seed);
        let mut orders: Vec<(Host, Vec<VerifiedItem>)> = Vec::new();
        for host in self.live() {
            let mut left = all.clone();
            orders.push((host, std::iter::from_fn(|| rng.take(&mut left)).collect()));
        }
        for from in (0..all.len()).step_by(MOUTHFUL) {
            for (host, order) in &orders {
                let items = order[from..all.len().min(from + MOUTHFUL)].to_vec();
                self.say_to(*host, items);
            }
            self.run_for(PAUSE);
        }
    }

    fn say_to(&mut self, host: Host, items: Vec<VerifiedItem>) {
        let heads = self.node(host).and_then(|node| {
            let heads = node
                .links()
                .filter(|(_, link)| link.phase == Phase::Established && link.direction == Direction::Outgoing);
            heads.map(|(peer, _)| peer).next()
        });
        if let Some(peer) = heads {
            // As the answer to a push, which is answered by nothing.
            let tidings = Tidings { items, announcements: Vec::new(), want: Vec::new(), roll: None };
            self.tell(host, Input::Peer(peer, PeerEvent::News(tidings, NewsKind::Acknowledged)));
        }
    }

    /// How many live nodes have something to say of nodes that are gone, counted pair by pair.
    pub fn remembered(&self) -> u64 {
        let gone: Vec<_> = self.hosts().filter(|host| self.node(*host).is_none()).map(|host| self.id(host)).collect();
        let views = self.live().filter_map(|host| self.node(host)).map(|node| node.view());
        views.map(|view| gone.iter().filter(|id| view.get(id).is_some()).count() as u64).sum()
    }
}
