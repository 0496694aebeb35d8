//! `kithd config check` and `kithd config show`: what a node would run with, without running it.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::flags;
use super::table::{Align, Cell, Table};
use crate::config::{Config, Key, Loaded, keys, service_keys};
use crate::controller::node::network_keys;
use crate::protocol::escape::{escaped, escaped_json};

/// The verb and its flags.
pub fn command() -> Command {
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .value_parser(["table", "json"])
        .default_value("table")
        .help("How to print")
        .display_order(0);
    let check = Command::new("check").about("Say whether a node could run with these flags and this file");
    let show = Command::new("show").about("Print each effective value and where it came from").arg(format);
    Command::new("config")
        .about("Validate a configuration; print each effective value and where it came from")
        .subcommand_required(true)
        .subcommand(flags::run_args(check))
        .subcommand(flags::run_args(show))
}

/// Runs the verb.
pub fn run(matches: &ArgMatches) -> ExitCode {
    // clap lets nothing through but the two subcommands.
    let Some((verb, matches)) = matches.subcommand() else { return ExitCode::from(super::USAGE) };
    let loaded = match flags::load(matches) {
        Ok(loaded) => loaded,
        Err(error) => return super::fail(super::USAGE, error),
    };
    match verb {
        "check" => {
            // A sound file that no node of this version would start with.
            if let Err(error) = network_keys(&loaded.config) {
                return super::fail(super::NOT_STARTED, error);
            }
            let file = flags::config_file(matches).map(|path| path.display().to_string());
            super::print(&format!("{}: ok\n", escaped(file.as_deref().unwrap_or("configuration"))))
        }
        _ if matches.get_one::<String>("format").is_some_and(|format| format == "json") => {
            super::print(&pretty(&as_json(&loaded)))
        }
        _ => super::print(&as_table(&loaded)),
    }
}

/// What the bounds on queues follow.
const BUDGET: &str = "limits.memory_budget";

/// One key with the value that is in effect, and where that came from.
struct Row {
    key: String,
    words: Vec<String>,
    json: Value,
    from: String,
}

/// Every key, those of the services that there are last.
fn rows(loaded: &Loaded) -> Vec<Row> {
    let Loaded { config, origins, .. } = loaded;
    let in_effect = Config { limits: config.limits.in_effect(), ..config.clone() };
    let from = |key: &str| origins.of(key).to_string();
    let row = |key: &Key| {
        let (set, json) = (key.json(config), key.json(&in_effect));
        let decisive = if set == json { key.name } else { BUDGET };
        Row { key: key.name.to_owned(), words: key.words(&in_effect), json, from: from(decisive) }
    };
    let mut rows: Vec<Row> = keys().iter().map(row).collect();
    for (name, service) in &config.services {
        rows.extend(service_keys().iter().map(|key| {
            let (words, json, key) = (key.words(service), key.json(service), key.name_of(name));
            Row { from: from(&key), key, words, json }
        }));
    }
    rows
}

fn as_table(loaded: &Loaded) -> String {
    let mut table = Table::new(&[("key", Align::Left), ("value", Align::Left), ("from", Align::Left)]);
    for Row { key, words, from, .. } in rows(loaded) {
        let value = words.join(", ");
        let value = if value.is_empty() { "-".to_owned() } else { value };
        table.row([key, value, from].map(Cell::from));
    }
    table.draw(false)
}

fn as_json(loaded: &Loaded) -> Value {
    let row = |Row { key, json, from, .. }: Row| json!({ "key": key, "value": json, "from": from });
    json!({ "schema": 1, "keys": rows(loaded).into_iter().map(row).collect::<Vec<_>>() })
}

/// Over several lines, none of which a value can break or turn about.
fn pretty(json: &Value) -> String {
    format!("{json:#}\n").split_inclusive('\n').map(|line| escaped_json(line.trim_end().to_owned()) + "\n").collect()
}
