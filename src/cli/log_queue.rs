//! The queue between a node's threads and the place where its log lines go.
//!
//! ```text
//!   any thread ──line──▶ [ waiting, 256 KiB ] ──▶ the thread `log` ──write──▶ standard error, or log.file
//!                  full: dropped, counted                          fails: dropped, counted
//! ```
//!
//! Standard error may be a pipe that nobody reads, and a log file may lie on a disk that is full or hangs. A thread of the
//! node waits for neither: it leaves its line here and goes on, and only the thread `log` waits. What is dropped is said in
//! a line of its own at its place among the others, as soon as one can be written, and before that in the status.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::controller::LogLoss;
use crate::protocol::time::rfc3339;

/// Bytes of lines that may wait. Some 1,500 lines: more than a node writes in an hour, or than its busiest second brings at
/// level `trace`; a tenth of that would lose lines whenever a disk hesitates, and ten times as much would be a third of
/// what a node takes in all.
const MAX_WAITING: usize = 256 * 1024;
/// Further room for lines to a person: why a node ends is not to be lost among what it logged before.
const RESERVE: usize = 16 * 1024;
/// What a line takes beside its bytes: its place in the queue and the allocator's share. Without it empty lines would have
/// no bound.
const LINE: usize = 64;
/// Room that is kept from one line for the next; a report that was dumped gives its room back.
const USUAL_LINE: usize = 1024;
/// The writer's stack: it formats one short line and waits.
const STACK: usize = 64 * 1024;

/// Where a line goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// To the log, wherever that is.
    Log,
    /// To standard error, because a person has to see it. If that is not the log it is not waited for.
    Person,
}

/// Lines that wait, and what became of others.
pub struct LogQueue {
    inside: Mutex<Inside>,
    /// There is something to do for the writer.
    news: Condvar,
    /// There is nothing left to do.
    done: Condvar,
}

#[derive(Default)]
struct Inside {
    lines: VecDeque<Line>,
    /// Bytes of these, as [`MAX_WAITING`] counts them.
    waiting: usize,
    /// Lines that were dropped since the last one that found room.
    unplaced: u64,
    /// Lines that were dropped, for whatever reason, and how many of them a line in the log has said.
    dropped: u64,
    said: u64,
    /// Why the last write failed, if it did.
    trouble: Option<String>,
    /// Where the log goes from now on.
    moved: Option<Place>,
    is_writing: bool,
    is_over: bool,
}

struct Line {
    to: To,
    text: Box<[u8]>,
    /// Dropped just before it.
    lost_before: u64,
}

/// What the writer does next.
enum Work {
    Move(Place),
    Write(Line),
    /// Nothing waits, but these were dropped.
    Tell(u64),
}

/// A log that is written to.
pub struct Place {
    file: File,
    /// True if this is standard error, where people look too.
    is_stderr: bool,
    /// True if the last line stopped short: the next one must not go on in its midst.
    is_torn: bool,
}

