//! What every verb that talks to a running node has in common: finding its socket, asking, printing, and the exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::terminal;
use crate::admin::api::{AdminError, Verb};
use crate::admin::client::Client;
use crate::admin::socket;
use crate::config::default_state_dir;
use crate::protocol::escape::escaped_json;

/// The forms of most verbs' output; the first is the default.
pub const FORMATS: [&str; 2] = ["table", "json"];

/// Adds the arguments that name the node and the form of the output.
pub fn add(command: Command, formats: &'static [&'static str]) -> Command {
    command.args([
        Arg::new("socket")
            .long("socket")
            .value_name("PATH")
            .env("KITHD_SOCKET")
            .value_parser(value_parser!(PathBuf))
            .help("The node's admin socket [default: admin.sock in its state directory]"),
        Arg::new("state_dir")
            .long("state-dir")
            .value_name("DIR")
            .env("KITHD_STATE_DIR")
            .value_parser(value_parser!(PathBuf))
            .help("The node's state directory [default: $XDG_STATE_HOME/kithd or ~/.local/state/kithd; /var/lib/kithd for root]"),
        Arg::new("format")
            .long("format")
            .value_name("FORM")
            .value_parser(formats.to_vec())
            .default_value(formats[0])
            .help("How to print it"),
    ])
}

/// The socket the arguments name. What was typed goes before what the environment says, a socket before a directory.
pub fn socket(matches: &ArgMatches) -> PathBuf {
    let given = |name, source| {
        let matches = matches.get_one::<PathBuf>(name).filter(|_| matches.value_source(name) == Some(source));
        matches.cloned()
    };
    let from = |source| given("socket", source).or_else(|| Some(given("state_dir", source)?.join(socket::NAME)));
    from(ValueSource::CommandLine)
        .or_else(|| from(ValueSource::EnvVariable))
        .unwrap_or_else(|| default_state_dir().join(socket::NAME))
}

/// True if the output is to be JSON.
pub fn json(matches: &ArgMatches) -> bool {
    format(matches) == "json"
}

/// The chosen one of the forms that [`add`] was given.
pub fn format(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("format").map_or(FORMATS[0], String::as_str)
}

/// Why a client verb did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The node, or its absence, said no.
    Node(AdminError),
    /// Standard output did not take what was to be printed.
    Output(io::Error),
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self::Node(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Asks the node and prints what it sent: untouched as JSON, or as `draw` shows it. Gives back the report to judge by.
pub fn show<T: DeserializeOwned>(
    matches: &ArgMatches,
    verb: &Verb,
    draw: impl FnOnce(&T) -> String,
) -> Result<T, Failure> {
    show_what(matches, |client| client.call(verb), draw)
}

/// The same for what is asked in a way of its own.
pub fn show_what<T: DeserializeOwned>(
    matches: &ArgMatches,
    ask: impl FnOnce(&mut Client) -> Result<Box<RawValue>, AdminError>,
    draw: impl FnOnce(&T) -> String,
) -> Result<T, Failure> {
    let raw = ask(&mut Client::connect(&socket(matches))?)?;
    if json(matches) {
        // Printed before it is understood: a script may know a newer node's fields better than this program.
        terminal::say(&format!("{}\n", escaped_json(raw.get().to_owned())))?;
        return Ok(understood(&raw)?);
    }
    let report = understood(&raw)?;
    terminal::say(&draw(&report))?;
    Ok(report)
}

/// The report in an answer.
pub fn understood<T: DeserializeOwned>(raw: &RawValue) -> Result<T, AdminError> {
    serde_json::from_str(raw.get()).map_err(|error| {
        AdminError::internal(format!(
            "the node's answer is not what this version expects, is it of another one? {error}"
        ))
    })
}

/// The exit code, after one line on standard error if something failed. A reader that has seen enough and closed its
/// end is no failure.
pub fn conclude(verdict: Result<ExitCode, Failure>) -> ExitCode {
    match verdict {
        Ok(code) => code,
        Err(Failure::Node(error)) => {
            terminal::complain(&error.message);
            ExitCode::from(error.exit.max(1))
        }
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => {
            terminal::complain(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_directory_goes_before_the_environment() {
        let socket = |args: &[&str]| {
            let command = add(Command::new("verb").mut_args(|arg| arg.env(None::<&str>)), &FORMATS);
            socket(&command.try_get_matches_from(args).unwrap())
        };
        assert_eq!(socket(&["verb", "--state-dir", "/a"]), PathBuf::from("/a/admin.sock"));
        assert_eq!(socket(&["verb", "--state-dir", "/a", "--socket", "/b"]), PathBuf::from("/b"));
    }
}
