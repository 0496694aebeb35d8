//! The requests of one edge that have no answer yet: the same count at the tail that asked and at the head that owes.
//!
//! Heartbeats are not among them: their numbers tell which one is answered (`heartbeat.rs`).

use super::message::{HeadMessage, TailMessage};

/// How many `Watch` a head holds; with one every burst of news would cost a round trip. More are not kept.
pub const MAX_WATCHES: u32 = 2;
/// A tail that has none left asks for two, and its heartbeat arms two besides; when the two cross, and news with them, its
/// count and the head's drift apart until the next heartbeat. More than two are never held, whatever is asked; and whoever
/// asks for so many more than he gets means no good.
pub const WATCHES_BORNE: u32 = 16;
/// Most pushes of one tail without an answer: news go round without waiting for each, and a head that is behind says so by
/// not answering.
pub const MAX_PUSHES: u32 = 4;
/// So many a head bears: a tail has the answer to its heartbeat, which acknowledges them, before the head has seen the next
/// heartbeat. One more is misbehaviour.
pub const PUSHES_BORNE: u32 = 2 * MAX_PUSHES;
/// The same for comparisons of views, of which a tail begins one a second at most.
const MAX_SYNCS: u32 = 16;
/// The same for censuses: a node takes part in no more at a time, whoever asks.
pub const MAX_CENSUSES: u32 = 4;

/// How many requests of each kind are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenRequests {
    watches: u32,
    pushes: u32,
    syncs: u32,
    censuses: u32,
}

impl OpenRequests {
    /// The tail asked this.
    pub fn asked(&mut self, request: &TailMessage) {
        let open = match request {
            TailMessage::Watch => &mut self.watches,
            TailMessage::Push(_) => &mut self.pushes,
            TailMessage::Sync { .. } => &mut self.syncs,
            TailMessage::Census { .. } => &mut self.censuses,
            _ => return,
        };
        *open = open.saturating_add(1);
    }

    /// The tail's own count, when a heartbeat goes out: the head may still use what it had before.
    pub fn beat(&mut self) {
        self.watches = self.watches.saturating_add(MAX_WATCHES).min(2 * MAX_WATCHES);
    }

    /// The head's own count, when a heartbeat has come and was answered: two watches are held, and no push is open.
    pub fn beaten(&mut self) {
        (self.watches, self.pushes) = (MAX_WATCHES, 0);
    }

    /// The head answered this; false if nobody had asked.
    pub fn answered(&mut self, answer: &HeadMessage) -> bool {
        let open = match answer {
            HeadMessage::News(_) => &mut self.watches,
            HeadMessage::Ack(_) => &mut self.pushes,
            HeadMessage::Differences { .. } => &mut self.syncs,
            HeadMessage::Census { returns, .. } if !returns.is_last() => return self.censuses > 0,
            HeadMessage::Census { .. } => &mut self.censuses,
            _ => return true,
        };
        let fewer = open.checked_sub(1);
        *open = fewer.unwrap_or(0);
        fewer.is_some()
    }

    /// True if there are more than a tail may have open.
    pub fn exceeds(&self) -> bool {
        self.watches > WATCHES_BORNE
            || self.pushes > PUSHES_BORNE
            || self.syncs > MAX_SYNCS
            || self.censuses > MAX_CENSUSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::list::List;
    use crate::protocol::message::News;
    use crate::protocol::testimony::{Mode, Nonce, Returns};

    #[test]
    fn each_answer_takes_a_request_of_its_kind() {
        let mut open = OpenRequests::default();
        let differences = HeadMessage::Differences { last: u8::MAX, buckets: List::new(), entries: List::new() };
        open.asked(&TailMessage::Watch);
        open.asked(&TailMessage::Watch);
        open.asked(&TailMessage::Push(News::default()));
        assert!(!open.answered(&differences));
        open.asked(&TailMessage::Sync { first: 0, buckets: List::new() });
        assert!(open.answered(&differences) && !open.answered(&differences));
        assert!(open.answered(&HeadMessage::Ack(News::default())));
        assert!(!open.answered(&HeadMessage::Ack(News::default())));
        assert!(open.answered(&HeadMessage::News(News::default())));
        assert_eq!(open, OpenRequests { watches: 1, ..OpenRequests::default() });
    }

    #[test]
    fn the_last_part_of_a_census_answers_it() {
        let nonce = Nonce([1; 16]);
        let part =
            |last| HeadMessage::Census { nonce, returns: Returns::Testimonies { testimonies: List::new(), last } };
        let mut open = OpenRequests::default();
        assert!(!open.answered(&part(false)) && !open.answered(&part(true)));
        for _ in 0..MAX_CENSUSES {
            open.asked(&TailMessage::Census { nonce, mode: Mode::Prove, remaining_ms: 1 });
        }
        assert!(!open.exceeds() && open.answered(&part(false)) && open.answered(&part(false)));
        assert_eq!(open.censuses, MAX_CENSUSES);
        open.asked(&TailMessage::Census { nonce, mode: Mode::Count, remaining_ms: 1 });
        assert!(open.exceeds());
        let counted = HeadMessage::Census { nonce, returns: Returns::Counted };
        assert!((0..=MAX_CENSUSES).all(|_| open.answered(&counted)) && !open.answered(&counted));
    }

    #[test]
    fn a_tail_may_have_so_many_open_and_no_more() {
        let mut open = OpenRequests::default();
        for _ in 0..PUSHES_BORNE {
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
