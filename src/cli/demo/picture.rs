//! The live picture: who is there, who dialled whom, who agrees, and what happened last.

use std::collections::BTreeSet;
use std::io;

use super::super::network;
use super::super::table::{Align, Cell, Table, short};
use super::super::terminal;
use crate::protocol::report::NetworkReport;

/// Up to so many columns of arrows stand apart; more stand close, and without ids, so that 32 of them fit in 80 columns.
const APART: usize = 9;
/// The column that a large network goes without.
const ID: usize = 2;
/// What stands above the columns: the last digit of each node's number.
const HEADS: &str = "12345678901234567890123456789012";
const HEADS_APART: &str = "1 2 3 4 5 6 7 8 9";
const LEGEND: &str = "→ the row's node dialled the column's   ← was dialled by it   ↔ both   · neither";

/// A node as it is named in the picture.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its label.
    pub(super) label: String,
    /// Its id, 64 digits.
    pub(super) id: String,
}

/// The network as the teller of this report sees it.
pub(super) fn draw(nodes: &[Named], report: &NetworkReport, colour: bool) -> String {
    let is_large = nodes.len() > APART;
    let heads = if is_large { HEADS.get(..nodes.len()) } else { HEADS_APART.get(..2 * nodes.len() - 1) };
    let mut columns = vec![
        ("", Align::Right),
        ("NODE", Align::Left),
        ("ID", Align::Left),
        ("STATUS", Align::Left),
        ("ADDRESS", Align::Left),
        (heads.unwrap_or_default(), Align::Left),
    ];
    if is_large {
        columns.remove(ID);
    }
    let mut table = Table::new(&columns);
    let edges: BTreeSet<(&str, &str)> =
        report.edges.iter().map(|edge| (edge.tail.as_str(), edge.head.as_str())).collect();
    for (index, node) in nodes.iter().enumerate() {
        let row = report.nodes.iter().find(|row| row.id == node.id);
        let (status, address) = match row {
            Some(row) => {
                let (word, hue) = network::status(row.status);
                // All are on loopback: where room is short, the port tells them apart.
                let port = format!(":{}", row.address.port());
                let address = if nodes.len() > APART { port } else { row.address.to_string() };
                (Cell::painted(&format!("● {word}"), hue), address)
            }
            None => ("○ unknown".into(), String::new()),
        };
        let arrows: Vec<&str> = nodes.iter().map(|other| arrow(&edges, &node.id, &other.id)).collect();
        let arrows = arrows.join(if is_large { "" } else { " " });
        let number = (index + 1).to_string();
        let (label, id): (Cell, Cell) = ((&node.label).into(), short(&node.id).into());
        let mut cells = vec![number.into(), label, id, status, address.into(), arrows.into()];
        if is_large {
            cells.remove(ID);
        }
        table.row(cells);
    }
    let agreement = network::agreement(&report.agreement, &report.digest);
    format!("{}{LEGEND}\n\n{agreement}\n", table.draw(colour))
}

fn arrow(edges: &BTreeSet<(&str, &str)>, row: &str, column: &str) -> &'static str {
    match (edges.contains(&(row, column)), edges.contains(&(column, row))) {
        _ if row == column => "\\",
        (true, true) => "↔",
        (true, false) => "→",
        (false, true) => "←",
        (false, false) => "·",
    }
}

/// The terminal while the picture is on it: its other page, without cursor. Dropping it gives the terminal back.
pub(super) struct Screen(());

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        let screen = Self(());
        // The other page, no cursor, and what is too wide is cut, not wrapped.
        terminal::say("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J")?;
        Ok(screen)
    }

    /// Draws over what was there.
    pub(super) fn show(&self, picture: &str) -> io::Result<()> {
        terminal::say(&placed(picture))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = terminal::say("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    }
}

/// Each line at its place, which is cleared first, the last one's with all below. Cleared afterwards, a line as wide as
/// the terminal would lose its last letter: the cursor still stands on it. Lines are not ended by a line feed: it would
/// scroll a terminal that is not high enough.
fn placed(picture: &str) -> String {
    let last = picture.lines().count();
    let lines = picture.lines().zip(1..);
    lines
        .map(|(line, row)| {
            let clear = if row == last { 'J' } else { 'K' };
            format!("\u{1b}[{row};1H\u{1b}[{clear}{line}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Named> {
        let named = |label: &str, digit: &str| Named { label: label.to_owned(), id: digit.repeat(64) };
        vec![named("alpha", "1"), named("beta", "2"), named("gamma", "3"), named("eta", "8")]
    }

    #[test]
    fn a_picture_tells_status_and_direction() {
        let report = network::tests::report();
        assert_eq!(
            draw(&nodes(), &report, false),
            "   NODE   ID        STATUS     ADDRESS         1 2 3 4
1  alpha  11111111  ● up       127.0.0.1:7100  \\ ↔ · ·
2  beta   22222222  ● suspect  127.0.0.1:7101  ↔ \\ · ·
3  gamma  33333333  ● down     127.0.0.1:7102  · · \\ ·
4  eta    88888888  ○ unknown                  · · · \\
→ the row's node dialled the column's   ← was dialled by it   ↔ both   · neither

2 of 3 nodes agree on view 3f9a0c12, radius 1, for 3m12s (within 1.4 s)
"
        );
        assert!(draw(&nodes(), &report, true).contains("\u{1b}[1;31m● down\u{1b}[0m"));
    }

    #[test]
    fn a_large_network_fits_in_eighty_columns() {
        let many: Vec<Named> =
            (0..32).map(|n| Named { label: format!("node-{n:02}"), id: format!("{n:02}").repeat(32) }).collect();
        let mut report = network::tests::report();
        for (row, named) in report.nodes.iter_mut().zip(&many) {
            row.id.clone_from(&named.id);
            row.address = ([127, 0, 0, 1], 65_535).into();
        }
        let picture = draw(&many, &report, false);
        assert!(picture.contains("suspect") && picture.lines().all(|line| line.chars().count() <= 80), "{picture}");
        assert!(picture.contains(HEADS));
    }

    #[test]
    fn lines_are_placed_and_never_scroll() {
        assert_eq!(placed("a\nb\n"), "\u{1b}[1;1H\u{1b}[Ka\u{1b}[2;1H\u{1b}[Jb");
    }
}
