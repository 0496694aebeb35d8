//! Cases about the log: a place that takes no lines, and strangers who would fill it.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, Ended, Network, kithd};
use crate::evil_member::{counted, memory};
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::small_disk::SmallDisk;
use crate::stranger::Line;

/// A pipe that takes not one byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(b"=====\n").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

fn lost(node: &Daemon) -> u64 {
    node.status()["dropped"]["log-full"].as_u64().unwrap_or(0)
}

/// The report's warning of lines that the log has lost and not said.
fn warning(node: &Daemon) -> Option<String> {
    let warnings = node.status()["warnings"].as_array().unwrap().clone();
    let mut warnings = warnings.iter().map(|warning| warning.as_str().unwrap().to_owned());
    warnings.find(|warning| warning.starts_with("the log has lost"))
}

/// Makes it write, and asks it all the while, until it has lost so many lines more.
fn until_lost(node: &Daemon, more: u64) {
    let before = lost(node);
    until(&format!("{} has lost {more} lines of its log", node.label), SOON, || {
        // A signal that comes while another waits is one with it: hence a question after each.
        for _ in 0..20 {
            node.signal(Signal::USR1);
            node.status();
        }
        let lost = lost(node) - before;
        if lost >= more { Ok(()) } else { Err(format!("{lost}")) }
    });
}

fn ends(mut node: Daemon) {
    let start = Instant::now();
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
    println!("ended within {:.2} s", start.elapsed().as_secs_f64());
}

/// Reads on, whatever comes.
fn reading(mut reader: PipeReader) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&text);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            told.lock().push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    });
    text
}

/// No thread of the node waits for whoever reads standard error: it serves, it counts what it drops, its status warns, and
/// when somebody reads again the log says at its place how much is missing.
#[test]
fn case_50_a_log_that_nobody_reads_stops_nothing() {
    let network = Network::new();
    let (reader, writer) = full_pipe();
    let a = network.node("a").with(&["--log-level", "trace"]).start_telling(writer);
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    let before = memory(&a, "VmRSS");
    until_lost(&a, 100);
    println!("{} KiB resident, {} KiB before", memory(&a, "VmRSS") >> 10, before >> 10);
    let warned = warning(&a).unwrap();
    assert!(warned.contains("nobody reads it") && warned.contains("log.file"), "{warned}");
    let c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);

    let told = reading(reader);
    until("the log says what is missing", SOON, || {
        let text = told.lock();
        if text.contains(" log lines were dropped here\n") { Ok(()) } else { Err(format!("{} bytes", text.len())) }
    });
    until("the warning is taken back", SOON, || warning(&a).map_or(Ok(()), Err));
    assert!(lost(&a) >= 100, "what was lost stays counted");
    ends(a);
    until("the log is written to its end", SOON, || {
        let text = told.lock();
        if text.contains("the node ends: as it was told") { Ok(()) } else { Err(format!("{} bytes", text.len())) }
    });
    let text = told.lock();
    let is_whole = |line: &&str| *line == "=====" || line.starts_with("20") && line.contains(" [");
    assert!(text.lines().all(|line| is_whole(&line)), "{text}");
}

/// Nor does its end wait for long, orderly or not.
#[test]
fn case_50_a_node_whose_log_is_stuck_ends_all_the_same() {
    let network = Network::new();
    let (_reader, writer) = full_pipe();
    let a = network.node("a").start_telling(writer.try_clone().unwrap());
    until_lost(&a, 1);

    let mut second = a.setup().command();
    let mut second = second.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    let ended = until("a node that cannot start ends", SOON, || second.try_wait().unwrap().ok_or("it runs".to_owned()));
    assert_eq!(ended.code(), Some(4));
    ends(a);
}

