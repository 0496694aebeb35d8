//! What a node keeps on disk: damage is set aside with a warning, a full disk is lived with, nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Network, write};
use crate::patience::{SOON, until};
use crate::report::agreed;

fn warned(node: &Daemon, of: &str) {
    until(&format!("the status warns of {of}"), SOON, || {
        let warnings = node.status()["warnings"].to_string();
        if warnings.contains(of) { Ok(()) } else { Err(format!("{warnings}\n{}", node.stderr())) }
    });
}

/// What else lies beside `known.json`, by its name.
fn set_aside(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("known.json.")).collect()
}

#[test]
fn a_damaged_known_json_is_set_aside_and_the_node_starts() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    b.signal(Signal::TERM);
    b.ended();
    let known = b.setup().state_dir().join("known.json");
    let sound = fs::read(&known).unwrap();
    assert!(serde_json::from_slice::<Value>(&sound).is_ok(), "{}", String::from_utf8_lossy(&sound));
    let long = [sound.clone(), vec![b' '; 32 << 20]].concat();

    for damaged in [&b"{\"version\""[..], b"", &sound[..sound.len() - 2], b"[]", b"\xff\xfe", &long] {
        for old in set_aside(&b.setup().state_dir()) {
            fs::remove_file(old).unwrap();
        }
        write(&known, damaged);
        let id = b.id.clone();
        b.start_again();
        assert_eq!(b.id, id);
        warned(&b, "known.json");
        let aside = set_aside(&b.setup().state_dir());
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert!(fs::read(&aside[0]).unwrap() == damaged, "what was set aside is not what was there: {aside:?}");
        agreed(&[&a, &b]);
        b.signal(Signal::TERM);
        b.ended();
        assert!(serde_json::from_slice::<Value>(&fs::read(&known).unwrap()).is_ok());
    }
}

#[test]
fn what_is_no_file_at_the_place_of_known_json_does_not_stop_a_node() {
    let network = Network::new();
    for kind in ["directory", "pipe", "link"] {
        let mut a = network.start("a");
        a.signal(Signal::TERM);
        a.ended();
        let state_dir = a.setup().state_dir();
        let known = state_dir.join("known.json");
        let _ = fs::remove_file(&known);
        let precious = state_dir.join("precious");
        match kind {
            "directory" => {
                fs::create_dir(&known).unwrap();
                write(&known.join("precious"), b"kept");
            }
            "pipe" => mknodat(CWD, &known, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap(),
            _ => {
                write(&precious, b"kept");
                std::os::unix::fs::symlink(&precious, &known).unwrap();
            }
        }
        a.start_again();
        warned(&a, "known.json");
        a.signal(Signal::TERM);
        assert_eq!(a.ended().code(), Some(0), "{kind}");
        match kind {
            "directory" => {
                let aside = set_aside(&state_dir);
                let places: Vec<PathBuf> = aside.iter().chain([&known]).map(|place| place.join("precious")).collect();
                assert!(places.iter().any(|place| fs::read(place).is_ok_and(|kept| kept == b"kept")), "{aside:?}");
            }
            "link" => assert_eq!(fs::read(&precious).unwrap(), b"kept"),
            _ => {}
        }
    }
}

/// A file system that the test mounts for itself, if it may.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=700", "kithd-test"]).arg(place).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(place.to_owned()))
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_lived_with_and_nothing_is_lost() {
    let network = Network::new();
    let a = network.start("a");
    let setup = network.node("b").connect(a.address);
    let Some(disk) = SmallDisk::mount(&setup.state_dir()) else {
        println!("SKIPPED: this user may not mount a small file system to fill");
        return;
    };
    let mut b = setup.start();
    agreed(&[&a, &b]);
    b.signal(Signal::TERM);
    assert_eq!(b.ended().code(), Some(0));
    let known = b.setup().state_dir().join("known.json");
    let before: Value = serde_json::from_slice(&fs::read(&known).unwrap()).unwrap();

    let filler = disk.fill();
    b.start_again();
    agreed(&[&a, &b]);
    // Something new to keep.
    let c = network.node("c").connect(a.address).start();
    agreed(&[&a, &b, &c]);
    warned(&b, "known.json");
    let kept: Value = serde_json::from_slice(&fs::read(&known).unwrap()).unwrap();
    assert_eq!(kept, before, "the old file is intact");

    // With room again it is written after all, and the warning is taken back.
    fs::remove_file(filler).unwrap();
    until("the warning is gone", SOON, || {
        let warnings = b.status()["warnings"].to_string();
        if warnings.contains("known.json") { Err(warnings) } else { Ok(()) }
    });
    let kept = fs::read_to_string(&known).unwrap();
    assert!(kept.contains(&c.address.to_string()), "{kept}");
    disk.fill();
    b.signal(Signal::TERM);
    assert_eq!(b.ended().code(), Some(0));
    drop(b);
}

/// On a disk without room for an identity a node cannot start; it must not make half of one.
#[test]
fn a_disk_that_is_full_from_the_start_is_exit_4() {
    let network = Network::new();
    let setup = network.node("a");
    let Some(disk) = SmallDisk::mount(&setup.state_dir()) else {
        println!("SKIPPED: this user may not mount a small file system to fill");
        return;
    };
    let filler = disk.fill();
    let ended = setup.refused();
    ended.one_line(4);
    fs::remove_file(filler).unwrap();
    let mut a = setup.start();
    let id = a.id.clone();
    a.kill();
    a.start_again();
    assert_eq!(a.id, id);
    drop(a);
}
