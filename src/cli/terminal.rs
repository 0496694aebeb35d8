//! Standard output and error: data here, talk there, and neither of them a reason to panic.

use std::env;
use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::protocol::escape::escaped;

/// Writes data to standard output, at once and whole.
pub fn say(text: &str) -> io::Result<()> {
    pour(text.as_bytes())
}

/// The same with bytes that need not be text, and are not looked at.
pub fn pour(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// True if standard output takes a line now; a pipe that is full does not.
pub fn is_heard() -> bool {
    let out = io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::OUT)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Writes one line to standard error. If that is closed there is nobody left to tell.
pub fn complain(message: &str) {
    let _ = io::stderr().write_all(complaint(message).as_bytes());
}

/// The line in which something is complained of.
pub fn complaint(message: &str) -> String {
    format!("kithd: {}\n", escaped(message))
}

/// True if a person looks at standard output.
pub fn watched() -> bool {
    io::stdout().is_terminal()
}

/// True if that person sees colours and has not asked for none (<https://no-color.org>).
pub fn colourful() -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    watched() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}
