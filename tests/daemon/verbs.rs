//! The verbs that act on a running node, and how each of them ends.

use serde_json::json;

use crate::daemon::{Ended, Network, closed_port};
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for, rows_of, statuses};

#[test]
fn connect_dials_and_says_how_it_ended() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.start("b");
    let (at_b, nobody) = (b.address.to_string(), closed_port().to_string());

    let connected = a.client(&["connect", &at_b, "--format", "json"]);
    assert_eq!((connected.code, connected.stderr.as_str()), (Some(0), ""), "{connected:?}");
    let report: serde_json::Value = serde_json::from_str(&connected.stdout).unwrap();
    let expected =
        json!({"schema": 1, "address": at_b, "outcome": "connected", "id": b.id, "label": "b", "reason": null});
    assert_eq!(report, expected);
    agreed(&[&a, &b]);
    assert_eq!(a.json(&["connect", &at_b])["outcome"], "already-connected");

    let failed = a.client(&["connect", &nobody, "--format", "json"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let report: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!((&report["outcome"], &report["reason"]), (&json!("failed"), &json!("connection-refused")));

    let unknown = a.client(&["connect", "no-such-host.invalid:7100", "--format", "json"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stdout.contains("name-not-resolved"), "{unknown:?}");

    for nonsense in ["nowhere", "127.0.0.1:0", "0.0.0.0:7100", "a b:1"] {
        let refused = a.client(&["connect", nonsense]);
        assert!(matches!(refused.code, Some(1 | 2)) && refused.stderr.lines().count() == 1, "{nonsense}: {refused:?}");
    }
}

/// A name is resolved for the user's dial as well.
#[test]
fn connect_takes_a_name() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.start("b");
    let place = format!("localhost:{}", b.address.port());
    // A name may have several addresses, of which each try takes the next.
    until("a is connected by name", SOON, || {
        let ended = a.client(&["connect", &place, "--format", "json"]);
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    agreed(&[&a, &b]);
}

/// A label is whatever its owner says: it may be the digits by which another node is named.
#[test]
fn nobody_is_closed_or_banned_for_whoever_took_the_digits_of_his_id_as_a_label() {
    let network = Network::new();
    let a = network.start("n0");
    let b = network.node("n1").connect(a.address).start();
    let digits = b.id[..8].to_owned();
    let impostor = network.node(&digits).connect(a.address).start();
    agreed(&[&a, &b, &impostor]);
    for verb in ["ban", "disconnect", "forget"] {
        let ended = a.client(&[verb, &digits]);
        let said = ended.one_line(1);
        for named in [format!("n1 ({}", &b.id[..16]), format!("{digits} ({}", &impostor.id[..16])] {
            assert!(said.contains(&named), "{named}: {said}");
        }
    }
    assert_eq!(a.json(&["bans"])["bans"], json!([]));
    assert_eq!(a.json(&["ban", &b.id[..9]])["id"], b.id.as_str(), "one digit more");
    assert_eq!(a.json(&["ban", &impostor.id[..16]])["id"], impostor.id.as_str());
    assert!(a.client(&["unban", &digits]).one_line(1).contains("may be"), "two bans, and one text for both");
    assert_eq!(a.json(&["unban", &b.id])["id"], b.id.as_str());
}

#[test]
fn disconnect_closes_the_connections_with_a_node_or_one_of_them() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);

    let rows = a.peers();
    let open = rows_of(&rows, Some(&b.id)).into_iter().find(|row| row["state"] == "established").unwrap();
    let number = &open["peer_id"];
    let ended = a.client(&["disconnect", &number.to_string()]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    until("that peer is closed by the user", SOON, || {
        let rows = a.peers();
        let row = rows.iter().find(|row| row["peer_id"] == *number).cloned().unwrap_or_default();
        if row["close_reason"] == "local" { Ok(()) } else { Err(row.to_string()) }
    });
    closed_for(&b, Some(&a.id), "remote");

    // Closing is no accusation: the nodes stay up, and find each other again.
    agreed(&[&a, &b]);
    for name in ["b", &b.id, &b.id[..12]] {
        until("there is something to disconnect", SOON, || {
            let ended = a.client(&["disconnect", name]);
            if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
        });
    }
    agreed(&[&a, &b]);
    a.client(&["disconnect", "nobody"]).one_line(1);
    let none = a.client(&["disconnect", "999999"]);
    let none = none.one_line(1);
    assert!(none.contains("no connection has the number 999999, and no node is called so"), "{none}");
}

#[test]
fn forget_drops_a_node_that_is_gone_everywhere() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    let mut c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);
    a.client(&["forget", "c"]).one_line(1);
    a.client(&["forget", "nobody"]).one_line(1);

    c.kill();
    for node in [&a, &b] {
        until(&format!("{} shows c down", node.label), SOON, || {
            let view = node.network();
            if statuses(&view).get("c") == Some(&"down") { Ok(()) } else { Err(format!("{:?}", statuses(&view))) }
        });
    }
    let ended = a.client(&["forget", "c", "--format", "json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains(&c.id), "{ended:?}");
    agreed(&[&a, &b]);
    for node in [&a, &b] {
        until(&format!("{} has forgotten c", node.label), SOON, || {
            let network = node.client(&["network", "--format", "json"]);
            let gone = network.code == Some(0) && !network.stdout.contains(&c.id);
            if gone { Ok(()) } else { Err(network.stdout) }
        });
    }
    a.client(&["forget", "c"]).one_line(1);

    // It was dropped, not banned: a newer record brings it back.
    c.start_again();
    agreed(&[&a, &b, &c]);
}

#[test]
fn identity_says_who_the_node_is() {
    let network = Network::new();
    let a = network.start("a");
    assert_eq!(a.json(&["identity"]), json!({"schema": 1, "id": a.id, "label": "a", "keys": []}));
    let table = a.client(&["identity"]);
    assert!(table.code == Some(0) && table.stdout.contains(&a.id), "{table:?}");
}

/// By its state directory too, and whether or not a dead node has left its socket there.
#[test]
fn a_client_finds_its_node_or_says_how_to_start_one() {
    let network = Network::new();
    let mut a = network.start("a");
    let state_dir = a.setup().state_dir();
    let ask = || Ended::of(crate::daemon::kithd().arg("identity").arg("--state-dir").arg(&state_dir));
    assert_eq!(ask().code, Some(0));
    let by_environment = Ended::of(crate::daemon::kithd().arg("identity").env("KITHD_SOCKET", &a.socket));
    assert_eq!(by_environment.code, Some(0));
    a.kill();
    assert!(a.socket.exists());
    let ended = ask();
    assert!(ended.one_line(3).contains("kithd run"), "{ended:?}");
    a.start_again();
    assert_eq!(ask().code, Some(0));
}
