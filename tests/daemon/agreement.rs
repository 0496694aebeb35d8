//! Nodes that know one other node each become one network, and each of them can say so.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::daemon::Network;
use crate::patience::{SOON, until};
use crate::report::{agreed_and, edges, rows_of};

/// c was told of b only, b of a only. All come to hold one view, in which c and a have an edge of their own.
#[test]
fn a_chain_of_three_agrees_on_one_network() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    let nodes = [&a, &b, &c];

    let view = agreed_and(&nodes, |view| edges(view).iter().any(|edge| [("a", "c"), ("c", "a")].contains(edge)));
    for (node, row) in nodes.iter().zip(view["nodes"].as_array().unwrap()) {
        assert_eq!(row["id"], node.id.as_str());
        assert_eq!(row["address"], node.address.to_string());
        assert_eq!(row["witnesses"], serde_json::json!([]));
    }

    // An edge is a connection: its tail dialled it, its head accepted it, and no other connection stands.
    until("the edges are the connections", SOON, || {
        let view = a.network();
        let mut connections = BTreeSet::new();
        for node in nodes {
            let rows = node.peers();
            for other in nodes {
                let found = rows_of(&rows, Some(&other.id));
                for row in found.iter().filter(|row| row["state"] == "established") {
                    let (one, two) = (node.label.as_str(), other.label.as_str());
                    connections.insert(if row["direction"] == "outgoing" { (one, two) } else { (two, one) });
                }
            }
        }
        let edges = edges(&view);
        if edges == connections { Ok(()) } else { Err(format!("{edges:?} are not {connections:?}")) }
    });

    // The last ring edge may come at this very moment, and with it a view that is yet to be agreed on.
    until("the table tells it", SOON, || {
        let table = a.client(&["network"]);
        let digest = &a.network()["digest"].as_str().unwrap()[..8].to_owned();
        let words = ["a", "b", "c", "up", &a.id[..8], &c.address.to_string(), "3 of 3", digest];
        match words.iter().find(|word| !table.stdout.contains(**word)) {
            None if table.code == Some(0) => Ok(()),
            missing => Err(format!("no {missing:?} in {table:?}")),
        }
    });
    let dot = a.client(&["network", "--format", "dot"]);
    assert!(dot.code == Some(0) && dot.stdout.starts_with("digraph") && dot.stdout.contains(" -> "), "{dot:?}");
    drawn(&dot.stdout);
}

/// Graphviz takes it as it is, where there is one; elsewhere its grammar is held by a unit test.
fn drawn(graph: &str) {
    let mut command = Command::new("dot");
    let piped = command.arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut dot) = piped.spawn() else { return println!("there is no Graphviz here") };
    dot.stdin.take().unwrap().write_all(graph.as_bytes()).unwrap();
    let output = dot.wait_with_output().unwrap();
    let (picture, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !complaints.contains("yntax"), "{complaints}\n{graph}");
    // An arrow, and the legend. How a version writes colours is its own.
    for part in ["<svg", "&gt;", "legend"] {
        assert!(picture.contains(part), "no {part} in {picture}");
    }
}

/// A tail measures, a head answers.
#[test]
fn round_trips_are_measured_and_heartbeats_counted() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    until("b knows its round trip to a", SOON, || {
        let rows = b.peers();
        let found = rows_of(&rows, Some(&a.id)).into_iter().find(|row| row["direction"] == "outgoing");
        let rtt = found.and_then(|row| row["rtt_ms"].as_f64());
        rtt.filter(|rtt| *rtt > 0.0).ok_or_else(|| format!("{rows:?}"))
    });
    until("a answers what b sends", SOON, || {
        let (sent, answered) = (b.status()["heartbeat"]["sent"].clone(), a.status()["heartbeat"]["answered"].clone());
        let enough = sent.as_u64() > Some(1) && answered.as_u64() > Some(1);
        if enough { Ok(()) } else { Err(format!("{sent} sent, {answered} answered")) }
    });
}
