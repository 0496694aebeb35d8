//! Programs that answer requests over the admin socket: who serves what, what each has been given, and what waits for it.
//!
//! ```text
//!   any thread: take ──▶ waiting ── lines, as far as its window goes ──▶ given ── answer ──▶ whoever asked
//!                 │         └──────── its deadline ──────────────────────┤└── the program is gone: so told
//!                 └──▶ overloaded                                        └── its deadline: so told, and forgotten later
//! ```
//!
//! **The window.** A program is given the next request while what it has not answered comes to less than 64 KiB, whatever
//! its size if there is nothing. So much a socket holds for it: a program that reads nothing while it works does not look as
//! if it hung, and one that writes a long answer is heard, for neither end waits for the other to read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::payload::Payload;
use crate::protocol::escape::escaped_json;
use crate::protocol::requests::message::{Failure, Outcome, Refusal};
use crate::protocol::requests::service::ServiceName;
use crate::reactor::{ClientId, PollWaker};
use crate::services::{Reply, Request, Taker};

/// Requests of one program, given or waiting: as many as a quick one answers in a few milliseconds, and few enough that a
/// slow one does not keep callers waiting who could ask elsewhere.
const MAX_OPEN: usize = 64;
/// The same in bytes of their lines, unless it is a single one: as much as one connection may have open.
const MAX_BYTES: usize = 8 << 20;
/// What a program may be given at once: half of what a socket holds by default, and what it may leave unread without being
/// unheard itself.
const WINDOW: usize = 64 * 1024;
/// A line without its payload, roughly.
const COST: usize = 256;
/// So long after its deadline a request counts as one that the program still works on. Longer keeps places for what it has
/// forgotten; shorter gives it the next one while it writes an answer that nobody waits for.
const OWED: Duration = Duration::from_secs(30);

/// All programs that serve something.
#[derive(Default)]
pub(super) struct Providers(BTreeMap<ClientId, Provider>);

#[derive(Default)]
struct Provider {
    names: Vec<ServiceName>,
    book: Arc<Mutex<Book>>,
}

impl Providers {
    /// Takes requests for this client, from any thread, and wakes the one that gives them out.
    pub(super) fn taker(&mut self, client: ClientId, waker: PollWaker) -> Taker {
        let book = Arc::clone(&self.0.entry(client).or_default().book);
        Arc::new(move |request, reply| {
            let refused = book.lock().take(request, reply);
            match refused {
                None => waker.wake(),
                Some((reply, outcome)) => reply.answer(outcome, Vec::new()),
            }
        })
    }

    /// The client serves under this name.
    pub(super) fn add(&mut self, client: ClientId, name: ServiceName) {
        log::info!("a program at the admin socket serves {name}");
        self.0.entry(client).or_default().names.push(name);
    }

    /// The client's answer to a request; false if it was given none of that number.
    pub(super) fn answer(&mut self, client: ClientId, number: u64, outcome: Outcome, payload: Vec<u8>) -> bool {
        let Some(provider) = self.0.get(&client) else { return false };
        let answered = provider.book.lock().answered(number);
        match answered {
            Answered::Owed(reply) => reply.answer(outcome, payload),
            Answered::Late => {}
            Answered::Unknown => return false,
        }
        true
    }

    /// The client is gone: all it owed fails. The names that are free now.
    pub(super) fn gone(&mut self, client: ClientId) -> Vec<ServiceName> {
        let Some(Provider { names, book }) = self.0.remove(&client) else { return Vec::new() };
        let owed = book.lock().end();
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
            log::info!("the program that served {} is gone; {} requests fail for it", names.join(", "), owed.len());
        }
        for reply in owed {
            reply.answer(Outcome::Failed(Failure::Gone), Vec::new());
        }
        names
    }

    /// All clients that serve something, or tried to.
    pub(super) fn clients(&self) -> Vec<ClientId> {
        self.0.keys().copied().collect()
    }

    /// Looks after deadlines, and gives out what may be: each line for its client.
    pub(super) fn lines(&self, now: Instant) -> Vec<(ClientId, String)> {
        let mut lines = Vec::new();
        for (client, provider) in &self.0 {
            let late = provider.book.lock().due(now);
            for (reply, outcome) in late {
                reply.answer(outcome, Vec::new());
            }
            loop {
                let given = provider.book.lock().give();
                let Some((number, request)) = given else { break };
                lines.push((*client, line(number, request, now)));
            }
        }
        lines
    }

    /// When [`lines`](Self::lines) wants to be called though nobody asks.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(|provider| provider.book.lock().deadline()).min()
    }
}

/// One program's requests.
#[derive(Default)]
struct Book {
    /// Numbers rise, so that one that comes again needs no remembering.
    last: u64,
    open: BTreeMap<u64, Open>,
    waiting: VecDeque<(u64, Request)>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Of all that is open, and of that the part which was given.
    bytes: usize,
    given: usize,
    is_over: bool,
}

