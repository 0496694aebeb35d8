//! Monitor status, `ctl-status`: on a tick, on SIGUSR1 or on request it analyses the controller's data and produces a
//! report, which is handed over or dumped. It is also the loop that writes what is kept over a restart: of all loops the
//! one whose waiting for a disk harms nobody.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::io::Errno;

use super::lines::StatusCall;
use super::log_watch::LogWatch;
use super::registry::Registry;
use super::state_dir::StateDir;
use super::whole_file::replace;
use crate::protocol::escape::escaped_json;
use crate::protocol::reason::Reason;
use crate::protocol::report::{HeartbeatCounts, Memory, PeersReport, Report, RequestCounts, SCHEMA, Traffic};
use crate::secure::network_key::NetworkKey;

/// From the first change to its writing: a network that forms changes a hundred times in this time.
const SAVE_DELAY: Duration = Duration::from_millis(300);
/// After a write that failed, for instance on a full disk; each further one waits twice as long, up to the second. What has
/// room again is used soon, and a disk that is gone for a day is asked a few thousand times.
const SAVE_RETRY: Duration = Duration::from_secs(1);
const MAX_SAVE_RETRY: Duration = Duration::from_secs(30);
/// Wake-ups are counted over at least this long.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// What does not change while the node runs.
pub struct About {
    /// The node's label.
    pub label: String,
    /// The network's name.
    pub network: String,
    /// Where it listens.
    pub listen: Vec<std::net::SocketAddr>,
    /// What it tells others.
    pub advertise: std::net::SocketAddr,
    /// Bound on the bytes queued for all peers.
    pub budget: u64,
    /// What became of the log, if somebody told how to know.
    pub log: OnceLock<LogWatch>,
}

/// The loop and what it remembers between reports.
pub struct MonitorStatus {
    registry: Arc<Registry>,
    about: Arc<About>,
    state: StateDir,
    period: Duration,
    file: Option<PathBuf>,
    window: Window,
    next_dump: Instant,
    next_save: Option<Instant>,
    /// How long to wait if the next write fails.
    retry: Duration,
}

/// Over which the rate of wake-ups is taken.
struct Window {
    began: Instant,
    count: u64,
    rate: f64,
}

impl MonitorStatus {
    /// A loop that has not begun. `file`: where reports are dumped, each in place of the one before.
    pub fn new(
        registry: Arc<Registry>,
        about: Arc<About>,
        state: StateDir,
        period: Duration,
        file: Option<PathBuf>,
    ) -> Self {
        let window = Window { began: Instant::now(), count: 0, rate: 0.0 };
        let (next_dump, next_save, retry) = (Instant::now(), None, SAVE_RETRY);
        Self { registry, about, state, period, file, window, next_dump, next_save, retry }
    }

