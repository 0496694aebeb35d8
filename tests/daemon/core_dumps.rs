//! What a crash leaves behind: no core, for the node's keys would be in it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::daemon::{Ended, Network, Setup, kithd};

/// A node whose dumps would fall into its own directory.
struct Crashing(Child);

impl Crashing {
    fn start(setup: &Setup) -> Self {
        let mut command = setup.command();
        let mut child = command.current_dir(setup.home()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("kithd ready"), "{ready}");
        Self(child)
    }

    /// The soft limit of the size of a core.
    fn limit(&self) -> String {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.0.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// Whether it leaves a core behind when it crashes, with as much room for one as can be had.
    fn dumps(&mut self) -> bool {
        let pid = Pid::from_child(&self.0);
        let maximum = getrlimit(Resource::Core).maximum;
        prlimit(Some(pid), Resource::Core, Rlimit { current: maximum, maximum }).unwrap();
        kill_process(pid, Signal::ABORT).unwrap();
        let ended = self.0.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
        ended.core_dumped()
    }
}

impl Drop for Crashing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_that_crashes_leaves_no_core_behind_and_with_a_network_key_none_can_be_had() {
    let network = Network::new();
    let setup = network.node("with-key");
    let path = setup.home().join("network.key");
    assert_eq!(Ended::of(kithd().arg("keygen").arg("--out").arg(&path)).code, Some(0));
    let setup = setup.with(&["--network-key-file", path.to_str().unwrap()]);
    let plain = network.node("without-key");
    let (mut hidden, mut open) = (Crashing::start(&setup), Crashing::start(&plain));
    assert_eq!((hidden.limit().as_str(), open.limit().as_str()), ("0", "0"));
    // Where dumps go to a program or a common place, a dump on purpose is nothing for a test.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_else(|_| "|".to_owned());
    if pattern.starts_with(['|', '/']) || !open.dumps() {
        println!("not tried: this machine leaves no cores behind ({})", pattern.trim());
        return;
    }
    assert!(!hidden.dumps(), "the key is in it");
    let left = fs::read_dir(setup.home()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("core")).collect();
    assert!(left.is_empty(), "{left:?}");
}
