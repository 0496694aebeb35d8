//! What simulations came to, as a table and as JSON: of one run its figures, of several the median and the range of each.

use std::time::Duration;

use serde_json::{Value, json};

use super::LARGE;
use crate::cli::table::{Align, Cell, Table, size};
use crate::cli::terminal;
use crate::clock::Clock;
use crate::protocol::report::SCHEMA;
use crate::simulator::{Outcome, Scenario, Settled, Step, Told};

/// One run, and what it took of this machine.
pub struct Run {
    seed: u64,
    outcome: Outcome,
    real: Duration,
}

/// What is told of a step, and how it is written in a table.
type Figure = (&'static str, fn(&Step) -> Option<f64>, fn(f64) -> String);

/// In the order of the table's columns. The first name is that of the JSON's field.
const FIGURES: [Figure; 6] = [
    ("known_p50_seconds", |step| step.settled.reach.map(|reach| reach.half.as_secs_f64()), seconds),
    ("known_seconds", |step| step.settled.reach.map(|reach| reach.all.as_secs_f64()), seconds),
    ("took_seconds", |step| step.settled.agreed.map(|took| took.as_secs_f64()), seconds),
    ("shown_seconds", |step| step.settled.shown.map(|took| took.as_secs_f64()), seconds),
    ("bytes_per_node", |step| Some(step.bytes_per_node() as f64), bytes),
    ("bytes_per_node_second", |step| Some(step.bytes_per_node() as f64 / step.span.as_secs_f64().max(0.01)), bytes),
];

impl Run {
    /// Runs it. Of a network that is large it is told on standard error how far it is: the whole takes minutes.
    pub fn of(scenario: &Scenario) -> Self {
        let clock = Clock::start();
        let mut tell = |told: Told<'_>| {
            if scenario.nodes >= LARGE {
                let (seed, line, real) = (scenario.conditions.seed, progress(&told), clock.uptime().as_secs());
                terminal::complain(&format!("seed {seed}: {line}; {real} s of this machine so far"));
            }
        };
        let outcome = scenario.run_heard(&mut tell);
        Self { seed: scenario.conditions.seed, outcome, real: clock.uptime() }
    }

    /// See [`Outcome::is_good`].
    pub fn is_good(&self) -> bool {
        self.outcome.is_good()
    }
}

/// For people.
pub fn as_table(runs: &[Run]) -> String {
    let columns = ["STEP", "KNOWN TO HALF", "TO ALL", "AGREED", "SHOWN AFTER", "SENT PER NODE", "PER SECOND"];
    let align = |index| if index == 0 { Align::Left } else { Align::Right };
    let columns: Vec<_> = columns.iter().enumerate().map(|(index, name)| (*name, align(index))).collect();
    let mut table = Table::new(&columns);
    for (index, step) in steps(runs).enumerate() {
        let figures = FIGURES.iter().map(|(_, of, text)| Cell::from(spread_text(&figures(runs, index, *of), *text)));
        table.row(std::iter::once(Cell::from(step.name)).chain(figures).collect::<Vec<_>>());
    }
    let mut text = table.draw(false) + "\n";
    for run in runs {
        text += &conclusion(run);
    }
    text
}

/// For programs. Of one run the fields are at the top, as they are for each of several below `runs`.
pub fn as_json(runs: &[Run]) -> String {
    let mut report = match runs {
        [run] => run_json(run),
        runs => json!({
            "seeds": runs.iter().map(|run| run.seed).collect::<Vec<_>>(),
            "nodes": runs.first().map(|run| run.outcome.nodes),
            "steps": steps(runs).enumerate().map(|(index, step)| spread_json(runs, index, step)).collect::<Vec<_>>(),
            "runs": runs.iter().map(run_json).collect::<Vec<_>>(),
            "ok": runs.iter().all(Run::is_good),
        }),
    };
    report["schema"] = json!(SCHEMA);
    report["machine"] = json!({
        "seconds": runs.iter().map(|run| run.real.as_secs_f64()).sum::<f64>(),
        "peak_memory_bytes": peak_memory(),
    });
    format!("{report:#}\n")
}

fn progress(told: &Told<'_>) -> String {
    let took = |took: Option<Duration>| took.map_or_else(|| "-".to_owned(), |took| seconds(took.as_secs_f64()));
    match told {
        Told::Second(name, span, views) => {
            format!("{name}: after {}, {views} different views", seconds(span.as_secs_f64()))
        }
        Told::Over(step) => {
            let Settled { agreed, shown, .. } = step.settled;
            format!("{}: agreed {}, shown after {}", step.name, took(agreed), took(shown))
        }
    }
}

