//! `kithd bench`: what requests cost, on a private pair of nodes of this machine.
//!
//! ```text
//!   bench         parses, measures one workload after the other, prints
//!   ├── workloads W1 to W6, each checked against the server's own counters
//!   ├── pair      the two nodes, each in its process
//!   ├── crowd     more members, for workloads with many connections
//!   ├── system    processor time and memory, as the system counts them; the machine
//!   ├── figures   the JSON
//!   └── tell      the bar, the table, the comparison
//! ```

mod crowd;
mod figures;
mod pair;
mod system;
mod tell;
mod workloads;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use self::figures::BenchReport;
use self::pair::Pair;
use self::system::Machine;
use self::tell::Bar;
use self::workloads::{ALL, Workload};
use super::client_args::FORMATS;
use super::{NOT_STARTED, USAGE, allocator, descriptors, fail, print, terminal};
use crate::config::duration;
use crate::protocol::report::SCHEMA;
use crate::secure::primitives::Cipher;

/// What it was measured against.
const AGAINST_PAIR: &str = "pair";
/// Bounds of `--span`.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

/// The verb's arguments.
pub fn command() -> Command {
    let workloads =
        Arg::new("workloads").long("workloads").value_name("NAMES").value_delimiter(',').value_parser(named);
    let span = Arg::new("span").long("span").value_name("DURATION").value_parser(span).default_value("3s");
    let compare = Arg::new("compare").long("compare").value_name("FILE").value_parser(value_parser!(PathBuf));
    let format = Arg::new("format").long("format").value_name("FORM").value_parser(FORMATS).default_value(FORMATS[0]);
    let serve = Arg::new("serve").long("serve").value_parser(value_parser!(PathBuf)).hide(true);
    let list = ALL.iter().map(|workload| format!("  {:10} {}\n", workload.name, workload.about));
    Command::new("bench")
        .about("Measure latency, throughput and cost of requests, on a private pair of nodes")
        .args([
            workloads.help("Only these, as in W1,W2, each with its inline form [default: all]"),
            span.help("How long each is measured"),
            compare.help("Compare with what an earlier bench printed as JSON"),
            format.help("How to print"),
            serve,
        ])
        .after_help(format!(
            "Workloads:\n{}\nBoth nodes are processes of this machine, and all is encrypted. To have both on one core: taskset \
             -c 0 kithd bench. Ends with 1 if the two ends have not counted the same.",
            list.collect::<String>()
        ))
}

/// Measures and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    // As `kithd run` does, so that it is measured as it runs.
    if let Err(error) = allocator::share_one_pool() {
        terminal::complain(&format!("cannot choose the allocator's settings: {error}"));
    }
    if let Some(directory) = matches.get_one::<PathBuf>("serve") {
        return pair::serve(directory);
    }
    let old = match matches.get_one::<PathBuf>("compare").map(read) {
        None => None,
        Some(Ok(old)) => Some(old),
        Some(Err(why)) => return fail(USAGE, why),
    };
    let span = matches.get_one::<Duration>("span").copied().unwrap_or(SHORTEST);
    let chosen: Vec<Workload> = match matches.get_many::<Vec<Workload>>("workloads") {
        Some(chosen) => ALL.into_iter().filter(|one| chosen.clone().any(|some| some.contains(one))).collect(),
        None => ALL.to_vec(),
    };
    descriptors::raise_limit();
    let report = match measure(&chosen, span) {
        Ok(report) => report,
        Err((code, why)) => return fail(code, why),
    };
    let is_json = matches.get_one::<String>("format").is_some_and(|format| format == "json");
    let old = old.as_ref();
    print(&if is_json { tell::json(&report, old) } else { tell::table(&report, old, terminal::colourful()) })
}

fn measure(chosen: &[Workload], span: Duration) -> Result<BenchReport, (u8, String)> {
    let pair = Pair::start().map_err(|why| (NOT_STARTED, why))?;
    let mut workloads = BTreeMap::new();
    for (index, workload) in chosen.iter().enumerate() {
        let bar = Bar::of(workload, index + 1, chosen.len(), span);
        let figures = workload.run(&pair, span).map_err(|why| (1, format!("bench: {}: {why}", workload.name)));
        drop(bar);
        workloads.insert(workload.name.to_owned(), figures?);
    }
    Ok(BenchReport {
        schema: SCHEMA,
        machine: Machine::here(format!("{:?}", Cipher::preferred())),
        against: AGAINST_PAIR.to_owned(),
        seconds: span.as_secs_f64(),
        workloads,
    })
}

fn named(name: &str) -> Result<Vec<Workload>, String> {
    let found = Workload::named(name);
    if found.is_empty() { Err("there is none of that name: see kithd bench --help".to_owned()) } else { Ok(found) }
}

fn span(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text)?;
    if (SHORTEST..=LONGEST).contains(&span) { Ok(span) } else { Err("must be 100ms to 1h".to_owned()) }
}

fn read(path: &PathBuf) -> Result<BenchReport, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        format!("{}: {error}: it should be what kithd bench --format json has printed", path.display())
    })
}
