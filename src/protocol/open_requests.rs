//! The requests of one edge that have no answer yet: the same count at the tail that asked and at the head that owes.
//!
//! Heartbeats are not among them: their numbers tell which one is answered (`heartbeat.rs`).

use super::message::{HeadMessage, TailMessage};

/// How many `Watch` a head holds; with one every burst of news would cost a round trip. One more is misbehaviour.
pub const MAX_WATCHES: u32 = 2;
/// Most pushes of one tail without an answer: news go round without waiting for each, and a head that is behind says so by
/// not answering. Who has more of them open asks without listening.
pub const MAX_PUSHES: u32 = 4;
/// The same for comparisons of views, of which a tail begins one a second at most.
const MAX_SYNCS: u32 = 16;

/// How many requests of each kind are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRequests {
    watches: u32,
    pushes: u32,
    syncs: u32,
}

impl OpenRequests {
    /// The tail asked this.
    pub fn asked(&mut self, request: &TailMessage) {
        let open = match request {
            TailMessage::Watch => &mut self.watches,
            TailMessage::Push(_) => &mut self.pushes,
            TailMessage::Sync { .. } => &mut self.syncs,
            _ => return,
        };
        *open = open.saturating_add(1);
    }

    /// The head answered this; false if nobody had asked.
    pub fn answered(&mut self, answer: &HeadMessage) -> bool {
        let open = match answer {
            HeadMessage::News(_) => &mut self.watches,
            HeadMessage::Ack(_) => &mut self.pushes,
            HeadMessage::Differences { .. } => &mut self.syncs,
            _ => return true,
        };
        let fewer = open.checked_sub(1);
        *open = fewer.unwrap_or(0);
        fewer.is_some()
    }

    /// True if there are more than a tail may have open: since the head answered them all before the tail has heard the
    /// answers, its count is the smaller one of the two.
    pub fn exceeds(&self) -> bool {
        self.watches > MAX_WATCHES || self.pushes > MAX_PUSHES || self.syncs > MAX_SYNCS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::list::List;
    use crate::protocol::message::News;

    #[test]
    fn each_answer_takes_a_request_of_its_kind() {
        let mut open = OpenRequests::default();
        let differences = HeadMessage::Differences { buckets: List::new(), entries: List::new() };
        open.asked(&TailMessage::Watch);
        open.asked(&TailMessage::Watch);
        open.asked(&TailMessage::Push(News::default()));
        assert!(!open.answered(&differences));
        open.asked(&TailMessage::Sync { buckets: List::new() });
        assert!(open.answered(&differences) && !open.answered(&differences));
        assert!(open.answered(&HeadMessage::Ack(News::default())));
        assert!(!open.answered(&HeadMessage::Ack(News::default())));
        assert!(open.answered(&HeadMessage::News(News::default())));
        assert_eq!(open, OpenRequests { watches: 1, ..OpenRequests::default() });
    }

    #[test]
    fn a_tail_may_have_so_many_open_and_no_more() {
        let mut open = OpenRequests::default();
        for _ in 0..MAX_PUSHES {
            assert!(!open.exceeds());
            open.asked(&TailMessage::Push(News::default()));
        }
        assert!(!open.exceeds());
        open.asked(&TailMessage::Push(News::default()));
        assert!(open.exceeds());
        open.answered(&HeadMessage::Ack(News::default()));
        assert!(!open.exceeds());
    }
}
