//! The requests of one edge that have no answer yet: the same count at the tail that asked and at the head that owes.
//!
//! Heartbeats are not among them: their numbers tell which one is answered (`heartbeat.rs`).

use super::message::{HeadMessage, TailMessage};

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

    /// Of these, those that are answered when there is news.
    pub fn watches(&self) -> u32 {
        self.watches
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
        assert_eq!(open.watches(), 2);
        assert!(!open.answered(&differences));
        open.asked(&TailMessage::Sync { buckets: List::new() });
        assert!(open.answered(&differences) && !open.answered(&differences));
        assert!(open.answered(&HeadMessage::Ack(News::default())));
        assert!(!open.answered(&HeadMessage::Ack(News::default())));
        assert!(open.answered(&HeadMessage::News(News::default())));
        assert_eq!(open.watches(), 1);
    }
}
