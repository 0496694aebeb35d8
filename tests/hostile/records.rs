//! Cases about what nodes say of themselves and of each other, and about whom that makes a node dial.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use kithd::protocol::codec::encode_frame;
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, News, Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{Item, NetworkId, Reach, Record, Signer, Stage, Witness, WitnessBody};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Network, write};
use crate::evil_member::{
    PATIENT, Pair, counted, crowd, dial_from, dropped, forged, framed, is_sound, item, memory, nobody_is_refused_for,
    push,
};
use crate::patience::{SOON, throughout, until};
use crate::report::{closed_for, refused, rows_of};
use crate::stranger::{Line, Stranger, Trap, wall_ms};

/// What a node shows of another, or nothing.
fn row_of(node: &Daemon, id: &str) -> Option<Value> {
    node.network()["nodes"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned()
}

/// There is no key that revokes others: whoever has stolen a node's key is kept out by a ban, and by a list of those who
/// may come in.
#[test]
fn case_32_a_stolen_key_is_kept_out_by_a_ban_or_by_the_list() {
    let network = Network::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let a = network.node("a").with(&PATIENT).with(&["--config", file.path().to_str().unwrap()]).start();
    let pair = Pair::of(network, a);
    let thief = Stranger::new(&pair.network, "stolen");

    let mut stolen = thief.dial(&pair.a);
    assert_eq!(pair.a.client(&["ban", &thief.id(), "--reason", "stolen"]).code, Some(0));
    assert_eq!(stolen.dismissed(), Some(Reason::Banned));
    // The node may have been about to look at the thief's address, which ends as well.
    closed_for(&pair.a, Some(&thief.id()), "banned");
    counted(&pair.a, "banned", 1);
    let comes_back = |reason| {
        let before = refused(&pair.a, &format!("{reason}"));
        let mut line = Line::to(pair.a.address);
        line.secure(&thief, Purpose::Overlay);
        line.tell(&thief.hello(&pair.a));
        line.turned_away(&pair.a, reason, before);
    };
    comes_back(Reason::Banned);
    assert_eq!(pair.a.client(&["unban", &thief.id()]).code, Some(0));

    let mut stolen = thief.dial(&pair.a);
    write(file.path(), format!("[network]\nallow = [\"{}\"]\n", pair.b.id).as_bytes());
    pair.a.signal(Signal::HUP);
    assert_eq!(stolen.dismissed(), Some(Reason::NotAllowed));
    closed_for(&pair.a, Some(&thief.id()), "not-allowed");
    counted(&pair.a, "not-allowed", 1);
    comes_back(Reason::NotAllowed);
    pair.is_unharmed();
}

/// Whoever bears a forged record has broken the protocol, whoever it names: five times, and he is not heard for minutes. The
/// one in whose name it was forged pays nothing.
#[test]
fn case_33_a_forged_record_ends_the_edge_of_its_bearer_and_five_silence_him() {
    let pair = Pair::new(&PATIENT);
    let (victim, bearer) = (Stranger::new(&pair.network, "victim"), Stranger::new(&pair.network, "bearer"));
    for before in 0..5 {
        let mut line = bearer.dial(&pair.a);
        line.tell(&push([item(forged(&victim))]));
        line.ends_for(&pair.a, &bearer, Reason::BadSignature, before);
    }
    assert_eq!(row_of(&pair.a, &victim.id()), None, "what was forged is taken from nobody");
    let mut line = Line::to(pair.a.address);
    line.secure(&bearer, Purpose::Overlay);
    line.tell(&bearer.hello(&pair.a));
    line.turned_away(&pair.a, Reason::Misbehaved, 0);
    let mut line = victim.dial(&pair.a);
    line.converse(1).unwrap();
    pair.is_unharmed();
}

/// The network is in what is signed: neither as it is nor renamed does a record pass from one network to another.
#[test]
fn case_34_what_was_signed_for_another_network_ends_the_edge() {
    let pair = Pair::new(&PATIENT);
    let elsewhere = Stranger::new(&Network::new(), "elsewhere");
    let foreign = elsewhere.record();
    let mut renamed = Record::clone(&foreign);
    renamed.body.network = NetworkId::of(pair.network.name());
    let body = WitnessBody {
        network: elsewhere.body.network,
        subject: elsewhere.body.id.short(),
        record: foreign.hash().short(),
        stage: Stage::Down,
        need: 1,
        observer: elsewhere.body.id,
    };
    let witness = Item::Witness(Witness::signed(body, &elsewhere).shared());
    let cases = [
        ("a record", item(foreign), Reason::OtherNetwork),
        ("an accusation", witness, Reason::OtherNetwork),
        ("a record with this network's name put in", item(renamed.into()), Reason::BadSignature),
    ];
    for (number, (what, foreign, reason)) in cases.into_iter().enumerate() {
        println!("{what}");
        let bearer = Stranger::new(&pair.network, &format!("bearer-{number}"));
        let before = refused(&pair.a, &reason.to_string());
        let mut line = bearer.dial(&pair.a);
        line.tell(&push([foreign]));
        line.ends_for(&pair.a, &bearer, reason, before);
    }
    assert_eq!(row_of(&pair.a, &elsewhere.id()), None);
    pair.is_unharmed();
}

/// Old records race new ones through any network: a few cost nothing, a flood of them the connection.
#[test]
fn case_35_an_old_record_is_ignored_and_a_flood_of_them_is_closed() {
    let pair = Pair::new(&[&PATIENT[..], &["--limits-max-nodes", "64"]].concat());
    let (mut author, bearer) = (Stranger::new(&pair.network, "author"), Stranger::new(&pair.network, "bearer"));
    let old = author.record();
    author.body.version += 1;
    let mut line = bearer.dial(&pair.a);
    line.tell(&push([item(author.record())]));
    line.tell(&push([item(old.clone())]));
    line.converse(1).unwrap();
    dropped(&pair.a, "stale", 1);
    assert_eq!(row_of(&pair.a, &author.id()).unwrap()["version"], author.body.version);

    let many = push(vec![item(old); 60]);
    let said = (2..2000).find_map(|_| line.bring(&many).err());
    assert_eq!(said, Some(Some(Reason::Stale)));
    closed_for(&pair.a, Some(&bearer.id()), "stale");
    assert_eq!(refused(&pair.a, "stale"), 1);
    assert_eq!(row_of(&pair.a, &author.id()).unwrap()["version"], author.body.version);
    pair.is_unharmed();
}

/// Two records of one version: whichever comes first, all keep the same one, and the liar is named.
#[test]
fn case_35_equivocation_is_resolved_alike_by_all_counted_and_reported() {
    let pair = Pair::new(&PATIENT);
    let mut author = Stranger::new(&pair.network, "two-faced");
    let faces = ["one", "other"].map(|face| {
        author.body.tags = [("face".to_owned(), face.to_owned())].into_iter().collect();
        item(author.record())
    });
    let (here, there) = (Stranger::new(&pair.network, "here"), Stranger::new(&pair.network, "there"));
    let mut lines = [here.dial(&pair.a), there.dial(&pair.b)];
    // To each node at once another face, then the second one.
    for order in [[0, 1], [1, 0]] {
        for (line, face) in lines.iter_mut().zip(order) {
            line.tell(&push([faces[face].clone()]));
        }
    }
    for (node, line) in [&pair.a, &pair.b].into_iter().zip(&mut lines) {
        line.converse(1).unwrap();
        dropped(node, "equivocation", 1);
        let warnings = node.status()["warnings"].to_string();
        assert!(warnings.contains("different records") && warnings.contains("two-faced"), "{warnings}");
    }
    pair.is_unharmed();
    let [one, other] = [&pair.a, &pair.b].map(|node| row_of(node, &author.id()).unwrap()["tags"].clone());
    assert_eq!(one, other);
}

/// Versions are not held against the future, since only the subject can sign one: whoever uses them up has nothing more to
/// say and harms nobody else.
#[test]
fn case_36_the_last_version_there_is_harms_its_author_only() {
    let pair = Pair::new(&PATIENT);
    let mut last = Stranger::new(&pair.network, "last-word");
    last.body.version = u64::MAX;
    let mut line = last.dial(&pair.a);
    line.converse(1).unwrap();
    assert_eq!(row_of(&pair.a, &last.id()).unwrap()["version"], u64::MAX);
    // Nobody can do that to somebody else.
    let bearer = Stranger::new(&pair.network, "bearer");
    let own = until("a look shows the other node's record", SOON, || match looked_at(&pair.b, &bearer) {
        Some(HeadMessage::Welcome { record, .. }) => Ok(record),
        other => Err(format!("{other:?}")),
    });
    let mut raised = Record::clone(&own);
    raised.body.version = u64::MAX;
    raised.signature = bearer.sign(b"what is not the bearer's to sign");
    let mut line = bearer.dial(&pair.a);
    line.tell(&push([item(raised.into())]));
    line.ends_for(&pair.a, &bearer, Reason::BadSignature, 0);
    assert_eq!(row_of(&pair.a, &pair.b.id).unwrap()["version"], own.body.version);
    pair.is_unharmed();
}

/// What a node answers to somebody who only looks whether it lives.
fn looked_at(node: &Daemon, by: &Stranger) -> Option<HeadMessage> {
    let mut line = Line::to(node.address);
    line.secure(by, Purpose::Probe);
    let (record, clock_ms, dialled) = (by.record(), wall_ms(), node.address);
    line.tell(&TailMessage::Hello { record, clock_ms, purpose: Purpose::Probe, dialled });
    line.hear()
}

/// A head that has no room, and names these addresses instead.
fn is_busy(trap: &Trap, node: &Daemon, hints: &[SocketAddr]) {
    let mut line = trap.catch(node);
    let (record, hints) = (trap.stranger.record(), hints.iter().copied().collect());
    line.tell(&HeadMessage::Busy { record, hints });
    line.rest();
}

fn traps(network: &Network, count: usize) -> Vec<Trap> {
    (0..count).map(|number| Trap::new(network, &format!("trap-{number}"))).collect()
}

fn dialling(network: &Network, flags: &[&str], traps: &[Trap]) -> Daemon {
    let setup = network.node("node").with(&PATIENT).with(flags);
    traps.iter().fold(setup, |setup, trap| setup.connect(trap.address)).start()
}

fn known_addresses(node: &Daemon) -> u64 {
    node.status()["peers"]["known_addresses"].as_u64().unwrap()
}

/// Addresses are bounded in each message, by the network that told of them and in all; members by the size of the view.
#[test]
fn case_37_a_flood_of_made_up_addresses_and_members_is_bounded() {
    let network = Network::new();
    let (told, wordy) = (traps(&network, 4), Trap::new(&network, "wordy"));
    let bounds = ["--limits-max-addresses", "40", "--limits-max-addresses-per-source", "20"];
    let node = dialling(&network, &bounds, &told);
    let made_up =
        |number: usize| -> SocketAddr { ([127, 9, (number / 200) as u8, (number % 200) as u8 + 1], 9).into() };
    for (number, trap) in told.iter().enumerate() {
        is_busy(trap, &node, &(0..16).map(|hint| made_up(number * 16 + hint)).collect::<Vec<_>>());
    }
    let known = known_addresses(&node);
    // All come from one network, so the bound for one holds: of 64 no more than 20, beside the configured ones.
    assert!((5..=24).contains(&known), "{known}");
    println!("{known} of 68 addresses are known");

    // More than a message may name is no message.
    let hints: List<SocketAddr, 16> = (100..116).map(made_up).collect();
    let frame = encode_frame(&HeadMessage::Busy { record: wordy.stranger.record(), hints });
    let (body, hints) = frame[4..].split_at(frame.len() - 4 - 16 * 10 - 8);
    let more = [body, &17u64.to_le_bytes(), &hints[8..], &hints[hints.len() - 10..]].concat();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| node.client(&["connect", &wordy.address.to_string()]));
        let mut line = wordy.catch(&node);
        line.say(&framed(&more));
        assert_eq!(line.abandoned(), Some(Reason::Malformed));
        assert!(asked.join().unwrap().one_line(1).contains("malformed"));
    });
    counted(&node, "malformed", 1);
    assert!(known_addresses(&node) <= known + 1);
    is_sound(&node);
}

