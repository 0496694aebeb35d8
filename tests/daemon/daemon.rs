//! A node as a process: started as a user starts it, asked by its client verbs, signalled, stopped, started again.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use crate::patience::{SOON, until};

/// One test's network. Its name is its own, so that a port that changes hands between two tests joins nobody.
pub struct Network {
    name: String,
}

impl Network {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("test-{}-{count}", std::process::id()) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A node that is about to be started.
    pub fn node(&self, label: &str) -> Setup {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let listen = vec!["127.0.0.1:0".to_owned()];
        let setup = Setup { home, label: label.to_owned(), listen, connect: Vec::new(), args: Vec::new(), limit: None };
        setup.with(&["--network-name", &self.name])
    }

    /// A node that knows nobody.
    pub fn start(&self, label: &str) -> Daemon {
        self.node(label).start()
    }
}

/// How a node is to be started. Its state directory lives as long as any copy of this.
#[derive(Clone)]
pub struct Setup {
    home: Arc<TempDir>,
    label: String,
    listen: Vec<String>,
    connect: Vec<String>,
    args: Vec<String>,
    limit: Option<String>,
}

impl Setup {
    pub fn connect(mut self, address: impl Display) -> Self {
        self.connect.push(address.to_string());
        self
    }

    /// With no address to dial.
    pub fn knowing_nobody(self) -> Self {
        Self { connect: Vec::new(), ..self }
    }

    /// The addresses to listen on, in place of any port of loopback.
    pub fn listen(self, addresses: &[impl Display]) -> Self {
        Self { listen: addresses.iter().map(ToString::to_string).collect(), ..self }
    }

    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// With so many descriptors at most.
    pub fn limited_to(self, descriptors: usize) -> Self {
        self.under(&format!("ulimit -n {descriptors} && exec"))
    }

    /// Started by a shell that says this before the node's command line.
    pub fn under(self, limit: &str) -> Self {
        Self { limit: Some(limit.to_owned()), ..self }
    }

    /// A directory of this node's alone, in which the state directory will be made.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.home().join("state")
    }

    /// The command line; it names everything that has a default outside the test's own directory.
    pub fn command(&self) -> Command {
        let mut command = match &self.limit {
            None => kithd(),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{limit} \"$0\" \"$@\""));
                shell.arg(kithd().get_program());
                shell
            }
        };
        command.arg("run").arg("--state-dir").arg(self.state_dir()).args(["--label", &self.label]).args(&self.args);
        command.args(self.listen.iter().flat_map(|address| ["--listen", address]));
        command.args(self.connect.iter().flat_map(|address| ["--connect", address]));
        command
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Daemon {
        let log = self.home().join("stderr");
        let stderr = OpenOptions::new().create(true).append(true).open(log).unwrap();
        self.start_telling(stderr)
    }

    /// The same, with this for its standard error, which then is the test's to read.
    pub fn start_telling(self, stderr: impl Into<Stdio>) -> Daemon {
        let start = Instant::now();
        let log = self.home().join("stderr");
        let mut child = self.command().stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let Ok(line) = lines.recv_timeout(SOON) else {
            let _ = child.kill();
            let ended = child.wait();
            panic!("{} is not ready: {ended:?}\n{}", self.label, fs::read_to_string(log).unwrap_or_default());
        };
        println!("{} is ready after {:.2} s: {line}", self.label, start.elapsed().as_secs_f64());
        let Ready { id, label, listen, socket } = Ready::read(&line);
        assert_eq!(label, self.label);
        Daemon { id, label, address: listen[0], addresses: listen, socket, child, setup: self, lines }
    }

    /// Starts what must not start, and gives back how it ended.
    pub fn refused(&self) -> Ended {
        Ended::of(&mut self.command())
    }
}

/// A network's key, in a file of this test's own, made as a user makes one.
pub struct Key {
    pub path: PathBuf,
    _place: tempfile::TempDir,
}

impl Key {
    pub fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("network.key");
        let made = Ended::of(kithd().arg("keygen").arg("--out").arg(&path));
        assert_eq!(made.code, Some(0), "{made:?}");
        Self { path, _place: place }
    }

    pub fn digits(&self) -> String {
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned()
    }

    pub fn given_to(&self, setup: Setup) -> Setup {
        setup.with(&["--network-key-file", self.path.to_str().unwrap()])
    }
}

/// The line on stdout that says a node serves.
struct Ready {
    id: String,
    label: String,
    listen: Vec<SocketAddr>,
    socket: PathBuf,
}

