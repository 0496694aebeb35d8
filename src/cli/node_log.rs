//! The log of a node that runs as a process: its form, its level, and where it goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use simplelog::{ConfigBuilder, LevelFilter, ThreadLogMode, WriteLogger};

use super::log_queue::{Lines, LogQueue, Place, To};
use super::{panic_line, terminal};
use crate::config::Log;
use crate::controller::LogLoss;
use crate::protocol::escape::escaped;

/// What the end of the process waits for lines that are not written yet. A disk or reader that works needs a fraction of it;
/// with the farewell and the goodbyes before it the end still takes no more than the two seconds a supervisor is promised.
const LAST_LINES: Duration = Duration::from_millis(400);

/// The log. Dropping it writes the last lines, for which it waits a moment at most.
pub struct NodeLog {
    queue: Arc<LogQueue>,
    thread: Option<JoinHandle<()>>,
    config: Log,
}

impl NodeLog {
    /// Opens the place and sends all that this process logs there; panics too, to standard error.
    ///
    /// # Errors
    /// Why not, with its cure.
    pub fn start(log: &Log) -> Result<Self, String> {
        let place = match &log.file {
            Some(path) => Place::file(open(path).map_err(|error| {
                format!("the log file {} cannot be opened: {error}: choose another with --log-file", path.display())
            })?),
            None => Place::stderr().map_err(|error| format!("standard error cannot be used: {error}"))?,
        };
        let started = LogQueue::start(place);
        let (queue, thread) = started.map_err(|error| format!("no thread for the log: {error}"))?;
        let config = ConfigBuilder::new()
            .set_time_format_rfc3339()
            .set_thread_level(LevelFilter::Error)
            .set_thread_mode(ThreadLogMode::Names)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .add_filter_allow_str("kithd")
            .build();
        // The level is held by the facade, where it can change.
        let inner = WriteLogger::new(LevelFilter::Trace, config, Lines::new(Arc::clone(&queue)));
        // A second logger in one process: the first one stays.
        if log::set_boxed_logger(Box::new(OneLine { inner })).is_ok() {
            log::set_max_level(log.level);
        }
        let last_words = Arc::clone(&queue);
        panic::set_hook(Box::new(move |panic| last_words.push(To::Person, panic_line(panic).as_bytes())));
        Ok(Self { queue, thread: Some(thread), config: log.clone() })
    }

    /// One line to standard error, where a person or a supervisor looks.
    pub fn tell_person(&self, message: &str) {
        self.queue.push(To::Person, terminal::complaint(message).as_bytes());
    }

    /// For the node's report.
    pub fn watch(&self) -> impl Fn() -> LogLoss + Send + Sync + use<> {
        let queue = Arc::clone(&self.queue);
        move || queue.loss()
    }

    /// For SIGHUP.
    pub fn reopener(&self) -> Reopener {
        Reopener { queue: Arc::clone(&self.queue), config: self.config.clone() }
    }
}

impl Drop for NodeLog {
    fn drop(&mut self) {
        // A writer that waits for a reader is left behind, and ends with the process.
        if self.queue.finish(LAST_LINES)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Opens the log anew after it was rotated, or elsewhere after its key has changed.
pub struct Reopener {
    queue: Arc<LogQueue>,
    config: Log,
}

impl Reopener {
    /// Opens the file anew and takes over what has changed: the keys for which that went well.
    pub fn reload(&mut self, wanted: &Log) -> Vec<&'static str> {
        let mut applied = Vec::new();
        match wanted.file.as_deref().map_or_else(Place::stderr, |path| open(path).map(Place::file)) {
            Ok(place) => {
                self.queue.move_to(place);
                if self.config.file != wanted.file {
                    applied.push("log.file");
                    self.config.file.clone_from(&wanted.file);
                }
            }
            // The old file may be gone, with all that is written to it: standard error hears of it too.
            Err(error) => {
                let path = wanted.file.as_deref().unwrap_or(Path::new("")).display();
                let trouble = format!("the log file {path} cannot be opened anew: {error}");
                let advice = format!("{trouble}: make way for it, then send SIGHUP again");
                self.queue.push(To::Person, terminal::complaint(&advice).as_bytes());
                log::error!("{trouble}; the old one is still written");
            }
        }
        if self.config.level != wanted.level {
            applied.push("log.level");
            self.config.level = wanted.level;
            log::set_max_level(wanted.level);
        }
        applied
    }

    /// Opens the same file anew.
    pub fn reopen(&mut self) -> Vec<&'static str> {
        let config = self.config.clone();
        self.reload(&config)
    }
}

/// One event, one line: what a remote or a file put into it cannot begin another, nor repaint the terminal.
struct OneLine {
    inner: Box<WriteLogger<Lines>>,
}

impl log::Log for OneLine {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let mut line = log::Record::builder();
            line.metadata(record.metadata().clone()).module_path(record.module_path());
            self.inner.log(&line.args(format_args!("{}", escaped(&text))).build());
        }
    }

    fn flush(&self) {
        log::Log::flush(&*self.inner);
    }
}

/// Opens it without waiting: a pipe that nobody reads would hold up the start, or the thread that hears of signals.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)
}
