//! What a node does otherwise among thousands.
//!
//! While a network of thousands forms, everything in it is work for everybody: each record, each word that there is one,
//! each digest that is out of date before it is read. A network of a thousand agrees in two and a half seconds; a larger
//! one may take five, and does this to spare its members:
//!
//! | what | up to 2,000 nodes | beyond |
//! | --- | --- | --- |
//! | a node whose edges are not yet found passes changes on at once over | all of its edges | the four quickest |
//! | over other edges they are announced, unless the remote shows that it knows, after | a second | four |
//! | what follows a burst of changes waits for | 50 ms | 200 ms |
//! | heads are published that have been the same for | 30 ms | 300 ms |
//! | a view that has just changed is stated | with its digest | without one |
//!
//! A single change at rest takes the same ways at the same speed, however large the network is.

use std::time::Duration;

use super::Node;
use crate::protocol::hash::Hash;
use crate::protocol::time::Time;

/// A network of so many is small enough to be as quick as it can.
const LARGE: usize = 2000;
/// So many changes in one flush are a burst.
const BURST: usize = 64;
/// After a burst the next flush comes after so many intervals: what is then announced once would have been announced two or
/// three times, as it changes and as others tell of it.
const AFTER_BURST: u32 = 4;
/// A view that changed within this time will have changed again before anybody can agree with it.
const FLUX: Duration = Duration::from_millis(100);
/// Changes are held so long for a link that is not eager: a flood is long over, and agreement shown, by then.
const HOLD: Duration = Duration::from_secs(1);
/// In a large network agreement comes later, and with it goes what is held.
const LONG_HOLD: Duration = Duration::from_secs(4);

/// States no digest: nobody has found anything whose hash is this.
pub(super) const UNSTATED: Hash = Hash([0; 32]);

impl Node {
    /// True if a great many nodes are known.
    pub(super) fn is_crowded(&self) -> bool {
        self.view.len() > LARGE
    }

    /// How many intervals after the flush that begins the next one may come.
    pub(super) fn flush_intervals(&self) -> u32 {
        if self.is_crowded() && self.feed.len() > BURST { AFTER_BURST } else { 1 }
    }

    /// How long changes are held for links that are not eager.
    pub(super) fn hold(&self) -> Duration {
        if self.is_crowded() { LONG_HOLD } else { HOLD }
    }

    /// True if the view is large and keeps changing: its digest would be worked out for nobody.
    pub(super) fn is_in_flux(&self, now: Time) -> bool {
        self.is_crowded() && now.since(self.agreement.since()) < FLUX
    }
}
