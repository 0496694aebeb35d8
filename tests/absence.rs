//! What a split network says of itself, in virtual time: each side names what it misses.

use std::time::Duration;

use kithd::protocol::address::HostPort;
use kithd::protocol::report::Status;
use kithd::simulator::{Conditions, Host, World};

/// A network of so many nodes, all of which expect these, that has agreed.
fn expecting(seed: u64, nodes: usize, names: &[&str]) -> World {
    let mut world = World::new(Conditions::new(seed));
    for number in 0..nodes {
        let connect = if number == 0 { Vec::new() } else { vec![HostPort::Ip(world.address(Host(0)))] };
        let host = world.add(connect);
        let settings = world.settings_mut(host);
        settings.max_events = 1024;
        settings.expect = names.iter().map(|name| name.parse().unwrap()).collect();
        world.start(host);
    }
    assert!(world.run_until_agreed(Duration::from_secs(10)).is_some(), "{:?}", world.disagreement());
    world
}

fn warnings(world: &World, host: Host) -> Vec<String> {
    world.node(host).unwrap().warnings_of_absence(world.now_at(host))
}

fn missing(world: &World, host: Host) -> Vec<String> {
    world.node(host).unwrap().expected_missing()
}

/// Ten nodes become five and five, and one again. n1 and n2 are on one side, n8 on the other; all expect the three.
#[test]
fn a_split_network_says_so_on_both_sides_and_names_whom_it_misses() {
    for seed in 1..6 {
        let mut world = expecting(seed, 10, &["n1", "n2", "n8"]);
        assert!(world.hosts().all(|host| warnings(&world, host).is_empty()));
        let (one, other): (Vec<Host>, Vec<Host>) = world.hosts().partition(|host| host.0 < 5);
        world.partition(&one);
        let settled = |world: &World| {
            let sees = |side: &[Host], far: &[Host]| {
                side.iter().all(|host| {
                    let node = world.node(*host).unwrap();
                    far.iter().all(|gone| node.status(&world.id(*gone)) == Some(Status::Down))
                })
            };
            sees(&one, &other) && sees(&other, &one)
        };
        assert!(world.run_until(Duration::from_secs(30), settled).is_some(), "seed {seed}");
        for host in world.hosts() {
            let is_one = host.0 < 5;
            let expected: &[&str] = if is_one { &["n8"] } else { &["n1", "n2"] };
            assert_eq!(missing(&world, host), expected, "seed {seed}, {host:?}");
            let told = warnings(&world, host);
            assert!(told[0].starts_with("5 of 10 nodes are down since 2026-01-01T00:00:"), "seed {seed}: {told:?}");
            assert_eq!(told.len(), 1 + expected.len(), "seed {seed}: {told:?}");
            for (line, name) in told[1..].iter().zip(expected) {
                assert!(line.starts_with(&format!("expected node {name} is not here: down since 2026-")), "{line}");
                assert!(line.contains("next dial of 10.") || line.contains("is being dialled"), "{line}");
            }
        }
        world.heal();
        let whole = |world: &World| world.hosts().all(|host| missing(world, host).is_empty());
        // Two minutes: whoever was dialled in vain waits for up to one.
        assert!(world.run_until(Duration::from_secs(120), whole).is_some(), "seed {seed}");
        assert!(world.run_until_agreed(Duration::from_secs(30)).is_some(), "seed {seed}");
        assert!(world.hosts().all(|host| warnings(&world, host).is_empty()), "seed {seed}");
    }
}

/// One of eight is no split, and is named all the same.
#[test]
fn one_side_that_is_small_is_named_by_who_expects_it() {
    let mut world = expecting(1, 8, &["n7"]);
    world.crash(Host(7));
    let known = |world: &World| world.all_know(Host(7), Status::Down);
    assert!(world.run_until(Duration::from_secs(10), known).is_some());
    for host in world.hosts().filter(|host| host.0 < 7) {
        let told = warnings(&world, host);
        assert!(told.len() == 1 && told[0].starts_with("expected node n7 is not here: down since"), "{told:?}");
    }
}
