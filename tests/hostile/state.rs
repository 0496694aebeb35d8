//! Cases about the state directory: disks that are full or not to be written, files that are damaged, two nodes on one of
//! them, and an end in the midst of a save.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use kithd::controller::state_dir::StateDir;
use kithd::protocol::address_book::KnownAddress;
use kithd::protocol::node::Memory;
use kithd::secure::keys::{Identity, IdentityError};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, Setup};
use crate::evil_member::{is_sound, memory};
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::small_disk::SmallDisk;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn warned(node: &Daemon, of: &[&str]) {
    until(&format!("the status warns of {of:?}"), SOON, || {
        let warnings = node.status()["warnings"].to_string();
        if of.iter().all(|of| warnings.contains(of)) { Ok(()) } else { Err(warnings) }
    });
}

fn warned_no_more(node: &Daemon, of: &str) {
    until("the warning is taken back", SOON, || {
        let warnings = node.status()["warnings"].to_string();
        if warnings.contains(of) { Err(warnings) } else { Ok(()) }
    });
}

fn known(setup: &Setup) -> PathBuf {
    setup.state_dir().join("known.json")
}

fn set_aside(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("known.json.corrupt-")).collect()
}

fn ends_in_order(node: &mut Daemon) {
    node.signal(Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
}

/// A disk of 64 KiB, full: the node goes on from memory, says so, and leaves the old file as it is; with room again it is
/// written after all.
#[test]
fn case_46_a_full_disk_is_lived_with_and_nothing_is_lost() {
    let network = Network::new();
    let a = network.start("a");
    let setup = network.node("b").connect(a.address);
    let Some(disk) = SmallDisk::mount(&setup.state_dir()) else {
        println!("SKIPPED: this user may not mount a small file system to fill");
        return;
    };
    let mut b = setup.start();
    agreed(&[&a, &b]);
    ends_in_order(&mut b);
    let before = fs::read(known(b.setup())).unwrap();

    let filler = disk.fill();
    b.start_again();
    agreed(&[&a, &b]);
    // Something new to keep.
    let c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);
    warned(&b, &["known.json cannot be written", "No space left", "make room"]);
    assert_eq!(fs::read(known(b.setup())).unwrap(), before, "the old file is intact");

    fs::remove_file(filler).unwrap();
    warned_no_more(&b, "known.json");
    let kept = fs::read_to_string(known(b.setup())).unwrap();
    assert!(kept.contains(&c.address.to_string()), "{kept}");
    disk.fill();
    ends_in_order(&mut b);
    drop(b);
}

/// A directory in which nothing may be made any more. (A disk that fails otherwise, at any step of a save and for whatever
/// reason, is in `src/controller/whole_file.rs`.)
#[test]
fn case_46_a_directory_that_is_not_to_be_written_is_lived_with() {
    let network = Network::new();
    let a = network.start("a");
    let setup = network.node("b").connect(a.address);
    let is_root = rustix::process::geteuid().is_root();
    // Root may write wherever it likes.
    let setup = match is_root {
        true => setup.under("exec setpriv --reuid 65534 --regid 65534 --clear-groups"),
        false => setup,
    };
    if is_root {
        chown(setup.home(), Some(65_534), Some(65_534)).unwrap();
        if !setup.command().arg("--help").output().is_ok_and(|output| output.status.success()) {
            println!("SKIPPED: this user cannot run a node as another one");
            return;
        }
    }
    let mut b = setup.start();
    agreed(&[&a, &b]);
    until("it has written down where a is", SOON, || {
        let text = fs::read_to_string(known(b.setup())).unwrap_or_default();
        if text.contains(&a.address.to_string()) { Ok(()) } else { Err(text) }
    });
    let state_dir = b.setup().state_dir();
    set_mode(&state_dir, 0o500);
    let before = fs::read(known(b.setup())).unwrap();
    let c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);
    warned(&b, &["known.json cannot be written", "Permission denied", "let the node write"]);
    assert_eq!(fs::read(known(b.setup())).unwrap(), before, "the old file is intact");
    set_mode(&state_dir, 0o700);
    warned_no_more(&b, "known.json");
    assert!(fs::read_to_string(known(b.setup())).unwrap().contains(&c.address.to_string()));
    is_sound(&b);
    ends_in_order(&mut b);
}

