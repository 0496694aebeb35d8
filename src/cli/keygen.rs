//! `kithd keygen`: a new network key.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::terminal;
use crate::secure::network_key::NetworkKey;

/// The verb's arguments.
pub fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Where to write it, mode 0600; a file that exists is not replaced [default: stdout]");
    Command::new("keygen").about("Make a new network key, which every node of a network has to hold").arg(out)
}

/// Makes it and writes it. Nothing of the key is in the arguments or the messages.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let key = match NetworkKey::generate() {
        Ok(key) => key,
        Err(error) => return super::fail(super::INTERNAL, format_args!("no randomness for a key: {error}")),
    };
    let Some(path) = matches.get_one::<PathBuf>("out") else {
        return super::print(&key.to_file());
    };
    match key.write_new(path) {
        Ok(()) => {
            terminal::complain(&format!("network key {} is in {}", key.mark(), path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(
            super::USAGE,
            format_args!("cannot write {}: {error}: choose another file with --out", path.display()),
        ),
    }
}
