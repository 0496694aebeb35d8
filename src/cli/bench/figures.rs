//! What a bench says, in the form in which it is kept and compared.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::system::Machine;

/// Everything that was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct BenchReport {
    pub(super) schema: u32,
    pub(super) machine: Machine,
    /// `pair`, or the label of a live node.
    pub(super) against: String,
    /// For how long each workload was.
    pub(super) seconds: f64,
    pub(super) workloads: BTreeMap<String, Figures>,
    /// What was asked for and not measured, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) skipped: BTreeMap<String, String>,
    /// What else is to be known of the figures, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

impl BenchReport {
    /// True if its figures can be set in ratio to the other's: both of one machine, and of the same nodes.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        self.machine.name() == other.machine.name() && self.against == other.against
    }
}

/// Of one workload; which of them there are depends on what it is about.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Connections, if others than the workload has were wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peers: Option<usize>,
    /// How many were under way at a time on each, if not as many as the workload has: for a live node's limits, or because
    /// other payloads were wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<usize>,
    /// Bytes of each payload, if not as many as it has, for the same reasons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p999_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_second: Option<f64>,
    /// Of both ends together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_us_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_cpu_us_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_us_per_request: Option<f64>,
    /// Millions of bytes of payload, those of requests and of answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_per_second: Option<f64>,
    /// Of the server, for each idle peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rss_kib_per_peer: Option<f64>,
    /// Half of what the kernel keeps for both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel_kib_per_peer: Option<f64>,
    /// Of one core, for each thousand idle peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_us_per_connection: Option<f64>,
}

impl Figures {
    /// And so many requests in so long: what counts is how many, or how many bytes.
    pub(super) fn at_rate_of(self, answered: u64, elapsed: Duration, payload: usize, in_bytes: bool) -> Self {
        let bytes = answered as f64 * 2.0 * payload as f64;
        Self {
            requests: answered,
            requests_per_second: rate(answered as f64, elapsed).filter(|_| !in_bytes),
            mb_per_second: rate(bytes / 1e6, elapsed).filter(|_| in_bytes),
            ..self
        }
    }

    /// True if both were measured in the same way.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.peers, self.window, self.payload_bytes) == (other.peers, other.window, other.payload_bytes)
    }
}

/// A figure: its name in the JSON, its unit, its value, and whether more of it is better.
pub(super) type Figure = (&'static str, &'static str, fn(&Figures) -> Option<f64>, bool);

/// In the order in which they are shown.
pub(super) const ALL: [Figure; 13] = [
    ("p50_us", "µs", |figures| figures.p50_us, false),
    ("p99_us", "µs", |figures| figures.p99_us, false),
    ("p999_us", "µs", |figures| figures.p999_us, false),
    ("requests_per_second", "/s", |figures| figures.requests_per_second, true),
    ("cpu_us_per_request", "µs", |figures| figures.cpu_us_per_request, false),
    ("client_cpu_us_per_request", "µs", |figures| figures.client_cpu_us_per_request, false),
    ("mb_per_second", "MB/s", |figures| figures.mb_per_second, true),
    ("rss_kib_per_peer", "KiB", |figures| figures.rss_kib_per_peer, false),
    ("kernel_kib_per_peer", "KiB", |figures| figures.kernel_kib_per_peer, false),
    ("idle_cpu_percent", "%", |figures| figures.idle_cpu_percent, false),
    ("connections_per_second", "/s", |figures| figures.connections_per_second, true),
    ("server_cpu_us_per_connection", "µs", |figures| figures.server_cpu_us_per_connection, false),
    ("server_cpu_us_per_request", "µs", |figures| figures.server_cpu_us_per_request, false),
];

/// So much for each of so many.
pub(super) fn each(all: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| all.as_secs_f64() * 1e6 / count as f64)
}

/// So many in so long.
pub(super) fn rate(count: f64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| count / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_left_out() {
        let figures = Figures { requests: 1, mb_per_second: Some(2.5), ..Figures::default() };
        let text = serde_json::to_string(&figures).unwrap();
        assert_eq!(text, r#"{"requests":1,"mb_per_second":2.5}"#);
        assert_eq!(serde_json::from_str::<Figures>(&text).unwrap(), figures);
        assert_eq!((each(Duration::from_secs(1), 0), rate(1.0, Duration::ZERO)), (None, None));
    }
}
