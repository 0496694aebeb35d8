//! What befalls networks beyond the plain end of a node: each test tells a scenario and asks whether it went well.

use std::time::Duration;

use kithd::simulator::{Conditions, Outcome, Part, Scenario, Trouble};

use super::{for_seeds, secs};

fn told(conditions: Conditions, nodes: usize, troubles: &[Trouble]) -> Outcome {
    // Where there is always something lost, nobody waits long for an agreement that does not last.
    let patience = if conditions.loss > 0.0 { secs(5) } else { secs(60) };
    Scenario { nodes, conditions, troubles: troubles.to_vec(), patience }.run()
}

#[track_caller]
fn good(outcome: &Outcome) {
    assert!(outcome.is_good(), "{:#?} {:#?}", outcome.steps, outcome.findings);
}

#[test]
fn nodes_that_come_and_go_leave_a_network_that_agrees() {
    for_seeds("nodes_that_come_and_go", 1..3, |conditions| {
        let outcome = told(conditions, 16, &[Trouble::Churn(1.0, secs(30))]);
        good(&outcome);
        assert!(outcome.step("calm").unwrap().live >= 8);
    });
}

#[test]
fn links_that_pass_in_one_direction_only_make_nobody_down() {
    for_seeds("links_that_pass_in_one_direction_only", 1..4, |conditions| {
        good(&told(conditions, 16, &[Trouble::OneWay(0.05)]));
    });
}

/// A fifth lie, each in his own way; the others agree, and learn of the dead as ever.
#[test]
fn a_network_with_liars_in_it_agrees_all_the_same() {
    for_seeds("a_network_with_liars_in_it", 1..3, |conditions| {
        let outcome = told(Conditions { hostile: 0.2, ..conditions }, 30, &[Trouble::Crash(Part::Count(2))]);
        assert!(outcome.hostile > 0, "nobody lied");
        good(&outcome);
        assert!(outcome.step("crash").unwrap().settled.reach.is_some());
    });
}

/// Of ten that lie one accuses somebody with every word, and each refutation gives it another word: it is heard for as long
/// as the first accusations last, and then there is rest.
#[test]
fn one_that_accuses_without_end_is_soon_not_heard() {
    for_seeds("one_that_accuses_without_end", 1..3, |conditions| {
        let outcome = told(Conditions { hostile: 0.25, ..conditions }, 40, &[Trouble::Idle(secs(60))]);
        assert!(outcome.hostile > 5, "{} lied, and the sixth is the first who does so without end", outcome.hostile);
        let idle = outcome.step("idle").unwrap();
        let a_second = idle.bytes_per_node() as f64 / idle.span.as_secs_f64();
        println!("{a_second:.0} bytes per node and second while nothing happens, {} lie", outcome.hostile);
        good(&outcome);
        assert!(a_second < 10_000.0, "{a_second} bytes per node and second");
    });
}

/// Two virtual days, and then all that was ever signed, in any order.
#[test]
fn nobody_is_brought_back_by_what_was_said_long_ago() {
    for_seeds("nobody_is_brought_back", 1..3, |conditions| {
        let outcome = told(conditions, 5, &[Trouble::Expiry]);
        good(&outcome);
        assert!(outcome.elapsed > secs(50 * 3600));
        assert_eq!(outcome.agreeing, (3, 3));
    });
}

#[test]
fn clocks_that_are_minutes_off_harm_nobody() {
    for_seeds("clocks_that_are_minutes_off", 1..3, |conditions| {
        let skew = secs(12 * 60);
        let troubles = [Trouble::Restart(Part::Count(3)), Trouble::Leave(Part::Count(1))];
        good(&told(Conditions { skew, ..conditions }, 12, &troubles));
    });
}

/// 10 ms are two hundred times what a signature costs in `benches/discovery.rs`. With 20, nodes have more to check
/// than they can while they form, and call some of the living down.
#[test]
fn a_process_that_checks_signatures_slowly_agrees_later() {
    for_seeds("a_process_that_checks_signatures_slowly", 1..4, |conditions| {
        let took = |signature_cost| {
            let outcome = told(Conditions { signature_cost, ..conditions.clone() }, 24, &[]);
            good(&outcome);
            outcome.steps[0].settled.agreed.expect("they agree")
        };
        let (free, dear) = (took(Duration::ZERO), took(Duration::from_millis(10)));
        assert!(dear > free, "{free:?} and {dear:?}");
    });
}

#[test]
fn connections_that_break_kill_nobody() {
    for_seeds("connections_that_break", 1..3, |conditions| {
        let conditions = Conditions { loss: 0.1, broken: 0.01, ..conditions };
        let outcome = told(conditions, 12, &[Trouble::Idle(secs(15)), Trouble::Spread]);
        assert_eq!(outcome.findings.false_downs, Vec::<String>::new());
        assert!(outcome.step("spread").unwrap().settled.reach.is_some());
    });
}

/// Whatever happens, it happens again from the same seed.
#[test]
fn every_trouble_happens_again_from_its_seed() {
    let story = |seed, threads| {
        let conditions = Conditions {
            threads,
            loss: 0.02,
            broken: 0.005,
            hostile: 0.2,
            signature_cost: Duration::from_micros(50),
            ..Conditions::new(seed)
        };
        let troubles = [
            Trouble::Change,
            Trouble::Leave(Part::Count(1)),
            Trouble::Restart(Part::Count(2)),
            Trouble::Kill(Part::Count(1)),
            Trouble::Crash(Part::Share(0.1)),
            Trouble::Partition(Part::Share(0.3)),
            Trouble::Churn(1.0, secs(10)),
            Trouble::OneWay(0.03),
        ];
        let scenario = Scenario { nodes: 10, conditions, troubles: troubles.to_vec(), patience: secs(4) };
        let outcome = scenario.run();
        (outcome.state_hash, outcome.sent, format!("{:?}", outcome.steps))
    };
    assert_eq!(story(1, 1), story(1, 1));
    assert_ne!(story(1, 1).0, story(2, 1).0);
    assert_eq!(story(3, 1), story(3, 2));
}

/// Who thinks on which thread, and who is done first, is chance; nothing comes of it.
#[test]
fn threads_change_nothing_but_the_time_it_takes() {
    let story = |threads| {
        let conditions = Conditions {
            threads,
            loss: 0.01,
            broken: 0.002,
            hostile: 0.05,
            signature_cost: Duration::from_micros(50),
            ..Conditions::new(1)
        };
        let troubles = [Trouble::Crash(Part::Share(0.1)), Trouble::Kill(Part::Count(3)), Trouble::Churn(5.0, secs(3))];
        let scenario = Scenario { nodes: 120, conditions, troubles: troubles.to_vec(), patience: secs(4) };
        let outcome = scenario.run();
        (outcome.state_hash, outcome.sent, format!("{:?} {:?}", outcome.steps, outcome.findings))
    };
    let alone = story(1);
    assert_eq!(story(2), alone);
    assert_eq!(story(5), alone);
}
