//! `kithd simulate`: the protocol's own code in virtual time, as a network of any size on this machine alone.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::client_args::FORMATS;
use super::table::{Align, Cell, Table, size};
use crate::config::duration;
use crate::protocol::report::SCHEMA;
use crate::simulator::{Outcome, Scenario};

/// The largest network: at this size the start alone takes minutes of real time.
const MAX_NODES: i64 = 1024;

/// The verb's arguments.
pub fn command() -> Command {
    let value = |name: &'static str, kind| Arg::new(name).long(name).value_name(kind);
    let share = |name| value(name, "SHARE").value_parser(percent).default_value("0%");
    let nodes = value("nodes", "COUNT").value_parser(value_parser!(u16).range(1..=MAX_NODES)).default_value("16");
    let seed = value("seed", "NUMBER").value_parser(value_parser!(u64)).default_value("1");
    let duration = value("duration", "DURATION").value_parser(duration::parse).default_value("60s");
    let partition = Arg::new("partition").long("partition").action(ArgAction::SetTrue);
    let format = value("format", "FORM").value_parser(FORMATS).default_value(FORMATS[0]);
    Command::new("simulate")
        .about("Run the protocol's own code in virtual time: how fast a network agrees, and what that costs")
        .args([
            nodes.help("How many nodes, 1 to 1024, all of which know the first one's address"),
            seed.help("Decides all that chance decides: the same seed, the same run"),
            share("crash").help("Then this share of them vanishes without a word"),
            share("loss").help("This share of all packets is lost, and sent again later"),
            partition.help("Then the network is cut in two halves, and healed"),
            duration.help("How long each step may take, in virtual time, before it has failed"),
            format.help("How to print"),
        ])
        .after_help("Ends with 1 if a step failed, or if a node claimed or was called what is not true.")
}

/// Simulates and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let share = |name| matches.get_one(name).copied().unwrap_or(0.0);
    let scenario = Scenario {
        seed: matches.get_one("seed").copied().unwrap_or(1),
        nodes: matches.get_one("nodes").map_or(16, |nodes: &u16| usize::from(*nodes)),
        crash: share("crash"),
        loss: share("loss"),
        partition: matches.get_flag("partition"),
        duration: matches.get_one("duration").copied().unwrap_or(Duration::from_secs(60)),
    };
    let outcome = scenario.run();
    let is_json = matches.get_one::<String>("format").is_some_and(|format| format == "json");
    let printed = super::print(&if is_json { as_json(&scenario, &outcome) } else { as_table(&scenario, &outcome) });
    if printed == ExitCode::SUCCESS && !outcome.is_good() { ExitCode::FAILURE } else { printed }
}

fn as_table(scenario: &Scenario, outcome: &Outcome) -> String {
    let mut steps = Table::new(&[("STEP", Align::Left), ("TOOK", Align::Right)]);
    for (step, took) in &outcome.steps {
        let took = took.map_or("never".to_owned(), |took| format!("{:.2} s", took.as_secs_f64()));
        steps.row([Cell::from(step), Cell::from(took)]);
    }
    let (agreeing, live) = outcome.agreeing;
    let findings = &outcome.findings;
    let mut text = steps.draw(false);
    text += &format!(
        "\n{agreeing} of {live} live nodes show that all agree; {} claims compared with the truth, {} false\n",
        findings.claims,
        findings.false_claims.len()
    );
    text += &format!("{} times a live node was called down\n", findings.false_downs.len());
    text += &format!("{} sent per node, in {:.0} s\n", size(outcome.bytes_per_node), outcome.elapsed.as_secs_f64());
    text += &format!("seed {}, state {}\n", scenario.seed, &outcome.state_hash.hex()[..8]);
    text
}

fn as_json(scenario: &Scenario, outcome: &Outcome) -> String {
    let step = |(name, took): &(&'static str, Option<Duration>)| json!({ "step": name, "took_seconds": took.map(|took| took.as_secs_f64()) });
    let report = json!({
        "schema": SCHEMA,
        "seed": scenario.seed,
        "nodes": scenario.nodes,
        "steps": outcome.steps.iter().map(step).collect::<Vec<_>>(),
        "agreement": { "agreeing": outcome.agreeing.0, "live": outcome.agreeing.1 },
        "claims": outcome.findings.claims,
        "false_claims": outcome.findings.false_claims,
        "false_downs": outcome.findings.false_downs,
        "bytes_per_node": outcome.bytes_per_node,
        "elapsed_seconds": outcome.elapsed.as_secs_f64(),
        "state_hash": outcome.state_hash.hex(),
        "ok": outcome.is_good(),
    });
    format!("{report:#}\n")
}

/// A share as `30%`, below all.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match number.filter(|number| (0.0..100.0).contains(number)) {
        Some(number) => Ok(number / 100.0),
        None => Err("must be a share from 0% to below 100%, as in 30%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_below_all() {
        assert_eq!(percent("30%"), Ok(0.3));
        assert_eq!(percent("0.5%"), Ok(0.005));
        for text in ["30", "100%", "-1%", "NaN%", "%", ""] {
            assert!(percent(text).is_err(), "{text:?}");
        }
    }
}
