//! News in and out.
//!
//! ```text
//!   a change ──▶ feed ──▶ eager link, few changes    the items themselves        Push, News
//!                     ├─▶ eager link, many           announcements               ──▶ wanted of the first who made one
//!                     └─▶ other link                 held for a second; announced if the remote still lacks it
//! ```
//!
//! What a link is owed (`outbox`) goes with whatever may be sent: at a tail a `Push` (four at most are unacknowledged), at
//! a head the answer to a `Push` or a `Watch`. While little happens neither takes messages of its own: a heartbeat arms the
//! watches, and its answer acknowledges the pushes (`message.rs`).

use super::reporting::status_of;
use super::rounds::{EXPIRY_PERIOD, ORPHAN};
use super::{Action, Actions, MAX_RECENT, Node, Notice};
use crate::protocol::discovery::feed::Change;
use crate::protocol::identity::{ControllerId, PeerId, ShortId};
use crate::protocol::message::{Announcement, HeadMessage, Part, Statement, TailMessage, Want};
use crate::protocol::open_requests::MAX_WATCHES;
use crate::protocol::peer_state::{Command, NewsKind, Tidings};
use crate::protocol::reason::Reason;
use crate::protocol::record::{Record, RecordState, Stage, Verified, VerifiedItem};
use crate::protocol::report::{Direction, Status};
use crate::protocol::time::{Now, Time};
use crate::protocol::view::{Entry, Merged};

/// A head leaves so many pushes to the next heartbeat to acknowledge.
const PATIENT_PUSHES: u8 = 2;

impl Node {
    /// Takes one piece of news in, and passes on what changed.
    pub(super) fn merge(&mut self, now: Now, from: Option<PeerId>, item: VerifiedItem, actions: &mut Actions) {
        if let VerifiedItem::Record(record) = &item
            && record.body.id == self.me
            && record.body.incarnation != self.incarnation
        {
            return self.foreign_record(record.body.version, record.body.incarnation, actions);
        }
        let (short, part) = match &item {
            VerifiedItem::Record(record) => (record.body.id.short(), Part::All),
            VerifiedItem::Witness(witness) if witness.body.stage == Stage::Suspect => {
                (witness.body.subject, Part::Suspicion)
            }
            VerifiedItem::Witness(witness) => (witness.body.subject, Part::Verdict),
            VerifiedItem::Forget(forget) => (forget.body.subject, Part::Verdict),
        };
        if let VerifiedItem::Record(record) = &item {
            self.wants.came(&short, part, record.body.version as u32, [0; 4], now.mono);
        }
        if !self.passes(now, from, &item, actions) {
            return;
        }
        let earlier = self.seen(&short);
        let before = earlier.status;
        let early = matches!(&item, VerifiedItem::Witness(witness) if self.is_early(now.mono, from, witness));
        let part = if early { Part::Suspicion } else { part };
        if part == Part::Suspicion && !self.is_heard(now.mono, from, &item) {
            self.count_dropped(Reason::TooFast);
            if let Some(entry) = self.view.find(&short) {
                self.wants.came(&short, part, entry.version(), entry.verdict(), now.mono);
            }
            return;
        }
        let accusers = self.accusers_refuted_by(&item);
        let record = match &item {
            VerifiedItem::Record(record) => Some(record.clone()),
            VerifiedItem::Witness(_) | VerifiedItem::Forget(_) => None,
        };
        if early && let Some(id) = self.view.resolve(&short) {
            // Also if nothing new is said: whoever is told the same verdict again must believe it in the end.
            self.note_call(now.mono, &id);
            self.await_verdict(&id);
        }
        match if early { self.view.accuse(item) } else { self.view.merge(item) } {
            Merged::Changed(id) => {
                if before.is_none() {
                    self.note_fresh(short);
                }
                if let Some(entry) = self.view.find(&short) {
                    if part != Part::All {
                        self.wants.came(&short, part, entry.version(), entry.verdict(), now.mono);
                    }
                    self.feed.changed(Change { node: short, number: entry.number(), part, from }, now.mono);
                }
                if !accusers.is_empty() {
                    self.credence.refuted(accusers, short, now.mono);
                }
                self.note_change(now, id, &earlier);
                self.follow_expected(&id);
                self.entry_changed(now, id, before, part, actions);
            }
            Merged::Wanted(short) => {
                if let Some(link) = from.and_then(|peer| self.links.get_mut(&peer)) {
                    link.wish(short, Part::All);
                }
            }
            Merged::Refused(reason) => self.count_dropped(reason),
            Merged::Known => {
                let number = record.and_then(|record| self.is_all_there_is(&short, &record));
                if let Some((link, number)) = from.and_then(|peer| self.links.get_mut(&peer)).zip(number) {
                    link.knows(&short, number);
                }
            }
        }
    }

