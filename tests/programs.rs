//! Programs that serve: whatever becomes of them, they leave nothing behind. One test, since it counts what the whole
//! process has.

use std::fs;
use std::time::{Duration, Instant};

use kithd::protocol::requests::message::{Failure, Outcome};
use kithd::services::children::Children;
use kithd::services::program::{Asker, Program};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Processes whose parent is this one, dead or alive.
fn offspring() -> usize {
    let own = std::process::id().to_string();
    let parent = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(stat.rsplit(')').next()?.split_whitespace().nth(1)?.to_owned())
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    entries.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && parent(name).is_some_and(|p| p == own)).count()
}

#[test]
fn two_hundred_runs_leave_no_descriptor_and_no_process() {
    let children = Children::new();
    let asker = Asker { id: "0".repeat(64), label: "alpha", service: "test" };
    let run = |timeout: u64, script: &str| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).into();
        let program = Program { command, timeout: Duration::from_millis(timeout), max_output: 1000 };
        program.run(&asker, &[7; 100_000], Instant::now() + Duration::from_secs(120), &children).0
    };
    let nowhere =
        Program { command: vec!["/no/such/program".to_owned()], timeout: Duration::from_secs(9), max_output: 9 };
    let before = (descriptors(), offspring());
    for _ in 0..40 {
        assert_eq!(run(60_000, "cat >/dev/null; echo ok"), Outcome::Done);
        assert_eq!(run(60_000, "sleep 600 & exit 3"), Outcome::Failed(Failure::Exit(3)));
        assert_eq!(run(60_000, "exec yes"), Outcome::Failed(Failure::TooLarge));
        assert_eq!(run(20, "sleep 600 & wait"), Outcome::Failed(Failure::TimedOut));
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(nowhere.run(&asker, &[], deadline, &children).0, Outcome::Failed(Failure::NotStarted));
    }
    assert_eq!((descriptors(), offspring()), before);
    assert_eq!(children.count(), Some(0));
}
