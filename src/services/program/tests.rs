//! Real programs, as they are on every machine. Waiting is for what they do, with a minute as the limit for any of it.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::fs::{Mode, OFlags};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn program(command: &[&str]) -> Program {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Program { command, timeout: MINUTE, max_output: 2 << 20 }
}

fn shell(script: &str) -> Program {
    program(&["/bin/sh", "-c", script])
}

fn asker() -> Asker<'static> {
    Asker { id: "1c9f02ab".repeat(8), label: "alpha", service: "test" }
}

/// Its outcome, its answer, and what it has said.
fn run_with(program: &Program, payload: &[u8], children: &Children) -> (Outcome, Vec<u8>, Vec<String>) {
    let mut lines = Vec::new();
    let mut tell = |_, line: &str| {
        lines.push(line.to_owned());
        true
    };
    let deadline = Instant::now() + 2 * MINUTE;
    let (outcome, answer) = program.attempt(&asker(), payload, deadline, children, &mut tell);
    assert_eq!(children.count(), Some(0), "none is left in the books");
    (outcome, answer, lines)
}

fn run(program: &Program, payload: &[u8]) -> (Outcome, Vec<u8>) {
    let (outcome, answer, lines) = run_with(program, payload, &Children::new());
    assert_eq!(lines, [""; 0]);
    (outcome, answer)
}

/// Runs it on a thread of its own; its lines come as they are said.
fn begin(program: Program, children: &Arc<Children>) -> (Receiver<String>, thread::JoinHandle<Outcome>) {
    let (told, lines) = channel();
    let children = Arc::clone(children);
    let running = thread::spawn(move || {
        let mut tell = |_, line: &str| told.send(line.to_owned()).is_ok();
        program.attempt(&asker(), &[], Instant::now() + MINUTE, &children, &mut tell).0
    });
    (lines, running)
}

