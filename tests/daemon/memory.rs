//! What a node wrote down of its network is enough to find it again: nobody tells it an address any more.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, closed_port, write};
use crate::patience::{SOON, until};
use crate::report::{agreed, shown_as};

/// The addresses in a node's `known.json`.
fn kept(node: &Daemon) -> BTreeSet<String> {
    let text = fs::read(node.setup().state_dir().join("known.json")).unwrap_or_default();
    let form: Value = serde_json::from_slice(&text).unwrap_or_default();
    let rows = form["memory"]["addresses"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| Some(row["address"].as_str()?.to_owned())).collect()
}

fn has_kept(node: &Daemon, others: &[&Daemon]) {
    until(&format!("{} has written down where the others are", node.label), SOON, || {
        let kept = kept(node);
        if others.iter().all(|other| kept.contains(&other.address.to_string())) {
            Ok(())
        } else {
            Err(format!("{kept:?}"))
        }
    });
}

/// The same node at another place, told of nobody.
fn moved(mut node: Daemon) -> Daemon {
    let id = node.id.clone();
    node.kill();
    let node = node.setup().clone().knowing_nobody().start();
    assert_eq!(node.id, id);
    node
}

#[test]
fn a_node_finds_its_network_though_the_one_it_first_met_is_gone_for_ever() {
    let network = Network::new();
    let mut first = network.start("first");
    let [b, c, d] = ["b", "c", "d"].map(|label| network.node(label).connect(first.address).start());
    agreed(&[&first, &b, &c, &d]);
    has_kept(&b, &[&first, &c, &d]);
    first.kill();
    shown_as(&[&c, &d], "first", "down");
    let b = moved(b);
    agreed(&[&b, &c, &d]);
}

#[test]
fn one_address_that_still_holds_is_enough() {
    let network = Network::new();
    let stays = network.start("stays");
    let [b, c, d, e] = ["b", "c", "d", "e"].map(|label| network.node(label).connect(stays.address).start());
    agreed(&[&stays, &b, &c, &d, &e]);
    has_kept(&b, &[&stays, &c, &d, &e]);
    let mut b = b;
    b.kill();
    let others = [c, d, e].map(moved);
    agreed(&[&stays, &others[0], &others[1], &others[2]]);
    b = b.setup().clone().knowing_nobody().start();
    agreed(&[&stays, &b, &others[0], &others[1], &others[2]]);
    // Where they are now, it keeps as well.
    has_kept(&b, &[&stays, &others[0], &others[1], &others[2]]);
}

/// One that moves while another runs: that one writes it down at once, not at its next acquaintance.
#[test]
fn the_new_address_of_a_known_node_is_kept() {
    let network = Network::new();
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    has_kept(&b, &[&a]);
    let b = moved(b);
    agreed(&[&a, &b]);
    has_kept(&a, &[&b]);
}

/// Started, and stopped in order, while its network is away: what it knew of it, though it never was there itself, it knows
/// the next time.
#[test]
fn a_node_that_starts_without_its_network_does_not_forget_it() {
    let network = Network::new();
    let place = closed_port();
    let mut b = network.start("b");
    b.kill();
    let memory = json!({"version": 1, "addresses": [{"address": place.to_string(), "node": null}]});
    write(&b.setup().state_dir().join("known.json"), memory.to_string().as_bytes());
    for _ in 0..2 {
        b.start_again();
        b.signal(Signal::TERM);
        assert_eq!(b.ended().code(), Some(0));
        assert!(kept(&b).contains(&place.to_string()), "{:?}", kept(&b));
    }
    let a = network.node("a").listen(&[place]).start();
    b.start_again();
    agreed(&[&a, &b]);
}
