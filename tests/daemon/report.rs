//! Reading what nodes report: which nodes, which edges, which connections, and whether all agree.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::daemon::Daemon;
use crate::patience::{SOON, until};

/// Label and status of each node in a `network` report.
pub fn statuses(network: &Value) -> BTreeMap<&str, &str> {
    let nodes = network["nodes"].as_array().unwrap().iter();
    nodes.map(|node| (node["label"].as_str().unwrap(), node["status"].as_str().unwrap())).collect()
}

/// Tail and head of each edge in a `network` report, by label.
pub fn edges(network: &Value) -> BTreeSet<(&str, &str)> {
    let nodes = network["nodes"].as_array().unwrap();
    let label =
        |id: &Value| nodes.iter().find(|node| node["id"] == *id).and_then(|node| node["label"].as_str()).unwrap();
    let edges = network["edges"].as_array().unwrap().iter();
    edges.map(|edge| (label(&edge["tail"]), label(&edge["head"]))).collect()
}

/// The rows about connections with that node, or (without an id) with nobody known.
pub fn rows_of<'a>(rows: &'a [Value], id: Option<&str>) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["id"].as_str() == id).collect()
}

/// The established ones among rows, by their peers' numbers.
pub fn established(rows: &[Value]) -> BTreeSet<u64> {
    let established = rows.iter().filter(|row| row["state"] == "established");
    established.map(|row| row["peer_id"].as_u64().unwrap()).collect()
}

/// Waits until the node shows a closed connection with that node (or nobody known) for that reason.
pub fn closed_for(daemon: &Daemon, id: Option<&str>, reason: &str) {
    closed_for_any(daemon, id, &[reason]);
}

/// The same, for one of several reasons, which is given back.
pub fn closed_for_any(daemon: &Daemon, id: Option<&str>, reasons: &[&str]) -> String {
    until(&format!("{} shows {reasons:?}", daemon.label), SOON, || {
        let rows = daemon.peers();
        let found = rows_of(&rows, id);
        let reason = found.iter().find_map(|row| reasons.iter().find(|reason| row["close_reason"] == **reason));
        let shown = || found.iter().map(|row| format!("{} {}", row["state"], row["close_reason"])).collect::<Vec<_>>();
        reason.map(|reason| (*reason).to_owned()).ok_or_else(|| format!("it shows {:?}", shown()))
    })
}

/// How often a node refused or closed something for that reason, as its status counts it.
pub fn refused(daemon: &Daemon, reason: &str) -> u64 {
    daemon.status()["refused"][reason].as_u64().unwrap_or(0)
}

/// Waits until these nodes, and no others, are up for each other, hold one digest, and show that they do. Gives back
/// what the first one reports.
pub fn agreed(nodes: &[&Daemon]) -> Value {
    agreed_and(nodes, |_| true)
}

/// The same, and the report meets a further condition.
pub fn agreed_and(nodes: &[&Daemon], enough: impl Fn(&Value) -> bool) -> Value {
    let labels: BTreeSet<&str> = nodes.iter().map(|node| node.label.as_str()).collect();
    until(&format!("{labels:?} agree"), SOON, || {
        let reports: Vec<Value> = nodes.iter().map(|node| node.network()).collect();
        let is_one = reports.iter().all(|report| {
            let agreement = &report["agreement"];
            let up: BTreeSet<&str> =
                statuses(report).iter().filter(|(_, status)| **status == "up").map(|(label, _)| *label).collect();
            up == labels
                && report["digest"] == reports[0]["digest"]
                && agreement["unanimous"] == true
                && agreement["live"] == labels.len()
                && agreement["agreeing"] == labels.len()
        });
        let shown = || reports.iter().map(told).collect::<Vec<_>>().join("\n");
        if is_one && enough(&reports[0]) { Ok(reports[0].clone()) } else { Err(format!("they say\n{}", shown())) }
    })
}

/// A report in a line, for people.
fn told(network: &Value) -> String {
    let digest = network["digest"].as_str().unwrap_or_default().get(..8).unwrap_or_default();
    format!("{:?} {:?} {digest} {}", statuses(network), edges(network), network["agreement"])
}

/// Waits until all of these show the node of that label so.
pub fn shown_as(watchers: &[&Daemon], label: &str, status: &str) {
    for watcher in watchers {
        until(&format!("{} shows {label} {status}", watcher.label), SOON, || {
            let view = watcher.network();
            let shown = statuses(&view).get(label).copied().unwrap_or("unknown").to_owned();
            if shown == status { Ok(()) } else { Err(shown) }
        });
    }
}
