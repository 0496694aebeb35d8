//! Text for people: columns that line up, sizes and ages in units one can say aloud, and nothing that a stranger's
//! label, tag or address could do to the terminal.

use crate::protocol::escape::escaped;
use crate::protocol::time::from_rfc3339;

/// Where a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A colour of the terminal's own palette, so that it suits its background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// All is well.
    Green,
    /// Watch this.
    Yellow,
    /// This is wrong.
    Red,
    /// This is past.
    Grey,
}

/// One cell; its text is made harmless on the way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A cell that is painted where colours are wanted.
    pub fn painted(text: &str, colour: Colour) -> Self {
        Self { text: escaped(text).into_owned(), colour: Some(colour) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: escaped(text.as_ref()).into_owned(), colour: None }
    }
}

/// Rows under a heading.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the last column are not shown.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The table as text, two spaces between columns and none at the end of a line.
    pub fn draw(&self, colour: bool) -> String {
        let heading: Vec<Cell> = self.columns.iter().map(|(name, _)| Cell::from(name)).collect();
        let rows = || std::iter::once(&heading).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| rows().filter_map(|row| row.get(column)).map(|cell| width(&cell.text)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in rows() {
            let mut line = String::new();
            for ((cell, (_, align)), wide) in row.iter().zip(&self.columns).zip(&widths) {
                let gap = " ".repeat(wide - width(&cell.text));
                let shown = paint(&cell.text, cell.colour.filter(|_| colour));
                line += &if *align == Align::Left { shown + &gap } else { gap + &shown };
                line += "  ";
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

/// Columns a text takes, if it is [`escaped`] and of narrow letters. Labels and addresses are; tags stand last.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// The part of an id or digest that people compare: its first eight digits.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A size: `0 B`, `1023 B`, `1.5 KiB`, `64 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // Not 1024: what rounds up to it belongs to the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A span of time: `1.4 s`, `42 s`, `3m12s`, `2h05m`, `4d07h`.
pub fn span(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = seconds as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        ..60 => format!("{whole} s"),
        60..3600 => format!("{minutes}m{:02}s", whole % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// How long ago a moment of a report was; `-` if it is none.
pub fn age(moment: &str, now_ms: u64) -> String {
    from_rfc3339(moment).map_or_else(|| "-".to_owned(), |ms| span(now_ms.saturating_sub(ms) as f64 / 1000.0))
}

/// A round-trip time: `0.21 ms`, `12.3 ms`, `340 ms`; `-` if there is none.
pub fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 9.995 => format!("{ms:.2} ms"),
        Some(ms) if ms < 99.95 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

fn paint(text: &str, colour: Option<Colour>) -> String {
    let code = match colour {
        None => return text.to_owned(),
        Some(Colour::Green) => "32",
        Some(Colour::Yellow) => "33",
        Some(Colour::Red) => "1;31",
        Some(Colour::Grey) => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("ABOUT", Align::Left)]);
        table.row(["a".into(), "1".into(), "".into()]);
        table.row(["b\u{202e}\n".into(), Cell::painted("1000", Colour::Red), "→ é".into()]);
        assert_eq!(
            table.draw(false),
            "NAME            N  ABOUT\n\
             a               1\n\
             b\\u{202e}\\n  1000  → é\n"
        );
        assert_eq!(table.draw(true), table.draw(false).replace("1000", "\u{1b}[1;31m1000\u{1b}[0m"));
    }

    #[test]
    fn sizes_and_times_stay_short() {
        let sizes = [0, 1023, 1024, 1536, 10_188, 10_240, 1_048_064, 1_048_575, 67_108_864, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "9.9 KiB", "10 KiB", "1.0 MiB", "1.0 MiB", "64 MiB", "16 EiB"]
        );
        let spans = [-1.0, 0.04, 1.44, 9.94, 9.96, 59.9, 60.0, 192.0, 3599.0, 7500.0, 371_000.0].map(span);
        assert_eq!(
            spans,
            ["0.0 s", "0.0 s", "1.4 s", "9.9 s", "9 s", "59 s", "1m00s", "3m12s", "59m59s", "2h05m", "4d07h"]
        );
        let rtts = [None, Some(0.214), Some(12.34), Some(340.4)].map(millis);
        assert_eq!(rtts, ["-", "0.21 ms", "12.3 ms", "340 ms"]);
    }

    #[test]
    fn ages_never_run_backwards() {
        assert_eq!(age("1970-01-01T00:00:01.000Z", 4_000), "3.0 s");
        assert_eq!(age("1970-01-01T00:00:09.000Z", 4_000), "0.0 s");
        assert_eq!(age("yesterday", 4_000), "-");
    }

    #[test]
    fn short_ids_of_odd_texts_do_not_panic() {
        assert_eq!(short(&"ab".repeat(32)), "abababab");
        assert_eq!(short("äöüß€"), "äöüß");
        assert_eq!(short("a€€€"), "a€€€");
        assert_eq!(short(""), "");
    }
}
