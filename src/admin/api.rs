//! The language of the admin socket: one JSON object a line in, one a line out.
//!
//! ```text
//! {"verb": "peers", "args": {"all": true}}
//! {"ok": {"schema": 1, "peers": []}}
//!
//! {"verb": "disconnect", "args": {"target": "gamma"}}
//! {"error": {"code": "unknown-node", "exit": 1, "message": "no node is called gamma"}}
//! ```
//!
//! Verbs are the command line's, arguments its long flags in snake case, and `ok` holds what `--format json` prints; `load` is
//! for `kithd bench --connect`. Lines of one client are answered in their order, one at a time.
//!
//! # Serving requests
//!
//! A program that serves requests asks for it by name, and is then sent each request as it comes, between the answers to
//! whatever else it asks on this connection:
//!
//! ```text
//! {"verb": "serve", "args": {"service": "shout"}}
//! {"ok": {"schema": 1, "service": "shout"}}
//! {"request": {"number": 1, "service": "shout", "caller": {"id": "58fc…", "label": "alpha"}, "payload": "aGVsbG8=", "remaining_ms": 9998}}
//!
//! {"verb": "answer", "args": {"number": 1, "payload": "SEVMTE8="}}
//! {"verb": "answer", "args": {"number": 2, "error": "nothing to shout"}}
//! ```
//!
//! Payloads are base64, with padding; none is an empty one. Numbers count the requests of one connection from 1. Answers may
//! come in any order, and nothing comes back for them, unless they cannot be understood; one that comes too late, or a
//! second time, is ignored. A client may serve several names. Who is gone serves none: the names are free again, and what it
//! had not answered fails at once.
//!
//! A client has at most 64 requests, further ones are refused as `overloaded`. It is sent the next one while what it has not
//! answered comes to less than 64 KiB, so that a program that reads nothing while it works is not taken for one that hangs.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::args::{Args, shown};
use super::load::LoadCall;
use super::payload::Payload;
use crate::protocol::escape::escaped_json;