impl LogQueue {
    /// An empty queue, and the thread `log` that empties it into this place.
    ///
    /// # Errors
    /// The system has no thread or descriptor to give.
    pub fn start(place: Place) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let queue = Arc::new(Self { inside: Mutex::default(), news: Condvar::new(), done: Condvar::new() });
        let writer = Writer { queue: Arc::clone(&queue), place, lost: 0 };
        let thread = thread::Builder::new().name("log".into()).stack_size(STACK).spawn(|| writer.run())?;
        Ok((queue, thread))
    }

    /// Leaves a line, which ends in a newline, for the writer. Never waits.
    pub fn push(&self, to: To, text: &[u8]) {
        let mut inside = self.inside.lock();
        let cost = text.len() + LINE;
        let most = if to == To::Person { MAX_WAITING + RESERVE } else { MAX_WAITING };
        if inside.is_over || inside.waiting + cost > most {
            inside.unplaced += 1;
            inside.dropped += 1;
        } else {
            let lost_before = mem::take(&mut inside.unplaced);
            inside.waiting += cost;
            inside.lines.push_back(Line { to, text: text.into(), lost_before });
        }
        self.news.notify_one();
    }

    /// From now on lines go there; a line that is being written is written to the end where it was begun.
    pub fn move_to(&self, place: Place) {
        self.inside.lock().moved = Some(place);
        self.news.notify_one();
    }

    /// What was lost, for the report.
    pub fn loss(&self) -> LogLoss {
        let inside = self.inside.lock();
        let unsaid = inside.dropped - inside.said;
        let why = inside.trouble.as_deref().unwrap_or("nobody reads it, or not fast enough");
        let trouble = (unsaid > 0).then(|| {
            format!(
                "the log has lost {unsaid} lines ({why}): free its disk, see who reads standard error, or choose another \
                 place with log.file and SIGHUP"
            )
        });
        LogLoss { dropped: inside.dropped, trouble }
    }

    /// Takes no more lines, and waits for so long at most until all that came before are written.
    pub fn finish(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut inside = self.inside.lock();
        inside.is_over = true;
        self.news.notify_one();
        while inside.is_writing || !inside.lines.is_empty() {
            if self.done.wait_until(&mut inside, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Waits for work; `None` when there will be none any more.
    fn next(&self) -> Option<Work> {
        let mut inside = self.inside.lock();
        inside.is_writing = false;
        loop {
            let work = if let Some(place) = inside.moved.take() {
                Work::Move(place)
            } else if let Some(line) = inside.lines.pop_front() {
                inside.waiting -= line.text.len() + LINE;
                Work::Write(line)
            } else if inside.unplaced > 0 && !inside.is_over {
                Work::Tell(mem::take(&mut inside.unplaced))
            } else {
                self.done.notify_all();
                if inside.is_over {
                    return None;
                }
                self.news.wait(&mut inside);
                continue;
            };
            inside.is_writing = true;
            return Some(work);
        }
    }
}

impl Place {
    /// Standard error, by a descriptor of its own: whoever else writes there must not wait for a lock that the writer holds.
    ///
    /// # Errors
    /// The system has no descriptor to give.
    pub fn stderr() -> io::Result<Self> {
        let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Ok(Self { file, is_stderr: true, is_torn: false })
    }

    /// A file that is appended to.
    pub fn file(file: File) -> Self {
        Self { file, is_stderr: false, is_torn: false }
    }

    /// A whole line, or an error; waits for as long as it takes.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = rest[written - 1] != b'\n';
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody with whom it is shared does not want to wait for it.
                Err(error) if error.kind() == ErrorKind::WouldBlock => drop(self.is_ready(None)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// True if a line could be written now; waits for that as long as given, without a limit if none is.
    fn is_ready(&self, limit: Option<&Timespec>) -> bool {
        let mut asked = [PollFd::new(&self.file, PollFlags::OUT)];
        poll(&mut asked, limit).is_ok_and(|ready| ready > 0)
    }
}

/// The thread `log`.
struct Writer {
    queue: Arc<LogQueue>,
    place: Place,
    /// Dropped, and not said yet.
    lost: u64,
}

impl Writer {
    fn run(mut self) {
        while let Some(work) = self.queue.next() {
            match work {
                Work::Move(place) => self.place = place,
                Work::Write(line) if line.to == To::Person && !self.place.is_stderr => {
                    self.lost += line.lost_before;
                    // Nobody may read there; the log must not wait for that.
                    let stderr = Place::stderr().ok().filter(|place| place.is_ready(Some(&Timespec::default())));
                    if stderr.is_none_or(|mut place| place.write(&line.text).is_err()) {
                        self.drop_one("standard error is not read");
                    }
                }
                Work::Write(line) => {
                    self.lost += line.lost_before;
                    self.write(&line.text);
                }
                Work::Tell(lost) => {
                    self.lost += lost;
                    // If it cannot be said now, then before the next line.
                    let _ = self.tell();
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        match self.tell().and_then(|()| self.place.write(line)) {
            Ok(()) => self.queue.inside.lock().trouble = None,
            Err(error) => self.drop_one(&error.to_string()),
        }
    }

    /// Says what was lost, if anything was.
    fn tell(&mut self) -> io::Result<()> {
        if self.lost == 0 {
            return Ok(());
        }
        let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        let lost = self.lost;
        self.place.write(format!("{} [WARN] {lost} log lines were dropped here\n", rfc3339(now)).as_bytes())?;
        self.queue.inside.lock().said += mem::take(&mut self.lost);
        Ok(())
    }

    fn drop_one(&mut self, why: &str) {
        self.lost += 1;
        let mut inside = self.queue.inside.lock();
        inside.dropped += 1;
        inside.trouble = Some(why.to_owned());
    }
}

/// A writer for whoever forms lines piece by piece: each goes to the queue when its newline comes.
pub struct Lines {
    queue: Arc<LogQueue>,
    begun: Vec<u8>,
}

impl Lines {
    /// Lines for this queue.
    pub fn new(queue: Arc<LogQueue>) -> Self {
        Self { queue, begun: Vec::new() }
    }
}

impl Write for Lines {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.begun.extend_from_slice(piece);
        if piece.ends_with(b"\n") {
            self.queue.push(To::Log, &self.begun);
            self.begun.clear();
            self.begun.shrink_to(USUAL_LINE);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    /// Far more than a thread needs to write a line.
    const SOON: Duration = Duration::from_secs(60);

    fn on_a_pipe() -> (Arc<LogQueue>, JoinHandle<()>, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let (queue, thread) = LogQueue::start(Place::file(File::from(std::os::fd::OwnedFd::from(writer)))).unwrap();
        (queue, thread, reader)
    }

    fn rest(mut reader: PipeReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_formed_in_pieces_comes_out_in_lines_and_in_order() {
        let (queue, thread, reader) = on_a_pipe();
        let mut lines = Lines::new(Arc::clone(&queue));
        for number in 0..100 {
            write!(lines, "line ").and_then(|()| writeln!(lines, "{number}")).unwrap();
        }
        assert!(queue.finish(SOON));
        thread.join().unwrap();
        let wanted: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(rest(reader), wanted);
        assert_eq!(queue.loss().dropped, 0);
        queue.push(To::Log, b"too late\n");
        assert_eq!(queue.loss().dropped, 1, "nobody would write it");
    }

    #[test]
    fn with_nobody_to_read_lines_are_dropped_counted_and_said_at_their_place() {
        let (queue, thread, reader) = on_a_pipe();
        let line = |number: usize| format!("{number:07} {}\n", "x".repeat(991));
        // Four times what pipe and queue hold.
        let pushed = 4 * (MAX_WAITING + (64 << 10)) / 1000;
        for number in 0..pushed {
            queue.push(To::Log, line(number).as_bytes());
        }
        let loss = queue.loss();
        assert!(loss.dropped as usize > pushed / 2 && loss.trouble.unwrap().contains("nobody reads it"), "{pushed}");
        assert!(queue.inside.lock().waiting <= MAX_WAITING);
        assert!(!queue.finish(Duration::from_millis(1)), "and the end does not wait for a reader");
        let reading = thread::spawn(|| rest(reader));
        assert!(queue.finish(SOON));
        thread.join().unwrap();
        let text = reading.join().unwrap();
        let kept: Vec<usize> = text.lines().filter_map(|line| line.get(..7)?.parse().ok()).collect();
        assert!(kept.is_sorted() && kept.len() as u64 + queue.loss().dropped == pushed as u64, "{}", kept.len());
        // A writer that begins late makes room when some are lost already, and says so between the lines.
        let is_whole = |line: &str| line.len() == 999 || line.ends_with(" log lines were dropped here");
        assert!(text.lines().all(is_whole), "each is whole");
    }

    #[test]
    fn once_it_is_read_again_the_log_says_what_it_lost() {
        let (queue, thread, mut reader) = on_a_pipe();
        let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
        while queue.loss().dropped < 10 {
            queue.push(To::Log, &line);
        }
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&text).contains(" log lines were dropped here\n") {
            let read = reader.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..read]);
        }
        queue.push(To::Log, b"and goes on\n");
        assert!(queue.finish(SOON));
        thread.join().unwrap();
        let loss = queue.loss();
        assert!(loss.dropped >= 10 && loss.trouble.is_none(), "{loss:?}");
        let said: u64 = String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| {
                line.split_once("[WARN] ")?.1.split_once(" log lines were dropped")?.0.parse::<u64>().ok()
            })
            .sum();
        assert_eq!(said, loss.dropped);
        assert_eq!(rest(reader), "and goes on\n");
    }

    #[test]
    fn a_place_that_refuses_costs_its_lines_and_a_torn_one_is_ended() {
        let (queue, thread) =
            LogQueue::start(Place::file(File::options().write(true).open("/dev/full").unwrap())).unwrap();
        queue.push(To::Log, b"one\n");
        queue.push(To::Log, b"two\n");
        while queue.loss().dropped < 2 {
            thread::yield_now();
        }
        assert!(queue.loss().trouble.unwrap().contains("No space left"));
        let (reader, writer) = pipe().unwrap();
        let mut torn = Place::file(File::from(std::os::fd::OwnedFd::from(writer)));
        torn.write_all(b"hal").unwrap();
        queue.move_to(torn);
        queue.push(To::Log, b"three\n");
        assert!(queue.finish(SOON));
        thread.join().unwrap();
        let text = rest(reader);
        assert!(
            text.starts_with("hal\n20") && text.ends_with(" [WARN] 2 log lines were dropped here\nthree\n"),
            "{text}"
        );
        assert_eq!((queue.loss().dropped, queue.loss().trouble), (2, None));
    }
}
