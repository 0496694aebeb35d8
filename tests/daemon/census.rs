//! Counting the network: all that take part answer, and whoever does not is named.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Network, kithd};
use crate::patience::{SOON, until};
use crate::report::{agreed, statuses};

/// Five nodes that agree, and that do not call anybody silent for a minute.
fn five() -> Vec<Daemon> {
    let network = Network::new();
    let patient = ["--heartbeat-timeout", "60s"];
    let mut nodes = vec![network.node("n0").with(&patient).start()];
    for number in 1..5 {
        let setup = network.node(&format!("n{number}")).with(&patient);
        nodes.push(setup.connect(nodes[0].address).start());
    }
    settled(&nodes);
    nodes
}

/// They agree, and have done so for a while: edges are still sought and published after the first agreement.
fn settled(nodes: &[Daemon]) {
    let all: Vec<&Daemon> = nodes.iter().collect();
    let digest = || agreed(&all)["digest"].clone();
    let mut since = (digest(), Instant::now());
    until("they have agreed for two seconds", SOON, || {
        let held = digest();
        if held != since.0 {
            since = (held, Instant::now());
        }
        if since.1.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err("not for long".to_owned()) }
    });
}

fn unanimous(census: &Value, nodes: usize) {
    assert_eq!(census["asked_live"], nodes, "{census}");
    assert_eq!(census["answered"], nodes, "{census}");
    assert_eq!(census["unanimous"], true, "{census}");
    assert_eq!(census["digests"][0]["nodes"], nodes, "{census}");
    assert_eq!(census["missing"].as_array().map(Vec::len), Some(0), "{census}");
}

#[test]
fn five_nodes_are_counted_and_sign_what_they_hold() {
    let nodes = five();
    let view = nodes[0].json(&["network", "--census"]);
    unanimous(&view["census"], 5);
    assert_eq!(view["census"]["mode"], "count");
    assert_eq!(view["census"]["digest"], view["digest"]);
    let told = nodes[1].client(&["network", "--census"]);
    assert!(told.code == Some(0) && told.stdout.contains("all 5 nodes answered"), "{told:?}");

    // A proof, which somebody checks who has nothing but the file.
    let proof = nodes[2].client(&["network", "--prove", "--format", "json"]);
    assert_eq!(proof.code, Some(0), "{proof:?}");
    let view: Value = serde_json::from_str(&proof.stdout).unwrap();
    unanimous(&view["census"], 5);
    assert_eq!(view["census"]["proof"].as_array().unwrap().len(), 5);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("proof.json");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = kithd().args(["network", "--check"]).arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = check(&proof.stdout);
    assert!(code == Some(0) && said.contains("5 signatures hold"), "{said}");
    let nonce = view["census"]["nonce"].as_str().unwrap();
    let (code, said) = check(&proof.stdout.replace(nonce, &"0".repeat(32)));
    assert!(code == Some(1) && said.contains("has not signed this"), "{said}");
    let (code, said) = check("{}");
    assert!(code == Some(1) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_node_that_is_stopped_is_missing_by_name() {
    let nodes = five();
    nodes[4].signal(Signal::STOP);
    for mode in ["--census", "--prove"] {
        let ended = nodes[0].client(&["network", mode]);
        assert!(ended.code == Some(1) && ended.stdout.contains("4 of 5 nodes answered"), "{ended:?}");
        assert!(ended.stdout.contains("did not answer: n4\n"), "{ended:?}");
        let view = nodes[1].json(&["network", mode]);
        let census = &view["census"];
        assert_eq!(census["missing"], serde_json::json!([nodes[4].id]), "{census}");
        assert_eq!(census["unanimous"], false);
        // It was waited for, but it is not for a census to say who is down.
        assert_eq!(statuses(&view)["n4"], "up");
    }
    nodes[4].signal(Signal::CONT);
    // What it was asked meanwhile it answers now, to nobody's harm.
    until("all are counted again", SOON, || {
        let view = nodes[3].json(&["network", "--prove"]);
        if view["census"]["unanimous"] == true { Ok(()) } else { Err(view["census"].to_string()) }
    });
    settled(&nodes);
}

#[test]
fn a_node_alone_is_unanimous_and_one_that_asks_too_often_is_told() {
    let network = Network::new();
    let node = network.start("alone");
    for _ in 0..6 {
        unanimous(&node.json(&["network", "--prove"])["census"], 1);
    }
    let ended = node.client(&["network", "--census"]);
    assert!(ended.one_line(1).contains("six censuses a minute"));
    assert_eq!(node.client(&["network"]).code, Some(0));
}