fn run_json(run: &Run) -> Value {
    let Run { seed, outcome, .. } = run;
    let last = outcome.steps.last().and_then(|step| step.settled.shown);
    let mut steps: Vec<Value> = Vec::new();
    for step in &outcome.steps {
        if step.name == "crash" {
            // As it was told before there was more to tell.
            let known = step.settled.reach.map(|reach| reach.all.as_secs_f64());
            steps.push(json!({ "step": "crash known", "took_seconds": known }));
        }
        let mut told = json!({
            "step": step.name,
            "live": step.live,
            "span_seconds": step.span.as_secs_f64(),
            "acks_per_node": step.acks_per_node(),
            "false_claims": step.false_claims,
            "false_downs": step.false_downs,
            "own_side_downs": step.own_side_downs,
            "resurrected": step.resurrected,
        });
        for (name, of, _) in FIGURES {
            told[name] = json!(of(step));
        }
        steps.push(told);
    }
    steps.push(json!({ "step": "shown by all", "took_seconds": last.map(|took| took.as_secs_f64()) }));
    json!({
        "seed": seed,
        "nodes": outcome.nodes,
        "steps": steps,
        "agreement": { "agreeing": outcome.agreeing.0, "live": outcome.agreeing.1 },
        "claims": outcome.findings.claims,
        "false_claims": outcome.findings.false_claims,
        "false_downs": outcome.findings.false_downs,
        "false_claim_count": outcome.findings.false_claim_count,
        "false_down_count": outcome.findings.false_down_count,
        "hostile": outcome.hostile,
        "misled_claims": outcome.findings.misled_claims,
        "resurrected": outcome.findings.resurrected,
        "bytes_per_node": outcome.bytes_per_node(),
        "elapsed_seconds": outcome.elapsed.as_secs_f64(),
        "state_hash": outcome.state_hash.hex(),
        "ok": outcome.is_good(),
    })
}

fn spread_json(runs: &[Run], index: usize, step: &Step) -> Value {
    let mut told = json!({ "step": step.name });
    for (name, of, _) in FIGURES {
        let (found, failed) = figures(runs, index, of);
        told[name] = match (found.first(), found.last()) {
            (Some(least), Some(most)) => {
                json!({ "median": found[found.len() / 2], "min": least, "max": most, "failed": failed })
            }
            _ => Value::Null,
        };
    }
    told
}

fn steps(runs: &[Run]) -> impl Iterator<Item = &Step> {
    runs.first().into_iter().flat_map(|run| &run.outcome.steps)
}

/// A figure of the same step in all runs, by rising value, and how many runs did not reach it.
fn figures(runs: &[Run], index: usize, of: fn(&Step) -> Option<f64>) -> (Vec<f64>, usize) {
    let found = runs.iter().filter_map(|run| of(run.outcome.steps.get(index)?));
    let mut found: Vec<f64> = found.collect();
    found.sort_by(f64::total_cmp);
    let failed = runs.len() - found.len();
    (found, failed)
}

fn spread_text((found, failed): &(Vec<f64>, usize), text: fn(f64) -> String) -> String {
    let failures = if *failed > 0 { format!(", {failed} never") } else { String::new() };
    match found.as_slice() {
        [] => "-".to_owned(),
        [one] => text(*one) + &failures,
        [least, .., most] => {
            format!("{} ({} to {}){failures}", text(found[found.len() / 2]), text(*least), text(*most))
        }
    }
}

fn conclusion(run: &Run) -> String {
    let outcome = &run.outcome;
    let (agreeing, live) = outcome.agreeing;
    let findings = &outcome.findings;
    format!(
        "seed {}, state {}: {agreeing} of {live} live nodes show that all agree; {} claims compared with the truth, {} false; \
         {} times a live node was called down; {} sent per node, in {:.0} s\n",
        run.seed,
        &outcome.state_hash.hex()[..8],
        findings.claims,
        findings.false_claim_count,
        findings.false_down_count,
        size(outcome.bytes_per_node()),
        outcome.elapsed.as_secs_f64(),
    )
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

fn bytes(value: f64) -> String {
    size(value as u64)
}

/// The most memory this process ever had, as the system says; `None` where it does not.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
