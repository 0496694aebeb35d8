//! Lines over a Unix socket: good clients, and the ways to be a bad one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use kithd::reactor::{ClientId, LineEvent, LineFault, LineServer, LineServerSettings};

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    server: LineServer,
    directory: tempfile::TempDir,
    pending: Vec<LineEvent>,
}

impl Server {
    fn new(patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = LineServerSettings { max_clients: 16, max_line: 2 << 20, refusal: "no room".into(), patience };
        let server = LineServer::bind(&directory.path().join("a.sock"), settings).unwrap();
        Self { server, directory, pending: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.sock")
    }

    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.path()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    fn next(&mut self) -> LineEvent {
        while self.pending.is_empty() {
            self.pending = self.server.wait().unwrap();
        }
        self.pending.remove(0)
    }

    fn line(&mut self) -> (ClientId, String) {
        match self.next() {
            LineEvent::Line { client, line } => (client, line),
            other => panic!("{other:?}"),
        }
    }
}

fn answer(client: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line).unwrap();
    line
}

#[test]
fn lines_in_lines_out() {
    let mut server = Server::new(PATIENCE);
    assert_eq!(std::fs::metadata(server.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let (mut one, mut two) = (server.client(), server.client());
    one.write_all(b"first\nsecond\nthi").unwrap();
    let (first, line) = server.line();
    assert_eq!(line, "first");
    assert_eq!(server.line(), (first, "second".into()));
    one.write_all(b"rd\n").unwrap();
    assert_eq!(server.line(), (first, "third".into()));
    two.write_all("grüße\n".as_bytes()).unwrap();
    let (second, line) = server.line();
    assert_eq!((line.as_str(), second == first), ("grüße", false));
    server.server.send(second, "answer");
    server.server.send(first, "other");
    assert_eq!((answer(&two), answer(&one)), ("answer\n".into(), "other\n".into()));
    let waker = server.server.waker();
    std::thread::spawn(move || waker.wake());
    assert_eq!(server.next(), LineEvent::Woken);
    drop(one);
    assert_eq!(server.next(), LineEvent::Gone { client: first });
    // Sending to one that is gone, and closing twice, is harmless.
    server.server.send(first, "late");
    server.server.send(second, "last");
    server.server.close(second);
    server.server.close(second);
    let mut rest = String::new();
    two.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last\n");
}

#[test]
fn a_client_that_only_ended_its_half_gets_its_answer() {
    let mut server = Server::new(PATIENCE);
    let mut client = server.client();
    client.write_all(b"no newline").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (id, line) = server.line();
    assert_eq!(line, "no newline");
    server.server.send(id, "answer");
    assert_eq!(answer(&client), "answer\n");
    drop(client);
    assert_eq!(server.next(), LineEvent::Gone { client: id });
}

#[test]
fn what_was_said_before_hanging_up_counts() {
    let mut server = Server::new(PATIENCE);
    let mut client = server.client();
    let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
    client.write_all(lines.as_bytes()).unwrap();
    drop(client);
    let mut id = None;
    for n in 0..1000 {
        let (client, line) = server.line();
        assert_eq!((line, *id.get_or_insert(client)), (n.to_string(), client));
    }
    assert_eq!(server.next(), LineEvent::Gone { client: id.unwrap() });
}

#[test]
fn bad_lines_are_told_and_answered() {
    let mut server = Server::new(PATIENCE);
    let cases = [(vec![b'x'; (2 << 20) + 1], LineFault::TooLong), (b"\xff\xfe\n".to_vec(), LineFault::NotUtf8)];
    for (bytes, fault) in cases {
        let mut client = server.client();
        let mut writer = client.try_clone().unwrap();
        let written = std::thread::spawn(move || writer.write_all(&bytes));
        let LineEvent::BadLine { client: id, why } = server.next() else { panic!("no fault") };
        assert_eq!(why, fault);
        server.server.send(id, "bad line");
        server.server.close(id);
        let mut heard = [0; 9];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"bad line\n");
        let _ = written.join().unwrap();
    }
    // The longest line that is allowed.
    let mut client = server.client();
    let longest =
        std::thread::spawn(move || client.write_all(&[vec![b'x'; 2 << 20], vec![b'\n']].concat()).map(|()| client));
    assert_eq!(server.line().1.len(), 2 << 20);
    longest.join().unwrap().unwrap();
}

#[test]
fn the_seventeenth_client_is_turned_away_with_a_word() {
    let mut server = Server::new(PATIENCE);
    let mut clients: Vec<_> = (0..16).map(|_| server.client()).collect();
    let mut late = server.client();
    assert_eq!(server.next(), LineEvent::Refused);
    let mut heard = String::new();
    late.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "no room\n");
    clients[15].write_all(b"still here\n").unwrap();
    assert_eq!(server.line().1, "still here");
    drop(clients.remove(0));
    assert!(matches!(server.next(), LineEvent::Gone { .. }));
    let mut next = server.client();
    next.write_all(b"room again\n").unwrap();
    assert_eq!(server.line().1, "room again");
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let mut server = Server::new(Duration::from_millis(200));
    // By the bound on what is queued, ...
    let mut client = server.client();
    client.write_all(b"events\n").unwrap();
    let (id, _) = server.line();
    let line = "e".repeat(1 << 20);
    (0..8).for_each(|_| server.server.send(id, &line));
    assert_eq!(server.next(), LineEvent::Gone { client: id });
    // ... and by the time that a write is stuck, also if it was closed.
    for closes in [false, true] {
        let mut client = server.client();
        client.write_all(b"view\n").unwrap();
        let (id, _) = server.line();
        server.server.send(id, &line);
        if closes {
            server.server.close(id);
            let waker = server.server.waker();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(1));
                waker.wake();
            });
            assert_eq!(server.next(), LineEvent::Woken);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert!(rest.len() < line.len());
        } else {
            assert_eq!(server.next(), LineEvent::Gone { client: id });
        }
    }
}

#[test]
fn an_answer_longer_than_the_bound_reaches_a_client_that_reads() {
    let mut server = Server::new(PATIENCE);
    let mut client = server.client();
    client.write_all(b"everything\n").unwrap();
    let (id, _) = server.line();
    server.server.send(id, &"v".repeat(6 << 20));
    server.server.close(id);
    let reader = std::thread::spawn(move || client.read_to_end(&mut Vec::new()));
    let waker = server.server.waker();
    let reads = std::thread::spawn(move || {
        let read = reader.join();
        waker.wake();
        read
    });
    assert_eq!(server.next(), LineEvent::Woken);
    assert_eq!(reads.join().unwrap().unwrap().unwrap(), (6 << 20) + 1);
}

#[test]
fn half_a_request_must_be_finished_but_an_idle_client_may_stay() {
    let mut server = Server::new(Duration::from_millis(200));
    let (mut idle, mut half) = (server.client(), server.client());
    half.write_all(b"half").unwrap();
    let LineEvent::BadLine { client, why } = server.next() else { panic!("no fault") };
    assert_eq!(why, LineFault::Unfinished);
    server.server.close(client);
    assert_eq!(half.read(&mut [0; 8]).unwrap(), 0);
    idle.write_all(b"still here\n").unwrap();
    assert_eq!(server.line().1, "still here");
}
