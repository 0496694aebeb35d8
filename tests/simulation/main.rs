//! Whole networks in virtual time. Each test runs for several seeds; `SEED=7 cargo test --test simulation NAME` replays one.

mod measured;
mod troubles;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use kithd::protocol::address::HostPort;
use kithd::protocol::identity::ControllerId;
use kithd::protocol::key_mark::KeyMark;
use kithd::protocol::node::Input;
use kithd::protocol::report::{PeerRow, Status};
use kithd::protocol::time::Time;
use kithd::simulator::{Conditions, Host, World};

const SEEDS: Range<u64> = 1..4;

/// Runs a story for each seed; if it fails, says how to see it fail again.
fn for_seeds(name: &'static str, seeds: Range<u64>, story: impl Fn(Conditions)) {
    struct Replay(&'static str, u64);
    impl Drop for Replay {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("replay with: SEED={} cargo test --test simulation {}", self.1, self.0);
            }
        }
    }
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => seeds.collect(),
    };
    for seed in seeds {
        let replay = Replay(name, seed);
        story(Conditions::new(seed));
        drop(replay);
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A network that has agreed.
fn agreed(conditions: Conditions, nodes: usize) -> World {
    let mut world = World::network(conditions, nodes);
    agrees_within(&mut world, secs(10));
    world
}

fn agrees_within(world: &mut World, limit: Duration) {
    if world.run_until_agreed(limit).is_none() {
        panic!("no agreement by {:?}: {:?}", world.now(), world.disagreement());
    }
}

/// All others know it within `limit`; how long it took.
fn known(world: &mut World, of: &[Host], status: Status, limit: Duration) -> Duration {
    let all_know = |world: &World| of.iter().all(|host| world.all_know(*host, status));
    match world.run_until(limit, all_know) {
        Some(took) => took,
        None => panic!("{of:?} not known as {status:?} by {:?}", world.now()),
    }
}

/// Whatever happened, nobody may have claimed or suffered anything false.
fn nothing_false(world: &World) {
    assert_eq!(world.findings.false_claims, [""; 0], "false claims of unanimity");
    assert_eq!(world.findings.false_downs, [""; 0], "live nodes called down");
}

fn names(world: &World, hosts: &[Host]) -> Vec<SocketAddr> {
    hosts.iter().map(|host| world.address(*host)).collect()
}

#[test]
fn a_hundred_nodes_agree_from_one_address() {
    for_seeds("a_hundred_nodes_agree_from_one_address", 1..2, |conditions| {
        let mut world = World::network(conditions, 100);
        agrees_within(&mut world, secs(6));
        let claimed = world.run_until(secs(5), World::all_claim_unanimity);
        assert!(claimed.is_some(), "they agree, and cannot show it");
        nothing_false(&world);
    });
}

#[test]
fn a_chain_of_three_becomes_one_network() {
    for_seeds("a_chain_of_three_becomes_one_network", 1..20, |conditions| {
        let mut world = World::new(conditions);
        let a = world.add(vec![]);
        let b = world.add(vec![HostPort::Ip(world.address(a))]);
        let c = world.add(vec![HostPort::Ip(world.address(b))]);
        for host in [a, b, c] {
            world.start(host);
        }
        let claimed = world.run_until(secs(5), |world| world.agrees() && world.all_claim_unanimity());
        assert!(claimed.is_some(), "{:?}", world.disagreement());
        world.run_for(secs(5));
        assert!(world.agrees() && world.all_claim_unanimity());
        let linked = world.node(c).is_some_and(|node| !node.links_with(&world.id(a)).is_empty());
        assert!(linked, "c has heard of a by way of b, and made no edge of its own");
        nothing_false(&world);
    });
}

#[test]
fn a_node_that_vanishes_is_down_for_all_in_five_seconds() {
    for_seeds("a_node_that_vanishes_is_down_for_all_in_five_seconds", SEEDS, |conditions| {
        for nodes in [2, 3, 5, 16] {
            let mut world = agreed(conditions.clone(), nodes);
            world.crash(Host(nodes - 1));
            known(&mut world, &[Host(nodes - 1)], Status::Down, secs(5));
            agrees_within(&mut world, secs(5));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_killed_node_is_down_for_all_in_three_seconds() {
    for_seeds("a_killed_node_is_down_for_all_in_three_seconds", SEEDS, |conditions| {
        for nodes in [2, 3, 5, 16] {
            let mut world = agreed(conditions.clone(), nodes);
            world.kill(Host(0));
            known(&mut world, &[Host(0)], Status::Down, secs(3));
            agrees_within(&mut world, secs(5));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_third_of_the_network_vanishes() {
    for_seeds("a_third_of_the_network_vanishes", SEEDS, |conditions| {
        let mut world = agreed(conditions, 50);
        let gone: Vec<Host> = (5..20).map(Host).collect();
        gone.iter().for_each(|host| world.crash(*host));
        known(&mut world, &gone, Status::Down, secs(10));
        agrees_within(&mut world, secs(10));
        nothing_false(&world);
    });
}

#[test]
fn all_but_a_few_vanish() {
    for_seeds("all_but_a_few_vanish", SEEDS, |conditions| {
        for survivors in 1..=3 {
            let mut world = agreed(conditions.clone(), 16);
            let gone: Vec<Host> = (survivors..16).map(Host).collect();
            gone.iter().for_each(|host| world.crash(*host));
            known(&mut world, &gone, Status::Down, secs(20));
            agrees_within(&mut world, secs(10));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_split_network_agrees_on_each_side_and_again_when_healed() {
    for_seeds("a_split_network_agrees_on_each_side_and_again_when_healed", SEEDS, |conditions| {
        for nodes in [2, 4, 32] {
            let mut world = agreed(conditions.clone(), nodes);
            let aside: Vec<Host> = (nodes / 2..nodes).map(Host).collect();
            world.partition(&aside);
            agrees_within(&mut world, secs(20));
            world.run_for(secs(30));
            world.heal();
            agrees_within(&mut world, secs(20));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_stopped_node_comes_back_and_accuses_nobody() {
    for_seeds("a_stopped_node_comes_back_and_accuses_nobody", 1..6, |conditions| {
        for nodes in [2, 3, 16] {
            let mut world = agreed(conditions.clone(), nodes);
            world.stop(Host(1));
            let took = known(&mut world, &[Host(1)], Status::Down, secs(8));
            world.run_for(secs(60) - took);
            world.cont(Host(1));
            agrees_within(&mut world, secs(10));
            assert_eq!(world.findings.false_accusations.len(), 0, "{:?}", world.findings.false_accusations);
            nothing_false(&world);
        }
    });
}

#[test]
fn a_node_that_leaves_is_left_and_never_down() {
    for_seeds("a_node_that_leaves_is_left_and_never_down", SEEDS, |conditions| {
        for nodes in [2, 3, 16] {
            let mut world = agreed(conditions.clone(), nodes);
            world.leave(Host(0));
            known(&mut world, &[Host(0)], Status::Left, secs(1));
            world.run_for(secs(20));
            assert!(world.all_know(Host(0), Status::Left));
            assert!(world.agrees(), "{:?}", world.disagreement());
            world.start(Host(0));
            agrees_within(&mut world, secs(5));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_node_that_lost_its_memory_and_whose_clock_fell_back_is_up_again() {
    for_seeds("a_node_that_lost_its_memory_and_whose_clock_fell_back_is_up_again", 1..6, |conditions| {
        for nodes in [2, 3, 16] {
            let mut world = agreed(conditions.clone(), nodes);
            let (host, id) = (Host(1), world.id(Host(1)));
            let version =
                |world: &World| world.node(Host(0)).and_then(|node| Some(node.view().get(&id)?.record().body.version));
            let before = version(&world);
            world.kill(host);
            world.run_for(secs(1));
            world.lose_memory(host);
            world.shift_clock(host, -600_000);
            world.start(host);
            agrees_within(&mut world, secs(5));
            assert!(version(&world) > before);
            assert_eq!(world.node(host).map(|node| node.warnings()), Some(Vec::new()));
            nothing_false(&world);
        }
    });
}

#[test]
fn a_cut_link_with_a_way_around_makes_nobody_flap() {
    for_seeds("a_cut_link_with_a_way_around_makes_nobody_flap", 1..8, |conditions| {
        let mut world = agreed(conditions, 3);
        world.cut(Host(0), Host(1));
        world.run_for(secs(120));
        let accusations: u64 = world.findings.false_accusations.values().sum();
        assert!(accusations <= 2, "{:?}", world.findings.false_accusations);
        nothing_false(&world);
    });
}

#[test]
fn a_configured_address_of_oneself_is_recognised() {
    for_seeds("a_configured_address_of_oneself_is_recognised", SEEDS, |conditions| {
        let mut world = World::new(conditions);
        let a = world.add(vec![]);
        let alias: HostPort = "myself.example:7100".parse().expect("an address");
        world.settings_mut(a).connect = vec![HostPort::Ip(world.address(a)), alias.clone()];
        world.name(alias, vec![world.address(a)]);
        let b = world.add(vec![HostPort::Ip(world.address(a))]);
        world.start(a);
        world.start(b);
        agrees_within(&mut world, secs(5));
        let known = |world: &World| world.node(a).map(|node| node.closed_rows(world.now_at(a)).len());
        let closed = known(&world);
        world.run_for(secs(120));
        assert_eq!(known(&world), closed, "it dials itself again and again");
        nothing_false(&world);
    });
}

#[test]
fn ten_dead_addresses_do_not_delay_the_eleventh() {
    for_seeds("ten_dead_addresses_do_not_delay_the_eleventh", 1..8, |conditions| {
        let mut world = World::new(conditions);
        let a = world.add(vec![]);
        let dead = (1..10).map(|last| HostPort::Ip(SocketAddr::from(([10, 99, 99, last], 7100))));
        let nowhere = "nowhere.example:7100".parse().expect("an address");
        let addresses: Vec<_> = dead.chain([nowhere, HostPort::Ip(world.address(a))]).collect();
        let b = world.add(addresses);
        let c = world.add(vec![HostPort::Ip(world.address(a))]);
        let d = world.add(vec![HostPort::Ip(world.address(a))]);
        for host in [a, b, c, d] {
            world.start(host);
        }
        let linked = |world: &World| world.node(b).is_some_and(|node| !node.links_with(&world.id(a)).is_empty());
        let took = world.run_until(secs(1), linked);
        assert!(took.is_some(), "{:?} not linked after {:?}", names(&world, &[a]), world.now());
        let claimed = world.run_until(secs(5), |world| world.agrees() && world.all_claim_unanimity());
        assert!(claimed.is_some(), "{:?}", world.disagreement());
        world.run_for(secs(60));
        assert!(world.agrees() && world.all_claim_unanimity());
        nothing_false(&world);
    });
}

#[test]
fn losing_packets_and_connections_kills_nobody() {
    for_seeds("losing_packets_and_connections_kills_nobody", 1..3, |conditions| {
        let mut world = World::network(Conditions { loss: 0.1, ..conditions }, 24);
        for second in 0..30 {
            world.run_for(secs(1));
            world.break_links(Host(second % 24));
        }
        nothing_false(&world);
    });
}

#[test]
fn one_seed_makes_one_story() {
    let story = |seed| {
        let mut world = World::network(Conditions { loss: 0.05, ..Conditions::new(seed) }, 12);
        world.run_for(secs(5));
        world.crash(Host(3));
        world.stop(Host(4));
        world.run_for(secs(5));
        world.cont(Host(4));
        world.run_for(secs(5));
        world.state_hash()
    };
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
    assert_eq!(Time::ZERO, World::new(Conditions::new(1)).now());
}

#[test]
fn the_verb_tells_the_same_twice_and_ends_with_what_came_of_it() {
    let simulate = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kithd")).arg("simulate").args(args).output().expect("kithd runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let story = ["--nodes", "5", "--seed", "3", "--crash", "40%", "--partition", "--format", "json"];
    let (code, told) = simulate(&story);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"ok\": true"), "{told}");
    // All but what it took of this machine.
    let virtually = |told: &str| {
        let mut told: serde_json::Value = serde_json::from_str(told).expect("JSON");
        assert!(told["machine"]["seconds"].is_number());
        told["machine"].take();
        told
    };
    assert_eq!(virtually(&simulate(&story).1), virtually(&told));
    assert_eq!(simulate(&["--nodes", "5", "--duration", "10ms"]).0, Some(1));
    assert_eq!(simulate(&["--crash", "half"]).0, Some(2));
}

/// The key that simulated nodes begin with, the one after it, and one that nobody was told of.
const OLD: KeyMark = KeyMark([0; 8]);
const NEW: KeyMark = KeyMark([1; 8]);

/// Each host is told its keys, one every two seconds, and all the time every edge stands and nobody is missed.
fn reloaded(world: &mut World, keys: &[KeyMark], edges: &BTreeSet<(ControllerId, ControllerId)>) {
    for host in world.hosts() {
        world.tell(host, Input::Keys(keys.to_vec()));
        unharmed(world, secs(2), edges);
    }
}

fn edges(world: &World, host: Host) -> BTreeSet<(ControllerId, ControllerId)> {
    world.node(host).unwrap().view().edges().collect()
}

fn unharmed(world: &mut World, span: Duration, all: &BTreeSet<(ControllerId, ControllerId)>) {
    let end = world.now() + span;
    while world.now() < end {
        world.run_for(Duration::from_millis(50));
        for host in world.live() {
            let node = world.node(host).unwrap();
            assert_eq!(node.timed_out(), 0, "{host:?} at {:?}", world.now());
            assert_eq!(edges(world, host), *all, "{host:?} at {:?}", world.now());
            for other in world.hosts() {
                assert_eq!(world.status(other, host), Some(Status::Up), "{other:?} at {:?}", world.now());
            }
        }
    }
}

/// How many connections there are with each key.
fn with_key(world: &World, key: KeyMark) -> usize {
    let nodes = world.live().filter_map(|host| world.node(host));
    nodes.flat_map(|node| node.links()).filter(|(_, link)| link.key == Some(key)).count()
}

/// Operators change the network's key in three steps, and no step is seen by anybody.
#[test]
fn a_network_changes_its_key_and_no_edge_is_ever_missing() {
    for_seeds("a_network_changes_its_key_and_no_edge_is_ever_missing", SEEDS, |conditions| {
        let mut world = agreed(conditions, 5);
        world.run_for(secs(5));
        let edges = edges(&world, Host(0));
        let ends = 2 * edges.len();
        reloaded(&mut world, &[OLD, NEW], &edges);
        unharmed(&mut world, secs(30), &edges);
        assert_eq!((with_key(&world, OLD), with_key(&world, NEW)), (ends, 0));
        reloaded(&mut world, &[NEW, OLD], &edges);
        unharmed(&mut world, secs(30), &edges);
        assert_eq!((with_key(&world, OLD), with_key(&world, NEW)), (0, ends));
        reloaded(&mut world, &[NEW], &edges);
        unharmed(&mut world, secs(90), &edges);
        assert_eq!((with_key(&world, OLD), with_key(&world, NEW)), (0, ends));
        nothing_false(&world);
    });
}

/// Larger than what a node dials: its neighbours are the same before and after, and so are theirs.
#[test]
fn a_network_of_sixty_changes_its_key_at_one_moment() {
    for_seeds("a_network_of_sixty_changes_its_key_at_one_moment", 1..2, |conditions| {
        let mut world = agreed(conditions, 60);
        world.run_for(secs(20));
        for host in world.hosts() {
            world.tell(host, Input::Keys(vec![NEW, OLD]));
        }
        world.run_for(secs(30));
        assert_eq!(with_key(&world, OLD), 0);
        assert!(with_key(&world, NEW) > 2 * 8 * 50);
        let closed = |host: Host| world.node(host).unwrap().closed_rows(world.now_at(host));
        // A dial that was given up because another was sooner said nothing yet.
        let introduced = |row: &PeerRow| row.id.is_some();
        for row in world.hosts().flat_map(closed).filter(introduced) {
            let reason = row.close_reason.expect("it is closed").to_string();
            assert!(["replaced", "surplus", "probe-over", "busy"].contains(&reason.as_str()), "{reason}");
        }
        nothing_false(&world);
    });
}

/// One node's operator sleeps: its edges outlive the key by less than a minute, and then it is outside until he wakes.
#[test]
fn who_has_the_old_key_only_is_outside_within_a_minute_and_back_once_he_has_the_new_one() {
    for_seeds("who_has_the_old_key_only_is_outside_within_a_minute", SEEDS, |conditions| {
        let mut world = agreed(conditions, 5);
        world.run_for(secs(5));
        let late = Host(4);
        for host in world.hosts().filter(|host| *host != late) {
            world.tell(host, Input::Keys(vec![NEW]));
        }
        let edges = edges(&world, late);
        unharmed(&mut world, secs(40), &edges);
        world.run_for(secs(20));
        assert_eq!(with_key(&world, OLD), 0, "a minute after");
        let alone = world.node(late).unwrap();
        assert_eq!(alone.links().filter(|(_, link)| link.said.is_some()).count(), 0);
        world.run_for(secs(300));
        world.tell(late, Input::Keys(vec![NEW]));
        agrees_within(&mut world, secs(15));
    });
}