/// The same with records, which any member can make up by the thousand.
#[test]
fn case_37_a_flood_of_made_up_members_fills_no_more_than_the_view() {
    const MOST: u64 = 64;
    /// A made-up member costs about a kilobyte; what the checks leave in the allocator's hands is more than that.
    const GROWTH: u64 = 16 << 20;
    let pair = Pair::new(&[&PATIENT[..], &["--limits-max-nodes", "64"]].concat());
    let before = memory(&pair.a, "RssAnon");
    let bearer = Stranger::new(&pair.network, "bearer");
    let mut line = bearer.dial(&pair.a);
    for some in crowd(&pair.network, 2000).chunks(50) {
        line.bring(&push(some.iter().map(|one| item(one.record())))).unwrap();
    }
    dropped(&pair.a, "overloaded", 2000 - MOST);
    let view = pair.a.status()["network_view"].clone();
    assert_eq!(view["nodes"], MOST, "{view}");
    let grown = memory(&pair.a, "RssAnon").saturating_sub(before);
    println!("2,000 members made up: {} KiB more", grown >> 10);
    assert!(grown < GROWTH, "{grown} bytes more");
    pair.is_unharmed();
}

/// Somebody who listens and is told of, though no node is there.
struct Victim {
    listener: TcpListener,
    address: SocketAddr,
}

