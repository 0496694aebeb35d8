//! What is told of requests to whoever makes or serves them by the admin socket.

use serde::{Deserialize, Serialize};

/// What a program is told that serves requests from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeReport {
    /// [`SCHEMA`](crate::protocol::report::SCHEMA).
    pub schema: u32,
    /// Under which name.
    pub service: String,
}

/// `kithd ping`: round trips to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReport {
    /// [`SCHEMA`](crate::protocol::report::SCHEMA).
    pub schema: u32,
    /// The node's id.
    pub node: String,
    /// Its label, if it is known.
    pub label: Option<String>,
    /// How often it was asked.
    pub sent: u64,
    /// How often it has answered.
    pub answered: u64,
    /// How long that took.
    pub rtt_ms: RttSpread,
    /// Why the last of those that were not answered was not.
    pub why: Option<String>,
}

/// What a load on a node has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// [`SCHEMA`](crate::protocol::report::SCHEMA).
    pub schema: u32,
    /// The node's id.
    pub node: String,
    /// Its label, if it is known.
    pub label: Option<String>,
    /// Requests that were answered as they should.
    pub answered: u64,
    /// From the first to the last answer.
    pub elapsed_seconds: f64,
    /// What the asking node, all its threads together, has used of its processors meanwhile.
    pub cpu_seconds: f64,
    /// Half of the round trips took no longer; known if they were made one after the other.
    pub p50_us: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_us: Option<f64>,
    /// 999 of 1000 took no longer.
    pub p999_us: Option<f64>,
}

/// Round-trip times, unknown if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RttSpread {
    /// The shortest.
    pub min: Option<f64>,
    /// Half took no longer.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

impl RttSpread {
    /// Of these times, in milliseconds and any order.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        // The least that so many hundredths of them do not exceed.
        let at = |hundredths: usize| times.get((times.len() * hundredths).div_ceil(100).saturating_sub(1)).copied();
        Self { min: times.first().copied(), p50: at(50), p99: at(99), max: times.last().copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_what_was_measured() {
        assert_eq!(RttSpread::of(vec![]), RttSpread::default());
        let one = Some(7.0);
        assert_eq!(RttSpread::of(vec![7.0]), RttSpread { min: one, p50: one, p99: one, max: one });
        let hundred = RttSpread::of((1..=100).rev().map(f64::from).collect());
        let expected = RttSpread { min: Some(1.0), p50: Some(50.0), p99: Some(99.0), max: Some(100.0) };
        assert_eq!(hundred, expected);
        assert_eq!(RttSpread::of(vec![3.0, 1.0, 2.0]).p50, Some(2.0));
    }
}
