//! A private pair: a node in a process of its own that answers, and one in this process that asks it, as a program with this
//! library in it does.
//!
//! ```text
//!   this process                                    its child, kithd bench --serve DIRECTORY
//!   Node ── TCP, encrypted, on loopback ──────────▶ Node: echo, bench.echo
//!   Crowd ── as many more as a workload wants ────▶   │
//!   admin socket: what it has counted  ◀──────────────┘   ends when its standard input does
//! ```

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin::api::Verb;
use crate::admin::client::Client;
use crate::cli::interrupts::Interrupts;
use crate::cli::place::Place;
use crate::cli::{NOT_STARTED, descriptors, fail, terminal};
use crate::config::Config;
use crate::controller::load::Over;
use crate::protocol::identity::Label;
use crate::protocol::report::Report;
use crate::{Node, Outcome, Request};

/// Answers as `echo` does, but on a worker, as services do that may block.
pub(super) const ON_WORKER: &str = "bench.echo";
/// Its answers are made where they arrive.
pub(super) const INLINE: &str = "echo";
/// What the server is called.
pub(super) const SERVER: &str = "bench-server";
/// For the first answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any workload has connections.
const MANY: usize = 8192;
/// As many as may wait: all that 4,096 connections have under way.
const MOST_CALLS: usize = 65_535;

/// Both of them.
pub(super) struct Pair {
    pub(super) client: Node,
    pub(super) config: Config,
    pub(super) address: SocketAddr,
    interrupts: Interrupts,
    server: Server,
    socket: PathBuf,
    _place: Place,
}

/// The other one's process. It has to be gone before its directory is.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its standard input is its own.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Pair {
    /// Starts both, and waits until they know each other.
    pub(super) fn start() -> Result<Self, String> {
        let interrupts = Interrupts::start().map_err(|error| error.to_string())?;
        let place = Place::make("bench")?;
        let directory = place.of(0);
        let server = serve_elsewhere(&directory).map_err(|error| format!("cannot start the server: {error}"))?;
        let mut server = Server(server);
        let mut line = String::new();
        let said = server.0.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let Some(address) = said.and_then(Result::ok).and_then(|_| line.trim().parse().ok()) else {
            let _ = server.0.kill();
            return Err("the server did not start: see above".to_owned());
        };
        let mut config = config(&place.of(1), "bench-client");
        config.network.name = network(&directory);
        let socket = directory.join(crate::admin::socket::NAME);
        let client = Node::start(config.clone()).map_err(|error| error.to_string())?;
        let pair = Self { client, config, address, interrupts, server, socket, _place: place };
        pair.meet()?;
        Ok(pair)
    }

    /// The server's process.
    pub(super) fn server(&self) -> u32 {
        self.server.0.id()
    }

    /// What the server has counted so far.
    pub(super) fn report(&self) -> Result<Report, String> {
        let said = Client::connect(&self.socket).and_then(|mut client| client.call(&Verb::Status));
        let said = said.map_err(|error| error.to_string())?;
        serde_json::from_str(said.get()).map_err(|error| error.to_string())
    }

    /// Set once somebody has seen enough.
    pub(super) fn over(&self) -> Over {
        Arc::clone(&self.interrupts.seen)
    }

    /// Nothing, unless somebody has.
    pub(super) fn go_on(&self) -> Result<(), String> {
        if self.interrupts.seen.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
    }

    /// Until it is over, or somebody has seen enough.
    pub(super) fn wait(&self, span: Duration) -> Result<(), String> {
        match self.interrupts.received.recv_timeout(span) {
            Err(_) => Ok(()),
            Ok(()) => Err("interrupted".to_owned()),
        }
    }

    fn meet(&self) -> Result<(), String> {
        match self.client.connect(&self.address.into()) {
            Outcome::Edge(..) => {}
            Outcome::Failed(reason) => return Err(format!("the two do not meet: {reason}")),
        }
        let said = self.client.request(SERVER, INLINE, b"?", PATIENCE);
        said.map(drop).map_err(|error| format!("the two do not meet: {error}"))
    }
}

/// The child's side: serves until nobody needs it any more.
pub(super) fn serve(directory: &Path) -> ExitCode {
    descriptors::raise_limit();
    // What interrupts the command reaches this process too, which ends with the command and not before.
    let _interrupts = Interrupts::start();
    let mut config = config(directory, SERVER);
    config.network.name = network(directory);
    let node = match Node::start(config) {
        Ok(node) => node,
        Err(error) => return fail(NOT_STARTED, error),
    };
    if let Err(error) = node.handle(ON_WORKER, |request: Request| request.payload) {
        return fail(NOT_STARTED, error);
    }
    let address = node.addresses().first().map(ToString::to_string).unwrap_or_default();
    if terminal::say(&format!("{address}\n")).is_ok() {
        let _ = io::stdin().read_to_end(&mut Vec::new());
    }
    node.abort();
    ExitCode::SUCCESS
}

fn serve_elsewhere(directory: &Path) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--serve"]).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn()
}

/// As a node is by default, but for the bounds that many connections from one address need.
fn config(directory: &Path, label: &str) -> Config {
    let mut config = Config::default();
    config.node.label = Label::from_lossy(label);
    config.node.state_dir = directory.to_owned();
    config.listen.addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let limits = &mut config.limits;
    (limits.max_incoming, limits.max_pending, limits.max_calls) = (MANY, MANY, MOST_CALLS);
    config
}

/// Of this pair alone.
fn network(directory: &Path) -> Label {
    Label::from_lossy(&directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy())
}
