//! What travels between two nodes, seen by somebody on the line, is nothing to read; and the network's key is kept as a
//! secret. What somebody on the line could change or repeat, and what a process without the key is told, is among the
//! hostile cases (`tests/hostile/handshake.rs`).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::{Ended, Key, Network, kithd};
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::tap::{Meddling, tapped};

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn nothing_can_be_read_on_the_line() {
    let (network, key) = (Network::new(), Key::new());
    let (node, tap, other) = tapped(&network, &key, Meddling::NONE);
    agreed(&[&node, &other]);
    let heard = tap.heard().concat();
    assert!(heard.len() > 500, "{} bytes", heard.len());
    let id = kithd::protocol::identity::from_hex::<32>(&other.id).unwrap();
    for secret in [&b"visible-label"[..], b"other-label", b"treasure", network.name().as_bytes(), &id] {
        assert!(!contains(&heard, secret), "{}", String::from_utf8_lossy(secret));
    }
    assert!(contains(&heard, b"kith"), "but for the magic of the preamble");
    let shown = Ended::of(kithd().args(["config", "show", "--network-key-file"]).arg(&key.path));
    for told in [node.stderr(), other.stderr(), node.status().to_string(), shown.stdout, shown.stderr] {
        assert!(!told.contains(&key.digits()), "the key is shown");
    }
}

#[test]
fn a_key_is_made_private_and_never_replaced() {
    let key = Key::new();
    assert_eq!(fs::metadata(&key.path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = Ended::of(kithd().arg("keygen").arg("--out").arg(&key.path));
    again.one_line(2);
    assert_eq!(key.digits().len(), 64);
    let printed = Ended::of(kithd().arg("keygen"));
    assert!(printed.code == Some(0) && !printed.stdout.contains(&key.digits()), "another key each time");
}

/// A network that changes its key: a node that holds the old and the new one talks to nodes that hold either.
#[test]
fn a_node_with_two_keys_is_understood_by_nodes_with_either() {
    let (network, old, new) = (Network::new(), Key::new(), Key::new());
    let both = Key::new();
    fs::write(&both.path, format!("{}\n{}\n", new.digits(), old.digits())).unwrap();
    let a = old.given_to(network.node("a")).start();
    let b = both.given_to(network.node("b")).connect(a.address).start();
    // Dials with the new key first, in vain, then with the old one.
    agreed(&[&a, &b]);
    let c = new.given_to(network.node("c")).connect(b.address).start();
    until("b knows all three", SOON, || {
        let nodes = b.status()["network_view"]["up"].clone();
        if nodes == 3 { Ok(()) } else { Err(nodes.to_string()) }
    });
    drop(c);
}
