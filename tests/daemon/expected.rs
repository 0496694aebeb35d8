//! Nodes that should be there: named while they are not, on every side, and looked for until they are back.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, Setup, write};
use crate::patience::{SOON, until};
use crate::report::{agreed, shown_as};

/// Expecting these by label.
fn expecting(setup: Setup, labels: &[&str]) -> Setup {
    labels.iter().fold(setup, |setup, label| setup.with(&["--network-expect", label]))
}

fn warned(node: &Daemon, what: &str) -> Result<(), String> {
    let warnings = node.status()["warnings"].clone();
    let told = warnings.as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains(what));
    if told { Ok(()) } else { Err(warnings.to_string()) }
}

fn missing(node: &Daemon, names: &Value) {
    until(&format!("{} misses {names}", node.label), SOON, || {
        let (held, listed) = (node.status()["expected_missing"].clone(), node.network()["expected_missing"].clone());
        if held == *names && listed == *names { Ok(()) } else { Err(format!("{held}, {listed}")) }
    });
}

#[test]
fn an_expected_node_that_is_killed_is_named_by_all_and_found_when_it_returns() {
    let network = Network::new();
    let names = ["a", "b", "c"];
    let a = expecting(network.node("a"), &names).start();
    let b = expecting(network.node("b"), &names).connect(a.address).start();
    let mut c = expecting(network.node("c"), &names).connect(a.address).start();
    agreed(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        missing(node, &json!([]));
        assert_eq!(node.client(&["network"]).code, Some(0));
    }
    c.kill();
    for node in [&a, &b] {
        missing(node, &json!(["c"]));
        until("a warning says so", SOON, || {
            warned(node, "expected node c is not here: down since 20")?;
            warned(node, &c.address.to_string())
        });
        let table = node.client(&["network"]);
        assert!(table.code == Some(1) && table.stdout.ends_with("expected and not here: c\n"), "{table:?}");
    }
    // Where c was last is known over a restart, though nobody tells of it any more.
    let (mut a, mut b) = (a, b);
    b.kill();
    a.kill();
    a.start_again();
    until("a has not seen c since its start", SOON, || warned(&a, "expected node c is not here: not seen since"));
    b.start_again();
    // It knows nobody any more and has nobody to dial: it is found.
    let addresses = c.addresses.clone();
    fs::remove_file(c.setup().state_dir().join("known.json")).unwrap();
    let mut c = c.setup().clone().knowing_nobody().listen(&addresses).start();
    agreed(&[&a, &b, &c]);
    missing(&a, &json!([]));

    // Who has left is missing too, until somebody says that he need not be there.
    // It may have edges from others only, who do not acknowledge its farewell.
    assert_eq!(c.client(&["leave"]).code, Some(0));
    c.ended();
    shown_as(&[&a, &b], "c", "left");
    missing(&b, &json!(["c"]));
    assert_eq!(b.client(&["network"]).code, Some(1));
    assert_eq!(a.client(&["forget", "c"]).code, Some(0));
    for node in [&a, &b] {
        missing(node, &json!([]));
        assert_eq!(node.client(&["network"]).code, Some(0));
    }
}

#[test]
fn what_is_expected_is_read_anew_and_taken_back() {
    let network = Network::new();
    let setup = network.node("a");
    let file = setup.home().join("kithd.toml");
    write(&file, b"");
    let a = setup.with(&["--config", file.to_str().unwrap()]).start();
    let stranger = "1c9f02ab".repeat(8);
    missing(&a, &json!([]));
    write(&file, format!("[network]\nexpect = [\"a\", \"db-1\", \"{stranger}\"]\n").as_bytes());
    a.signal(Signal::HUP);
    missing(&a, &json!([stranger, "db-1"]));
    assert_eq!(warned(&a, "expected node db-1 is not here: never seen"), Ok(()));
    assert_eq!(a.client(&["network"]).code, Some(1));
    let page = a.client(&["status"]).stdout;
    assert!(page.contains("missing    1c9f02ab") && page.contains("db-1"), "{page}");

    let report = a.json(&["forget", "db-1"]);
    assert_eq!(report, json!({"schema": 1, "id": null, "label": "db-1", "everywhere": false}));
    missing(&a, &json!([stranger]));
    a.client(&["forget", "db-1"]).one_line(1);
    for (wrong, said) in [("d b", "neither a label"), ("", "neither a label")] {
        let refused = network.node("x").with(&["--network-expect", wrong]).refused();
        assert!(refused.one_line(2).contains(said), "{refused:?}");
    }
}
