//! What the system says of a process: read as `kithd bench` reads it.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many descriptors as the system allows.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The processor's time that a process has used so far, its threads' included; in steps of the system's tick, 10 ms.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the command's name, which may hold anything; the 14th and 15th are the times.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    let all = ticks() + ticks();
    Duration::from_millis(all * 1000 / clock_ticks_per_second().max(1))
}

/// What a process has in memory, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    kib_of(&format!("/proc/{pid}/status"), &["VmRSS:"])
}

/// What the kernel keeps for all processes, in KiB: its objects, the stacks of threads, tables of pages, sockets' buffers.
pub(crate) fn kernel_kib() -> u64 {
    let pages = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = pages.lines().find_map(|line| line.strip_prefix("TCP:")?.split_once("mem "));
    let buffers = tcp.and_then(|(_, count)| count.trim().parse::<u64>().ok()).unwrap_or(0) * 4;
    kib_of("/proc/meminfo", &["Slab:", "KernelStack:", "PageTables:"]) + buffers
}

fn kib_of(path: &str, keys: &[&str]) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let figure = |line: &str| {
        let rest = keys.iter().find_map(|key| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(figure).sum()
}
