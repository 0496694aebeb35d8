//! A disk for tests: what is written is in memory until it is synced, and a power cut may lose any of it.
//!
//! It is as unkind as POSIX allows: of a directory's changes that are not synced any selection reaches the disk, and of a
//! file that is not synced the content may be missing, cut short, or nothing but zeros.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Disk;

/// What goes wrong. Steps count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    None,
    /// Power is cut before this step, in its midst, or after it.
    CutBefore(usize),
    CutWithin(usize),
    CutAfter(usize),
    /// This step fails.
    Fails(usize, ErrorKind),
    /// Syncing does nothing.
    NoFileSync,
    NoDirectorySync,
}

type Names = BTreeMap<PathBuf, usize>;

/// A change of the directory.
#[derive(Clone)]
enum Change {
    Created(PathBuf, usize),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf, usize),
}

/// A file: what it holds for those who read it, and what of that is on the disk.
#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Option<Vec<u8>>,
}

pub struct Model {
    names: Names,
    synced_names: Names,
    unsynced: Vec<Change>,
    files: Vec<Content>,
    steps: usize,
    trouble: Trouble,
    is_cut: bool,
}

impl Model {
    /// With one file at most, which is safe.
    pub fn new(path: &Path, content: Option<&[u8]>) -> Self {
        let files: Vec<Content> = content
            .map(|content| Content { now: content.to_vec(), synced: Some(content.to_vec()) })
            .into_iter()
            .collect();
        let names: Names = files.iter().map(|_| (path.to_owned(), 0)).collect();
        let (synced_names, unsynced) = (names.clone(), Vec::new());
        Self { names, synced_names, unsynced, files, steps: 0, trouble: Trouble::None, is_cut: false }
    }

    /// From now on, with steps counted anew.
    pub fn trouble(&mut self, trouble: Trouble) {
        (self.trouble, self.steps) = (trouble, 0);
    }

    pub fn steps(&self) -> usize {
        self.steps
    }

    /// What is read there now.
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        self.names.get(path).map(|file| self.files[*file].now.as_slice())
    }

    pub fn names(&self) -> Vec<&Path> {
        self.names.keys().map(PathBuf::as_path).collect()
    }

    /// All that may be read there when the power is back.
    pub fn after_power_cut(&self, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
        let mut found = BTreeSet::new();
        for selection in 0..1_u32 << self.unsynced.len() {
            let mut names = self.synced_names.clone();
            for (number, change) in self.unsynced.iter().enumerate() {
                if selection & 1 << number != 0 {
                    change.apply(&mut names);
                }
            }
            match names.get(path) {
                Some(file) => found.extend(self.files[*file].after_power_cut().into_iter().map(Some)),
                None => drop(found.insert(None)),
            }
        }
        found
    }

    /// One step more: true if it takes effect, or why it fails. What it does in part is its own matter.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        let (cut, lost) = match self.trouble {
            Trouble::CutBefore(step) => (self.steps >= step, self.steps >= step),
            Trouble::CutWithin(step) | Trouble::CutAfter(step) => (self.steps >= step, self.steps > step),
            Trouble::Fails(step, kind) if step == self.steps => return Err(kind.into()),
            _ => (false, false),
        };
        self.is_cut = cut;
        if lost { Err(io::Error::other("there is no power")) } else { Ok(()) }
    }

    /// The step took effect, and nobody hears of it any more if the power was cut then.
    fn done<T>(&self, value: T) -> io::Result<T> {
        if self.is_cut { Err(io::Error::other("the power is cut")) } else { Ok(value) }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.unsynced.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Created(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Removed(path) => drop(names.remove(path)),
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Content {
    fn after_power_cut(&self) -> Vec<Vec<u8>> {
        if self.synced.as_ref() == Some(&self.now) {
            return vec![self.now.clone()];
        }
        let half = self.now[..self.now.len() / 2].to_vec();
        let old = self.synced.clone().unwrap_or_default();
        vec![old, half, vec![0; self.now.len()], self.now.clone()]
    }
}

impl Disk for Model {
    type File = usize;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        if !self.names.contains_key(path) {
            return self.done(()).and(Err(ErrorKind::NotFound.into()));
        }
        self.change(Change::Removed(path.to_owned()));
        self.done(())
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.step()?;
        if self.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.files.push(Content::default());
        let file = self.files.len() - 1;
        self.change(Change::Created(path.to_owned(), file));
        self.done(file)
    }

    fn write(&mut self, file: &mut usize, content: &[u8]) -> io::Result<()> {
        if let Err(error) = self.step() {
            // A disk that runs full has taken some of it.
            if !self.is_cut {
                self.files[*file].now = content[..content.len() / 3].to_vec();
            }
            return Err(error);
        }
        let is_halved = matches!(self.trouble, Trouble::CutWithin(_)) && self.is_cut;
        self.files[*file].now = content[..if is_halved { content.len() / 2 } else { content.len() }].to_vec();
        self.done(())
    }

    fn sync(&mut self, file: &usize) -> io::Result<()> {
        self.step()?;
        if self.trouble != Trouble::NoFileSync {
            let content = &mut self.files[*file];
            content.synced = Some(content.now.clone());
        }
        self.done(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let file = *self.names.get(from).ok_or(ErrorKind::NotFound)?;
        self.change(Change::Renamed(from.to_owned(), to.to_owned(), file));
        self.done(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        self.step()?;
        if self.trouble != Trouble::NoDirectorySync {
            self.synced_names.clone_from(&self.names);
            self.unsynced.clear();
        }
        self.done(())
    }
}