    /// Runs until it is told to stop; what is to be kept is then written once more.
    pub fn run(mut self, calls: &Receiver<StatusCall>) {
        if self.file.is_some() {
            self.dump();
        }
        self.next_dump = Instant::now() + self.period;
        loop {
            let next = self.next_save.map_or(self.next_dump, |save| save.min(self.next_dump));
            let call = calls.recv_timeout(next.saturating_duration_since(Instant::now()));
            self.registry.around.wakeups.fetch_add(1, Ordering::Relaxed);
            match call {
                Ok(StatusCall::Report(answer)) => answer(self.report()),
                Ok(StatusCall::Dump) => {
                    self.dump_to_log();
                    self.dump();
                }
                Ok(StatusCall::Save) => {
                    self.next_save.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
                }
                Ok(StatusCall::SaveNow(then)) => {
                    self.save();
                    then();
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Ok(StatusCall::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.save();
                    return;
                }
            }
        }
    }

    fn tick(&mut self) {
        self.registry.sum_up_log();
        let now = Instant::now();
        if self.next_save.is_some_and(|save| save <= now) {
            self.save();
        }
        if self.next_dump <= now {
            self.next_dump = now + self.period;
            self.dump();
        }
    }

    fn save(&mut self) {
        let memory = self.registry.read(|node, _| node.memory());
        let problem = match self.state.save(&memory) {
            Ok(()) => {
                (self.next_save, self.retry) = (None, SAVE_RETRY);
                None
            }
            Err(error) => {
                self.next_save = Some(Instant::now() + self.retry);
                self.retry = (self.retry * 2).min(MAX_SAVE_RETRY);
                let cure = cure(&error);
                Some(format!(
                    "known.json cannot be written: {error}: {cure}; the node goes on from memory and tries again"
                ))
            }
        };
        self.complain("state", problem);
    }

    /// One line of summary in the log, and the whole report to the file if there is one.
    fn dump(&mut self) {
        let report = self.report();
        let view = &report.network_view;
        log::info!(
            "{} of {} nodes agree on view {}; {} up, {} down; {} edges out, {} in",
            view.agreement.agreeing,
            view.agreement.live,
            &view.digest[..8],
            view.up,
            view.down,
            report.peers.outgoing,
            report.peers.incoming,
        );
        if !report.expected_missing.is_empty() {
            log::warn!("expected and not here: {}; see 'kithd status'", report.expected_missing.join(", "));
        }
        let Some(file) = self.file.clone() else { return };
        let written = serde_json::to_string(&report)
            .map_err(std::io::Error::from)
            .and_then(|text| replace(&file, (escaped_json(text) + "\n").as_bytes()));
        let problem = written.err().map(|error| format!("status file {} cannot be written: {error}", file.display()));
        self.complain("status-file", problem);
    }

    fn dump_to_log(&mut self) {
        match serde_json::to_string(&self.report()) {
            Ok(text) => log::info!("report: {}", escaped_json(text)),
            Err(error) => log::error!("the report cannot be written: {error}"),
        }
    }

    /// In the log once, and among the report's warnings until it is over.
    fn complain(&self, about: &'static str, problem: Option<String>) {
        let is_news = self.registry.think(|node, _, _| {
            let known = node.has_warning(about);
            node.warn(about, problem.clone());
            !known
        });
        if let Some(problem) = problem.filter(|_| is_news) {
            log::warn!("{problem}");
        }
    }

    fn report(&mut self) -> Report {
        let rate = self.window.rate(self.registry.around.wakeups.load(Ordering::Relaxed));
        let beats = self.registry.beats();
        let totals = self.registry.around.reactor.traffic().counts();
        let (about, around) = (&self.about, &self.registry.around);
        let log = about.log.get().map(|look| look()).unwrap_or_default();
        let mut report = self.registry.read(|node, now| Report {
            schema: SCHEMA,
            id: node.id().hex(),
            label: about.label.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: about.network.clone(),
            uptime_seconds: around.clock.uptime().as_secs_f64(),
            listen: about.listen.clone(),
            advertise: about.advertise,
            peers: node.peer_counts(),
            network_view: node.view_counts(now),
            heartbeat: HeartbeatCounts {
                sent: beats,
                answered: around.answered.load(Ordering::Relaxed),
                timed_out: node.timed_out(),
                rtt_ms: node.round_trips(),
            },
            traffic: Traffic {
                bytes_in: totals.bytes_in,
                bytes_out: totals.bytes_out,
                frames_in: totals.frames_in,
                frames_out: totals.frames_out,
            },
            requests: requests(&around.services.counts),
            dropped: node.dropped().clone(),
            refused: node.refused().clone(),
            threads: process_status("Threads:"),
            memory: Memory {
                rss_bytes: process_status("VmRSS:") * 1024,
                budget_bytes: about.budget,
                queued_bytes: around.budget.used() as u64,
            },
            wakeups_per_second: rate,
            expected_missing: node.expected_missing(),
            warnings: [
                node.warnings(),
                node.warnings_of_absence(now),
                node.warning_of_doubt(now).into_iter().collect(),
            ]
            .concat(),
        });
        if log.dropped > 0 {
            report.dropped.insert(Reason::LogFull, log.dropped);
        }
        report.warnings.extend(log.trouble);
        report
    }
}

/// What applications asked, and what became of it.
fn requests(counts: &crate::services::Counts) -> RequestCounts {
    RequestCounts {
        issued: counts.issued.load(Ordering::Relaxed),
        answered: counts.answered.load(Ordering::Relaxed),
        served: counts.served.load(Ordering::Relaxed),
        failed: counts.failed.load(Ordering::Relaxed),
        unserved: counts.unserved.load(Ordering::Relaxed),
        refused: counts.refused().filter(|(_, times)| *times > 0).collect(),
    }
}

/// The marks of the network keys, the one that is dialled with first; none of a node without a network key.
pub fn keys(registry: &Registry) -> Vec<String> {
    let marks = registry.around.keys.marks().into_iter();
    marks.filter(|mark| *mark != NetworkKey::none().mark()).map(|mark| mark.to_string()).collect()
}

/// Every connection, with its traffic; the closed ones too if `all`.
pub fn peers(registry: &Registry, all: bool) -> PeersReport {
    let (open, closed) = registry.gauges();
    let (mut rows, ended, now) = registry.read(|node, now| {
        let ended = if all { node.closed_rows(now) } else { Vec::new() };
        (node.peer_rows(now), ended, now)
    });
    for row in &mut rows {
        let Some(gauge) = open.get(&crate::protocol::identity::PeerId(row.peer_id)) else { continue };
        let traffic = gauge.traffic();
        (row.bytes_in, row.bytes_out) = (traffic.bytes_in, traffic.bytes_out);
        row.queued_bytes = gauge.queued() as u64;
        row.heartbeat_outstanding_ms =
            gauge.outstanding_since().map(|since| now.mono.since(since).as_secs_f64() * 1000.0);
    }
    for mut row in ended {
        let peer = crate::protocol::identity::PeerId(row.peer_id);
        // One that has ended a moment ago is still among the others.
        if let Some(traffic) = closed.get(&peer).copied().or_else(|| open.get(&peer).map(|gauge| gauge.traffic())) {
            (row.bytes_in, row.bytes_out) = (traffic.bytes_in, traffic.bytes_out);
        }
        rows.push(row);
    }
    let none = NetworkKey::none().mark().to_string();
    for row in &mut rows {
        // The key of those who have none is no secret and no key.
        row.key.take_if(|key| *key == none);
    }
    rows.sort_by_key(|row| row.peer_id);
    PeersReport { schema: SCHEMA, peers: rows }
}

impl Window {
    fn rate(&mut self, count: u64) -> f64 {
        let span = self.began.elapsed();
        if span >= SHORTEST_WINDOW {
            self.rate = (count - self.count) as f64 / span.as_secs_f64();
            (self.began, self.count) = (Instant::now(), count);
        } else if self.count == 0 {
            self.rate = count as f64 / span.as_secs_f64().max(0.001);
        }
        (self.rate * 100.0).round() / 100.0
    }
}

/// What helps against a write that failed.
fn cure(cause: &io::Error) -> &'static str {
    if matches!(Errno::from_io_error(cause), Some(Errno::MFILE | Errno::NFILE)) {
        return "raise the limit of open files, or lower what limits says of connections";
    }
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room in the state directory",
        ErrorKind::ReadOnlyFilesystem => "mount the state directory for writing",
        ErrorKind::PermissionDenied => "let the node write to its state directory",
        _ => "see to the disk of the state directory",
    }
}

/// A number of `/proc/self/status`; 0 where there is no such file.
fn process_status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
