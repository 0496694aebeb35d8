//! Cases 1 to 4, 13 and 14: where a frame begins and where it ends.
//!
//! There are unit and property tests of the same beside the code (`protocol/codec.rs`, `reactor/inlet.rs`), and a fuzz
//! target; here it is shown on a running node.

use std::time::Instant;

use kithd::protocol::codec::{
    FrameSplitter, Frames, HEADER, MAX_FRAME, MAX_FRAME_BEFORE_HELLO, PREAMBLE, Preamble, encode_frame, frame,
};
use kithd::protocol::message::Purpose;
use kithd::protocol::reason::Reason;
use kithd::secure::handshake::MAX_MESSAGE;
use kithd::secure::session::TAG;
use serde_json::Value;

use crate::bystanders::Bystanders;
use crate::daemon::{Key, Network};
use crate::decoding::{every_message, is_no_hello};
use crate::evil_peer::Bytes::{Raw, Sealed};
use crate::evil_peer::{Breach, answers, brimful, closed_unheard, counted, heads_commit, tails_commit};
use crate::report::{agreed, closed_for, established, refused};
use crate::stranger::{Line, Stranger, heartbeat};
use crate::tap::{Meddling, tapped};

/// Four GiB are claimed again and again, and cost nothing: a length is refused before a byte behind it has come.
#[test]
fn case_01_a_frame_of_no_bytes_or_of_too_many_is_refused_by_its_length() {
    let mut nodes = Bystanders::new();
    nodes.measure();
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes().to_vec();
    let breaches = || -> Vec<Breach> {
        let refused = |what, bytes| (what, Raw(bytes), Reason::FrameTooLarge);
        vec![
            refused("no bytes", length(0)),
            refused("one too many", length(MAX_FRAME + TAG + 1)),
            refused("one too many, and they come", frame(&vec![1; MAX_FRAME + TAG + 1])),
            refused("a GiB", length(1 << 30)),
            refused("4 GiB", vec![0xff; 4]),
        ]
    };
    tails_commit(&nodes.network, &nodes.node, breaches());
    let preamble = Preamble::of(1, Purpose::Overlay).to_bytes();
    for claim in [0, MAX_FRAME_BEFORE_HELLO + TAG + 1, MAX_FRAME, u32::MAX as usize] {
        closed_unheard(&nodes.node, "a length", &[&preamble[..], &length(claim)].concat(), "frame-too-large");
    }
    heads_commit(&nodes.network, breaches());
    nodes.are_unharmed();
    // Nine connections and their threads, with a stack each, are a few MiB in a build for tests.
    nodes.grew_at_most(16);
}

/// Two nodes become neighbours and agree although only single bytes pass between them.
#[test]
fn case_02_nodes_understand_each_other_however_the_stream_is_cut() {
    let (network, key) = (Network::new(), Key::new());
    let (node, tap, other) = tapped(&network, &key, Meddling { piece: 1, ..Meddling::NONE });
    agreed(&[&node, &other]);
    assert!(tap.heard().concat().len() > 400, "a handshake and a Hello");
    for one in [&node, &other] {
        assert!(!established(&one.peers()).is_empty());
        for misread in ["not-kithd", "frame-too-large", "network-key", "bad-record-tag", "malformed"] {
            assert_eq!(refused(one, misread), 0, "{misread}");
        }
    }
}

/// Every message there is, cut at every byte and read byte by byte.
#[test]
fn case_02_a_stream_gives_the_same_frames_wherever_it_is_cut() {
    struct Found(Vec<Vec<u8>>);
    impl Frames for Found {
        fn limit(&self) -> usize {
            MAX_FRAME
        }
        fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
            Ok(())
        }
        fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
            self.0.push(frame.to_vec());
            Ok(())
        }
    }
    let messages = every_message();
    let frames: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
    let stream = [&Preamble::of(1, Purpose::Ring).to_bytes()[..], &frames].concat();
    let found_in = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut splitter, mut found) = (FrameSplitter::with_preamble(), Found(Vec::new()));
        pieces.for_each(|piece| splitter.split(piece, &mut found).unwrap());
        assert!(!splitter.is_partial());
        found.0
    };
    for cut in 0..=stream.len() {
        let (one, two) = stream.split_at(cut);
        assert_eq!(found_in(&mut [one, two].into_iter()), messages, "cut at {cut}");
    }
    for size in [1, 2, 3, 5, 7, 11, 64] {
        assert_eq!(found_in(&mut stream.chunks(size)), messages, "in pieces of {size}");
    }
}

#[test]
fn case_03_a_stream_that_ends_inside_a_frame_is_told_from_one_that_ends() {
    let nodes = Bystanders::new();
    for (label, sent, reason) in
        [("in-header", 3, "eof-in-frame"), ("in-frame", 20, "eof-in-frame"), ("after-frame", 999, "end-of-stream")]
    {
        let stranger = Stranger::new(&nodes.network, label);
        let mut line = stranger.dial(&nodes.node);
        let whole = line.sealed(&encode_frame(&heartbeat(1)));
        line.send(&whole[..sent.min(whole.len())]);
        line.finish();
        line.rest();
        closed_for(&nodes.node, Some(&stranger.id()), reason);
    }
    counted(&nodes.node, "eof-in-frame", 2);
    // Before anybody has introduced himself nothing is said to him either.
    let preamble = Preamble::of(1, Purpose::Overlay).to_bytes();
    for begun in [&preamble[..5], &[&preamble[..], &[0, 0]].concat(), &[&preamble[..], &[0, 0, 0, 48, 1]].concat()] {
        let mut line = Line::to(nodes.node.address);
        line.send(begun);
        line.finish();
        assert_eq!(line.rest(), b"");
    }
    counted(&nodes.node, "eof-in-frame", 5);
    closed_for(&nodes.node, None, "eof-in-frame");
    nodes.are_unharmed();
}

