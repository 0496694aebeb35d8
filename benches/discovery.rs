//! How fast a network agrees and what that costs, against the goals: the simulator's scenarios, row by row, over many seeds.
//!
//! `cargo bench --bench discovery -- [ROW ...] [SIZE ...] [FROM..TO] [--jobs N] [--json]`, as in
//! `-- start crash 128 1024 1..21`. Without a row it runs all; without a size 128; without seeds 1 to 3 (`1..4`). Each seed
//! is a network of its own from a cold start. Of the rows that are asked for, those in which one node changes, goes or comes
//! back follow each other in the same network, since most of the time is spent on the start; each of the others has its
//! own. Figures are virtual: they do not depend on the machine. Links take 1 to 100 ms, a signature 50 µs.
//!
//! Goals that differ by size are those of the size below or at the one that is run; a figure over its goal is marked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kithd::simulator::{Conditions, Outcome, Part, Scenario, Step, Trouble};

/// A figure by its name, how it is read from an outcome, its unit, and its goals at 1,024 and at 10,000 nodes.
type Figure = (&'static str, fn(&Outcome) -> Option<f64>, &'static str, Option<(f64, f64)>);

struct Row {
    name: &'static str,
    /// Leaves the network as good as it was: rows that do may share one.
    gentle: bool,
    troubles: &'static [Trouble],
    change: fn(Conditions) -> Conditions,
    figures: &'static [Figure],
}

const ONE: Part = Part::Count(1);

/// What every row says of a network's whole life.
const ALWAYS: &[Figure] = &[
    ("false claims", |outcome| Some(outcome.findings.false_claim_count as f64), "", Some((0.0, 0.0))),
    ("false downs", |outcome| Some(outcome.findings.false_down_count as f64), "", Some((0.0, 0.0))),
];

