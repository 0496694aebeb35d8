//! `kithd forget`: a node that will not come back is dropped from everybody's view.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use super::table::short;
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::ForgetReport;

/// The verb's arguments.
pub fn command() -> Command {
    let about = "Drop a node that is down or has left from the view and from what is expected, here and everywhere";
    let node = Arg::new("node").value_name("NODE").required(true).help("Its label, id or unique beginning of its id");
    client_args::add(Command::new("forget").about(about).arg(node), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let node = matches.get_one::<String>("node").cloned().unwrap_or_default();
    let shown = client_args::show(matches, &Verb::Forget { node }, draw);
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// Who is forgotten, and by whom.
pub fn draw(report: &ForgetReport) -> String {
    let label = escaped(&report.label);
    match &report.id {
        Some(id) if report.everywhere => format!("{label} ({}) is forgotten\n", escaped(short(id))),
        _ => format!("{label} is expected here no more; it was in nobody's view\n"),
    }
}
