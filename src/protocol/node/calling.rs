//! The roll call's place between view and links.

use std::time::Duration;

use super::{Actions, Node};
use crate::protocol::discovery::agreement::Shown;
use crate::protocol::discovery::roll_call::Said;
use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::Roll;
use crate::protocol::record::RecordState;
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};

impl Node {
    /// How many nodes are shown to hold this node's view.
    pub fn agreement(&self, now: Now) -> Shown {
        let shown = self.agreement.shown(&self.me, &self.view, now.mono);
        match self.roll_call.age(now.mono).filter(|_| self.state == RecordState::Up) {
            Some(age) if !shown.is_unanimous() || age < shown.age => {
                let radius = self.agreement.farthest(&self.me, &self.view);
                Shown { agreeing: shown.live, radius, age, ..shown }
            }
            _ => shown,
        }
    }

    /// How long ago at the most all held this node's view, if that is shown: the same as [`Node::agreement`], but nothing is
    /// counted that is not needed.
    pub fn unanimous_within(&self, now: Now) -> Option<Duration> {
        let called = self.roll_call.age(now.mono).filter(|_| self.state == RecordState::Up);
        called.or_else(|| {
            let shown = self.agreement.shown(&self.me, &self.view, now.mono);
            shown.is_unanimous().then_some(shown.age)
        })
    }

    /// When the roll call wants its turn.
    pub(super) fn roll_due(&self) -> Option<Time> {
        self.roll_call.due()
    }

    pub(super) fn call_roll(&mut self, now: Time, actions: &mut Actions) {
        let said = self.roll_call.tick(&self.view, now);
        self.say_roll(now, said, actions);
    }

    pub(super) fn roll_heard(&mut self, now: Time, peer: PeerId, roll: Roll, actions: &mut Actions) {
        let link = self.links.get(&peer).filter(|link| link.is_edge());
        let Some(from) = link.and_then(|link| link.node).map(|id| id.short()) else { return };
        // What came with it may have changed the view: it is heard by whoever holds the new one.
        self.view_observed(now);
        let mut said = Vec::new();
        self.roll_call.heard(&self.view, from, roll, now, &mut said);
        self.say_roll(now, said, actions);
    }

    fn say_roll(&mut self, now: Time, said: Vec<Said>, actions: &mut Actions) {
        for (to, roll) in said {
            if let Some(peer) = self.link_to(&to)
                && let Some(link) = self.links.get_mut(&peer)
            {
                link.roll = Some(roll);
                self.send_news(now, peer, actions);
            }
        }
    }

    /// An edge to this neighbour, in the direction that can be spoken in at once if there are both.
    fn link_to(&self, node: &ShortId) -> Option<PeerId> {
        let edges = self.links.iter().filter(|(_, link)| link.is_edge() && !link.silent && !link.dismissed);
        let edges = edges.filter(|(_, link)| link.node.is_some_and(|id| id.short() == *node));
        edges.min_by_key(|(_, link)| link.direction != Direction::Outgoing).map(|(peer, _)| *peer)
    }
}
