//! Answers the admin socket's calls from the controller's data. It runs on the thread `admin`: what takes time keeps its
//! reply, and another thread answers.

use std::sync::Arc;
use std::time::Duration;

use super::access::{self, AccessError};
use super::asking::Asker;
use super::lines::{End, IdleCall, StatusCall};
use super::loading::Loads;
use super::registry::Registry;
use super::tagging;
use super::{counting, errands, explain, monitor_status, node_requests};
use crate::admin::api::{AdminError, Answer, Verb};
use crate::admin::desk::{Desk, Reply};
use crate::config::{duration, host_names};
use crate::protocol::bans::Ban;
use crate::protocol::identity::{ControllerId, PeerId};
use crate::protocol::node::{Input, Node, Outcome};
use crate::protocol::reason::Reason;
use crate::protocol::report::{
    ConnectReport, DisconnectReport, ForgetReport, IdentityReport, SCHEMA, Status, TagsReport,
};
use crate::protocol::requests::service::ServiceName;
use crate::protocol::testimony::Mode;
use crate::services::{Runs, ServiceError, Taker};

/// The node's desk.
pub struct NodeDesk {
    registry: Arc<Registry>,
    asker: Asker,
    loads: Loads,
    label: String,
    /// How long a request may take that does not say.
    patience: Duration,
}

impl NodeDesk {
    /// For a node of this label, whose requests may take so long.
    pub(super) fn new(asker: Asker, loads: Loads, label: String, patience: Duration) -> Self {
        Self { registry: Arc::clone(&asker.registry), asker, loads, label, patience }
    }

    fn identity(&self, keys: Option<Vec<String>>) -> Answer {
        let id = self.registry.read(|node, _| node.id().hex());
        Answer::ok(&IdentityReport { schema: SCHEMA, id, label: self.label.clone(), keys })
    }

    fn connect(&self, text: String, reply: Reply) {
        let address = match host_names::read(&text) {
            Ok(address) => address,
            Err(why) => return reply.answer(Answer::Error(AdminError::usage(format!("connect {text:?}: {why}")))),
        };
        let answer = move |outcome| reply.answer(Answer::ok(&connect_report(text, outcome)));
        // If the loop has ended, the call is dropped and answers for itself.
        let _ = self.registry.lines().idle.try_send(IdleCall::Connect(address, Box::new(answer)));
    }

    fn disconnect(&self, target: &str) -> Answer {
        let by_number = target.parse().ok().map(PeerId);
        let peers = self.registry.read(|node, _| match by_number.filter(|peer| node.link(*peer).is_some()) {
            Some(peer) => Ok(vec![peer]),
            None => one_of(node, target).map(|id| node.links_with(&id)),
        });
        match peers {
            Err(error) if by_number.is_some() && error.code == UNKNOWN_NODE => Answer::Error(AdminError::negative(
                "not-connected",
                format!("no connection has the number {target}, and no node is called so: see 'kithd peers'"),
            )),
            Err(error) => Answer::Error(error),
            Ok(peers) if peers.is_empty() => Answer::Error(AdminError::negative(
                "not-connected",
                format!("there is no connection with {target}: see 'kithd peers'"),
            )),
            Ok(peers) => {
                let report = DisconnectReport { schema: SCHEMA, closed: peers.iter().map(|peer| peer.0).collect() };
                self.registry.handle(Input::Disconnect(peers));
                Answer::ok(&report)
            }
        }
    }

    fn census(&self, mode: Mode, reply: Reply) {
        counting::count(&self.registry, mode, move |counted| {
            reply.answer(match counted {
                Ok(report) => Answer::ok(&report),
                Err(reason) => Answer::Error(AdminError::negative(
                    reason.to_string(),
                    match reason {
                        Reason::Overloaded => "a node begins six censuses a minute, four at a time: try again later",
                        Reason::Leaving => "the node takes its leave, and counts nobody any more",
                        _ => "the node cannot count the network: see its log",
                    },
                )),
            });
        });
    }

    fn forget(&self, text: &str) -> Answer {
        if let Some(report) = self.expect_no_more(text) {
            return Answer::ok(&report);
        }
        let found = self.registry.read(|node, _| {
            let id = one_of(node, text)?;
            let label = node.label_of(&id).map(|label| label.to_string()).unwrap_or_default();
            Ok((id, node.status(&id), label))
        });
        match found {
            Err(error) => Answer::Error(error),
            Ok((id, Some(Status::Down | Status::Left), label)) => {
                self.registry.handle(Input::Forget(id));
                Answer::ok(&ForgetReport { schema: SCHEMA, id: Some(id.hex()), label, everywhere: true })
            }
            Ok((id, _, label)) => Answer::Error(AdminError::negative(
                "not-down",
                format!(
                    "node {label} ({}) is up: only a node that is down or has left can be forgotten",
                    &id.hex()[..8]
                ),
            )),
        }
    }

    /// Somebody who is expected by exactly this name and in nobody's view: there is nothing to tell the others.
    fn expect_no_more(&self, text: &str) -> Option<ForgetReport> {
        self.registry.think(|node, _, _| {
            if node.is_called(text) {
                return None;
            }
            let id = node.expect_no_more(&text.parse().ok()?)?;
            let label = text.to_owned();
            Some(ForgetReport { schema: SCHEMA, id: id.map(|id| id.hex()), label, everywhere: false })
        })
    }

    fn ban(&self, target: &str, span: Option<String>, reason: Option<&str>, reply: Reply) {
        let span = span.map_or(Ok(Ban::DEFAULT), |span| {
            duration::parse(&span).map_err(|why| AccessError::Wrong(format!("--for {span:?}: {why}")))
        });
        match span.and_then(|span| access::ban(&self.registry, target, span, reason)) {
            Ok(report) => access::once_kept(&self.registry, move || reply.answer(Answer::ok(&report))),
            Err(error) => reply.answer(Answer::Error(refusal("ban", &error))),
        }
    }

