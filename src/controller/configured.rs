//! Services as the configuration has them: programs, and who may ask for what.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Service;
use crate::protocol::requests::service::ServiceName;
use crate::services::program::{Asker, Program};
use crate::services::{Handler, Response, Runs, ServiceError, Services};

/// Registers them.
///
/// # Errors
/// One of the names is taken, which a configuration that was checked does not lead to.
pub fn register(configured: &BTreeMap<ServiceName, Service>, services: &Arc<Services>) -> Result<(), ServiceError> {
    for (name, service) in configured {
        services.allow(*name, service.allow.iter().copied());
        if !service.command.is_empty() {
            services.register(*name, Runs::OnWorker(runs(service, services)))?;
        }
    }
    Ok(())
}

fn runs(service: &Service, services: &Arc<Services>) -> Handler {
    let program =
        Program { command: service.command.clone(), timeout: service.timeout, max_output: service.max_output };
    // It is one of these services: it must not keep them alive.
    let services = Arc::downgrade(services);
    Arc::new(move |request| {
        let Some(services) = services.upgrade() else { return Response::failed("the node is about to end") };
        let (label, service) = (request.caller.label.as_str(), request.service.as_str());
        let asker = Asker { id: request.caller.id.hex(), label, service };
        let (outcome, payload) = program.run(&asker, &request.payload, request.deadline, &services.children);
        Response::of(outcome, payload)
    })
}