fn mebibyte() -> Vec<u8> {
    (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Waits until a process is gone, or is one whose new parent only has not looked at it yet.
fn await_death(pid: &str) {
    let until = Instant::now() + MINUTE;
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit(')').next()?.trim().chars().next();
    while state().is_some_and(|state| !matches!(state, 'Z' | 'X')) {
        assert!(Instant::now() < until, "{pid} lives on");
        thread::yield_now();
    }
}

#[test]
fn bytes_of_all_kinds_go_in_and_come_out() {
    let payload = mebibyte();
    for sent in [&payload[..], &[], &[0], &[0xff; 100_000]] {
        let (outcome, answer) = run(&program(&["/bin/cat"]), sent);
        assert!(outcome == Outcome::Done && answer == sent, "{outcome:?}, {} bytes", answer.len());
    }
}

#[test]
fn it_knows_who_asks_and_has_what_the_node_has() {
    let (_, answer) = run(&program(&["env"]), &[]);
    let said = String::from_utf8(answer).unwrap();
    let id = format!("KITHD_CALLER_ID={}", "1c9f02ab".repeat(8));
    let path = format!("PATH={}", std::env::var("PATH").unwrap());
    for expected in [&*id, "KITHD_CALLER_LABEL=alpha", "KITHD_SERVICE=test", &path] {
        assert!(said.lines().any(|line| line == expected), "no {expected} in {said}");
    }
    let arguments = ["printf", "%s|", "a b", "$HOME", "*", ""];
    assert_eq!(run(&program(&arguments), &[]).1, b"a b|$HOME|*||", "no shell has read them");
}

#[test]
fn its_status_is_the_outcome() {
    assert_eq!(run(&shell("echo no; exit 3"), &[]), (Outcome::Failed(Failure::Exit(3)), b"no\n".to_vec()));
    assert_eq!(run(&shell("exit 255"), &[]), (Outcome::Failed(Failure::Exit(255)), vec![]));
    assert_eq!(run(&shell("echo half; kill -SEGV $$"), &[]), (Outcome::Failed(Failure::Signal(11)), vec![]));
}

#[test]
fn its_timeout_ends_all_that_it_has_started() {
    // As long as it takes a busy machine to begin.
    for timeout in [200, 1000, 5000, 30_000].map(Duration::from_millis) {
        let program = Program { timeout, ..shell("sleep 600 & echo $! >&2; wait") };
        let (outcome, answer, lines) = run_with(&program, &[], &Children::new());
        assert_eq!((outcome, answer), (Outcome::Failed(Failure::TimedOut), vec![]));
        if let Some(pid) = lines.first() {
            return await_death(pid);
        }
    }
    panic!("it has never begun");
}

#[test]
fn the_callers_deadline_counts_too_and_nothing_begins_after_it() {
    let (children, now) = (Children::new(), Instant::now());
    let mut quiet = |_, _: &str| true;
    let mut outcome = |deadline| program(&["sleep", "600"]).attempt(&asker(), &[], deadline, &children, &mut quiet).0;
    assert_eq!(outcome(now + Duration::from_millis(50)), Outcome::Failed(Failure::TimedOut));
    assert_eq!(outcome(now), Outcome::Refused(Refusal::TimedOut));
}

#[test]
fn more_output_than_allowed_ends_it() {
    let limited = |max_output, command: &[&str]| run(&Program { max_output, ..program(command) }, &[]);
    let too_large = (Outcome::Failed(Failure::TooLarge), vec![]);
    assert_eq!(limited(1 << 20, &["yes"]), too_large);
    assert_eq!(limited(4, &["printf", "12345"]), too_large, "however it ended");
    assert_eq!(limited(5, &["printf", "12345"]), (Outcome::Done, b"12345".to_vec()));
    assert_eq!(limited(0, &["true"]), (Outcome::Done, vec![]));
}

#[test]
fn what_it_does_not_want_to_hear_is_no_error() {
    let payload = mebibyte();
    assert_eq!(run(&shell("echo ok"), &payload), (Outcome::Done, b"ok\n".to_vec()));
    assert_eq!(run(&shell("exec <&-; echo ok"), &payload), (Outcome::Done, b"ok\n".to_vec()));
    assert_eq!(run(&program(&["head", "-c", "3"]), &payload), (Outcome::Done, payload[..3].to_vec()));
}

#[test]
fn it_may_close_its_output_and_go_on() {
    let script = "exec >&- 2>&-; cat >/dev/null; exit 123";
    assert_eq!(run(&shell(script), &[7; 100_000]), (Outcome::Failed(Failure::Exit(123)), vec![]));
}

#[test]
fn what_it_leaves_behind_does_not_hold_its_answer_and_does_not_outlive_it() {
    let begun = Instant::now();
    let (outcome, answer, lines) = run_with(&shell("sleep 600 & echo $! >&2; echo done"), &[], &Children::new());
    assert_eq!((outcome, answer), (Outcome::Done, b"done\n".to_vec()));
    assert!(begun.elapsed() < MINUTE, "it waited for its timeout");
    await_death(&lines[0]);
}

#[test]
fn all_that_it_wrote_before_its_end_is_its_answer() {
    for _ in 0..50 {
        let (outcome, answer, lines) = run_with(&shell("head -c 60000 /dev/zero; echo e >&2"), &[], &Children::new());
        assert_eq!((outcome, answer.len(), lines), (Outcome::Done, 60_000, vec!["e".to_owned()]));
    }
}

#[test]
fn what_it_complains_of_is_told_in_harmless_lines() {
    let script = "printf 'one\\n\\033[2Jtwo' >&2; i=0; while [ $i -lt 99 ]; do echo; echo $i; i=$((i+1)); done >&2";
    let (outcome, _, lines) = run_with(&shell(script), &[], &Children::new());
    assert_eq!(outcome, Outcome::Done);
    assert_eq!((lines.len(), &*lines[0], &*lines[1], &*lines[32]), (33, "one", "\\u{1b}[2Jtwo", "(69 more lines)"));
}

#[test]
fn what_cannot_be_started_is_told_with_its_cure() {
    let directory = tempfile::TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::write(at("plain"), "echo a").unwrap();
    // Never open for writing: a program that another test starts just then would hold it open, and it would be busy.
    rustix::fs::open(at("script"), OFlags::CREATE | OFlags::RDONLY, Mode::RWXU).unwrap();
    for (command, cause) in [
        (at("none"), "no such program, or none that runs its script; give the path of one that exists"),
        (at("plain"), "permission denied; let the user that kithd runs as execute it"),
        (at("script"), "is no program; let a script begin with #! and what runs it"),
        ("a\0b".to_owned(), "is no command; give one without NUL bytes"),
    ] {
        let (outcome, _, lines) = run_with(&program(&[&command]), &[], &Children::new());
        assert_eq!(outcome, Outcome::Failed(Failure::NotStarted), "{command}");
        assert!(lines.len() == 1 && lines[0].ends_with(cause), "{lines:?}");
        assert!(!lines[0].contains(char::is_control), "{lines:?}");
    }
}

#[test]
fn the_nodes_end_is_theirs_and_none_begins_after_it() {
    let children = Arc::new(Children::new());
    let all: Vec<_> = (0..3).map(|_| begin(shell("sleep 600 & echo $! >&2; wait"), &children)).collect();
    let leftovers: Vec<String> = all.iter().map(|(lines, _)| lines.recv_timeout(MINUTE).unwrap()).collect();
    assert_eq!(children.count(), Some(3));
    children.kill_all();
    for (_, running) in all {
        assert_eq!(running.join().unwrap(), Outcome::Failed(Failure::Signal(9)));
    }
    leftovers.iter().for_each(|pid| await_death(pid));
    let (lines, running) = begin(program(&["true"]), &children);
    assert_eq!(running.join().unwrap(), Outcome::Refused(Refusal::Leaving));
    assert!(lines.recv().is_err());
}

/// As where the system has no descriptor for a process.
#[test]
fn its_end_is_noticed_without_the_systems_help() {
    let children = Children::new();
    let blind = |script: &str, until| {
        let command = shell(script).command(&asker()).unwrap();
        let mut run = Run::start(command, &[], 100, &children).unwrap();
        run.ended = None;
        let end = run.attend(until, &mut |_, _: &str| true);
        run.answer(end)
    };
    let far = Instant::now() + MINUTE;
    assert_eq!(blind("echo a", far), (Outcome::Done, b"a\n".to_vec()));
    assert_eq!(blind("exec >&- 2>&-; exit 3", far), (Outcome::Failed(Failure::Exit(3)), vec![]));
    let soon = Instant::now() + Duration::from_millis(50);
    assert_eq!(blind("exec sleep 600", soon).0, Outcome::Failed(Failure::TimedOut));
    assert!(children.count() == Some(0) && Instant::now() < far);
}

/// What a caller makes of a thread that panics is its own matter; the program ends with it.
#[test]
fn a_run_that_is_dropped_ends() {
    let children = Children::new();
    let command = shell("sleep 600 & wait").command(&asker()).unwrap();
    let run = Run::start(command, &[], 100, &children).unwrap();
    let pid = run.child.id();
    assert_eq!(children.count(), Some(1));
    drop(run);
    assert_eq!(children.count(), Some(0));
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "reaped");
}
