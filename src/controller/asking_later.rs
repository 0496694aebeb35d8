//! Asking without a thread that waits: not for room, not for a dial, not for the answer.
//!
//! ```text
//!   ask_later ──┬─ this node itself ────────────▶ its own services ───┐
//!               ├─ an edge stands ───────────────▶ its Requests ──────┼─▶ told once, by whichever comes first
//!               └─ none ─▶ dialled ─▶ reached ───▶ its Requests ──────┤
//!                             └── its deadline, an alarm ─────────────┘
//! ```

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::asking::{Asker, TRIES, Target, Wanted};
use super::lines::Way;
use crate::peer::waiter::{Ending, Waiter};
use crate::protocol::identity::PeerId;
use crate::protocol::reason::Reason;
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::service::ServiceName;

/// A request that is to be made, kept until there is a way.
pub(super) struct Errand {
    pub(super) target: Target,
    pub(super) service: ServiceName,
    pub(super) payload: Vec<u8>,
    pub(super) deadline: Instant,
}

impl Errand {
    /// Nobody's effect: it is a user's own.
    fn wanted(&self) -> Wanted<'_> {
        let Self { service, payload, deadline, .. } = self;
        Wanted { service, payload, deadline: *deadline, depth: 0 }
    }
}

impl Asker {
    /// Asks. `done` is called once, by whichever thread learns how it ended, and must not wait for anything.
    ///
    /// A connection that has as much open as may be is [`RequestError::Overloaded`] at once.
    pub(super) fn ask_later(&self, errand: Errand, done: impl FnOnce(Ending) + Send + 'static) {
        let waiter = Waiter::CallBack(Box::new(done));
        if self.is_me(&errand.target.id) {
            return self.ask_myself(errand.wanted(), waiter);
        }
        self.note_issued();
        self.try_later(errand, waiter, None, TRIES);
    }

    /// The peer over which a node can be asked, but for one that was of no use. `found` is called once: now if an edge
    /// stands, else when the dial has ended or at the deadline.
    pub(super) fn way_later(
        &self,
        target: &Target,
        stale: Option<PeerId>,
        deadline: Instant,
        found: impl FnOnce(Result<Way, RequestError>) + Send + 'static,
    ) {
        if let Some(way) = self.way_now(target, stale) {
            return found(Ok(way));
        }
        // What `found` holds goes with the deadline, however long the dial takes.
        let kept = Arc::new(Mutex::new(Some(found)));
        let late = Arc::clone(&kept);
        let alarm = self.registry.at(deadline, move || {
            let found = late.lock().take();
            if let Some(found) = found {
                found(Err(RequestError::TimedOut { sent: false }));
            }
        });
        let (id, asker, target) = (target.id, self.clone(), target.clone());
        let reached = move |way: Result<Way, Reason>| {
            asker.registry.alarms.call_off(alarm);
            let found = kept.lock().take();
            if let Some(found) = found {
                found(way.map_err(|reason| asker.unreachable(&target, reason)));
            }
        };
        self.registry.reach(id, stale, Box::new(reached));
    }

    /// A connection that ends between being found and being asked over is looked for again.
    fn try_later(&self, errand: Errand, waiter: Waiter, stale: Option<PeerId>, tries: usize) {
        let asker = self.clone();
        self.way_later(&errand.target.clone(), stale, errand.deadline, move |way| {
            let (peer, requests) = match way {
                Ok(way) => way,
                Err(error) => return waiter.tell(asker.counts(), Err(error)),
            };
            match requests.ask(asker.question(errand.wanted()), waiter, None) {
                Ok(_) => {}
                Err((RequestError::Closed { sent: false, .. }, waiter)) if tries > 1 => {
                    asker.try_later(errand, waiter, Some(peer), tries - 1);
                }
                Err((error, waiter)) => waiter.tell(asker.counts(), Err(error)),
            }
        });
    }
}
