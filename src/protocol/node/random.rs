//! Random edges: to whom nobody has to be linked, so that the network's diameter is small.
//!
//! Two dials a tick, to live nodes that are not linked either way, until the out-degree is reached. A dial that is slow is not
//! waited for: somebody else is dialled besides, and whoever answers first has the place.
//!
//! While a node is in need (most neighbours gone at once, `alarm`) it dials 16 a tick and has 64 under way, and misses whoever
//! does not answer: whoever may be dead is found out soon, and by those that still live.

use std::collections::BTreeSet;

use super::Actions;
use super::Node;
use super::idle::Tick;
use super::link::Link;
use crate::protocol::address::HostPort;
use crate::protocol::discovery::overlay::RINGS;
use crate::protocol::identity::ControllerId;
use crate::protocol::message::Purpose;
use crate::protocol::time::Time;

/// Random dials of one tick: more would all go to the same few nodes while a network forms.
const DIALS_PER_TICK: usize = 2;
/// The same in need, and how many may be under way.
const DIALS_IN_NEED: (usize, usize) = (16, 64);

impl Node {
    pub(super) fn dial_random(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let in_need = self.is_in_need(tick.now.mono);
        let (per_tick, wanted) = match in_need {
            true => (DIALS_IN_NEED.0, DIALS_IN_NEED.1.saturating_sub(self.under_way())),
            false => (DIALS_PER_TICK, self.random_lacking(tick.now.mono)),
        };
        let overdue = self.links.values().filter(|link| link.is_any_dial()).map(|link| link.overdue_at());
        tick.wait(overdue.filter(|at| *at > tick.now.mono).min());
        if wanted == 0 {
            return;
        }
        let mut except: BTreeSet<ControllerId> = self.links.values().filter_map(|link| link.node).collect();
        except.extend(self.rings.successors());
        // One more than may be dialled now tells whether there is anybody left for later; and some are in backoff.
        let free = self.any_fit(tick.now, per_tick * 4 + 1, &except);
        let mut dialled = 0;
        for id in free {
            if dialled == per_tick || dialled == wanted {
                tick.unsettled |= dialled < wanted;
                tick.wait(Some(tick.now.mono));
                break;
            }
            let Some(entry) = self.view.get(&id) else { continue };
            let address = HostPort::Ip(entry.record().body.address);
            if self.dial_hope(tick, address, Purpose::Overlay, Some(id), actions) {
                dialled += 1;
                if let Some(mut link) = self.links.last_entry() {
                    link.get_mut().any = true;
                }
                if in_need {
                    self.miss_unless_it_answers(tick.now, id);
                }
            }
        }
    }

    /// How many random edges are to be dialled. Two places are the rings': while a network forms their turn comes last, and an
    /// edge that has to go for them is a change that everybody hears of.
    pub(super) fn random_lacking(&self, now: Time) -> usize {
        let counts = |link: &&Link| link.is_outgoing_edge() || self.may_become_edge(link) && !link.is_overdue(now);
        let edges = self.links.values().map(Box::as_ref).filter(counts).filter(|link| !self.is_second(link));
        let (rings, random): (Vec<&Link>, Vec<&Link>) = edges.partition(|link| link.purpose == Purpose::Ring);
        let most = self.settings.out_degree;
        let lacking = most.saturating_sub(RINGS.max(rings.len())).saturating_sub(random.len());
        // Whom a slow machine keeps waiting dials twice as many as it wants, not more and more.
        let dials = self.links.values().filter(|link| link.is_any_dial()).count();
        lacking.min((2 * most).saturating_sub(dials))
    }
}
