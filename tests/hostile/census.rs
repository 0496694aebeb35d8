//! A member who is counted, or counts, and lies.

use std::sync::Arc;
use std::thread;

use kithd::protocol::codec::encode_frame;
use kithd::protocol::hash::Hash;
use kithd::protocol::message::{HeadMessage, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::Signature;
use kithd::protocol::testimony::{Counts, Mode, Nonce, Returns, Testimony, TestimonyBody};
use serde_json::Value;

use crate::daemon::{Daemon, Ended, Network};
use crate::evil_member::{PATIENT, Pair, counted, is_sound};
use crate::patience::{SOON, until};
use crate::report::{closed_for, refused, statuses};
use crate::stranger::{Line, Stranger, Trap};

/// What he signs of himself in this census.
fn testimony(of: &Stranger, nonce: Nonce) -> Testimony {
    let (network, id, digest) = (of.body.network, of.body.id, Hash([6; 32]));
    Arc::unwrap_or_clone(Testimony::signed(TestimonyBody { network, nonce, id, digest, live: 9 }, of).shared())
}

fn proof(testimonies: impl IntoIterator<Item = Testimony>, last: bool) -> Returns {
    Returns::Testimonies { testimonies: testimonies.into_iter().collect(), last }
}

/// A node with an honest neighbour and an evil head, who has heard the question of a census.
struct Asked {
    node: Daemon,
    neighbour: Daemon,
    trap: Trap,
    line: Line,
    nonce: Nonce,
    user: thread::JoinHandle<Value>,
}

impl Asked {
    fn new(mode: &'static str) -> Self {
        let network = Network::new();
        let trap = Trap::new(&network, "trap");
        let node = network.node("node").with(&PATIENT).connect(trap.address).start();
        let neighbour = network.node("neighbour").with(&PATIENT).connect(node.address).start();
        let mut line = trap.catch(&node);
        line.tell(&trap.stranger.welcome());
        until("the node knows both", SOON, || {
            let view = node.network();
            let up = statuses(&view).values().filter(|status| **status == "up").count();
            let edges = view["edges"].as_array().unwrap().iter();
            let linked = edges.filter(|edge| edge["tail"] == node.id.as_str()).count();
            if up == 3 && linked == 2 { Ok(()) } else { Err(view.to_string()) }
        });
        let mut asking = crate::daemon::kithd();
        asking.args(["network", mode, "--format", "json"]).arg("--socket").arg(&node.socket);
        let user = thread::spawn(move || {
            let ended = Ended::of(&mut asking);
            serde_json::from_str::<Value>(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))["census"].take()
        });
        let nonce = loop {
            match line.hear::<TailMessage>().expect("the node goes on") {
                TailMessage::Census { nonce, .. } => break nonce,
                _ => continue,
            }
        };
        Self { node, neighbour, trap, line, nonce, user }
    }

    fn say(&mut self, nonce: Nonce, returns: Returns) {
        self.line.tell(&HeadMessage::Census { nonce, returns });
    }

    /// The node ends the edge for that reason; the census counts the honest, and names him missing.
    fn found_out(mut self, reason: Reason) {
        assert_eq!(self.line.abandoned(), Some(reason));
        let census = self.user.join().unwrap();
        assert_eq!((&census["answered"], &census["unanimous"]), (&2.into(), &false.into()), "{census}");
        assert_eq!(census["missing"], serde_json::json!([self.trap.stranger.id()]), "{census}");
        closed_for(&self.node, Some(&self.trap.stranger.id()), &reason.to_string());
        counted(&self.node, &reason.to_string(), 1);
        is_sound(&self.node);
        is_sound(&self.neighbour);
    }
}

/// Nobody says for another that he is there, nor says again what was signed in another census.
#[test]
fn forged_and_replayed_testimonies_end_the_edge_of_their_bearer() {
    type Forgery = fn(&Asked) -> Testimony;
    let forgeries: [(&str, Forgery); 4] = [
        ("one of another census", |asked| testimony(&asked.trap.stranger, Nonce([3; 16]))),
        ("one in the neighbour's name", |asked| {
            let id = asked.neighbour.id.parse().unwrap();
            Testimony { id, ..testimony(&asked.trap.stranger, asked.nonce) }
        }),
        ("another digest than was signed", |asked| Testimony {
            digest: Hash([7; 32]),
            ..testimony(&asked.trap.stranger, asked.nonce)
        }),
        ("no signature at all", |asked| Testimony {
            signature: Signature([0; 32], [0; 32]),
            ..testimony(&asked.trap.stranger, asked.nonce)
        }),
    ];
    for (what, forge) in forgeries {
        println!("{what}");
        let mut asked = Asked::new("--prove");
        let forged = forge(&asked);
        asked.say(asked.nonce, proof([forged], true));
        asked.found_out(Reason::BadSignature);
    }
}

