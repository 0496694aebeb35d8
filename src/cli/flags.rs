//! Flags that set keys: made of the table of keys, so that none can be forgotten, and read back into it.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{Config, ConfigError, Key, Loaded, Overrides, keys};

/// What stands below the help of flags that set keys.
const LAYERS: &str = "A flag overrides the environment, which overrides the file.\n\
                      A flag that may be repeated makes a list, in place of the file's.";

/// Adds `--config` and a flag for each key: what `kithd run` takes.
pub fn run_args(cmd: Command) -> Command {
    let defaults = Config::default();
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read this file first; without it none is read");
    cmd.arg(file).args(keys().iter().map(|key| key_arg(key, &defaults))).after_help(LAYERS)
}

/// What the flags of [`run_args`] say.
pub fn overrides(matches: &ArgMatches) -> Overrides {
    let mut overrides = Overrides::default();
    for key in keys() {
        if let Ok(Some(words)) = matches.try_get_many::<String>(key.name) {
            overrides.set(key, words.cloned().collect());
        }
    }
    overrides
}

/// The file of `--config`.
pub fn config_file(matches: &ArgMatches) -> Option<&PathBuf> {
    matches.try_get_one("config").ok().flatten()
}

/// The configuration that these flags, the environment and the file ask for.
pub fn load(matches: &ArgMatches) -> Result<Loaded, ConfigError> {
    Config::load(config_file(matches).map(PathBuf::as_path), &overrides(matches))
}

fn key_arg(key: &'static Key, defaults: &Config) -> Arg {
    let default = match key.text(defaults) {
        text if text.is_empty() => String::new(),
        text => format!(" [default: {text}]"),
    };
    let environment = key.environment.map_or(String::new(), |variable| format!(" [env: {variable}]"));
    Arg::new(key.name)
        .long(key.flag.as_str())
        .aliases(key.long_flag.as_deref())
        .value_name(key.placeholder())
        .help(format!("{}{environment}{default}", key.help))
        .help_heading(key.table())
        // So that our own check says what is wrong with `-1`, and not that there is no such flag.
        .allow_negative_numbers(true)
        .action(if key.is_list() { ArgAction::Append } else { ArgAction::Set })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(args: &[&str]) -> ArgMatches {
        run_args(Command::new("run").no_binary_name(true)).try_get_matches_from(args).unwrap()
    }

    #[test]
    fn the_flags_make_a_sound_command() {
        run_args(Command::new("run")).debug_assert();
    }

    #[test]
    fn both_names_of_a_flag_set_its_key_and_lists_repeat_it() {
        for names in [["--listen", "--label"], ["--listen-addresses", "--node-label"]] {
            let [listen, label] = names;
            let args = [listen, "127.0.0.1:1", label, "a", listen, "127.0.0.1:2"];
            let loaded = load(&matches(&args)).unwrap();
            assert_eq!(loaded.config.node.label.as_str(), "a");
            assert_eq!(loaded.config.listen.addresses.iter().map(|a| a.port()).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(loaded.origins.of("listen.addresses").to_string(), "flag --listen");
            assert_eq!(loaded.origins.of("heartbeat.interval").to_string(), "default");
        }
    }
}
