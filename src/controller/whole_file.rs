//! Writing a file whole: whoever reads it finds the old content or the new one, never a mixture, also after a power cut.
//!
//! ```text
//!   create a temporary file ─▶ write ─▶ fsync ─▶ rename to its name ─▶ fsync of the directory ─▶ done
//!   └─────────── the old content ──────────────┘└── the old or the new ───────────────────────┘└─ the new, for good
//! ```
//!
//! Without the first fsync the name could reach the disk before the content does; without the second one, what was said to
//! be saved could be gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Gives a file this content.
///
/// # Errors
/// The system's; no temporary file is left then, and the content is whole, nearly always the old one.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_on(&mut System, path, content)
}

/// All that writing a file whole asks of a file system: so a test can cut the power at each step.
trait Disk {
    type File;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// For this user alone, and only if nothing is there.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    fn write(&mut self, file: &mut Self::File, content: &[u8]) -> io::Result<()>;
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;
}

fn replace_on<D: Disk>(disk: &mut D, path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = directory.join(format!(".{name}.{}.new", std::process::id()));
    let mut write = || -> io::Result<()> {
        // What a crash left there is ours: the name holds a process id.
        let _ = disk.remove(&temporary);
        let mut file = disk.create(&temporary)?;
        disk.write(&mut file, content)?;
        disk.sync(&file)?;
        disk.rename(&temporary, path)?;
        disk.sync_directory(directory)
    };
    let written = write();
    if written.is_err() {
        let _ = disk.remove(&temporary);
    }
    written
}

/// The operating system's.
struct System;

impl Disk for System {
    type File = File;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&mut self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[cfg(test)]
#[path = "whole_file/model.rs"]
mod model;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::model::{Model, Trouble};
    use super::*;

    const NAME: &str = "state/known.json";
    const OLD: &[u8] = b"{\"old\": true}";
    const NEW: &[u8] = b"{\"new\": true, \"longer\": true}";

    fn contents(wanted: &[Option<&[u8]>]) -> BTreeSet<Option<Vec<u8>>> {
        wanted.iter().map(|content| content.map(<[u8]>::to_vec)).collect()
    }

    /// A save with that trouble, and what may be found after a power cut at its end or, if it was cut, where it was.
    fn saved(old: Option<&[u8]>, trouble: Trouble) -> (Model, io::Result<()>) {
        let mut disk = Model::new(Path::new(NAME), old);
        disk.trouble(trouble);
        let result = replace_on(&mut disk, Path::new(NAME), NEW);
        (disk, result)
    }

    #[test]
    fn wherever_the_power_is_cut_old_or_new_is_found() {
        let (disk, result) = saved(Some(OLD), Trouble::None);
        let steps = disk.steps();
        assert!(result.is_ok() && steps == 6, "{steps} steps");
        assert_eq!(disk.after_power_cut(Path::new(NAME)), contents(&[Some(NEW)]), "what is saved is safe");
        for step in 1..=steps {
            // Before the step takes effect, after it, and (of a write) in its midst.
            for trouble in [Trouble::CutBefore(step), Trouble::CutWithin(step), Trouble::CutAfter(step)] {
                for old in [Some(OLD), None] {
                    let (disk, result) = saved(old, trouble);
                    assert!(result.is_err(), "{trouble:?}");
                    let found = disk.after_power_cut(Path::new(NAME));
                    assert!(found.is_subset(&contents(&[old, Some(NEW)])), "{trouble:?}: {found:?}");
                    // The process was killed, and the system lives.
                    let found = contents(&[disk.content(Path::new(NAME))]);
                    assert!(found.is_subset(&contents(&[old, Some(NEW)])), "{trouble:?}: {found:?}");
                }
            }
        }
    }

    /// The eye that looks is itself looked at: each of the two fsyncs is missed.
    #[test]
    fn a_save_that_syncs_too_little_is_found_out() {
        let (disk, result) = saved(Some(OLD), Trouble::NoFileSync);
        assert!(result.is_ok());
        assert!(!disk.after_power_cut(Path::new(NAME)).is_subset(&contents(&[Some(OLD), Some(NEW)])));
        let (disk, result) = saved(Some(OLD), Trouble::NoDirectorySync);
        assert!(result.is_ok());
        assert!(disk.after_power_cut(Path::new(NAME)).contains(&Some(OLD.to_vec())));
    }

    #[test]
    fn a_step_that_fails_leaves_the_content_whole_and_nothing_else_behind() {
        for kind in
            [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied, ErrorKind::Other]
        {
            for step in 2..=6 {
                let (mut disk, result) = saved(Some(OLD), Trouble::Fails(step, kind));
                assert_eq!(result.unwrap_err().kind(), kind);
                let old_or_new = contents(&[Some(OLD), Some(NEW)]);
                assert!(disk.after_power_cut(Path::new(NAME)).is_subset(&old_or_new), "{kind}, step {step}");
                // Only the very last step comes after the new content is in its place.
                let wanted = if step == 6 { NEW } else { OLD };
                assert_eq!(disk.content(Path::new(NAME)), Some(wanted), "{kind}, step {step}");
                assert_eq!(disk.names(), [Path::new(NAME)], "{kind}, step {step}");
                disk.trouble(Trouble::None);
                replace_on(&mut disk, Path::new(NAME), NEW).unwrap();
                assert_eq!(disk.after_power_cut(Path::new(NAME)), contents(&[Some(NEW)]));
            }
        }
    }

    #[test]
    fn on_a_real_disk_it_is_private_and_alone() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        for content in [OLD, NEW] {
            replace(&path, content).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        fs::create_dir(place.path().join("directory")).unwrap();
        assert!(replace(&place.path().join("directory"), NEW).is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
