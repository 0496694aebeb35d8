//! What became of the log. A log that loses lines cannot say so itself: the report does.

use super::node::Node;

/// What a log has lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogLoss {
    /// Lines that were dropped since the process began.
    pub dropped: u64,
    /// What is wrong now and what helps, as a warning of the report says it; `None` while all is well.
    pub trouble: Option<String>,
}

/// Asked at each report.
pub type LogWatch = Box<dyn Fn() -> LogLoss + Send + Sync>;

impl Node {
    /// For a program whose log can lose lines: what `look` says is in every report from now on, the lines as `log-full`
    /// among `dropped`. It is called on the node's own threads and must not wait. The first watch stays.
    pub fn watch_log(&self, look: impl Fn() -> LogLoss + Send + Sync + 'static) {
        let _ = self.about.log.set(Box::new(look));
    }
}
