//! What each link is still to be told.
//!
//! A link's debts are a set of nodes and parts of their entries, not of bytes: the feed adds to it, a `want` and a comparison
//! add to it, and whatever may be sent takes from it. What is only announced are numbers of entries, a bit each
//! ([`Numbers`]): while a network forms, nearly all of it is announced on every link.

use std::collections::BTreeSet;

use super::link::Phase;
use super::{Action, Actions, Node};
use crate::protocol::codec::{MAX_FRAME, PASSING, encoded_len};
use crate::protocol::discovery::feed::Change;
use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::{
    Announcement, HeadMessage, MAX_ANNOUNCEMENTS, MAX_ITEMS, News, Part, TailMessage, Want,
};
use crate::protocol::numbers::Numbers;
use crate::protocol::open_requests::MAX_PUSHES;
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::record::VerifiedItem;
use crate::protocol::report::Direction;
use crate::protocol::time::{Now, Time};
use crate::protocol::view::{Entry, View};

/// Of a frame, what is left beside items, announcements and wishes.
const MARGIN: usize = 256;
/// Encoded, in bytes.
const ANNOUNCEMENT: usize = 17;
const WANT: usize = 12;
/// So many records are pushed in full; of more it is only announced that there are, since most neighbours will have got them
/// from others.
const FEW: usize = 4;
/// Words about a node are as long as this share of a record, and each hop that they are only announced on costs three times
/// the time.
const WORDS: usize = 4;

impl Node {
    /// Hands every link what the feed has for it.
    pub(super) fn flush(&mut self, now: Now, actions: &mut Actions) {
        self.feed.flushed(now.mono, self.flush_intervals());
        let behind: Vec<PeerId> = self
            .links
            .iter()
            .filter(|(peer, link)| link.is_edge() && self.feed.is_behind(**peer))
            .map(|(p, _)| *p)
            .collect();
        for peer in behind {
            self.hand_on(now, peer, actions);
            self.feed.caught_up(peer);
        }
    }

    /// Adds what has changed to what this link is owed.
    fn hand_on(&mut self, now: Now, peer: PeerId, actions: &mut Actions) {
        let hold = self.hold();
        let Some(link) = self.links.get_mut(&peer) else { return };
        if self.feed.has_lost(peer) {
            // Only a tail can compare; a head's tail sees the digests differ and does.
            return match link.is_outgoing_edge() {
                true => self.sync(now, peer, actions),
                false => self.count_dropped(Reason::Overloaded),
            };
        }
        let until = now.mono + self.rng.jitter(hold);
        let changes = || self.feed.unsent(peer);
        match few(changes()) {
            Some(few) if link.eager => link.owed.extend(few),
            _ if link.eager => changes().for_each(|change| link.announce.insert(change.number)),
            _ => changes().for_each(|change| link.held.insert(change.number)),
        }
        if !link.held.is_empty() {
            let until = *link.held_until.get_or_insert(until);
            self.held_due = Some(self.held_due.map_or(until, |due| due.min(until)));
        }
        self.send_news(now.mono, peer, actions);
    }

    /// What was held for links that are not eager is announced when its time has come.
    pub(super) fn release_held(&mut self, now: Time, actions: &mut Actions) {
        self.held_due = None;
        let mut ready = Vec::new();
        for (peer, link) in &mut self.links {
            match link.held_until {
                Some(until) if until <= now => {
                    link.held_until = None;
                    link.announce.unite(&std::mem::take(&mut link.held));
                    ready.push(*peer);
                }
                Some(until) => self.held_due = Some(self.held_due.map_or(until, |due: Time| due.min(until))),
                None => {}
            }
        }
        for peer in ready {
            self.send_news(now, peer, actions);
        }
    }

