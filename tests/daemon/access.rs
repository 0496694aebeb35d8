//! Who may come in: bans and the allow-list, from the first word of a user to what is left after a restart.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};

use kithd::protocol::message::{HeadMessage, Purpose};
use kithd::protocol::reason::Reason;
use kithd::secure::handshake::Tail;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, Network, Setup, write};
use crate::patience::{SOON, throughout, until};
use crate::report::{agreed, closed_for, closed_for_any, refused, rows_of};
use crate::stranger::{Line, Stranger};

fn bans(node: &Daemon) -> Vec<Value> {
    node.json(&["bans"])["bans"].as_array().unwrap().clone()
}

/// Whether an edge stands between two nodes, as the first one sees it.
fn is_linked(node: &Daemon, id: &str) -> bool {
    rows_of(&node.peers(), Some(id)).iter().any(|row| row["state"] == "established")
}

fn kept_apart(node: &Daemon, id: &str) {
    throughout("no edge comes back", std::time::Duration::from_secs(3), || {
        if is_linked(node, id) { Err("there is one".to_owned()) } else { Ok(()) }
    });
}

fn count_reaches(node: &Daemon, reason: &str, least: u64) {
    until(&format!("{} counts {least} {reason}", node.label), SOON, || {
        let count = refused(node, reason);
        if count >= least { Ok(()) } else { Err(format!("it counts {count}")) }
    });
}

/// Dials from that address of loopback, says nothing, and gives back what comes until the node closes.
fn knock(from: &str, node: &Daemon) -> Vec<u8> {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.connect(&node.address.into()).unwrap();
    let mut heard = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut heard);
    heard
}

#[test]
fn a_ban_drops_the_node_and_keeps_it_out_over_a_restart_until_it_is_taken_back() {
    let network = Network::new();
    let mut a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);

    let report = a.json(&["ban", "b", "--for", "1h", "--reason", "too loud"]);
    assert_eq!((&report["id"], &report["label"], &report["reason"]), (&json!(b.id), &json!("b"), &json!("too loud")));
    assert!(report.get("address").is_none() && !report["closed"].as_array().unwrap().is_empty(), "{report}");
    closed_for(&a, Some(&b.id), "banned");
    closed_for_any(&b, Some(&a.id), &["banned"]);
    let counted = refused(&a, "banned");
    // b tries to come back, and is told why it may not.
    count_reaches(&a, "banned", counted + 1);
    kept_apart(&a, &b.id);
    let row = json!({"id": b.id, "label": "b", "until": report["until"], "reason": "too loud"});
    assert_eq!(bans(&a), std::slice::from_ref(&row));
    assert_eq!(a.network()["nodes"].as_array().unwrap().len(), 2, "it is a member all the same");

    // The word was kept before the user had his answer: not even this can lose it.
    a.kill();
    a.start_again();
    assert_eq!(bans(&a), [row]);
    count_reaches(&a, "banned", 1);
    let failed = a.client(&["connect", &b.address.to_string()]);
    assert!(failed.one_line(1).contains("banned"), "{failed:?}");
    kept_apart(&a, &b.id);

    let unbanned = a.client(&["unban", &b.id[..8]]);
    assert_eq!((unbanned.code, unbanned.stdout), (Some(0), format!("b ({}) is banned no more\n", &b.id[..8])));
    assert_eq!(bans(&a), [json!(null); 0]);
    agreed(&[&a, &b]);
    assert!(a.client(&["unban", "b"]).one_line(1).contains("not banned"));
}

#[test]
fn a_ban_ends_by_itself() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    assert_eq!(a.client(&["ban", "b", "--for", "2s"]).code, Some(0));
    closed_for(&a, Some(&b.id), "banned");
    until("the list is empty", SOON, || {
        let bans = bans(&a);
        if bans.is_empty() { Ok(()) } else { Err(format!("{bans:?}")) }
    });
    until(
        "there is an edge again",
        SOON,
        || {
            if is_linked(&a, &b.id) { Ok(()) } else { Err(format!("{:?}", b.peers())) }
        },
    );
}

