//! How the system's scheduler treats a thread that others wake all the time.
//!
//! The reactor, the peers, the controller's loops and the workers wake each other for every few requests or frames. A thread
//! that is woken usually interrupts whoever runs, so that on a busy processor each answer would be sent by itself: two
//! switches and a write for each; and it interrupts whoever holds the lock that it takes next, which costs two more. As
//! `SCHED_BATCH` (sched(7)) it waits until the running thread waits too, or has had its share; by then there are many to be
//! sent at once. On an idle processor it runs at once either way, so a quiet node answers as fast.

/// From now on this thread interrupts no other one when it is woken. Where the system has no such policy, or the node's owner
/// has chosen a policy or a priority, all stays as it is.
pub fn interrupt_nobody() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::become_batch() {
        log::debug!("this thread is scheduled like any other: {error:?}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::process::getpriority_process;
    use thread_priority::ThreadPriority;
    use thread_priority::unix::{
        NormalThreadSchedulePolicy as Normal, ThreadSchedulePolicy as Policy, set_thread_priority_and_policy,
        thread_native_id, thread_schedule_policy,
    };

    /// What the library makes nice 0 of, which it sets along with the policy. (It makes 19 of 0, and -20 of 99.)
    const NICE_0: u8 = 47;

    pub(super) fn become_batch() -> Result<(), thread_priority::Error> {
        let is_usual = thread_schedule_policy()? == Policy::Normal(Normal::Other);
        // Of this thread, whatever its name says (setpriority(2)).
        let is_nice = getpriority_process(None).is_ok_and(|nice| nice != 0);
        let (true, false, Ok(nice_0)) = (is_usual, is_nice, NICE_0.try_into()) else { return Ok(()) };
        let batch = Policy::Normal(Normal::Batch);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(nice_0), batch)
    }

    #[cfg(test)]
    mod tests {
        use std::thread;

        use super::*;

        #[test]
        fn only_the_policy_changes_and_only_of_this_thread() {
            if thread_schedule_policy() != Ok(Policy::Normal(Normal::Other)) || getpriority_process(None) != Ok(0) {
                return;
            }
            let changed = || {
                super::super::interrupt_nobody();
                (thread_schedule_policy(), getpriority_process(None))
            };
            assert_eq!(thread::spawn(changed).join().unwrap(), (Ok(Policy::Normal(Normal::Batch)), Ok(0)));
            assert_eq!(thread_schedule_policy(), Ok(Policy::Normal(Normal::Other)));
        }
    }
}
