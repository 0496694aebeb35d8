//! Asking other nodes: which node is meant, over which peer it can be asked, and who waits for the answer.
//!
//! ```text
//!   request ──▶ name ──▶ id ──┬─ this node itself ───────────────────────▶ its own services
//!                             ├─ an outgoing edge stands ─▶ its Requests ─▶ wait, or be called back
//!                             └─ none: one is dialled, and shared by all who want it
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::lines::Way;
use super::registry::Registry;
use crate::peer::requests::{Question, Requests};
use crate::peer::waiter::{Ending, Mailbox, Waiter, ending};
use crate::protocol::identity::{ControllerId, Label, PeerId, from_hex};
use crate::protocol::reason::Reason;
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::message::{MAX_DEPTH, Refusal};
use crate::protocol::requests::service::ServiceName;
use crate::services::context::{self, Context};
use crate::services::{Caller, Counts, Request};

/// A connection that ends between being found and being asked over is looked for again, so often: the second one is fresh.
pub(super) const TRIES: usize = 3;
/// An answer that is being told at this moment is there in microseconds.
const BEING_TOLD: Duration = Duration::from_secs(1);

/// Asks for a node.
#[derive(Clone)]
pub struct Asker {
    pub(super) registry: Arc<Registry>,
    me: Arc<Caller>,
    /// Who was found last, and the view's changes until then: most programs ask the same node again and again, and to look for
    /// a name is to go through all of them.
    found: Arc<Mutex<Option<(u64, Target)>>>,
}

/// One request that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) payload: &'a [u8],
    pub(super) deadline: Instant,
    pub(super) depth: u8,
}

/// A node that was found by its name.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) id: ControllerId,
    pub(super) name: Arc<str>,
}

impl Asker {
    /// For a node of this id and label.
    pub(super) fn new(registry: Arc<Registry>, id: ControllerId, label: Label) -> Self {
        Self { registry, me: Arc::new(Caller { id, label }), found: Arc::default() }
    }

    /// Asks, and waits for the answer.
    pub(super) fn request(&self, target: &str, service: &str, payload: &[u8], timeout: Duration) -> Ending {
        let service = self.service(service)?;
        let wanted = self.wanted(&service, payload, timeout)?;
        if context::current().is_inline {
            return Err(RequestError::WouldDeadlock);
        }
        let target = self.find(target)?;
        self.count(|| self.ask_and_wait(&target, wanted))
    }

    /// Whom a name means.
    pub(super) fn find(&self, name: &str) -> Result<Target, RequestError> {
        // Most often it is none: then there is no error to be told.
        if let Some(id) = from_hex(name).map(ControllerId) {
            return Ok(Target { id, name: name[..8].into() });
        }
        let changes = self.registry.changes();
        if let Some((then, target)) = self.found.lock().as_ref()
            && (*then, &*target.name) == (changes, name)
        {
            return Ok(target.clone());
        }
        let (changes, target) = self.registry.read(|node, _| match node.find(name).as_slice() {
            [id] => Ok((node.view().changes(), Target { id: *id, name: name.into() })),
            [] => Err(RequestError::UnknownNode(name.to_owned())),
            several => Err(RequestError::AmbiguousNode(name.to_owned(), node.names_of(several))),
        })?;
        *self.found.lock() = Some((changes, target.clone()));
        Ok(target)
    }

