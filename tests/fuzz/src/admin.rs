//! The admin socket: a stream of bytes, however it is cut, is the same lines; and each is a call, or gets one line that says
//! why not.

use std::cell::RefCell;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use kithd::admin::api::{Answer, Verb};
use kithd::reactor::{LineEvent, LineFault, LineServer, LineServerSettings};

use super::bytes::Bytes;
use super::text::assert_harmless;

/// A real server on a real socket; made once a thread, as it is costly.
struct Place {
    server: LineServer,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let cuts = [bytes.byte(), bytes.byte()];
    let stream = bytes.rest();
    // What fits a socket's buffer can be written before anybody reads.
    let stream = &stream[..stream.len().min(32 * 1024)];
    let expected = reference(stream);
    let heard = PLACE.with_borrow_mut(|place| place.hear(stream, cuts));
    assert_eq!(heard, expected);
    for line in heard.iter().flatten() {
        understand(line);
    }
}

fn understand(line: &str) {
    match Verb::parse(line) {
        Ok(verb) => {
            let written = serde_json::to_string(&verb).expect("a verb is JSON");
            assert_eq!(Verb::parse(&written), Ok(verb));
        }
        Err(error) => {
            assert_eq!((error.code.as_str(), error.exit), ("usage", 2));
            assert!(error.message.len() < 2000);
            assert_harmless(&Answer::Error(error).line());
        }
    }
}

/// A line of a client, or what is wrong with it.
type Line = Result<String, LineFault>;

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for a socket");
        let path = directory.path().join("s");
        let settings = LineServerSettings {
            max_clients: 4,
            max_line: 2 << 20,
            refusal: String::new(),
            patience: Duration::from_secs(3600),
        };
        let server = LineServer::bind(&path, settings).expect("a socket");
        Self { server, path, _directory: directory }
    }

    /// All that a client is understood to have said, which writes this in such pieces.
    fn hear(&mut self, stream: &[u8], cuts: [u8; 2]) -> Vec<Line> {
        let mut client = UnixStream::connect(&self.path).expect("the server's backlog");
        let mut said = Vec::new();
        let (first, rest) = stream.split_at(stream.len().min(usize::from(cuts[0]) * usize::from(cuts[1])));
        client.write_all(first).expect("a socket's buffer");
        if first.contains(&b'\n') {
            // The server has read a first part, perhaps ending in half a line, before the rest comes.
            if self.turn(&mut said) {
                return said;
            }
        }
        // Fails if the server has closed the connection: then all is said.
        let _ = client.write_all(rest);
        let _ = client.shutdown(Shutdown::Write);
        drop(client);
        while !self.turn(&mut said) {}
        said
    }

    /// One wait; true if nothing more comes.
    fn turn(&mut self, said: &mut Vec<Line>) -> bool {
        for event in self.server.wait().expect("a poll") {
            match event {
                LineEvent::Line { line, .. } => said.push(Ok(line)),
                LineEvent::BadLine { client, why } => {
                    said.push(Err(why));
                    self.server.close(client);
                    return true;
                }
                LineEvent::Gone { .. } => return true,
                LineEvent::Refused | LineEvent::Woken => panic!("{event:?}"),
            }
        }
        false
    }
}

/// The same by the shortest way to say it.
fn reference(stream: &[u8]) -> Vec<Line> {
    let mut said = Vec::new();
    let mut lines: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    // After the last newline comes no line but the rest, if there is any.
    lines.pop_if(|last| last.is_empty());
    for line in lines {
        match std::str::from_utf8(line) {
            Ok(line) => said.push(Ok(line.to_owned())),
            Err(_) => {
                said.push(Err(LineFault::NotUtf8));
                break;
            }
        }
    }
    said
}