struct Open {
    /// `None` once its deadline has come: nobody waits for it.
    reply: Option<Reply>,
    due: Instant,
    cost: usize,
    is_given: bool,
}

/// Whose answer it is.
enum Answered {
    /// One that somebody waits for.
    Owed(Reply),
    /// One that nobody waits for any more.
    Late,
    /// None that was given.
    Unknown,
}

impl Book {
    /// Takes a request in, or gives the duty to answer it back, with what is to be said.
    fn take(&mut self, request: Request, reply: Reply) -> Option<(Reply, Outcome)> {
        let cost = request.payload.len().div_ceil(3) * 4 + COST;
        if self.is_over {
            return Some((reply, Outcome::Failed(Failure::Gone)));
        }
        if self.open.len() >= MAX_OPEN || !self.open.is_empty() && self.bytes + cost > MAX_BYTES {
            return Some((reply, Outcome::Refused(Refusal::Overloaded)));
        }
        self.last += 1;
        self.bytes += cost;
        self.deadlines.insert((request.deadline, self.last));
        let open = Open { reply: Some(reply), due: request.deadline, cost, is_given: false };
        self.open.insert(self.last, open);
        self.waiting.push_back((self.last, request));
        None
    }

    /// The next one for the program, if it may have one.
    fn give(&mut self) -> Option<(u64, Request)> {
        let (number, _) = self.waiting.front()?;
        // Whatever waits is open.
        let open = self.open.get_mut(number)?;
        if self.given > 0 && self.given + open.cost > WINDOW {
            return None;
        }
        open.is_given = true;
        self.given += open.cost;
        self.waiting.pop_front()
    }

    fn answered(&mut self, number: u64) -> Answered {
        match self.open.get(&number) {
            Some(open) if open.is_given => match self.close(number) {
                Some(reply) => Answered::Owed(reply),
                None => Answered::Late,
            },
            None if (1..=self.last).contains(&number) => Answered::Late,
            _ => Answered::Unknown,
        }
    }

    /// Whose time is over, and what they are to be told.
    fn due(&mut self, now: Instant) -> Vec<(Reply, Outcome)> {
        let mut late = Vec::new();
        while let Some((due, number)) = self.deadlines.first().copied().filter(|(due, _)| *due <= now) {
            self.deadlines.pop_first();
            let worked_on = self.open.get_mut(&number).filter(|open| open.is_given && open.reply.is_some());
            if let Some(open) = worked_on {
                late.extend(open.reply.take().map(|reply| (reply, Outcome::Failed(Failure::TimedOut))));
                open.due = due + OWED;
                self.deadlines.insert((open.due, number));
                continue;
            }
            self.waiting.retain(|(waiting, _)| *waiting != number);
            late.extend(self.close(number).map(|reply| (reply, Outcome::Refused(Refusal::TimedOut))));
        }
        late
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// The program is gone: all that it owed.
    fn end(&mut self) -> Vec<Reply> {
        self.is_over = true;
        self.waiting.clear();
        self.deadlines.clear();
        std::mem::take(&mut self.open).into_values().filter_map(|open| open.reply).collect()
    }

    fn close(&mut self, number: u64) -> Option<Reply> {
        let open = self.open.remove(&number)?;
        self.deadlines.remove(&(open.due, number));
        self.bytes -= open.cost;
        if open.is_given {
            self.given -= open.cost;
        }
        open.reply
    }
}

/// A request as the program is told of it.
#[derive(Serialize)]
struct Line<'a> {
    request: Told<'a>,
}

#[derive(Serialize)]
struct Told<'a> {
    number: u64,
    service: &'a ServiceName,
    caller: Who<'a>,
    payload: Payload,
    remaining_ms: u64,
}

#[derive(Serialize)]
struct Who<'a> {
    id: String,
    label: &'a str,
}