impl Ready {
    /// Exactly `kithd ready id=<64 hex> label=<label> listen=<ip:port>[,<ip:port>…] socket=<path>`.
    fn read(line: &str) -> Self {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let value = |index: usize, name: &str| {
            let word = words.get(index).and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
            word.unwrap_or_else(|| panic!("no {name}= at its place: {line}")).to_owned()
        };
        assert_eq!(words[..2], ["kithd", "ready"], "{line}");
        let ready = Self {
            id: value(2, "id"),
            label: value(3, "label"),
            listen: value(4, "listen").split(',').map(|address| address.parse().unwrap()).collect(),
            socket: value(5, "socket").into(),
        };
        assert!(ready.id.len() == 64 && ready.id.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{line}");
        ready
    }
}

/// A running node; killed when dropped.
pub struct Daemon {
    pub id: String,
    pub label: String,
    /// The first of its addresses, which it advertises.
    pub address: SocketAddr,
    pub addresses: Vec<SocketAddr>,
    pub socket: PathBuf,
    child: Child,
    setup: Setup,
    lines: Receiver<String>,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.setup.home().join("stderr")).unwrap_or_default()
    }

    /// Waits until it has said that on its standard error: the lines of its log come by a thread of their own.
    pub fn says(&self, what: &str) {
        until(&format!("{} says {what:?}", self.label), SOON, || {
            let said = self.stderr();
            if said.contains(what) { Ok(()) } else { Err(said) }
        });
    }

    /// Runs a client verb on this node.
    pub fn client(&self, args: &[&str]) -> Ended {
        Ended::of(kithd().args(args).arg("--socket").arg(&self.socket))
    }

    /// The same, for its JSON; exit codes 0 and 1 are both answers.
    pub fn json(&self, args: &[&str]) -> Value {
        let ended = self.client(&[args, &["--format", "json"]].concat());
        assert!(matches!(ended.code, Some(0 | 1)), "{args:?}: {ended:?}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {ended:?}"))
    }

    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    pub fn network(&self) -> Value {
        self.json(&["network"])
    }

    /// The rows of its connections, closed ones too.
    pub fn peers(&self) -> Vec<Value> {
        self.json(&["peers", "--all"])["peers"].as_array().unwrap().clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
        if signal != Signal::STOP {
            return;
        }
        // The system wakes one thread to stop the others; until it has had its turn they go on, and answer.
        let seen = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        until("all its threads have stopped", SOON, || match waitid(WaitId::Pid(pid), seen).unwrap() {
            Some(_) => Ok(()),
            None => Err("some run".to_owned()),
        });
    }

    /// Waits until the process has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the process ends", SOON, || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
    }

    /// How it ended, if it has by itself.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again, once it has ended, with its state and its addresses.
    pub fn start_again(&mut self) {
        let setup = self.setup.clone().listen(&self.addresses);
        *self = setup.start();
    }

    /// What it printed on stdout after the ready line, once it has ended.
    pub fn printed(&self) -> Vec<String> {
        self.lines.iter().collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A stopped process is killed as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.stderr();
            let last: Vec<&str> = said.lines().rev().take(40).collect();
            println!("--- {} ({}) at {} said last:", self.label, &self.id[..8], self.address);
            last.iter().rev().for_each(|line| println!("    {line}"));
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Runs it to its end, which has to come soon.
    pub fn of(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (sender, outcome) = unbounded();
        let waiting = thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
        let Ok(output) = outcome.recv_timeout(SOON) else {
            let _ = kill_process(pid, Signal::KILL);
            panic!("has not ended after {} s: {command:?}\n{:?}", SOON.as_secs(), outcome.recv());
        };
        waiting.join().unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Failed with that code, nothing on stdout, and one line on stderr, which is given back.
    #[track_caller]
    pub fn one_line(&self, code: i32) -> &str {
        let line = self.stderr.strip_suffix('\n').unwrap_or_default();
        let is_one_line = !line.is_empty() && !line.contains(|c: char| c.is_control());
        assert!(
            self.code == Some(code) && self.stdout.is_empty() && is_one_line,
            "not exit {code}, one line: {self:?}"
        );
        println!("exit {code}: {line}");
        line
    }
}

/// The program, deaf to the environment of whoever runs the tests.
pub fn kithd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kithd"));
    command.env_remove("KITHD_SOCKET").env_remove("KITHD_STATE_DIR").stdin(Stdio::null());
    command
}

/// A place where nobody listens. It may be taken again, which nodes of another network then refuse.
pub fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Makes a file of that content.
pub fn write(path: &Path, content: &[u8]) {
    use std::io::Write as _;
    File::create(path).unwrap().write_all(content).unwrap();
}

fn lines_of(stdout: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = unbounded();
    thread::spawn(move || {
        // Reads to the end, whoever listens, so that the pipe never fills.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}
