//! Services that every node has, unless its configuration says otherwise: `echo`, `identity` and `status`; and the one that
//! `kithd ping` asks, which is always there.

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::lines::StatusCall;
use super::registry::Registry;
use crate::protocol::report::{IdentityReport, SCHEMA};
use crate::services::{Handler, Response, Runs, ServiceError, Services};

/// Names that begin so are this program's own.
pub const OWN: &str = "kithd.";
/// What `kithd ping` asks: answered with nothing, where it arrives.
pub const PING: &str = "kithd.ping";

/// Which of them are wanted.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Answers with what it was sent.
    pub echo: bool,
    /// Answers with the node's report, as `kithd status --format json` prints it.
    pub status: bool,
    /// Answers with the node's id and label, as `kithd identity --format json` prints them.
    pub identity: bool,
}

/// Registers them.
///
/// # Errors
/// One of the names is taken, which a configuration that was checked does not lead to.
pub fn register(wanted: BuiltIn, registry: &Arc<Registry>, identity: &IdentityReport) -> Result<(), ServiceError> {
    let services: &Services = &registry.around.services;
    let add = |name: &str, runs: Runs| services.register(name.parse().map_err(ServiceError::Name)?, runs);
    add(PING, Runs::Inline(Arc::new(|_| Response::new(Vec::new()))))?;
    if wanted.echo {
        add("echo", Runs::Inline(Arc::new(|request| Response::new(request.payload))))?;
    }
    if wanted.identity {
        let said = json(identity);
        add("identity", Runs::Inline(Arc::new(move |_| Response::new(said.clone()))))?;
    }
    if wanted.status {
        add("status", Runs::OnWorker(status(registry)))?;
    }
    Ok(())
}

/// Who a node is, without its keys: whoever asks is in the network, and need not know which keys it will have next.
pub fn identity(id: String, label: String) -> IdentityReport {
    IdentityReport { schema: SCHEMA, id, label, keys: None }
}

fn status(registry: &Arc<Registry>) -> Handler {
    // The registry has the services: they must not keep it alive.
    let registry = Arc::downgrade(registry);
    Arc::new(move |request| {
        let (answer, report) = bounded(1);
        let answer = move |report| drop(answer.send(report));
        let asked = registry.upgrade().map(|registry| {
            registry.lines().status.send_deadline(StatusCall::Report(Box::new(answer)), request.deadline)
        });
        let report = asked.and_then(Result::ok).and_then(|()| report.recv_deadline(request.deadline).ok());
        report.map_or_else(
            || Response::failed("the node is about to end, or has too much to do"),
            |report| json(&report).into(),
        )
    })
}

/// Strings and numbers only: writing them to memory cannot fail.
fn json(report: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(report).unwrap_or_default()
}
