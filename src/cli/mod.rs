//! The command line: one file a verb, each with its arguments and what it does.
//!
//! Data goes to standard output, talk to standard error. Exit codes: 0 done, 1 a negative answer, 2 usage, 3 no node
//! answers, 4 the node cannot start, 70 internal error.

use std::ffi::OsString;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::protocol::escape::escaped;

pub mod allocator;
pub mod ban;
pub mod bench;
mod census;
pub mod client_args;
pub mod config;
pub mod connect;
pub mod core_dumps;
pub mod demo;
pub mod descriptors;
pub mod disconnect;
pub mod dot;
pub mod flags;
pub mod forget;
pub mod identity;
mod interrupts;
pub mod keygen;
pub mod leave;
pub mod log_queue;
pub mod network;
pub mod node_log;
pub mod peers;
pub mod ping;
mod place;
pub mod request;
pub mod run;
pub mod simulate;
pub mod status;
pub mod table;
pub mod tag;
pub mod terminal;
pub mod why;

/// Exit code of a usage or configuration error.
pub const USAGE: u8 = 2;
/// Exit code of a node that cannot start.
pub const NOT_STARTED: u8 = 4;
/// Exit code of what should not happen.
pub const INTERNAL: u8 = 70;

/// A verb: the command that parses its arguments, and what then runs.
type Verb = (fn() -> Command, fn(&ArgMatches) -> ExitCode);

/// All verbs, in the order in which help lists them. A new one is a file and a line here.
const VERBS: &[Verb] = &[
    (run::command, run::run),
    (config::command, config::run),
    (status::command, status::run),
    (peers::command, peers::run),
    (network::command, network::run),
    (why::command, why::run),
    (connect::command, connect::run),
    (disconnect::command, disconnect::run),
    (ping::command, ping::run),
    (request::command, request::run),
    (ban::command, ban::run),
    (ban::unban_command, ban::run_unban),
    (ban::bans_command, ban::run_bans),
    (leave::command, leave::run),
    (forget::command, forget::run),
    (tag::command, tag::run),
    (identity::command, identity::run),
    (keygen::command, keygen::run),
    (demo::command, demo::run),
    (simulate::command, simulate::run),
    (bench::command, bench::run),
];

/// The whole grammar; the manual page and the shells' completions are made of it too.
pub fn command() -> Command {
    Command::new("kithd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "A peer-to-peer node: finds the others, watches them, and agrees with them on what the network looks like",
        )
        .subcommand_required(true)
        .subcommands(VERBS.iter().map(|(command, _)| command()))
}

/// Parses a command line, the program's name first, and runs what it says.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return not_parsed(&error),
    };
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let (_, run) = VERBS.iter().find(|(command, _)| command().get_name() == name)?;
        Some(run(matches))
    });
    // The grammar asks for a verb and knows only these.
    chosen.unwrap_or(ExitCode::from(INTERNAL))
}

/// Says on stderr, in one line, why the program ends, and ends it with that code.
pub fn fail(code: u8, why: impl std::fmt::Display) -> ExitCode {
    terminal::complain(&why.to_string());
    ExitCode::from(code)
}

/// A panic in one line, whatever it says.
pub fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.to_string().replace('\n', " ");
    let thread = std::thread::current();
    format!("kithd: internal error in {}: {}\n", thread.name().unwrap_or("a thread"), escaped(&text))
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    client_args::conclude(terminal::say(text).map(|()| ExitCode::SUCCESS).map_err(Into::into))
}

/// Help and version are data; everything else is a usage error.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let printed = error.print();
        return client_args::conclude(printed.map(|()| ExitCode::SUCCESS).map_err(Into::into));
    }
    terminal::complain(&one_line(&error.to_string()));
    ExitCode::from(USAGE)
}

/// A parser's page of explanation as one line: what is wrong, then its advice, or where to find what is right.
fn one_line(page: &str) -> String {
    let command = |usage: &str| {
        let words = usage.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
        words.collect::<Vec<_>>().join(" ")
    };
    let help = page.lines().find_map(|line| Some(format!("; see '{} --help'", command(line.strip_prefix("Usage:")?))));
    let lines = page.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = telling.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
    let advised = line.contains("; ") || line.ends_with(']');
    let line = line + help.filter(|_| !advised).as_deref().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(args: &[&str]) -> String {
        one_line(&command().try_get_matches_from(args).unwrap_err().to_string())
    }

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn usage_errors_are_one_telling_line() {
        assert_eq!(
            usage(&["kithd", "statsu"]),
            "unrecognized subcommand 'statsu'; a similar subcommand exists: 'status'"
        );
        assert_eq!(usage(&["kithd", "frob"]), "unrecognized subcommand 'frob'; see 'kithd --help'");
        assert_eq!(
            usage(&["kithd", "connect"]),
            "the following required arguments were not provided: <ADDRESS>; see 'kithd connect --help'"
        );
        assert_eq!(
            usage(&["kithd", "peers", "--format", "dot"]),
            "invalid value 'dot' for '--format <FORM>' [possible values: table, json]"
        );
    }
}
