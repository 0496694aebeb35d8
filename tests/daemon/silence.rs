//! A node that is killed is missed by all, and is back when it is started again.

use std::fs;

use crate::daemon::Network;
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for_any, shown_as};

/// The system closes a killed process's connections, so nobody has to wait for a timeout.
#[test]
fn a_killed_node_is_noticed_and_comes_back_as_itself() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    let c = network.node("c").connect(b.address).start();
    agreed(&[&a, &b, &c]);

    b.kill();
    for other in [&a, &c] {
        closed_for_any(other, Some(&b.id), &["reset", "end-of-stream"]);
    }
    shown_as(&[&a, &c], "b", "down");

    let id = b.id.clone();
    b.start_again();
    assert_eq!(b.id, id);
    agreed(&[&a, &b, &c]);
}

/// What it wrote down of its network is enough: nobody tells it an address, and it is where nobody looks for it.
#[test]
fn a_killed_node_finds_its_network_again_from_what_it_kept() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let kept = b.setup().state_dir().join("known.json");
    until("b has written down where a is", SOON, || {
        let text = fs::read_to_string(&kept).unwrap_or_default();
        if text.contains(&a.address.to_string()) { Ok(()) } else { Err(format!("known.json is {text:?}")) }
    });
    b.kill();
    shown_as(&[&a], "b", "down");

    let before = (b.id.clone(), b.address);
    b = b.setup().clone().knowing_nobody().start();
    assert_eq!(b.id, before.0);
    assert_ne!(b.address, before.1);
    agreed(&[&a, &b]);
}
