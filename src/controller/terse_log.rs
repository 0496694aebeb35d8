//! What the log is told of others: a few lines a minute, whatever they do, and one line of how many were left out.
//!
//! Strangers are refused as often as they come, and members come and go as they like: neither may fill a disk, nor hide in
//! what fills it. Counts are whole in the status, and what became of one node is in `kithd why`.

use std::time::Duration;

use crate::protocol::node::Notice;
use crate::protocol::reason::Reason;
use crate::protocol::refusal_log::RefusalLog;
use crate::protocol::time::Time;

/// Lines a minute about members: a network of a hundred that starts or falls apart is told whole, and a member who makes up
/// others fills at most 30 MB a day.
const MEMBERS: u64 = 240;
const MINUTE: Duration = Duration::from_secs(60);

/// What was told, and what was not.
#[derive(Default)]
pub struct TerseLog {
    refusals: RefusalLog,
    /// When the minute of the members' lines began, and how many changes there were in it.
    began: Option<Time>,
    changes: u64,
}

impl TerseLog {
    /// Somebody was refused, or closed for cause.
    pub fn refusal(&mut self, now: Time, reason: Reason, whom: &str) {
        let (told, untold) = self.refusals.refused(reason, now);
        if untold > 0 {
            log_untold(reason, untold);
        }
        if told {
            let cause = if reason == Reason::NetworkKey { ": it has another network key or network name" } else { "" };
            log::warn!("refused {whom}: {reason}{cause}");
        }
    }

    /// Something has become of a member.
    pub fn notice(&mut self, now: Time, notice: &Notice) {
        match notice {
            Notice::Status { id, label, status } if self.has_room(now) => {
                log::info!("{label} ({}) is {}", &id.hex()[..8], status.name());
            }
            Notice::Equivocation { id, label } if self.has_room(now) => {
                log::warn!("{label} ({}) signs different records as one version", &id.hex()[..8]);
            }
            _ => {}
        }
    }

    /// What the log has not been told of minutes that are over.
    pub fn sum_up(&mut self, now: Time) {
        self.refusals.over(now).into_iter().for_each(|(reason, untold)| log_untold(reason, untold));
        self.end_minute(now);
    }

    fn has_room(&mut self, now: Time) -> bool {
        self.end_minute(now);
        self.began.get_or_insert(now);
        self.changes += 1;
        self.changes <= MEMBERS
    }

    fn end_minute(&mut self, now: Time) {
        if self.began.is_some_and(|began| now.since(began) >= MINUTE) {
            let untold = self.changes.saturating_sub(MEMBERS);
            if untold > 0 {
                log::info!("{untold} more changes of members in a minute: see 'kithd network' and 'kithd why'");
            }
            (self.began, self.changes) = (None, 0);
        }
    }
}

fn log_untold(reason: Reason, untold: u64) {
    log::warn!("refused {untold} more in a minute: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_so_many_lines_in_each_minute() {
        let at = |seconds: u64| Time(seconds * 1_000_000);
        let mut log = TerseLog::default();
        assert_eq!((0..1000).filter(|_| log.has_room(at(10))).count() as u64, MEMBERS);
        assert!(!log.has_room(at(69)) && log.has_room(at(70)));
        log.sum_up(at(129));
        assert_eq!(log.changes, 1);
        log.sum_up(at(130));
        assert_eq!((log.began, log.changes), (None, 0));
    }
}
