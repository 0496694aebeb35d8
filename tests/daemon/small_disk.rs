//! A disk of 64 KiB, to be filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system that the test mounts for itself, if it may.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=700", "kithd-test"]).arg(place).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(place.to_owned()))
    }

    /// Takes all the room there is.
    pub fn fill(&self) -> PathBuf {
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
