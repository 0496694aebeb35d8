//! News whose signature holds and that is worth nothing all the same: outdated, expired, or contradicting what the same
//! node said under the same version.
//!
//! | news | what becomes of it | what it costs its bearer |
//! | --- | --- | --- |
//! | forged, of another network, over its bounds | refused at the door (`secure/door`) | the connection, and a breach |
//! | issued more than 49 hours ago, or ahead | refused, `expired` | one of many such items |
//! | older than what is held | refused, `stale` | one of many such items |
//! | the same version, other content | the greater hash stands, `equivocation` | nothing: its author is to blame |
//!
//! Two honest nodes that met after a long separation bring each other a whole view of outdated records, once: so many are
//! free, and a thousand a second from then on. Whoever sends more is closed, and that is a breach.

use super::{Action, Actions, Node, Notice};
use crate::protocol::bucket::Rate;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Record, Verified, VerifiedItem, is_ahead, is_expired};
use crate::protocol::time::Now;

/// Nodes remembered as having contradicted themselves; more are counted and not named.
pub(super) const MAX_EQUIVOCATORS: usize = 64;
/// Of these a warning names so many.
const NAMED: usize = 3;
/// Outdated items a second that the race of news through a changing network may bring.
const OUTDATED_A_SECOND: u32 = 1000;
/// Beside a whole view: news that overtook each other.
const OUTDATED_AT_ONCE: usize = 4096;

impl Node {
    /// Outdated items that one connection may bring.
    pub(super) fn patience(&self) -> Rate {
        let burst = self.settings.max_nodes.saturating_add(OUTDATED_AT_ONCE);
        Rate { per_second: OUTDATED_A_SECOND, burst: u32::try_from(burst).unwrap_or(u32::MAX) }
    }

    /// False if an item is to be dropped: it is counted then, and its bearer has had one of those it may bring.
    pub(super) fn passes(
        &mut self,
        now: Now,
        from: Option<PeerId>,
        item: &VerifiedItem,
        actions: &mut Actions,
    ) -> bool {
        let VerifiedItem::Record(record) = item else { return true };
        let held = self.view.get(&record.body.id).map(|entry| entry.record());
        let fault = match held {
            Some(held) if held.body.version > record.body.version => Reason::Stale,
            Some(held) if held.body.version == record.body.version => {
                if **held != **record {
                    self.contradicted(record, actions);
                }
                return true;
            }
            _ if is_expired(record.body.issued, now.wall_hours()) => Reason::Expired,
            // Of this node itself it is taken: another process with its identity is to be outdone, not overheard.
            _ if record.body.id != self.me && is_ahead(record.body.issued, now.wall_hours()) => Reason::Expired,
            _ => return true,
        };
        self.count_dropped(fault);
        self.charge(now, from, actions);
        false
    }

    /// Drops what nobody needs any more: nodes that are down, have left or are forgotten, an hour after all others have
    /// ceased to take their records anew.
    pub(super) fn expire(&mut self, now: Now) {
        for id in self.view.expire(now.wall_hours()) {
            self.detector.drop_case(&id);
            self.equivocators.remove(&id);
            self.note_dropped(now, id);
        }
    }

    fn charge(&mut self, now: Now, from: Option<PeerId>, actions: &mut Actions) {
        let rate = self.patience();
        let Some(link) = from.and_then(|peer| self.links.get_mut(&peer)) else { return };
        if !link.dismissed && !link.outdated.take(rate, now.mono) {
            link.dismissed = true;
            // There is one: a link was found under it.
            actions.extend(from.map(|peer| Action::Command(peer, Command::Close(Reason::Stale))));
        }
    }

    /// A node has signed two records of one version. All keep the one of greater hash, so the network agrees all the same.
    fn contradicted(&mut self, record: &Verified<Record>, actions: &mut Actions) {
        self.count_dropped(Reason::Equivocation);
        let id = record.body.id;
        if id == self.me || self.equivocators.len() >= MAX_EQUIVOCATORS || !self.equivocators.insert(id) {
            return;
        }
        let name = |id: &ControllerId| {
            let label = self.label_of(id).map(ToString::to_string).unwrap_or_default();
            format!("{label} ({})", &id.hex()[..8])
        };
        let names: Vec<String> = self.equivocators.iter().take(NAMED).map(name).collect();
        let more = match self.equivocators.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "different records are signed as one version by {}{more}: the key is in use twice or its owner lies; \
             give each process its own identity, or keep the node out",
            names.join(", ")
        );
        self.warn("equivocation", Some(text));
        actions.push(Action::Notify(Notice::Equivocation { id, label: record.body.label.clone() }));
    }
}
