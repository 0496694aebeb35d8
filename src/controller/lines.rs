//! What the loops of a node are told, and by whom: the words that go over their channels.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::peer::requests::Requests;
use crate::protocol::address::HostPort;
use crate::protocol::census_report::CensusReport;
use crate::protocol::identity::PeerId;
use crate::protocol::node::Outcome;
use crate::protocol::reason::Reason;
use crate::protocol::report::Report;

/// Called once it is known how a user's `connect` ended.
pub type Answer = Box<dyn FnOnce(Outcome) + Send>;

/// Called once a user's census is over, or was refused.
pub type CountAnswer = Box<dyn FnOnce(Result<Box<CensusReport>, Reason>) + Send>;

/// Called once it is known over which peer a node can be asked, if it can.
pub type ReachAnswer = Box<dyn FnOnce(Result<Way, Reason>) + Send>;

/// Over which peer a node can be asked.
pub type Way = (PeerId, Arc<Requests>);

/// What ctl-main is told beside its peers' events.
pub enum Call {
    /// The resolver's answer.
    Resolved(HostPort, Vec<SocketAddr>),
    /// End when no peer is left.
    Stop,
}

/// What ctl-idle is told.
pub enum IdleCall {
    /// Something may be dialled earlier than it thought.
    Wake,
    /// A user wants an edge.
    Connect(HostPort, Answer),
    /// End.
    Stop,
}

/// What ctl-status is told.
pub enum StatusCall {
    /// Somebody wants a report.
    Report(Box<dyn FnOnce(Report) + Send>),
    /// Dump a report where reports go.
    Dump,
    /// There is something to keep over a restart.
    Save,
    /// The same, and somebody waits until it is written or could not be.
    SaveNow(Box<dyn FnOnce() + Send>),
    /// End, after a last save.
    Stop,
}

/// Why a node ended, or is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Somebody asked for it.
    Wanted,
    /// It cannot go on.
    Fatal(Reason),
    /// A loop has failed.
    Panicked(&'static str),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted => f.write_str("as it was told"),
            Self::Fatal(reason) => write!(f, "it cannot go on: {reason}"),
            Self::Panicked(thread) => write!(f, "the thread {thread} has failed"),
        }
    }
}

/// The other ends of the loops' channels.
pub struct Lines {
    /// To ctl-main.
    pub main: Sender<Call>,
    /// To ctl-idle.
    pub idle: Sender<IdleCall>,
    /// To ctl-discovery.
    pub discovery: Sender<bool>,
    /// To ctl-status.
    pub status: Sender<StatusCall>,
    /// To the resolver; `None` ends it.
    pub resolver: Sender<Option<HostPort>>,
    /// To whoever waits for the node's end.
    pub end: Sender<End>,
}
