//! `kithd demo` as its user sees it. These nodes are real and so is their time: the bounds are wide, the waits are not
//! fixed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kithd"));
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

fn ended(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Without a terminal a node's death and return are lines that follow each other, and nothing is left behind.
#[test]
fn a_node_is_killed_missed_and_back_again() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&["--nodes", "3", "--duration", "12s"]).env("TMPDIR", temporary.path()).output().unwrap();
    let (code, out, err) = ended(&output);
    assert_eq!((code, err), (Some(0), ""), "{out}");
    assert!(!out.contains('\u{1b}'), "{out}");
    let story = [
        "all 3 running nodes agree",
        "beta is stopped as if killed",
        "alpha sees that beta is suspect",
        "alpha sees that beta is down",
        "all 2 running nodes agree",
        "beta is started again on its files, with the same id",
        "alpha sees that beta is up",
        "all 3 running nodes agree",
    ];
    let mut rest = out;
    for step in story {
        let found = rest.find(step).unwrap_or_else(|| panic!("{step:?} is missing or too early:\n{out}"));
        rest = &rest[found + step.len()..];
    }
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "the nodes' directories are removed");
}

#[test]
fn a_signal_ends_it_at_once_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(&["--nodes", "8"]).env("TMPDIR", temporary.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("all 8 running nodes agree")).unwrap().unwrap();
    let asked = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn wrong_values_are_one_line_and_exit_2() {
    for args in [
        ["--nodes", "1"],
        ["--nodes", "33"],
        ["--nodes", "many"],
        ["--nodes", "-3"],
        ["--duration", "15"],
        ["--duration", "0s"],
        ["--duration", "25h"],
        ["--duration", "soon"],
    ] {
        let output = demo(&args).output().unwrap();
        let (code, out, err) = ended(&output);
        assert_eq!((code, out), (Some(2), ""), "{args:?}");
        assert!(err.starts_with("kithd: ") && err.lines().count() == 1, "{args:?}: {err}");
    }
}

#[test]
fn a_place_that_cannot_be_is_one_line_and_exit_4() {
    let output = demo(&[]).env("TMPDIR", "/dev/null").output().unwrap();
    let (code, out, err) = ended(&output);
    assert_eq!((code, out), (Some(4), ""));
    assert!(err.contains("TMPDIR") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let mut child = demo(&["--nodes", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(ended(&output), (Some(0), "", ""));
}
