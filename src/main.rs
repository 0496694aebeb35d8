//! The kithd program: parse, run, exit code.

use std::process::ExitCode;

use clap::Command;
use kithd::cli;

fn main() -> ExitCode {
    let command = Command::new("kithd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A peer-to-peer node that discovers, watches and agrees on its network")
        .subcommand_required(true)
        .subcommand(cli::config::command());
    let matches = match command.try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return cli::usage_error(&error),
    };
    match matches.subcommand() {
        Some(("config", matches)) => cli::config::run(matches),
        // clap lets nothing through but the verbs above.
        _ => ExitCode::from(cli::USAGE),
    }
}
