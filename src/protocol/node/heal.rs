//! Dials to nodes that are down: they may be back, or on the other side of a split.
//!
//! ```text
//!   a lost neighbour     after 1, 2, 4 and 10 s           most of what breaks is mended soon
//!   any that is down     one by chance, now and then      a split that lasted for days heals as fast as a short one
//! ```
//!
//! Of the second kind a node makes one each ten seconds, in networks of fewer than ten nodes one each second by all of them
//! together (`discovery.md` 2.5): a hundred nodes on one side of a split try ten times a second whether it is over, whatever
//! backoff the addresses are in.

use std::time::Duration;

use super::idle::Tick;
use super::{Actions, Node};
use crate::protocol::address::{HostPort, is_fit_to_learn};
use crate::protocol::identity::ControllerId;
use crate::protocol::message::Purpose;
use crate::protocol::record::RecordState;
use crate::protocol::time::{Now, Time};
use crate::protocol::view::Standing;

/// When a lost neighbour is dialled again, counted from the time before.
const REDIALS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(10)];
/// Lost neighbours remembered: more than a node has.
pub(super) const MAX_LOST: usize = 64;
/// The longest between two dials to a node that is down.
const HEAL: Duration = Duration::from_secs(10);

/// A neighbour whose edge broke.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    id: ControllerId,
    /// How often it was dialled since.
    times: usize,
    due: Time,
}

impl Node {
    /// The edge with this neighbour broke.
    pub(super) fn lose(&mut self, now: Now, id: ControllerId) {
        if self.lost.iter().all(|lost| lost.id != id) {
            if self.lost.len() == MAX_LOST {
                self.lost.pop_front();
            }
            self.lost.push_back(Lost { id, times: 0, due: now.mono + REDIALS[0] });
        }
    }

    pub(super) fn dial_down(&mut self, tick: &mut Tick, actions: &mut Actions) {
        self.redial_lost(tick, actions);
        if self.view.down_count() == 0 {
            self.heal_due = None;
            return;
        }
        let due = self.heal_due.is_some_and(|due| due <= tick.now.mono);
        if due && let Some(entry) = self.view.any_down(&mut self.rng) {
            let id = entry.record().body.id;
            self.look_again(tick.now, id, actions);
        }
        if due || self.heal_due.is_none() {
            let live = u32::try_from(self.view.up_count()).unwrap_or(u32::MAX);
            let pause = Duration::from_secs(1).saturating_mul(live).min(HEAL);
            self.heal_due = Some(tick.now.mono + self.rng.jitter(pause));
        }
        tick.wait(self.heal_due);
    }

    /// When a node that is down is looked for, as far as that is not left to chance.
    pub(super) fn next_look(&self, id: &ControllerId) -> Option<Time> {
        self.view.get(id).filter(|entry| entry.standing() == Standing::Down)?;
        let lost = self.lost.iter().find(|lost| lost.id == *id).map(|lost| lost.due);
        let only = self.heal_due.filter(|_| self.view.down_count() == 1);
        [lost, only].into_iter().flatten().min()
    }

    fn redial_lost(&mut self, tick: &mut Tick, actions: &mut Actions) {
        for _ in 0..self.lost.len() {
            let Some(mut lost) = self.lost.pop_front() else { break };
            let linked = self.links.values().any(|link| link.is_edge() && link.node == Some(lost.id));
            if linked || self.view.get(&lost.id).is_none_or(|entry| entry.record().body.state == RecordState::Left) {
                continue;
            }
            if lost.due <= tick.now.mono {
                self.look_again(tick.now, lost.id, actions);
                lost.times += 1;
                let Some(pause) = REDIALS.get(lost.times) else { continue };
                lost.due = tick.now.mono + *pause;
            }
            tick.wait(Some(lost.due));
            self.lost.push_back(lost);
        }
    }

    /// Dials a node that is down, whatever backoff its address is in.
    fn look_again(&mut self, now: Now, id: ControllerId, actions: &mut Actions) {
        let Some(entry) = self.view.get(&id).filter(|entry| entry.standing() == Standing::Down) else { return };
        let address = entry.record().body.address;
        let linked = self.links.values().any(|link| link.node == Some(id));
        let unfit = address == self.settings.advertise || !is_fit_to_learn(address, self.settings.advertise);
        if linked || unfit || id == self.me || self.may_come_in(now, id, address).is_err() || self.has_all_outgoing() {
            return;
        }
        self.dial(now, HostPort::Ip(address), address, Purpose::Overlay, Some(id), None, actions);
    }
}
