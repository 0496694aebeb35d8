//! A service that is a program: started for each request, without a shell, and gone with its answer.
//!
//! ```text
//!   payload ──▶ stdin ┐                     ┌ stdout ──▶ the answer's payload
//!                     ├── its process group ┤
//!   who asks ──▶ env  ┘                     ├ stderr ──▶ the log, in lines
//!                                           └ status ──▶ the outcome
//! ```
//!
//! One loop on the caller's thread serves all four, so that a program costs no thread beside the one that waits for it.
//!
//! **Its end is that of the process that was started.** What that one has written is in the pipe by then, and so is all of
//! what it waited for. What it has left behind in its group is killed, even if it holds the pipes open: a request leaves
//! nothing running that its bounds do not cover. Waiting for such leftovers instead would have every service that starts a
//! daemon answer at its timeout. A program that must outlive its request begins a session of its own (`setsid`).

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread, read, write};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::children::{Children, kill};
use super::said::{Said, Tell, shown};
use crate::protocol::requests::message::{Failure, Outcome, Refusal};

/// What `kithd run` adds to its own environment, about its own memory: no program inherits it. What its user has chosen
/// under the same name, every program does.
pub const OWN_TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1");

/// As much as a pipe holds.
const AT_ONCE: usize = 64 * 1024;
/// Where the system cannot say that a program has ended, the end of its output does; one that closes its output and goes
/// on is looked at so often.
const LOOK: Duration = Duration::from_millis(10);

/// What is run for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program, searched for in `PATH` unless it has a slash, and its arguments.
    pub command: Vec<String>,
    /// How long one run may take.
    pub timeout: Duration,
    /// How many bytes it may answer.
    pub max_output: usize,
}

/// Who asks, and for what: the program finds it in its environment.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// The id that the caller has proven to have, as 64 hex digits: `KITHD_CALLER_ID`.
    pub id: String,
    /// What it calls itself, which proves nothing: `KITHD_CALLER_LABEL`.
    pub label: &'a str,
    /// Under which name the program was asked: `KITHD_SERVICE`.
    pub service: &'a str,
}

impl Program {
    /// Runs it once, on this thread. The outcome, and the payload of the answer.
    ///
    /// At its timeout or the deadline, whichever comes first, its process group is killed. That ends it at once unless the
    /// system keeps it in a call that cannot be broken off, or it has become another user's: then this thread goes on
    /// waiting, for without it such programs would pile up.
    pub fn run(&self, asker: &Asker<'_>, payload: &[u8], deadline: Instant, children: &Children) -> (Outcome, Vec<u8>) {
        let service = asker.service;
        let mut tell = |level, line: &str| {
            let room = children.log.take();
            if let Some(before @ 1..) = room {
                log::warn!("{before} lines of services' programs were left out: they say too much");
            }
            if room.is_some() {
                log::log!(level, "service {service}: {line}");
            }
            room.is_some()
        };
        self.attempt(asker, payload, deadline, children, &mut tell)
    }

    fn attempt(
        &self,
        asker: &Asker<'_>,
        payload: &[u8],
        deadline: Instant,
        children: &Children,
        tell: &mut Tell<'_>,
    ) -> (Outcome, Vec<u8>) {
        let now = Instant::now();
        let until = now.checked_add(self.timeout).map_or(deadline, |end| end.min(deadline));
        if !children.may_begin() {
            return (Outcome::Refused(Refusal::Leaving), Vec::new());
        }
        if until <= now {
            return (Outcome::Refused(Refusal::TimedOut), Vec::new());
        }
        let started = self.command(asker).and_then(|command| Run::start(command, payload, self.max_output, children));
        let mut run = match started {
            Ok(run) => run,
            Err(error) => {
                if !tell(Level::Warn, &self.why_not(&error)) {
                    children.log.leave_out(1);
                }
                return (Outcome::Failed(Failure::NotStarted), Vec::new());
            }
        };
        let end = run.attend(until, tell);
        children.log.leave_out(run.said.end(tell));
        run.answer(end)
    }

