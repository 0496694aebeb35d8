//! The census in virtual time: whole networks are counted, with nodes that vanish meanwhile and packets that are lost.

use std::collections::BTreeSet;
use std::time::Duration;

use kithd::protocol::census_report::CensusReport;
use kithd::protocol::testimony::Mode;
use kithd::simulator::{Conditions, Host, World};

const LIMIT: Duration = Duration::from_secs(6);
const BOTH: [Mode; 2] = [Mode::Count, Mode::Prove];

/// A network that has agreed.
fn agreed(conditions: Conditions, nodes: usize) -> World {
    let mut world = World::network(conditions, nodes);
    assert!(world.run_until_agreed(Duration::from_secs(10)).is_some(), "{:?}", world.disagreement());
    world
}

/// Lets a census that was begun come to its end.
fn outcome(world: &mut World) -> CensusReport {
    let over = world.run_until(LIMIT, |world| !world.findings.censuses.is_empty());
    assert!(over.is_some(), "it does not end");
    let (_, counted) = world.findings.censuses.remove(0);
    counted.expect("it was not refused")
}

/// Each was counted once, and whoever was not is missing.
fn adds_up(report: &CensusReport, nodes: usize) {
    assert_eq!((report.asked_live, report.strangers), (nodes, 0));
    assert!(report.answered <= nodes);
    if report.mode == Mode::Prove {
        let told = report.proof.iter().map(|row| &row.id).chain(&report.missing);
        assert_eq!(told.clone().count(), nodes);
        assert_eq!(told.collect::<BTreeSet<_>>().len(), nodes);
        assert_eq!(report.answered, report.proof.len());
    }
    let counted: usize = report.digests.iter().map(|row| row.nodes).sum();
    assert_eq!(counted + report.others, report.answered);
}

#[test]
fn all_of_sixty_four_answer_in_half_a_second() {
    for seed in 1..4 {
        let mut world = agreed(Conditions::new(seed), 64);
        for mode in BOTH {
            let before = world.bytes();
            world.count(Host(7), mode);
            let report = outcome(&mut world);
            println!("seed {seed}, {mode:?}: {} ms, {} bytes in all", report.took_ms, world.bytes() - before);
            adds_up(&report, 64);
            assert!(report.unanimous && report.answered == 64 && report.missing.is_empty(), "{report:?}");
            assert!(report.took_ms < 1000, "{} ms", report.took_ms);
        }
    }
}

#[test]
fn whoever_vanishes_in_the_middle_is_missing_and_nobody_is_counted_twice() {
    for seed in 1..4 {
        for mode in BOTH {
            let mut world = agreed(Conditions::new(seed), 64);
            world.count(Host(0), mode);
            world.run_for(Duration::from_millis(20 * seed));
            let gone: Vec<Host> = (10..15).map(Host).collect();
            gone.iter().for_each(|host| world.crash(*host));
            let report = outcome(&mut world);
            println!("seed {seed}, {mode:?}: {} of 64 within {} ms", report.answered, report.took_ms);
            adds_up(&report, 64);
            // Those that the five had taken upon themselves may be lost with them, but not the whole network.
            assert!(report.answered > 32, "{report:?}");
            let gone: BTreeSet<String> = gone.iter().map(|host| world.id(*host).hex()).collect();
            if mode == Mode::Count {
                let named: BTreeSet<String> = report.missing.iter().cloned().collect();
                assert!(named.is_subset(&gone), "only who vanished was silent: {report:?}");
            }
        }
    }
}

#[test]
fn whoever_is_gone_already_is_named() {
    for seed in 1..4 {
        for mode in BOTH {
            let mut world = agreed(Conditions::new(seed), 64);
            for host in [20, 40] {
                world.crash(Host(host));
            }
            world.count(Host(0), mode);
            let report = outcome(&mut world);
            adds_up(&report, 64);
            let gone: BTreeSet<String> = [20, 40].map(|host| world.id(Host(host)).hex()).into();
            assert_eq!(report.answered, 62, "the others were reached by other ways");
            assert_eq!(report.missing.iter().cloned().collect::<BTreeSet<_>>(), gone);
            assert!(!report.unanimous);
        }
    }
}

#[test]
fn lost_packets_cost_time_and_nobody() {
    for seed in 1..4 {
        let mut world = World::network(Conditions { loss: 0.05, ..Conditions::new(seed) }, 24);
        world.run_for(Duration::from_secs(15));
        for mode in BOTH {
            world.count(Host(3), mode);
            let report = outcome(&mut world);
            println!("seed {seed}, {mode:?}: {} of {} in {} ms", report.answered, report.asked_live, report.took_ms);
            assert_eq!((report.asked_live, report.answered), (24, 24), "{report:?}");
        }
    }
}

#[test]
fn the_two_halves_of_a_split_network_count_themselves_only() {
    let mut world = agreed(Conditions::new(1), 24);
    let aside: Vec<Host> = (0..12).map(Host).collect();
    world.partition(&aside);
    world.count(Host(0), Mode::Prove);
    let report = outcome(&mut world);
    adds_up(&report, 24);
    let there: BTreeSet<String> = aside.iter().map(|host| world.id(*host).hex()).collect();
    assert!(report.proof.iter().all(|row| there.contains(&row.id)), "{report:?}");
    assert!(!report.unanimous && report.missing.len() >= 12);
}

#[test]
fn a_user_may_not_keep_the_network_busy() {
    let mut world = agreed(Conditions::new(1), 8);
    for _ in 0..10 {
        world.count(Host(0), Mode::Prove);
        let answered = world.run_until(LIMIT, |world| !world.findings.censuses.is_empty());
        assert!(answered.is_some());
        world.findings.censuses.truncate(1);
        world.run_for(Duration::from_millis(500));
        let (_, counted) = world.findings.censuses.remove(0);
        println!("{:?}", counted.map(|report| report.answered));
    }
    world.count(Host(0), Mode::Prove);
    let (_, refused) = world.findings.censuses.remove(0);
    assert!(refused.is_err(), "six a minute, and this is the eleventh");
    // Others are not made to pay for it, and a minute later he may again.
    world.count(Host(1), Mode::Prove);
    assert_eq!(outcome(&mut world).answered, 8);
    world.run_for(Duration::from_secs(60));
    world.count(Host(0), Mode::Prove);
    assert_eq!(outcome(&mut world).answered, 8);
}

/// `NODES=1024 cargo test --release --test census -- --ignored --nocapture what_a_census_costs`
#[test]
#[ignore = "prints figures of a large network"]
fn what_a_census_costs() {
    let nodes = std::env::var("NODES").map_or(256, |nodes| nodes.parse().expect("NODES is a number"));
    let mut world = agreed(Conditions::new(1), nodes);
    world.run_for(Duration::from_secs(10));
    for mode in BOTH {
        let idle = world.bytes();
        world.run_for(Duration::from_secs(1));
        let before = world.bytes();
        world.count(Host(0), mode);
        let report = outcome(&mut world);
        world.run_for(Duration::from_millis(1000 - report.took_ms.min(1000)));
        let cost = (world.bytes() - before).saturating_sub(before - idle);
        println!("{mode:?}: {} of {nodes} in {} ms, {cost} bytes in all", report.answered, report.took_ms);
        adds_up(&report, nodes);
    }
}
