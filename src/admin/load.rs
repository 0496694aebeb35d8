//! What a load is to be, in the language of the admin socket.

use serde::Serialize;

use super::api::AdminError;
use super::args::Args;

/// Requests of one kind to one node, as fast as they are answered: what `kithd bench --connect` measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadCall {
    /// The node's label, id or unique beginning of its id.
    pub node: String,
    /// The service's name; it has to answer with what it was sent.
    pub service: String,
    /// How they are made.
    pub manner: How,
    /// How many are under way at a time, or how many callers there are.
    pub count: u64,
    /// Bytes of each payload.
    pub payload: u64,
    /// For how long new ones are made, in milliseconds.
    pub span_ms: u64,
}

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// One after the other; `count` is 1.
    Lone,
    /// By one caller, `count` under way.
    Window,
    /// By `count` callers, each on a thread that waits.
    Callers,
    /// By `count` callers without threads.
    Logical,
}

impl LoadCall {
    pub(super) fn of(args: &mut Args<'_>) -> Result<Self, AdminError> {
        Ok(Self {
            node: args.text("node")?,
            service: args.text("service")?,
            manner: match args.text("manner")?.as_str() {
                "lone" => How::Lone,
                "window" => How::Window,
                "callers" => How::Callers,
                "logical" => How::Logical,
                _ => return Err(args.wrong("manner", "lone, window, callers or logical")),
            },
            count: args.number("count")?,
            payload: args.number("payload")?,
            span_ms: args.number("span_ms")?,
        })
    }
}
