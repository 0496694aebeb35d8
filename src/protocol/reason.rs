//! Why a connection ended, an address failed or something was refused: one list for the whole program.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one list of causes, shown in kebab case (`heartbeat-timeout`) in `close_reason`, `refused` and `dropped`.
///
/// On the wire (in `Goodbye`) a reason is its position in this list: add at the end, never reorder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No sign of life within interval, timeout and the time for a probe.
    HeartbeatTimeout,
    /// The remote closed its side without a word.
    EndOfStream,
    /// The remote's system reset the connection, or the link broke.
    Reset,
    /// The dial was refused: nobody listens there.
    ConnectionRefused,
    /// The dial failed otherwise: no route, no such network, not permitted.
    Unreachable,
    /// The dial got no answer in time.
    ConnectTimeout,
    /// The name has no address, or the resolver did not answer.
    NameNotResolved,
    /// The identification was not over in time.
    HandshakeTimeout,
    /// What was sent is not this protocol.
    NotKithd,
    /// A frame whose length is zero or above the limit.
    FrameTooLarge,
    /// The stream ended inside a frame.
    EofInFrame,
    /// A frame was begun and not finished in time.
    FrameTimeout,
    /// Bytes that are no message, or a message that breaks a bound.
    Malformed,
    /// A legal message at a moment when it is not.
    Unexpected,
    /// A request sent by a head, or an answer sent by a tail.
    WrongDirection,
    /// A signed object whose signature does not hold.
    BadSignature,
    /// A signed object of another network.
    OtherNetwork,
    /// No protocol version in common.
    VersionMismatch,
    /// The clocks differ by more than half an hour.
    ClockSkew,
    /// The node found itself at the other end.
    #[serde(rename = "self")]
    Myself,
    /// Two processes use one identity.
    DuplicateIdentity,
    /// A newer connection of the same node and direction took this one's place.
    Replaced,
    /// The head has its number of overlay edges and named other addresses.
    Busy,
    /// A bound of this node was reached.
    Overloaded,
    /// The remote reads more slowly than it makes us write.
    SlowReader,
    /// Too many connections that have not yet identified themselves.
    TooManyPending,
    /// Too many peers in this direction.
    TooManyPeers,
    /// Kept out by a ban.
    Banned,
    /// Not on the list of nodes that may come in.
    NotAllowed,
    /// A probe has its answer: no edge was wanted.
    ProbeOver,
    /// One edge more than the overlay wants.
    Surplus,
    /// This node's user or program closed it.
    Local,
    /// The remote's user or program closed it.
    Remote,
    /// The node leaves the network or shuts down.
    Leaving,
    /// A thread could not be started, or failed.
    Internal,
    /// The remote does not hold a key of this network, or gave the network another name.
    NetworkKey,
    /// The remote ended the connection without a word before the handshake was over: it has another network key or name, or
    /// keeps this node's address out.
    NoAnswer,
    /// The first message of a handshake that has been seen before.
    Replayed,
    /// A key that no honest node has.
    LowOrderPoint,
    /// A record that the remote did not seal next: changed, repeated or moved on its way.
    BadRecordTag,
    /// The remote introduced itself as another node than the one that proved its key.
    IdentityMismatch,
    /// The connection was made with a network key that is held no more.
    OldKey,
    /// Too many connections in a short time from one network.
    TooFast,
    /// Every place is taken, and the network this one comes from holds the most.
    Evicted,
    /// A record older than the one that is held.
    Stale,
    /// A record issued so long ago that the network has forgotten what it said.
    Expired,
    /// Two records of one node and version with different content.
    Equivocation,
    /// The node broke the protocol too often lately, and is not heard for some minutes.
    Misbehaved,
    /// A line of the log that found no room: whoever reads the log is too slow or gone, or its disk is full.
    LogFull,
    /// The head has not answered a request, half a minute after it had to.
    Unanswered,
    /// Nobody has asked anything on an edge that was dialled for requests.
    Idle,
}

impl Reason {
    /// True if the remote broke the protocol: its address is not dialled for a while.
    pub fn is_misbehaviour(self) -> bool {
        matches!(
            self,
            Self::FrameTooLarge
                | Self::Malformed
                | Self::Unexpected
                | Self::WrongDirection
                | Self::BadSignature
                | Self::OtherNetwork
                | Self::NotKithd
                | Self::Replayed
                | Self::LowOrderPoint
                | Self::BadRecordTag
                | Self::IdentityMismatch
        )
    }

    /// True for what a head refuses a tail for, or a bound that was hit: counted in `refused`.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::HandshakeTimeout
                | Self::NetworkKey
                | Self::VersionMismatch
                | Self::ClockSkew
                | Self::Banned
                | Self::NotAllowed
                | Self::Myself
                | Self::Busy
                | Self::Overloaded
                | Self::SlowReader
                | Self::FrameTimeout
                | Self::EofInFrame
                | Self::Internal
                | Self::TooManyPending
                | Self::TooManyPeers
                | Self::Evicted
                | Self::Misbehaved
                | Self::Stale
                | Self::OldKey
        )
    }

    /// What a reason in the remote's farewell is at this end: its user's decision was not this node's user's.
    pub fn heard(self) -> Self {
        if self == Self::Local { Self::Remote } else { self }
    }

    /// True if it is evidence that nothing lives at the other end (`discovery.md` 2.6).
    pub fn is_death(self) -> bool {
        matches!(self, Self::ConnectionRefused | Self::Unreachable | Self::ConnectTimeout | Self::HeartbeatTimeout)
    }

    /// True for what this node had not the means to do: descriptors, memory or threads.
    pub fn is_want(self) -> bool {
        matches!(self, Self::Overloaded | Self::Internal)
    }

    /// True for an edge that nobody closed.
    pub fn is_break(self) -> bool {
        matches!(self, Self::HeartbeatTimeout | Self::EndOfStream | Self::Reset | Self::EofInFrame)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Unit variants serialise to their kebab-case name; the formatter of serde's `Display` support takes exactly those.
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_kebab_case() {
        assert_eq!(Reason::HeartbeatTimeout.to_string(), "heartbeat-timeout");
        assert_eq!(Reason::Myself.to_string(), "self");
        assert_eq!(serde_json::to_string(&Reason::EofInFrame).unwrap(), "\"eof-in-frame\"");
    }
}
