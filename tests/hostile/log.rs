//! Cases about the log: a place that takes no lines, and strangers who would fill it.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use crate::daemon::{Daemon, Network};
use crate::evil_member::memory;
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::small_disk::SmallDisk;

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
