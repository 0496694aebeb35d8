//! The comparing of views: on a new edge, and when two views stay different though nothing is under way.
//!
//! ```text
//!   tail   Sync{from bucket f: hashes}  ──────▶  head
//!          ◀──────  Differences{up to bucket l: which differ, and the head's entries in these}
//!          pushes what it has otherwise, wants what the head has otherwise;
//!          and if l is not the last, the same again from l + 1
//! ```
//!
//! A view of ten thousand nodes that differs everywhere takes a dozen rounds; one that differs in a few entries, one.

use std::collections::{BTreeMap, BTreeSet};

use super::link::Link;
use super::{Action, Actions, Node};
use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::list::List;
use crate::protocol::message::{BucketHash, EntryHash, HeadMessage, MAX_ENTRIES, Part, TailMessage};
use crate::protocol::peer_state::Command;
use crate::protocol::time::{Now, Time};

/// Between two comparisons on one link.
const PAUSE_MS: u64 = 3000;
/// A view must have been quiet for this long before differing digests say anything.
const QUIET_MS: u64 = 1000;
/// So many heartbeats running must have differed.
const DIFFERING: u8 = 3;

impl Node {
    /// Begins a comparison of views; only the tail can.
    pub(super) fn sync(&mut self, now: Now, peer: PeerId, actions: &mut Actions) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.last_sync = Some(now.mono);
            link.differing = 0;
            self.sync_from(peer, 0, actions);
        }
    }

    fn sync_from(&self, peer: PeerId, first: u8, actions: &mut Actions) {
        let buckets = self.view.bucket_hashes(first).map(|(bucket, hash)| BucketHash(bucket, hash)).collect();
        actions.push(Action::Command(peer, Command::Issue(TailMessage::Sync { first, buckets })));
    }

    /// The remote holds the same view, or another one: true if it is time to compare.
    pub(super) fn seems_to_differ(&mut self, now: Now, peer: PeerId, same: bool) -> bool {
        let quiet = now.mono.since(self.agreement.since()).as_millis() as u64 >= QUIET_MS;
        let Some(link) = self.links.get_mut(&peer) else { return false };
        link.differing = if same || !quiet { 0 } else { link.differing.saturating_add(1) };
        let rested = |last: Time| now.mono.since(last).as_millis() as u64 >= PAUSE_MS;
        link.differing >= DIFFERING && link.last_sync.is_none_or(rested) && link.is_outgoing_edge()
    }

    /// The head's part: names the buckets that differ, and all it has in them.
    pub(super) fn compare(&mut self, peer: PeerId, first: u8, theirs: &[BucketHash], actions: &mut Actions) {
        let mine: BTreeMap<u8, [u8; 8]> = self.view.bucket_hashes(first).collect();
        let theirs: BTreeMap<u8, [u8; 8]> = theirs.iter().map(|BucketHash(bucket, hash)| (*bucket, *hash)).collect();
        let (mut last, mut buckets, mut entries) = (u8::MAX, List::new(), Vec::new());
        for bucket in (first..=u8::MAX).filter(|bucket| mine.get(bucket) != theirs.get(bucket)) {
            let before = entries.len();
            entries.extend(self.view.states_in(bucket).map(|(short, hash)| EntryHash(short, hash)));
            // A bucket that is too large for any message is left out, or nothing behind it would ever be compared.
            let too_large = entries.len() - before > MAX_ENTRIES;
            if too_large {
                entries.truncate(before);
            } else if entries.len() > MAX_ENTRIES || buckets.push(bucket).is_err() {
                entries.truncate(before);
                // Not the first: that one fits.
                last = bucket.saturating_sub(1);
                break;
            }
        }
        let differences = HeadMessage::Differences { last, buckets, entries: entries.into_iter().collect() };
        actions.push(Action::Command(peer, Command::Answer(differences)));
    }

    /// The tail's part: pushes what it has otherwise, wants what the head has otherwise.
    pub(super) fn differences(
        &mut self,
        now: Now,
        peer: PeerId,
        (last, buckets): (u8, &[u8]),
        theirs: &[EntryHash],
        actions: &mut Actions,
    ) {
        let mine = buckets.iter().flat_map(|bucket| self.view.states_in(*bucket));
        let mine: BTreeSet<EntryHash> = mine.map(|(short, hash)| EntryHash(short, hash)).collect();
        let theirs: BTreeSet<EntryHash> = theirs.iter().copied().collect();
        let owed: Vec<ShortId> = mine.difference(&theirs).map(|EntryHash(short, _)| *short).collect();
        let known: BTreeSet<ShortId> = theirs.iter().map(|EntryHash(short, _)| *short).collect();
        let lacking: Vec<ShortId> = known.iter().filter(|short| self.view.find(short).is_none()).copied().collect();
        let lacking =
            lacking.into_iter().filter(|short| self.wants.offered(*short, Part::All, (None, [0; 4]), peer, now.mono));
        let lacking: Vec<ShortId> = lacking.collect();
        if let Some(link) = self.links.get_mut(&peer) {
            // What both have, but otherwise, is announced: whoever has the greater says so.
            let (both, only): (Vec<_>, Vec<_>) = owed.into_iter().partition(|short| known.contains(short));
            link.owed.extend(only.into_iter().map(|short| (short, Part::All)));
            both.iter()
                .filter_map(|short| self.view.find(short))
                .for_each(|entry| link.announce.insert(entry.number()));
            lacking.into_iter().for_each(|short| link.wish(short, Part::All));
        }
        self.send_news(now.mono, peer, actions);
        if last < u8::MAX && self.link(peer).is_some_and(Link::is_outgoing_edge) {
            self.sync_from(peer, last + 1, actions);
        }
    }
}