    fn command(&self, asker: &Asker<'_>) -> io::Result<Command> {
        let (program, arguments) = self.command.split_first().ok_or(ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("KITHD_CALLER_ID", &asker.id);
        command.env("KITHD_CALLER_LABEL", asker.label);
        command.env("KITHD_SERVICE", asker.service);
        let (name, value) = OWN_TUNABLES;
        // Until 2.38 glibc cuts it in place, where the first of them ends.
        let is_own = |tuned: OsString| tuned == value || value.split(':').next().is_some_and(|first| tuned == first);
        if std::env::var_os(name).is_some_and(is_own) {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Why it does not run, and what to do.
    fn why_not(&self, error: &io::Error) -> String {
        let program = self.command.first().map_or("", String::as_str);
        let cure = match error.kind() {
            ErrorKind::NotFound => "no such program, or none that runs its script; give the path of one that exists",
            ErrorKind::PermissionDenied => "permission denied; let the user that kithd runs as execute it",
            ErrorKind::InvalidInput => "is no command; give one without NUL bytes",
            _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
                "is no program; let a script begin with #! and what runs it"
            }
            _ if error.raw_os_error() == Some(Errno::TOOBIG.raw_os_error()) => {
                "arguments and environment are too long; shorten them"
            }
            ErrorKind::WouldBlock | ErrorKind::OutOfMemory => {
                "the system has no process to give; raise its limits or lower limits.workers"
            }
            _ => return shown(format!("cannot start {program}: {error}").as_bytes(), false),
        };
        shown(format!("cannot start {program}: {cure}").as_bytes(), false)
    }
}

/// Why a run is over.
enum End {
    /// The process has ended by itself, or was killed by somebody else.
    Ended,
    TimedOut,
    TooLarge,
}

/// A program that runs. Dropping it kills and reaps it.
struct Run<'a> {
    child: Child,
    /// Its process group; its leader's number, too.
    group: Pid,
    children: &'a Children,
    /// Readable once the process has ended, where the system has such a thing.
    ended: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is left to be given.
    payload: &'a [u8],
    output: Vec<u8>,
    max_output: usize,
    said: Said,
    is_reaped: bool,
}

impl<'a> Run<'a> {
    fn start(mut command: Command, payload: &'a [u8], max_output: usize, children: &'a Children) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let group = Pid::from_child(&child);
        children.add(group);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // From here on, dropping it does what is left to do.
        let run = Self {
            ended: watch(group),
            child,
            group,
            children,
            stdin,
            stdout,
            stderr,
            payload,
            output: Vec::new(),
            max_output,
            said: Said::default(),
            is_reaped: false,
        };
        for pipe in [run.stdin.as_ref().map(AsFd::as_fd), run.stdout.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
            ioctl_fionbio(pipe, true)?;
        }
        run.stderr.as_ref().map_or(Ok(()), |pipe| ioctl_fionbio(pipe, true))?;
        Ok(run)
    }

    /// Gives and takes until it is over.
    fn attend(&mut self, until: Instant, tell: &mut Tell<'_>) -> End {
        let mut buffer = vec![0; AT_ONCE];
        loop {
            if self.has_ended() {
                return self.take_rest(&mut buffer, tell);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return End::TimedOut;
            }
            self.wait(left);
            self.give();
            self.take_output(&mut buffer);
            self.take_said(&mut buffer, tell);
            if self.output.len() > self.max_output {
                return End::TooLarge;
            }
        }
    }

