//! Heads that answer: what was not asked, against the rules, too much, too late, or not at all. Whoever asked is told, and the
//! node asks on.

use std::sync::mpsc::channel;
use std::time::Duration;

use kithd::protocol::codec::encode_frame;
use kithd::protocol::message::{HeadMessage, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::requests::message::{Bytes, Outcome, PIECE, Piece, Refusal, Request, Response};
use kithd::{Config, Node, RequestError};
use tempfile::TempDir;

use crate::daemon::Network;
use crate::patience::{SOON, until};
use crate::stranger::{Line, Trap};

/// A node in this process, and a stranger whom it has dialled.
struct Asked {
    node: Node,
    trap: Trap,
    line: Line,
    _home: TempDir,
}

impl Asked {
    fn new() -> Self {
        let (network, home) = (Network::new(), tempfile::tempdir().unwrap());
        let trap = Trap::new(&network, "answerer");
        let mut config = Config::default();
        config.node.state_dir = home.path().join("state");
        config.listen.addresses = vec!["127.0.0.1:0".parse().unwrap()];
        config.network.name = network.name().parse().unwrap();
        config.network.connect = vec![trap.address.to_string().parse().unwrap()];
        // He answers no heartbeat.
        config.heartbeat.timeout = Duration::from_secs(60);
        let node = Node::start(config).unwrap();
        let (id, mut line) = trap.catch_anybody();
        assert_eq!(id, node.id());
        line.tell(&trap.stranger.welcome());
        until("the edge stands", SOON, || match node.report().unwrap().peers.outgoing {
            0 => Err("it does not".to_owned()),
            _ => Ok(()),
        });
        Self { node, trap, line, _home: home }
    }

    /// The next request's number.
    fn question(&mut self) -> u64 {
        loop {
            match self.line.hear::<TailMessage>().expect("the node goes on") {
                TailMessage::Request(request) => return request.id,
                TailMessage::Goodbye(reason) => panic!("the node closes: {reason}"),
                _ => continue,
            }
        }
    }

    /// The node asks him, and he says this; what becomes of the request.
    fn says(&mut self, answer: impl FnOnce(u64) -> Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let (told, heard) = channel();
        let requester = self.node.requester(&self.trap.stranger.id()).unwrap();
        requester.submit("any", b"?", SOON, move |ending| told.send(ending).unwrap()).unwrap();
        let id = self.question();
        self.line.say(&answer(id));
        heard.recv_timeout(2 * SOON).expect("whoever asks is told")
    }

    /// He answers honestly, and it arrives.
    fn is_heard(&mut self) {
        assert_eq!(self.says(|id| response(id, 3, b"yes")), Ok(b"yes".to_vec()));
    }
}

fn response(id: u64, length: u32, first: &[u8]) -> Vec<u8> {
    let payload = Bytes(first.to_vec());
    encode_frame(&HeadMessage::Response(Response { id, outcome: Outcome::Done, length, payload }))
}

fn piece(id: u64, length: usize) -> Vec<u8> {
    encode_frame(&HeadMessage::Piece(Piece { id, payload: Bytes(vec![7; length]) }))
}

/// Bytes that he says in place of an answer to the request of that number.
type Said = fn(u64) -> Vec<u8>;

#[test]
fn what_breaks_the_rules_of_answers_ends_the_edge() {
    let instead: [(&str, Said, Reason); 10] = [
        ("an answer to another number", |id| response(id + 1, 0, b""), Reason::Unexpected),
        ("a piece of no answer", |id| piece(id, 1), Reason::Unexpected),
        ("two beginnings", |id| response(id, 10, b"12345").repeat(2), Reason::Unexpected),
        ("nothing of something", |id| response(id, 10, b""), Reason::Malformed),
        ("more than was announced", |id| response(id, 1, b"12"), Reason::Malformed),
        ("an empty piece", |id| [response(id, 10, b"12345"), piece(id, 0)].concat(), Reason::Malformed),
        ("a piece too long", |id| [response(id, 10, b"12345"), piece(id, 6)].concat(), Reason::Malformed),
        ("more than a message may have", |id| response(id, 1 << 20, &[7; PIECE + 1]), Reason::Malformed),
        (
            "an outcome that there is not",
            |id| [&[0, 0, 0, 33, 2, 8, 0, 0, 0][..], &id.to_le_bytes(), &[3; 20]].concat(),
            Reason::Malformed,
        ),
        ("a request", |id| question(id), Reason::WrongDirection),
    ];
    for (what, said, reason) in instead {
        let mut asked = Asked::new();
        assert_eq!(asked.says(said), Err(RequestError::Closed { reason, sent: true }), "{what}");
        found_out(asked, what, reason);
    }
    let besides: [(&str, Said); 2] = [
        ("a second answer", |id| response(id, 3, b"yes").repeat(2)),
        ("a piece behind the end", |id| [response(id, 3, b"yes"), piece(id, 1)].concat()),
    ];
    for (what, said) in besides {
        let mut asked = Asked::new();
        assert_eq!(asked.says(said), Ok(b"yes".to_vec()), "{what}");
        found_out(asked, what, Reason::Unexpected);
    }
}

fn question(id: u64) -> Vec<u8> {
    let service = "echo".parse().unwrap();
    let request = Request { id, service, remaining_ms: 1000, depth: 0, length: 0, payload: Bytes::default() };
    encode_frame(&TailMessage::Request(request))
}

/// The node has ended the edge for that reason, told him, and counted it once.
fn found_out(mut asked: Asked, what: &str, reason: Reason) {
    assert_eq!(asked.line.abandoned(), Some(reason), "{what}");
    until("it is counted", SOON, || match asked.node.report().unwrap().refused.get(&reason) {
        Some(1) => Ok(()),
        other => Err(format!("{what}: {reason} is counted {other:?}")),
    });
}

/// One answer is said to have two GiB. Whoever asked hears it at once, and what comes of it is passed over.
#[test]
fn an_answer_that_announces_two_gib_is_told_and_passed_over() {
    let mut asked = Asked::new();
    let mut large = 0;
    let ending = asked.says(|id| {
        large = id;
        response(id, 1 << 31, b"1")
    });
    assert_eq!(ending, Err(RequestError::AnswerTooLarge));
    for _ in 0..200 {
        asked.line.say(&piece(large, PIECE));
    }
    asked.is_heard();
}

/// Those whom nobody waits for keep their places: one who answers nothing has so much to do at once, and no more. What he
/// says late goes to nobody, and makes room.
#[test]
fn a_head_that_does_not_answer_is_asked_no_more_than_fits_the_window() {
    let mut asked = Asked::new();
    let window = Config::default().limits.max_outstanding;
    let requester = asked.node.requester(&asked.trap.stranger.id()).unwrap();
    let (told, heard) = channel();
    let ask = || {
        let told = told.clone();
        requester.try_submit("any", b"", Duration::from_millis(100), move |ending| told.send(ending).unwrap())
    };
    (0..window).for_each(|_| ask().unwrap());
    for _ in 0..window {
        assert_eq!(heard.recv_timeout(SOON).unwrap(), Err(RequestError::TimedOut { sent: true }));
    }
    assert_eq!(ask(), Err(RequestError::Overloaded));
    let late: Vec<u8> = (0..window).flat_map(|_| response(asked.question(), 3, b"now")).collect();
    asked.line.say(&late);
    until("there is room again", SOON, || ask().map_err(|error| error.to_string()));
    let id = asked.question();
    asked.line.say(&response(id, 3, b"yes"));
    let ending = heard.recv_timeout(SOON).unwrap();
    // A busy machine may take longer than the 100 ms that it has; but nobody hears what was for others.
    assert!(ending == Ok(b"yes".to_vec()) || ending == Err(RequestError::TimedOut { sent: true }), "{ending:?}");
    asked.is_heard();
}

#[test]
fn whoever_waits_for_half_an_answer_is_told_when_its_head_is_gone() {
    let mut asked = Asked::new();
    let (told, heard) = channel();
    let requester = asked.node.requester(&asked.trap.stranger.id()).unwrap();
    requester.submit("any", b"", SOON, move |ending| told.send(ending).unwrap()).unwrap();
    let id = asked.question();
    asked.line.say(&response(id, 10, b"12345"));
    asked.line.finish();
    let ending = heard.recv_timeout(SOON).unwrap();
    assert_eq!(ending, Err(RequestError::Closed { reason: Reason::EndOfStream, sent: true }));
}

/// What a head says of a request, be it true or not, is the caller's to know, and no breach.
#[test]
fn every_outcome_reaches_whoever_asked() {
    let mut asked = Asked::new();
    for refusal in Refusal::ALL {
        let outcome = Outcome::Refused(refusal);
        let said =
            |id| encode_frame(&HeadMessage::Response(Response { id, outcome, length: 0, payload: Bytes::default() }));
        assert_eq!(asked.says(said), Err(RequestError::Refused(refusal)));
    }
    // Late, it is nobody's.
    let (told, heard) = channel();
    let requester = asked.node.requester(&asked.trap.stranger.id()).unwrap();
    let tell = move |ending| told.send(ending).unwrap();
    requester.submit("any", b"", Duration::from_millis(100), tell).unwrap();
    assert_eq!(heard.recv_timeout(SOON).unwrap(), Err(RequestError::TimedOut { sent: true }));
    let id = asked.question();
    asked.line.say(&response(id, 3, b"now"));
    asked.is_heard();
}
