//! Bounds that the system holds a node to, where a test may set them: as root, by cgroups of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cgroup of the test's own. To be dropped after the node in it has ended.
pub struct Cage {
    places: Vec<PathBuf>,
}

impl Cage {
    /// So many bytes of memory, and so many percent of a core if that is said. `None` where that cannot be had.
    pub fn new(memory: usize, percent: Option<usize>) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kithd-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"].map(Path::new);
        let is_one = roots[0].join("cgroup.controllers").exists();
        let roots = if is_one { &roots[..1] } else { &roots[1..] };
        let mut cage = Self { places: Vec::new() };
        for place in roots.iter().map(|root| root.join(&name)) {
            fs::create_dir(&place).ok()?;
            cage.places.push(place);
        }
        let quota = percent.map(|percent| percent * 1000);
        if is_one {
            cage.set("memory.max", &memory.to_string())?;
            cage.set("memory.swap.max", "0");
            quota.map_or(Some(()), |quota| cage.set("cpu.max", &format!("{quota} 100000")))?;
        } else {
            cage.set("memory.limit_in_bytes", &memory.to_string())?;
            quota.map_or(Some(()), |quota| cage.set("cpu.cfs_quota_us", &quota.to_string()))?;
        }
        Some(cage)
    }

    /// What a shell says to enter it, before what it starts.
    pub fn entry(&self) -> String {
        let enter = |place: &PathBuf| format!("echo $$ > {}/cgroup.procs && ", place.display());
        self.places.iter().map(enter).collect()
    }

    /// The most memory that was taken in it, in bytes, what the system keeps for it included.
    pub fn peak(&self) -> Option<u64> {
        let names = ["memory.peak", "memory.max_usage_in_bytes"];
        let files = self.places.iter().flat_map(|place| names.map(|name| place.join(name)));
        files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).next()
    }

    fn set(&self, name: &str, value: &str) -> Option<()> {
        let file = self.places.iter().map(|place| place.join(name)).find(|file| file.exists())?;
        fs::write(file, value).ok()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        for place in &self.places {
            let _ = fs::remove_dir(place);
        }
    }
}