    /// The entry's number if this record is what is held, and nobody has said anything of it: whoever sends it lacks nothing.
    fn is_all_there_is(&self, short: &ShortId, record: &Verified<Record>) -> Option<u32> {
        let entry = self.view.find(short).filter(|entry| entry.record() == record && !entry.is_accused());
        entry.map(Entry::number)
    }

    pub(super) fn pushed(&mut self, now: Now, peer: PeerId, said: Tidings<VerifiedItem>, actions: &mut Actions) {
        let is_farewell = self.is_farewell(peer, &said);
        self.take_in(now, peer, said, actions);
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.unacknowledged = link.unacknowledged.saturating_add(1);
        // A farewell is waited for, and a tail that has much to say must not wait for its next heartbeat.
        let most = if is_farewell { 0 } else { PATIENT_PUSHES - 1 };
        while self
            .links
            .get(&peer)
            .is_some_and(|link| link.unacknowledged > most || link.unacknowledged > 0 && link.has_news())
        {
            let news = self.take_owed(peer);
            if let Some(link) = self.links.get_mut(&peer) {
                link.unacknowledged -= 1;
            }
            actions.push(Action::Command(peer, Command::Answer(HeadMessage::Ack(news))));
        }
        self.send_news(now.mono, peer, actions);
    }