/// Each bit of it flipped, and each of its beginnings: it is what was written, or it is set aside.
#[test]
fn case_47_no_damage_to_known_json_is_taken_for_something_else() {
    let place = tempfile::tempdir().unwrap();
    let state = StateDir::open(place.path()).unwrap();
    let file = place.path().join("known.json");
    let address = KnownAddress { address: "127.0.0.1:7100".into(), node: Some("0f".repeat(32)), since: Some(7) };
    let kept = Memory { version: 1_800_000_000_000, addresses: vec![address], ..Memory::default() };
    state.save(&kept).unwrap();
    let sound = fs::read(&file).unwrap();
    let flipped = (0..sound.len() * 8).map(|bit| {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cut = (0..sound.len()).map(|length| sound[..length].to_vec());
    let (mut damaged, mut harmless) = (0, 0);
    for content in flipped.chain(cut) {
        fs::write(&file, &content).unwrap();
        let (found, warning) = state.load();
        let aside = set_aside(place.path());
        if warning.is_none() {
            // White space around what the checksum is over.
            assert!(found == kept && aside.is_empty(), "{}", String::from_utf8_lossy(&content));
            harmless += 1;
            continue;
        }
        assert_eq!((found, file.exists(), aside.len()), (Memory::default(), false, 1));
        assert_eq!(fs::read(&aside[0]).unwrap(), content, "it is kept for whoever wants to look");
        fs::remove_file(&aside[0]).unwrap();
        damaged += 1;
    }
    println!("{damaged} were set aside, {harmless} flips changed nothing that counts");
    assert!(damaged > 20 * harmless);
}

/// Of a file of any size no more is read than a node could have written.
#[test]
fn case_47_a_known_json_of_four_gibibytes_is_not_read() {
    let network = Network::new();
    let mut a = network.start("a");
    let usual = memory(&a, "VmHWM");
    a.kill();
    // It takes no room on the disk.
    File::create(known(a.setup())).unwrap().set_len(4 << 30).unwrap();
    a.start_again();
    warned(&a, &["known.json is damaged", "too long"]);
    let aside = set_aside(&a.setup().state_dir());
    assert_eq!(fs::metadata(&aside[0]).unwrap().len(), 4 << 30);
    let most = memory(&a, "VmHWM");
    println!("at most {} KiB resident, {} without such a file", most >> 10, usual >> 10);
    assert!(most < usual + (32 << 20), "{usual} bytes resident usually, {most} now");
}

/// Each bit of it flipped, and each of its beginnings: an identity is what it was, or there is none; and no file of one is
/// ever written over.
#[test]
fn case_47_a_damaged_identity_is_never_another_one() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("identity.key");
    let identity = Identity::load_or_create(&file).unwrap();
    let id = format!("{identity:?}");
    let sound = fs::read(&file).unwrap();
    for bit in 0..sound.len() * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &flipped).unwrap();
        match Identity::load_or_create(&file) {
            // Capital digits are digits.
            Ok(found) => assert_eq!(format!("{found:?}"), id, "bit {bit}"),
            Err(error) => assert!(matches!(error, IdentityError::Damaged), "bit {bit}: {error:?}"),
        }
        assert_eq!(fs::read(&file).unwrap(), flipped);
    }
    for length in 0..sound.len() {
        fs::write(&file, &sound[..length]).unwrap();
        let loaded = Identity::load_or_create(&file);
        // Without its last newline it is the same.
        assert!(loaded.is_err() || length == sound.len() - 1, "the first {length} bytes");
        assert_eq!(fs::read(&file).unwrap(), &sound[..length]);
    }
}

/// The daemon says in one line that its identity is damaged, and ends.
#[test]
fn case_47_with_a_damaged_identity_a_node_does_not_start() {
    let network = Network::new();
    let mut a = network.start("a");
    a.kill();
    let file = a.setup().state_dir().join("identity.key");
    File::options().write(true).open(&file).unwrap().set_len(4 << 30).unwrap();
    let refused = a.setup().refused();
    let line = refused.one_line(4);
    assert!(line.contains("identity.key") && line.contains("is damaged") && line.contains("backup"), "{line}");
}

/// Also while the first one is stopped: the lock is the system's, and goes with the process that holds it.
#[test]
fn case_48_a_state_directory_belongs_to_one_node_at_a_time() {
    let network = Network::new();
    let mut a = network.start("a");
    for signal in [None, Some(Signal::STOP)] {
        signal.into_iter().for_each(|signal| a.signal(signal));
        let start = Instant::now();
        let refused = a.setup().refused();
        assert!(refused.one_line(4).contains("in use by a running node"));
        println!("refused after {:.3} s", start.elapsed().as_secs_f64());
    }
    a.signal(Signal::CONT);
    assert_eq!(a.client(&["identity"]).code, Some(0), "the first one serves on");
    a.kill();
    let id = a.id.clone();
    a.start_again();
    assert_eq!(a.id, id, "what a killed node held is free");
}

