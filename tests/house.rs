//! The rules of the house, kept over the text of `src/`: which floor may use which, what the thinking may never name,
//! what has one home only, and how long a file may be.
//!
//! Text, not types: the rules are about what a reader meets. Comments do not count, unit tests at a file's foot are held
//! only to the rules that say so.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and its floor. A file may use rooms of lower floors and its own room.
///
/// `admin` knows no node: it has a desk, at which the controller sits. So it lies below the controller.
const FLOORS: [(&str, usize); 14] = [
    ("protocol", 1),
    ("config", 2),
    ("clock", 2),
    ("scheduling", 1),
    ("reactor", 2),
    ("secure", 2),
    ("services", 3),
    ("peer", 4),
    ("admin", 4),
    ("controller", 5),
    ("simulator", 5),
    ("http", 6),
    ("cli", 7),
    ("main", 7),
];

struct Source {
    /// Below `src/`, with slashes.
    path: String,
    /// All lines but comments.
    lines: Vec<(usize, String)>,
    /// How many of these come before the unit tests.
    tests_from: usize,
    /// Lines of all kinds.
    length: usize,
}

impl Source {
    fn read(root: &Path, file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        let lines: Vec<_> = code.map(|(index, line)| (index + 1, without_comment(line).to_owned())).collect();
        let tests = lines.windows(2).position(|pair| pair[0].1 == "#[cfg(test)]" && pair[1].1.contains("mod tests {"));
        let tests_from = tests.unwrap_or(lines.len());
        Self { path, lines, tests_from, length: text.lines().count() }
    }

    /// `protocol` of `protocol/node/idle.rs` and of `protocol.rs`.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn code(&self) -> &[(usize, String)] {
        &self.lines[..self.tests_from]
    }
}

/// A comment after code; quoted slashes have no space before and after them.
fn without_comment(line: &str) -> &str {
    line.split(" // ").next().unwrap_or_default()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "{files:?}");
    files.iter().map(|file| Source::read(&root, file)).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // What a compiler leaves behind, the fuzzer's too, nobody reads.
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// True if that word stands there as a word.
fn names(line: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        let goes_on = |inside: bool, outside: Option<char>| inside && outside.is_some_and(is_letter);
        !goes_on(word.starts_with(is_letter), before) && !goes_on(word.ends_with(is_letter), after)
    })
}

/// Every line of code that names one of these, except in the files that may.
fn breaches(words: &[&str], may: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !may(source)) {
        for (number, line) in source.code() {
            for word in words.iter().filter(|word| names(line, word)) {
                found.push(format!("src/{}:{number} names {word}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_thinking_names_no_thread_socket_clock_channel_lock_chance_or_log() {
    let words = [
        "std::thread",
        "thread::",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "crossbeam",
        "crossbeam_channel",
        "mpsc",
        "Mutex",
        "RwLock",
        "Condvar",
        "parking_lot",
        "mio",
        "log::",
        "println!",
        "eprintln!",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "ToSocketAddrs",
        "std::fs",
        "std::io",
        "std::env",
        "std::process",
        "getrandom",
        "rand",
        "rustix",
        "socket2",
        "ed25519_dalek",
    ];
    none(breaches(&words, |source| source.room() != "protocol"));
}

#[test]
fn each_borrowed_tool_has_one_home() {
    none(breaches(&["bincode"], |source| source.path == "protocol/codec.rs"));
    none(breaches(&["mio"], |source| source.room() == "reactor"));
    none(breaches(&["clap"], |source| ["cli", "main"].contains(&source.room())));
    none(breaches(&["ed25519_dalek"], |source| source.room() == "secure"));
}

/// Waiting is for something, never for time to pass; in unit tests too.
#[test]
fn nobody_sleeps() {
    let mut found = Vec::new();
    for source in sources() {
        let naps = source.lines.iter().filter(|(_, line)| line.contains("thread::sleep") || names(line, "sleep_ms"));
        found.extend(naps.map(|(number, line)| format!("src/{}:{number}: {}", source.path, line.trim())));
    }
    none(found);
}

#[test]
fn each_floor_uses_only_what_lies_below_it() {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let Some(own) = floor(source.room()) else {
            found.push(format!("src/{} is in a room without a floor", source.path));
            continue;
        };
        let code: String = source.code().iter().flat_map(|(_, line)| [line.trim(), "\n"]).collect();
        for room in rooms_used(&code) {
            match floor(&room) {
                Some(used) if used < own || room == source.room() => {}
                Some(_) => found.push(format!("src/{} uses {room}, which is not below it", source.path)),
                // A name that the crate's root gives out: only for those who stand on the roof.
                None if own >= 6 => {}
                None => found.push(format!("src/{} uses crate::{room}, which is no room", source.path)),
            }
        }
    }
    none(found);
}

/// What follows `crate::` in a file: one name, or those between braces.
fn rooms_used(code: &str) -> Vec<String> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let first = |text: &str| text.trim_start().chars().take_while(|c| is_letter(*c)).collect::<String>();
    let mut rooms = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        if code[..at].chars().next_back().is_some_and(|before| is_letter(before) || before == '$') {
            continue;
        }
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(first(rest));
            continue;
        };
        let mut depth = 0;
        let mut part = String::new();
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => rooms.push(first(&std::mem::take(&mut part))),
                _ if depth == 0 => part.push(c),
                _ => {}
            }
        }
        rooms.push(first(&part));
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn a_file_is_read_in_one_sitting() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in ["src", "tests", "benches"].map(|name| root.join(name)).iter().filter(|path| path.exists()) {
        collect(directory, &mut files);
    }
    let long = files.iter().map(|file| Source::read(root, file)).filter(|source| source.length > 500);
    none(long.map(|source| format!("{} has {} lines", source.path, source.length)).collect());
}

/// Linux cuts the name of a thread after 15 bytes.
#[test]
fn thread_names_fit() {
    let mut found = Vec::new();
    let mut seen = 0;
    for source in sources() {
        for (number, line) in &source.lines {
            let builds =
                [".name(\"", ".name(format!(\"", "spawn(\"", "spawn(format!(\""].iter().any(|call| line.contains(call));
            for name in quoted(line).filter(|_| builds) {
                seen += 1;
                // A number in a name is short for as long as anybody looks.
                let length = name.split('{').next().unwrap_or_default().len() + if name.contains('{') { 6 } else { 0 };
                if length > 15 {
                    found.push(format!("src/{}:{number}: {name:?} is too long", source.path));
                }
            }
        }
    }
    none(found);
    assert!(seen > 0, "no name of a thread was found: has the way to give them changed?");
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// The eye that looks is itself looked at.
#[test]
fn the_rules_see_what_they_should() {
    assert!(names("use mio::Poll;", "mio") && names("std::thread::spawn", "thread::"));
    assert!(!names("let family = 1;", "mio") && !names("admio::x", "mio") && !names("log_level", "log"));
    assert_eq!(
        rooms_used("use crate::peer::{A, B}; use crate::{admin::{C, D}, cli}; $crate::x"),
        ["peer", "admin", "cli"]
    );
    assert_eq!(without_comment("let a = 1; // why"), "let a = 1;");
    assert_eq!(quoted(r#".name("a".x("b"))"#).collect::<Vec<_>>(), ["a", "b"]);
}
