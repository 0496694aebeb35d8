//! What scenarios measure, and how `kithd simulate` tells it.

use std::process::Command;
use std::time::Duration;

use kithd::simulator::{Host, Part, Scenario, Trouble, Wanted};
use serde_json::Value;

use super::{agreed, for_seeds, secs};

fn simulated(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kithd")).arg("simulate").args(args).output().expect("kithd runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn each_step_tells_how_long_it_took_and_what_it_cost() {
    for_seeds("each_step_tells", 1..3, |conditions| {
        let troubles = vec![Trouble::Idle(secs(10)), Trouble::Change, Trouble::Kill(Part::Count(1))];
        let outcome = Scenario { nodes: 16, conditions, troubles, patience: secs(30) }.run();
        assert!(outcome.is_good(), "{:#?}", outcome.steps);
        let names: Vec<_> = outcome.steps.iter().map(|step| step.name).collect();
        assert_eq!(names, ["start", "idle", "change", "kill"]);
        let change = outcome.step("change").unwrap();
        let reach = change.settled.reach.unwrap();
        assert!(reach.half > Duration::ZERO && reach.half <= reach.all && reach.all < secs(1), "{reach:?}");
        assert!(change.settled.agreed.unwrap() >= reach.all, "who agrees knows");
        let idle = outcome.step("idle").unwrap();
        assert_eq!(idle.span, secs(10));
        assert!(idle.sent.bytes > 40 * idle.sent.packets && idle.sent.acks > 0, "{:?}", idle.sent);
        assert!(change.sent.bytes < idle.sent.bytes, "of a change only what it adds is counted");
        assert_eq!(outcome.step("kill").unwrap().live, 15);
    });
}

/// The counting of digests says the same as looking at every view.
#[test]
fn whoever_is_missing_or_cut_off_keeps_a_network_from_agreeing() {
    for_seeds("whoever_is_missing_or_cut_off", 1..3, |conditions| {
        let mut world = agreed(conditions, 8);
        assert!(world.agrees() && world.disagreement().is_none());
        world.crash(Host(3));
        assert!(world.disagreement().is_some(), "all still hold it for up");
        world.start(Host(3));
        assert!(!world.agrees(), "its first record is new to all");
        assert!(world.run_until_agreed(secs(20)).is_some());
        world.partition(&[Host(1), Host(2)]);
        assert!(world.disagreement().is_some(), "each side still holds the other for up");
        world.heal();
        assert!(world.agrees(), "nobody has noticed");
    });
}

#[test]
fn news_is_known_when_the_last_live_node_has_it() {
    for_seeds("news_is_known", 1..3, |conditions| {
        let mut world = agreed(conditions, 8);
        world.follow(&[(Host(2), Wanted::Status(kithd::protocol::report::Status::Down))]);
        world.crash(Host(2));
        assert!(world.reach().is_none());
        let seen = world.run_until(secs(10), |world| world.reach().is_some());
        let reach = world.reach().expect("all know");
        assert!(seen.unwrap() >= reach.all && reach.all > secs(1), "{reach:?}");
    });
}

/// The verb's troubles in one story, as a table and as JSON.
#[test]
fn the_verb_tells_of_every_step() {
    let args =
        "--nodes 6 --seeds 2 --latency 5ms..5ms --idle 2s --change --leave 1 --restart 1 --kill 1 --partition 40%";
    let args: Vec<&str> = args.split(' ').collect();
    let (code, table) = simulated(&args);
    assert_eq!(code, Some(0), "{table}");
    for step in ["start", "idle", "change", "leave", "restart", "kill", "partition", "heal"] {
        assert!(table.lines().any(|line| line.starts_with(step)), "{step}: {table}");
    }
    let (code, told) = simulated(&[args.as_slice(), &["--format", "json"]].concat());
    assert_eq!(code, Some(0), "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["schema"], &told["ok"]), (&Value::from(1), &Value::from(true)));
    assert_eq!(told["seeds"], serde_json::json!([1, 2]));
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(2));
    let kill = told["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["step"] == "kill")).unwrap();
    let figure = |name: &str| kill["took_seconds"][name].as_f64().unwrap();
    assert!(figure("min") <= figure("median") && figure("median") <= figure("max"));
    assert!(told["machine"]["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
}

#[test]
fn what_the_verb_cannot_read_is_an_error() {
    for args in [
        ["--latency", "100ms..1ms"],
        ["--nodes", "20000"],
        ["--leave", "most"],
        ["--churn", "0"],
        ["--partition", "100%"],
        ["--signature-cost", "50"],
    ] {
        assert_eq!(simulated(&args).0, Some(2), "{args:?}");
    }
}
