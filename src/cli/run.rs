//! `kithd run`: a node in the foreground, until a signal or `kithd leave` ends it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use clap::{ArgMatches, Command};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use super::node_log::{NodeLog, Reopener};
use super::{INTERNAL, NOT_STARTED, USAGE, allocator, core_dumps, descriptors, fail, flags, terminal};
use crate::config::Config;
use crate::protocol::escape::escaped;
use crate::{End, Node};

/// The signals thread passes signals on, and reads the configuration anew, for which its parser wants some room.
const STACK: usize = 1024 * 1024;

/// For one write.
const SMALL_STACK: usize = 64 * 1024;

/// The verb and its flags.
pub fn command() -> Command {
    flags::run_args(Command::new("run").about("Run a node in the foreground, until SIGINT, SIGTERM or 'kithd leave'"))
}

/// Runs the verb.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let pools = allocator::share_one_pool();
    let config = match flags::load(matches) {
        Ok(loaded) => loaded.config,
        Err(error) => return fail(USAGE, error),
    };
    match NodeLog::start(&config.log) {
        Ok(log) => {
            if let Err(error) = pools {
                log::warn!(
                    "the node takes some more memory than it needs: it cannot choose its allocator's settings: {error}"
                );
            }
            run_node(matches, &config, &log)
        }
        Err(error) => fail(NOT_STARTED, error),
    }
}

/// From here on nothing is written to standard error but by the log's thread: nobody may read it.
fn run_node(matches: &ArgMatches, config: &Config, log: &NodeLog) -> ExitCode {
    let fail = |code: u8, why: String| {
        log.tell_person(&why);
        ExitCode::from(code)
    };
    descriptors::raise_limit();
    core_dumps::forbid();
    if config.network.key_file.is_some() {
        // Before the file is read.
        core_dumps::hide();
    }
    // Before the node: a signal that comes while it starts ends it in order, once it has started.
    let signals = match Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]) {
        Ok(signals) => signals,
        Err(error) => return fail(NOT_STARTED, format!("cannot wait for signals: {error}")),
    };
    let node = match Node::start(config.clone()) {
        Ok(node) => Arc::new(node),
        Err(error) => return fail(if error.is_usage() { USAGE } else { NOT_STARTED }, error.to_string()),
    };
    node.watch_log(log.watch());
    let signals = match Signalling::start(&node, log.reopener(), signals, matches.clone()) {
        Ok(signals) => signals,
        Err(error) => return fail(NOT_STARTED, format!("cannot wait for signals: {error}")),
    };
    if let Err(error) = say_ready(&node, config) {
        log::warn!("nobody reads the ready line: {error}");
    }
    let end = node.wait();
    log::info!("the node ends: {end}");
    signals.stop();
    if let Some(node) = Arc::into_inner(node) {
        node.shutdown();
    }
    match end {
        End::Wanted => ExitCode::SUCCESS,
        End::Fatal(reason) => fail(NOT_STARTED, format!("the node has to end: {reason}: see the log")),
        End::Panicked(thread) => fail(INTERNAL, format!("the thread {thread} has failed: see the log")),
    }
}

/// The one line on stdout by which a supervisor or a script knows that the node serves.
fn say_ready(node: &Node, config: &Config) -> io::Result<()> {
    let identity = node.identity();
    let listen: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
    let socket = config.node.socket_path();
    let line = format!(
        "kithd ready id={} label={} listen={} socket={}\n",
        identity.id,
        identity.label,
        listen.join(","),
        escaped(&socket.display().to_string())
    );
    if terminal::is_heard() {
        return terminal::say(&line);
    }
    // It waits by itself for whoever will read it; signals do not wait for that.
    let say = move || drop(terminal::say(&line));
    thread::Builder::new().name("ready".into()).stack_size(SMALL_STACK).spawn(say).map(drop)
}

/// The thread `signals`: a signal becomes a word to the node.
struct Signalling {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Signalling {
    fn start(node: &Arc<Node>, mut log: Reopener, mut signals: Signals, matches: ArgMatches) -> io::Result<Self> {
        let (handle, stopper, node) = (signals.handle(), node.stopper(), Arc::downgrade(node));
        let end = stopper.clone();
        let mut pass_on = move || {
            for signal in signals.forever() {
                match signal {
                    SIGHUP => {
                        if let Some(node) = node.upgrade() {
                            reload(&node, &mut log, &matches);
                        }
                    }
                    SIGUSR1 => {
                        if let Some(node) = node.upgrade() {
                            node.dump();
                        }
                    }
                    // Full means that the node ends already.
                    _ => drop(stopper.try_send(End::Wanted)),
                }
            }
        };
        // Without it no signal but the last one would end the node.
        let run = move || {
            if catch_unwind(AssertUnwindSafe(&mut pass_on)).is_err() {
                let _ = end.try_send(End::Panicked("signals"));
            }
        };
        let thread = thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(run)?;
        Ok(Self { handle, thread })
    }

    fn stop(self) {
        self.handle.close();
        // Its panic would have been told by the hook.
        let _ = self.thread.join();
    }
}

/// Reads the configuration anew, as the flags of this process still override it, and says of each key that has changed
/// what became of it. The log is opened anew in any case: somebody may have rotated it.
fn reload(node: &Node, log: &mut Reopener, matches: &ArgMatches) {
    let loaded = flags::load(matches);
    let mut applied = match &loaded {
        Ok(loaded) => log.reload(&loaded.config.log),
        Err(_) => log.reopen(),
    };
    let reloaded = match loaded.and_then(|loaded| node.reload(&loaded.config)) {
        Ok(reloaded) => reloaded,
        Err(error) => {
            return log::error!("the configuration is not taken over, all stays as it was: {error}");
        }
    };
    applied.extend(&reloaded.applied);
    for key in &applied {
        log::info!("{key}: applied");
    }
    for key in &reloaded.needs_restart {
        log::warn!("{key}: needs a restart");
    }
    if applied.is_empty() && reloaded.needs_restart.is_empty() {
        log::info!("the configuration was read anew; nothing has changed");
    }
}