const ROWS: &[Row] = &[
    Row {
        name: "start",
        gentle: true,
        troubles: &[],
        change: |usual| usual,
        figures: &[
            ("all have heard of all", |outcome| known(outcome.step("start")?), "s", None),
            ("full agreement", |outcome| agreed(outcome.step("start")?), "s", Some((2.5, 5.0))),
            ("shown after that", |outcome| shown(outcome.step("start")?), "s", Some((0.5, 1.0))),
            ("sent per node", |outcome| Some(outcome.step("start")?.bytes_per_node() as f64 / 1e3), "kB", None),
        ],
    },
    Row {
        name: "change",
        gentle: true,
        troubles: &[Trouble::Change],
        change: |usual| usual,
        figures: &[
            ("known to half", |outcome| half(outcome.step("change")?), "s", Some((0.08, 0.115))),
            ("known to all", |outcome| known(outcome.step("change")?), "s", Some((0.15, 0.2))),
            ("shown after that", |outcome| shown(outcome.step("change")?), "s", Some((0.5, 1.0))),
            (
                "sent per node",
                |outcome| Some(outcome.step("change")?.bytes_per_node() as f64 / 1e3),
                "kB",
                Some((3.0, 3.0)),
            ),
        ],
    },
    Row {
        name: "idle",
        gentle: true,
        troubles: &[Trouble::Idle(Duration::from_secs(20)), Trouble::Idle(Duration::from_secs(30))],
        change: |usual| usual,
        figures: &[
            (
                "sent per node and second",
                |outcome| rate(last(outcome, "idle")?, Step::bytes_per_node),
                "kB",
                Some((0.8, 0.8)),
            ),
            ("bare acknowledgements", |outcome| rate(last(outcome, "idle")?, Step::acks_per_node), "kB", None),
        ],
    },
    Row {
        name: "crash",
        gentle: true,
        troubles: &[Trouble::Crash(ONE)],
        change: |usual| usual,
        figures: &[
            ("down everywhere", |outcome| known(outcome.step("crash")?), "s", Some((4.0, 4.0))),
            ("full agreement", |outcome| agreed(outcome.step("crash")?), "s", Some((4.8, 4.8))),
        ],
    },
    Row {
        name: "kill",
        gentle: true,
        troubles: &[Trouble::Kill(ONE)],
        change: |usual| usual,
        figures: &[
            ("down everywhere", |outcome| known(outcome.step("kill")?), "s", Some((2.4, 2.5))),
            ("full agreement", |outcome| agreed(outcome.step("kill")?), "s", None),
        ],
    },
    Row {
        name: "leave",
        gentle: true,
        troubles: &[Trouble::Leave(ONE)],
        change: |usual| usual,
        figures: &[
            ("left everywhere", |outcome| known(outcome.step("leave")?), "s", None),
            ("full agreement", |outcome| agreed(outcome.step("leave")?), "s", None),
        ],
    },
    Row {
        name: "restart",
        gentle: true,
        troubles: &[Trouble::Restart(ONE)],
        change: |usual| usual,
        figures: &[
            ("back everywhere", |outcome| known(outcome.step("restart")?), "s", None),
            ("full agreement", |outcome| agreed(outcome.step("restart")?), "s", None),
        ],
    },
    Row {
        name: "crash30",
        gentle: false,
        troubles: &[Trouble::Crash(Part::Share(0.3))],
        change: |usual| usual,
        figures: &[
            ("all downs known", |outcome| known(outcome.step("crash")?), "s", Some((5.0, 6.0))),
            ("full agreement", |outcome| agreed(outcome.step("crash")?), "s", Some((7.0, 8.0))),
            ("sent per node", |outcome| Some(outcome.step("crash")?.bytes_per_node() as f64 / 1e3), "kB", None),
        ],
    },
    Row {
        name: "crash50",
        gentle: false,
        troubles: &[Trouble::Crash(Part::Share(0.5))],
        change: |usual| usual,
        figures: &[
            ("all downs known", |outcome| known(outcome.step("crash")?), "s", Some((5.0, 6.0))),
            ("full agreement", |outcome| agreed(outcome.step("crash")?), "s", Some((7.0, 8.0))),
            ("sent per node", |outcome| Some(outcome.step("crash")?.bytes_per_node() as f64 / 1e3), "kB", None),
        ],
    },
    Row {
        name: "all-but-3",
        gentle: false,
        troubles: &[Trouble::Crash(Part::AllBut(3))],
        change: |usual| usual,
        figures: &[("full agreement", |outcome| agreed(outcome.step("crash")?), "s", Some((15.0, f64::INFINITY)))],
    },
    Row {
        name: "half",
        gentle: false,
        troubles: &[Trouble::Partition(Part::Share(0.5))],
        change: |usual| usual,
        figures: &[
            ("each side agrees", |outcome| agreed(outcome.step("partition")?), "s", Some((7.5, 9.0))),
            ("healed, all agree", |outcome| agreed(outcome.step("heal")?), "s", Some((4.0, 5.0))),
        ],
    },
    Row {
        name: "tenth",
        gentle: false,
        troubles: &[Trouble::Partition(Part::Share(0.1))],
        change: |usual| usual,
        figures: &[
            ("each side agrees", |outcome| agreed(outcome.step("partition")?), "s", Some((10.0, 10.0))),
            ("healed, all agree", |outcome| agreed(outcome.step("heal")?), "s", None),
            (
                "of its own side held down",
                |outcome| Some(outcome.step("heal")?.own_side_downs as f64),
                "",
                Some((0.0, 0.0)),
            ),
        ],
    },
    Row {
        name: "loss",
        gentle: false,
        troubles: &[Trouble::Idle(Duration::from_secs(20)), Trouble::Spread, Trouble::Spread, Trouble::Spread],
        change: |usual| Conditions { loss: 0.1, broken: 0.01, ..usual },
        figures: &[
            ("a change, known to half", |outcome| worst(outcome, half), "s", None),
            ("a change, known to all", |outcome| worst(outcome, known), "s", Some((0.4, 0.4))),
            (
                "thousand node-seconds",
                |outcome| Some(outcome.elapsed.as_secs_f64() * outcome.nodes as f64 / 1e3),
                "",
                None,
            ),
        ],
    },
    Row {
        name: "churn",
        gentle: false,
        troubles: &[Trouble::Churn(1.0, Duration::from_secs(60))],
        change: |usual| usual,
        figures: &[
            ("full agreement after it", |outcome| agreed(outcome.step("calm")?), "s", None),
            ("sent per node and second", |outcome| rate(outcome.step("churn")?, Step::bytes_per_node), "kB", None),
        ],
    },
    Row {
        name: "one-way",
        gentle: false,
        troubles: &[Trouble::OneWay(0.02)],
        change: |usual| usual,
        figures: &[
            ("full agreement", |outcome| agreed(outcome.step("one-way")?), "s", None),
            ("mended, all agree", |outcome| agreed(outcome.step("both ways")?), "s", None),
        ],
    },
    Row {
        name: "hostile",
        gentle: false,
        troubles: &[Trouble::Crash(ONE)],
        change: |usual| Conditions { hostile: 0.1, ..usual },
        figures: &[
            ("started, all agree", |outcome| agreed(outcome.step("start")?), "s", None),
            ("crash, down everywhere", |outcome| known(outcome.step("crash")?), "s", None),
            ("crash, all agree", |outcome| agreed(outcome.step("crash")?), "s", None),
        ],
    },
    Row {
        name: "expiry",
        gentle: false,
        troubles: &[Trouble::Expiry],
        change: |usual| usual,
        figures: &[("resurrected", |outcome| Some(outcome.findings.resurrected as f64), "", Some((0.0, 0.0)))],
    },
];

