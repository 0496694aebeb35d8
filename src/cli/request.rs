//! `kithd request`: one request to a service of a node. What goes in and what comes out are bytes, whatever they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::client_args::{self, FORMATS, Failure};
use super::terminal;
use crate::admin::api::{AdminError, Verb};
use crate::admin::client::Client;
use crate::admin::payload::RequestReport;
use crate::config::duration;
use crate::protocol::escape::escaped_json;

/// A node answers in time, and its answer is there soon after: for what a busy machine takes.
pub const MARGIN: Duration = Duration::from_secs(10);
/// What a line of 2 MiB holds beside its other fields.
const MOST: usize = (2 * 1024 * 1024 - 4096) / 4 * 3;

/// The verb's arguments.
pub fn command() -> Command {
    let service = Arg::new("service").value_name("SERVICE").required(true).help("The service's name");
    let stdin = Arg::new("stdin").value_name("-").value_parser(["-"]).help("Send what standard input says to its end");
    let data = Arg::new("data")
        .long("data")
        .value_name("TEXT")
        .action(ArgAction::Set)
        .allow_hyphen_values(true)
        .conflicts_with("stdin")
        .help("Send this text");
    let file = Arg::new("file")
        .long("file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .conflicts_with_all(["stdin", "data"])
        .help("Send what is in this file");
    let timeout = timeout_arg().help("How long it may take [default: the node's requests.timeout]");
    let about = "Ask a service of a node, and print its answer as it is: exit 1 if there is none. \
                 Without --data, --file and - it is asked with nothing";
    client_args::add(Command::new("request").about(about), &FORMATS).args([
        node_arg(),
        service,
        stdin,
        data,
        file,
        timeout,
    ])
}

/// Asks, and prints the answer.
pub fn run(matches: &ArgMatches) -> ExitCode {
    client_args::conclude(payload(matches).and_then(|payload| request(matches, payload)))
}

/// The node that is asked.
pub(super) fn node_arg() -> Arg {
    Arg::new("node").value_name("NODE").required(true).help("Its label, id or unique beginning of its id")
}

/// How long something may take.
pub(super) fn timeout_arg() -> Arg {
    Arg::new("timeout").long("timeout").value_name("TIME").value_parser(span)
}

/// What was said about that.
pub(super) fn timeout(matches: &ArgMatches) -> Option<Duration> {
    matches.get_one::<Duration>("timeout").copied()
}

fn span(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        span if (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&span) => Ok(span),
        _ => Err("must be 1ms to 1h".to_owned()),
    }
}

fn payload(matches: &ArgMatches) -> Result<Vec<u8>, Failure> {
    let unreadable = |what: &str, error: io::Error| AdminError::usage(format!("{what} cannot be read: {error}"));
    if let Some(text) = matches.get_one::<String>("data") {
        return fitting(text.as_bytes().to_vec(), "--data");
    }
    if let Some(path) = matches.get_one::<PathBuf>("file") {
        let what = format!("--file {}", path.display());
        let bytes = File::open(path).and_then(beginning).map_err(|error| unreadable(&what, error))?;
        return fitting(bytes, &what);
    }
    if matches.contains_id("stdin") {
        let bytes = beginning(io::stdin().lock()).map_err(|error| unreadable("standard input", error))?;
        return fitting(bytes, "standard input");
    }
    Ok(Vec::new())
}

/// One byte more than may be is enough to know.
fn beginning(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fitting(bytes: Vec<u8>, what: &str) -> Result<Vec<u8>, Failure> {
    if bytes.len() <= MOST {
        return Ok(bytes);
    }
    let why = format!("{what} has more than {MOST} bytes, which is all that a node's socket takes: send less at once");
    Err(AdminError::usage(why).into())
}

fn request(matches: &ArgMatches, payload: Vec<u8>) -> Result<ExitCode, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let (node, service, timeout) = (text("node"), text("service"), timeout(matches));
    let verb = Verb::Request { node, service, payload: payload.into(), timeout: timeout.map(duration::text) };
    let mut client = Client::connect(&client_args::socket(matches))?;
    let answer = match timeout {
        Some(timeout) => client.call_within(&verb, timeout + MARGIN),
        None => client.call_while_it_lives(&verb),
    };
    let raw = match answer {
        Ok(raw) => raw,
        // A program that has failed may have printed something all the same.
        Err(mut error) => {
            let printed = error.payload.take().filter(|_| error.status.is_some() && !client_args::json(matches));
            terminal::pour(&printed.unwrap_or_default().0)?;
            return Err(error.into());
        }
    };
    if client_args::json(matches) {
        terminal::say(&format!("{}\n", escaped_json(raw.get().to_owned())))?;
    } else {
        let report: RequestReport = client_args::understood(&raw)?;
        terminal::pour(&report.payload.0)?;
    }
    Ok(ExitCode::SUCCESS)
}