#[test]
fn answers_that_nobody_asked_for_or_that_have_no_end_end_the_edge() {
    type Answer = fn(&Asked) -> (Nonce, Returns);
    let answers: [(&str, &'static str, Answer); 4] = [
        ("an answer to another census", "--prove", |_| (Nonce([3; 16]), Returns::Counted)),
        ("numbers for a proof", "--prove", |asked| {
            (asked.nonce, Returns::Counts { counts: Counts::default(), last: true })
        }),
        ("a proof for numbers", "--census", |asked| {
            (asked.nonce, proof([testimony(&asked.trap.stranger, asked.nonce)], true))
        }),
        ("a part without anything", "--prove", |asked| (asked.nonce, proof([], false))),
    ];
    for (what, mode, answer) in answers {
        println!("{what}");
        let mut asked = Asked::new(mode);
        let (nonce, returns) = answer(&asked);
        asked.say(nonce, returns);
        asked.found_out(Reason::Unexpected);
    }
    // Parts without end: each signed, and of somebody else; and one said again and again.
    let mut asked = Asked::new("--prove");
    let crowd = (0..40).map(|number| Stranger::new_in(asked.trap.stranger.body.network, &format!("made-up-{number}")));
    let crowd: Vec<Testimony> = crowd.map(|one| testimony(&one, asked.nonce)).collect();
    let nonce = asked.nonce;
    for _ in 0..10 {
        asked.say(nonce, proof(crowd.clone(), false));
    }
    let own = testimony(&asked.trap.stranger, nonce);
    asked.say(nonce, proof([own.clone()], false));
    asked.say(nonce, proof([own], false));
    assert_eq!(asked.line.abandoned(), Some(Reason::Unexpected));
    let census = asked.user.join().unwrap();
    // He has signed that he is there, which nobody can take from him; those he made up are counted nowhere.
    assert_eq!((&census["answered"], &census["strangers"]), (&3.into(), &0.into()), "{census}");
    assert_eq!((&census["unanimous"], &census["differing"][0]), (&false.into(), &asked.trap.stranger.id().into()));
    is_sound(&asked.node);
}

/// Who floods gets his twelve a minute and then refusals, and who goes on loses the edge; users of the node have theirs.
#[test]
fn a_flood_of_censuses_is_refused_and_then_closed() {
    let pair = Pair::new(&PATIENT);
    let flooder = Stranger::new(&pair.network, "flooder");
    let mut line = flooder.dial(&pair.a);
    let (mut taken, mut refusals) = (0, 0);
    for number in 0..30u8 {
        line.tell(&TailMessage::Census { nonce: Nonce([number; 16]), mode: Mode::Count, remaining_ms: u32::MAX });
        loop {
            match line.hear::<HeadMessage>().expect("an answer") {
                HeadMessage::Census { nonce, returns } => {
                    assert_eq!(nonce, Nonce([number; 16]));
                    match returns {
                        Returns::Counts { last: true, .. } => taken += 1,
                        Returns::Refused => refusals += 1,
                        other => panic!("{other:?}"),
                    }
                    break;
                }
                HeadMessage::Goodbye(reason) => panic!("{reason}"),
                _ => continue,
            }
        }
    }
    // A machine that is so slow that a minute goes by takes a few more.
    assert!((12..=18).contains(&taken) && refusals == 30 - taken, "{taken} taken, {refusals} refused");
    // Its user's are its own: it answers, and says that the neighbour does not, who has had enough of them too.
    let census = pair.a.json(&["network", "--census"])["census"].take();
    assert!(census["answered"].as_u64() >= Some(1), "{census}");
    let before = refused(&pair.a, "unexpected");
    let flood: Vec<u8> = (0..200u16)
        .flat_map(|number| {
            let mut nonce = [0xff; 16];
            nonce[..2].copy_from_slice(&number.to_le_bytes());
            encode_frame(&TailMessage::Census { nonce: Nonce(nonce), mode: Mode::Prove, remaining_ms: 5000 })
        })
        .collect();
    line.say(&flood);
    line.ends_for(&pair.a, &flooder, Reason::Unexpected, before);
    pair.is_unharmed();
}