fn known(step: &Step) -> Option<f64> {
    Some(step.settled.reach?.all.as_secs_f64())
}

fn half(step: &Step) -> Option<f64> {
    Some(step.settled.reach?.half.as_secs_f64())
}

fn agreed(step: &Step) -> Option<f64> {
    Some(step.settled.agreed?.as_secs_f64())
}

fn shown(step: &Step) -> Option<f64> {
    Some(step.settled.shown?.as_secs_f64())
}

/// Of several steps of one name the last: what came before them has had its time.
fn last<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a Step> {
    outcome.steps.iter().rfind(|step| step.name == name)
}

/// Thousands of bytes a second.
fn rate(step: &Step, per_node: fn(&Step) -> u64) -> Option<f64> {
    Some(per_node(step) as f64 / step.span.as_secs_f64() / 1e3)
}

/// Of several changes the slowest.
fn worst(outcome: &Outcome, of: fn(&Step) -> Option<f64>) -> Option<f64> {
    let changes: Option<Vec<f64>> = outcome.steps.iter().filter(|step| step.name == "spread").map(of).collect();
    changes?.into_iter().max_by(f64::total_cmp)
}

struct Asked {
    rows: Vec<&'static Row>,
    sizes: Vec<usize>,
    seeds: Range<u64>,
    jobs: usize,
    json: bool,
}

fn main() {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => return eprintln!("{why}"),
    };
    if !asked.json {
        println!(
            "{:<10}{:>6}  {:<28}{:>10}{:>10}{:>10}{:>10}",
            "ROW", "NODES", "FIGURE", "MEDIAN", "MIN", "MAX", "GOAL"
        );
    }
    let (gentle, others): (Vec<&Row>, Vec<&Row>) = asked.rows.iter().partition(|row| row.gentle);
    let stories = std::iter::once(gentle).chain(others.into_iter().map(|row| vec![row]));
    let mut told = Vec::new();
    for rows in stories.filter(|rows| !rows.is_empty()) {
        for size in &asked.sizes {
            let begun = Instant::now();
            let outcomes = run(&rows, *size, asked.seeds.clone(), asked.jobs);
            rows.iter().for_each(|row| told.extend(tell(row, *size, &outcomes, asked.json)));
            if !asked.json {
                let (seeds, took) = (outcomes.len(), begun.elapsed().as_secs_f64());
                println!("{:<10}{size:>6}  ({seeds} seeds in {took:.1} s of this machine)", "");
            }
        }
    }
    if asked.json {
        let seeds: Vec<u64> = asked.seeds.collect();
        println!("{:#}", serde_json::json!({ "schema": 1, "seeds": seeds, "figures": told }));
    }
}

