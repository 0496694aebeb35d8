//! What a node keeps on disk: damage is set aside with a warning, a full disk is lived with, nothing is lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, write};
use crate::patience::{SOON, until};
use crate::report::agreed;
use crate::small_disk::SmallDisk;

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

    let text = String::from_utf8(sound.clone()).unwrap();
    let row = "{\"address\":\"127.0.0.1:1\",\"node\":null}";
    let million = format!("{{\"version\":1,\"addresses\":[{}]}}", vec![row; 750_000].join(","));
    let changed = text.replace(&a.address.to_string(), "127.0.0.1:1");
    let claims = "{\"version\":1,\"addresses\":18446744073709551615}";
    let nested = "[".repeat(1 << 20);
    for (damaged, why) in [
        (&b"{\"version\""[..], "EOF"),
        (b"", "EOF"),
        (&sound[..sound.len() - 2], "EOF"),
        (b"[]", "invalid length"),
        (b"{}", "missing field"),
        (b"\xff\xfe", "expected value"),
        (&long, "too long"),
        (million.as_bytes(), "at most 32768"),
        (changed.as_bytes(), "checksum"),
        (text.replace("\"schema\": 1", "\"schema\": 7").as_bytes(), "schema 7"),
        (b"{\"version\":18446744073709551615,\"addresses\":[]}", "no moment of any clock"),
        (b"{\"version\":-1,\"addresses\":[]}", "invalid value"),
        (b"{\"version\":1,\"addresses\":[7]}", "invalid type"),
        (claims.as_bytes(), "invalid type"),
        (nested.as_bytes(), "invalid type"),
    ] {
        for old in set_aside(&b.setup().state_dir()) {
            fs::remove_file(old).unwrap();
        }
        write(&known, damaged);
        let id = b.id.clone();
        b.start_again();
        assert_eq!(b.id, id);
        warned(&b, "known.json is damaged");
        // The file, the cause, and the cure.
        let warning = b.status()["warnings"].to_string();
        println!("{}", &warning[..warning.len().min(300)]);
        assert!(warning.contains(why) && warning.contains("--connect"), "{why}: {warning}");
        let aside = set_aside(&b.setup().state_dir());
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert!(warning.contains(aside[0].to_str().unwrap()), "{warning}");
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
    for kind in ["directory", "pipe", "link", "sound link"] {
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
            "sound link" => {
                write(&precious, b"{\"version\": 1, \"addresses\": []}");
                std::os::unix::fs::symlink(&precious, &known).unwrap();
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
            "sound link" => assert_eq!(fs::read(&precious).unwrap(), b"{\"version\": 1, \"addresses\": []}"),
            _ => {}
        }
    }
}

/// One that this user may not read is no reason to stay away either; it is not written over.
#[test]
fn an_unreadable_known_json_is_set_aside() {
    let network = Network::new();
    let setup = network.node("a");
    let is_root = rustix::process::geteuid().is_root();
    // Root may read whatever it likes.
    let setup = match is_root {
        true => setup.under("exec setpriv --reuid 65534 --regid 65534 --clear-groups"),
        false => setup,
    };
    let own = |path: &Path| chown(path, is_root.then_some(65_534), is_root.then_some(65_534)).unwrap();
    let state_dir = setup.state_dir();
    fs::create_dir(&state_dir).unwrap();
    fs::set_permissions(&state_dir, Permissions::from_mode(0o700)).unwrap();
    let known = state_dir.join("known.json");
    write(&known, b"{\"version\": 1, \"addresses\": []}");
    fs::set_permissions(&known, Permissions::from_mode(0o0)).unwrap();
    [setup.home(), &state_dir, &known].into_iter().for_each(own);
    let asked = setup.command().arg("--help").output();
    if !asked.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this user cannot run a node as another one");
        return;
    }
    let a = setup.start();
    warned(&a, "Permission denied");
    assert_eq!(set_aside(&state_dir).len(), 1);
}

/// All that is well written and makes no sense: the node starts, takes what it can use, and finds its network.
#[test]
fn a_known_json_that_lies_costs_nothing_but_a_few_dials() {
    let network = Network::new();
    let a = network.start("a");
    let mut b = network.start("b");
    b.kill();
    let row = |address: &str, node: &str, since: u64| json!({"address": address, "node": node, "since": since});
    let (own, id) = (b.address.to_string(), "0f".repeat(32));
    let mut addresses = vec![
        row(&own, &b.id, 1),
        row(&own.replace("127.0.0.1", "[::ffff:127.0.0.1]"), &id, 1),
        row(&own, &id, u64::MAX),
        row("0.0.0.0:0", &id, 1),
        row("224.0.0.1:7100", &id, 1),
        row("255.255.255.255:7100", &id, 1),
        row("[fe80::1]:7100", "no id", 1),
        row("nobody.invalid:7100", &id, 1),
        row(&"x".repeat(1 << 20), &"y".repeat(1 << 20), 0),
        row("127.0.0.1:1\n127.0.0.1:2", "", 1),
    ];
    // As many as a node would ever keep, at an address where nobody is.
    addresses.extend((0..30_000).map(|port| row(&format!("127.9.9.9:{}", 2000 + port), &id, 1)));
    addresses.push(json!({"address": a.address.to_string(), "node": null}));
    let bans = json!([{"id": "zz", "address": "1.2.3.4/99", "label": "\u{1b}[2J", "until": "never", "reason": null}]);
    let expected = json!([{"expected": "", "node": "", "address": ""}]);
    let lies = json!({"version": 5, "addresses": addresses, "bans": bans, "expected": expected, "more": [1, {}]});
    write(&b.setup().state_dir().join("known.json"), lies.to_string().as_bytes());
    b.start_again();
    agreed(&[&a, &b]);
    assert!(set_aside(&b.setup().state_dir()).is_empty());
    let warnings = b.status()["warnings"].to_string();
    assert!(warnings.contains("1 of the bans in known.json"), "{warnings}");
    assert!(b.status()["peers"]["known_addresses"].as_u64() <= Some(6_200), "{}", b.status()["peers"]);
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
