//! `kithd leave`: the node says good-bye and ends.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::client_args::{self, FORMATS};
use super::table::short;
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::IdentityReport;

/// The verb's arguments.
pub fn command() -> Command {
    let about = "Leave the network gracefully: others see the node as left, not down, and its process ends";
    client_args::add(Command::new("leave").about(about), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let shown = client_args::show(matches, &Verb::Leave, |node: &IdentityReport| {
        format!("{} ({}) leaves the network and ends\n", escaped(&node.label), escaped(short(&node.id)))
    });
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}
