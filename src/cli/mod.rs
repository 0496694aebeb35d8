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

/// A verb: its name, the command that parses its arguments, and what then runs.
type Verb = (&'static str, fn() -> Command, fn(&ArgMatches) -> ExitCode);

/// All verbs, in the order in which help lists them. A new one is a file and a line here.
const VERBS: &[Verb] = &[
    ("run", run::command, run::run),
    ("config", config::command, config::run),
    ("status", status::command, status::run),
    ("peers", peers::command, peers::run),
    ("network", network::command, network::run),
    ("why", why::command, why::run),
    ("connect", connect::command, connect::run),
    ("disconnect", disconnect::command, disconnect::run),
    ("ping", ping::command, ping::run),
    ("request", request::command, request::run),
    ("ban", ban::command, ban::run),
    ("unban", ban::unban_command, ban::run_unban),
    ("bans", ban::bans_command, ban::run_bans),
    ("leave", leave::command, leave::run),
    ("forget", forget::command, forget::run),
    ("tag", tag::command, tag::run),
    ("identity", identity::command, identity::run),
    ("keygen", keygen::command, keygen::run),
    ("demo", demo::command, demo::run),
    ("simulate", simulate::command, simulate::run),
    ("bench", bench::command, bench::run),
];

/// The whole grammar; the manual page and the shells' completions are made of it too.
pub fn command() -> Command {
    grammar(VERBS)
}

/// Of these verbs.
fn grammar(verbs: &[Verb]) -> Command {
    Command::new("kithd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "A peer-to-peer node: finds the others, watches them, and agrees with them on what the network looks like",
        )
        .subcommand_required(true)
        .subcommands(verbs.iter().map(|(_, command, _)| command()))
}

/// Parses a command line, the program's name first, and runs what it says.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = match grammar(meant(&args)).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return not_parsed(&error),
    };
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        let (_, _, run) = VERBS.iter().find(|(verb, ..)| *verb == name)?;
        Some(run(matches))
    });
    // The grammar asks for a verb and knows only these.
    chosen.unwrap_or(ExitCode::from(INTERNAL))
}

/// The verbs that a command line can be about: the one it begins with, or all. Of the grammar of twenty others a node would
/// keep 120 KiB, which the allocator does not give back.
fn meant(args: &[OsString]) -> &'static [Verb] {
    let is_first = |(verb, ..): &Verb| args.get(1).is_some_and(|word| word == verb);
    VERBS.iter().position(is_first).map_or(VERBS, |at| &VERBS[at..=at])
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
    fn a_verb_is_parsed_without_the_others_as_with_them() {
        for (verb, command, _) in VERBS {
            assert_eq!(command().get_name(), *verb);
            let alone = meant(&["kithd".into(), verb.into()]);
            assert_eq!(alone.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), [*verb]);
            for more in ["--help", "--frob", "frob"] {
                let said =
                    |grammar: Command| grammar.try_get_matches_from(["kithd", verb, more]).map_err(|e| e.to_string());
                assert_eq!(said(grammar(alone)).err(), said(super::command()).err(), "{verb} {more}");
            }
        }
        assert_eq!(meant(&["kithd".into(), "--help".into()]).len(), VERBS.len());
        assert_eq!(meant(&["kithd".into()]).len(), VERBS.len());
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
