//! Programs that serve requests over the admin socket: in any language, as a line of JSON is.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Ended, Network};
use crate::patience::{SOON, until};
use crate::report::agreed;

/// A program at a node's admin socket.
struct Program(BufReader<UnixStream>);

impl Program {
    fn at(node: &Daemon) -> Self {
        let stream = UnixStream::connect(&node.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(BufReader::new(stream))
    }

    fn serving(node: &Daemon, services: &[&str]) -> Self {
        let mut program = Self::at(node);
        for service in services {
            let answer = program.call("serve", &json!({ "service": service }));
            assert_eq!(answer, json!({"ok": {"schema": 1, "service": service}}));
        }
        program
    }

    fn say(&mut self, verb: &str, args: &Value) {
        let line = format!("{}\n", json!({"verb": verb, "args": args}));
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn call(&mut self, verb: &str, args: &Value) -> Value {
        self.say(verb, args);
        self.hear()
    }

    /// The next request.
    fn request(&mut self) -> Value {
        let said = self.hear();
        assert!(said["request"].is_object(), "{said}");
        said["request"].clone()
    }

    fn answer(&mut self, number: &Value, payload: &str) {
        self.say("answer", &json!({"number": number, "payload": payload}));
    }
}

fn request(node: &Daemon, args: &[&str]) -> Ended {
    node.client(&[&["request"], args].concat())
}

fn pair(network: &Network) -> (Daemon, Daemon) {
    let a = network.start("a");
    let b = network.node("b").connect(a.address).start();
    agreed(&[&a, &b]);
    (a, b)
}

#[test]
fn a_program_serves_several_names_and_asks_other_things_meanwhile() {
    let network = Network::new();
    let (a, b) = pair(&network);
    let mut program = Program::serving(&b, &["shout", "whisper"]);
    thread::scope(|scope| {
        let loud = scope.spawn(|| request(&a, &["b", "shout", "--data", "hey", "--timeout", "50s"]));
        let asked = program.request();
        assert_eq!((&asked["number"], &asked["service"]), (&json!(1), &json!("shout")));
        assert_eq!(asked["caller"], json!({"id": a.id, "label": "a"}));
        assert_eq!(asked["payload"], "aGV5");
        assert!((1..=50_000).contains(&asked["remaining_ms"].as_u64().unwrap()), "{asked}");

        let low = scope.spawn(|| request(&b, &["b", "whisper"]));
        let next = program.request();
        assert_eq!((&next["service"], &next["payload"]), (&json!("whisper"), &json!("")));
        assert_eq!(next["caller"]["id"], json!(b.id), "a node may ask itself");

        // Two calls, and an answer that does not wait for either of them.
        program.say("network", &json!({"census": true}));
        program.say("identity", &json!({}));
        program.say("answer", &json!({"number": next["number"], "error": "too loud here"}));
        assert_eq!(low.join().unwrap().one_line(1), "kithd: whisper at b: failed: too loud here");
        assert_eq!(program.hear()["ok"]["census"]["answered"].as_u64(), Some(2));
        assert_eq!(program.hear()["ok"]["label"], "b");
        program.answer(&asked["number"], "SEVZ");
        let ended = loud.join().unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "HEY"), "{ended:?}");
    });
    // Late, unknown, and none at all.
    program.answer(&json!(1), "SEVZ");
    let unknown = program.call("answer", &json!({"number": 77}));
    assert_eq!(unknown["error"]["message"], "answer: you have been given no request of number 77");
    assert_eq!(program.call("answer", &json!({"number": 1, "payload": "?"}))["error"]["exit"], 2);
    assert_eq!(program.call("identity", &json!({}))["ok"]["label"], "b", "the connection stands");
}

