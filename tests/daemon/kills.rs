//! Killed in the midst of writing: what was acknowledged is there, what was not may be, and the file is whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use kithd::protocol::rng::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::agreed;

const KILLS: usize = 200;
/// The longest that a node lives on once it writes without a pause: a few dozen saves on a quick disk, one on a slow one.
const LONGEST: Duration = Duration::from_millis(40);

/// What a node has acknowledged, and the one change that it may or may not have made when it was killed.
#[derive(Default)]
struct Promises {
    next: u32,
    banned: BTreeSet<String>,
    open: Option<String>,
}

impl Promises {
    /// Bans and takes back bans, one after another, until the node is dead. Each is acknowledged once it is on the disk.
    fn demand(&mut self, node: &Daemon) -> usize {
        let mut socket = UnixStream::connect(&node.socket).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let mut answers = BufReader::new(socket.try_clone().unwrap()).lines();
        for acknowledged in 0.. {
            // Neither the only way nor the file grow without end.
            let old = self.banned.first().filter(|_| self.banned.len() > 20).cloned();
            let (verb, address) = match &old {
                Some(address) => ("unban", address.clone()),
                None => ("ban", Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + self.next).to_string()),
            };
            self.next += u32::from(old.is_none());
            self.open = Some(address.clone());
            let line = json!({"verb": verb, "args": {"target": address}}).to_string() + "\n";
            if socket.write_all(line.as_bytes()).is_err() {
                return acknowledged;
            }
            let Some(Ok(answer)) = answers.next() else { return acknowledged };
            assert!(!answer.contains("\"error\""), "{verb} {address}: {answer}");
            match old {
                Some(address) => drop(self.banned.remove(&address)),
                None => drop(self.banned.insert(address)),
            }
            self.open = None;
        }
        unreachable!("nobody counts so far")
    }

    /// What is kept is what was acknowledged; the open change is settled by what is found.
    fn hold(&mut self, found: &BTreeSet<String>) {
        let differing: BTreeSet<&String> = self.banned.symmetric_difference(found).collect();
        let open: BTreeSet<&String> = self.open.iter().collect();
        assert!(differing.is_subset(&open), "acknowledged, and not so on the disk: {differing:?}, open {open:?}");
        self.banned = found.clone();
        self.open = None;
    }
}

fn names(rows: &Value) -> BTreeSet<String> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no list of bans: {rows}"));
    rows.iter().map(|row| row["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// True if the node was killed while it wrote.
fn half_written(node: &Daemon) -> bool {
    let entries = fs::read_dir(node.setup().state_dir()).unwrap();
    entries.into_iter().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".known.json."))
}

#[test]
fn two_hundred_kills_in_the_midst_of_saving_lose_nothing() {
    let network = Network::new();
    let other = network.start("other");
    let mut node = network.node("node").connect(other.address).start();
    agreed(&[&other, &node]);
    let known = node.setup().state_dir().join("known.json");
    until("it has written down where the other is", SOON, || {
        let text = fs::read_to_string(&known).unwrap_or_default();
        if text.contains(&other.address.to_string()) { Ok(()) } else { Err(text) }
    });
    let seed = u64::from(std::process::id());
    println!("the moments of the kills are those of seed {seed}");
    let (mut rng, mut promises) = (Rng::new(seed), Promises::default());
    let (mut saves, mut halves) = (0, 0);
    for round in 0..KILLS {
        let pid = Pid::from_raw(node.pid().cast_signed()).unwrap();
        let moment = LONGEST.mul_f64(rng.below(1000) as f64 / 1000.0);
        let killer = thread::spawn(move || {
            thread::sleep(moment);
            kill_process(pid, Signal::KILL).unwrap();
        });
        saves += promises.demand(&node);
        killer.join().unwrap();
        node.kill();
        halves += usize::from(half_written(&node));
        let text = fs::read(&known).unwrap();
        let kept: Value = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("kill {round}: {error}: {}", String::from_utf8_lossy(&text)));
        promises.hold(&names(&kept["memory"]["bans"]));
        assert!(kept["memory"]["addresses"].to_string().contains(&other.address.to_string()), "kill {round}: {kept}");
        // By now it has only what it wrote down.
        node = node.setup().clone().knowing_nobody().listen(&node.addresses).start();
        assert!(!half_written(&node), "kill {round}: what was half written is still there");
        assert_eq!(names(&node.json(&["bans"])["bans"]), promises.banned, "kill {round}");
        assert!(!node.stderr().contains("damaged"), "{}", node.stderr());
    }
    println!("{saves} saves were acknowledged, {halves} of {KILLS} kills came in the midst of one");
    assert!(halves > 0, "no kill has hit what this is about");
    agreed(&[&other, &node]);
}
