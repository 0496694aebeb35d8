//! `kithd status`: this node's report on a page, once or every second.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::value::RawValue;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::client_args::{self, FORMATS, Failure};
use super::table::{millis, short, size, span};
use super::{network, terminal};
use crate::admin::api::{AdminError, Verb};
use crate::admin::client::Client;
use crate::protocol::escape::escaped;
use crate::protocol::report::Report;

/// From one page of `--watch` to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// The verb's arguments.
pub fn command() -> Command {
    let watch = Arg::new("watch").long("watch").action(ArgAction::SetTrue).help("Again every second, until Ctrl-C");
    client_args::add(Command::new("status").about("Show this node's report").arg(watch), &FORMATS)
}

/// Asks and prints.
pub fn run(matches: &ArgMatches) -> ExitCode {
    client_args::conclude(match matches.get_flag("watch") {
        true => watch(matches),
        false => client_args::show(matches, &Verb::Status, draw).map(|_| ExitCode::SUCCESS),
    })
}

/// The page: who, the network, the traffic, the process, and what is wrong, if anything.
pub fn draw(report: &Report) -> String {
    let mut page = Page(String::new());
    who(report, &mut page);
    page.gap();
    traffic(report, &mut page);
    page.gap();
    process(report, &mut page);
    let mut trouble = Page(String::new());
    trouble.line_unless_empty("dropped", &counted(&report.dropped).unwrap_or_default());
    trouble.line_unless_empty("refused", &counted(&report.refused).unwrap_or_default());
    trouble.line_unless_empty("missing", &report.expected_missing.join(", "));
    for warning in &report.warnings {
        trouble.line("warning", warning);
    }
    if !trouble.0.is_empty() {
        page.gap();
    }
    page.0 + &trouble.0
}

fn who(report: &Report, page: &mut Page) {
    let listen: Vec<String> = report.listen.iter().map(ToString::to_string).collect();
    let (view, peers) = (&report.network_view, &report.peers);
    let states = [(view.up, "up"), (view.suspect, "suspect"), (view.down, "down"), (view.left, "left")];
    let states: Vec<String> = states
        .iter()
        .filter(|(count, word)| *count > 0 || *word == "up")
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let (id, up) = (short(&report.id), span(report.uptime_seconds));
    page.line("node", &format!("{} ({id}), kithd {}, running for {up}", report.label, report.version));
    page.line("address", &format!("{}, listening on {}", report.advertise, listen.join(", ")));
    page.line(
        "network",
        &format!("{}: {} nodes ({}), {} edges", report.network, view.nodes, states.join(", "), view.edges),
    );
    page.line("agreement", &network::agreement(&view.agreement, &view.digest));
    page.line(
        "peers",
        &format!(
            "{} outgoing, {} incoming, {} handshaking, {} addresses known",
            peers.outgoing, peers.incoming, peers.handshaking, peers.known_addresses
        ),
    );
}

fn traffic(report: &Report, page: &mut Page) {
    let (beat, flow, requests) = (&report.heartbeat, &report.traffic, &report.requests);
    let rtt = match &beat.rtt_ms {
        Some(rtt) => format!("; round trip {}, p99 {}", millis(Some(rtt.p50)), millis(Some(rtt.p99))),
        None => String::new(),
    };
    page.line(
        "heartbeat",
        &format!("{} sent, {} answered, {} timed out{rtt}", beat.sent, beat.answered, beat.timed_out),
    );
    page.line(
        "traffic",
        &format!(
            "{} in ({} frames), {} out ({} frames)",
            size(flow.bytes_in),
            flow.frames_in,
            size(flow.bytes_out),
            flow.frames_out
        ),
    );
    page.line(
        "requests",
        &format!(
            "{} issued, {} answered, {} failed; {} served, {} unserved{}",
            requests.issued,
            requests.answered,
            requests.failed,
            requests.served,
            requests.unserved,
            counted(&requests.refused).map(|refused| format!("; refused: {refused}")).unwrap_or_default()
        ),
    );
}

fn process(report: &Report, page: &mut Page) {
    let memory = &report.memory;
    page.line("threads", &format!("{}, woken {:.1} times a second", report.threads, report.wakeups_per_second));
    page.line(
        "memory",
        &format!(
            "{} resident, {} of {} queued",
            size(memory.rss_bytes),
            size(memory.queued_bytes),
            size(memory.budget_bytes)
        ),
    );
}

/// How often each was, if any.
fn counted(counts: &BTreeMap<impl Display, u64>) -> Option<String> {
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// A page of named lines.
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        self.0 += &format!("{name:<9}  {}\n", escaped(text));
    }

    fn line_unless_empty(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.line(name, text);
        }
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

/// Pages until a signal or the node's end. The node is asked by a thread of its own, so that Ctrl-C ends a watch whose
/// node hangs; that thread ends with the process.
fn watch(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let (json, screen) = (client_args::json(matches), terminal::watched());
    let interrupted = interruptions()?;
    let (_watching, watched) = bounded(0);
    let (sender, answers) = bounded(0);
    let socket = client_args::socket(matches);
    spawn("watch", move || poll(&socket, &sender, &watched))?;
    let mut first = true;
    loop {
        let answer = select! {
            recv(interrupted) -> _ => return Ok(ExitCode::SUCCESS),
            recv(answers) -> answer => answer,
        };
        let Ok(answer) = answer else { return Err(AdminError::internal("the thread that asks has failed").into()) };
        let raw = answer?;
        terminal::say(&match (json, screen) {
            (true, _) => format!("{}\n", raw.get()),
            (false, true) => redrawn(&draw(&client_args::understood(&raw)?), first),
            (false, false) => format!("{}{}", if first { "" } else { "\n" }, draw(&client_args::understood(&raw)?)),
        })?;
        first = false;
    }
}

