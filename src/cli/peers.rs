//! `kithd peers`: one row per connection.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::client_args::{self, FORMATS};
use super::table::{Align, Cell, Table, age, millis, short, size};
use crate::admin::api::Verb;
use crate::protocol::message::Purpose;
use crate::protocol::report::{Direction, PeerRow, PeersReport};

/// The verb's arguments.
pub fn command() -> Command {
    let all =
        Arg::new("all").long("all").action(ArgAction::SetTrue).help("Closed connections too, and why they closed");
    client_args::add(Command::new("peers").about("List this node's connections").arg(all), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let all = matches.get_flag("all");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let shown = client_args::show(matches, &Verb::Peers { all }, |report| draw(report, all, now_ms));
    client_args::conclude(shown.map(|_| ExitCode::SUCCESS))
}

/// The table; `all` adds the reasons of closed connections.
pub fn draw(report: &PeersReport, all: bool, now_ms: u64) -> String {
    if report.peers.is_empty() {
        return "no connections\n".to_owned();
    }
    let columns = [
        ("PEER", Align::Right),
        ("DIR", Align::Left),
        ("PURPOSE", Align::Left),
        ("STATE", Align::Left),
        ("ID", Align::Left),
        ("LABEL", Align::Left),
        ("ADDRESS", Align::Left),
        ("SINCE", Align::Right),
        ("RTT", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
        ("QUEUED", Align::Right),
        ("REASON", Align::Left),
    ];
    let mut table = Table::new(if all { &columns } else { &columns[..columns.len() - 1] });
    for peer in &report.peers {
        table.row(row(peer, now_ms));
    }
    table.draw(false)
}

fn row(peer: &PeerRow, now_ms: u64) -> [Cell; 13] {
    let known = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or("-"));
    [
        peer.peer_id.to_string().into(),
        match peer.direction {
            Direction::Outgoing => "→ out".into(),
            Direction::Incoming => "← in".into(),
        },
        match peer.purpose {
            Purpose::Overlay => "overlay".into(),
            Purpose::Ring => "ring".into(),
            Purpose::Probe => "probe".into(),
            Purpose::Application => "application".into(),
        },
        (&peer.state).into(),
        short(peer.id.as_deref().unwrap_or("-")).into(),
        known(&peer.label),
        (&peer.address).into(),
        age(&peer.since, now_ms).into(),
        millis(peer.rtt_ms).into(),
        size(peer.bytes_in).into(),
        size(peer.bytes_out).into(),
        size(peer.queued_bytes).into(),
        peer.close_reason.map(|reason| reason.to_string()).unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reason::Reason;
    use crate::protocol::report::SCHEMA;

    fn report() -> PeersReport {
        let open = PeerRow {
            peer_id: 7,
            direction: Direction::Outgoing,
            purpose: Purpose::Ring,
            state: "established".to_owned(),
            id: Some("1c9f02ab".repeat(8)),
            label: Some("beta".to_owned()),
            address: "127.0.0.1:7101".to_owned(),
            since: "2026-11-21T09:23:05.042Z".to_owned(),
            key: Some("3f9a0c12aabbccdd".to_owned()),
            rtt_ms: Some(0.214),
            heartbeat_outstanding_ms: None,
            bytes_in: 1536,
            bytes_out: 900,
            queued_bytes: 0,
            close_reason: None,
        };
        let closed = PeerRow {
            peer_id: 12,
            direction: Direction::Incoming,
            purpose: Purpose::Overlay,
            state: "closed".to_owned(),
            id: None,
            label: None,
            rtt_ms: None,
            close_reason: Some(Reason::HeartbeatTimeout),
            ..open.clone()
        };
        PeersReport { schema: SCHEMA, peers: vec![open, closed] }
    }

    #[test]
    fn a_row_per_connection() {
        let now = crate::protocol::time::from_rfc3339("2026-11-21T09:26:17.000Z").unwrap();
        assert_eq!(
            draw(&report(), true, now),
            "\
PEER  DIR    PURPOSE  STATE        ID        LABEL  ADDRESS         SINCE      RTT       IN    OUT  QUEUED  REASON
   7  → out  ring     established  1c9f02ab  beta   127.0.0.1:7101  3m11s  0.21 ms  1.5 KiB  900 B     0 B
  12  ← in   overlay  closed       -         -      127.0.0.1:7101  3m11s        -  1.5 KiB  900 B     0 B  heartbeat-timeout
"
        );
        let open = PeersReport { peers: report().peers[..1].to_vec(), ..report() };
        assert!(!draw(&open, false, now).contains("REASON"));
        assert_eq!(draw(&PeersReport { peers: Vec::new(), ..open }, false, now), "no connections\n");
    }
}
