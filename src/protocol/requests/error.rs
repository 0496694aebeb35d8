//! Why a request has no answer, as its caller sees it.

use std::fmt;

use super::message::{Failure, Refusal};
use crate::protocol::escape::escaped;
use crate::protocol::reason::Reason;

/// Characters that an error repeats of what a service says: enough for a sentence or two.
const MOST_SHOWN: usize = 200;

/// Why a request came to nothing. Each says whether it may have been carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// No node is called so.
    UnknownNode(String),
    /// Several nodes may be meant; which.
    AmbiguousNode(String, String),
    /// There is no connection to the node, and none could be made. Nothing was sent.
    Unreachable(String, Reason),
    /// The node has not carried it out, for this cause.
    Refused(Refusal),
    /// The service was asked and failed; what it has to say about it.
    Failed(Failure, Vec<u8>),
    /// No answer came in time; whether the request had left this node by then, and so may be carried out.
    TimedOut {
        /// It had.
        sent: bool,
    },
    /// The request is longer than may be sent, in bytes and the most.
    TooLarge(usize, usize),
    /// The answer is longer than this node takes. It was carried out.
    AnswerTooLarge,
    /// The connection ended first; whether the request had left this node by then, and so may have been carried out.
    Closed {
        /// Why it ended.
        reason: Reason,
        /// It had left.
        sent: bool,
    },
    /// As much is open to that node as may be, or waits in this one. Nothing was sent.
    Overloaded,
    /// It was asked by a handler that runs on the thread which would have to hear the answer. Nothing was sent.
    WouldDeadlock,
    /// A request that is an effect of so many others that they seem to go in a circle. Nothing was sent.
    TooDeep,
    /// This node has ended.
    Ended,
}

impl RequestError {
    /// A word for scripts, in kebab case.
    pub fn code(&self) -> String {
        match self {
            Self::UnknownNode(_) => "unknown-node".to_owned(),
            Self::AmbiguousNode(..) => "ambiguous-node".to_owned(),
            Self::Unreachable(..) => "unreachable".to_owned(),
            Self::Refused(refusal) => refusal.to_string(),
            Self::Failed(..) => "failed".to_owned(),
            Self::TimedOut { .. } => "timed-out".to_owned(),
            Self::TooLarge(..) | Self::AnswerTooLarge => "too-large".to_owned(),
            Self::Closed { .. } => "closed".to_owned(),
            Self::Overloaded => "overloaded".to_owned(),
            Self::WouldDeadlock => "would-deadlock".to_owned(),
            Self::TooDeep => "too-deep".to_owned(),
            Self::Ended => "leaving".to_owned(),
        }
    }

    /// True if the request had not left this node: to ask again is safe whatever it does.
    pub fn is_unsent(&self) -> bool {
        !matches!(
            self,
            Self::Failed(..)
                | Self::AnswerTooLarge
                | Self::TimedOut { sent: true }
                | Self::Closed { sent: true, .. }
                | Self::Refused(_)
        )
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = |sent: &bool| match sent {
            true => "it may have been carried out",
            false => "it was not sent",
        };
        match self {
            Self::UnknownNode(name) => write!(f, "no node is called {name:?}: see 'kithd network'"),
            Self::AmbiguousNode(name, names) => {
                write!(f, "{name:?} may be {names}: give more of the id, see 'kithd network'")
            }
            Self::Unreachable(name, reason) => {
                write!(f, "node {name} cannot be reached: {reason}; see 'kithd why {name}'")
            }
            Self::Refused(refusal) => write!(f, "refused: {}", Told(*refusal)),
            Self::Failed(Failure::Service, said) if !said.is_empty() => write!(f, "failed: {}", beginning(said)),
            Self::Failed(failure, _) => write!(f, "failed: {failure}"),
            Self::TimedOut { sent: has } => write!(f, "no answer in time: {}", sent(has)),
            Self::TooLarge(bytes, most) => {
                write!(f, "a payload of {bytes} bytes is too large: limits.max_payload is {most}")
            }
            Self::AnswerTooLarge => f.write_str("the answer is longer than this node takes: see limits.max_payload"),
            Self::Closed { reason, sent: has } => {
                write!(f, "the connection ended before the answer ({reason}): {}", sent(has))
            }
            Self::Overloaded => {
                f.write_str("as much is open to that node as may be: wait for answers, or raise limits.max_outstanding")
            }
            Self::WouldDeadlock => f.write_str(
                "a handler that runs inline, or a call-back, cannot wait for an answer: use a handler on a worker",
            ),
            Self::TooDeep => f.write_str("it is an effect of too many other requests: do they go in a circle?"),
            Self::Ended => f.write_str("this node has ended"),
        }
    }
}

impl std::error::Error for RequestError {}

/// What a service says of its failure, as far as one line of an error has room for it.
fn beginning(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[..said.len().min(4 * MOST_SHOWN)]);
    let shown: String = text.chars().take(MOST_SHOWN).collect();
    let rest = if shown.len() < said.len() { "…" } else { "" };
    format!("{}{rest}", escaped(&shown))
}

/// A refusal with its cure.
struct Told(Refusal);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Refusal::UnknownService => "the node has no service of that name",
            Refusal::NotAllowed => {
                "the service is not for this node: its owner's services.NAME.allow names those it is for"
            }
            Refusal::Overloaded => "the node has more to do than it may take on: try again later",
            Refusal::TooLarge => "the payload is longer than the node takes: see its limits.max_payload",
            Refusal::TimedOut => "its turn did not come in time: the node has much to do",
            Refusal::TooDeep => "it is an effect of too many other requests: do they go in a circle?",
            Refusal::Leaving => "the node is about to end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_whether_it_may_have_been_carried_out() {
        let closed = |sent| RequestError::Closed { reason: Reason::Reset, sent };
        assert_eq!(
            closed(true).to_string(),
            "the connection ended before the answer (reset): it may have been carried out"
        );
        assert!(closed(false).is_unsent() && !closed(true).is_unsent());
        assert!(RequestError::TimedOut { sent: false }.to_string().ends_with("it was not sent"));
        assert_eq!(RequestError::Refused(Refusal::UnknownService).code(), "unknown-service");
        assert_eq!(Refusal::ALL.map(|refusal| refusal as usize), [0, 1, 2, 3, 4, 5, 6]);
    }
}