fn line(number: u64, request: Request, now: Instant) -> String {
    let Request { caller, service, payload, deadline } = request;
    let remaining = deadline.saturating_duration_since(now).as_millis();
    let told = Told {
        number,
        service: &service,
        caller: Who { id: caller.id.hex(), label: caller.label.as_str() },
        payload: payload.into(),
        remaining_ms: u64::try_from(remaining).unwrap_or(u64::MAX),
    };
    // Strings and numbers only: writing them to memory cannot fail.
    escaped_json(serde_json::to_string(&Line { request: told }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;
    use crate::protocol::identity::ControllerId;
    use crate::services::Caller;

    const SECOND: Duration = Duration::from_secs(1);

    struct Desk {
        book: Book,
        start: Instant,
        told: Sender<(usize, Outcome)>,
        heard: Receiver<(usize, Outcome)>,
    }

    impl Desk {
        fn new() -> Self {
            let (told, heard) = unbounded();
            Self { book: Book::default(), start: Instant::now(), told, heard }
        }

        /// Asks with so long a payload; the request's number, or what it is told at once.
        fn ask(&mut self, length: usize, patience: Duration) -> Result<u64, Outcome> {
            let caller = Caller { id: ControllerId([7; 32]), label: "alpha".parse().unwrap() };
            let deadline = self.start + patience;
            let request = Request {
                caller: Arc::new(caller),
                service: "shout".parse().unwrap(),
                payload: vec![0; length],
                deadline,
            };
            let told = self.told.clone();
            let reply = Reply::new(move |outcome, payload| told.send((payload.len(), outcome)).unwrap());
            match self.book.take(request, reply) {
                None => Ok(self.book.last),
                Some((reply, outcome)) => {
                    reply.answer(outcome, Vec::new());
                    Err(self.heard.try_recv().unwrap().1)
                }
            }
        }

        fn given(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.book.give()).map(|(number, _)| number).collect()
        }

        fn answer(&mut self, number: u64) -> bool {
            match self.book.answered(number) {
                Answered::Owed(reply) => reply.answer(Outcome::Done, vec![0; 3]),
                Answered::Late => {}
                Answered::Unknown => return false,
            }
            true
        }

        fn due(&mut self, after: Duration) -> Vec<Outcome> {
            self.book.due(self.start + after).into_iter().map(|(_, outcome)| outcome).collect()
        }
    }

    #[test]
    fn small_ones_go_out_together_and_large_ones_one_by_one() {
        let mut desk = Desk::new();
        for number in 1..=3 {
            assert_eq!(desk.ask(1000, SECOND), Ok(number));
        }
        assert_eq!((desk.ask(1 << 20, SECOND), desk.ask(1, SECOND)), (Ok(4), Ok(5)));
        assert_eq!(desk.given(), [1, 2, 3], "the large one waits, and what comes after it");
        assert!(!desk.answer(4) && !desk.answer(6) && !desk.answer(0), "nobody has got these");
        for number in [2, 1, 3] {
            assert!(desk.answer(number));
            assert_eq!(desk.heard.try_recv(), Ok((3, Outcome::Done)));
        }
        assert!(desk.answer(2), "a second answer is late");
        assert_eq!(desk.given(), [4]);
        assert!(desk.answer(4));
        assert_eq!((desk.given(), desk.book.given), (vec![5], COST + 4));
        assert!(desk.answer(5));
        assert_eq!((desk.book.bytes, desk.book.given, desk.book.deadline()), (0, 0, None));
    }

    #[test]
    fn as_many_as_may_be_and_no_more() {
        let mut desk = Desk::new();
        for _ in 0..MAX_OPEN {
            desk.ask(0, SECOND).unwrap();
        }
        assert_eq!(desk.ask(0, SECOND), Err(Outcome::Refused(Refusal::Overloaded)));
        let mut desk = Desk::new();
        desk.ask(3 * MAX_BYTES, SECOND).expect("one of any size");
        assert_eq!(desk.ask(0, SECOND), Err(Outcome::Refused(Refusal::Overloaded)));
    }

    #[test]
    fn who_does_not_answer_keeps_a_place_for_a_while_and_not_for_ever() {
        let mut desk = Desk::new();
        desk.ask(1 << 20, SECOND).unwrap();
        desk.ask(1 << 20, 2 * SECOND).unwrap();
        desk.ask(1, SECOND * 60).unwrap();
        assert_eq!(desk.given(), [1]);
        assert_eq!(desk.due(SECOND), [Outcome::Failed(Failure::TimedOut)], "it was given out");
        assert_eq!(desk.due(2 * SECOND), [Outcome::Refused(Refusal::TimedOut)], "it was not");
        assert!(desk.given().is_empty(), "the program may be writing its answer");
        assert_eq!(desk.due(SECOND + OWED), []);
        assert_eq!(desk.given(), [3], "it has forgotten it");
        assert!(desk.answer(1), "late");
        assert!(desk.heard.try_iter().count() == 2);
    }

    #[test]
    fn whoever_is_gone_fails_all_that_it_owed() {
        let mut desk = Desk::new();
        desk.ask(1, SECOND).unwrap();
        desk.ask(1 << 20, SECOND).unwrap();
        assert_eq!(desk.given(), [1]);
        drop(desk.book.end());
        let gone = Outcome::Failed(Failure::Gone);
        assert_eq!(desk.heard.try_iter().collect::<Vec<_>>(), [(0, gone), (0, gone)]);
        assert_eq!(desk.ask(1, SECOND), Err(gone));
    }

    #[test]
    fn a_line_tells_all_that_a_program_needs() {
        let start = Instant::now();
        let caller = Caller { id: ControllerId([7; 32]), label: "alpha".parse().unwrap() };
        let deadline = start + SECOND;
        let request = Request {
            caller: Arc::new(caller),
            service: "shout".parse().unwrap(),
            payload: b"hello".to_vec(),
            deadline,
        };
        let id = "07".repeat(32);
        assert_eq!(
            line(3, request, start),
            format!(
                r#"{{"request":{{"number":3,"service":"shout","caller":{{"id":"{id}","label":"alpha"}},"payload":"aGVsbG8=","remaining_ms":1000}}}}"#
            )
        );
    }
}
