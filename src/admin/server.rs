//! The thread `admin`: lines in, calls to the desk, answers out, each in its turn.
//!
//! ```text
//!  LineServer::wait ──▶ line ──▶ Turns ──▶ Verb::parse ──▶ Desk::handle(verb, reply)
//!         ▲                                                            │
//!       wake ◀──────────────── answers (one per call at work) ◀── reply.answer
//! ```
//!
//! Requests for programs that serve something, and what these answer, go by the side of that: `Providers`. It never waits for
//! an answer: a call that takes long holds up its own client and nobody else.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::api::{AdminError, Answer, Verb};
use super::desk::{Desk, Recall, Reply};
use super::payload::Payload;
use super::providers::Providers;
use super::socket::{self, FileId, SocketError};
use super::turns::{MAX_CALLS, MAX_WAITING, Turn, Turns};
use crate::clock::Clock;
use crate::config::size;
use crate::protocol::reason::Reason;
use crate::protocol::refusal_log::RefusalLog;
use crate::protocol::report::SCHEMA;
use crate::protocol::requests::message::{Failure, Outcome};
use crate::protocol::requests::report::ServeReport;
use crate::reactor::{ClientId, LineEvent, LineFault, LineServer, LineServerSettings, PollWaker};

/// How long half a line or an unread answer may stay. Scripts on the same machine need milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running admin socket. Dropping it takes the socket away, sends what was answered so far, and joins the thread.
pub struct AdminServer {
    path: PathBuf,
    file: Option<FileId>,
    waker: PollWaker,
    /// Its end is the thread's.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Takes the place at `path` (its directory is the caller's: [`socket::prepare_directory`]) and serves it.
    ///
    /// # Errors
    /// A node answers there, something else lies there, or the system says no.
    pub fn start(path: &Path, max_clients: usize, max_line: usize, desk: Box<dyn Desk>) -> Result<Self, SocketError> {
        socket::clear(path)?;
        let failed = |error| SocketError::Failed(path.to_owned(), error);
        let refusal = AdminError::negative("overloaded", "the node serves as many admin clients as it may: try again");
        let refusal = Answer::Error(refusal).line();
        let settings = LineServerSettings { max_clients, max_line, refusal, patience: PATIENCE };
        let lines = LineServer::bind(path, settings).map_err(failed)?;
        let (stop, stopped) = bounded(0);
        // As many as there are calls at work: whoever answers never blocks.
        let (sender, answers) = bounded(MAX_CALLS);
        let waker = lines.waker();
        let (turns, clock, refusals) = (Turns::new(), Clock::start(), RefusalLog::default());
        let (providers, recalls) = (Providers::default(), BTreeMap::new());
        let admin =
            Admin { lines, max_line, desk, turns, recalls, providers, sender, answers, stopped, clock, refusals };
        let mut server = Self { path: path.to_owned(), file: FileId::of(path), waker, stop: Some(stop), thread: None };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || admin.run()).map_err(failed)?;
        server.thread = Some(thread);
        Ok(server)
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        if let Some(file) = self.file {
            socket::remove(&self.path, file);
        }
        self.stop = None;
        self.waker.wake();
        let thread = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the admin thread failed");
        }
    }
}

/// What the thread owns.
struct Admin {
    lines: LineServer,
    max_line: usize,
    desk: Box<dyn Desk>,
    /// Of calls that were understood, and of others: these are answered in their turn as well.
    turns: Turns<ClientId, Result<Verb, AdminError>>,
    /// Of each client whose call is at work.
    recalls: BTreeMap<ClientId, Recall>,
    providers: Providers,
    sender: Sender<(ClientId, Answer)>,
    answers: Receiver<(ClientId, Answer)>,
    stopped: Receiver<()>,
    clock: Clock,
    refusals: RefusalLog,
}

