//! The tick of network discovery: what has become due is said.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Actions, Node, Settings};
use crate::protocol::discovery::detector::Verdict;
use crate::protocol::hash::Hash;
use crate::protocol::identity::{ControllerId, ShortId};
use crate::protocol::list::List;
use crate::protocol::record::{
    RENEWAL, Reach, Record, RecordBody, RecordState, Signer, Stage, Verified, VerifiedItem, Witness, WitnessBody,
};
use crate::protocol::time::Now;
use crate::protocol::view::{CERTIFICATE, Entry, Standing};

/// How often nodes that are gone are gone through for what nobody needs any more; not at all while there are none.
pub(super) const EXPIRY_PERIOD: Duration = Duration::from_secs(3600);

/// From a death to the question whether somebody is left alone by it: whoever lives has found new neighbours by then, and
/// has said so.
pub(super) const ORPHAN: Duration = Duration::from_secs(5);

impl Node {
    pub(super) fn discovery(&mut self, now: Now, actions: &mut Actions) {
        if self.renewal_due <= now.mono && self.state == RecordState::Up {
            self.publisher.hurry();
        }
        if self.expiry_due.is_some_and(|due| due <= now.mono) {
            self.expire(now);
            self.expiry_due = self.view.has_gone().then(|| now.mono + EXPIRY_PERIOD);
        }
        if self.orphans_due.is_some_and(|due| due <= now.mono) {
            self.look_for_orphans(now);
        }
        if self.publisher.due(self.settled, self.is_crowded()).is_some_and(|due| due <= now.mono) {
            self.publish(now, actions);
        }
        self.count_verdicts(now, actions);
        let verdicts = self.detector.due(now.mono);
        if self.detector.wants_probes() {
            self.stir(now);
        }
        for verdict in verdicts {
            match verdict {
                Verdict::Suspect(id) => self.suspect(now, id, actions),
                Verdict::Down(id, record) => self.testify(now, id, record, None, actions),
                Verdict::Review(id, record, need) => self.testify(now, id, record, Some(need), actions),
            }
        }
        if self.feed.due().is_some_and(|due| due <= now.mono) {
            self.flush(now, actions);
        }
        if self.held_due.is_some_and(|due| due <= now.mono) {
            self.release_held(now.mono, actions);
        }
        self.ask_again(now.mono, actions);
        self.call_roll(now.mono, actions);
        self.expire_censuses(now, actions);
        if self.reach_due.is_some_and(|due| due <= now.mono) {
            self.give_up_reach();
        }
    }

    /// Says something new of this node, now.
    pub(super) fn publish(&mut self, now: Now, actions: &mut Actions) {
        let heads = self.publisher.published(now.mono);
        let held = self.view.get(&self.me).map_or(0, |entry| entry.record().body.version);
        self.version = self.version.max(held).saturating_add(1);
        self.issued = self.issued.max(now.wall_hours());
        self.renewal_due = now.mono + RENEWAL;
        let body = RecordBody {
            version: self.version,
            issued: self.issued,
            state: self.state,
            reach: self.reach,
            tags: self.settings.tags.clone().into_iter().collect(),
            round_trips: heads.iter().map(|head| self.round_trip_to(head)).collect(),
            edges: heads.into_iter().collect(),
            ..self.record.body.clone()
        };
        self.record = Record::signed(body, &*self.signer);
        let record = VerifiedItem::Record(self.record.clone());
        self.merge(now, None, record, actions);
    }

    /// Edges came or went: the record follows when they have settled.
    pub(super) fn heads_changed(&mut self, now: Now) {
        if self.state == RecordState::Left {
            // The farewell has been said.
            return;
        }
        let heads: BTreeSet<ShortId> = self
            .links
            .values()
            .filter(|link| link.is_outgoing_edge() || self.takes_over(link))
            .filter_map(|link| Some(link.node?.short()))
            .collect();
        // What the record has no room for is no part of the graph: only a user's own `connect`s exceed it.
        let heads = heads.into_iter().take(List::<ShortId, { crate::protocol::record::MAX_EDGES }>::MAX).collect();
        self.publisher.observe(heads, now.mono);
    }

    pub(super) fn own_standing(&self) -> Standing {
        match self.state {
            RecordState::Up => Standing::Up,
            RecordState::Left => Standing::Left,
        }
    }

    fn suspect(&mut self, now: Now, id: ControllerId, actions: &mut Actions) {
        let Some(entry) = self.view.get(&id).filter(|entry| entry.is_up() && self.may_witness(entry)) else {
            return self.detector.drop_case(&id);
        };
        let record = entry.hash();
        // One call for others to look, and for the node to speak up, is enough.
        let witness = (!entry.is_suspected()).then(|| self.witness(entry, Stage::Suspect, 1));
        let since = self.called_since(&id, record).unwrap_or(now.mono);
        self.detector.accused(id, record, since, now.mono);
        if let Some(witness) = witness {
            self.merge(now, None, VerifiedItem::Witness(witness), actions);
        }
    }

