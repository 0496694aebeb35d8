//! `kithd identity`: who this node is, and which network keys it holds.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::client_args::{self, FORMATS};
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::IdentityReport;

/// The verb's arguments.
pub fn command() -> Command {
    client_args::add(
        Command::new("identity").about("Print this node's id, label and network keys, by their marks"),
        &FORMATS,
    )
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let shown = client_args::show(matches, &Verb::Identity, |node: &IdentityReport| {
        let mut text = format!("id     {}\nlabel  {}\n", escaped(&node.id), escaped(&node.label));
        for (index, key) in node.keys.iter().flatten().enumerate() {
            let used = if index == 0 { "dialled with" } else { "accepted" };
            text.push_str(&format!("key    {}  {used}\n", escaped(key)));
        }
        text
    });
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}
