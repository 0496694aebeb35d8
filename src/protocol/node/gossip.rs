//! News in and out, and the comparing of views.
//!
//! What a link is owed is a set of nodes and parts of their entries, not of bytes: the feed adds to it, a `want` and a
//! comparison add to it, and whatever may be sent takes from it: at a tail a `Push` (four at most are unacknowledged), at
//! a head the answer to a `Push` or a `Watch`.

use std::collections::BTreeSet;

use super::link::{Link, Phase};
use super::rounds::EXPIRY_PERIOD;
use super::{Action, Actions, Node, Notice};
use crate::protocol::codec::{MAX_FRAME, encoded_len};
use crate::protocol::discovery::feed::{Behind, Part};
use crate::protocol::heartbeat::PROBE;
use crate::protocol::identity::{ControllerId, PeerId, ShortId};
use crate::protocol::list::List;
use crate::protocol::message::{BucketHash, EntryHash, HeadMessage, MAX_ENTRIES, News, TailMessage};
use crate::protocol::open_requests::MAX_PUSHES;
use crate::protocol::peer_state::{Command, NewsKind};
use crate::protocol::reason::Reason;
use crate::protocol::record::{Item, Stage, VerifiedItem};
use crate::protocol::report::{Direction, Status};
use crate::protocol::time::{Now, Time};
use crate::protocol::view::{Merged, View};

/// Items of one message, in bytes: leaves room in a frame for what is wanted.
const MAX_NEWS_BYTES: usize = MAX_FRAME - 4096;
/// Between two comparisons on one link.
const SYNC_PAUSE_MS: u64 = 3000;
/// A view must have been quiet for this long before differing digests say anything.
const QUIET_MS: u64 = 1000;
/// So many nodes on average look for a node that somebody suspects (`discovery.md` 2.6).
const VOLUNTEERS: f64 = 6.0;

impl Node {
    /// Takes one piece of news in, and passes on what changed.
    pub(super) fn merge(&mut self, now: Now, from: Option<PeerId>, item: VerifiedItem, actions: &mut Actions) {
        if let VerifiedItem::Record(record) = &item
            && record.body.id == self.me
            && record.body.incarnation != self.incarnation
        {
            return self.foreign_record(record.body.version, record.body.incarnation, actions);
        }
        if !self.passes(now, from, &item, actions) {
            return;
        }
        let subject = match &item {
            VerifiedItem::Record(record) => Some(record.body.id),
            VerifiedItem::Witness(witness) => self.view.resolve(&witness.body.subject),
            VerifiedItem::Forget(forget) => self.view.resolve(&forget.body.subject),
        };
        let before = subject.and_then(|id| self.status(&id));
        let part = match &item {
            VerifiedItem::Record(_) => Part::All,
            VerifiedItem::Witness(witness) if witness.body.stage == Stage::Suspect => Part::Suspicion,
            VerifiedItem::Witness(_) | VerifiedItem::Forget(_) => Part::Verdict,
        };
        match self.view.merge(item) {
            Merged::Changed(id) => {
                self.feed.changed(id, part, from, now.mono);
                self.entry_changed(now, id, before, part, actions);
            }
            Merged::Wanted(short) => {
                if let Some(link) = from.and_then(|peer| self.links.get_mut(&peer)) {
                    link.wish(short);
                }
            }
            Merged::Refused(reason) => self.count_dropped(reason),
            Merged::Known => {}
        }
    }

    pub(super) fn pushed(
        &mut self,
        now: Now,
        peer: PeerId,
        items: Vec<VerifiedItem>,
        want: Vec<ShortId>,
        actions: &mut Actions,
    ) {
        self.take_in(now, peer, items, want, actions);
        let news = self.take_owed(peer);
        actions.push(Action::Command(peer, Command::Answer(HeadMessage::Ack(news))));
        self.send_news(peer, actions);
    }

    pub(super) fn news(
        &mut self,
        now: Now,
        peer: PeerId,
        items: Vec<VerifiedItem>,
        want: Vec<ShortId>,
        kind: NewsKind,
        actions: &mut Actions,
    ) {
        if let (NewsKind::Acknowledged, Some(link)) = (kind, self.links.get_mut(&peer)) {
            link.pushes = link.pushes.saturating_sub(1);
        }
        if kind == NewsKind::Watched {
            actions.push(Action::Command(peer, Command::Issue(TailMessage::Watch)));
        }
        self.take_in(now, peer, items, want, actions);
        self.send_news(peer, actions);
    }

