//! The other process: it answers, and lives as long as the one that has started it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A child that answers.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// The same program, with the same arguments and `--serve`.
    pub(crate) fn start() -> Self {
        let program = std::env::current_exe().expect("the system knows where this program is");
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("it was asked for")).read_line(&mut line);
        let address = said.ok().and_then(|_| line.trim().parse().ok());
        Self { child, address: address.expect("the server says where it listens") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For [`serve`](crate::Yardstick::serve): says where it listens, and ends this process when its parent ends, however that
/// comes about.
pub fn say_and_follow(address: SocketAddr) {
    let mut out = io::stdout();
    writeln!(out, "{address}").and_then(|()| out.flush()).expect("somebody hears where it listens");
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}