fn asked(words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { rows: Vec::new(), sizes: Vec::new(), seeds: 1..4, jobs: 1, json: false };
    let mut words = words.filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let range = word.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
        if let Some(row) = ROWS.iter().find(|row| row.name == word) {
            asked.rows.push(row);
        } else if let Ok(size) = word.parse() {
            asked.sizes.push(size);
        } else if let Some(seeds) = range {
            asked.seeds = seeds;
        } else if word == "--json" {
            asked.json = true;
        } else if word == "--jobs" {
            asked.jobs =
                words.next().and_then(|jobs| jobs.parse().ok()).ok_or("--jobs needs a number, as in --jobs 2")?;
        } else {
            let rows: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!("{word:?} is no row, size or range of seeds; rows are {}", rows.join(", ")));
        }
    }
    if asked.rows.is_empty() {
        asked.rows = ROWS.iter().collect();
    }
    if asked.sizes.is_empty() {
        asked.sizes = vec![128];
    }
    Ok(asked)
}

/// One network per seed, `jobs` of them at a time, to which all of these rows happen; with more than one row all are gentle.
fn run(rows: &[&Row], nodes: usize, seeds: Range<u64>, jobs: usize) -> BTreeMap<u64, Outcome> {
    let seeds: Vec<u64> = seeds.collect();
    // One network has all cores to itself; several share them.
    let threads = if seeds.len() == 1 { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let usual =
                        Conditions { signature_cost: Duration::from_micros(50), threads, ..Conditions::new(*seed) };
                    let conditions = rows.first().map_or(usual.clone(), |row| (row.change)(usual.clone()));
                    let troubles = rows.iter().flat_map(|row| row.troubles).copied().collect();
                    let scenario = Scenario { nodes, conditions, troubles, patience: Duration::from_secs(60) };
                    let outcome = scenario.run();
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.insert(*seed, outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

fn tell(row: &Row, nodes: usize, outcomes: &BTreeMap<u64, Outcome>, json: bool) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    for (name, of, unit, goals) in row.figures.iter().chain(ALWAYS) {
        let goal = goals.map(|(thousand, ten)| if nodes > 1024 { ten } else { thousand });
        let goal = goal.filter(|goal| goal.is_finite());
        let mut found: Vec<f64> = outcomes.values().filter_map(of).collect();
        found.sort_by(f64::total_cmp);
        let never = outcomes.len() - found.len();
        let (median, least, most) = match found.as_slice() {
            [] => (None, None, None),
            found => (Some(found[found.len() / 2]), found.first().copied(), found.last().copied()),
        };
        if !json {
            let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3} {unit}"));
            let missed = never > 0 || most.zip(goal).is_some_and(|(most, goal)| most > goal);
            let mark = if missed && goal.is_some() { "  <- missed" } else { "" };
            let never = if never > 0 { format!("  {never} never") } else { String::new() };
            println!(
                "{:<10}{nodes:>6}  {name:<28}{:>10}{:>10}{:>10}{:>10}{mark}{never}",
                row.name,
                text(median),
                text(least),
                text(most),
                text(goal)
            );
        }
        told.push(serde_json::json!({
            "row": row.name, "nodes": nodes, "figure": name, "unit": unit, "goal": goal,
            "median": median, "min": least, "max": most, "never": never, "seeds": outcomes.len(), "values": found,
        }));
    }
    told
}
