//! The README's three nodes that ask each other, as it has them: its configurations, its programs, its commands, and what
//! these print. Only places and ports are others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "daemon/patience.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
mod patience;

use patience::{SOON, until};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the README says under that heading.
fn section(heading: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).expect("the section is there");
    let end = section.find("\n## ").into_iter().chain(section.find("\n### ").filter(|_| heading.starts_with("###")));
    section[..end.min().unwrap_or(section.len())].to_owned()
}

/// Its pieces in that language.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let mut pieces = section.split("\n```");
    pieces.next();
    // Each piece that begins with a language is followed by one that begins with the end of it.
    let pieces = pieces.step_by(2).filter_map(|piece| piece.split_once('\n'));
    pieces.filter(|(named, _)| *named == language).map(|(_, text)| text.to_owned()).collect()
}

/// A place for what the README has in `/tmp`.
struct Stage {
    home: TempDir,
    network: String,
}

impl Stage {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), network: format!("example-{}", std::process::id()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// With that place for `/tmp`.
    fn placed(&self, text: &str) -> String {
        text.replace("/tmp/", &format!("{}/", self.home.path().display()))
    }

    /// Writes a configuration, whose name is in its first line. Any port is as good, but for that of alpha, where the others
    /// find it.
    fn configure(&self, text: &str, alpha: &str) {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name in its first line");
        let text = self.placed(text).replace("connect = [\"127.0.0.1:7100\"]", &format!("connect = [\"{alpha}\"]"));
        let text = ["7100", "7101", "7102"].iter().fold(text, |text, port| text.replace(&format!(":{port}\""), ":0\""));
        let named = format!("[network]\nname = \"{}\"\n", self.network);
        let has_table = text.contains("[network]\n");
        let text = if has_table { text.replace("[network]\n", &named) } else { format!("{text}\n{named}") };
        fs::write(self.path(name), text).unwrap();
    }

    /// A command as a user types it there.
    fn shell(&self, line: &str) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_kithd")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = [programs.join("examples"), programs.to_owned()].into_iter();
        let path = std::env::join_paths(own.chain(std::env::split_paths(&path))).unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.placed(line)).current_dir(self.home.path()).env("PATH", path).stdin(Stdio::null());
        shell.env_remove("KITHD_SOCKET").env_remove("KITHD_STATE_DIR");
        shell
    }

    /// What it prints, in the order in which it prints it.
    fn printed(&self, line: &str) -> String {
        let output = self.shell(&format!("{{ {line}; }} 2>&1")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Option<Value> {
        serde_json::from_str(&self.printed(&format!("{line} --format json"))).ok()
    }

    fn start(&self, line: &str) -> Running {
        Running(self.shell(&format!("exec {line}")).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Waits until a node answers, and gives back where it listens.
    fn listens(&self, label: &str) -> String {
        until(&format!("{label} serves"), SOON, || {
            let status = self.json(&format!("kithd status --state-dir /tmp/{label}"));
            status.and_then(|status| Some(status["listen"][0].as_str()?.to_owned())).ok_or_else(|| "silence".to_owned())
        })
    }

    fn knows_all(&self, label: &str, all: usize) {
        until(&format!("{label} knows all"), SOON, || {
            let network = self.json(&format!("kithd network --state-dir /tmp/{label}")).unwrap_or_default();
            let known = network["nodes"].as_array().map_or(0, Vec::len);
            if known == all { Ok(()) } else { Err(format!("{known}")) }
        });
    }
}

/// A program; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds the example: it is there if all tests were built, but perhaps of yesterday.
fn build_example(name: &str) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", name]).current_dir(root());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
}

fn has_python() -> bool {
    let asked = Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]).status();
    let is_there = asked.is_ok_and(|status| status.success());
    if !is_there {
        println!("there is no Python 3.8 here: what is in Python is left out");
    }
    is_there
}

#[test]
fn three_nodes_ask_each_other_as_the_readme_says() {
    let text = section("### Three nodes that ask each other");
    let rust = fs::read_to_string(root().join("tests/worked_example/sum.rs")).unwrap();
    assert_eq!(blocks(&text, "rust,no_run"), [rust.trim_end()], "the program is that of sum.rs");
    let [python] = blocks(&text, "python").try_into().expect("one program in Python");
    assert!(python.lines().count() <= 20, "{python}");

    let stage = Stage::new();
    fs::write(stage.path("shout.py"), stage.placed(&python)).unwrap();
    let [commands] = blocks(&text, "sh").try_into().expect("one block of commands");
    let commands = commands.replace("cargo run --example sum --", "sum");
    build_example("sum");
    let [sum, beta, gamma, shout] = commands.lines().collect::<Vec<_>>().try_into().expect("four terminals");
    let configurations = blocks(&text, "toml");
    assert_eq!(configurations.len(), 3);
    stage.configure(&configurations[0], "");
    let mut sum = stage.start(sum);
    let alpha = stage.listens("alpha");
    configurations[1..].iter().for_each(|text| stage.configure(text, &alpha));
    let _nodes = [stage.start(beta), stage.start(gamma)];
    let with_python = has_python();
    for label in ["beta", "gamma"] {
        stage.listens(label);
    }
    let program = with_python.then(|| stage.start(shout));
    for label in ["alpha", "beta", "gamma"] {
        stage.knows_all(label, 3);
    }
    until("somebody shouts", SOON, || {
        let said = stage.printed("kithd request gamma shout --data hello --state-dir /tmp/gamma");
        if said == "HELLO, gamma!\n" || !with_python { Ok(()) } else { Err(said) }
    });

    let mut asked = 0;
    for transcript in blocks(&text, "text") {
        for (command, expected) in calls(&transcript) {
            if with_python || !command.contains(" shout ") {
                assert_eq!(stage.printed(&command), expected, "{command}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 6, "{asked}");

    drop(program);
    let gone = "kithd: shout at gamma: refused: the node has no service of that name\n";
    until("its name is free", SOON, || {
        let said = stage.printed("kithd request gamma shout --state-dir /tmp/alpha");
        if said == gone { Ok(()) } else { Err(said) }
    });
    stage.printed("kithd leave --state-dir /tmp/alpha");
    let ended = until("the program ends", SOON, || sum.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    assert!(ended.success(), "{ended}");
}

/// The commands of a transcript, and what each prints.
fn calls(transcript: &str) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), calls.last_mut()) {
            (Some(command), _) => calls.push((command.to_owned(), String::new())),
            (None, Some((_, printed))) => *printed += &format!("{line}\n"),
            (None, None) => panic!("what has printed {line:?}?"),
        }
    }
    calls
}

#[test]
fn the_other_python_of_the_readme_shows_the_network() {
    if !has_python() {
        return;
    }
    let [python] = blocks(&section("## From other languages"), "python").try_into().expect("one program in Python");
    let stage = Stage::new();
    fs::write(stage.path("show.py"), python).unwrap();
    stage.configure("# alpha.toml\n[node]\nlabel = \"alpha\"\nstate_dir = \"/tmp/alpha\"\n[listen]\naddresses = [\"127.0.0.1:7100\"]\n", "");
    let _alpha = stage.start("kithd run --config alpha.toml");
    let address = stage.listens("alpha");
    let said = stage.printed("KITHD_SOCKET=alpha/admin.sock python3 show.py");
    assert_eq!(said, format!("alpha up {address}\n"));
}
