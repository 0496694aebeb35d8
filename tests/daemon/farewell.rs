//! A node that is told to end takes its leave: it is gone soon, with exit code 0, and the others know it left.

use rustix::process::Signal;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::{agreed, closed_for, statuses};

/// Ends b in that way, and looks at what is left of it.
fn leaves(end: impl FnOnce(&Daemon)) {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);

    let start = std::time::Instant::now();
    end(&b);
    let status = b.ended();
    let took = start.elapsed();
    println!("left within {:.2} s", took.as_secs_f64());
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took.as_secs() < 10, "{took:?}");
    assert_eq!(b.printed(), Vec::<String>::new());
    assert!(!b.stderr().contains("panicked"), "{}", b.stderr());

    until("a shows that b left", SOON, || {
        let view = a.network();
        let shown = statuses(&view).get("b").copied().unwrap_or("unknown").to_owned();
        if shown == "left" { Ok(()) } else { Err(shown) }
    });
    closed_for(&a, Some(&b.id), "leaving");
    // Who took his leave is not missed.
    assert_eq!(a.client(&["network"]).code, Some(0));
    agreed_alone(&a);
    b.client(&["status"]).one_line(3);
    assert!(!b.socket.exists(), "the socket is left behind");

    b.start_again();
    agreed(&[&a, &b]);
}

fn agreed_alone(a: &Daemon) {
    until("a agrees with itself", SOON, || {
        let agreement = a.network()["agreement"].clone();
        if agreement["unanimous"] == true && agreement["live"] == 1 { Ok(()) } else { Err(agreement.to_string()) }
    });
}

#[test]
fn sigterm_is_a_graceful_leave() {
    leaves(|node| node.signal(Signal::TERM));
}

#[test]
fn sigint_is_a_graceful_leave() {
    leaves(|node| node.signal(Signal::INT));
}

#[test]
fn the_verb_leave_is_a_graceful_leave() {
    leaves(|node| {
        let ended = node.client(&["leave"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stdout.contains("b"), "{ended:?}");
    });
}

#[test]
fn a_lone_node_ends_at_once() {
    let network = Network::new();
    let mut a = network.start("a");
    let start = std::time::Instant::now();
    a.signal(Signal::TERM);
    assert_eq!(a.ended().code(), Some(0));
    println!("ended within {:.2} s", start.elapsed().as_secs_f64());
}
