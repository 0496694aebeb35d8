//! What is asked of a view often: kept at hand as entries come, change and go, so that nobody has to go through all of them.

use std::collections::BTreeSet;

use super::entry::{Entry, Standing};
use super::identity::ShortId;

/// Counts and lists of a view's entries.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Rises with everything that is added or removed.
    pub(super) changes: u64,
    pub(super) entries: usize,
    pub(super) up: usize,
    pub(super) reachable: usize,
    pub(super) accused: BTreeSet<ShortId>,
    pub(super) down: BTreeSet<ShortId>,
    pub(super) gone: usize,
    pub(super) sketch: u64,
    pub(super) centre: Option<ShortId>,
    pub(super) tails: BTreeSet<ShortId>,
}

impl Tally {
    pub(super) fn add(&mut self, short: ShortId, entry: &Entry) {
        self.changes += 1;
        self.entries += 1;
        let (standing, record) = (entry.standing(), &entry.record().body);
        if self.centre.is_some_and(|centre| record.edges.contains(&centre)) {
            self.tails.insert(short);
        }
        if standing == Standing::Up {
            self.up += 1;
            self.reachable += usize::from(record.reach.may_be_dialled());
            self.sketch ^= sketch_of(entry);
            if entry.is_accused() {
                self.accused.insert(short);
            }
            return;
        }
        self.gone += 1;
        if standing == Standing::Down {
            self.down.insert(short);
        }
    }

    /// Takes back what [`Tally::add`] did for this entry as it still is.
    pub(super) fn remove(&mut self, short: ShortId, entry: &Entry) {
        self.changes += 1;
        self.entries -= 1;
        self.tails.remove(&short);
        self.accused.remove(&short);
        self.down.remove(&short);
        if entry.is_up() {
            self.up -= 1;
            self.reachable -= usize::from(entry.record().body.reach.may_be_dialled());
            self.sketch ^= sketch_of(entry);
        } else {
            self.gone -= 1;
        }
    }
}

pub(super) fn sketch_of(entry: &Entry) -> u64 {
    u64::from_be_bytes(entry.hash().short())
}