/// The node as it is killed by the system on entering its n-th of these calls of one thread, and what it calls is written
/// down. `None` if this user may not trace processes.
fn traced(setup: &Setup, trace: &Path, inject: &str) -> Option<Setup> {
    let strace =
        format!("exec strace -D -f -qq -y -o {} -e trace=fsync,rename,renameat,renameat2 {inject}", trace.display());
    let setup = setup.clone().under(&strace);
    let works = Command::new("strace").args(["-D", "-f", "-qq", "-o", "/dev/null", "true"]).output();
    works.is_ok_and(|output| output.status.success()).then_some(setup)
}

/// Bans one address after another until the node is dead or so many are acknowledged: those that were acknowledged.
fn ban(node: &Daemon, round: usize, most: usize) -> BTreeSet<String> {
    let mut banned = BTreeSet::new();
    let mut socket = UnixStream::connect(&node.socket).unwrap();
    let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
    for number in 0..most {
        let address = format!("10.0.{round}.{number}");
        let line = json!({"verb": "ban", "args": {"target": address}}).to_string() + "\n";
        if socket.write_all(line.as_bytes()).is_err() {
            break;
        }
        let Some(Ok(answer)) = answers.next() else { break };
        assert!(!answer.contains("\"error\""), "{answer}");
        banned.insert(address);
    }
    banned
}

fn kept(setup: &Setup) -> BTreeSet<String> {
    let form: Value = serde_json::from_slice(&fs::read(known(setup)).unwrap()).unwrap();
    let rows = form["memory"]["bans"].as_array().unwrap();
    rows.iter().map(|row| row["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// What a save calls, as the system sees it: the file is on the disk before it has its name, and the name is before
/// anybody is told. (Power cuts at each step are in `src/controller/whole_file.rs`.)
#[test]
fn case_49_a_save_syncs_the_file_then_renames_it_then_syncs_the_directory() {
    let network = Network::new();
    let setup = network.node("a");
    let trace = setup.home().join("trace");
    let Some(setup) = traced(&setup, &trace, "") else {
        println!("SKIPPED: this user may not trace processes");
        return;
    };
    let mut a = setup.start();
    assert_eq!(ban(&a, 0, 1).len(), 1);
    let text = fs::read_to_string(&trace).unwrap();
    let state_dir = fs::canonicalize(a.setup().state_dir()).unwrap();
    let calls: Vec<&str> = text
        .lines()
        .filter_map(|line| match line {
            _ if line.contains("rename") && line.contains("known.json") => Some("rename"),
            _ if line.contains("fsync") && line.contains(".known.json.") => Some("fsync of the file"),
            _ if line.contains("fsync") && line.contains(&format!("<{}>", state_dir.display())) => {
                Some("fsync of its place")
            }
            _ => None,
        })
        .collect();
    let at = calls.iter().position(|call| *call == "fsync of the file").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(calls[at..][..3], ["fsync of the file", "rename", "fsync of its place"], "{text}");
    a.kill();
}

/// Killed by the system itself at each of these calls of two saves.
#[test]
fn case_49_a_node_killed_at_each_call_of_a_save_has_the_old_or_the_new() {
    let network = Network::new();
    let setup = network.node("a");
    let mut a = setup.clone().start();
    let mut promised = ban(&a, 0, 1);
    a.kill();
    for call in 1..=6 {
        let inject = format!("-e inject=fsync,rename,renameat,renameat2:signal=KILL:when={call}");
        let Some(traced) = traced(&setup, &setup.home().join("trace"), &inject) else {
            println!("SKIPPED: this user may not trace processes");
            return;
        };
        let mut a = traced.start();
        let acknowledged = ban(&a, call, 100);
        assert!(acknowledged.len() < 100, "nothing has killed it");
        assert!(!a.ended().success());
        promised.extend(acknowledged);
        let found = kept(&setup);
        let more = found.difference(&promised).count();
        assert!(
            promised.is_subset(&found) && more <= 1,
            "call {call}: {promised:?} were promised, {found:?} are there"
        );
        promised = found;
    }
    let a = setup.start();
    assert_eq!(a.json(&["bans"])["bans"].as_array().unwrap().len(), promised.len());
    assert!(!a.stderr().contains("damaged"), "{}", a.stderr());
}