    /// Until there is something to do, or for so long.
    fn wait(&self, left: Duration) {
        let is_blind = self.ended.is_none() && self.stdout.is_none() && self.stderr.is_none();
        let left = if is_blind { left.min(LOOK) } else { left };
        let sources = [
            self.ended.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)),
            self.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)),
            self.stdout.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)),
            self.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)),
        ];
        let mut sources: Vec<PollFd<'_>> = sources.into_iter().flatten().collect();
        // Broken off by a signal, it is called again; and what does not fit, no deadline is as far.
        let _ = poll(&mut sources, Timespec::try_from(left).ok().as_ref());
    }

    /// Not reaped, so that the number of its group stays its own.
    fn has_ended(&mut self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.group), options) {
            Ok(status) => status.is_some(),
            Err(Errno::INTR) => false,
            // Somebody else has reaped it: a program around this node that ignores SIGCHLD.
            Err(_) => {
                self.is_reaped = true;
                self.children.forget(self.group);
                true
            }
        }
    }

    /// As much of the payload as finds room. A program need not want it.
    fn give(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        if !self.payload.is_empty() {
            match write(stdin, self.payload) {
                Ok(given) => self.payload = &self.payload[given..],
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.payload = &[],
            }
        }
        if self.payload.is_empty() {
            self.stdin = None;
        }
    }

    /// At most one buffer of output; what was taken. The output is kept only as far as it shows that there is too much.
    fn take_output(&mut self, buffer: &mut [u8]) -> usize {
        let taken = take(&mut self.stdout, buffer);
        let room = self.max_output.saturating_add(1).saturating_sub(self.output.len());
        self.output.extend_from_slice(&taken[..taken.len().min(room)]);
        taken.len()
    }

    fn take_said(&mut self, buffer: &mut [u8], tell: &mut Tell<'_>) -> usize {
        let taken = take(&mut self.stderr, buffer);
        self.said.add(taken, tell);
        taken.len()
    }

    /// What is in the pipes now that it has ended, and no more: others may still be writing.
    fn take_rest(&mut self, buffer: &mut [u8], tell: &mut Tell<'_>) -> End {
        let (output, said) = (waiting(self.stdout.as_ref()), waiting(self.stderr.as_ref()));
        in_parts(output, buffer, |part| self.take_output(part));
        in_parts(said, buffer, |part| self.take_said(part, tell));
        if self.output.len() > self.max_output { End::TooLarge } else { End::Ended }
    }

    fn answer(mut self, end: End) -> (Outcome, Vec<u8>) {
        let status = self.reap();
        let failed = |failure| (Outcome::Failed(failure), Vec::new());
        let narrow = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        match (end, status.as_ref().map(ExitStatus::code), status.as_ref().map(ExitStatus::signal)) {
            (End::TimedOut, ..) => failed(Failure::TimedOut),
            (End::TooLarge, ..) => failed(Failure::TooLarge),
            (End::Ended, Ok(Some(0)), _) => (Outcome::Done, mem::take(&mut self.output)),
            (End::Ended, Ok(Some(code)), _) => {
                (Outcome::Failed(Failure::Exit(narrow(code))), mem::take(&mut self.output))
            }
            (End::Ended, _, Ok(Some(signal))) => failed(Failure::Signal(narrow(signal))),
            // Somebody else has its status.
            (End::Ended, ..) => failed(Failure::Gone),
        }
    }

    /// Kills what is left of its group, and waits for its leader's end.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        if !mem::replace(&mut self.is_reaped, true) {
            kill(self.group);
            self.children.forget(self.group);
            (self.stdin, self.stdout, self.stderr) = (None, None, None);
        }
        self.child.wait()
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.reap();
    }
}

#[cfg(target_os = "linux")]
fn watch(process: Pid) -> Option<OwnedFd> {
    // Refused by old kernels, and by some containers.
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn watch(_: Pid) -> Option<OwnedFd> {
    None
}

/// What a pipe has, as much as fits; one that has come to its end is closed.
fn take<'a, P: AsFd>(pipe: &mut Option<P>, buffer: &'a mut [u8]) -> &'a [u8] {
    match pipe.as_ref().map(|open| read(open, &mut *buffer)) {
        Some(Ok(count @ 1..)) => &buffer[..count],
        None | Some(Err(Errno::AGAIN | Errno::INTR)) => &[],
        Some(Ok(0) | Err(_)) => {
            *pipe = None;
            &[]
        }
    }
}

/// Takes so many bytes, or fewer if there are no more.
fn in_parts(mut left: usize, buffer: &mut [u8], mut take: impl FnMut(&mut [u8]) -> usize) {
    while left > 0 {
        let most = left.min(buffer.len());
        match take(&mut buffer[..most]) {
            0 => return,
            taken => left -= taken,
        }
    }
}

/// How many bytes wait in a pipe.
fn waiting(pipe: Option<&impl AsFd>) -> usize {
    pipe.map_or(0, |pipe| ioctl_fionread(pipe).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests;