    /// Begins a comparison of views; only the tail can.
    pub(super) fn sync(&mut self, now: Now, peer: PeerId, actions: &mut Actions) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.last_sync = Some(now.mono);
        link.differing = 0;
        let buckets = self.view.buckets().into_iter().map(|(bucket, hash)| BucketHash(bucket, hash)).collect();
        actions.push(Action::Command(peer, Command::Issue(TailMessage::Sync { buckets })));
    }

    /// The head's part: names the buckets that differ, and all it has in them.
    pub(super) fn compare(&mut self, peer: PeerId, theirs: &[BucketHash], actions: &mut Actions) {
        let mine = self.view.buckets();
        let theirs: std::collections::BTreeMap<u8, [u8; 8]> =
            theirs.iter().map(|BucketHash(bucket, hash)| (*bucket, *hash)).collect();
        let differ: BTreeSet<u8> =
            mine.keys().chain(theirs.keys()).copied().filter(|bucket| mine.get(bucket) != theirs.get(bucket)).collect();
        let mut buckets = List::new();
        let mut entries: Vec<EntryHash> = Vec::new();
        for bucket in differ {
            let inside = self.view.states_in(bucket, bucket).map(|(short, hash)| EntryHash(short, hash));
            let inside: Vec<_> = inside.collect();
            if entries.len() + inside.len() > MAX_ENTRIES || buckets.push(bucket).is_err() {
                // The rest differs still, and is compared next time.
                break;
            }
            entries.extend(inside);
        }
        let differences = HeadMessage::Differences { buckets, entries: entries.into_iter().collect() };
        actions.push(Action::Command(peer, Command::Answer(differences)));
    }

    /// The tail's part: pushes what it has otherwise, wants what the head has otherwise.
    pub(super) fn differences(&mut self, peer: PeerId, buckets: &[u8], theirs: &[EntryHash], actions: &mut Actions) {
        let mine: BTreeSet<EntryHash> = self
            .view
            .states()
            .filter(|(short, _)| buckets.contains(&short.0[0]))
            .map(|(short, hash)| EntryHash(short, hash))
            .collect();
        let theirs: BTreeSet<EntryHash> = theirs.iter().copied().collect();
        let owed: Vec<_> =
            mine.difference(&theirs).filter_map(|EntryHash(short, _)| self.view.resolve(short)).collect();
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed.extend(owed.into_iter().map(|id| (id, Part::All)));
            theirs.difference(&mine).for_each(|EntryHash(short, _)| link.wish(*short));
        }
        self.send_news(peer, actions);
    }

    /// Hands every link what the feed has for it.
    pub(super) fn flush(&mut self, now: Now, actions: &mut Actions) {
        self.feed.flushed(now.mono);
        let behind: Vec<PeerId> = self
            .links
            .iter()
            .filter(|(peer, link)| link.is_edge() && self.feed.is_behind(**peer))
            .map(|(p, _)| *p)
            .collect();
        for peer in behind {
            match self.feed.take(peer) {
                Behind::Entries(ids) => {
                    if let Some(link) = self.links.get_mut(&peer) {
                        link.owed.extend(ids);
                    }
                    self.send_news(peer, actions);
                }
                // Only a tail can compare; a head's tail sees the digests differ and does.
                Behind::Lost if self.links.get(&peer).is_some_and(Link::is_outgoing_edge) => {
                    self.sync(now, peer, actions)
                }
                Behind::Lost => self.count_dropped(Reason::Overloaded),
            }
        }
    }

    /// Sends what a link is owed, as far as its direction and its open requests allow.
    pub(super) fn send_news(&mut self, peer: PeerId, actions: &mut Actions) {
        loop {
            let Some(link) = self.links.get_mut(&peer).filter(|link| link.phase == Phase::Established) else { return };
            if link.owed.is_empty() && link.want.is_empty() {
                return;
            }
            let command = match link.direction {
                Direction::Outgoing if u32::from(link.pushes) < MAX_PUSHES => {
                    link.pushes += 1;
                    Command::Issue(TailMessage::Push(self.take_owed(peer)))
                }
                Direction::Incoming if link.watches > 0 => {
                    link.watches -= 1;
                    Command::Answer(HeadMessage::News(self.take_owed(peer)))
                }
                _ => return,
            };
            actions.push(Action::Command(peer, command));
        }
    }

    /// The remote stated its view: hears it, and compares if views stay different though nothing is under way.
    pub(super) fn statement(
        &mut self,
        now: Now,
        peer: PeerId,
        statement: crate::protocol::message::Statement,
        dated: Time,
        actions: &mut Actions,
    ) {
        let digest = self.view.digest();
        let quiet = now.mono.since(self.agreement.since()).as_millis() as u64 >= QUIET_MS;
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.differing = if statement.digest == digest || !quiet { 0 } else { link.differing.saturating_add(1) };
        let rested = link.last_sync.is_none_or(|last| now.mono.since(last).as_millis() as u64 >= SYNC_PAUSE_MS);
        let compare = link.differing >= 3 && rested && link.is_outgoing_edge();
        // Of nodes only that are in the view: what a stranger states, when there is no room for him, says nothing of it.
        if let Some(id) = link.node.filter(|id| link.is_edge() && self.view.get(id).is_some()) {
            self.agreement.hear(id, statement, dated);
        }
        if compare {
            self.sync(now, peer, actions);
        }
    }

    fn take_in(&mut self, now: Now, peer: PeerId, items: Vec<VerifiedItem>, want: Vec<ShortId>, actions: &mut Actions) {
        for item in items {
            self.merge(now, Some(peer), item, actions);
        }
        let wanted: Vec<ControllerId> = want.iter().filter_map(|short| self.view.resolve(short)).collect();
        if let Some(link) = self.links.get_mut(&peer) {
            link.owed.extend(wanted.into_iter().map(|id| (id, Part::All)));
        }
    }

    /// As much of what a link is owed as fits a message.
    fn take_owed(&mut self, peer: PeerId) -> News {
        let Some(link) = self.links.get_mut(&peer) else { return News::default() };
        let mut news = News::default();
        while let Some(short) = link.want.pop_first() {
            if news.want.push(short).is_err() {
                link.want.insert(short);
                break;
            }
        }
        let mut room = MAX_NEWS_BYTES;
        while let Some((id, part)) = link.owed.pop_first() {
            if part == Part::All {
                link.owed.remove(&(id, Part::Verdict));
                link.owed.remove(&(id, Part::Suspicion));
            }
            let items = items_of(&self.view, &id, part);
            let size: usize = items.iter().map(encoded_len).sum();
            if size > room
                || news.items.len() + items.len() > List::<Item, { crate::protocol::message::MAX_ITEMS }>::MAX
            {
                link.owed.insert((id, part));
                break;
            }
            room -= size;
            for item in items {
                // Cannot be full: checked above.
                let _ = news.items.push(item);
            }
        }
        news
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
        self.joined += u64::from(before.is_none());
        if !entry.is_up() {
            self.expiry_due.get_or_insert(now.mono + EXPIRY_PERIOD);
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
            self.detector.refuted(&id);
        } else if entry.is_up() && entry.is_suspected() && before == Some(Status::Up) {
            self.volunteer(now, id, self.view.up().count());
        }
        let (after, label) = (self.status(&id), self.view.get(&id).map(|entry| entry.record().body.label.clone()));
        // Of itself a node has nothing to hear.
        let is_news = after != before && id != self.me;
        if let (Some(status), Some(label)) = (after.filter(|_| is_news), label) {
            actions.push(Action::Notify(Notice::Status { id, label, status }));
        }
        self.stir(now);
    }

    /// Somebody suspects this node: with a chance that makes six volunteers on average, look for oneself.
    pub(super) fn volunteer(&mut self, now: Now, id: ControllerId, live: usize) {
        let linked = self.links.values().any(|link| link.is_edge() && link.node == Some(id));
        if !linked && self.rng.chance(VOLUNTEERS / live.max(1) as f64) {
            self.miss(now, Some(id), PROBE);
        }
    }
}

/// What is known about a node, or a part of it, in the order in which it can be merged.
fn items_of(view: &View, id: &ControllerId, part: Part) -> Vec<Item> {
    let Some(entry) = view.get(id) else { return Vec::new() };
    let mut items = if part == Part::Suspicion { Vec::new() } else { entry.items() };
    if part == Part::Verdict {
        items.retain(|item| !matches!(item, VerifiedItem::Record(_)));
    } else {
        items.extend(entry.suspicions().cloned().map(VerifiedItem::Witness));
    }
    items.into_iter().map(|item| item.item()).collect()
}
