//! What happened to whom: what the others' doings here add to the chronicle. Nothing is decided by it.

use super::Node;
use super::link::{Link, Phase};
use super::reporting::status_of;
use crate::protocol::address::HostPort;
use crate::protocol::chronicle::{Cause, Subject, What};
use crate::protocol::identity::{ControllerId, PeerId, ShortId};
use crate::protocol::message::Purpose;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Record, Verified};
use crate::protocol::report::{Direction, Status};
use crate::protocol::time::Now;

/// A node as it was before some news.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) status: Option<Status>,
    record: Option<Verified<Record>>,
    /// Stage-2 witnesses that were known.
    witnesses: usize,
}

impl Node {
    pub(super) fn note(&mut self, now: Now, id: ControllerId, what: What, cause: Option<Cause>, by: &[ShortId]) {
        self.chronicle.note(now, Subject::Node(id), what, cause, by);
    }

    /// How a node stands, to be compared with how it stands later.
    pub(super) fn seen(&self, short: &ShortId) -> Seen {
        let Some(entry) = self.view.find(short) else { return Seen::default() };
        let told = Some(entry).filter(|_| self.chronicle.is_kept());
        let witnesses = told.map_or(0, |entry| entry.certificate().len());
        Seen { status: status_of(entry), record: told.map(|entry| entry.record().clone()), witnesses }
    }

    /// News have changed what is known of a node.
    pub(super) fn note_change(&mut self, now: Now, id: ControllerId, before: &Seen) {
        if !self.chronicle.is_kept() {
            return;
        }
        let Some(entry) = self.view.get(&id) else { return };
        let (after, record) = (self.status(&id), entry.record().clone());
        let accusers: Vec<ShortId> = entry.suspicions().map(|witness| witness.body.observer.short()).collect();
        let witnesses: Vec<ShortId> = entry.certificate().iter().map(|witness| witness.body.observer.short()).collect();
        if let Some(held) = &before.record {
            self.note_record(now, id, held, &record);
        }
        let status = after.map(What::Status);
        match after {
            // Whoever spoke first is told; who joins him says the same.
            _ if after == before.status && witnesses.len() > before.witnesses => {
                self.note(now, id, What::Witnessed, Some(Cause::Silence), &witnesses);
            }
            _ if after == before.status => {}
            None => {
                let author = entry_author(self, &id);
                self.note(now, id, What::Forgotten, Some(Cause::User), author.as_slice());
                self.chronicle.gone(&id);
            }
            Some(Status::Suspect) => self.note_status(now, id, status, Cause::Silence, &accusers),
            Some(Status::Down) => self.note_status(now, id, status, Cause::Witnesses, &witnesses),
            Some(Status::Left) => self.note_status(now, id, status, Cause::Leave, &[id.short()]),
            Some(Status::Up) => self.note_status(now, id, status, why_up(before, &record), &[id.short()]),
        }
    }

    /// An edge stands.
    pub(super) fn note_edge(&mut self, now: Now, peer: PeerId, id: ControllerId) {
        let Some(link) = self.links.get(&peer) else { return };
        let (what, purpose) = match link.direction {
            Direction::Outgoing => (What::Dialled, link.purpose),
            Direction::Incoming => (What::Accepted, link.purpose),
        };
        self.note(now, id, what, Some(Cause::Purpose(purpose)), &[]);
    }

    /// A connection is over, or a dial came to nothing.
    pub(super) fn note_closed(&mut self, now: Now, link: &Link, reason: Reason) {
        let is_dial = link.direction == Direction::Outgoing;
        let what = match (link.phase, link.purpose) {
            (_, Purpose::Probe) if is_dial && reason == Reason::ProbeOver => What::ProbeAnswered,
            (_, Purpose::Probe) if is_dial => What::ProbeFailed,
            (_, Purpose::Probe) => return,
            (Phase::Established, _) => What::Closed,
            _ if is_dial => What::DialFailed,
            // Whoever it was has not been let in, which is told where it was decided.
            _ => return,
        };
        let subject = match (link.node, &link.target) {
            (Some(id), _) => Subject::Node(id),
            (None, Some(target)) => Subject::Place(target.clone()),
            (None, None) => Subject::Place(HostPort::Ip(link.address)),
        };
        let cause = Some(Cause::Reason(reason)).filter(|_| reason != Reason::ProbeOver);
        self.chronicle.note(now, subject, what, cause, &[]);
    }

    /// A node that is known was not let in: of strangers nothing is remembered, or they could push out the others.
    pub(super) fn note_refused(&mut self, now: Now, id: ControllerId, reason: Reason) {
        if self.view.get(&id).is_some() {
            self.note(now, id, What::Refused, Some(Cause::Reason(reason)), &[]);
        }
    }

    /// The network has forgotten it.
    pub(super) fn note_dropped(&mut self, now: Now, id: ControllerId) {
        self.note(now, id, What::Dropped, Some(Cause::Reason(Reason::Expired)), &[]);
        self.chronicle.gone(&id);
    }

    fn note_status(&mut self, now: Now, id: ControllerId, what: Option<What>, cause: Cause, by: &[ShortId]) {
        if let Some(what) = what {
            self.note(now, id, what, Some(cause), by);
        }
    }

    /// What it says of itself has changed, its edges aside: these change all the time.
    fn note_record(&mut self, now: Now, id: ControllerId, held: &Record, record: &Record) {
        let (held, record) = (&held.body, &record.body);
        let changes = [
            (held.incarnation != record.incarnation, What::Restarted),
            (held.address != record.address, What::Moved),
            (held.label != record.label, What::Renamed),
            (held.tags != record.tags, What::Tagged),
        ];
        for (_, what) in changes.into_iter().filter(|(differs, _)| *differs) {
            self.note(now, id, what, None, &[id.short()]);
        }
        // Where it is now is to be kept, as of one that joins.
        self.joined += u64::from(held.address != record.address);
    }
}

fn why_up(before: &Seen, record: &Record) -> Cause {
    match &before.record {
        None => Cause::FirstRecord,
        Some(held) if held.body.incarnation != record.body.incarnation => Cause::Restart,
        Some(_) => Cause::Refutation,
    }
}

fn entry_author(node: &Node, id: &ControllerId) -> Option<ShortId> {
    Some(node.view.get(id)?.forget()?.body.author.short())
}
