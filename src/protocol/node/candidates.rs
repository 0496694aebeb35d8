//! Whom an edge may lead to: live, reachable nodes that nobody misses and this node does not keep out.

use std::collections::BTreeSet;

use super::Node;
use crate::protocol::address::{HostPort, is_fit_to_learn};
use crate::protocol::address_book::Obstacle;
use crate::protocol::identity::ControllerId;
use crate::protocol::record::RecordBody;
use crate::protocol::time::Now;
use crate::protocol::view::Entry;

/// In views up to this size a node by chance is chosen among those that are fit; in larger ones draws are made until one is.
const SMALL: usize = 256;
/// Draws before all are looked through after all.
const DRAWS: usize = 64;

impl Node {
    /// Something about this node has changed: the rings may have to lead to it, or past it.
    pub(super) fn place_on_rings(&mut self, now: Now, id: &ControllerId) {
        if *id == self.me {
            return;
        }
        match self
            .view
            .get(id)
            .filter(|entry| self.is_fit(now, id, entry))
            .map(|entry| entry.record().marks().ring_places)
        {
            Some(places) => self.rings.fit(*id, &places, now.mono),
            None => self.rings.unfit(id, now.mono),
        }
    }

    /// Sees to it that the rings' successors are what they should be.
    pub(super) fn tend_rings(&mut self, now: Now) {
        for id in self.rings.remembered() {
            self.place_on_rings(now, &id);
        }
        if !self.rings.is_incomplete() {
            return;
        }
        self.rings.completed();
        let fit: Vec<_> = self.view.up().filter(|(id, entry)| self.is_fit(now, id, entry)).collect();
        for (id, entry) in fit {
            self.rings.fit(*id, &entry.record().marks().ring_places, now.mono);
        }
    }

    /// Up to `wanted` nodes by chance that are fit and none of `except`.
    pub(super) fn any_fit(&mut self, now: Now, wanted: usize, except: &BTreeSet<ControllerId>) -> Vec<ControllerId> {
        let mut chosen = Vec::new();
        if self.view.len() > SMALL {
            for _ in 0..DRAWS {
                let Some(entry) = self.view.any(&mut self.rng) else { break };
                let id = entry.record().body.id;
                if entry.is_up() && !chosen.contains(&id) && !except.contains(&id) && self.is_fit(now, &id, entry) {
                    chosen.push(id);
                }
                if chosen.len() == wanted {
                    return chosen;
                }
            }
        }
        let fit = self.view.up().filter(|(id, entry)| !except.contains(*id) && self.is_fit(now, id, entry));
        let mut fit: Vec<ControllerId> = fit.map(|(id, _)| *id).filter(|id| !chosen.contains(id)).collect();
        while chosen.len() < wanted {
            let Some(id) = self.rng.take(&mut fit) else { break };
            chosen.push(id);
        }
        chosen
    }

    /// Nobody is known to have reached it, and this node has just tried.
    fn fails_to_answer(&self, now: Now, body: &RecordBody) -> bool {
        !body.reach.is_proven()
            && matches!(self.book.obstacle(&HostPort::Ip(body.address), now.mono), Some(Obstacle::Backoff(_)))
    }

    /// True for a live, reachable node other than this one, neither missed nor suspected nor kept out.
    fn is_fit(&self, now: Now, id: &ControllerId, entry: &Entry) -> bool {
        let body = &entry.record().body;
        *id != self.me
            && body.reach.may_be_dialled()
            && !self.fails_to_answer(now, body)
            && entry.is_up()
            && !entry.is_suspected()
            && !self.detector.misses(id)
            && is_fit_to_learn(body.address, self.settings.advertise)
            && self.may_come_in(now, *id, body.address).is_ok()
    }
}
