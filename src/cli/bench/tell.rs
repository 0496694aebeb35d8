//! How a bench is shown: a bar while it runs, a table, JSON, and what has changed since another one.

use std::io::{self, IsTerminal, Write};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::figures::{ALL, BenchReport, Figures};
use super::workloads::Workload;
use crate::cli::table::{Align, Cell, Table};
use crate::protocol::escape::escaped;

/// Between two pictures of the bar.
const PERIOD: Duration = Duration::from_millis(250);
/// Its width, in characters.
const WIDTH: usize = 24;

/// A bar on standard error, if that is a terminal.
pub(super) struct Bar {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// For one of so many workloads, which takes about so long.
    pub(super) fn of(workload: &Workload, number: usize, of: usize, span: Duration) -> Self {
        if !io::stderr().is_terminal() {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = bounded(0);
        let title = format!("{number}/{of} {}: {}", workload.name, workload.about);
        let draw = move || {
            let start = Instant::now();
            loop {
                let share = (start.elapsed().as_secs_f64() / span.as_secs_f64()).min(1.0);
                let _ = write!(io::stderr(), "\r\x1b[2K{} {title}", bar(share));
                if stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Disconnected) {
                    let _ = write!(io::stderr(), "\r\x1b[2K");
                    return;
                }
            }
        };
        // Without a thread there is no bar.
        let thread = thread::Builder::new().name("bench-bar".to_owned()).spawn(draw).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bar(share: f64) -> String {
    let full = (share * WIDTH as f64) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full))
}

/// A figure a row: a workload has three or four of them, each in a unit of its own.
pub(super) fn table(report: &BenchReport, old: Option<&BenchReport>, colours: bool) -> String {
    let mut columns = vec![("WORKLOAD", Align::Left), ("FIGURE", Align::Left), ("VALUE", Align::Right)];
    if old.is_some() {
        columns.extend([("BEFORE", Align::Right), ("RATIO", Align::Right)]);
    }
    let mut table = Table::new(&columns);
    for (name, figures) in &report.workloads {
        for (index, (figure, unit, of, more_is_better)) in
            ALL.iter().filter(|(_, _, of, _)| of(figures).is_some()).enumerate()
        {
            let value = of(figures).unwrap_or_default();
            let first = if index == 0 { name.as_str() } else { "" };
            let mut row = vec![Cell::from(first), Cell::from(*figure), Cell::from(text(value, unit))];
            if let Some(old) = old {
                let before = old.workloads.get(name).filter(|old| old.is_like(figures)).and_then(of);
                row.push(Cell::from(before.map_or_else(|| "-".to_owned(), |before| text(before, unit))));
                row.push(Cell::from(
                    before.map_or_else(|| "-".to_owned(), |before| verdict(value, before, *more_is_better)),
                ));
            }
            table.row(row);
        }
    }
    let mut said = table.draw(colours) + "\n";
    said.extend(report.skipped.iter().map(|(name, why)| format!("{name} is left out: {why}\n")));
    said.extend(report.notes.iter().map(|note| format!("{note}\n")));
    if let Some(old) = old.filter(|old| old.machine != report.machine) {
        said += &format!(
            "the two are of different machines or programs: before, {:?}; now, {:?}\n",
            old.machine, report.machine
        );
    }
    if let Some(old) = old.filter(|old| old.against != report.against) {
        let [before, now] = [old, report].map(|one| escaped(&one.against));
        said += &format!("before, it was against {before}; now, against {now}\n");
    }
    said
}

fn text(value: f64, unit: &str) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0} {unit}"),
        value if value >= 10.0 => format!("{value:.1} {unit}"),
        value => format!("{value:.2} {unit}"),
    }
}

/// New to old, and which of them is better if they are not the same.
fn verdict(new: f64, old: f64, more_is_better: bool) -> String {
    let ratio = new / old;
    let word = match (ratio > 1.0) == more_is_better {
        _ if !ratio.is_finite() || (0.95..=1.05).contains(&ratio) => "",
        true => " better",
        false => " worse",
    };
    format!("{ratio:.2}{word}")
}

/// For programs.
pub(super) fn json(report: &BenchReport, old: Option<&BenchReport>) -> String {
    let mut told = serde_json::json!(report);
    if let Some(old) = old {
        let ratios = |(name, figures): (&String, &Figures)| {
            let before = old.workloads.get(name).filter(|old| old.is_like(figures))?;
            let ratio = |figure: &super::figures::Figure| Some((figure.0, figure.2(figures)? / figure.2(before)?));
            Some((name.clone(), ALL.iter().filter_map(ratio).collect::<std::collections::BTreeMap<_, _>>()))
        };
        let ratios: std::collections::BTreeMap<_, _> = report.workloads.iter().filter_map(ratios).collect();
        told["compared"] = serde_json::json!({ "machine": old.machine, "ratios": ratios });
    }
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_which_way_is_better() {
        assert_eq!(verdict(2.0, 1.0, true), "2.00 better");
        assert_eq!(verdict(2.0, 1.0, false), "2.00 worse");
        assert_eq!(verdict(1.02, 1.0, false), "1.02");
        assert_eq!(verdict(1.0, 0.0, true), "inf");
    }

    #[test]
    fn a_bar_is_as_wide_from_beginning_to_end() {
        assert!([0.0, 0.5, 1.0].iter().all(|share| bar(*share).len() == WIDTH + 2));
    }
}
