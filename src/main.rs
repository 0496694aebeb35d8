//! Parse, run, exit.

use std::io::Write;
use std::panic;
use std::process::ExitCode;

fn main() -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        // Not `eprint!`, which panics when standard error is closed.
        let _ = std::io::stderr().write_all(kithd::cli::panic_line(panic).as_bytes());
    }));
    panic::catch_unwind(|| kithd::cli::run(std::env::args_os())).unwrap_or(ExitCode::from(70))
}
