//! What a user has this node ask others, by the admin socket: one request, or round trips. No thread waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::asking::{Asker, Target};
use super::asking_later::Errand;
use super::built_in::PING;
use crate::admin::api::{AdminError, Answer};
use crate::admin::desk::Reply;
use crate::admin::payload::{Payload, RequestReport};
use crate::config::duration;
use crate::peer::waiter::Ending;
use crate::protocol::report::SCHEMA;
use crate::protocol::requests::error::RequestError;
use crate::protocol::requests::message::Failure;
use crate::protocol::requests::report::{PingReport, RttSpread};
use crate::protocol::requests::service::ServiceName;

/// From one round trip to the next, unless the first takes longer: quick enough to wait for, and no load.
const PING_INTERVAL: Duration = Duration::from_millis(100);
const PING_COUNT: u64 = 5;
/// More would take minutes, and belong into a measurement.
const PING_MOST: u64 = 1000;
/// As long as a dial may take by default.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// As `requests.timeout` has it.
const LONGEST: Duration = Duration::from_secs(3600);

/// One request; `reply` has its answer.
pub(super) fn request(asker: &Asker, (node, service): (&str, &str), payload: Vec<u8>, timeout: Duration, reply: Reply) {
    let errand = asker.find(node).and_then(|target| {
        let service = asker.service(service)?;
        asker.fits(&payload)?;
        Ok(Errand { target, service, payload, deadline: Instant::now() + timeout })
    });
    let place = format!("{service} at {node}");
    match errand {
        Err(error) => reply.answer(Answer::Error(refusal(&place, error))),
        Ok(errand) => {
            let (node, reply) = (errand.target.id.hex(), reply.kept());
            asker.ask_later(errand, move |ending| {
                let reply = reply.lock().take();
                // Nobody is there any more to be told.
                let Some(reply) = reply else { return };
                reply.answer(match ending {
                    Ok(payload) => Answer::ok(&RequestReport { schema: SCHEMA, node, payload: payload.into() }),
                    Err(error) => Answer::Error(refusal(&place, error)),
                });
            });
        }
    }
}

/// How long something may take, as a user has said it.
///
/// # Errors
/// It is no span of time, or not within bounds.
pub(super) fn patience(verb: &str, said: Option<String>, otherwise: Duration) -> Result<Duration, AdminError> {
    let Some(said) = said else { return Ok(otherwise) };
    let wrong = |why: &str| AdminError::usage(format!("{verb}: --timeout {said:?} {why}"));
    match duration::parse(&said) {
        Ok(span) if span.is_zero() || span > LONGEST => Err(wrong("must be 1ms to 1h")),
        Ok(span) => Ok(span),
        Err(why) => Err(wrong(&why)),
    }
}

/// Round trips one after the other; `reply` has the report when the last one is over.
pub(super) fn ping(asker: &Asker, node: &str, count: Option<u64>, timeout: Option<String>, reply: Reply) {
    let count = count.unwrap_or(PING_COUNT);
    if !(1..=PING_MOST).contains(&count) {
        let why = format!("ping: --count is 1 to {PING_MOST}, not {count}");
        return reply.answer(Answer::Error(AdminError::usage(why)));
    }
    let timeout = match patience("ping", timeout, PING_TIMEOUT) {
        Ok(timeout) => timeout,
        Err(error) => return reply.answer(Answer::Error(error)),
    };
    let (target, service) = match asker.find(node).and_then(|target| Ok((target, asker.service(PING)?))) {
        Ok(found) => found,
        Err(error) => return reply.answer(Answer::Error(refusal(node, error))),
    };
    let course = Mutex::new(Course { sent: 0, times: Vec::new(), why: None });
    let reply = reply.kept();
    let ping = Arc::new(Ping { asker: asker.clone(), target, service, count, timeout, course, reply });
    if asker.is_me(&ping.target.id) {
        return ping.step();
    }
    // So that no dial is measured.
    let (first, deadline) = (Arc::clone(&ping), Instant::now() + timeout);
    asker.way_later(&ping.target, None, deadline, move |way| match way {
        Ok(_) => first.step(),
        Err(error) => {
            first.course.lock().sent += 1;
            first.heard(Instant::now(), Err(error));
        }
    });
}

/// Round trips that are under way.
struct Ping {
    asker: Asker,
    target: Target,
    service: ServiceName,
    count: u64,
    timeout: Duration,
    course: Mutex<Course>,
    /// Nothing once the user is gone: then no more is sent.
    reply: Arc<Mutex<Option<Reply>>>,
}

struct Course {
    sent: u64,
    times: Vec<f64>,
    why: Option<RequestError>,
}

impl Ping {
    fn step(self: Arc<Self>) {
        self.course.lock().sent += 1;
        let start = Instant::now();
        let (target, service) = (self.target.clone(), self.service);
        let errand = Errand { target, service, payload: Vec::new(), deadline: start + self.timeout };
        let ping = Arc::clone(&self);
        self.asker.ask_later(errand, move |ending| ping.heard(start, ending));
    }

    /// On the thread that learns it; the next one is another thread's.
    fn heard(self: Arc<Self>, start: Instant, ending: Ending) {
        let taken = start.elapsed();
        let mut course = self.course.lock();
        match ending {
            Ok(_) => course.times.push(millis(taken)),
            Err(error) => course.why = Some(error),
        }
        let is_hopeless = matches!(course.why, Some(RequestError::UnknownNode(_) | RequestError::Ended));
        if course.sent >= self.count || is_hopeless {
            let answer = self.report(&course);
            drop(course);
            let reply = self.reply.lock().take();
            if let Some(reply) = reply {
                reply.answer(answer);
            }
            return;
        }
        drop(course);
        if self.reply.lock().is_none() {
            return;
        }
        let next = Arc::clone(&self);
        self.asker.registry.at(start + PING_INTERVAL, move || next.step());
    }

    fn report(&self, course: &Course) -> Answer {
        let Course { sent, times, why, .. } = course;
        if let Some(error @ (RequestError::UnknownNode(_) | RequestError::Ended)) = why {
            return Answer::Error(refusal(&self.target.name, error.clone()));
        }
        Answer::ok(&PingReport {
            schema: SCHEMA,
            node: self.target.id.hex(),
            label: self.asker.label_of(&self.target.id),
            sent: *sent,
            answered: times.len() as u64,
            rtt_ms: RttSpread::of(times.clone()),
            why: why.as_ref().map(ToString::to_string),
        })
    }
}

/// To the nanosecond, without the digits that a division adds.
fn millis(span: Duration) -> f64 {
    // Exact for all that a round trip takes: below 2^53 nanoseconds, a hundred days.
    #[allow(clippy::cast_precision_loss)]
    let nanos = span.as_nanos() as f64;
    nanos / 1e6
}

/// Why there is no answer, for people and for scripts; `place` is who was asked for what.
pub(super) fn refusal(place: &str, error: RequestError) -> AdminError {
    let is_of_the_name = matches!(
        error,
        RequestError::UnknownNode(_)
            | RequestError::AmbiguousNode(..)
            | RequestError::Unreachable(..)
            | RequestError::Ended
    );
    let message = if is_of_the_name { error.to_string() } else { format!("{place}: {error}") };
    let refusal = AdminError::negative(error.code(), message);
    match error {
        RequestError::Failed(failure, said) => AdminError {
            status: if let Failure::Exit(status) = failure { Some(status) } else { None },
            payload: Some(said).filter(|said| !said.is_empty()).map(Payload),
            ..refusal
        },
        _ => refusal,
    }
}