impl Admin {
    fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve_all()));
        for client in self.providers.clients() {
            self.part(client);
        }
        if !matches!(served, Ok(Ok(()))) {
            if let Ok(Err(error)) = served {
                log::error!("the admin socket is no longer served: {error}");
            }
            self.desk.unserved();
        }
    }

    /// Until it is told to stop.
    fn serve_all(&mut self) -> io::Result<()> {
        while self.stopped.try_recv() != Err(TryRecvError::Disconnected) {
            let events = self.lines.wait()?;
            for event in events {
                self.take(event);
                // At once, and not after all events: a desk that answers at once keeps up with any number of lines.
                self.deliver();
            }
            for (client, line) in self.providers.lines(Instant::now()) {
                self.lines.send(client, &line);
            }
            self.lines.wake_at(self.providers.deadline());
        }
        self.deliver();
        Ok(())
    }

    fn take(&mut self, event: LineEvent) {
        match event {
            LineEvent::Line { client, line } => match Verb::parse(&line) {
                // Whatever else the client asks, others wait for this.
                Ok(Verb::Answer { number, payload, error }) => self.take_answer(client, number, payload, error),
                call => {
                    let turn = self.turns.line(client, call);
                    self.serve(client, turn);
                }
            },
            LineEvent::BadLine { client, why } => self.dismiss(
                client,
                match why {
                    LineFault::TooLong => format!("a line has at most {}", size::text(self.max_line)),
                    LineFault::NotUtf8 => "a line is UTF-8".to_owned(),
                    LineFault::Unfinished => format!("a line has to be finished within {} s", PATIENCE.as_secs()),
                },
            ),
            LineEvent::Gone { client } => self.part(client),
            LineEvent::Refused => self.turned_away(),
            LineEvent::Woken => {}
        }
    }

    /// Another user may come as often as he likes, and is not to fill the log with it.
    fn turned_away(&mut self) {
        let (told, untold) = self.refusals.refused(Reason::Overloaded, self.clock.time());
        if untold > 0 {
            log::warn!("{untold} more admin clients were turned away in a minute");
        }
        if told {
            log::warn!("an admin client was turned away: too many, or another user's");
        }
    }

    /// Hands out what was answered, and lets the next line of those clients have its turn.
    fn deliver(&mut self) {
        while let Ok((client, answer)) = self.answers.try_recv() {
            self.lines.send(client, &answer.line());
            self.turns.answered(client);
            self.recalls.remove(&client);
            let turn = self.turns.next(client);
            self.serve(client, turn);
        }
    }

    fn serve(&mut self, client: ClientId, mut turn: Turn<Result<Verb, AdminError>>) {
        // Nothing is at work for a client whose line is refused, so nothing else would bring up its next one.
        while turn == Turn::Overloaded {
            let busy = AdminError::negative("overloaded", "too many calls are at work: try again");
            self.lines.send(client, &Answer::Error(busy).line());
            turn = self.turns.next(client);
        }
        match turn {
            Turn::Wait | Turn::Overloaded => {}
            Turn::Flood => self.dismiss(client, format!("at most {MAX_WAITING} lines may wait for their answers")),
            Turn::Handle(call) => self.handle(client, call),
        }
    }

    fn handle(&mut self, client: ClientId, call: Result<Verb, AdminError>) {
        let (sender, waker) = (self.sender.clone(), self.lines.waker());
        let reply = Reply::new(move |answer| {
            // Fails only once the thread has ended, and with it the client's connection.
            if sender.try_send((client, answer)).is_ok() {
                waker.wake();
            }
        });
        self.recalls.insert(client, reply.recall());
        match call {
            Err(error) => reply.answer(Answer::Error(error)),
            Ok(Verb::Serve { service }) => reply.answer(self.register(client, &service)),
            // A desk that panics drops the reply, and so answers it; the socket outlives it.
            Ok(verb) => {
                if catch_unwind(AssertUnwindSafe(|| self.desk.handle(verb, reply))).is_err() {
                    log::error!("a call on the admin socket panicked");
                }
            }
        }
    }

    /// Requests for the service go to this client from now on; the first comes after this has been answered.
    fn register(&mut self, client: ClientId, service: &str) -> Answer {
        let taker = self.providers.taker(client, self.lines.waker());
        match self.desk.register(service, taker) {
            Err(error) => Answer::Error(error),
            Ok(name) => {
                let report = ServeReport { schema: SCHEMA, service: name.to_string() };
                self.providers.add(client, name);
                Answer::ok(&report)
            }
        }
    }

    fn take_answer(&mut self, client: ClientId, number: u64, payload: Payload, error: Option<String>) {
        let (outcome, payload) = match error {
            Some(why) => (Outcome::Failed(Failure::Service), why.into_bytes()),
            None => (Outcome::Done, payload.0),
        };
        if !self.providers.answer(client, number, outcome, payload) {
            let why = format!("answer: you have been given no request of number {number}");
            self.lines.send(client, &Answer::Error(AdminError::usage(why)).line());
        }
    }

    /// A last word, then the end.
    fn dismiss(&mut self, client: ClientId, why: String) {
        self.lines.send(client, &Answer::Error(AdminError::usage(why)).line());
        self.lines.close(client);
        self.part(client);
    }

    /// A client is gone, and serves nothing any more.
    fn part(&mut self, client: ClientId) {
        self.turns.gone(client);
        if let Some(recall) = self.recalls.remove(&client) {
            recall.gone();
        }
        for name in self.providers.gone(client) {
            self.desk.unregister(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;

    use tempfile::TempDir;

    use super::*;
    use crate::admin::client::Client;

    fn serve(desk: impl FnMut(Verb, Reply) + Send + 'static) -> (TempDir, PathBuf, AdminServer) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(socket::NAME);
        let server = AdminServer::start(&path, 2, 2 << 20, Box::new(desk)).unwrap();
        (dir, path, server)
    }

    /// Echoes `connect`'s address, keeps the reply of `leave` for later, panics at `forget`, and forgets the rest.
    fn desk(kept: Sender<Reply>) -> impl FnMut(Verb, Reply) + Send {
        move |verb, reply| match verb {
            Verb::Connect { address } => reply.answer(Answer::ok(&address)),
            Verb::Leave => kept.send(reply).unwrap(),
            Verb::Forget { .. } => panic!("as the test wants it"),
            _ => {}
        }
    }

    #[test]
    fn a_call_that_is_kept_ends_with_its_client() {
        let (keep, kept) = bounded(MAX_CALLS + 1);
        let (_dir, path, _server) = serve(move |verb, reply| match verb {
            Verb::Leave => keep.send(reply.kept()).unwrap(),
            _ => reply.answer(Answer::ok(&"served")),
        });
        for _ in 0..=MAX_CALLS {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"{\"verb\":\"leave\"}\n").unwrap();
            let reply = kept.recv().unwrap();
            assert!(reply.lock().is_some());
            drop(client);
            while reply.lock().is_some() {
                thread::yield_now();
            }
        }
        assert_eq!(Client::connect(&path).unwrap().call(&Verb::Status).unwrap().get(), "\"served\"");
    }

    fn echo(client: &mut Client, text: &str) -> String {
        client.call(&Verb::Connect { address: text.to_owned() }).unwrap().get().to_owned()
    }

    #[test]
    fn a_slow_call_holds_up_its_own_client_only() {
        let (keep, kept) = bounded(1);
        let (_dir, path, _server) = serve(desk(keep));
        let mut slow = UnixStream::connect(&path).unwrap();
        slow.write_all(b"{\"verb\":\"leave\"}\n{\"verb\":\"connect\",\"args\":{\"address\":\"second\"}}\n").unwrap();
        let reply = kept.recv().unwrap();
        assert_eq!(echo(&mut Client::connect(&path).unwrap(), "quick"), "\"quick\"");

        thread::spawn(move || reply.answer(Answer::ok(&"first")));
        let lines: Vec<_> = BufReader::new(slow).lines().take(2).map(Result::unwrap).collect();
        assert_eq!(lines, [r#"{"ok":"first"}"#, r#"{"ok":"second"}"#]);
    }

    #[test]
    fn a_desk_that_panics_or_forgets_answers_all_the_same() {
        let (_dir, path, _server) = serve(desk(bounded(1).0));
        let mut client = Client::connect(&path).unwrap();
        for verb in [Verb::Forget { node: "x".to_owned() }, Verb::Status] {
            assert_eq!(client.call(&verb).unwrap_err().exit, 70);
        }
        assert_eq!(echo(&mut client, "still here"), "\"still here\"");
    }

    #[test]
    fn a_hundred_lines_at_once_are_fine_if_they_are_answered_at_once() {
        let (_dir, path, _server) = serve(desk(bounded(1).0));
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all("{\"verb\":\"connect\",\"args\":{\"address\":\"x\"}}\n".repeat(100).as_bytes()).unwrap();
        assert!(BufReader::new(client).lines().take(100).all(|line| line.unwrap() == r#"{"ok":"x"}"#));
    }

    #[test]
    fn floods_bad_lines_and_one_client_too_many_are_told_why() {
        let (keep, kept) = bounded(9);
        let (_dir, path, _server) = serve(desk(keep));
        let said = |bytes: &[u8]| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(bytes).unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).unwrap();
            said
        };
        assert!(said("{\"verb\":\"leave\"}\n".repeat(MAX_WAITING + 2).as_bytes()).contains("lines may wait"));
        assert!(said(b"\xff\n").contains("UTF-8"));

        let mut clients = [Client::connect(&path).unwrap(), Client::connect(&path).unwrap()];
        clients.iter_mut().for_each(|client| drop(echo(client, "here")));
        assert_eq!(Client::connect(&path).unwrap().call(&Verb::Status).unwrap_err().code, "overloaded");
        drop(kept);
    }

    #[test]
    fn its_end_delivers_what_was_answered_and_takes_the_socket_away() {
        let (keep, kept) = bounded(1);
        let (_dir, path, server) = serve(desk(keep));
        assert!(matches!(AdminServer::start(&path, 2, 2 << 20, Box::new(|_, _| {})), Err(SocketError::InUse(_))));
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"{\"verb\":\"leave\"}\n").unwrap();
        kept.recv().unwrap().answer(Answer::ok(&"bye"));
        drop(server);
        assert!(!path.exists());
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "{\"ok\":\"bye\"}\n");
    }
}