    /// Stage 2, the first time or (with the need it had then) once more.
    fn testify(&mut self, now: Now, id: ControllerId, record: Hash, stated: Option<u8>, actions: &mut Actions) {
        let Some(entry) = self.view.get(&id).filter(|entry| entry.is_up() && entry.hash() == record) else {
            return self.detector.drop_case(&id);
        };
        let need = self.need(entry);
        self.detector.testified(id, record, need.min(stated.unwrap_or(need)), now.mono);
        if stated.is_none_or(|stated| need < stated) {
            let witness = self.witness(entry, Stage::Down, need);
            self.detector.testified(id, record, need, now.mono);
            self.merge(now, None, VerifiedItem::Witness(witness), actions);
        }
    }

    fn witness(&self, entry: &Entry, stage: Stage, need: u8) -> Verified<Witness> {
        let body = WitnessBody {
            network: self.settings.network,
            subject: entry.record().body.id.short(),
            record: entry.hash().short(),
            stage,
            need,
            observer: self.me,
        };
        Witness::signed(body, &*self.signer)
    }

    /// A node that cannot be dialled is judged only by those it is linked to, while one of them is there.
    fn may_witness(&self, entry: &Entry) -> bool {
        let record = &entry.record().body;
        record.reach.is_proven() || record.edges.contains(&self.me.short()) || self.is_orphan(entry)
    }

    /// None of the heads it names is up; one that is not known here may be. Whoever has said nothing of its edges yet may
    /// have any: somebody must be able to miss it.
    fn is_orphan(&self, entry: &Entry) -> bool {
        let may_see = |head: &ShortId| self.view.find(head).is_none_or(Entry::is_up);
        !entry.record().body.edges.iter().any(may_see)
    }

    /// Nodes that cannot be dialled and whose heads are all gone: nobody is linked to them who could miss them. If they
    /// lived they would have said whom they are linked to now. Six nodes on average ask, and again while there are any.
    fn look_for_orphans(&mut self, now: Now) {
        let lost = |entry: &Entry| {
            let record = &entry.record().body;
            !record.reach.is_proven() && !record.edges.is_empty() && self.is_orphan(entry)
        };
        let orphans = self.view.up().filter(|(id, entry)| **id != self.me && lost(entry)).map(|(id, _)| *id);
        let orphans: Vec<ControllerId> = orphans.collect();
        self.orphans_due = (!orphans.is_empty()).then(|| now.mono + ORPHAN);
        for id in orphans {
            self.volunteer(now, id, self.view.up_count());
        }
    }

    /// How many nodes there are, this one included, that are fit to observe.
    pub(super) fn sound(&self) -> usize {
        let is_sound = |entry: &Entry| entry.record().body.reach.may_be_dialled();
        let suspected = self.view.accused().filter(|(_, entry)| entry.is_suspected()).map(|(id, _)| *id);
        let mut unsound: BTreeSet<ControllerId> = suspected.chain(self.detector.cases()).collect();
        unsound.remove(&self.me);
        let unsound =
            unsound.iter().filter_map(|id| self.view.get(id)).filter(|entry| entry.is_up() && is_sound(entry));
        let me = self.view.get(&self.me).filter(|entry| entry.is_up());
        let blind = usize::from(me.is_some_and(|entry| !is_sound(entry)));
        (self.view.reachable_count() + blind).saturating_sub(unsound.count())
    }

    /// How many observers are owed: half of those this node holds live and does not itself miss, 1 to 3.
    fn need(&self, subject: &Entry) -> u8 {
        let owed = (self.sound().saturating_sub(1) / 2).clamp(1, CERTIFICATE);
        let heads = subject.record().body.edges.len().max(1);
        let most = if subject.record().body.reach.is_proven() { owed } else { owed.min(heads) };
        // At most 3.
        most as u8
    }
}

/// The record a node is born with: no edges yet, and nobody has reached it.
pub(super) fn first_record(
    settings: &Settings,
    signer: &dyn Signer,
    incarnation: u64,
    version: u64,
    now: Now,
) -> Verified<Record> {
    let body = RecordBody {
        network: settings.network,
        id: signer.id(),
        version,
        issued: now.wall_hours(),
        incarnation,
        state: RecordState::Up,
        reach: Reach::Unproven,
        address: settings.advertise,
        label: settings.label.clone(),
        tags: settings.tags.clone().into_iter().collect(),
        edges: List::new(),
        round_trips: List::new(),
    };
    Record::signed(body, signer)
}
