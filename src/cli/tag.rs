//! `kithd tag`: what this node's user says about it, shown and changed.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::TagsReport;

/// The verb's arguments.
pub fn command() -> Command {
    let about = "Show this node's tags, or change them until its next start";
    let tags = Arg::new("tags")
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .help("To set; all nodes see it in 'kithd network'. None: the tags are shown");
    let remove = Arg::new("remove")
        .long("remove")
        .value_name("KEY")
        .action(ArgAction::Append)
        .help("To remove; may be repeated");
    client_args::add(Command::new("tag").about(about).args([tags, remove]), &FORMATS)
}

/// Asks and prints what the tags are then.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let texts = |name: &str| matches.get_many::<String>(name).into_iter().flatten().cloned().collect();
    let verb = Verb::Tag { tags: texts("tags"), remove: texts("remove") };
    let shown = client_args::show(matches, &verb, draw);
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// A line a tag, in the form in which it would be set.
pub fn draw(report: &TagsReport) -> String {
    match report.tags.is_empty() {
        true => "no tags\n".to_owned(),
        false => report.tags.iter().map(|(key, value)| format!("{}\n", escaped(&format!("{key}={value}")))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::report::SCHEMA;

    #[test]
    fn a_line_a_tag() {
        let tags = [("role", "db"), ("note", "a \u{202e}b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let report = TagsReport { schema: SCHEMA, id: "1".repeat(64), label: "a".to_owned(), tags: tags.into() };
        assert_eq!(draw(&report), "note=a \\u{202e}b\nrole=db\n");
        assert_eq!(draw(&TagsReport { tags: [].into(), ..report }), "no tags\n");
    }
}
