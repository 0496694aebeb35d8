//! The handshake as a peer's thread carries it out: which key, which message, what a failure means, and how long what has
//! become an edge stays on that thread.

use std::net::SocketAddr;
use std::time::Duration;

use super::main_loop::MainLoop;
use super::surroundings::Surroundings;
use crate::protocol::codec::Preamble;
use crate::protocol::message::Purpose;
use crate::protocol::reason::Reason;
use crate::secure::handshake::{Answer, Head, Secured, Tail};
use crate::secure::primitives::Cipher;

/// For so long an edge stays on the thread that made it: one that was dialled for a question is over by then, and spares the
/// move. Longer keeps it on a stack that is larger than it needs.
const SETTLING: Duration = Duration::from_millis(200);

/// How far the handshake has come.
#[derive(Default)]
pub(super) enum Shaking {
    /// Not begun, or over.
    #[default]
    Idle,
    /// The tail waits for message 2.
    Tail(Box<Tail>),
    /// The head waits for message 1 or 3.
    Head(Box<Head>),
    /// The head has refused and said so: for this reason the connection ends.
    Refused(Reason),
}

/// What follows from a message of the handshake.
#[derive(Default)]
pub(super) struct Greeted {
    /// To be sent in the clear.
    pub(super) send: Option<Vec<u8>>,
    /// The session.
    pub(super) secured: Option<Secured>,
}

impl Shaking {
    /// Begins as a tail, with the key that this address answered to lately, or (without one) the first; also returns the
    /// preamble and message 1.
    pub(super) fn dial(
        around: &Surroundings,
        address: Option<SocketAddr>,
        purpose: Purpose,
    ) -> Result<(Self, Vec<u8>), Reason> {
        let key = around.keys.for_dial(address);
        let (tail, bytes) = Tail::begin(&around.credentials, &key, Cipher::preferred(), purpose)?;
        Ok((Self::Tail(Box::new(tail)), bytes))
    }

    /// Begins as a head, to whom a tail has sent its preamble.
    pub(super) fn accepted(preamble: Preamble) -> Self {
        Self::Head(Box::new(Head::First(preamble)))
    }

    /// The key that a tail has dialled with and had no answer to.
    pub(super) fn unanswered(&self) -> Option<crate::protocol::key_mark::KeyMark> {
        match self {
            Self::Tail(tail) => Some(tail.key()),
            _ => None,
        }
    }

    /// The reason of a refusal that was sent.
    pub(super) fn refusal(&self) -> Option<Reason> {
        match self {
            Self::Refused(reason) => Some(*reason),
            _ => None,
        }
    }

    /// The remote's next message.
    #[inline(never)]
    pub(super) fn take(&mut self, around: &Surroundings, message: &[u8]) -> Result<Greeted, Reason> {
        let now = around.clock.now().wall_ms / 1000;
        match std::mem::take(self) {
            Self::Tail(tail) => {
                let (bytes, secured) = tail.finish(message, now)?;
                Ok(Greeted { send: Some(bytes), secured: Some(secured) })
            }
            Self::Head(head) => match *head {
                Head::First(preamble) => {
                    let keys = around.keys.all();
                    match Head::first(preamble, message, &around.credentials, &keys, &around.seen, now)? {
                        Answer::Continue(head, bytes) => {
                            *self = Self::Head(Box::new(head));
                            Ok(Greeted { send: Some(bytes), secured: None })
                        }
                        Answer::Refuse(bytes, reason) => {
                            *self = Self::Refused(reason);
                            Ok(Greeted { send: Some(bytes), secured: None })
                        }
                    }
                }
                third @ Head::Third { .. } => {
                    let secured = third.third(message, &around.credentials, now)?;
                    Ok(Greeted { send: None, secured: Some(secured) })
                }
            },
            Self::Idle | Self::Refused(_) => Err(Reason::Unexpected),
        }
    }
}

impl MainLoop {
    /// It is an edge from now on. While many come, it leaves this thread to them at once.
    pub(super) fn begin(&mut self) {
        self.edge_since = self.around.clock.time();
        let span = if self.around.crew.has_few_guests() { SETTLING } else { Duration::ZERO };
        self.settles_at = Some(self.edge_since + span);
    }
}
