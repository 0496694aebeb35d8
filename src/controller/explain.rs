//! Whom or what a user means who asks why, and what is known of it.

use super::desk::ambiguous;
use super::registry::Registry;
use crate::admin::api::AdminError;
use crate::protocol::address::HostPort;
use crate::protocol::expected::Expected;
use crate::protocol::explanation::{NextStep, WhyReport};
use crate::protocol::node::Node;
use crate::protocol::report::SCHEMA;
use crate::protocol::time::{Now, rfc3339};

/// The recorded life of a node or an address, and what happens next.
///
/// # Errors
/// Nothing is known of it, or several nodes may be meant.
pub fn why(registry: &Registry, text: &str) -> Result<WhyReport, AdminError> {
    registry.read(|node, now| match text.contains(':') {
        // No label and no id has a colon, and every address with its port has one.
        true => of_address(node, now, text),
        false => of_node(node, now, text),
    })
}

fn of_node(node: &Node, now: Now, text: &str) -> Result<WhyReport, AdminError> {
    // The name of somebody who is expected is a better reading than the first digits of somebody's id.
    if let Some(told) = of_expected(node, now, text).filter(|_| !node.is_called(text)) {
        return Ok(told);
    }
    match node.find_remembered(text).as_slice() {
        [id] => node.why(id, now).ok_or_else(|| unknown(text)),
        [] => Err(unknown(text)),
        several => Err(ambiguous(node, text, several)),
    }
}

fn of_address(node: &Node, now: Now, text: &str) -> Result<WhyReport, AdminError> {
    let address: HostPort = text.parse().map_err(|why| AdminError::usage(format!("why {text:?}: {why}")))?;
    let told = match node.nodes_at(&address).as_slice() {
        [id] => node.why(id, now),
        [] => node.why_address(&address, now),
        several => return Err(ambiguous(node, text, several)),
    };
    let nothing = || {
        let message =
            format!("nothing is known of address {text}: it was neither told of nor dialled; try 'kithd connect'");
        AdminError::negative("unknown-address", message)
    };
    told.ok_or_else(nothing)
}

/// Somebody who should be there and is in nobody's view.
fn of_expected(node: &Node, now: Now, text: &str) -> Option<WhyReport> {
    let name: Expected = text.parse().ok()?;
    let place = node.expected_place(&name)?;
    if let Some(told) = place.and_then(|place| node.why(&place.node, now)) {
        return Some(WhyReport { label: told.label.or_else(|| Some(text.to_owned())), ..told });
    }
    let detail = "it is expected, and nobody has told where it is: see whether it runs, and whether that is its name";
    let nothing = NextStep { at: None, in_seconds: None, what: "nothing".to_owned(), detail: detail.to_owned() };
    Some(WhyReport {
        schema: SCHEMA,
        node: None,
        label: Some(text.to_owned()),
        address: None,
        status: None,
        since: None,
        now: rfc3339(now.wall_ms),
        events: Vec::new(),
        next_dial: None,
        next: vec![nothing],
        labels: Default::default(),
    })
}

fn unknown(text: &str) -> AdminError {
    let message =
        format!("nothing is known of a node called {text:?}: see 'kithd network', or give an address as ip:port");
    AdminError::negative("unknown-node", message)
}
