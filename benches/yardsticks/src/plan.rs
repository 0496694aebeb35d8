//! What is measured, and for how long: the arguments that all yardsticks take.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// The workloads of `kithd bench`, by their names there. Only that program tells where an answer is made apart (`_inline`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Workload {
    /// ping: one caller, one in flight, 64 B
    W1,
    /// pipelined: one caller, a window of 128, 64 B
    W2,
    /// 128 callers that wait, on one connection, 64 B
    W2c,
    /// 128 callers as the system likes them best, on one connection, 64 B
    W2p,
    /// fan-in: 64 connections, a window of 16 each, 64 B
    W3,
    /// bulk: 1 MiB there and back, four in flight
    W4,
    /// 1,000 idle peers
    W5,
    /// connect, one request, close
    W6,
}

/// What to measure.
#[derive(Args, Debug)]
pub struct Plan {
    /// Only these, as in W1,W2
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    workloads: Vec<Workload>,
    /// How long each is measured: 500ms, 3s, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = span)]
    pub span: Duration,
    /// Answers, for the process that has started this one.
    #[arg(long, hide = true)]
    pub serve: bool,
}

impl Plan {
    /// Those that were asked for, in their order.
    pub fn chosen(&self) -> impl Iterator<Item = Workload> {
        let is_chosen = |one: &Workload| self.workloads.is_empty() || self.workloads.contains(one);
        Workload::value_variants().iter().copied().filter(is_chosen)
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().map(|number| number * unit).unwrap_or_default();
    if (0.1..=3600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("must be 100ms to 3600s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_seconds_unless_it_says_otherwise() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!([span("2s"), span("2")], [const { Ok(Duration::from_secs(2)) }; 2]);
        assert!(["", "s", "0", "-1", "1h", "nan", "99ms"].into_iter().all(|text| span(text).is_err()));
    }
}
