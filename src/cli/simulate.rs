//! `kithd simulate`: the protocol's own code in virtual time, as a network of any size on this machine alone.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::client_args::FORMATS;
use super::{USAGE, fail};
use crate::config::duration;
use crate::simulator::{Conditions, Part, Scenario, Trouble};

mod tell;

/// The largest network: as many as a view holds with its defaults.
const MAX_NODES: i64 = 16_384;
/// From so many nodes on there is enough to think about at the same time for more than one thread, and for long enough that
/// somebody wants to hear how far it is.
const LARGE: usize = 512;
/// More threads than any network here keeps busy.
const MAX_THREADS: i64 = 64;
/// Of any network.
const ANY: &str = "0%";

/// The verb's arguments.
pub fn command() -> Command {
    let value = |name: &'static str, kind| Arg::new(name).long(name).value_name(kind);
    let share = |name| value(name, "SHARE").value_parser(percent).default_value(ANY);
    let part = |name| value(name, "PART").value_parser(part);
    let span = |name, usual| value(name, "DURATION").value_parser(duration::parse).default_value(usual);
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let nodes = value("nodes", "COUNT").value_parser(value_parser!(u16).range(1..=MAX_NODES)).default_value("16");
    let cost = value("signature-cost", "DURATION").value_parser(brief).default_value("50us");
    let number = |name, usual| value(name, "NUMBER").value_parser(value_parser!(u64)).default_value(usual);
    let latency = value("latency", "RANGE").value_parser(latency).default_value("1ms..100ms");
    let partition = value("partition", "SHARE").value_parser(percent).num_args(0..=1).default_missing_value("50%");
    let idle = value("idle", "DURATION").value_parser(duration::parse);
    let all_but = value("all-but", "COUNT").value_parser(value_parser!(u16).range(1..));
    let churn = value("churn", "RATE").value_parser(rate);
    let threads = value("threads", "COUNT").value_parser(value_parser!(u16).range(1..=MAX_THREADS));
    let format = value("format", "FORM").value_parser(FORMATS).default_value(FORMATS[0]);
    Command::new("simulate")
        .about("Run the protocol's own code in virtual time: how fast a network agrees, and what that costs")
        .args([
            nodes.help("How many nodes, 1 to 16384, all of which know the first one's address"),
            number("seed", "1").help("Decides all that chance decides: the same seed, the same run"),
            number("seeds", "1").help("Run so many seeds, from --seed on, and give the median and the range of each figure"),
            latency.help("One way, between the hosts of a pair, which keeps it"),
            share("loss").help("This share of all packets is lost, and sent again later"),
            share("broken").help("This share of all connections breaks each second"),
            share("hostile").help("This share of all members lies, in five ways"),
            span("skew", "2s").help("How far wall clocks are off, at most"),
            cost.help("What checking a signature costs a process; 0s: nothing"),
            idle.help("Then nothing happens for so long: what is sent all the same is measured"),
            flag("change").help("Then one node has something new to say of itself"),
            part("leave").help("Then so many nodes, or this share, take their leave"),
            part("restart").help("Then so many are killed, lose what they knew, and are back"),
            part("kill").help("Then so many processes are killed, and their systems say so"),
            part("crash").help("Then so many vanish without a word"),
            all_but.help("Then all but so many vanish"),
            partition.help("Then the network is cut in two, this share on one side, half if none is given, and healed"),
            churn.help("Then so many nodes a second go or come back, as in 2 or 0.1"),
            span("churn-for", "60s").help("For how long they do"),
            share("one-way").help("Then this share of all pairs hears each other in one direction only, and then in both again"),
            flag("expiry").help("Then some go, two days pass, and all that was ever said is said again: nobody may come back"),
            span("duration", "60s").help("How long each step may take, in virtual time, before it has failed"),
            threads.help(
                "Let the nodes think on so many threads, which changes nothing but the time it takes; by default on as many as \
                 there are cores, from 512 nodes on",
            ),
            format.help("How to print"),
        ])
        .after_help(
            "PART is a number of nodes, as in 1, or a share of those that live, as in 30%. What is asked for happens in the \
             order in which it is listed here. Ends with 1 if a step failed, or if a node claimed or was called what is not \
             true.",
        )
}

/// Simulates and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    if let Some(why) = contradiction(matches) {
        return fail(USAGE, why);
    }
    let number = |name| matches.get_one(name).copied().unwrap_or(1u64);
    let runs: Vec<tell::Run> =
        (0..number("seeds").max(1)).map(|more| tell::Run::of(&scenario(matches, number("seed") + more))).collect();
    let is_json = matches.get_one::<String>("format").is_some_and(|format| format == "json");
    let printed = super::print(&if is_json { tell::as_json(&runs) } else { tell::as_table(&runs) });
    if printed == ExitCode::SUCCESS && !runs.iter().all(tell::Run::is_good) { ExitCode::FAILURE } else { printed }
}

