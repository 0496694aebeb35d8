//! What programs say on their standard error, as lines of the log: bounded, since whoever may ask makes them say it.

use std::mem;

use log::Level;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::protocol::bucket::{Bucket, Rate};
use crate::protocol::escape::escaped;

/// Of a line so much is shown: a whole sentence with two paths in it. Longer is rarely read, and costs as much each time.
const LONGEST: usize = 400;
/// Lines of one run: a backtrace fits, a dump does not.
const LINES: u32 = 32;
/// Lines of all runs together: programs that work say nothing, and thirty that fail at once are told whole. With the
/// longest lines a flood of requests writes half a megabyte at once and 35 MB a day.
const RATE: Rate = Rate { per_second: 1, burst: 1024 };

/// Where lines go; false if there is no room for one.
pub(super) type Tell<'a> = dyn FnMut(Level, &str) -> bool + 'a;

/// The bytes of one run, as they come, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// A line that has not ended, as much of it as is shown.
    begun: Vec<u8>,
    /// There was more of it.
    is_cut: bool,
    told: u32,
    left_out: u64,
}

impl Said {
    /// More has come.
    pub(super) fn add(&mut self, bytes: &[u8], tell: &mut Tell<'_>) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            let more = line.unwrap_or(part);
            let room = LONGEST - self.begun.len();
            self.is_cut |= more.len() > room;
            self.begun.extend_from_slice(&more[..more.len().min(room)]);
            if line.is_some() {
                self.end_line(tell);
            }
        }
    }

    /// No more will come. How many lines nobody was told of, not even in one that says how many they were.
    pub(super) fn end(&mut self, tell: &mut Tell<'_>) -> u64 {
        self.end_line(tell);
        let left_out = mem::take(&mut self.left_out);
        match left_out {
            0 => 0,
            _ if tell(Level::Info, &format!("({left_out} more lines)")) => 0,
            _ => left_out,
        }
    }

    fn end_line(&mut self, tell: &mut Tell<'_>) {
        let line = mem::take(&mut self.begun);
        let is_cut = mem::take(&mut self.is_cut);
        if line.trim_ascii().is_empty() && !is_cut {
            return;
        }
        if self.told == LINES || !tell(Level::Info, &shown(&line, is_cut)) {
            self.left_out += 1;
            return;
        }
        self.told += 1;
    }
}

/// One harmless line, no longer than it may be: escaping makes longer what hides something.
pub(super) fn shown(line: &[u8], is_cut: bool) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    // The cut may have gone through a character.
    let text = if is_cut { text.trim_end_matches(char::REPLACEMENT_CHARACTER) } else { &text };
    let safe = escaped(text);
    match safe.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &safe[..end]),
        None if is_cut => format!("{safe}…"),
        None => safe.into_owned(),
    }
}

/// How many lines the programs of a node may still write.
#[derive(Debug)]
pub(super) struct LogRoom {
    clock: Clock,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    bucket: Bucket,
    left_out: u64,
}

impl LogRoom {
    /// All of it.
    pub(super) fn new() -> Self {
        let clock = Clock::start();
        Self { clock, inside: Mutex::new(Inside { bucket: Bucket::new(RATE, clock.time()), left_out: 0 }) }
    }

    /// Room for one line, if there is: with how many have found none since the last, to be said with it.
    pub(super) fn take(&self) -> Option<u64> {
        let mut inside = self.inside.lock();
        let has_room = inside.bucket.take(RATE, self.clock.time());
        has_room.then(|| mem::take(&mut inside.left_out))
    }

    /// So many lines found no room.
    pub(super) fn leave_out(&self, lines: u64) {
        self.inside.lock().left_out += lines;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is told of these pieces if there is room for so many lines, and how many nobody was told of.
    fn told(pieces: &[&[u8]], room: usize) -> (Vec<String>, u64) {
        let (mut lines, mut said) = (Vec::new(), Said::default());
        let mut tell = |_, line: &str| {
            let has_room = lines.len() < room;
            lines.extend(has_room.then(|| line.to_owned()));
            has_room
        };
        pieces.iter().for_each(|piece| said.add(piece, &mut tell));
        let untold = said.end(&mut tell);
        (lines, untold)
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let expected = (vec!["one".to_owned(), "two".to_owned(), "three".to_owned()], 0);
        assert_eq!(told(&[b"one\ntwo\r\n\n \nthree"], 99), expected);
        assert_eq!(told(&[b"o", b"ne", b"\ntw", b"o\n\nth", b"", b"ree\n"], 99), expected);
        assert_eq!(told(&[], 99), (vec![], 0));
    }

    #[test]
    fn a_line_is_cut_and_does_nothing_but_show() {
        let (lines, _) = told(&["ä".repeat(LONGEST).as_bytes(), b"\n\x1b[2J\xff\n"], 99);
        assert_eq!(lines, [format!("{}…", "ä".repeat(LONGEST / 2)), "\\u{1b}[2J\u{fffd}".to_owned()]);
        let odd = format!("x{}", "ä".repeat(LONGEST));
        assert!(!told(&[odd.as_bytes()], 99).0[0].contains(char::REPLACEMENT_CHARACTER));
        assert_eq!(told(&[&[0; LONGEST]], 99).0[0].chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_run_has_so_many_lines_and_one_for_the_rest() {
        let dump = b"line\n".repeat(100);
        let (lines, untold) = told(&[&dump], 99);
        assert_eq!((lines.len(), lines.last().unwrap().as_str(), untold), (33, "(68 more lines)", 0));
        assert_eq!(told(&[&dump], 5), (vec!["line".to_owned(); 5], 95));
    }

    #[test]
    fn the_log_has_room_for_a_burst_and_then_counts() {
        let room = LogRoom::new();
        let found = (0..3000).filter(|_| room.take().is_some()).count();
        // A minute goes by on a slow machine.
        assert!((1024..1100).contains(&found), "{found}");
        room.leave_out(7);
        assert_eq!(room.inside.lock().left_out, 7);
    }

    proptest! {
        #[test]
        fn nothing_grows_whatever_is_said(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..60)) {
            let mut said = Said::default();
            let mut tell = |_, line: &str| {
                assert!(line.chars().count() <= LONGEST + 1 && line.lines().count() <= 1, "{line:?}");
                true
            };
            for piece in &pieces {
                said.add(piece, &mut tell);
                prop_assert!(said.begun.len() <= LONGEST && said.told <= LINES);
            }
            prop_assert_eq!(said.end(&mut tell), 0);
        }
    }
}