    /// A request as it follows from what this thread does: an effect of another one, and not to outlast that.
    pub(super) fn wanted<'a>(
        &self,
        service: &'a ServiceName,
        payload: &'a [u8],
        timeout: Duration,
    ) -> Result<Wanted<'a>, RequestError> {
        let around = context::current();
        let depth = if around.deadline.is_some() { around.depth.saturating_add(1) } else { 0 };
        if depth > MAX_DEPTH {
            return Err(RequestError::TooDeep);
        }
        self.fits(payload)?;
        let own = moment_after(timeout);
        let deadline = around.deadline.map_or(own, |outer| outer.min(own));
        Ok(Wanted { service, payload, deadline, depth })
    }

    /// What is longer than may be sent is not even tried.
    pub(super) fn fits(&self, payload: &[u8]) -> Result<(), RequestError> {
        let most = self.registry.around.window.payload;
        if payload.len() > most { Err(RequestError::TooLarge(payload.len(), most)) } else { Ok(()) }
    }

    /// What a node calls itself, if that is known.
    pub(super) fn label_of(&self, id: &ControllerId) -> Option<String> {
        self.registry.read(|node, _| node.label_of(id).map(|label| label.to_string()))
    }

    pub(super) fn service(&self, name: &str) -> Result<ServiceName, RequestError> {
        // A name that is none is nobody's.
        name.parse().map_err(|_| RequestError::Refused(Refusal::UnknownService))
    }

    /// The peer over which a node can be asked, but for one that was of no use; waits for a dial if need be.
    pub(super) fn way(&self, target: &Target, stale: Option<PeerId>, deadline: Instant) -> Result<Way, RequestError> {
        if let Some(way) = self.way_now(target, stale) {
            return Ok(way);
        }
        let (sender, reached) = bounded(1);
        self.registry.reach(target.id, stale, Box::new(move |way| drop(sender.try_send(way))));
        match reached.recv_deadline(deadline) {
            Ok(way) => way.map_err(|reason| self.unreachable(target, reason)),
            Err(_) => Err(RequestError::TimedOut { sent: false }),
        }
    }

    /// The peer over which a node can be asked now, but for one that was of no use; waits for nothing.
    pub(super) fn way_now(&self, target: &Target, stale: Option<PeerId>) -> Option<Way> {
        self.registry.way_to(&target.id).filter(|(peer, _)| Some(*peer) != stale)
    }

    /// Asks for somebody who is called back; waits for room in the connection's window until `patience`, if there is one.
    pub(super) fn submit(
        &self,
        way: &Way,
        wanted: Wanted<'_>,
        waiter: Waiter,
        patience: Option<Instant>,
    ) -> Result<(), (RequestError, Waiter)> {
        way.1.ask(self.question(wanted), waiter, patience)?;
        self.note_issued();
        Ok(())
    }

    /// True if a node asks itself.
    pub(super) fn is_me(&self, id: &ControllerId) -> bool {
        *id == self.me.id
    }

    /// This node asks itself. Whoever is to be called back is, at the deadline if there is no answer by then.
    pub(super) fn ask_myself(&self, wanted: Wanted<'_>, waiter: Waiter) {
        let is_called_back = waiter.has_to_be_told();
        if is_called_back {
            self.note_issued();
        }
        let Wanted { service, payload, deadline, depth } = wanted;
        let (caller, service, payload) = (Arc::clone(&self.me), *service, payload.to_vec());
        let services = Arc::clone(&self.registry.around.services);
        let request = Request { caller, service, payload, deadline };
        let waiting = Arc::new(Mutex::new(Some((waiter, None))));
        let (kept, registry) = (Arc::clone(&waiting), Arc::clone(&self.registry));
        self.registry.around.services.serve(request, depth, move |outcome, payload| {
            services.counts.note(outcome);
            let waited = kept.lock().take();
            if let Some((waiter, alarm)) = waited {
                alarm.inspect(|alarm| registry.alarms.call_off(*alarm));
                waiter.tell(&services.counts, ending(outcome, payload));
            }
        });
        let (late, registry) = (Arc::clone(&waiting), Arc::clone(&self.registry));
        if let Some((_, alarm)) = waiting.lock().as_mut().filter(|_| is_called_back) {
            *alarm = Some(self.registry.at(deadline, move || {
                let waited = late.lock().take();
                if let Some((waiter, _)) = waited {
                    waiter.tell(&registry.around.services.counts, Err(RequestError::TimedOut { sent: true }));
                }
            }));
        }
    }

    pub(super) fn count(&self, ask: impl FnOnce() -> Ending) -> Ending {
        self.note_issued();
        let ending = ask();
        self.counts().note_own(ending.is_ok());
        ending
    }

    fn ask_and_wait(&self, target: &Target, wanted: Wanted<'_>) -> Ending {
        let mailbox = Arc::new(Mailbox::default());
        if self.is_me(&target.id) {
            self.ask_myself(wanted, Waiter::Mailbox(Arc::clone(&mailbox)));
            return mailbox.wait(wanted.deadline).unwrap_or(Err(RequestError::TimedOut { sent: true }));
        }
        let mut stale = None;
        for _ in 0..TRIES {
            let (peer, requests) = self.way(target, stale, wanted.deadline)?;
            let waiter = Waiter::Mailbox(Arc::clone(&mailbox));
            match requests.ask(self.question(wanted), waiter, Some(wanted.deadline)) {
                Ok(id) => return self.wait(&mailbox, &requests, id, wanted.deadline),
                Err((RequestError::Closed { sent: false, .. }, _)) => stale = Some(peer),
                Err((error, _)) => return Err(error),
            }
        }
        Err(self.unreachable(target, Reason::Overloaded))
    }

    fn wait(&self, mailbox: &Mailbox, requests: &Requests, id: u64, deadline: Instant) -> Ending {
        let lone = || requests.lone().map(|sink| sink.connection().clone());
        let reactor = &self.registry.around.reactor;
        // In the reactor's place this thread may have to do with others' requests: they are no effect of its own.
        let waited = context::within(Context::default(), || {
            reactor.attend(lone, deadline, || mailbox.is_full(), || mailbox.wait(deadline))
        });
        if let Some(ending) = waited {
            return ending;
        }
        let sent = !requests.is_unsent(id);
        let late = Err(RequestError::TimedOut { sent });
        if requests.give_up(id) {
            return late;
        }
        mailbox.wait(Instant::now() + BEING_TOLD).unwrap_or(late)
    }

    pub(super) fn note_issued(&self) {
        self.counts().issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.registry.around.services.counts
    }

    pub(super) fn question<'a>(&self, wanted: Wanted<'a>) -> Question<'a> {
        let Wanted { service, payload, deadline, depth } = wanted;
        Question { service, payload, deadline: self.registry.around.clock.at(deadline), depth }
    }

    pub(super) fn unreachable(&self, target: &Target, reason: Reason) -> RequestError {
        let is_known = || self.registry.read(|node, _| node.view().get(&target.id).is_some());
        match reason {
            Reason::Leaving => RequestError::Ended,
            Reason::Unreachable if !is_known() => RequestError::UnknownNode(target.name.to_string()),
            reason => RequestError::Unreachable(target.name.to_string(), reason),
        }
    }
}

/// As late as the clock goes, if it goes no further: a program may mean "for ever".
pub(super) fn moment_after(span: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(span).unwrap_or_else(|| now + FOR_EVER)
}
