//! A load that a user has this node put on another one, by the admin socket. It has a thread, since callers who wait are part
//! of what is measured; so there is one at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use parking_lot::Mutex;

use super::asking::{Asker, Target};
use super::errands::refusal;
use super::load::{Load, Manner, Over, put};
use super::threads;
use crate::admin::api::{AdminError, Answer};
use crate::admin::desk::Reply;
use crate::admin::load::{How, LoadCall};
use crate::clock::processor_time;
use crate::protocol::report::SCHEMA;
use crate::protocol::requests::Window;
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::report::LoadReport;

/// As long as a bench measures at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// Each is a thread.
const MOST_CALLERS: u64 = 1024;
/// For a load to see that its node has ended: all that it waits for is over by then.
const GRACE: Duration = Duration::from_millis(100);

/// The one load that may be under way.
#[derive(Clone, Default)]
pub(super) struct Loads(Arc<Mutex<Option<UnderWay>>>);

struct UnderWay {
    over: Over,
    /// Its other end goes before the load is answered: whoever has the answer may ask for the next one.
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Loads {
    /// Puts a load on a node; `reply` has the report when it is over.
    pub(super) fn begin(&self, asker: &Asker, call: LoadCall, reply: Reply) {
        let mut slot = self.0.lock();
        if slot.as_ref().is_some_and(|load| load.done.try_recv() == Err(TryRecvError::Empty)) {
            let why = "load: another load is under way, and two would measure each other: try again when it is over";
            return reply.answer(Answer::Error(AdminError::negative("busy", why)));
        }
        let (target, load) = match understood(asker, &call) {
            Ok(understood) => understood,
            Err(error) => return reply.answer(Answer::Error(error)),
        };
        let (over, asker) = (Over::default(), asker.clone());
        let (gone, wanted) = (Arc::clone(&over), Arc::clone(&over));
        let reply = reply.kept_unless(move || gone.store(true, Ordering::Relaxed));
        let (doing, done) = bounded(0);
        let (kept, end) = (Arc::clone(&reply), asker.registry.lines().end.clone());
        let run = move || {
            let answer = measured(&asker, &target, &load, wanted);
            drop(doing);
            tell(&kept, answer);
        };
        match threads::start("load", end, run) {
            Ok(thread) => *slot = Some(UnderWay { over, done, thread }),
            Err(error) => {
                let why = format!("load: the system has no thread for it: {error}");
                tell(&reply, Answer::Error(AdminError::negative("overloaded", why)));
            }
        }
    }

    /// Whatever is under way makes no new requests.
    pub(super) fn stop(&self) {
        if let Some(load) = self.0.lock().as_ref() {
            load.over.store(true, Ordering::Relaxed);
        }
    }

    /// The same, at the end of the node: nothing that it waits for comes any more.
    pub(super) fn end(&self) {
        self.stop();
        let load = self.0.lock().take();
        if let Some(UnderWay { done, thread, .. }) = load
            && done.recv_timeout(GRACE) == Err(RecvTimeoutError::Disconnected)
        {
            // Its panic has been told already.
            let _ = thread.join();
        }
    }
}

/// Unless nobody is there any more to be told.
fn tell(reply: &Mutex<Option<Reply>>, answer: Answer) {
    let reply = reply.lock().take();
    if let Some(reply) = reply {
        reply.answer(answer);
    }
}

fn measured(asker: &Asker, target: &Target, load: &Load, over: Over) -> Answer {
    let before = processor_time();
    let loaded = match put(asker, &target.id.hex(), load, over) {
        Ok(loaded) => loaded,
        Err(error) => return Answer::Error(refusal(&place(&load.service, &target.name), error)),
    };
    Answer::ok(&LoadReport {
        schema: SCHEMA,
        node: target.id.hex(),
        label: asker.label_of(&target.id),
        answered: loaded.answered,
        elapsed_seconds: loaded.elapsed.as_secs_f64(),
        cpu_seconds: processor_time().saturating_sub(before).as_secs_f64(),
        p50_us: loaded.percentile(500),
        p99_us: loaded.percentile(990),
        p999_us: loaded.percentile(999),
    })
}

/// Who is meant, and what he is to be asked.
///
/// # Errors
/// What cannot be: [`RequestError::Overloaded`] and [`RequestError::TooLarge`] for more than may be open from here.
fn understood(asker: &Asker, call: &LoadCall) -> Result<(Target, Load), AdminError> {
    let node = &call.node;
    let target = asker.find(node).map_err(|error| refusal(node, error))?;
    if asker.is_me(&target.id) {
        let why = format!("load: {node} is this node itself: name another one, see 'kithd network'");
        return Err(AdminError::negative("own-node", why));
    }
    Ok((target, load(call, asker.registry.around.window)?))
}

fn load(call: &LoadCall, window: Window) -> Result<Load, AdminError> {
    let span = Duration::from_millis(call.span_ms);
    let most = match call.manner {
        How::Lone => 1,
        How::Callers => MOST_CALLERS,
        How::Window | How::Logical => u64::MAX,
    };
    if span.is_zero() || span > LONGEST {
        return Err(AdminError::usage(format!("load: \"span_ms\" is 1 to {}", LONGEST.as_millis())));
    }
    if !(1..=most).contains(&call.count) {
        return Err(AdminError::usage(format!("load: \"count\" is 1 to {most} in this manner")));
    }
    // What does not fit is more than any window holds.
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (count, payload) = (number(call.count), number(call.payload));
    let refused = |error| Err(refusal(&place(&call.service, &call.node), error));
    if payload > window.payload {
        return refused(RequestError::TooLarge(payload, window.payload));
    }
    if !window.holds(count, payload) {
        return refused(RequestError::Overloaded);
    }
    let manner = match call.manner {
        How::Lone => Manner::Lone,
        How::Window => Manner::Window(count),
        How::Callers => Manner::Callers(count),
        How::Logical => Manner::Logical(count),
    };
    Ok(Load { manner, service: call.service.clone(), payload, span })
}

fn place(service: &str, node: &str) -> String {
    format!("{service} at {node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_within_what_may_be_open() {
        let window = Window { requests: 16, bytes: 100_000, payload: 60_000 };
        let asked = |manner, count, payload, span_ms| {
            let (node, service) = ("b".to_owned(), "echo".to_owned());
            load(&LoadCall { node, service, manner, count, payload, span_ms }, window)
        };
        let refused = |count, payload| asked(How::Window, count, payload, 1).unwrap_err().code;
        assert_eq!(asked(How::Window, 16, 64, 1).unwrap().manner, Manner::Window(16));
        assert_eq!(refused(17, 64), "overloaded");
        assert_eq!(refused(2, 60_000), "overloaded", "in bytes");
        assert_eq!(asked(How::Logical, 1, 60_000, 1).unwrap().payload, 60_000);
        assert_eq!(refused(1, 60_001), "too-large");
        assert_eq!(refused(u64::MAX, 64), "overloaded");
        for (manner, count, span_ms) in [
            (How::Lone, 2, 1),
            (How::Window, 0, 1),
            (How::Callers, MOST_CALLERS + 1, 1),
            (How::Logical, 1, 0),
            (How::Logical, 1, 3_600_001),
        ] {
            assert_eq!(asked(manner, count, 64, span_ms).unwrap_err().exit, 2, "{manner:?} {count} {span_ms}");
        }
    }
}
