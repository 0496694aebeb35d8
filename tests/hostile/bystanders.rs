//! Two honest nodes beside an attack, who must not notice it.

use std::collections::BTreeSet;
use std::fs;

use crate::daemon::{Daemon, Network};
use crate::patience::{SOON, until};
use crate::report::{agreed_and, edges, rows_of};

/// A node that is attacked, and an honest neighbour of it.
pub struct Bystanders {
    pub node: Daemon,
    pub neighbour: Daemon,
    pub network: Network,
    links: BTreeSet<u64>,
    resident_kib: u64,
}

impl Bystanders {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The attacked node with these flags.
    pub fn with(flags: &[&str]) -> Self {
        // Silence is one of the cases; here it would only be a machine that is busy with other tests.
        let patient = ["--heartbeat-timeout", "3s"];
        let network = Network::new();
        let node = network.node("node").with(&patient).with(flags).start();
        let neighbour = network.node("neighbour").with(&patient).connect(node.address).start();
        agreed_and(&[&node, &neighbour], |view| !edges(view).is_empty());
        let links = links(&node, &neighbour);
        assert!(!links.is_empty(), "{:?}", node.peers());
        let mut both = Self { node, neighbour, network, links, resident_kib: 0 };
        both.measure();
        both
    }

    /// The edges that stood between the two stand, both hold one view, and no thread has failed.
    pub fn are_unharmed(&self) {
        let (node, neighbour) = (&self.node, &self.neighbour);
        until("both hold one view", SOON, || {
            let digests = [node, neighbour].map(|one| one.network()["digest"].clone());
            if digests[0] == digests[1] { Ok(()) } else { Err(format!("{digests:?}")) }
        });
        assert!(self.links.is_subset(&links(node, neighbour)), "{:?} before, {:?}", self.links, node.peers());
        for one in [node, neighbour] {
            let said = one.stderr();
            assert!(!said.contains("panicked") && !said.contains("failed"), "{said}");
        }
    }

    /// From now on the attacked node's memory is looked at.
    pub fn measure(&mut self) {
        // Writing 5 makes the most that was resident the present (proc(5)).
        fs::write(format!("/proc/{}/clear_refs", self.node.pid()), "5").unwrap();
        self.resident_kib = kib(&self.node, "VmRSS:");
    }

    /// At no moment since has it been that much larger. To be asked while the node runs; the kernel keeps the peak.
    pub fn grew_at_most(&self, mib: u64) {
        let peak = kib(&self.node, "VmHWM:");
        println!("resident: {} KiB before, {peak} KiB at most", self.resident_kib);
        assert!(peak < self.resident_kib + (mib << 10), "{} KiB before, {peak} KiB at most", self.resident_kib);
    }
}

fn kib(node: &Daemon, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{status}"));
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The numbers of the edges between the two, as the first counts them.
fn links(node: &Daemon, neighbour: &Daemon) -> BTreeSet<u64> {
    let rows = node.peers();
    let open = rows_of(&rows, Some(&neighbour.id)).into_iter().filter(|row| row["state"] == "established");
    open.map(|row| row["peer_id"].as_u64().unwrap()).collect()
}
