//! No core dump: what a crash would leave on the disk, or send to a crash reporter, holds the node's keys.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Leaves no file behind when the process crashes. Whoever needs one for once can raise the soft limit of the running process
/// (`prlimit --core=unlimited --pid PID`), unless it [hides](hide) as well.
pub fn forbid() {
    let limit = getrlimit(Resource::Core);
    // Lowering the soft limit is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: limit.maximum });
}

/// For a process that holds a network key, which is the secret of others too: it is not dumped even where the system pipes
/// dumps into a program, which asks no limit; and no other process of its user may attach to it or read its memory.
pub fn hide() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("the process cannot be hidden from debuggers and crash reporters: {error}");
    }
}