/// Nor is the ready line waited for: both outputs may be one pipe that an earlier run has filled.
#[test]
fn case_50_a_node_whose_outputs_are_both_stuck_serves_and_ends() {
    let setup = Network::new().node("a");
    let (_reader, writer) = full_pipe();
    let outputs = (writer.try_clone().unwrap(), writer);
    let mut node = setup.command().stdout(outputs.0).stderr(outputs.1).spawn().unwrap();
    until("it serves", SOON, || {
        let ended = Ended::of(kithd().args(["status", "--state-dir"]).arg(setup.state_dir()));
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
    let ended = until("it ends", SOON, || node.try_wait().unwrap().ok_or("it runs".to_owned()));
    assert_eq!(ended.code(), Some(0));
}

/// A log file that is a pipe without a reader is refused, rather than waited for; with a slow one it is like any other.
#[test]
fn case_50_a_log_file_that_is_a_pipe_is_not_waited_for() {
    let setup = Network::new().node("a");
    let place = setup.home().join("log");
    mknodat(CWD, &place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let setup = setup.with(&["--log-file", place.to_str().unwrap()]);
    assert!(setup.refused().one_line(4).contains("--log-file"));
    let reader = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&place).unwrap();
    let a = setup.start();
    until_lost(&a, 1);
    assert!(warning(&a).unwrap().contains("nobody reads it"));
    drop(reader);
    // Another test's child may have a copy of it, until it has become the program that it is to be.
    until("it says so", SOON, || {
        a.signal(Signal::HUP);
        if a.stderr().contains("cannot be opened anew") { Ok(()) } else { Err(a.stderr()) }
    });
    ends(a);
}

/// A reader that has died gives no signal that would end the node.
#[test]
fn case_50_a_log_whose_reader_died_stops_nothing() {
    let network = Network::new();
    let (reader, writer) = pipe().unwrap();
    let a = network.node("a").start_telling(writer);
    drop(reader);
    until_lost(&a, 3);
    assert!(warning(&a).unwrap().contains("Broken pipe"));
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    ends(a);
}

#[test]
fn case_50_a_log_on_a_full_disk_stops_nothing_and_goes_on_with_room() {
    let network = Network::new();
    let setup = network.node("a");
    let place = setup.home().join("disk");
    let Some(disk) = SmallDisk::mount(&place) else {
        println!("SKIPPED: this user may not mount a small file system to fill");
        return;
    };
    let file = place.join("log");
    let a = setup.with(&["--log-file", file.to_str().unwrap()]).start();
    let filler = disk.fill();
    until_lost(&a, 3);
    assert!(warning(&a).unwrap().contains("No space left"));
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    fs::remove_file(filler).unwrap();
    until("the log says what is missing", SOON, || {
        a.signal(Signal::USR1);
        let text = fs::read_to_string(&file).unwrap();
        if text.contains(" log lines were dropped here\n") { Ok(()) } else { Err(text) }
    });
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| line.starts_with("20")), "{text}");
    until("the warning is taken back", SOON, || warning(&a).map_or(Ok(()), Err));
    ends(a);
}

/// Lines of the log that say something was refused for that reason; those that sum up are not among them.
fn told(log: &str, reason: &str) -> usize {
    let told =
        |line: &&str| line.contains("refused 127.") && line.contains(reason) && !line.contains("more in a minute");
    log.lines().filter(told).count()
}

/// What two hundred strangers are refused for is counted two hundred times, and told ten times.
fn flooded() -> Daemon {
    let a = Network::new().start("a");
    for _ in 0..200 {
        Line::to(a.address).send(b"GET / HTTP/1.1\r\n\r\n");
    }
    counted(&a, "not-kithd", 200);
    a
}

/// An attacker fills no disk and hides in nothing: ten lines a minute for each reason, and one of how many more there were.
#[test]
fn case_51_a_flood_of_refusals_is_ten_lines() {
    let start = Instant::now();
    let a = flooded();
    until("ten lines tell of it", SOON, || {
        let told = told(&a.stderr(), "not-kithd");
        if told >= 10 { Ok(()) } else { Err(format!("{told}")) }
    });
    // What comes after these lines in the log comes after the flood.
    a.signal(Signal::USR1);
    a.says("report: ");
    let told = told(&a.stderr(), "not-kithd");
    // A very slow machine may have come into another minute.
    let most = 10 * (1 + start.elapsed().as_secs() as usize / 60);
    assert!(told <= most, "{told} lines: {}", a.stderr());
}

/// `cargo test --test hostile -- --ignored`
#[test]
#[ignore = "takes more than a minute"]
fn case_51_the_rest_of_a_flood_is_summed_up_in_a_line() {
    let a = flooded();
    until("the log says how many more there were", 2 * SOON, || {
        let log = a.stderr();
        if log.contains("refused 190 more in a minute: not-kithd") { Ok(()) } else { Err(log) }
    });
}

/// Nor does another user of this machine, or a crowd of the node's own user's, fill it from the admin socket.
#[test]
fn case_51_a_crowd_at_the_admin_socket_is_ten_lines() {
    let a = Network::new().node("a").with(&["--limits-max-admin-clients", "1"]).start();
    let start = Instant::now();
    for _ in 0..20 {
        let crowd: Vec<UnixStream> = (0..10).map(|_| UnixStream::connect(&a.socket).unwrap()).collect();
        // All but the first are told and closed.
        for mut refused in crowd.into_iter().skip(1) {
            refused.set_read_timeout(Some(SOON)).unwrap();
            let mut said = String::new();
            let _ = refused.read_to_string(&mut said);
        }
    }
    a.says("turned away");
    a.signal(Signal::USR1);
    a.says("report: ");
    let told = a.stderr().lines().filter(|line| line.contains("turned away")).count();
    let most = 11 * (1 + start.elapsed().as_secs() as usize / 60);
    assert!(told <= most, "{told} lines");
}
