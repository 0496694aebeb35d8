//! What a node can tell of another's life: when each state began, who said so, and what happens next.

use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, closed_port};
use crate::patience::{SOON, until};
use crate::report::{agreed, shown_as};

fn whats(report: &Value) -> Vec<&str> {
    report["events"].as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap()).collect()
}

fn event<'a>(report: &'a Value, what: &str) -> Option<&'a Value> {
    report["events"].as_array().unwrap().iter().rfind(|event| event["what"] == what)
}

/// Waits until the node tells of such an event, and gives back all it tells.
fn tells(node: &Daemon, of: &str, what: &str, cause: &str) -> Value {
    until(&format!("{} tells of {of}: {what}, {cause}", node.label), SOON, || {
        let report = node.json(&["why", of]);
        let found = event(&report, what).is_some_and(|event| event["cause"] == cause);
        if found { Ok(report) } else { Err(report.to_string()) }
    })
}

#[test]
fn a_killed_nodes_life_is_told_with_causes_and_witnesses_until_it_returns() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let mut c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);
    let report = tells(&a, "c", "up", "first-record");
    assert_eq!((&report["schema"], &report["node"], &report["status"]), (&json!(1), &json!(c.id), &json!("up")));
    assert_eq!((&report["next_dial"], &report["next"]), (&json!(null), &json!([])));
    c.kill();
    shown_as(&[&a, &b], "c", "down");
    let report = tells(&a, "c", "down", "witnesses");
    let down = event(&report, "down").unwrap();
    let by: Vec<&str> = down["by"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(!by.is_empty() && by.iter().all(|id| [a.id.as_str(), b.id.as_str()].contains(id)), "{down}");
    assert!(by.iter().all(|id| report["labels"][id].is_string()), "{report}");
    let place = |what: &str| whats(&report).iter().position(|told| *told == what);
    assert!(place("up") < place("suspect") && place("suspect") < place("down") && place("up").is_some(), "{report}");
    assert!(event(&report, "suspect").unwrap()["by"].as_array().is_some_and(|by| !by.is_empty()), "{report}");
    // Each moment is one, none is after the present, and the next dial is not before it.
    let times: Vec<&str> =
        report["events"].as_array().unwrap().iter().map(|event| event["at"].as_str().unwrap()).collect();
    let now = report["now"].as_str().unwrap();
    assert!(times.is_sorted() && times.last() <= Some(&now) && now.ends_with('Z'), "{times:?}, {now}");
    assert!(report["next_dial"].as_str() >= Some(now), "{report}");
    assert!(report["next"].as_array().unwrap().iter().any(|step| step["what"] == "drop"), "{report}");
    // The same by its address and its id.
    for of in [&c.address.to_string(), &c.id[..12].to_owned()] {
        assert_eq!(a.json(&["why", of])["node"], json!(c.id), "{of}");
    }
    let table = a.client(&["why", "c"]);
    let heading = format!("c ({}) at {}, down since 20", &c.id[..8], c.address);
    assert!(table.code == Some(0) && table.stdout.starts_with(&heading), "{table:?}");
    assert!(table.stdout.contains("\nnext  in ") && table.stdout.contains("witnesses"), "{}", table.stdout);

    c.start_again();
    agreed(&[&a, &b, &c]);
    let report = tells(&a, "c", "up", "restart");
    assert!(event(&report, "restarted").is_some_and(|event| event["by"] == json!([c.id])), "{report}");
    assert_eq!(report["next_dial"], json!(null));
    assert_eq!(c.client(&["leave"]).code, Some(0));
    let report = tells(&b, "c", "left", "leave");
    assert_eq!(event(&report, "left").unwrap()["by"], json!([c.id]));
    assert_eq!(a.client(&["forget", "c"]).code, Some(0));
    let report = tells(&b, &c.id, "forgotten", "user");
    assert_eq!((&event(&report, "forgotten").unwrap()["by"], &report["status"]), (&json!([a.id]), &json!(null)));
}

#[test]
fn addresses_that_never_answered_bans_and_strangers_are_explained() {
    let network = Network::new();
    let nobody = closed_port();
    let a = network.node("a").connect(nobody).with(&["--network-expect", "db-1"]).start();
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let report = tells(&a, &nobody.to_string(), "dial-failed", "connection-refused");
    assert_eq!((&report["node"], &report["address"]), (&json!(null), &json!(nobody.to_string())));
    until("the next dial is told", SOON, || {
        let report = a.json(&["why", &nobody.to_string()]);
        if report["next_dial"].is_string() { Ok(()) } else { Err(report.to_string()) }
    });

    assert_eq!(a.client(&["ban", "b"]).code, Some(0));
    let report = tells(&a, "b", "banned", "user");
    assert!(report["next"].as_array().unwrap().iter().any(|step| step["what"] == "unban"), "{report}");
    tells(&a, "b", "closed", "banned");
    tells(&a, "b", "refused", "banned");
    assert_eq!(a.client(&["unban", "b"]).code, Some(0));
    tells(&a, "b", "unbanned", "user");

    let expected = a.client(&["why", "db-1"]);
    assert!(expected.code == Some(0) && expected.stdout.contains("it is expected, and nobody"), "{expected:?}");
    for (of, code, said) in [
        ("nobody", 1, "nothing is known of a node called \"nobody\""),
        ("127.0.0.1:1", 1, "nothing is known of address 127.0.0.1:1"),
        ("a:b:c", 2, "why \"a:b:c\""),
    ] {
        let ended = a.client(&["why", of]);
        assert!(ended.one_line(code).contains(said), "{ended:?}");
    }
}
