//! `kithd disconnect`: close connections by hand.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use crate::admin::api::Verb;
use crate::protocol::report::DisconnectReport;

/// The verb's arguments.
pub fn command() -> Command {
    let target = Arg::new("target")
        .value_name("PEER|NODE")
        .required(true)
        .help("A peer's number, or a node's label, id or unique beginning of its id: all connections with it");
    client_args::add(Command::new("disconnect").about("Close a connection").arg(target), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let target = matches.get_one::<String>("target").cloned().unwrap_or_default();
    let shown = client_args::show(matches, &Verb::Disconnect { target }, draw);
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

fn draw(report: &DisconnectReport) -> String {
    report.closed.iter().map(|peer| format!("closed peer {peer}\n")).collect()
}
