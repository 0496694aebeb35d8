//! The README is what people believe: its tables say what the program does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kithd::cli;
use kithd::config::{Config, keys};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The cells of the rows of the table under that heading, without their backquotes.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = readme();
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split(" | ").map(|cell| cell.trim().replace('`', "")).collect());
    // The heading and the line below it.
    cells.skip(2).collect()
}

#[test]
fn the_configuration_table_holds_every_key_with_its_default() {
    // What depends on the machine, or is nothing, is said in words.
    let in_words = [
        ("node.label", "the host's name"),
        ("node.state_dir", "see below"),
        ("node.tags", "none"),
        ("node.socket", "admin.sock in the state directory"),
        ("listen.advertise", "the listening address"),
        ("network.key_file", "none"),
        ("network.connect", "none"),
        ("network.expect", "none"),
        ("network.allow", "anybody"),
        ("monitor.status_file", "none"),
        ("log.file", "stderr"),
    ];
    let defaults = Config::default();
    let expected: Vec<(String, String)> = keys()
        .iter()
        .map(|key| {
            let words = in_words.iter().find(|(name, _)| *name == key.name);
            (key.name.to_owned(), words.map_or_else(|| key.text(&defaults), |(_, words)| (*words).to_owned()))
        })
        .collect();
    let told: Vec<(String, String)> =
        table("Configuration").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(told, expected);
}

#[test]
fn the_verbs_table_holds_every_verb_and_no_other() {
    let told: BTreeSet<String> = table("Verbs")
        .iter()
        .map(|row| {
            let mut words = row[0].split_whitespace();
            assert_eq!(words.next(), Some("kithd"), "{row:?}");
            words.next().expect("a verb").to_owned()
        })
        .collect();
    let command = cli::command();
    let known: BTreeSet<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    assert_eq!(told, known);
}

/// What the security table names as a promise's test is there, in the file it names.
#[test]
fn each_promise_of_security_has_its_test() {
    let rows = table("Security");
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let (file, test) = row[2].split_once("::").unwrap_or_else(|| panic!("no file::test in {row:?}"));
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {test}()")), "{file} has no test {test}");
    }
}