/// A call that has been understood. It serialises to the line that asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case")]
pub enum Verb {
    /// This node's report.
    Status,
    /// Its connections.
    Peers {
        /// Closed ones too, and why.
        all: bool,
    },
    /// The whole network as this node knows it.
    Network {
        /// And who answers when it is counted.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        census: bool,
        /// The same, signed by each.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        prove: bool,
    },
    /// Dial now, and answer when it is known how that ended.
    Connect {
        /// `ip:port` or `name:port`.
        address: String,
    },
    /// Close connections.
    Disconnect {
        /// A peer's number, or a node's label, id or unique beginning of its id.
        target: String,
    },
    /// Leave the network gracefully and end.
    Leave,
    /// Drop a node that is down or has left, here and everywhere.
    Forget {
        /// Its label, id or unique beginning of its id.
        node: String,
    },
    /// Keep a node or addresses out.
    Ban {
        /// A node's label, id or unique beginning of its id; an address, or a range of addresses.
        target: String,
        /// For how long, as `1h`; a day if nothing is said.
        #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
        span: Option<String>,
        /// Why, for whoever reads the list.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Take a ban back.
    Unban {
        /// As for a ban.
        target: String,
    },
    /// Who is kept out.
    Bans,
    /// Who this node is.
    Identity,
    /// The recorded life of a node or an address, and what happens next.
    Why {
        /// A node's label, id or unique beginning of its id; or an address, as `ip:port` or `name:port`.
        target: String,
    },
    /// What this node's user says about it, after some changes if there are any.
    Tag {
        /// To set, as `role=db`.
        tags: Vec<String>,
        /// To remove, by their keys.
        remove: Vec<String>,
    },
    /// Ask a service of a node.
    Request {
        /// The node's label, id or unique beginning of its id.
        node: String,
        /// The service's name.
        service: String,
        /// What is sent along.
        #[serde(skip_serializing_if = "Payload::is_empty")]
        payload: Payload,
        /// How long it may take, as `5s`; `requests.timeout` if nothing is said.
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<String>,
    },
    /// Round trips to a node, one after the other.
    Ping {
        /// Its label, id or unique beginning of its id.
        node: String,
        /// How many; five if nothing is said.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// How long each may take, as `1s`; two seconds if nothing is said.
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<String>,
    },
    /// Put a load on a node, and answer when it is over. There is one at a time, and it ends early if its client goes away.
    Load(LoadCall),
    /// From now on this client answers requests for a service.
    Serve {
        /// The service's name.
        service: String,
    },
    /// This client's answer to a request; there is no answer to it.
    Answer {
        /// Which one, as the node has numbered it.
        number: u64,
        /// What the service has to say.
        #[serde(skip_serializing_if = "Payload::is_empty")]
        payload: Payload,
        /// Why it has nothing to say.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl Verb {
    /// What a client may ask for, as it is written.
    pub const NAMES: [&str; 18] = [
        "status",
        "peers",
        "network",
        "connect",
        "disconnect",
        "ban",
        "unban",
        "bans",
        "leave",
        "forget",
        "identity",
        "tag",
        "why",
        "request",
        "ping",
        "load",
        "serve",
        "answer",
    ];

    /// Understands one line. Whatever is not exactly a call gets an error that says what would have been one.
    pub fn parse(line: &str) -> Result<Self, AdminError> {
        let Call { verb, args } = serde_json::from_str(line).map_err(|error| {
            let why = shown(&error.to_string());
            AdminError::usage(format!("a call is one JSON object with \"verb\" and perhaps \"args\": {why}"))
        })?;
        let mut args = Args::of(&verb, args);
        let parsed = match verb.as_str() {
            "status" => Self::Status,
            "peers" => Self::Peers { all: args.flag("all")? },
            "network" => Self::Network { census: args.flag("census")?, prove: args.flag("prove")? },
            "connect" => Self::Connect { address: args.text("address")? },
            "disconnect" => Self::Disconnect { target: args.text("target")? },
            "ban" => Self::Ban {
                target: args.text("target")?,
                span: args.text_if_given("for")?,
                reason: args.text_if_given("reason")?,
            },
            "unban" => Self::Unban { target: args.text("target")? },
            "bans" => Self::Bans,
            "leave" => Self::Leave,
            "forget" => Self::Forget { node: args.text("node")? },
            "identity" => Self::Identity,
            "why" => Self::Why { target: args.text("target")? },
            "tag" => Self::Tag { tags: args.texts("tags")?, remove: args.texts("remove")? },
            "request" => Self::Request {
                node: args.text("node")?,
                service: args.text("service")?,
                payload: args.payload_if_given("payload")?.unwrap_or_default(),
                timeout: args.text_if_given("timeout")?,
            },
            "ping" => Self::Ping {
                node: args.text("node")?,
                count: args.number_if_given("count")?,
                timeout: args.text_if_given("timeout")?,
            },
            "load" => Self::Load(LoadCall::of(&mut args)?),
            "serve" => Self::Serve { service: args.text("service")? },
            "answer" => match (args.number("number")?, args.payload_if_given("payload")?, args.text_if_given("error")?)
            {
                (_, Some(_), Some(_)) => return Err(AdminError::usage("answer: either \"payload\" or \"error\"")),
                (number, payload, error) => Self::Answer { number, payload: payload.unwrap_or_default(), error },
            },
            other => {
                let (other, known) = (shown(other), Self::NAMES.join(", "));
                return Err(AdminError::usage(format!("no verb is called {other:?}: there are {known}")));
            }
        };
        args.end()?;
        Ok(parsed)
    }
}

/// How a call ended, as one line of text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// What was asked for, kept as the node wrote it: its order of fields reaches the user.
    Ok(Box<RawValue>),
    /// Why not.
    Error(AdminError),
}

impl Answer {
    /// Answers with a report; one that cannot be written as JSON is an internal error, never a panic.
    pub fn ok(report: &impl Serialize) -> Self {
        match to_raw_value(report) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(AdminError::internal(format!("the answer cannot be written: {error}"))),
        }
    }

    /// Exactly one line, without its end: nothing in it breaks a line or turns its reader's screen about.
    pub fn line(&self) -> String {
        // Strings and numbers only: writing them to memory cannot fail.
        escaped_json(serde_json::to_string(self).unwrap_or_default())
    }
}