#[test]
fn what_a_program_owed_fails_at_once_when_it_is_gone_and_its_names_are_free() {
    let network = Network::new();
    let (a, b) = pair(&network);
    let mut program = Program::serving(&b, &["shout"]);
    let mut other = Program::at(&b);
    for (name, code) in [("shout", "taken"), ("echo", "taken"), ("kithd.mine", "taken"), ("a b", "usage")] {
        assert_eq!(other.call("serve", &json!({ "service": name }))["error"]["code"], code, "{name}");
    }
    thread::scope(|scope| {
        let asked = ["b", "shout", "--timeout", "1h"];
        let waiting = [&a, &a, &b].map(|node| scope.spawn(move || request(node, &asked)));
        for _ in 0..3 {
            program.request();
        }
        drop(program);
        for waiting in waiting {
            let ended = waiting.join().unwrap();
            assert_eq!(ended.one_line(1), "kithd: shout at b: failed: the program that served it is gone");
        }
    });
    b.says("the program that served shout is gone; 3 requests fail for it");
    assert!(request(&a, &["b", "shout"]).one_line(1).contains("no service of that name"));
    assert_eq!(other.call("serve", &json!({"service": "shout"}))["ok"]["service"], "shout");
}

#[test]
fn a_program_that_answers_nothing_costs_its_callers_their_time_and_nobody_else() {
    let network = Network::new();
    let (a, b) = pair(&network);
    let mut program = Program::serving(&b, &["mute"]);
    thread::scope(|scope| {
        let long = || request(&a, &["b", "mute", "--timeout", "1h"]);
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(long)).collect();
        (0..8).for_each(|_| drop(program.request()));
        let late = request(&a, &["b", "mute", "--timeout", "200ms"]);
        assert_eq!(late.one_line(1), "kithd: mute at b: no answer in time: it may have been carried out");
        assert_eq!(request(&a, &["b", "echo", "--data", "on"]).stdout, "on");
        let (forgotten, others) = (program.request()["number"].clone(), 1..=8);
        program.answer(&forgotten, "");
        others.for_each(|number| program.answer(&json!(number), "b2s="));
        assert!(waiting.into_iter().all(|ended| ended.join().unwrap().stdout == "ok"));
    });
}

/// A megabyte each way at once, more than a socket holds: neither end waits for the other to read.
#[test]
fn large_payloads_go_both_ways() {
    let network = Network::new();
    let (a, b) = pair(&network);
    let mut program = Program::serving(&b, &["mirror"]);
    let file = a.setup().home().join("large");
    crate::daemon::write(&file, "0123456789abcdef".repeat(1 << 16).as_bytes());
    let file = file.to_str().unwrap();
    thread::scope(|scope| {
        let ask = || request(&a, &["b", "mirror", "--file", file]);
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for _ in 0..4 {
            let asked = program.request();
            program.answer(&asked["number"], asked["payload"].as_str().unwrap());
        }
        for waiting in waiting {
            let ended = waiting.join().unwrap();
            assert!(ended.code == Some(0) && ended.stdout.len() == 1 << 20, "{:?}", (ended.code, ended.stderr));
        }
    });
}

/// The line is longer than what a socket holds, so it is seen that nobody reads.
#[test]
fn a_program_that_never_reads_is_hung_up_on_and_its_callers_are_told() {
    let network = Network::new();
    let a = network.start("a");
    let _program = Program::serving(&a, &["deaf"]);
    let file = a.setup().home().join("large");
    crate::daemon::write(&file, &[b'x'; 1 << 20]);
    let ended = request(&a, &["a", "deaf", "--file", file.to_str().unwrap(), "--timeout", "1h"]);
    assert_eq!(ended.one_line(1), "kithd: deaf at a: failed: the program that served it is gone");
}

#[test]
fn a_node_that_ends_leaves_no_program_waiting() {
    let network = Network::new();
    let a = network.start("a");
    let mut program = Program::serving(&a, &["shout"]);
    assert_eq!(a.client(&["leave"]).code, Some(0));
    until("the program is hung up on", SOON, || {
        let mut line = String::new();
        match program.0.read_line(&mut line) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(line),
        }
    });
}
