//! What is measured, under the names that `kithd bench --format json` gives it.

use std::time::Duration;

use serde::Serialize;

use crate::LARGE;
use crate::plan::Workload;

/// What a load has come to.
#[derive(Default, Debug)]
pub struct Loaded {
    /// Requests that were answered as they should.
    pub answered: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Round trips in nanoseconds, in any order; of [`Workload::W1`] only.
    pub trips: Vec<u32>,
}

/// Of one workload; which of them there are depends on what it is about.
#[derive(Default, Debug, Serialize)]
pub struct Figures {
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p999_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<f64>,
    /// Of both ends together.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_cpu_us_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us_per_request: Option<f64>,
    /// Millions of bytes of payload, those of requests and of answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    mb_per_second: Option<f64>,
    /// Of the server, for each idle peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_kib_per_peer: Option<f64>,
    /// Half of what the kernel keeps for both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_kib_per_peer: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us_per_connection: Option<f64>,
}

impl Figures {
    /// Of a load, and of the processor's time that both ends used for it.
    pub(crate) fn of(workload: Workload, mut loaded: Loaded, client: Duration, server: Duration) -> Self {
        let count = loaded.answered;
        let rate = |of: f64| (!loaded.elapsed.is_zero()).then(|| of / loaded.elapsed.as_secs_f64());
        let is = |one: Workload| workload == one;
        loaded.trips.sort_unstable();
        Self {
            requests: count,
            p50_us: percentile(&loaded.trips, 500),
            p99_us: percentile(&loaded.trips, 990),
            p999_us: percentile(&loaded.trips, 999),
            requests_per_second: rate(count as f64).filter(|_| !is(Workload::W4) && !is(Workload::W6)),
            cpu_us_per_request: each(client + server, count),
            client_cpu_us_per_request: each(client, count),
            server_cpu_us_per_request: each(server, count),
            mb_per_second: rate(count as f64 * 2.0 * LARGE as f64 / 1e6).filter(|_| is(Workload::W4)),
            connections_per_second: rate(count as f64).filter(|_| is(Workload::W6)),
            server_cpu_us_per_connection: each(server, count).filter(|_| is(Workload::W6)),
            ..Self::default()
        }
    }

    /// Of peers on whose connections nothing happens.
    pub(crate) fn of_idle(rss_kib: f64, kernel_kib: f64, cpu_percent: f64) -> Self {
        Self {
            rss_kib_per_peer: Some(rss_kib),
            kernel_kib_per_peer: Some(kernel_kib),
            idle_cpu_percent: Some(cpu_percent),
            ..Self::default()
        }
    }
}

/// In microseconds, of round trips in nanoseconds, the shortest first; 999 is the 99.9th percentile.
fn percentile(trips: &[u32], per_mille: usize) -> Option<f64> {
    let at = (trips.len() * per_mille / 1000).min(trips.len().checked_sub(1)?);
    Some(f64::from(trips[at]) / 1000.0)
}

/// So much for each of so many.
fn each(all: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| all.as_secs_f64() * 1e6 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_has_the_figures_it_is_about() {
        let of = |workload| {
            let loaded = Loaded { answered: 10, elapsed: Duration::from_secs(2), trips: vec![3000, 1000, 2000] };
            Figures::of(workload, loaded, Duration::from_micros(10), Duration::from_micros(20))
        };
        let ping = of(Workload::W1);
        assert_eq!((ping.p50_us, ping.p999_us, ping.requests_per_second), (Some(2.0), Some(3.0), Some(5.0)));
        assert_eq!((ping.cpu_us_per_request, ping.mb_per_second), (Some(3.0), None));
        assert_eq!(of(Workload::W4).mb_per_second, Some(10.0 * (1u64 << 20) as f64 / 1e6));
        assert_eq!(of(Workload::W6).server_cpu_us_per_connection, Some(2.0));
    }
}
