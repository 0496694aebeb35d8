//! What a node's owner says about it, and how soon the others know.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, write};
use crate::patience::{SOON, until};
use crate::report::agreed;

/// Waits until the watcher shows the tags of the node of that label so.
fn shown(watcher: &Daemon, label: &str, tags: &Value) {
    until(&format!("{} sees {label} with {tags}", watcher.label), SOON, || {
        let view = watcher.network();
        let row = view["nodes"].as_array().unwrap().iter().find(|node| node["label"] == label).cloned();
        let held = row.unwrap_or_default()["tags"].clone();
        if held == *tags { Ok(()) } else { Err(held.to_string()) }
    });
}

#[test]
fn tags_are_changed_while_the_node_runs_and_seen_by_all() {
    let network = Network::new();
    let mut a = network.node("a").with(&["--tag", "role=web", "--tag", "zone=a"]).start();
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    shown(&b, "a", &json!({"role": "web", "zone": "a"}));

    let report = a.json(&["tag", "role=db", "rack=7", "--remove", "zone"]);
    assert_eq!(report, json!({"schema": 1, "id": a.id, "label": "a", "tags": {"rack": "7", "role": "db"}}));
    shown(&b, "a", &json!({"rack": "7", "role": "db"}));
    let table = a.client(&["tag"]);
    assert_eq!((table.code, table.stdout.as_str()), (Some(0), "rack=7\nrole=db\n"), "{table:?}");
    assert!(b.client(&["network"]).stdout.contains("rack=7 role=db"));

    let long = format!("note={}", "x".repeat(260));
    for (args, said) in [
        (&["tag", "role"][..], "must be a key and a value"),
        (&["tag", "role="], "--remove role"),
        (&["tag", &long], "at most 256 bytes"),
        (&["tag", "a=1", "a=2"], "twice"),
        (&["tag", "--remove", "zone"], "no tag \"zone\""),
        (&["tag", "note=a\u{202e}b"], "printable ASCII"),
    ] {
        let ended = a.client(args);
        assert!(ended.one_line(2).contains(said), "{args:?}: {ended:?}");
    }
    assert_eq!(a.json(&["tag"])["tags"], json!({"rack": "7", "role": "db"}), "what was refused changed nothing");
    agreed(&[&a, &b]);

    // The next start takes what its configuration says.
    a.kill();
    a.start_again();
    shown(&b, "a", &json!({"role": "web", "zone": "a"}));
}

#[test]
fn tags_are_read_anew_with_the_configuration() {
    let network = Network::new();
    let setup = network.node("a");
    let file = setup.home().join("kithd.toml");
    write(&file, b"[node]\ntags = { role = \"web\" }\n");
    let a = setup.with(&["--config", file.to_str().unwrap()]).start();
    let b = network.node("b").connect(a.address).start();
    shown(&b, "a", &json!({"role": "web"}));
    assert_eq!(a.client(&["tag", "role=db"]).code, Some(0));
    shown(&b, "a", &json!({"role": "db"}));
    write(&file, b"[node]\ntags = { role = \"cache\", zone = \"b\" }\n");
    a.signal(Signal::HUP);
    shown(&b, "a", &json!({"role": "cache", "zone": "b"}));
    a.says("node.tags: applied");
}
