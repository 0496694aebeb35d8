//! When an accusation was first heard, and verdicts that come before it.
//!
//! ```text
//!   stage 1 ──▶ called ── refute window ──▶ stage 2, also by those who heard the call later and found nobody
//!   stage 2 without a call ──▶ taken as one ── three quarters of a window, and no refutation ──▶ counts
//! ```
//!
//! Whoever was split from a node has rightly called it down, and brings that verdict along when the split heals. The node
//! would be down for everybody until its refutation has gone round. So a verdict against a node that is up here, and that
//! nobody here has accused, is passed on as an accusation first; the node speaks up, and the verdict is void before it
//! counts. What was dead all the time is called down that much later than it could have been.

use super::{Actions, Node, link};
use crate::protocol::hash::Hash;
use crate::protocol::identity::{ControllerId, PeerId, ShortId};
use crate::protocol::record::{Stage, Verified, VerifiedItem, Witness};
use crate::protocol::time::{Now, Time};

/// Of those who accused falsely a warning names so many.
const DOUBTED_NAMED: usize = 3;

/// The first call against a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    record: Hash,
    at: Time,
}

impl Node {
    /// Somebody accuses this node's present record; of several calls the first counts.
    pub(super) fn note_call(&mut self, now: Time, id: &ControllerId) {
        let Some(record) = self.view.get(id).map(|entry| entry.hash()) else { return };
        let short = id.short();
        if self.called.get(&short).is_none_or(|called| called.record != record) {
            self.called.insert(short, Called { record, at: now });
        }
    }

    /// What was called is settled one way or the other.
    pub(super) fn drop_call(&mut self, id: &ControllerId) {
        let short = id.short();
        if let Some(called) = self.called.remove(&short) {
            self.verdicts.remove(&(called.at + self.settings.refute_window * 3 / 4, short));
        }
    }

    /// Since when this record is accused.
    pub(super) fn called_since(&self, id: &ControllerId, record: Hash) -> Option<Time> {
        self.called.get(&id.short()).filter(|called| called.record == record).map(|called| called.at)
    }

    /// True for a verdict that is to be taken as an accusation for now.
    pub(super) fn is_early(&self, now: Time, from: Option<PeerId>, witness: &Verified<Witness>) -> bool {
        let short = witness.body.subject;
        if from.is_none() || witness.body.stage != Stage::Down || self.fresh.contains(&short) {
            return false;
        }
        let entry = self.view.find(&short).filter(|entry| entry.is_up() && entry.hash().short() == witness.body.record);
        entry.is_some_and(|entry| {
            let id = entry.record().body.id;
            id != self.me && self.counts_from(&id, entry.hash()).is_none_or(|from| now < from)
        })
    }

    /// It was taken so: when its time has come it counts.
    pub(super) fn await_verdict(&mut self, id: &ControllerId) {
        let Some(record) = self.view.get(id).map(|entry| entry.hash()) else { return };
        if let Some(due) = self.counts_from(id, record) {
            self.verdicts.insert((due, id.short()));
        }
    }

    /// Verdicts whose time has come count now.
    pub(super) fn count_verdicts(&mut self, now: Now, actions: &mut Actions) {
        while let Some(first) = self.verdicts.first().copied().filter(|(due, _)| *due <= now.mono) {
            self.verdicts.remove(&first);
            let (_, short) = first;
            let Some(entry) = self.view.find(&short).filter(|entry| entry.is_up()) else { continue };
            let id = entry.record().body.id;
            if self.counts_from(&id, entry.hash()).is_none_or(|from| now.mono < from) {
                continue;
            }
            let ripe: Vec<_> = entry.suspicions().filter(|held| held.body.stage == Stage::Down).cloned().collect();
            for witness in ripe {
                self.merge(now, None, VerifiedItem::Witness(witness), actions);
            }
        }
    }

    /// When the next does.
    pub(super) fn verdicts_due(&self) -> Option<Time> {
        self.verdicts.first().map(|(due, _)| *due)
    }

    fn counts_from(&self, id: &ControllerId, record: Hash) -> Option<Time> {
        Some(self.called_since(id, record)? + self.settings.refute_window * 3 / 4)
    }

    /// False for an accusation that is news here, by whoever has accused falsely too often.
    pub(super) fn is_heard(&mut self, now: Time, from: Option<PeerId>, item: &VerifiedItem) -> bool {
        let VerifiedItem::Witness(witness) = item else { return true };
        let Some(bringer) = from.and_then(|peer| link::id_of(&self.links, peer)) else { return true };
        let entry = self.view.find(&witness.body.subject).filter(|entry| entry.hash().short() == witness.body.record);
        let is_held =
            entry.is_none_or(|entry| entry.suspicions().chain(entry.certificate()).any(|held| held == witness));
        is_held || self.credence.admits(witness.body.observer.short(), bringer.short(), witness.body.subject, now)
    }

    /// Those whose accusations this record refutes, if it is taken in. One of another process refutes nobody: the one
    /// before may well have died.
    pub(super) fn accusers_refuted_by(&self, item: &VerifiedItem) -> Vec<ShortId> {
        let VerifiedItem::Record(record) = item else { return Vec::new() };
        let entry = self.view.get(&record.body.id).filter(|entry| {
            entry.is_suspected() && entry.is_up() && entry.record().body.incarnation == record.body.incarnation
        });
        entry.map_or(Vec::new(), |entry| entry.suspicions().map(|said| said.body.observer.short()).collect())
    }

    /// Whose accusations are not heard for now, as a warning.
    pub fn warning_of_doubt(&self, now: Now) -> Option<String> {
        let name = |short: &ShortId| {
            let record = &self.view.find(short)?.record().body;
            Some(format!("{} ({})", record.label, &record.id.hex()[..8]))
        };
        let names: Vec<String> = self.credence.unheard(now.mono).filter_map(name).take(DOUBTED_NAMED).collect();
        (!names.is_empty()).then(|| {
            format!(
                "accusations that proved false are heard no more for ten minutes, by {}: its links are bad or it lies; \
                 mend them, or keep it out with 'kithd ban'",
                names.join(", ")
            )
        })
    }

    /// A node was not known before: what comes with it is no surprise.
    pub(super) fn note_fresh(&mut self, short: ShortId) {
        self.fresh.insert(short);
    }
}
