//! The command line: one file a verb, and what all of them share. The only home of clap.

pub mod config;
pub mod flags;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Exit code of a usage or configuration error.
pub const USAGE: u8 = 2;
/// Exit code of what should not happen.
pub const INTERNAL: u8 = 70;

/// Prints what clap has to say: help and version as they are (exit 0), an error as one line on stderr (exit 2).
pub fn usage_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return print(&error.render().to_string());
    }
    fail(USAGE, one_line(&error.render().to_string()))
}

/// Says on stderr, in one line, why the program ends, and ends it with that code.
pub fn fail(code: u8, why: impl std::fmt::Display) -> ExitCode {
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(io::stderr(), "kithd: {why}");
    ExitCode::from(code)
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(INTERNAL, format!("cannot write to stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Columns as wide as they must be, the last one free.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
        text
    })
}

/// An error of clap's without its paragraphs: what is wrong, the tip, where the help is.
fn one_line(text: &str) -> String {
    let said = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let said: Vec<&str> = said.map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = said.join("; ").replace(":; ", ": ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    // Arguments are others' bytes: none may move the cursor of a terminal.
    let said: String = said.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{said}; see --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_clap_becomes_one_line() {
        let text =
            "error: unexpected argument '--a\u{7}' found\n\n  tip: a similar argument exists: '--b'\n\nUsage: x\n\nFor";
        let line = "unexpected argument '--a\u{fffd}' found; tip: a similar argument exists: '--b'; see --help";
        assert_eq!(one_line(text), line);
        let text = "error: the following required arguments were not provided:\n  <NODE>\n\nUsage: kithd ping <NODE>";
        assert_eq!(one_line(text), "the following required arguments were not provided: <NODE>; see --help");
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a     b\nlong\n");
    }
}