    /// Sends what a link is owed, as far as its direction and its open requests allow.
    pub(super) fn send_news(&mut self, now: Time, peer: PeerId, actions: &mut Actions) {
        loop {
            let Some(link) = self.links.get_mut(&peer).filter(|link| link.phase == Phase::Established) else { return };
            if !link.has_news() {
                return;
            }
            let command = match link.direction {
                Direction::Outgoing if link.pushes.len() < MAX_PUSHES as usize => {
                    link.pushes.push_back(now);
                    Command::Issue(TailMessage::Push(self.take_owed(peer)))
                }
                Direction::Incoming if link.watches > 0 => {
                    link.watches -= 1;
                    Command::Answer(HeadMessage::News(self.take_owed(peer)))
                }
                Direction::Incoming if link.unacknowledged > 0 => {
                    link.unacknowledged -= 1;
                    Command::Answer(HeadMessage::Ack(self.take_owed(peer)))
                }
                _ => return,
            };
            actions.push(Action::Command(peer, command));
        }
    }

    /// As much of what a link is owed as fits a message.
    pub(super) fn take_owed(&mut self, peer: PeerId) -> News {
        let Some(link) = self.links.get_mut(&peer) else { return News::default() };
        let mut news = News { roll: link.roll.take(), ..News::default() };
        while let Some((short, part)) = link.want.pop_first() {
            if news.want.push(Want(short, part)).is_err() {
                link.want.insert(short, part);
                break;
            }
        }
        let mut room = MAX_FRAME - MARGIN - WANT * news.want.len();
        if !link.announce.is_empty() {
            let most = (room.saturating_sub(1) / ANNOUNCEMENT).min(MAX_ANNOUNCEMENTS);
            // Of a network that forms, these are much of what is under way: they take no more room than they need, or than
            // what the thread that gives it back does not keep.
            let count = most.min(link.announce.len());
            let mut told = Vec::with_capacity(count);
            let mut offers = Vec::with_capacity(count.max(PASSING / size_of::<Announcement>()));
            for (node, entry) in self.view.among(&link.announce).take(most) {
                told.push(entry.number());
                offers.push(announcement(node, entry));
            }
            if offers.len() < most {
                // That is all of them, less what the view has dropped meanwhile.
                link.announce = Numbers::default();
            } else {
                told.into_iter().for_each(|number| link.announce.remove(number));
            }
            room -= ANNOUNCEMENT * offers.len();
            news.announcements = offers.into_iter().collect();
        }
        while let Some((short, part)) = link.owed.pop_first() {
            if part == Part::All {
                link.owed.remove(&(short, Part::Verdict));
                link.owed.remove(&(short, Part::Suspicion));
            }
            let items = items_of(&self.view, &short, part);
            let size: usize = items.iter().map(VerifiedItem::length).sum();
            debug_assert_eq!(size, items.iter().map(|item| encoded_len(&item.item())).sum::<usize>());
            if size > room || news.items.len() + items.len() > MAX_ITEMS {
                link.owed.insert((short, part));
                break;
            }
            room -= size;
            for item in items {
                // Cannot be full: checked above.
                let _ = news.items.push(item.item());
            }
        }
        news
    }
}

/// What is known about a node, or a part of it, in the order in which it can be merged.
fn items_of(view: &View, short: &ShortId, part: Part) -> Vec<VerifiedItem> {
    let Some(entry) = view.find(short) else { return Vec::new() };
    let mut items = Vec::new();
    if part == Part::All {
        items.push(VerifiedItem::Record(entry.record().clone()));
    }
    if part != Part::Suspicion {
        items.extend(entry.verdict_items());
    }
    if part != Part::Verdict {
        items.extend(entry.suspicions().cloned().map(VerifiedItem::Witness));
    }
    items
}

fn announcement(node: ShortId, entry: &Entry) -> Announcement {
    let (version, verdict, suspected) = (entry.version(), entry.verdict(), entry.is_suspected());
    Announcement { node, version, verdict, suspected }
}

/// These changes, each once, if they are few.
fn few<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<BTreeSet<(ShortId, Part)>> {
    let (mut distinct, mut room) = (BTreeSet::new(), FEW * WORDS);
    for change in changes {
        if distinct.insert((change.node, change.part)) {
            room = room.checked_sub(if change.part == Part::All { WORDS } else { 1 })?;
        }
    }
    Some(distinct)
}
