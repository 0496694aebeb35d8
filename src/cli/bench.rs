//! `kithd bench`: what requests cost, on a private pair of nodes of this machine, or against a live node.
//!
//! ```text
//!   bench         parses, measures one workload after the other, prints
//!   ├── workloads W1 to W6, each checked against the server's own counters
//!   ├── pair      the two nodes, each in its process
//!   ├── live      the other way: a live node, and the one of this machine that asks it
//!   ├── crowd     more members, for workloads with many connections
//!   ├── system    processor time and memory, as the system counts them; the machine
//!   ├── figures   the JSON
//!   └── tell      the bar, the table, the comparison
//! ```

mod crowd;
mod figures;
mod live;
mod pair;
mod system;
mod tell;
mod workloads;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};

use self::figures::{BenchReport, Figures};
use self::live::Live;
use self::pair::Pair;
use self::system::Machine;
use self::tell::Bar;
use self::workloads::{ALL, Sizes, Workload};
use super::client_args::{self, FORMATS};
use super::{NOT_STARTED, USAGE, allocator, descriptors, fail, print, terminal};
use crate::admin::api::AdminError;
use crate::config::{duration, size};
use crate::protocol::report::SCHEMA;
use crate::secure::primitives::Cipher;

/// What it was measured against.
const AGAINST_PAIR: &str = "pair";
/// Bounds of `--span`.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);
/// Of `--peers`: each end has a descriptor for each, and both a thread.
const MOST_PEERS: u64 = 4096;
/// Of `--payload`: what a node takes by default.
const MOST_BYTES: usize = 1 << 20;

/// The verb's arguments.
pub fn command() -> Command {
    let workloads =
        Arg::new("workloads").long("workloads").value_name("NAMES").value_delimiter(',').value_parser(named);
    let span = Arg::new("span").long("span").value_name("DURATION").value_parser(span).default_value("3s");
    let compare = Arg::new("compare").long("compare").value_name("FILE").value_parser(value_parser!(PathBuf));
    let connect = Arg::new("connect").long("connect").value_name("NODE");
    let peers = Arg::new("peers").long("peers").value_name("N").value_parser(value_parser!(u64).range(1..=MOST_PEERS));
    let payload = Arg::new("payload").long("payload").value_name("BYTES").value_parser(payload_size);
    let serve = Arg::new("serve").long("serve").value_parser(value_parser!(PathBuf)).hide(true);
    let list = ALL.iter().map(|workload| format!("  {:10} {}\n", workload.name, workload.about));
    let command = Command::new("bench")
        .about("Measure latency, throughput and cost of requests, on a private pair of nodes or against a live node")
        .args([
            workloads.help("Only these, as in W1,W2, each with its inline form [default: all]"),
            span.help("How long each is measured"),
            compare.help("Compare with what an earlier bench printed as JSON"),
            connect.help("Against this node (its label, id or unique beginning of its id), asked by the one at the socket"),
            peers.help("How many connections W3 has, and W5 [default: 64, and 1000]; a live node has one").conflicts_with("connect"),
            payload.help("How long each request is, and its answer, as in 4096 or 4KiB [default: 64, and 1MiB in W4]"),
            serve,
        ])
        .after_help(format!(
            "Workloads:\n{}\nBoth nodes of a pair are processes of this machine, and all is encrypted. To have both on one \
             core: taskset -c 0 kithd bench. A live node is asked for echo over one connection, within the limits of both \
             nodes: what wants more is left out, or made smaller, and that is said. Ends with 1 if the two ends have not \
             counted the same.",
            list.collect::<String>()
        ));
    client_args::add(command, &FORMATS)
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
    let sizes = Sizes { peers: number(matches, "peers"), payload: matches.get_one::<usize>("payload").copied() };
    let chosen: Vec<Workload> = chosen.into_iter().map(|workload| workload.sized(sizes)).collect();
    let measured = match matches.get_one::<String>("connect") {
        Some(node) => measure_live(&client_args::socket(matches), node, &chosen, span),
        None if names_a_socket(matches) => {
            return fail(USAGE, "--socket and --state-dir name the node that asks a live one: give --connect NODE too");
        }
        None => measure(&chosen, span),
    };
    let report = match measured {
        Ok(report) => report,
        Err((code, why)) => return fail(code, why),
    };
    let old = old.as_ref();
    print(&if client_args::json(matches) {
        tell::json(&report, old)
    } else {
        tell::table(&report, old, terminal::colourful())
    })
}

fn number(matches: &ArgMatches, name: &str) -> Option<usize> {
    // Below what any machine can count to.
    matches.get_one::<u64>(name).and_then(|number| usize::try_from(*number).ok())
}

/// Typed, and not of the environment, which is the same for all verbs.
fn names_a_socket(matches: &ArgMatches) -> bool {
    ["socket", "state_dir"].iter().any(|name| matches.value_source(name) == Some(ValueSource::CommandLine))
}

fn measure(chosen: &[Workload], span: Duration) -> Result<BenchReport, (u8, String)> {
    descriptors::raise_limit();
    let pair = Pair::start().map_err(|why| (NOT_STARTED, why))?;
    let mut workloads = BTreeMap::new();
    for (index, workload) in chosen.iter().enumerate() {
        let bar = Bar::of(workload, index + 1, chosen.len(), span);
        let figures = workload.run(&pair, span).map_err(|why| (1, format!("bench: {}: {why}", workload.name)));
        drop(bar);
        workloads.insert(workload.name.to_owned(), figures?);
    }
    Ok(report(AGAINST_PAIR, span, workloads))
}

fn measure_live(socket: &Path, node: &str, chosen: &[Workload], span: Duration) -> Result<BenchReport, (u8, String)> {
    let mut live = Live::meet(socket, node).map_err(|error| (error.exit.max(1), error.message))?;
    let (mut workloads, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    for (index, workload) in chosen.iter().enumerate() {
        let name = workload.name;
        match workload.for_one_connection() {
            Err(why) => _ = skipped.insert(name.to_owned(), why.to_owned()),
            Ok(load) => {
                let bar = Bar::of(workload, index + 1, chosen.len(), span);
                let figures = live.measure(workload, load, span);
                drop(bar);
                let failed = |error: AdminError| (error.exit.max(1), format!("bench: {name}: {}", error.message));
                workloads.insert(name.to_owned(), figures.map_err(failed)?);
            }
        }
    }
    Ok(BenchReport { skipped, notes: live.notes, ..report(&live.label, span, workloads) })
}

fn report(against: &str, span: Duration, workloads: BTreeMap<String, Figures>) -> BenchReport {
    BenchReport {
        schema: SCHEMA,
        machine: Machine::here(format!("{:?}", Cipher::preferred())),
        against: against.to_owned(),
        seconds: span.as_secs_f64(),
        workloads,
        skipped: BTreeMap::new(),
        notes: Vec::new(),
    }
}

fn named(name: &str) -> Result<Vec<Workload>, String> {
    let found = Workload::named(name);
    if found.is_empty() { Err("there is none of that name: see kithd bench --help".to_owned()) } else { Ok(found) }
}

fn payload_size(text: &str) -> Result<usize, String> {
    let size = size::parse(text).filter(|size| *size <= MOST_BYTES);
    size.ok_or_else(|| "must be a size of at most 1MiB, as in 4096 or 4KiB".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let span = duration::parse(text)?;
    if (SHORTEST..=LONGEST).contains(&span) { Ok(span) } else { Err("must be 100ms to 1h".to_owned()) }
}

fn read(path: &PathBuf) -> Result<BenchReport, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!("--compare {}: {why}: it should be what kithd bench --format json has printed", path.display())
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}
