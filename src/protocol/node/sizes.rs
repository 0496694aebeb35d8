//! What a node keeps that others can make grow, and how far: in one place, so that a bound can be held against what is
//! really there (`tests/fuzz` does after every input).

use super::heal::MAX_LOST;
use super::link::MAX_WANTED;
use super::screening::MAX_EQUIVOCATORS;
use super::{MAX_CLOSED, MAX_DIAL_BACKS, MAX_DIAL_BACKS_WAITING, Node};
use crate::protocol::discovery::feed::MAX_LOG;
use crate::protocol::report::Direction;
use crate::protocol::view::MAX_PARKED;

impl Node {
    /// Each collection that a remote can add to: its name, what it holds, the most it may hold.
    ///
    /// What only the node's user adds to (configured addresses, dials that were asked for) is his own to bound.
    pub fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        let settings = &self.settings;
        let incoming = self.links.values().filter(|link| link.direction == Direction::Incoming).count();
        let looks = self.links.values().filter(|link| link.is_look()).count();
        let outgoing = self.links.len() - incoming;
        let parts = 3 * settings.max_nodes;
        let most = |of: fn(&super::Link) -> usize| self.links().map(|(_, link)| of(link)).max().unwrap_or_default();
        // An address to which a dial is under way is not dropped for a newer one.
        let addresses = settings.max_addresses + outgoing;
        let unreached = 3 * settings.max_addresses + outgoing;
        let (events, statuses) = self.chronicle.size();
        let (doubts, most_doubts) = self.credence.size();
        let ((scores, most_scores), (networks, most_networks)) = (self.conduct.size(), self.admission_rate.size());
        let mut sizes = vec![
            ("view", self.view.len(), settings.max_nodes),
            ("view: waiting for a record", self.view.parked(), MAX_PARKED),
            ("links, incoming", incoming, settings.max_incoming + 2 * settings.max_pending + 1),
            ("links, outgoing", outgoing - looks, settings.max_outgoing),
            // Whom it misses a node looks for whatever else is under way: without a look it would accuse the living.
            ("links, outgoing, that only look", looks, MAX_DIAL_BACKS + settings.max_nodes),
            ("links: owed by one", most(|link| link.owed.len()), parts),
            ("links: to be announced", most(|link| link.announce.len() + link.held.len()), 2 * settings.max_nodes),
            ("links: wanted of one", most(|link| link.want.len()), MAX_WANTED),
            ("closed", self.closed.len(), MAX_CLOSED),
            ("addresses never reached", self.book.unreached(), unreached),
            ("addresses reached", self.book.reached_count(), addresses),
            ("feed", self.feed.len(), MAX_LOG),
            ("verdicts to count later", self.verdicts.len(), settings.max_nodes),
            ("called", self.called.len(), settings.max_nodes),
            ("asked for", self.wants.len(), settings.max_nodes),
            ("lost neighbours", self.lost.len(), MAX_LOST),
            ("statements", self.agreement.heard(), settings.max_nodes),
            ("dial-backs", self.dial_backs.len(), MAX_DIAL_BACKS_WAITING),
            ("missed", self.detector.missing(), settings.max_nodes),
            ("equivocators", self.equivocators.len(), MAX_EQUIVOCATORS),
            ("conduct", scores, most_scores),
            ("networks that came", networks, most_networks),
            ("observers that were refuted", doubts, most_doubts),
            ("events", events, settings.max_events),
            ("statuses", statuses, settings.max_nodes),
            ("barred", self.detector.barred(), settings.max_nodes),
        ];
        sizes.extend(self.censuses.sizes());
        sizes
    }
}
