//! From how many pools the threads take memory.
//!
//! glibc gives each of the first threads a pool of its own, eight for each core, and little of what a pool has grown to
//! comes back: good for programs whose threads allocate all the time, while a node's are one for each neighbour and sleep.
//! With one pool for all of them the node that a hundred others dial keeps 7.7 MiB resident instead of 8.3; on more cores
//! there would be more pools. And of threads that have ended glibc keeps 40 MiB of stacks, with all that was touched of them:
//! here, one MiB. Both are chosen by the environment in which a program begins, so a node begins a second time: same process,
//! same arguments.

use std::convert::Infallible;
use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use signal_hook::consts::SIGPIPE;

use crate::services::program::OWN_TUNABLES;

const TUNABLES: &str = OWN_TUNABLES.0;
const ONE_POOL: &str = OWN_TUNABLES.1;
/// The older name of the same.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Has all threads share one pool. Whoever has tuned the allocator himself, for more throughput perhaps, is not overruled.
/// Returns if that is so, or if it is done.
///
/// # Errors
/// It cannot begin again: then the node merely takes some more memory.
pub fn share_one_pool() -> io::Result<()> {
    if !cfg!(target_env = "gnu") || [TUNABLES, ARENAS].iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    let Err(error) = begin_again();
    // On its way it has made SIGPIPE deadly, as it is for programs that begin; a node must outlive its readers.
    signal_hook::flag::register(SIGPIPE, Arc::default())?;
    Err(error)
}

/// Returns only if it failed.
fn begin_again() -> io::Result<Infallible> {
    let program = env::current_exe()?;
    let mut words = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    Err(command.args(words).env(TUNABLES, ONE_POOL).exec())
}
