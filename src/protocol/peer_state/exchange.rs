//! What a peer is told, and what it wants done: all that its driver has to know.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::protocol::identity::ControllerId;
use crate::protocol::key_mark::KeyMark;
use crate::protocol::message::{HeadMessage, Purpose, TailMessage};
use crate::protocol::peer_event::PeerEvent;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Item, Record};
use crate::protocol::time::Time;

/// What a tail is to say first, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Where to dial.
    pub address: SocketAddr,
    /// This node's record at that moment.
    pub record: Arc<Record>,
    /// This node's wall clock, in Unix milliseconds.
    pub clock_ms: u64,
    /// What the edge is for.
    pub purpose: Purpose,
    /// Whether the key to dial with is the first one in any case, and not the one this address answered to lately.
    pub first_key: bool,
}

/// What the controller tells a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Dial and introduce the node (tail).
    Connect(Box<Greeting>),
    /// Wait for an introduction (head).
    Accept,
    /// Send this request (tail).
    Issue(TailMessage),
    /// Send this answer (head). A `Welcome` makes the edge, `Busy` and `Goodbye` end it.
    Answer(HeadMessage),
    /// Send a heartbeat outside the schedule.
    Beat,
    /// The node lives though this connection is silent.
    Spare,
    /// A connection that was made with a newer key has taken this one's place: the tail closes it as `replaced` when nothing
    /// is open on it any more, the head waits for that.
    Drain,
    /// Say goodbye and close.
    Close(Reason),
}

/// What happens to a peer.
#[derive(Clone, Debug)]
pub enum Input {
    /// From the controller.
    Command(Command),
    /// The dial succeeded.
    Connected,
    /// The handshake is over: this node is at the other end, and both hold this network key.
    Secured(ControllerId, KeyMark),
    /// A request arrived (the remote is the tail). A heartbeat among them has been answered where frames are taken off.
    Request {
        /// The request.
        message: TailMessage,
        /// Of a heartbeat: a moment before which its statement was not made.
        dated: Option<Time>,
    },
    /// An answer arrived (the remote is the head).
    Answer(HeadMessage),
    /// The stream is over, or what came was refused for this reason.
    Ended(Reason),
    /// Something was heard then that others have dealt with: it shows that the remote lives.
    Heard(Time),
    /// So much waits to be taken by the remote that nothing is read from it meanwhile; true if it took something since the
    /// last deadline.
    Stalled(bool),
    /// Perhaps a deadline has come.
    Tick,
}

/// What a peer does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a connection.
    Dial(SocketAddr),
    /// Begin the handshake, to be followed by [`Input::Secured`] or [`Input::Ended`].
    Secure {
        /// What the edge is for.
        purpose: Purpose,
        /// As in [`Greeting`].
        first_key: bool,
    },
    /// Send a request.
    Issue(TailMessage),
    /// Send an answer.
    Answer(HeadMessage),
    /// Send a heartbeat with the node's present statement.
    Beat {
        /// Its number.
        seq: u32,
        /// The last answer that arrived.
        echo: Option<u32>,
    },
    /// The remote is identified: larger frames are welcome.
    Open,
    /// Tell the controller.
    Report(PeerEvent<Arc<Record>, Item>),
    /// Send what is queued, then end the connection.
    Shut,
}
