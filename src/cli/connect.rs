//! `kithd connect`: dial now, and say how it ended.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::client_args::{self, FORMATS, Failure};
use super::table::short;
use super::terminal;
use crate::admin::api::Verb;
use crate::protocol::escape::escaped;
use crate::protocol::reason::Reason;
use crate::protocol::report::ConnectReport;

/// The verb's arguments.
pub fn command() -> Command {
    let address = Arg::new("address").value_name("ADDRESS").required(true).help("ip:port or name:port");
    let about = "Dial an address now and say how it ended: exit 1 if there is no connection";
    client_args::add(Command::new("connect").about(about).arg(address), &FORMATS)
}

/// Asks, prints and judges.
pub fn run(matches: &ArgMatches) -> ExitCode {
    client_args::conclude(dial(matches))
}

fn dial(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let address = matches.get_one::<String>("address").cloned().unwrap_or_default();
    let report = client_args::show(matches, &Verb::Connect { address }, |report| draw(report).unwrap_or_default())?;
    if draw(&report).is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let reason = match report.reason {
        Some(reason) => explained(reason),
        None => "for no reason the node could name".to_owned(),
    };
    terminal::complain(&format!("no connection to {}: {reason}", report.address));
    Ok(ExitCode::FAILURE)
}

/// The reason as in all tables, and in words what to do about it where a person can do something.
fn explained(reason: Reason) -> String {
    let advice = match reason {
        Reason::ConnectionRefused => "nothing listens there: start a node there, or check the port",
        Reason::Unreachable => "the system knows no way there: check the address and the routes",
        Reason::ConnectTimeout => "nothing answers there: check the address and the firewalls between",
        Reason::NameNotResolved => "the name has no address: check it and the resolver, or give an IP address",
        Reason::HandshakeTimeout => "something listens but is silent: the node hangs, or it is none",
        Reason::NotKithd | Reason::FrameTooLarge => "what answers there is no kithd: check the port",
        Reason::OtherNetwork => "that node is of another network: compare network.name",
        Reason::VersionMismatch => "that node speaks no protocol version in common: update the older one",
        Reason::ClockSkew => "the clocks differ by more than half an hour: set them",
        Reason::Banned => "one of the two nodes has banned the other, or its address: see 'kithd bans' at both",
        Reason::NotAllowed => "one of the two nodes is not on the other's list: see network.allow at both",
        Reason::Myself => "this is the address of the node itself",
        _ => return reason.to_string(),
    };
    format!("{reason}: {advice}")
}

/// `None` if there is no connection.
fn draw(report: &ConnectReport) -> Option<String> {
    let how = match report.outcome.as_str() {
        "connected" => "connected",
        "already-connected" => "already connected",
        _ => return None,
    };
    let node = match (&report.label, &report.id) {
        (Some(label), Some(id)) => format!("{label} ({}) at ", short(id)),
        _ => String::new(),
    };
    Some(format!("{}\n", escaped(&format!("{how} to {node}{}", report.address))))
}
