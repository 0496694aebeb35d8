//! What a node is told, and what it wants done: all that its drivers have to know.

use std::net::SocketAddr;

use crate::protocol::address::HostPort;
use crate::protocol::census_report::CensusReport;
use crate::protocol::identity::{ControllerId, Label, PeerId};
use crate::protocol::key_mark::KeyMark;
use crate::protocol::peer_state::{Command, Greeting, PeerEvent};
use crate::protocol::reason::Reason;
use crate::protocol::record::{Record, Verified, VerifiedItem};
use crate::protocol::report::Status;
use crate::protocol::tags::Tags;
use crate::protocol::testimony::{Mode, Nonce, Testimony};

/// What happens on a connection, signed parts checked.
pub type Event = PeerEvent<Verified<Record>, VerifiedItem, Verified<Testimony>>;

/// A number the driver gives a user's `connect`, census or request, to know its outcome again.
pub type Ticket = u64;

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// From a peer.
    Peer(PeerId, Event),
    /// The resolver's answer; empty if it found nothing.
    Resolved(HostPort, Vec<SocketAddr>),
    /// The user wants an edge to this address.
    Connect(HostPort, Ticket),
    /// The user wants these connections closed.
    Disconnect(Vec<PeerId>),
    /// The user wants a node that is gone dropped everywhere.
    Forget(ControllerId),
    /// What this node's user says about it from now on, within the bounds of [`tags`](crate::protocol::tags).
    Tags(Tags),
    /// The user wants the network counted.
    Census(Nonce, Mode, Ticket),
    /// An application wants to ask a node something.
    Reach {
        /// Which node.
        id: ControllerId,
        /// A peer that is of no use for it any more.
        stale: Option<PeerId>,
        /// Nobody asks anything over this peer: if there is no place for another connection, it may go.
        idlest: Option<PeerId>,
        /// To be told with the outcome.
        ticket: Ticket,
    },
    /// Take leave of the network.
    Leave,
    /// The network keys in force from now on, the one to dial with first.
    Keys(Vec<KeyMark>),
    /// Close every connection.
    CloseAll(Reason),
    /// The tick of monitor idle.
    Idle,
    /// The tick of network discovery.
    Discovery,
}

/// What a node wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Create a peer and send it `Connect`.
    Dial(PeerId, Box<Greeting>),
    /// Find a name's addresses.
    Resolve(HostPort),
    /// Send a command to a peer.
    Command(PeerId, Command),
    /// Tell the user's program.
    Notify(Notice),
    /// A user's `connect` ended.
    Connected(Ticket, Outcome),
    /// A user's census ended, or did not begin.
    Counted(Ticket, Result<Box<CensusReport>, Reason>),
    /// This peer carries what was to be asked; or why none does.
    Reached(Ticket, Result<PeerId, Reason>),
    /// The node must stop.
    Fatal(Reason),
}

/// How a dial that a user asked for ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An edge to this node stands; true if it stood before.
    Edge(ControllerId, Label, bool),
    /// There is none.
    Failed(Reason),
}

/// What a user's program may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A node's status changed.
    Status {
        /// Which node.
        id: ControllerId,
        /// Its label.
        label: Label,
        /// What it is now.
        status: Status,
    },
    /// A node signed different records as one version; said once for each.
    Equivocation {
        /// Which node.
        id: ControllerId,
        /// Its label.
        label: Label,
    },
    /// A connection became an edge.
    EdgeUp(PeerId, ControllerId),
    /// A connection is over.
    EdgeDown(PeerId, Option<ControllerId>, Reason),
}
