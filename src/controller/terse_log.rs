//! What the log is told of others: a few lines a minute, whatever they do, and one line of how many were left out.
//!
//! Strangers are refused as often as they come, and members come and go as they like: neither may fill a disk, nor hide in
//! what fills it. Counts are whole in the status, and what became of one node is in `kithd why`.

use std::time::Duration;

use crate::protocol::bucket::{Bucket, Rate};
use crate::protocol::node::Notice;
use crate::protocol::reason::Reason;
use crate::protocol::refusal_log::RefusalLog;
use crate::protocol::time::Time;

/// Lines about members: a network of thousands that starts or falls apart is told whole, and a member who makes up others
/// fills at most 30 MB a day, 240 lines a minute, and half a megabyte once.
const MEMBERS: Rate = Rate { per_second: 4, burst: 8192 };
const MINUTE: Duration = Duration::from_secs(60);

/// What was told, and what was not.
#[derive(Default)]
pub struct TerseLog {
    refusals: RefusalLog,
    room: Option<Bucket>,
    /// Since when changes of members have been left out, and how many.
    untold: Option<(Time, u64)>,
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
        let has_room = self.room.get_or_insert_with(|| Bucket::new(MEMBERS, now)).take(MEMBERS, now);
        if !has_room {
            self.untold.get_or_insert((now, 0)).1 += 1;
        }
        has_room
    }

    fn end_minute(&mut self, now: Time) {
        if let Some((_, untold)) = self.untold.take_if(|(began, _)| now.since(*began) >= MINUTE) {
            log::info!("{untold} more changes of members in a minute: see 'kithd network' and 'kithd why'");
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
    fn members_have_thousands_of_lines_at_once_and_240_a_minute() {
        let at = |seconds: u64| Time(seconds * 1_000_000);
        let mut log = TerseLog::default();
        let told = |log: &mut TerseLog, now| (0..10_000).filter(|_| log.has_room(now)).count();
        assert_eq!(told(&mut log, at(10)), 8192);
        assert_eq!(log.untold, Some((at(10), 10_000 - 8192)));
        assert_eq!(told(&mut log, at(69)), 4 * 59);
        log.sum_up(at(70));
        assert_eq!(log.untold, None);
        assert_eq!(told(&mut log, at(70)), 4);
    }
}