type Asked = Result<Box<RawValue>, AdminError>;

/// Asks once a period on one connection, until there is an error or nobody watches.
fn poll(socket: &Path, answers: &Sender<Asked>, watched: &Receiver<()>) {
    let mut client = match Client::connect(socket) {
        Ok(client) => client,
        Err(error) => return drop(answers.send(Err(error))),
    };
    loop {
        let next = Instant::now() + PERIOD;
        let answer = client.call(&Verb::Status);
        let over = answer.is_err();
        if answers.send(answer).is_err() || over || !watched.recv_deadline(next).is_err_and(|error| error.is_timeout())
        {
            return;
        }
    }
}

/// A channel that has something once the user wants an end.
fn interruptions() -> Result<Receiver<()>, AdminError> {
    let (sender, receiver) = bounded(1);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| AdminError::internal(error.to_string()))?;
    spawn("signals", move || {
        signals.forever().next();
        // Full or closed: it is known, or does not matter any more.
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), AdminError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|error| AdminError::internal(format!("no thread {name}: {error}")))
}

/// The page over the previous one: from the top, each line cleared to its end, then whatever is below.
fn redrawn(page: &str, first: bool) -> String {
    let clear = if first { "\u{1b}[2J" } else { "" };
    format!("{clear}\u{1b}[H{}\u{1b}[J", page.replace('\n', "\u{1b}[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reason::Reason;
    use crate::protocol::report::*;
    use crate::protocol::requests::message::Refusal;

    fn report() -> Report {
        Report {
            schema: SCHEMA,
            id: "1c9f02ab".repeat(8),
            label: "alpha".to_owned(),
            version: "0.1.0".to_owned(),
            network: "kith".to_owned(),
            uptime_seconds: 192.3,
            listen: vec!["127.0.0.1:7100".parse().unwrap()],
            advertise: "127.0.0.1:7100".parse().unwrap(),
            peers: PeerCounts { outgoing: 1, incoming: 2, handshaking: 0, known_addresses: 5 },
            network_view: ViewCounts {
                nodes: 4,
                up: 3,
                suspect: 0,
                down: 1,
                left: 0,
                edges: 4,
                digest: "3f9a0c12".repeat(8),
                agreement: AgreementReport {
                    agreeing: 3,
                    live: 3,
                    unanimous: true,
                    radius: 2,
                    age_seconds: 1.4,
                    since: "2026-11-21T09:23:05.042Z".to_owned(),
                    held_seconds: 192.4,
                },
            },
            heartbeat: HeartbeatCounts {
                sent: 190,
                answered: 380,
                timed_out: 1,
                rtt_ms: Some(RttSummary { p50: 0.21, p99: 12.3 }),
            },
            traffic: Traffic { bytes_in: 1_258_291, bytes_out: 900, frames_in: 640, frames_out: 20 },
            requests: RequestCounts::default(),
            dropped: BTreeMap::new(),
            refused: BTreeMap::new(),
            threads: 12,
            memory: Memory { rss_bytes: 14 << 20, budget_bytes: 64 << 20, queued_bytes: 0 },
            wakeups_per_second: 4.25,
            expected_missing: Vec::new(),
            warnings: Vec::new(),
        }
    }

    const CALM: &str = "\
node       alpha (1c9f02ab), kithd 0.1.0, running for 3m12s
address    127.0.0.1:7100, listening on 127.0.0.1:7100
network    kith: 4 nodes (3 up, 1 down), 4 edges
agreement  3 of 3 nodes agree on view 3f9a0c12, radius 2, for 3m12s (within 1.4 s)
peers      1 outgoing, 2 incoming, 0 handshaking, 5 addresses known

heartbeat  190 sent, 380 answered, 1 timed out; round trip 0.21 ms, p99 12.3 ms
traffic    1.2 MiB in (640 frames), 900 B out (20 frames)
requests   0 issued, 0 answered, 0 failed; 0 served, 0 unserved

threads    12, woken 4.2 times a second
memory     14 MiB resident, 0 B of 64 MiB queued
";

    #[test]
    fn a_page_tells_the_report() {
        assert_eq!(draw(&report()), CALM);
    }

    #[test]
    fn trouble_stands_at_the_end() {
        let troubled = Report {
            dropped: [(Reason::Malformed, 2), (Reason::Overloaded, 1)].into(),
            expected_missing: vec!["gamma".to_owned(), "delta".to_owned()],
            warnings: vec!["the disk is full\u{1b}[31m".to_owned()],
            ..report()
        };
        let trouble = "
dropped    2 malformed, 1 overloaded
missing    gamma, delta
warning    the disk is full\\u{1b}[31m
";
        assert_eq!(draw(&troubled), format!("{CALM}{trouble}"));
    }

    #[test]
    fn refused_requests_are_told_by_their_cause() {
        let refused = [(Refusal::UnknownService, 2), (Refusal::Overloaded, 1)].into();
        let requests = RequestCounts { issued: 3, served: 7, unserved: 1, refused, ..RequestCounts::default() };
        let line = "requests   3 issued, 0 answered, 0 failed; 7 served, 1 unserved; refused: 2 unknown-service, 1 overloaded\n";
        assert!(draw(&Report { requests, ..report() }).contains(line));
    }

    #[test]
    fn a_redrawn_page_leaves_nothing_of_the_last_one() {
        assert_eq!(redrawn("a\nb\n", true), "\u{1b}[2J\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
        assert!(!redrawn("a\n", false).contains("[2J"));
    }
}
