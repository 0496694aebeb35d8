//! `kithd identity`: who this node is.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::client_args::{self, FORMATS};
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::IdentityReport;

/// The verb's arguments.
pub fn command() -> Command {
    client_args::add(Command::new("identity").about("Print this node's id and label"), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let shown = client_args::show(matches, &Verb::Identity, |node: &IdentityReport| {
        format!("id     {}\nlabel  {}\n", escaped(&node.id), escaped(&node.label))
    });
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}
