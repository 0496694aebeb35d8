//! `kithd ban`, `kithd unban` and `kithd bans`: who is kept out.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use super::table::{Align, Cell, Table, short, span};
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::report::{BanReport, BanRow, BansReport, UnbanReport};
use crate::protocol::time::from_rfc3339;

/// The arguments of `ban`.
pub fn command() -> Command {
    let about = "Keep a node or addresses out: close its connections, refuse new ones, do not dial it";
    let span = Arg::new("for").long("for").value_name("DURATION").help("Until then, as in 1h [default: 24h]");
    let reason = Arg::new("reason").long("reason").value_name("TEXT").help("Why, for whoever reads the list");
    client_args::add(Command::new("ban").about(about).args([target(), span, reason]), &FORMATS)
}

/// The arguments of `unban`.
pub fn unban_command() -> Command {
    client_args::add(Command::new("unban").about("Take a ban back").arg(target()), &FORMATS)
}

/// The arguments of `bans`.
pub fn bans_command() -> Command {
    client_args::add(Command::new("bans").about("List who is kept out, until when, and why"), &FORMATS)
}

/// Bans.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let verb = Verb::Ban { target: text("target").unwrap_or_default(), span: text("for"), reason: text("reason") };
    let shown = client_args::show(matches, &verb, |report: &BanReport| {
        let closed = match report.closed.len() {
            0 => String::new(),
            1 => "; 1 connection closes".to_owned(),
            several => format!("; {several} connections close"),
        };
        format!("{} is banned until {}{closed}\n", who(&report.ban), escaped(&report.ban.until))
    });
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// Takes a ban back.
pub fn run_unban(matches: &ArgMatches) -> ExitCode {
    let target = matches.get_one::<String>("target").cloned().unwrap_or_default();
    let draw = |report: &UnbanReport| format!("{} is banned no more\n", who(&report.ban));
    let shown = client_args::show(matches, &Verb::Unban { target }, draw);
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// Lists.
pub fn run_bans(matches: &ArgMatches) -> ExitCode {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let shown = client_args::show(matches, &Verb::Bans, |report| draw(report, now_ms));
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// The table of bans.
pub fn draw(report: &BansReport, now_ms: u64) -> String {
    if report.bans.is_empty() {
        return "no bans\n".to_owned();
    }
    let columns = [
        ("NODE", Align::Left),
        ("LABEL", Align::Left),
        ("ADDRESS", Align::Left),
        ("UNTIL", Align::Left),
        ("LEFT", Align::Right),
        ("REASON", Align::Left),
    ];
    let mut table = Table::new(&columns);
    let known = |text: Option<&str>| Cell::from(text.unwrap_or("-"));
    for ban in &report.bans {
        let left = from_rfc3339(&ban.until).map(|until| span(until.saturating_sub(now_ms) as f64 / 1000.0));
        table.row([
            known(ban.id.as_deref().map(short)),
            known(ban.label.as_deref()),
            known(ban.address.as_deref()),
            Cell::from(&ban.until),
            known(left.as_deref()),
            known(ban.reason.as_deref()),
        ]);
    }
    table.draw(false)
}

fn target() -> Arg {
    let help = "A node's label, id or unique beginning of its id; an address; or a range of them, as 10.0.0.0/8";
    Arg::new("target").value_name("NODE|ADDRESS").required(true).help(help)
}

fn who(ban: &BanRow) -> String {
    let id = ban.id.as_deref().map(short);
    let name = match (&ban.label, id, &ban.address) {
        (Some(label), Some(id), _) => format!("{label} ({id})"),
        (None, Some(id), _) => format!("node {id}"),
        (_, None, address) => address.clone().unwrap_or_default(),
    };
    escaped(&name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::report::SCHEMA;

    #[test]
    fn a_row_per_ban() {
        let node = BanRow {
            id: Some("1c9f02ab".repeat(8)),
            address: None,
            label: Some("gamma".to_owned()),
            until: "2026-11-21T10:23:05.000Z".to_owned(),
            reason: Some("turns \u{202e}text about".to_owned()),
        };
        let range =
            BanRow { id: None, address: Some("10.0.0.0/8".to_owned()), label: None, reason: None, ..node.clone() };
        let report = BansReport { schema: SCHEMA, bans: vec![node, range] };
        let now = from_rfc3339("2026-11-21T09:23:00.000Z").unwrap();
        assert_eq!(
            draw(&report, now),
            "\
NODE      LABEL  ADDRESS     UNTIL                      LEFT  REASON
1c9f02ab  gamma  -           2026-11-21T10:23:05.000Z  1h00m  turns \\u{202e}text about
-         -      10.0.0.0/8  2026-11-21T10:23:05.000Z  1h00m  -
"
        );
        assert_eq!(draw(&BansReport { bans: Vec::new(), ..report }, now), "no bans\n");
    }
}