impl From<Result<Box<RawValue>, AdminError>> for Answer {
    fn from(result: Result<Box<RawValue>, AdminError>) -> Self {
        result.map_or_else(Self::Error, Self::Ok)
    }
}

/// Why there is no `ok`; the client prints the message and exits with the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    /// A word for scripts, in kebab case.
    pub code: String,
    /// The exit code of a command line that meets this error.
    pub exit: u8,
    /// A sentence for people, of one line.
    pub message: String,
    /// If the program that answers for a service has failed: the status it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// If a service has failed and has something to say: that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
}

impl AdminError {
    /// The call itself is wrong: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", 2, message)
    }

    /// The call was right and its answer is no: exit 1.
    pub fn negative(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(code, 1, message)
    }

    /// Nobody answers at the socket, or no longer: exit 3.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new("unreachable", 3, message)
    }

    /// A fault of the program: exit 70.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("internal", 70, message)
    }

    fn new(code: impl Into<String>, exit: u8, message: impl Into<String>) -> Self {
        Self { code: code.into(), exit, message: message.into(), status: None, payload: None }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

/// A line of a client before its verb is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    verb: String,
    #[serde(default)]
    args: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::load::How;
    use super::*;

    fn refusal(line: &str) -> String {
        let error = Verb::parse(line).expect_err(line);
        assert_eq!((error.code.as_str(), error.exit), ("usage", 2), "{line}");
        error.message
    }

    #[test]
    fn every_verb_survives_its_own_line() {
        let text = || "x:1\u{2028}\"".to_owned();
        let load = |manner| {
            let (node, service) = (text(), text());
            Verb::Load(LoadCall { node, service, manner, count: 7, payload: u64::MAX, span_ms: 0 })
        };
        let verbs = [
            Verb::Status,
            Verb::Peers { all: true },
            Verb::Peers { all: false },
            Verb::Network { census: false, prove: false },
            Verb::Network { census: true, prove: false },
            Verb::Network { census: false, prove: true },
            Verb::Connect { address: text() },
            Verb::Disconnect { target: text() },
            Verb::Ban { target: text(), span: None, reason: None },
            Verb::Ban { target: text(), span: Some("1h".to_owned()), reason: Some(text()) },
            Verb::Unban { target: text() },
            Verb::Bans,
            Verb::Leave,
            Verb::Forget { node: text() },
            Verb::Identity,
            Verb::Why { target: text() },
            Verb::Tag { tags: Vec::new(), remove: Vec::new() },
            Verb::Tag { tags: vec![text()], remove: vec![text(), text()] },
            Verb::Request { node: text(), service: text(), payload: Payload::default(), timeout: None },
            Verb::Request { node: text(), service: text(), payload: vec![0, 255].into(), timeout: Some(text()) },
            Verb::Ping { node: text(), count: None, timeout: None },
            Verb::Ping { node: text(), count: Some(7), timeout: Some(text()) },
            load(How::Lone),
            load(How::Window),
            load(How::Callers),
            load(How::Logical),
            Verb::Serve { service: text() },
            Verb::Answer { number: 1, payload: Payload::default(), error: None },
            Verb::Answer { number: u64::MAX, payload: vec![7].into(), error: None },
            Verb::Answer { number: 3, payload: Payload::default(), error: Some(text()) },
        ];
        for verb in verbs {
            assert_eq!(Verb::parse(&serde_json::to_string(&verb).unwrap()), Ok(verb));
        }
        assert_eq!(Verb::parse(r#" {"verb": "peers"} "#), Ok(Verb::Peers { all: false }));
        assert_eq!(Verb::parse(r#"{"args": {}, "verb": "leave"}"#), Ok(Verb::Leave));
    }

    #[test]
    fn refusals_name_what_is_known() {
        assert_eq!(
            refusal(r#"{"verb": "pears"}"#),
            "no verb is called \"pears\": there are status, peers, network, connect, disconnect, ban, unban, bans, leave, forget, identity, tag, why, request, ping, load, serve, answer"
        );
        assert_eq!(refusal(r#"{"verb":"peers","args":{"al":true}}"#), "peers has no argument \"al\": all");
        assert_eq!(refusal(r#"{"verb":"leave","args":{"now":1}}"#), "leave has no argument \"now\": it takes none");
        assert_eq!(refusal(r#"{"verb":"peers","args":{"all":1}}"#), "peers: the argument \"all\" is true or false");
        assert_eq!(
            refusal(r#"{"verb":"ban","args":{"target":"a","for":60}}"#),
            "ban: the argument \"for\" is a string"
        );
        assert_eq!(
            refusal(r#"{"verb":"tag","args":{"tags":"a=b"}}"#),
            "tag: the argument \"tags\" is a list of strings"
        );
        assert_eq!(
            refusal(r#"{"verb":"connect"}"#),
            "connect: the argument \"address\" is a string, and has to be given"
        );
        let request = |args: &str| refusal(&format!(r#"{{"verb":"answer","args":{args}}}"#));
        assert_eq!(request("{}"), "answer: the argument \"number\" is a whole number, and has to be given");
        assert_eq!(request(r#"{"number":-1}"#), "answer: the argument \"number\" is a whole number");
        assert_eq!(request(r#"{"number":1,"payload":"","error":"x"}"#), "answer: either \"payload\" or \"error\"");
        let padding = request(r#"{"number":1,"payload":"aGk"}"#);
        assert!(padding.starts_with("answer: the argument \"payload\" is no base64 with padding"), "{padding}");
        assert_eq!(
            refusal(r#"{"verb":"load","args":{"node":"a","service":"b","manner":"fast"}}"#),
            "load: the argument \"manner\" is lone, window, callers or logical"
        );
        for line in
            ["", "{", "[]", "7", "null", r#"{"verb":1}"#, r#"{"verb":"leave","arg":{}}"#, r#"{"verb":"leave"}{}"#]
        {
            assert!(refusal(line).starts_with("a call is one JSON object"), "{line}");
        }
    }

    #[test]
    fn a_refusal_repeats_little_of_what_it_refuses() {
        let long = "ä".repeat(100_000);
        for line in [
            format!(r#"{{"verb":"{long}"}}"#),
            format!(r#"{{"verb":"leave","{long}":1}}"#),
            format!(r#"{{"verb":"leave","args":{{"{long}":1}}}}"#),
            "[".repeat(100_000),
        ] {
            assert!(refusal(&line).len() < 600);
        }
    }

    #[test]
    fn answers_keep_the_order_of_fields_and_hide_nothing() {
        let raw =
            RawValue::from_string("{\"b\":\r\n\t1.50, \"a\": \"\u{202e}\u{7f}\u{85}\u{2028}é\"}".to_owned()).unwrap();
        assert_eq!(Answer::Ok(raw).line(), "{\"ok\":{\"b\":   1.50, \"a\": \"\\u202e\\u007f\\u0085\\u2028é\"}}");
        let error = AdminError::negative("unknown-node", "no\nsuch\u{1b}[31m node");
        assert_eq!(
            Answer::Error(error).line(),
            r#"{"error":{"code":"unknown-node","exit":1,"message":"no\nsuch\u001b[31m node"}}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_the_parser(line in ".*", verb in "[a-z]{1,10}", name in ".{0,6}", value in ".{0,9}") {
            let _ = Verb::parse(&line);
            let _ = Verb::parse(&format!(r#"{{"verb":"{verb}","args":{{"{name}":{value}}}}}"#));
        }

        #[test]
        fn every_answer_is_one_line_and_says_the_same(message in any::<String>(), key in any::<String>(), ok in any::<bool>()) {
            let answer = if ok {
                Answer::ok(&serde_json::json!({ key.clone(): message }))
            } else {
                Answer::Error(AdminError::negative(key.clone(), message.clone()))
            };
            let line = answer.line();
            prop_assert!(!line.contains(|c: char| c.is_control() || crate::protocol::escape::misleads(c)), "{line:?}");
            match serde_json::from_str(&line).unwrap() {
                Answer::Ok(raw) => {
                    let value: Value = serde_json::from_str(raw.get()).unwrap();
                    prop_assert_eq!(value, serde_json::json!({ key: message }));
                }
                Answer::Error(error) => prop_assert_eq!((error.code, error.message), (key, message)),
            }
        }
    }
}
