//! What `kithd why` tells: the recorded life of a node or an address as seen from here, and what happens next.
//!
//! The rules of [`report`](super::report) hold here too: fields are added and never renamed, what is not known is `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::Status;

/// `kithd why`: one node, or one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyReport {
    /// [`SCHEMA`](super::report::SCHEMA).
    pub schema: u32,
    /// The node's id; of an address at which nobody has answered nobody knows it.
    pub node: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// Where it is, or the address that was asked about.
    pub address: Option<String>,
    /// Its status in this view.
    pub status: Option<Status>,
    /// Since when it has had this status, as seen from here.
    pub since: Option<String>,
    /// When this was told.
    pub now: String,
    /// What happened, oldest first.
    pub events: Vec<WhyEvent>,
    /// When this node dials it next; nothing if it does not mean to.
    pub next_dial: Option<String>,
    /// What happens next, soonest first.
    pub next: Vec<NextStep>,
    /// Labels of the ids in `by`, as far as they are known.
    pub labels: BTreeMap<String, String>,
}

/// Something that happened, perhaps several times in the same way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyEvent {
    /// When; the first time.
    pub at: String,
    /// How long ago that is, by a clock that does not jump.
    pub ago_seconds: f64,
    /// How often it has happened in the same way since.
    pub times: u32,
    /// When it happened last.
    pub last: String,
    /// How long ago that is.
    pub last_ago_seconds: f64,
    /// A word: a status that began, or `missed`, `witnessed`, `restarted`, `moved`, `renamed`, `tagged`, `dialled`, `accepted`,
    /// `closed`, `dial-failed`, `probe-answered`, `probe-failed`, `refused`, `banned`, `unbanned`, `forgotten`, `dropped`.
    pub what: String,
    /// A word: a reason, what an edge was for, or `first-record`, `silence`, `witnesses`, `refutation`, `restart`, `leave`,
    /// `user`.
    pub cause: Option<String>,
    /// Ids of those who said so (16 digits of one that is in nobody's record here); nobody: this node saw it itself.
    pub by: Vec<String>,
}

/// Something that is to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextStep {
    /// When, if that is a matter of time.
    pub at: Option<String>,
    /// In how many seconds.
    pub in_seconds: Option<f64>,
    /// A word: `dial`, `suspect`, `testify`, `witnesses`, `unban`, `drop`, `nothing`.
    pub what: String,
    /// The same for people.
    pub detail: String,
}
