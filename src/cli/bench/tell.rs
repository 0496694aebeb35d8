//! How a bench is shown: a bar while it runs, a table, JSON, and what has changed since another one.

use std::collections::BTreeMap;
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
    let is_rated = old.is_some_and(|old| old.is_comparable(report));
    for (name, figures) in &report.workloads {
        for (index, (figure, unit, of, more_is_better)) in
            ALL.iter().filter(|(_, _, of, _)| of(figures).is_some()).enumerate()
        {
            let value = of(figures).unwrap_or_default();
            let first = if index == 0 { name.as_str() } else { "" };
            let mut row = vec![Cell::from(first), Cell::from(*figure), Cell::from(text(value, unit))];
            if let Some(old) = old {
                let before = old.workloads.get(name).filter(|old| old.is_like(figures)).and_then(of);
                let rated = before.filter(|_| is_rated).and_then(|before| verdict(value, before, *more_is_better));
                row.push(Cell::from(before.map_or_else(|| "-".to_owned(), |before| text(before, unit))));
                row.push(Cell::from(rated.unwrap_or_else(|| "-".to_owned())));
            }
            table.row(row);
        }
    }
    let mut said = table.draw(colours) + "\n";
    said.extend(report.skipped.iter().map(|(name, why)| format!("{name} is left out: {why}\n")));
    said.extend(report.notes.iter().map(|note| format!("{note}\n")));
    said.extend(old.into_iter().flat_map(|old| differences(old, report)).map(|line| format!("{}\n", escaped(&line))));
    said
}

/// What else than the program's speed can be behind a difference, a sentence each.
fn differences(old: &BenchReport, new: &BenchReport) -> Vec<String> {
    let mut said = Vec::new();
    let mut differ = |what: &str, before: String, now: String| {
        if before != now {
            said.push(format!("{what} before: {before}; now: {now}"));
        }
    };
    differ("not rated, as it was against something else", old.against.clone(), new.against.clone());
    differ("not rated, as it was another machine", old.machine.name(), new.machine.name());
    differ("the program", old.machine.program(), new.machine.program());
    differ("seconds for each workload", old.seconds.to_string(), new.seconds.to_string());
    let is_otherwise =
        |(name, figures): &(&String, &Figures)| old.workloads.get(*name).is_some_and(|before| !before.is_like(figures));
    let otherwise: Vec<&str> = new.workloads.iter().filter(is_otherwise).map(|(name, _)| name.as_str()).collect();
    if !otherwise.is_empty() {
        said.push(format!(
            "not compared, as payloads, windows or connections were others before: {}",
            otherwise.join(", ")
        ));
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

/// New to old, and which of them is better if they are not the same. Of what was too short to be measured there is none.
fn verdict(new: f64, old: f64, more_is_better: bool) -> Option<String> {
    if new <= 0.0 || old <= 0.0 {
        return None;
    }
    let ratio = new / old;
    let word = match (ratio > 1.0) == more_is_better {
        _ if (0.95..=1.05).contains(&ratio) => "",
        true => " better",
        false => " worse",
    };
    Some(format!("{ratio:.2}{word}"))
}

/// For programs.
pub(super) fn json(report: &BenchReport, old: Option<&BenchReport>) -> String {
    let mut told = serde_json::json!(report);
    if let Some(old) = old {
        let ratios = |(name, figures): (&String, &Figures)| {
            let before = old.workloads.get(name).filter(|old| old.is_like(figures))?;
            let ratio = |figure: &super::figures::Figure| {
                let (new, old) = (figure.2(figures)?, figure.2(before)?);
                (new > 0.0 && old > 0.0).then_some((figure.0, new / old))
            };
            Some((name.clone(), ALL.iter().filter_map(ratio).collect::<BTreeMap<_, _>>()))
        };
        let rated = report.workloads.iter().filter(|_| old.is_comparable(report));
        let ratios: BTreeMap<_, _> = rated.filter_map(ratios).collect();
        let (machine, against) = (&old.machine, &old.against);
        told["compared"] = serde_json::json!({ "machine": machine, "against": against, "ratios": ratios });
    }
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::system::Machine;

    #[test]
    fn a_ratio_says_which_way_is_better() {
        let rated = |new, old, more_is_better| verdict(new, old, more_is_better).unwrap();
        assert_eq!(rated(2.0, 1.0, true), "2.00 better");
        assert_eq!(rated(2.0, 1.0, false), "2.00 worse");
        assert_eq!(rated(1.02, 1.0, false), "1.02");
        assert_eq!((verdict(1.0, 0.0, true), verdict(0.0, 1.0, false)), (None, None), "the clock ticks every 10 ms");
    }

    #[test]
    fn figures_of_another_machine_are_shown_and_not_rated() {
        let figures = Figures { requests: 1, p50_us: Some(20.0), ..Figures::default() };
        let machine = Machine { cpu: "fast".to_owned(), cores: 2, ..Machine::default() };
        let workloads: BTreeMap<_, _> = [("W1".to_owned(), figures)].into();
        let report = |machine: &Machine, against: &str, seconds: f64| BenchReport {
            schema: 1,
            machine: machine.clone(),
            against: against.to_owned(),
            seconds,
            workloads: workloads.clone(),
            skipped: BTreeMap::new(),
            notes: Vec::new(),
        };
        let now = report(&machine, "pair", 3.0);
        let said =
            |old: &BenchReport| (table(&now, Some(old), false), json(&now, Some(old)).contains("\"p50_us\": 1.0"));
        let (text, is_rated) = said(&report(&machine, "pair", 1.0));
        assert!(text.contains("20.0 µs  20.0 µs   1.00") && is_rated, "{text}");
        assert!(text.contains("seconds for each workload before: 1; now: 3"), "{text}");
        let newer = Machine { version: "9.9".to_owned(), ..machine.clone() };
        let (text, is_rated) = said(&report(&newer, "pair", 3.0));
        assert!(
            is_rated && text.contains("the program before: kithd 9.9 (not optimised), cipher , kernel ; now:"),
            "{text}"
        );
        let slow = Machine { cpu: "slow".to_owned(), ..machine.clone() };
        for (old, why) in [
            (report(&slow, "pair", 3.0), "another machine before: slow with 2 cores, ; now: fast with 2 cores"),
            (report(&machine, "beta", 3.0), "against something else before: beta; now: pair"),
        ] {
            let (text, is_rated) = said(&old);
            assert!(text.contains("20.0 µs  20.0 µs      -") && text.contains(why) && !is_rated, "{text}");
        }
        let mut longer = now.clone();
        longer.workloads.values_mut().for_each(|figures| figures.payload_bytes = Some(4096));
        assert!(said(&longer).0.contains("or connections were others before: W1\n"));
    }

    #[test]
    fn a_bar_is_as_wide_from_beginning_to_end() {
        assert!([0.0, 0.5, 1.0].iter().all(|share| bar(*share).len() == WIDTH + 2));
    }
}
