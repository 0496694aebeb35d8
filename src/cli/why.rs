//! `kithd why`: what happened to a node or an address, who said so, and what happens next.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use super::table::{Align, Table, short, span};
use super::terminal;
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::explanation::{NextStep, WhyEvent, WhyReport};

/// The verb's arguments.
pub fn command() -> Command {
    let about = "Tell the life of a node or an address as seen from here: dials, states, causes, and what happens next";
    let help = "A node's label, id or unique beginning of its id; or an address, as ip:port or name:port";
    let target = Arg::new("target").value_name("NODE|ADDRESS").required(true).help(help);
    client_args::add(Command::new("why").about(about).arg(target), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let target = matches.get_one::<String>("target").cloned().unwrap_or_default();
    let shown = client_args::show(matches, &Verb::Why { target }, |report| draw(report, terminal::colourful()));
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// Who it is, what happened, and what is next.
pub fn draw(report: &WhyReport, colour: bool) -> String {
    let mut table = Table::new(&[
        ("WHEN", Align::Left),
        ("AGO", Align::Right),
        ("WHAT", Align::Left),
        ("CAUSE", Align::Left),
        ("BY", Align::Left),
    ]);
    for event in &report.events {
        table.row([
            (&event.at).into(),
            span(event.ago_seconds).into(),
            (&event.what).into(),
            cause(event).into(),
            by(event, report).into(),
        ]);
    }
    let events = if report.events.is_empty() { "nothing is recorded\n".to_owned() } else { table.draw(colour) };
    let next: String = report.next.iter().map(|step| format!("next  {}\n", escaped(&told(step)))).collect();
    let gap = if next.is_empty() { "" } else { "\n" };
    format!("{}\n\n{events}{gap}{next}", escaped(&who(report)))
}

fn who(report: &WhyReport) -> String {
    let id = report.node.as_deref().map(short);
    let name = match (&report.label, id) {
        (Some(label), Some(id)) => format!("{label} ({id})"),
        (Some(label), None) => label.clone(),
        (None, Some(id)) => format!("node {id}"),
        (None, None) => "nobody known".to_owned(),
    };
    let place = report.address.as_ref().map_or_else(String::new, |address| format!(" at {address}"));
    let status = match (report.status, &report.since) {
        (Some(status), Some(since)) => format!(", {} since {since}", status.name()),
        (Some(status), None) => format!(", {}", status.name()),
        (None, _) => ", not in the view".to_owned(),
    };
    format!("{name}{place}{status}")
}

fn cause(event: &WhyEvent) -> String {
    let cause = event.cause.clone().unwrap_or_default();
    let times = match event.times {
        1 => String::new(),
        times => format!("{times} times, last {} ago", span(event.last_ago_seconds)),
    };
    match (cause.is_empty(), times.is_empty()) {
        (false, false) => format!("{cause} ({times})"),
        _ => cause + &times,
    }
}

fn by(event: &WhyEvent, report: &WhyReport) -> String {
    let name = |id: &String| match report.labels.get(id) {
        _ if Some(id) == report.node.as_ref() => "itself".to_owned(),
        Some(label) => label.clone(),
        None => short(id).to_owned(),
    };
    event.by.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn told(step: &NextStep) -> String {
    match (step.in_seconds, &step.at) {
        (Some(seconds), Some(at)) if seconds >= 60.0 => format!("in {} ({at}): {}", span(seconds), step.detail),
        (Some(seconds), _) => format!("in {}: {}", span(seconds), step.detail),
        _ => step.detail.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::report::{SCHEMA, Status};

    #[test]
    fn a_life_is_a_table_and_a_few_words() {
        let (gamma, alpha) = ("7312f5a0".repeat(8), "0ff40436".repeat(8));
        let event = |second: u32, what: &str, cause: Option<&str>, times, by: &[&String]| WhyEvent {
            at: format!("2026-11-21T09:23:{second:02}.000Z"),
            ago_seconds: f64::from(60 - second),
            times,
            last: "2026-11-21T09:23:59.000Z".to_owned(),
            last_ago_seconds: 1.0,
            what: what.to_owned(),
            cause: cause.map(str::to_owned),
            by: by.iter().map(|id| (*id).clone()).collect(),
        };
        let step = |at: Option<f64>, what: &str, detail: &str| NextStep {
            at: at.map(|_| "2026-11-21T09:24:12.000Z".to_owned()),
            in_seconds: at,
            what: what.to_owned(),
            detail: detail.to_owned(),
        };
        let report = WhyReport {
            schema: SCHEMA,
            node: Some(gamma.clone()),
            label: Some("gamma".to_owned()),
            address: Some("127.0.0.1:7102".to_owned()),
            status: Some(Status::Down),
            since: Some("2026-11-21T09:23:12.000Z".to_owned()),
            now: "2026-11-21T09:24:00.000Z".to_owned(),
            events: vec![
                event(1, "up", Some("first-record"), 1, &[&gamma]),
                event(10, "missed", None, 1, &[]),
                event(12, "down", Some("witnesses"), 1, &[&alpha, &"99".repeat(8)]),
                event(13, "dial-failed", Some("connection-refused"), 7, &[]),
            ],
            next_dial: Some("2026-11-21T09:24:12.000Z".to_owned()),
            next: vec![
                step(Some(12.0), "dial", "127.0.0.1:7102 is dialled"),
                step(Some(7500.0), "drop", "it is dropped"),
            ],
            labels: [(gamma, "gamma".to_owned()), (alpha, "al\u{1b}pha".to_owned())].into(),
        };
        assert_eq!(
            draw(&report, false),
            "\
gamma (7312f5a0) at 127.0.0.1:7102, down since 2026-11-21T09:23:12.000Z

WHEN                       AGO  WHAT         CAUSE                                         BY
2026-11-21T09:23:01.000Z  59 s  up           first-record                                  itself
2026-11-21T09:23:10.000Z  50 s  missed
2026-11-21T09:23:12.000Z  48 s  down         witnesses                                     al\\u{1b}pha, 99999999
2026-11-21T09:23:13.000Z  47 s  dial-failed  connection-refused (7 times, last 1.0 s ago)

next  in 12 s: 127.0.0.1:7102 is dialled
next  in 2h05m (2026-11-21T09:24:12.000Z): it is dropped
"
        );
        let nobody =
            WhyReport { node: None, label: None, status: None, events: Vec::new(), next: Vec::new(), ..report };
        assert_eq!(draw(&nobody, false), "nobody known at 127.0.0.1:7102, not in the view\n\nnothing is recorded\n");
    }
}