#[test]
fn a_banned_address_is_shut_out_without_a_word() {
    let network = Network::new();
    let a = network.start("a");
    let report = a.json(&["ban", "127.0.0.8/30", "--reason", "a scanner"]);
    assert_eq!((&report["address"], &report["label"]), (&json!("127.0.0.8/30"), &json!(null)));
    assert!(report.get("id").is_none(), "{report}");
    assert_eq!(knock("127.0.0.9", &a), b"");
    assert_eq!((refused(&a, "banned"), refused(&a, "handshake-timeout")), (1, 0));

    // Nodes elsewhere come in, and one that is found at a banned address is not dialled.
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let trap = std::net::TcpListener::bind("127.0.0.10:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let failed = a.client(&["connect", &trap.local_addr().unwrap().to_string()]);
    assert!(failed.one_line(1).contains("banned"), "{failed:?}");
    assert!(trap.accept().is_err(), "somebody has dialled");

    let within = a.client(&["unban", "127.0.0.9"]);
    assert!(within.one_line(1).contains("kithd unban 127.0.0.8/30"), "{within:?}");
    assert_eq!(a.client(&["unban", "127.0.0.8/30"]).code, Some(0));

    // The address that b comes from: it goes, as all do that come from there.
    let report = a.json(&["ban", "127.0.0.1:9", "--for", "1h"]);
    assert_eq!(report["address"], "127.0.0.1");
    closed_for(&a, Some(&b.id), "banned");
    kept_apart(&a, &b.id);
}

#[test]
fn what_cannot_be_banned_is_refused_in_one_line() {
    let network = Network::new();
    let a = network.node("a").with(&["--limits-max-bans", "2"]).start();
    let stranger = "1c9f02ab".repeat(8);
    for (args, code, said) in [
        (&["ban", "nobody"][..], 1, "no node is called"),
        (&["ban", "a"], 1, "cannot ban itself"),
        (&["ban", &a.id], 1, "cannot ban itself"),
        (&["ban", "10.0.0.1/8"], 2, "write 10.0.0.0/8"),
        (&["ban", "10.0.0.0/33"], 2, "from 0 to 32"),
        (&["ban", "seed.example:7100"], 2, "is no address"),
        (&["ban", &stranger, "--for", "0s"], 2, "from 1s to 8760h"),
        (&["ban", &stranger, "--for", "9999999h"], 2, "from 1s to 8760h"),
        (&["ban", &stranger, "--for", "soon"], 2, "a whole number and a unit"),
        (&["ban", &stranger, "--reason", "a\nb"], 2, "control character"),
        (&["ban", &stranger, "--reason", &"x".repeat(201)], 2, "200 are allowed"),
        (&["unban", "nobody"], 1, "not banned"),
        (&["unban", "10.0.0.0/99"], 2, "from 0 to 32"),
    ] {
        let ended = a.client(args);
        assert!(ended.one_line(code).contains(said), "{args:?}: {ended:?}");
    }
    assert_eq!(bans(&a), [json!(null); 0]);

    // Whoever is not here yet can be banned by his id.
    assert_eq!(a.client(&["ban", &stranger]).code, Some(0));
    assert_eq!(a.client(&["ban", "2001:db8::/32"]).code, Some(0));
    assert!(a.client(&["ban", "10.0.0.0/8"]).one_line(1).contains("limits.max_bans"));
    assert_eq!(a.client(&["ban", &stranger, "--for", "2h"]).code, Some(0), "the same one anew");
    assert_eq!(bans(&a).len(), 2);
}

#[test]
fn a_ban_that_was_spoilt_on_disk_is_left_out_with_a_warning() {
    let network = Network::new();
    let mut a = network.start("a");
    for target in ["10.0.0.0/8", "10.1.0.0/16"] {
        assert_eq!(a.client(&["ban", target]).code, Some(0));
    }
    a.kill();
    let known = a.setup().state_dir().join("known.json");
    // As somebody would write it who has learnt from a node what it looks like.
    let kept: Value = serde_json::from_slice(&fs::read(&known).unwrap()).unwrap();
    let text = kept["memory"].to_string();
    assert_eq!(text.matches("10.1.0.0/16").count(), 1, "{text}");
    write(&known, text.replace("10.1.0.0/16", "10.1.0.0/61").as_bytes());
    a.start_again();
    assert_eq!(bans(&a).len(), 1);
    assert!(a.status()["warnings"].to_string().contains("of the bans in known.json"), "{}", a.status());
    // One that says nothing of bans.
    a.kill();
    write(&known, b"{\"version\": 1, \"addresses\": []}");
    a.start_again();
    assert_eq!((bans(&a).len(), a.status()["warnings"].clone()), (0, json!([])));
}

/// A node with a configuration file, which says this.
fn configured(setup: Setup, text: &str) -> Setup {
    let path = setup.home().join("kithd.toml");
    write(&path, text.as_bytes());
    setup.with(&["--config", path.to_str().unwrap()])
}

fn reconfigure(node: &Daemon, text: &str, said: &str) {
    let before = node.stderr().len();
    write(&node.setup().home().join("kithd.toml"), text.as_bytes());
    node.signal(Signal::HUP);
    until(&format!("the log says {said:?}"), SOON, || {
        let log = node.stderr()[before..].to_owned();
        if log.contains(said) { Ok(()) } else { Err(log) }
    });
}

fn allowing(ids: &[&str]) -> String {
    format!("[network]\nallow = {ids:?}\n")
}

#[test]
fn the_list_is_held_at_both_ends_and_read_anew() {
    let network = Network::new();
    let a = configured(network.node("a"), &allowing(&[&"1c".repeat(32)])).start();
    let b = network.node("b").connect(a.address).start();
    // As a head: b dials, and is told why it may not come in, though not by whom.
    closed_for(&b, None, "not-allowed");
    count_reaches(&a, "not-allowed", 1);
    // As a tail: a dials b, sees who is there, and goes.
    let failed = a.client(&["connect", &b.address.to_string()]);
    assert!(failed.one_line(1).contains("network.allow"), "{failed:?}");
    assert!(!is_linked(&a, &b.id));

    reconfigure(&a, &allowing(&[&b.id]), "network.allow: applied");
    agreed(&[&a, &b]);
    // What was broken changes nothing.
    reconfigure(&a, "[network]\nallow = [\"b\"]\n", "is no node's id");
    assert!(is_linked(&a, &b.id));
    reconfigure(&a, &allowing(&[&"1c".repeat(32)]), "network.allow: applied");
    closed_for(&a, Some(&b.id), "not-allowed");
    kept_apart(&a, &b.id);
    reconfigure(&a, "", "network.allow: applied");
    agreed(&[&a, &b]);
}

/// Nothing of a node reaches somebody whom it keeps out: no record, no addresses of others. But he is told why, once he has
/// proved that he holds the network's key and who he is, and so that nobody else can read it.
#[test]
fn who_is_kept_out_is_told_so_under_seal_and_gets_nothing_else() {
    let network = Network::new();
    let brief = ["--limits-handshake-timeout", "1s"];
    let a = configured(network.node("a").with(&brief), "").start();
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let (alien, rogue) = (Stranger::new(&network, "alien"), Stranger::new(&network, "rogue"));
    assert_eq!(a.client(&["ban", &rogue.id()]).code, Some(0));
    reconfigure(&a, &allowing(&[&b.id, &rogue.id()]), "network.allow: applied");
    for (stranger, reason) in [(&alien, Reason::NotAllowed), (&rogue, Reason::Banned)] {
        for purpose in [Purpose::Overlay, Purpose::Ring, Purpose::Probe] {
            let before = refused(&a, &reason.to_string());
            let mut line = Line::to(a.address);
            line.secure(stranger, purpose);
            line.tell(&stranger.hello(&a));
            assert!(matches!(line.hear(), Some(HeadMessage::Goodbye(said)) if said == reason), "{purpose:?}");
            assert_eq!(line.hear::<HeadMessage>().map(|more| format!("{more:?}")), None, "{purpose:?}");
            count_reaches(&a, &reason.to_string(), before + 1);
        }
        // Before he has introduced himself he is told nothing at all.
        let mut line = Line::to(a.address);
        line.secure(stranger, Purpose::Overlay);
        assert_eq!(line.rest(), b"");
    }
    let known = a.network()["nodes"].to_string();
    assert!(!known.contains(&alien.id()) && !known.contains(&rogue.id()), "nor is anything of his taken in: {known}");
    assert!(is_linked(&a, &b.id));

    // An address that is kept out gets no answer, not even with a first message that any other would be answered.
    assert_eq!(a.client(&["ban", "127.0.0.9"]).code, Some(0));
    let member = Stranger::new(&network, "member");
    let (_, first) = Tail::begin(
        &member.credentials(member.body.network),
        &NetworkKey::none(),
        Cipher::ChaChaPoly,
        Purpose::Overlay,
    )
    .unwrap();
    let answer = |ip: &str| {
        let mut line = Line::from(ip.parse::<IpAddr>().unwrap(), a.address);
        line.send(&first);
        line.rest().len()
    };
    assert_eq!(answer("127.0.0.9"), 0);
    assert!(answer("127.0.0.10") > 200, "message 2");
}

#[test]
fn a_configuration_is_read_anew_and_each_key_that_changed_is_named() {
    let network = Network::new();
    let a = configured(network.node("a"), "").start();
    let b = network.start("b");
    reconfigure(&a, "", "nothing has changed");
    let log = a.setup().home().join("log");
    let text = format!(
        "[network]\nconnect = [\"{}\"]\n[limits]\nmax_nodes = 100\n[services.uptime]\ncommand = [\"uptime\"]\n[log]\nlevel = \"debug\"\nfile = {log:?}\n[node]\nlabel = \"x\"\n",
        b.address
    );
    let before = a.stderr();
    write(&a.setup().home().join("kithd.toml"), text.as_bytes());
    a.signal(Signal::HUP);
    agreed(&[&a, &b]);
    // Something of which only the new level tells: a connection that ends.
    drop(TcpStream::connect(a.address).unwrap());
    until("the new log tells of it", SOON, || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let expected = [
            "network.connect: applied",
            "log.file: applied",
            "log.level: applied",
            "limits.max_nodes: needs a restart",
            "services: needs a restart",
            "[DEBUG]",
        ];
        let missing: Vec<_> = expected.iter().filter(|line| !said.contains(**line)).collect();
        // The label is a flag here, which goes before the file.
        if missing.is_empty() && !said.contains("node.label") { Ok(()) } else { Err(format!("{missing:?}: {said}")) }
    });
    assert_eq!(a.stderr(), before, "the old log is written no more");

    // A file that was moved away is made anew, and one that cannot be opened leaves things as they are.
    fs::rename(&log, a.setup().home().join("log.1")).unwrap();
    a.signal(Signal::HUP);
    until("there is a new file", SOON, || fs::metadata(&log).map(drop).map_err(|error| error.to_string()));
    fs::remove_file(a.setup().home().join("kithd.toml")).unwrap();
    a.signal(Signal::HUP);
    until("the missing file is named", SOON, || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if said.contains("all stays as it was") { Ok(()) } else { Err(said) }
    });
    agreed(&[&a, &b]);
}
