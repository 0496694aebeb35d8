//! What is to be done at a moment unless it is called off before: the end of somebody's patience, or the next of several
//! steps. ctl-idle does it, so that nobody waits for time to pass.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

/// What is done; it must not wait for anything.
pub(super) type Call = Box<dyn FnOnce() + Send>;

/// One alarm, to call it off by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Alarm(Instant, u64);

/// All alarms of a node. Each belongs to something that is under way and is called off with it, so they are as bounded as
/// that is.
#[derive(Default)]
pub struct Alarms(Mutex<Set>);

#[derive(Default)]
struct Set {
    calls: BTreeMap<Alarm, Call>,
    last: u64,
}

impl Alarms {
    /// Sets one; true if none rings earlier.
    pub(super) fn set(&self, at: Instant, call: Call) -> (Alarm, bool) {
        let mut set = self.0.lock();
        set.last += 1;
        let alarm = Alarm(at, set.last);
        set.calls.insert(alarm, call);
        (alarm, set.calls.first_key_value().is_some_and(|(first, _)| *first == alarm))
    }

    /// Calls one off; nothing happens if it has rung.
    pub(super) fn call_off(&self, alarm: Alarm) {
        // What it holds goes when the lock is free: it may be the last to hold something that calls alarms off itself.
        let call = self.0.lock().calls.remove(&alarm);
        drop(call);
    }

    /// When the next one rings.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.lock().calls.first_key_value().map(|(alarm, _)| alarm.0)
    }

    /// Does what is due.
    pub(super) fn ring(&self, now: Instant) {
        while let Some(call) = self.take(now) {
            call();
        }
    }

    /// The end: nothing rings any more.
    pub(super) fn clear(&self) {
        let calls = std::mem::take(&mut self.0.lock().calls);
        drop(calls);
    }

    fn take(&self, now: Instant) -> Option<Call> {
        let mut set = self.0.lock();
        let first = set.calls.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_ring_in_order_and_once_unless_they_are_called_off() {
        let (alarms, rung) = (Alarms::default(), Arc::new(Mutex::new(Vec::new())));
        let start = Instant::now();
        let set = |seconds: u64| {
            let rung = Arc::clone(&rung);
            alarms.set(start + Duration::from_secs(seconds), Box::new(move || rung.lock().push(seconds)))
        };
        let (second, is_first) = set(2);
        assert!(is_first);
        assert!(!set(3).1 && set(1).1 && !set(1).1, "two of one moment are two");
        alarms.call_off(second);
        assert_eq!(alarms.next(), Some(start + Duration::from_secs(1)));
        alarms.ring(start);
        assert!(rung.lock().is_empty());
        alarms.ring(start + Duration::from_secs(3));
        assert_eq!((rung.lock().as_slice(), alarms.next()), (&[1, 1, 3][..], None));
        set(4);
        alarms.clear();
        alarms.ring(start + Duration::from_secs(9));
        assert_eq!(rung.lock().len(), 3);
    }
}