/// One byte now and then is no progress: the deadline is for all of the introduction, and for all of a frame.
#[test]
fn case_04_a_slow_drip_prolongs_neither_the_handshake_nor_a_frame() {
    let flags = ["--limits-handshake-timeout", "1s", "--limits-frame-timeout", "500ms"];
    let nodes = Bystanders::with(&flags);
    let start = Instant::now();
    let mut line = Line::to(nodes.node.address);
    let whole = [&Preamble::of(1, Purpose::Overlay).to_bytes()[..], &frame(&[1; MAX_FRAME_BEFORE_HELLO])].concat();
    let sent = line.drip(&whole);
    println!("closed after {:.2} s and {sent} bytes", start.elapsed().as_secs_f64());
    assert!(sent < whole.len(), "the drip was heard to its end");
    assert_eq!(line.rest(), b"");
    let late = |row: &Value| row["close_reason"] == "handshake-timeout" || row["close_reason"] == "frame-timeout";
    assert!(nodes.node.peers().iter().any(late), "{:?}", nodes.node.peers());

    let stranger = Stranger::new(&nodes.network, "drip");
    let mut line = stranger.dial(&nodes.node);
    let (full, _) = brimful();
    let whole = line.sealed(&full);
    // In time for the heartbeat that the stranger owes nobody: any byte of a frame is too little for a sign of life.
    let sent = line.drip(&whole);
    assert!(sent < whole.len(), "the drip was heard to its end");
    closed_for(&nodes.node, Some(&stranger.id()), "frame-timeout");
    nodes.are_unharmed();
}

#[test]
fn case_04_a_frame_that_is_begun_must_end() {
    let nodes = Bystanders::with(&["--limits-frame-timeout", "500ms"]);
    let stranger = Stranger::new(&nodes.network, "half");
    let mut line = stranger.dial(&nodes.node);
    let whole = line.sealed(&encode_frame(&heartbeat(1)));
    line.send(&whole[..20]);
    assert_eq!(line.dismissed(), Some(Reason::FrameTimeout));
    closed_for(&nodes.node, Some(&stranger.id()), "frame-timeout");
    counted(&nodes.node, "frame-timeout", 1);
    nodes.are_unharmed();
}

/// A byte more than the most is refused by its length, the most is read: before the introduction and after it.
#[test]
fn case_13_the_largest_frame_is_read_and_one_byte_more_is_not() {
    let nodes = Bystanders::new();
    let preamble = Preamble::of(1, Purpose::Overlay).to_bytes();
    let after = |length: usize| [&preamble[..], &frame(&vec![7; length])].concat();
    let most = MAX_FRAME_BEFORE_HELLO + TAG;
    closed_unheard(&nodes.node, "the largest of a handshake", &after(MAX_MESSAGE), "network-key");
    closed_unheard(&nodes.node, "one byte more", &after(MAX_MESSAGE + 1), "frame-too-large");
    closed_unheard(&nodes.node, "more than any stranger may send", &after(most + 1), "frame-too-large");
    let stranger = Stranger::new(&nodes.network, "unwelcome");
    let nonsense = |length: usize| vec![7; length - HEADER];
    is_no_hello(&nodes, &stranger, "the largest first word", &nonsense(most - TAG), Reason::Malformed);
    is_no_hello(&nodes, &stranger, "one byte more", &nonsense(most - TAG + 1), Reason::FrameTooLarge);

    let stranger = Stranger::new(&nodes.network, "full");
    let mut line = stranger.dial(&nodes.node);
    let (full, last) = brimful();
    for _ in 0..3 {
        let sealed = line.sealed(&full);
        assert_eq!(sealed.len(), HEADER + MAX_FRAME + TAG);
        line.send(&sealed);
        answers(&mut line, last);
    }
    let breaches: Vec<Breach> = vec![
        ("the largest frame, of nonsense", Raw(frame(&vec![1; MAX_FRAME + TAG])), Reason::BadRecordTag),
        ("a record of no message", Sealed(Vec::new()), Reason::Malformed),
        ("the largest message, of nonsense", Sealed(frame(&vec![9; MAX_FRAME - HEADER])), Reason::Malformed),
        ("one byte more than the largest frame", Raw(frame(&vec![1; MAX_FRAME + TAG + 1])), Reason::FrameTooLarge),
        ("the smallest record", Raw(frame(&[1; TAG])), Reason::BadRecordTag),
        ("a frame too short for a record", Raw(frame(&[1; TAG - 1])), Reason::BadRecordTag),
    ];
    tails_commit(&nodes.network, &nodes.node, breaches.clone());
    heads_commit(&nodes.network, breaches);
    nodes.are_unharmed();
}

/// Whoever speaks something else gets the connection closed, and learns nothing of what he has found.
#[test]
fn case_14_other_protocols_are_closed_without_a_byte() {
    let nodes = Bystanders::new();
    let client_hello = [&[0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3][..], &[7; 190]].concat();
    let greetings: [(&str, &[u8]); 7] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        ("TLS", &client_hello),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("JSON", b"{\"verb\": \"status\"}\n"),
        ("one byte", b"\n"),
        ("nearly ours", b"kitx"),
        ("nothing but zeros", &[0; 64]),
    ];
    for (what, greeting) in greetings {
        closed_unheard(&nodes.node, what, greeting, "not-kithd");
    }
    nodes.are_unharmed();
}
