//! `kithd ping`: round trips to a node, over the connection that requests take.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::client_args::{self, FORMATS, Failure};
use super::table::{millis, short};
use super::{request, terminal};
use crate::admin::api::Verb;
use crate::config::duration;
use crate::protocol::escape::escaped;
use crate::protocol::requests::report::PingReport;

/// What the node takes beside the round trips themselves: its pauses, and a dial.
const EACH: Duration = Duration::from_millis(100);

/// The verb's arguments.
pub fn command() -> Command {
    let node = request::node_arg();
    let count = Arg::new("count")
        .long("count")
        .value_name("N")
        .value_parser(value_parser!(u64).range(1..=1000))
        .default_value("5")
        .help("How many round trips, ten a second");
    let timeout = request::timeout_arg().default_value("2s").help("How long each may take");
    let about = "Measure round trips to a node: exit 1 if none of them is answered";
    client_args::add(Command::new("ping").about(about).args([node, count, timeout]), &FORMATS)
}

/// Asks, prints and judges.
pub fn run(matches: &ArgMatches) -> ExitCode {
    client_args::conclude(ping(matches))
}

fn ping(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let (node, count) = (text("node"), matches.get_one::<u64>("count").copied().unwrap_or_default());
    let each = request::timeout(matches).unwrap_or_default();
    // One more for the dial.
    let patience = (each + EACH).saturating_mul(u32::try_from(count + 1).unwrap_or(u32::MAX)) + request::MARGIN;
    let verb = Verb::Ping { node: node.clone(), count: Some(count), timeout: Some(duration::text(each)) };
    let shown = |report: &PingReport| if report.answered > 0 { draw(report, &node) } else { String::new() };
    let report = client_args::show_what(matches, |client| client.call_within(&verb, patience), shown)?;
    if report.answered > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let why = report.why.as_deref().unwrap_or("for no reason the node could name");
    terminal::complain(&format!("{} has answered none of {}: {why}", named(&report, &node), report.sent));
    Ok(ExitCode::FAILURE)
}

/// One line: how many were answered, and how long that took.
pub fn draw(report: &PingReport, said: &str) -> String {
    let rtt = &report.rtt_ms;
    let times = [("min", rtt.min), ("p50", rtt.p50), ("p99", rtt.p99), ("max", rtt.max)];
    let times: Vec<String> = times.iter().map(|(name, time)| format!("{name} {}", millis(*time))).collect();
    let why = report.why.as_ref().map(|why| format!("; the last that was not: {why}")).unwrap_or_default();
    let line = format!(
        "{}: {} of {} answered; round trip {}{why}",
        named(report, said),
        report.answered,
        report.sent,
        times.join(", ")
    );
    format!("{}\n", escaped(&line))
}

fn named(report: &PingReport, said: &str) -> String {
    format!("{} ({})", report.label.as_deref().unwrap_or(said), short(&report.node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::report::SCHEMA;
    use crate::protocol::requests::report::RttSpread;

    #[test]
    fn a_line_says_how_it_went() {
        let report = PingReport {
            schema: SCHEMA,
            node: "1c9f02ab".repeat(8),
            label: Some("beta".to_owned()),
            sent: 5,
            answered: 5,
            rtt_ms: RttSpread::of(vec![0.21, 0.25, 0.3, 0.4, 1.1]),
            why: None,
        };
        assert_eq!(
            draw(&report, "1c"),
            "beta (1c9f02ab): 5 of 5 answered; round trip min 0.21 ms, p50 0.30 ms, p99 1.10 ms, max 1.10 ms\n"
        );
        let report = PingReport { answered: 4, why: Some("no answer in time".to_owned()), label: None, ..report };
        assert!(draw(&report, "1c").ends_with("; the last that was not: no answer in time\n"));
        assert!(draw(&report, "1c").starts_with("1c (1c9f02ab): 4 of 5"));
    }
}