    pub(super) fn news(
        &mut self,
        now: Now,
        peer: PeerId,
        said: Tidings<VerifiedItem>,
        kind: NewsKind,
        actions: &mut Actions,
    ) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        match kind {
            NewsKind::Acknowledged => _ = link.pushes.pop_front(),
            NewsKind::Watched => {
                link.watches = link.watches.saturating_sub(1);
                if link.watches == 0 {
                    // The next heartbeat arms them anyway, but more may have come than fits two answers.
                    link.watches = MAX_WATCHES as u8;
                    let watch = Action::Command(peer, Command::Issue(TailMessage::Watch));
                    actions.extend(std::iter::repeat_n(watch, MAX_WATCHES as usize));
                }
            }
        }
        self.take_in(now, peer, said, actions);
        self.send_news(now.mono, peer, actions);
    }

    /// The remote's heartbeat, or its answer to this node's: watches are armed by it, pushes acknowledged.
    pub(super) fn beaten(&mut self, now: Time, peer: PeerId, dated: Option<Time>, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.watches = MAX_WATCHES as u8;
        match (link.direction, dated) {
            (Direction::Outgoing, Some(sent)) => link.pushes.retain(|pushed| *pushed >= sent),
            (Direction::Outgoing, None) => {}
            (Direction::Incoming, _) => link.unacknowledged = 0,
        }
        self.send_news(now, peer, actions);
    }

    /// The remote stated its view: hears it, and compares if views stay different though nothing is under way.
    pub(super) fn statement(
        &mut self,
        now: Now,
        peer: PeerId,
        statement: Statement,
        dated: Option<Time>,
        actions: &mut Actions,
    ) {
        let same = !self.is_in_flux(now.mono) && statement.digest == self.view.digest().half();
        if let Some(link) = self.links.get_mut(&peer).filter(|_| same) {
            // It knows the same of all that are up; what is said of others, or against them, is in no digest.
            let view = &self.view;
            if !link.held.is_empty() {
                let unsaid = view.among(&link.held).filter(|(_, entry)| !entry.is_up() || entry.is_accused());
                link.held = unsaid.map(|(_, entry)| entry.number()).collect();
            }
            link.held_until = link.held_until.filter(|_| !link.held.is_empty());
        }
        let compare = self.seems_to_differ(now, peer, same);
        // Of nodes only that are in the view: what a stranger states, when there is no room for him, says nothing of it.
        let id = self.links.get(&peer).filter(|link| link.is_edge()).and_then(|link| link.node);
        if let (Some(id), Some(dated)) = (id.filter(|id| self.view.get(id).is_some()), dated) {
            self.agreement.hear(id, statement, dated);
        }
        if compare {
            self.sync(now, peer, actions);
        }
    }

    fn take_in(&mut self, now: Now, peer: PeerId, said: Tidings<VerifiedItem>, actions: &mut Actions) {
        self.fresh.clear();
        for item in said.items {
            self.merge(now, Some(peer), item, actions);
        }
        self.fresh.clear();
        self.announced(now.mono, peer, &said.announcements);
        let wanted: Vec<_> = said.want.iter().filter(|Want(short, _)| self.view.find(short).is_some()).collect();
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed.extend(wanted.into_iter().map(|Want(short, part)| (*short, *part)));
        }
        if let Some(roll) = said.roll {
            self.roll_heard(now.mono, peer, roll, actions);
        }
    }

    /// The remote has these; of what this node lacks of them, somebody is asked for each.
    fn announced(&mut self, now: Time, peer: PeerId, offers: &[Announcement]) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let mut lost = 0;
        for Announcement { node, version, verdict, suspected } in offers {
            let lacking = match self.view.find(node) {
                None => Part::All,
                Some(entry) => match (version.wrapping_sub(entry.version()) as i32, entry.verdict()) {
                    (1.., _) => Part::All,
                    (0, held) if held != *verdict && *verdict != [0; 4] => Part::Verdict,
                    (0, _) if *suspected && entry.is_up() && !entry.is_suspected() => Part::Suspicion,
                    (0, held) if held == *verdict => {
                        link.knows(node, entry.number());
                        continue;
                    }
                    // It is the remote that lacks something.
                    _ => {
                        link.announce.insert(entry.number());
                        continue;
                    }
                },
            };
            lost += u64::from(self.wants.is_full());
            if self.wants.offered(*node, lacking, (Some(*version), *verdict), peer, now) {
                link.wish(*node, lacking);
            }
        }
        if lost > 0 {
            *self.dropped.entry(Reason::Overloaded).or_default() += lost;
        }
    }

    /// Whoever was asked has not sent it: the next one is.
    pub(super) fn ask_again(&mut self, now: Time, actions: &mut Actions) {
        for (short, part, peer) in self.wants.due(now) {
            if let Some(link) = self.links.get_mut(&peer) {
                link.wish(short, part);
                self.send_news(now, peer, actions);
            }
        }
    }

    fn is_farewell(&self, peer: PeerId, said: &Tidings<VerifiedItem>) -> bool {
        let node = self.links.get(&peer).and_then(|link| link.node);
        said.items.iter().any(|item| match item {
            VerifiedItem::Record(record) => record.body.state == RecordState::Left && Some(record.body.id) == node,
            VerifiedItem::Witness(_) | VerifiedItem::Forget(_) => false,
        })
    }

    /// Somebody has a record of this node that this process did not make.
    fn foreign_record(&mut self, version: u64, incarnation: u64, actions: &mut Actions) {
        if version < self.version {
            return;
        }
        if self.foreign_incarnation.replace(incarnation) == Some(incarnation) {
            let text = "another process uses this node's identity: give each its own state directory".to_owned();
            self.warn("duplicate-identity", Some(text));
            if self.incarnation < incarnation {
                actions.push(Action::Fatal(Reason::DuplicateIdentity));
            }
        }
        // Lost state, or another self: one jump over it settles the first case. From now on the same record, which many
        // may send before the jump is published, is a lesser one.
        self.version = version.saturating_add(1);
        self.publisher.hurry();
    }

    /// Follows up on a changed entry: the user hears of it, this node defends itself, others are looked for.
    fn entry_changed(&mut self, now: Now, id: ControllerId, before: Option<Status>, part: Part, actions: &mut Actions) {
        let Some(entry) = self.view.get(&id) else { return };
        if before.is_none() {
            self.joined += 1;
            if self.recent.len() == MAX_RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(id);
        }
        if !entry.is_up() {
            self.expiry_due.get_or_insert(now.mono + EXPIRY_PERIOD);
        }
        if !entry.is_up() || part == Part::All && !entry.record().body.reach.is_proven() {
            self.orphans_due.get_or_insert(now.mono + ORPHAN);
        }
        if id == self.me {
            if entry.is_suspected() || !entry.certificate().is_empty() || entry.standing() != self.own_standing() {
                self.publisher.hurry();
            }
        } else if part == Part::All {
            if before == Some(Status::Down) && entry.is_up() {
                // It is back: what kept failing while it was away is no reason to wait.
                self.book.alive(entry.record().body.address);
            }
            self.detector.refuted(&id, now.mono);
            self.drop_call(&id);
        } else if !entry.is_up() {
            self.drop_call(&id);
            self.credence.proved(&id.short());
        } else if entry.is_suspected() && before == Some(Status::Up) {
            self.note_call(now.mono, &id);
            self.volunteer(now, id, self.view.up_count());
            let asked = self.links.iter().filter(|(_, link)| link.is_outgoing_edge() && link.node == Some(id));
            actions.extend(asked.map(|(peer, _)| Action::Command(*peer, Command::Beat)));
        }
        self.place_on_rings(now, &id);
        // Of itself a node has nothing to hear.
        if id != self.me
            && let Some(entry) = self.view.get(&id)
            && let Some(status) = status_of(entry).filter(|status| Some(*status) != before)
        {
            let label = entry.record().body.label.clone();
            actions.push(Action::Notify(Notice::Status { id, label, status }));
        }
        self.stir(now);
    }
}
