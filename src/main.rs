//! Parse, run, exit.

use std::io::Write;
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        // One line, whatever the panic says; and not `eprintln!`, which panics when standard error is closed.
        let text = panic.to_string().replace('\n', " ");
        let text = kithd::protocol::escape::escaped(&text);
        let thread = std::thread::current();
        let _ = writeln!(std::io::stderr(), "kithd: internal error in {}: {text}", thread.name().unwrap_or("a thread"));
    }));
    panic::catch_unwind(|| kithd::cli::run(std::env::args_os())).unwrap_or(ExitCode::from(70))
}