fn scenario(matches: &ArgMatches, seed: u64) -> Scenario {
    let share = |name| matches.get_one(name).copied().unwrap_or(0.0);
    let span = |name| matches.get_one::<Duration>(name).copied();
    let nodes = matches.get_one("nodes").map_or(16, |nodes: &u16| usize::from(*nodes));
    let threads = matches.get_one("threads").map(|threads: &u16| usize::from(*threads));
    let usual = Conditions::new(seed);
    let conditions = Conditions {
        latency: matches.get_one("latency").cloned().unwrap_or(usual.latency),
        loss: share("loss"),
        broken: share("broken"),
        skew: span("skew").unwrap_or(usual.skew),
        signature_cost: span("signature-cost").unwrap_or_default(),
        hostile: share("hostile"),
        threads: threads.unwrap_or_else(|| cores(nodes)),
        ..usual
    };
    Scenario {
        nodes,
        conditions,
        troubles: troubles(matches),
        patience: span("duration").unwrap_or(Duration::from_secs(60)),
    }
}

/// What cannot be as it was asked for.
fn contradiction(matches: &ArgMatches) -> Option<String> {
    let (nodes, left) = (*matches.get_one::<u16>("nodes")?, *matches.get_one::<u16>("all-but")?);
    (left >= nodes).then(|| format!("--all-but {left}: must be fewer than the {nodes} nodes that there are (--nodes)"))
}

/// On how many threads so many nodes think at best.
fn cores(nodes: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if nodes < LARGE { 1 } else { cores.min(MAX_THREADS as usize) }
}

fn troubles(matches: &ArgMatches) -> Vec<Trouble> {
    let part = |name| matches.get_one::<Part>(name).copied().filter(|part| !part.is_nobody());
    let all_but = matches.get_one("all-but").map(|left: &u16| Part::AllBut(usize::from(*left)));
    let aside = matches.get_one("partition").copied().filter(|share| *share > 0.0).map(Part::Share);
    let churn = matches.get_one("churn").copied().zip(matches.get_one("churn-for").copied());
    let one_way = matches.get_one("one-way").copied().filter(|share| *share > 0.0);
    let troubles = [
        matches.get_one("idle").copied().map(Trouble::Idle),
        matches.get_flag("change").then_some(Trouble::Change),
        part("leave").map(Trouble::Leave),
        part("restart").map(Trouble::Restart),
        part("kill").map(Trouble::Kill),
        part("crash").map(Trouble::Crash),
        all_but.map(Trouble::Crash),
        aside.map(Trouble::Partition),
        churn.map(|(rate, span)| Trouble::Churn(rate, span)),
        one_way.map(Trouble::OneWay),
        matches.get_flag("expiry").then_some(Trouble::Expiry),
    ];
    troubles.into_iter().flatten().collect()
}

/// A share as `30%`, below all.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match number.filter(|number| (0.0..100.0).contains(number)) {
        Some(number) => Ok(number / 100.0),
        None => Err("must be a share from 0% to below 100%, as in 30%".to_owned()),
    }
}

/// So many times a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>().ok().filter(|rate| (0.001..=1000.0).contains(rate)) {
        Some(rate) => Ok(rate),
        None => Err("must be a number from 0.001 to 1000, so many times a second".to_owned()),
    }
}

/// A share as `30%`, or a number.
fn part(text: &str) -> Result<Part, String> {
    match text.parse() {
        Ok(count) => Ok(Part::Count(count)),
        Err(_) => percent(text).map(Part::Share).map_err(|why| format!("must be a number of nodes, as in 1, or {why}")),
    }
}

/// A duration, which may be given in microseconds too.
fn brief(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("us").map(str::parse) {
        Some(Ok(number)) => Ok(Duration::from_micros(number)),
        _ => duration::parse(text).map_err(|why| format!("{why}, or microseconds, as in 50us")),
    }
}

/// A range as `1ms..100ms`.
fn latency(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let ends = text.split_once("..").ok_or("must be a range, as in 1ms..100ms")?;
    let (least, most) = (duration::parse(ends.0)?, duration::parse(ends.1)?);
    if least > most {
        return Err("must begin with the smaller duration, as in 1ms..100ms".to_owned());
    }
    Ok(least..=most)
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

    #[test]
    fn parts_are_shares_or_numbers() {
        assert_eq!(part("30%"), Ok(Part::Share(0.3)));
        assert_eq!(part("3"), Ok(Part::Count(3)));
        assert!(part("half").is_err());
    }

    #[test]
    fn fewer_must_be_left_than_there_are() {
        let why =
            |args: &[&str]| contradiction(&command().try_get_matches_from([&["simulate"], args].concat()).unwrap());
        assert_eq!(
            why(&["--all-but", "16"]).as_deref(),
            Some("--all-but 16: must be fewer than the 16 nodes that there are (--nodes)")
        );
        assert_eq!((why(&["--all-but", "15"]), why(&[])), (None, None));
    }

    #[test]
    fn latencies_are_ranges() {
        let ms = Duration::from_millis;
        assert_eq!(latency("1ms..100ms"), Ok(ms(1)..=ms(100)));
        assert_eq!(latency("5ms..5ms"), Ok(ms(5)..=ms(5)));
        for text in ["", "5ms", "9ms..1ms", "..", "1..2"] {
            assert!(latency(text).is_err(), "{text:?}");
        }
    }
}
