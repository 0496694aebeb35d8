//! What the system says of a process, and of this machine.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};

/// What was measured on, and with which program.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Machine {
    /// As the processor calls itself.
    pub(super) cpu: String,
    /// How many of its cores this process may use.
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    /// The kernel's release.
    pub(super) kernel: String,
    pub(super) arch: String,
    /// Of this program.
    pub(super) version: String,
    /// The cipher that this machine prefers.
    pub(super) cipher: String,
    /// Whether it was compiled with optimisation.
    pub(super) optimised: bool,
}

impl Machine {
    /// What figures can be set in ratio on: only between the same does a difference tell of the program.
    pub(super) fn name(&self) -> String {
        format!("{} with {} cores, {}", self.cpu, self.cores, self.arch)
    }

    /// The same of what can be changed on one.
    pub(super) fn program(&self) -> String {
        let build = if self.optimised { "optimised" } else { "not optimised" };
        format!("kithd {} ({build}), cipher {}, kernel {}", self.version, self.cipher, self.kernel)
    }

    pub(super) fn here(cipher: String) -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = |line: &&str| line.starts_with("model name") || line.starts_with("Model");
        let cpu = cpus.lines().find(named).and_then(|line| line.split(':').nth(1)).unwrap_or("unknown");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib_of("/proc/meminfo", &["MemTotal:"]) * 1024,
            kernel: kernel.trim().to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cipher,
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The processor's time that a process has used so far, its threads' included; in steps of the system's tick, 10 ms.
pub(super) fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the command's name, which may hold anything; the 14th and 15th are the times.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    let all = ticks() + ticks();
    Duration::from_millis(all * 1000 / clock_ticks_per_second().max(1))
}

/// What a process has in memory, in KiB.
pub(super) fn resident_kib(pid: u32) -> u64 {
    kib_of(&format!("/proc/{pid}/status"), &["VmRSS:"])
}

/// What the kernel keeps for all processes, in KiB: its objects, the stacks of threads, tables of pages, sockets' buffers.
pub(super) fn kernel_kib() -> u64 {
    let pages = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = pages.lines().find_map(|line| line.strip_prefix("TCP:")?.split_once("mem "));
    let buffers = tcp.and_then(|(_, count)| count.trim().parse::<u64>().ok()).unwrap_or(0) * 4;
    kib_of("/proc/meminfo", &["Slab:", "KernelStack:", "PageTables:"]) + buffers
}

/// The sum of these lines of a file.
fn kib_of(path: &str, keys: &[&str]) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let figure = |line: &str| {
        let rest = keys.iter().find_map(|key| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(figure).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_this_process() {
        let own = std::process::id();
        let before = cpu_of(own);
        let mut sum = 0u64;
        while cpu_of(own) < before + Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_kib(own) > 1000 && kernel_kib() > 1000);
        assert_eq!(cpu_of(u32::MAX), Duration::ZERO);
        let here = Machine::here("some".to_owned());
        assert!(here.memory_bytes > 1 << 20 && here.cores > 0 && !here.kernel.is_empty());
    }
}