    fn unban(&self, target: &str, reply: Reply) {
        match access::unban(&self.registry, target) {
            Ok(report) => access::once_kept(&self.registry, move || reply.answer(Answer::ok(&report))),
            Err(error) => reply.answer(Answer::Error(refusal("unban", &error))),
        }
    }
}

impl Desk for NodeDesk {
    /// A node that nobody can ask or stop is half a node.
    fn unserved(&mut self) {
        let _ = self.registry.lines().end.try_send(End::Panicked("admin"));
    }

    fn register(&mut self, service: &str, taker: Taker) -> Result<ServiceName, AdminError> {
        let services = &self.registry.around.services;
        node_requests::register(services, service, Runs::Elsewhere(taker)).map_err(|error| match error {
            ServiceError::Name(_) => AdminError::usage(format!("serve {service:?}: {error}")),
            ServiceError::Taken(_) => AdminError::negative("taken", error.to_string()),
            ServiceError::TooMany => AdminError::negative("overloaded", error.to_string()),
        })
    }

    fn unregister(&mut self, service: &ServiceName) {
        self.registry.around.services.remove(service);
    }

    fn handle(&mut self, verb: Verb, reply: Reply) {
        match verb {
            Verb::Status => {
                let answer = move |report| reply.answer(Answer::ok(&report));
                let _ = self.registry.lines().status.try_send(StatusCall::Report(Box::new(answer)));
            }
            Verb::Peers { all } => reply.answer(Answer::ok(&monitor_status::peers(&self.registry, all))),
            Verb::Network { census: false, prove: false } => {
                let report = self.registry.read(|node, now| node.network_report(now));
                reply.answer(Answer::ok(&report));
            }
            Verb::Network { prove, .. } => self.census(if prove { Mode::Prove } else { Mode::Count }, reply),
            Verb::Connect { address } => self.connect(address, reply),
            Verb::Disconnect { target } => reply.answer(self.disconnect(&target)),
            Verb::Forget { node } => reply.answer(self.forget(&node)),
            Verb::Ban { target, span, reason } => self.ban(&target, span, reason.as_deref(), reply),
            Verb::Unban { target } => self.unban(&target, reply),
            Verb::Bans => reply.answer(Answer::ok(&access::bans(&self.registry))),
            Verb::Identity => reply.answer(self.identity(Some(monitor_status::keys(&self.registry)))),
            Verb::Why { target } => reply.answer(match explain::why(&self.registry, &target) {
                Ok(report) => Answer::ok(&report),
                Err(error) => Answer::Error(error),
            }),
            Verb::Tag { tags, remove } => reply.answer(match tagging::tag(&self.registry, &tags, &remove) {
                Ok(tags) => {
                    let id = self.registry.read(|node, _| node.id().hex());
                    Answer::ok(&TagsReport { schema: SCHEMA, id, label: self.label.clone(), tags })
                }
                Err(why) => Answer::Error(AdminError::usage(format!("tag: {why}"))),
            }),
            Verb::Request { node, service, payload, timeout } => {
                match errands::patience("request", timeout, self.patience) {
                    Ok(patience) => errands::request(&self.asker, (&node, &service), payload.0, patience, reply),
                    Err(error) => reply.answer(Answer::Error(error)),
                }
            }
            Verb::Ping { node, count, timeout } => errands::ping(&self.asker, &node, count, timeout, reply),
            Verb::Load(call) => self.loads.begin(&self.asker, call, reply),
            Verb::Serve { .. } | Verb::Answer { .. } => {
                reply.answer(Answer::Error(AdminError::internal("the server of the admin socket answers this itself")));
            }
            Verb::Leave => {
                reply.answer(self.identity(None));
                let _ = self.registry.lines().end.try_send(End::Wanted);
            }
        }
    }
}

/// What an error is called that is about a name which is none.
const UNKNOWN_NODE: &str = "unknown-node";

/// The one node that was meant.
fn one_of(node: &Node, text: &str) -> Result<ControllerId, AdminError> {
    match node.find(text).as_slice() {
        [id] => Ok(*id),
        [] => Err(AdminError::negative(UNKNOWN_NODE, format!("no node is called {text:?}: see 'kithd network'"))),
        several => Err(ambiguous(node, text, several)),
    }
}

/// More than one may be meant.
pub(super) fn ambiguous(node: &Node, text: &str, several: &[ControllerId]) -> AdminError {
    let message = format!("{text:?} may be {}: give more of the id, see 'kithd network'", node.names_of(several));
    AdminError::negative("ambiguous-node", message)
}

fn refusal(verb: &str, error: &AccessError) -> AdminError {
    match error {
        AccessError::Wrong(why) => AdminError::usage(format!("{verb}: {why}")),
        error => AdminError::negative(error.code(), error.to_string()),
    }
}

fn connect_report(address: String, outcome: Outcome) -> ConnectReport {
    let (outcome, id, label, reason) = match outcome {
        Outcome::Edge(id, label, false) => ("connected", Some(id), Some(label), None),
        Outcome::Edge(id, label, true) => ("already-connected", Some(id), Some(label), None),
        Outcome::Failed(reason) => ("failed", None, None, Some(reason)),
    };
    ConnectReport {
        schema: SCHEMA,
        address,
        outcome: outcome.to_owned(),
        id: id.map(|id| id.hex()),
        label: label.map(|label| label.to_string()),
        reason,
    }
}