impl Victim {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// How often he was dialled since he last looked.
    fn dials(&self) -> usize {
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

/// What leads nowhere or to everybody is not even kept; what leads to a victim is dialled once a minute, however many tell
/// of it.
#[test]
fn case_38_nobody_aims_a_nodes_dials_by_telling_of_addresses() {
    let (network, victim) = (Network::new(), Victim::new());
    let told = traps(&network, 4);
    let node = dialling(&network, &[], &told);
    let unfit = [
        "0.0.0.0:7100",
        "127.0.0.1:0",
        "224.0.0.1:7100",
        "255.255.255.255:7100",
        "169.254.169.254:80",
        "[::]:7100",
        "[ff02::1]:7100",
        "[fe80::1]:7100",
        "[::ffff:0.0.0.0]:7100",
        "[::ffff:169.254.169.254]:80",
    ];
    let hints: Vec<SocketAddr> = unfit.iter().map(|text| text.parse().unwrap()).chain([victim.address]).collect();
    for trap in &told {
        is_busy(trap, &node, &hints);
    }
    let mut dials = 0;
    until("the victim is dialled, as any place one is told of", SOON, || {
        dials += victim.dials();
        if dials > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    throughout("and is left alone then", Duration::from_secs(4), || {
        dials += victim.dials();
        if dials == 1 { Ok(()) } else { Err(format!("{dials} dials")) }
    });
    assert_eq!(known_addresses(&node), 5, "the traps and the victim");
    is_sound(&node);
}

/// Signed records may lie about their address as well: their subjects are many, the address is one.
#[test]
fn case_38_nobody_aims_a_nodes_dials_by_records() {
    let (pair, victim) = (Pair::new(&PATIENT), Victim::new());
    let bearer = Stranger::new(&pair.network, "bearer");
    let mut line = bearer.dial(&pair.a);
    let aimed = crowd(&pair.network, 50).into_iter().map(|mut one| {
        one.body.address = victim.address;
        one.body.reach = Reach::Proven;
        item(one.record())
    });
    let start = Instant::now();
    line.tell(&push(aimed));
    line.converse(1).unwrap();
    let mut dials = 0;
    until("the victim is dialled", SOON, || {
        dials += victim.dials();
        if dials > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    while start.elapsed() < Duration::from_secs(5) {
        dials += victim.dials();
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{dials} dials in {:.1} s at what 50 records name, from two nodes", start.elapsed().as_secs_f64());
    // Each of the two nodes that hear of it doubles its pause: 1 s, 2 s, 4 s ..., shortened by a quarter at most.
    assert!(dials <= 10, "{dials} dials");
    pair.is_unharmed();
}

/// What is known is passed on to nobody, and nothing to whom it came from.
#[test]
fn case_39_an_echo_is_not_amplified() {
    let pair = Pair::new(&PATIENT);
    let (author, bearer) = (Stranger::new(&pair.network, "author"), Stranger::new(&pair.network, "bearer"));
    let mut line = bearer.dial(&pair.a);
    // Two requests for news are held open: whatever the node would send back, comes at once.
    line.tell(&TailMessage::Watch);
    line.tell(&TailMessage::Watch);
    let news = push(vec![item(author.record()); 50]);
    let mut heard = line.bring(&news).unwrap();
    until("the other node knows", SOON, || row_of(&pair.b, &author.id()).ok_or_else(|| "not yet".to_owned()));
    let sent = |node: &Daemon| -> u64 {
        let rows = pair.a.peers();
        rows_of(&rows, Some(&node.id)).iter().map(|row| row["bytes_out"].as_u64().unwrap()).sum()
    };
    let (before, start) = (sent(&pair.b), Instant::now());
    for _ in 2..60 {
        heard.extend(line.bring(&news).unwrap());
    }
    let (passed_on, took) = (sent(&pair.b) - before, start.elapsed().as_secs_f64());
    println!("of {} KiB {passed_on} bytes are passed on within {took:.1} s", (58 * encode_frame(&news).len()) >> 10);
    // Heartbeats go on: some hundred bytes a second on each edge.
    assert!(passed_on < 8192 + (took * 4096.0) as u64, "{passed_on} bytes in {took} s");
    let echoed = heard.iter().any(|message| match message {
        HeadMessage::News(News { items, .. }) | HeadMessage::Ack(News { items, .. }) => {
            items.iter().any(|item| matches!(item, Item::Record(record) if record.body.id == author.body.id))
        }
        _ => false,
    });
    assert!(!echoed, "{heard:?}");
    pair.is_unharmed();
}

/// A node comes back into a network of newcomers: it finds those it knows for long, and keeps an edge to two of them
/// whatever else is offered.
#[test]
fn case_40_newcomers_alone_do_not_surround_a_node() {
    let network = Network::new();
    let friends = [network.start("friend-0"), network.start("friend-1")];
    let first = network.node("newcomer-0").connect(friends[0].address).connect(friends[1].address).start();
    let newcomers: Vec<Daemon> =
        (1..4).map(|number| network.node(&format!("newcomer-{number}")).connect(first.address).start()).collect();
    // Two edges in all, if there were no more reason for one than for another.
    let mut node = network.node("node").with(&["--discovery-out-degree", "2"]).start();
    node.kill();
    let hours_ago = wall_ms() - 2 * 3_600_000;
    let known = |of: &Daemon, since: u64| json!({"address": of.address.to_string(), "node": of.id, "since": since});
    let addresses: Vec<Value> = friends.iter().map(|friend| known(friend, hours_ago)).collect();
    let recent = newcomers.iter().chain([&first]).map(|newcomer| known(newcomer, wall_ms()));
    let addresses: Vec<Value> = addresses.into_iter().chain(recent).collect();
    let kept = node.setup().state_dir().join("known.json");
    write(&kept, json!({"version": 1, "addresses": addresses}).to_string().as_bytes());
    node.start_again();

    let held = || {
        let rows = node.peers();
        let heads = rows.iter().filter(|row| row["direction"] == "outgoing" && row["state"] == "established");
        let heads: BTreeSet<String> = heads.filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect();
        match friends.iter().all(|friend| heads.contains(&friend.id)) {
            true => Ok(()),
            false => Err(format!("edges to {heads:?}")),
        }
    };
    until("it has edges to both whom it knows for long", SOON, held);
    until("and knows all the others", SOON, || {
        let up = node.status()["network_view"]["up"].clone();
        if up == 7 { Ok(()) } else { Err(up.to_string()) }
    });
    throughout("it keeps them", Duration::from_secs(3), held);
    is_sound(&node);
}

/// Every place taken by one network: whoever comes from elsewhere gets one of theirs, and who served longest stays.
#[test]
fn case_40_whoever_takes_all_places_pays_with_his_own() {
    let bounds = ["--limits-max-incoming", "20", "--discovery-accept", "20", "--limits-exempt-loopback", "false"];
    let pair = Pair::new(&[&PATIENT[..], &bounds].concat());
    let ring = |stranger: &Stranger, from: u8| {
        let mut line = dial_from(Ipv4Addr::new(127, 0, from, 1), pair.a.address);
        line.secure(stranger, Purpose::Ring);
        let (record, clock_ms, dialled) = (stranger.record(), wall_ms(), pair.a.address);
        line.tell(&TailMessage::Hello { record, clock_ms, purpose: Purpose::Ring, dialled });
        (line.hear::<HeadMessage>(), line)
    };
    let attackers = crowd(&pair.network, 19);
    let mut lines: Vec<Line> = Vec::new();
    for attacker in &attackers {
        let (answer, line) = ring(attacker, 7);
        assert!(matches!(answer, Some(HeadMessage::Welcome { .. })), "{answer:?}");
        lines.push(line);
    }
    let (answer, _) = ring(&Stranger::new(&pair.network, "one-more"), 7);
    assert!(matches!(answer, Some(HeadMessage::Goodbye(Reason::TooManyPeers))), "{answer:?}");
    counted(&pair.a, "too-many-peers", 1);

    let honest = Stranger::new(&pair.network, "honest");
    let (answer, mut line) = ring(&honest, 8);
    assert!(matches!(answer, Some(HeadMessage::Welcome { .. })), "{answer:?}");
    // The youngest of the largest network.
    let (gone, evicted) = (attackers.last().unwrap(), lines.pop().unwrap());
    evicted.ends_for(&pair.a, gone, Reason::Evicted, 0);
    line.converse(1).unwrap();
    nobody_is_refused_for(&pair.a, "evicted", Duration::from_secs(1));
    pair.is_unharmed();
}
