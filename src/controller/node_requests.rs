//! What a node answers, and what it asks.

use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::requester::Requester;
use crate::peer::waiter::Ending;
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::service::ServiceName;
use crate::services::{Request, Response, Runs, ServiceError, Services};

impl Node {
    /// Answers requests for this service from now on, on a worker (`limits.workers` of them): the handler may block, and may
    /// ask other nodes. One that panics fails its request and nothing else.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kithd::{Config, Node, Request};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let state = std::env::temp_dir().join(format!("kithd-doc-handle-{}", std::process::id()));
    /// # let mut config = Config::default();
    /// # config.node.state_dir = state.clone();
    /// # config.listen.addresses = vec!["127.0.0.1:0".parse()?];
    /// # let node = Node::start(config)?;
    /// node.handle("shout", |request: Request| request.payload.to_ascii_uppercase())?;
    ///
    /// let me = node.id().hex();
    /// let answer = node.request(&me, "shout", b"hello", Duration::from_secs(5))?;
    /// assert_eq!(answer, b"HELLO");
    /// # node.shutdown();
    /// # std::fs::remove_dir_all(state)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn handle<R: Into<Response>>(
        &self,
        service: &str,
        handler: impl Fn(Request) -> R + Send + Sync + 'static,
    ) -> Result<(), ServiceError> {
        self.register(service, Runs::OnWorker(Arc::new(move |request| handler(request).into())))
    }

    /// Answers requests for this service where they arrive, on the reactor's thread or that of a caller who waits in its place:
    /// twice as fast as on a worker, but while it runs this node hears nobody. The handler must return within microseconds; it cannot ask other nodes
    /// ([`RequestError::WouldDeadlock`]).
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub fn handle_inline<R: Into<Response>>(
        &self,
        service: &str,
        handler: impl Fn(Request) -> R + Send + Sync + 'static,
    ) -> Result<(), ServiceError> {
        self.register(service, Runs::Inline(Arc::new(move |request| handler(request).into())))
    }

    /// Answers no more requests for this service; those that were begun are finished.
    pub fn unhandle(&self, service: &str) {
        if let Ok(name) = service.parse::<ServiceName>() {
            self.registry.around.services.remove(&name);
        }
    }

    /// Asks a node (by label, id or unique beginning of its id) and waits for its answer. A node without an edge from here is
    /// dialled; the edge is shared by all who ask it, and closed when nobody has for `requests.idle_close`. A thread that asks
    /// one thing after the other while nobody else does reads its answers itself, in the reactor's place.
    ///
    /// In a handler the request is an effect of the one that is handled: it ends no later, and four such effects deep it is
    /// refused, so that nodes which ask each other in a circle find out. A request is carried out at most once: it is never
    /// sent again by itself.
    ///
    /// # Errors
    /// Why there is no answer, and whether the request may have been carried out: see [`RequestError`].
    pub fn request(&self, target: &str, service: &str, payload: &[u8], timeout: Duration) -> Ending {
        self.asker.request(target, service, payload, timeout)
    }

    /// Asks a node many things at once: see [`Requester`].
    ///
    /// # Errors
    /// [`RequestError::UnknownNode`], [`RequestError::AmbiguousNode`].
    pub fn requester(&self, target: &str) -> Result<Requester, RequestError> {
        Ok(Requester::new(self.asker.clone(), self.asker.find(target)?))
    }

    fn register(&self, service: &str, runs: Runs) -> Result<(), ServiceError> {
        register(&self.registry.around.services, service, runs).map(drop)
    }
}

/// Registers a service of a user's, under the name that it may have.
pub(super) fn register(services: &Services, service: &str, runs: Runs) -> Result<ServiceName, ServiceError> {
    let name: ServiceName = service.parse().map_err(ServiceError::Name)?;
    if name.as_str().starts_with(super::built_in::OWN) {
        return Err(ServiceError::Taken(name));
    }
    services.register(name, runs)?;
    Ok(name)
}
