//! Where calls are answered: what the admin server asks of whoever stands behind it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::api::{AdminError, Answer, Verb};
use crate::protocol::requests::service::ServiceName;
use crate::services::Taker;

/// Answers calls. The node is one; a test's closure is another.
pub trait Desk: Send {
    /// Takes one call. It runs on the server's only thread: what takes time keeps the reply and returns.
    fn handle(&mut self, verb: Verb, reply: Reply);

    /// A program wants to answer what others ask for under this name: from now on it goes to `taker`.
    ///
    /// # Errors
    /// The name is none, or taken.
    fn register(&mut self, service: &str, _taker: Taker) -> Result<ServiceName, AdminError> {
        Err(AdminError::negative("unknown-service", format!("nobody could ask for {service} here")))
    }

    /// That program is gone.
    fn unregister(&mut self, _service: &ServiceName) {}

    /// The server cannot go on: nobody can ask anything any more.
    fn unserved(&mut self) {}
}

impl<F: FnMut(Verb, Reply) + Send> Desk for F {
    fn handle(&mut self, verb: Verb, reply: Reply) {
        self(verb, reply);
    }
}

/// The duty to answer one call, at once or later and from any thread. A reply that is dropped answers for itself with
/// an internal error: no client waits for ever because somebody forgot, or panicked.
pub struct Reply {
    deliver: Option<Box<dyn FnOnce(Answer) + Send>>,
    recall: Recall,
}

/// What is done if the client goes away before its call is answered.
#[derive(Clone, Default)]
pub struct Recall(Arc<Mutex<Option<Forget>>>);

type Forget = Box<dyn FnOnce() + Send>;

impl Reply {
    /// A reply that hands its answer to `deliver`.
    pub fn new(deliver: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self { deliver: Some(Box::new(deliver)), recall: Recall::default() }
    }

    /// Answers the call.
    pub fn answer(mut self, answer: Answer) {
        self.deliver(answer);
    }

    /// Keeps it for whoever comes for it, until its client goes away: then it is dropped. Calls count until they are answered,
    /// so that one which may take an hour must not outlast the user who has interrupted it.
    pub fn kept(self) -> Arc<Mutex<Option<Self>>> {
        self.kept_unless(|| {})
    }

    /// The same, and says so when the client goes away.
    pub fn kept_unless(self, gone: impl FnOnce() + Send + 'static) -> Arc<Mutex<Option<Self>>> {
        let recall = self.recall.clone();
        let kept = Arc::new(Mutex::new(Some(self)));
        let left = Arc::clone(&kept);
        *recall.0.lock() = Some(Box::new(move || {
            // The lock is free before it is answered.
            let reply = left.lock().take();
            drop(reply);
            gone();
        }));
        kept
    }

    /// For the server, which knows when the client goes away.
    pub(super) fn recall(&self) -> Recall {
        self.recall.clone()
    }

    fn deliver(&mut self, answer: Answer) {
        if let Some(deliver) = self.deliver.take() {
            deliver(answer);
        }
    }
}

impl Recall {
    /// The client is gone.
    pub(super) fn gone(&self) {
        let call = self.0.lock().take();
        if let Some(call) = call {
            call();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.deliver(Answer::Error(AdminError::internal("the node dropped this call without an answer")));
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn a_reply_answers_exactly_once_even_if_dropped() {
        let (sender, answers) = unbounded();
        let reply = |sender: crossbeam_channel::Sender<String>| Reply::new(move |a| sender.send(a.line()).unwrap());
        reply(sender.clone()).answer(Answer::ok(&7));
        drop(reply(sender));
        let lines: Vec<String> = answers.iter().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], r#"{"ok":7}"#);
        assert!(lines[1].contains(r#""exit":70"#));
    }

    #[test]
    fn a_reply_that_is_kept_ends_with_its_client() {
        let (sender, answers) = unbounded();
        let reply = Reply::new(move |answer| sender.send(answer.line()).unwrap());
        let (recall, kept) = (reply.recall(), reply.kept());
        assert!(answers.is_empty());
        recall.gone();
        assert!(kept.lock().is_none() && answers.len() == 1);
        recall.gone();
        drop((recall, kept));
        assert_eq!(answers.iter().count(), 1);
    }
}
