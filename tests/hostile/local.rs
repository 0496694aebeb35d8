//! Cases about the machine itself: its other users, its files, what is printed on it, and what it is configured to do.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use kithd::protocol::codec::MAX_FRAME_BEFORE_HELLO;
use kithd::protocol::escape::{escaped, escaped_json, misleads};
use kithd::protocol::message::{Purpose, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::Item;
use kithd::secure::network_key::NetworkKey;
use rustix::process::Signal;

use crate::daemon::{Daemon, Ended, Network, kithd, write};
use crate::evil_member::{PATIENT, Pair, counted, is_sound, item, memory, mislabelled, push};
use crate::patience::{SOON, until};
use crate::report::{agreed, refused};
use crate::stranger::{Line, Stranger, wall_ms};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A client verb as another user of this machine.
fn as_another(node: &Daemon) -> Ended {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    Ended::of(command.arg(kithd().get_program()).args(["status", "--socket"]).arg(&node.socket))
}

/// Whatever mask the node was started with. Another user does not even find the socket; and if somebody opened all doors
/// to him, the node itself asks the system who he is.
#[test]
fn case_58_the_admin_socket_is_its_users_alone() {
    let a = Network::new().node("a").under("umask 0 && exec").start();
    let directory = a.setup().state_dir();
    assert_eq!((mode(&directory), mode(&a.socket)), (0o700, 0o600));
    for file in ["identity.key", "lock"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
    let mut asked = Command::new("setpriv");
    asked.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(kithd().get_program()).arg("--version");
    if !asked.output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: only root can show what another user meets");
        return;
    }
    as_another(&a).one_line(3);
    set_mode(a.setup().home(), 0o755);
    set_mode(&directory, 0o755);
    set_mode(&a.socket, 0o666);
    let refused = as_another(&a);
    println!("{refused:?}");
    assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused:?}");
    a.says("another user's");
    assert_eq!(a.client(&["status"]).code, Some(0));
    is_sound(&a);
}

/// What is at the socket's place and is no socket is somebody's file.
#[test]
fn case_59_a_file_at_the_sockets_place_is_not_removed() {
    let network = Network::new();
    let setup = network.node("a");
    fs::create_dir(setup.state_dir()).unwrap();
    fs::set_permissions(setup.state_dir(), Permissions::from_mode(0o700)).unwrap();
    let place = setup.state_dir().join("admin.sock");
    write(&place, b"mine");
    setup.refused().one_line(4);
    assert_eq!(fs::read(&place).unwrap(), b"mine");
}

/// A link is not followed to whatever it names, even if that is a dead node's socket; a dead node's socket gives way to a
/// live node, and a live one's does not.
#[test]
fn case_59_only_a_dead_nodes_socket_gives_way() {
    let network = Network::new();
    let mut a = network.start("a");
    let place = a.socket.clone();
    let second = network.node("second").with(&["--socket", place.to_str().unwrap()]);
    second.refused().one_line(4);
    assert_eq!(a.client(&["identity"]).code, Some(0), "the live one keeps its socket");
    a.kill();
    assert!(place.exists(), "a killed node leaves its socket behind");

    let link = a.setup().home().join("link.sock");
    symlink(&place, &link).unwrap();
    network.node("linked").with(&["--socket", link.to_str().unwrap()]).refused().one_line(4);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && place.exists());

    a.start_again();
    assert_eq!(a.client(&["identity"]).code, Some(0));
    is_sound(&a);
}

/// A directory that others may enter is refused, unless it is the node's own to close; and so is one of another user.
#[test]
fn case_59_a_state_directory_in_a_public_place_is_refused() {
    let network = Network::new();
    let setup = network.node("a");
    let directory = setup.state_dir();
    fs::create_dir(&directory).unwrap();
    write(&directory.join("letters"), b"others'");
    set_mode(&directory, 0o777);
    assert!(setup.refused().one_line(4).contains("chmod 700"));
    assert_eq!((mode(&directory), fs::read_dir(&directory).unwrap().count()), (0o777, 1), "it is left as it was");
    if chown(&directory, Some(65_534), Some(65_534)).is_ok() {
        set_mode(&directory, 0o700);
        assert!(setup.refused().one_line(4).contains("another user"));
    } else {
        println!("SKIPPED: only root can give a directory away");
    }
}

/// The socket may be in a place of many users, but not in one where they may take it away and put their own there.
#[test]
fn case_59_a_socket_that_anybody_may_replace_is_refused() {
    let network = Network::new();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("a.sock");
    let setup = network.node("a").with(&["--socket", socket.to_str().unwrap()]);
    set_mode(place.path(), 0o777);
    assert!(setup.refused().one_line(4).contains("chmod o-w"));
    set_mode(place.path(), 0o1777);
    let a = setup.start();
    assert_eq!(a.client(&["identity"]).code, Some(0));
    assert_eq!(mode(&socket), 0o600);
}

/// A client of the admin socket, in bytes.
fn caller(node: &Daemon) -> UnixStream {
    let socket = UnixStream::connect(&node.socket).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.set_write_timeout(Some(SOON)).unwrap();
    socket
}

/// What it is told up to the end.
fn told(mut socket: UnixStream) -> String {
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    text
}

/// Clients that stop in the midst of a line, never end one, never read, or come in crowds: each is told, and the others
/// are served.
#[test]
fn case_60_no_admin_client_harms_the_node() {
    /// Sixteen clients with half a line of 2 MiB and answers of 4 MiB each could make it 96 MiB; three of them do here.
    const GROWTH: u64 = 48 << 20;
    let pair = Pair::new(&[]);
    let before = memory(&pair.a, "RssAnon");
    let mut half = caller(&pair.a);
    half.write_all(b"{\"verb\": \"status\"").unwrap();
    let mut endless = caller(&pair.a);
    let _ = endless.write_all(&vec![b'x'; 3 << 20]);
    assert!(told(endless).contains("2MiB"));
    let mut deaf = caller(&pair.a);
    let asked = (0..100_000).find(|_| deaf.write_all(b"{\"verb\": \"network\"}\n").is_err());
    println!("closed after {asked:?} questions whose answers are not read");
    assert!(asked.is_some());

    let mut crowd: Vec<UnixStream> = (0..60).map(|_| caller(&pair.a)).collect();
    // Those above the bound are told and closed at once; the others may wait for as long as they like.
    let refused = crowd.split_off(16);
    assert!(refused.into_iter().map(told).all(|said| said.contains("overloaded")));
    drop(crowd);
    until("a client is served again", SOON, || match pair.a.client(&["status"]) {
        ended if ended.code == Some(0) => Ok(()),
        ended => Err(format!("{ended:?}")),
    });
    assert!(told(half).contains("has to be finished"));
    let grown = memory(&pair.a, "RssAnon").saturating_sub(before);
    println!("{} KiB more", grown >> 10);
    assert!(grown < GROWTH, "{grown} bytes more");
    pair.is_unharmed();
}

/// The label of these bytes is refused wherever a stranger says it, and never becomes a name of a file.
fn is_refused_everywhere(pair: &Pair, label: &[u8]) {
    let files = |node: &Daemon| -> BTreeSet<String> {
        let entries = fs::read_dir(node.setup().state_dir()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // While known.json is written anew there are two.
        names.filter(|name| !name.starts_with(".known.json.")).collect()
    };
    let what = String::from_utf8_lossy(label).into_owned();
    let stranger = Stranger::new(&pair.network, "a-label-that-is-replaced");
    // Of himself: so long before he is known, no frame may be.
    let reason = if label.len() > MAX_FRAME_BEFORE_HELLO { Reason::FrameTooLarge } else { Reason::Malformed };
    let before = refused(&pair.a, &reason.to_string());
    let mut line = Line::to(pair.a.address);
    line.secure(&stranger, Purpose::Overlay);
    let (clock_ms, dialled) = (wall_ms(), pair.a.address);
    line.say(&mislabelled(&stranger, label, |record| TailMessage::Hello {
        record,
        clock_ms,
        purpose: Purpose::Overlay,
        dialled,
    }));
    line.shut_out(&pair.a, reason, before);
    // Of somebody else.
    let before = refused(&pair.a, "malformed");
    let bearer = Stranger::new(&pair.network, "bearer");
    let mut line = bearer.dial(&pair.a);
    line.say(&mislabelled(&stranger, label, |record| push([item(record)])));
    line.ends_for(&pair.a, &bearer, Reason::Malformed, before);
    assert!(!pair.a.network().to_string().contains(&stranger.id()), "{what:?}");
    let usual = ["admin.sock", "identity.key", "known.json", "lock"].map(str::to_owned);
    assert!(files(&pair.a).is_subset(&usual.into()), "{what:?}: {:?}", files(&pair.a));
}

/// Names of files are the node's own; what others call themselves is in none of them, and could not be.
#[test]
fn case_61_no_name_of_a_remote_becomes_a_path() {
    let pair = Pair::new(&PATIENT);
    for label in ["../../etc", "..\\..", "/etc/passwd", "a/b", "a\0b"] {
        is_refused_everywhere(&pair, label.as_bytes());
    }
    let setup = Network::new().node("../../etc");
    assert!(setup.refused().one_line(2).contains("'/'"));
    assert!(!setup.state_dir().exists());
    // Two dots are a legal label, and lead nowhere.
    let dots = Stranger::new(&pair.network, "..");
    dots.dial(&pair.a).converse(1).unwrap();
    pair.is_unharmed();
}

/// At the input: of a label only what cannot mislead anybody.
#[test]
fn case_62_labels_that_mislead_are_refused_from_users_and_from_strangers() {
    let pair = Pair::new(&PATIENT);
    let long = "x".repeat(10_000);
    for label in ["", "a b", "line\nbreak", "\u{1b}[31mred", "\u{202e}x", "c\u{430}t", "\u{7f}", &"x".repeat(64), &long]
    {
        is_refused_everywhere(&pair, label.as_bytes());
    }
    is_refused_everywhere(&pair, b"no \xff utf-8");
    for (label, fault) in [
        ("", "0"),
        (&"x".repeat(64), "64"),
        ("a b", "' '"),
        ("line\nbreak", "\\n"),
        ("\u{1b}[31mred", "\\u{1b}"),
        ("\u{202e}x", "\\u{202e}"),
        ("c\u{430}t", "'\u{430}'"),
    ] {
        let setup = pair.network.node(label);
        let ended = setup.refused();
        assert!(ended.one_line(2).contains(fault), "{label:?}: {ended:?}");
        assert!(!setup.state_dir().exists(), "{label:?} has made a state directory");
    }
    pair.is_unharmed();
}

/// At the output: what may hold any text (tags) is written out harmlessly in each form.
#[test]
fn case_62_what_strangers_say_of_themselves_is_escaped_wherever_it_is_shown() {
    let pair = Pair::new(&PATIENT);
    let mut stranger = Stranger::new(&pair.network, "colourful");
    let text = "\u{1b}[2J\u{1b}]0;title\u{7}\n\r\u{202e}\"'<script>&\\ \u{85}\u{9b}31m \u{2028}\u{feff}end";
    stranger.body.tags = [("note".to_owned(), text.to_owned())].into_iter().collect();
    let mut line = stranger.dial(&pair.a);
    line.converse(1).unwrap();
    let harmful = |c: char| c != '\n' && misleads(c);
    for args in [
        &["network"][..],
        &["network", "--format", "json"],
        &["network", "--format", "dot"],
        &["peers", "--all"],
        &["peers", "--all", "--format", "json"],
        &["status"],
        &["status", "--format", "json"],
    ] {
        let shown = pair.a.client(args);
        assert!(shown.code.is_some() && !shown.stdout.contains(harmful), "{args:?}: {shown:?}");
        // One row each for the three nodes.
        if args == ["network"] {
            assert_eq!(shown.stdout.matches("[2J").count(), 1, "{}", shown.stdout);
        }
    }
    let network = pair.a.network();
    let row = network["nodes"].as_array().unwrap().iter().find(|row| row["label"] == "colourful").unwrap();
    assert_eq!(row["tags"]["note"], text, "JSON means the same all the same");
    pair.is_unharmed();
}

/// The name of a directory is the user's to choose, and may still turn no line about.
#[test]
fn case_63_log_lines_and_reports_are_harmless_whatever_they_name() {
    let setup = Network::new().node("node");
    let odd = setup.home().join("st\u{202e}ate");
    fs::create_dir(&odd).unwrap();
    fs::set_permissions(&odd, Permissions::from_mode(0o700)).unwrap();
    write(&odd.join("known.json"), b"not JSON\n\x1b[2J");
    let mut command = kithd();
    command.args(["run", "--label", "node", "--listen", "127.0.0.1:0", "--state-dir"]).arg(&odd);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut ready = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut ready).unwrap();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    println!("{ready}{log}");
    let harmful = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(ready.starts_with("kithd ready ") && !ready.contains(harmful), "{ready:?}");
    assert!(log.contains("st\\u{202e}ate/known.json is damaged") && !log.contains(harmful), "{log:?}");
}

/// One event, one line, whatever a stranger calls himself or a user gives for a reason.
#[test]
fn case_63_nobody_writes_a_line_of_the_log() {
    let pair = Pair::new(&[&PATIENT[..], &["--log-level", "trace"]].concat());
    let line = "2026-11-21T00:00:00Z [ERROR] forged by a stranger";
    let mut stranger = Stranger::new(&pair.network, "writer");
    stranger.body.tags = [("note".to_owned(), format!("x\n{line}"))].into_iter().collect();
    let mut talk = stranger.dial(&pair.a);
    talk.converse(1).unwrap();
    let mislabelled = Stranger::new(&pair.network, "a-label-that-is-replaced");
    talk.say(&self::mislabelled(&mislabelled, format!("x\n{line}").as_bytes(), |record| push([Item::Record(record)])));
    talk.ends_for(&pair.a, &stranger, Reason::Malformed, 0);
    let reason = format!("x\n{line}");
    assert!(pair.a.client(&["ban", &pair.b.id, "--reason", &reason]).one_line(2).contains("control"));
    let mut call = caller(&pair.a);
    call.write_all(format!("{{\"verb\": \"x\\n{line}\"}}\n{line}\n").as_bytes()).unwrap();
    let answers: Vec<String> = BufReader::new(call).lines().take(2).map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.starts_with("{\"error\"") && !answer.contains(misleads)), "{answers:?}");
    pair.a.signal(Signal::USR1);
    until("the report is in the log", SOON, || {
        let log = pair.a.stderr();
        if log.contains("report: ") { Ok(()) } else { Err(log) }
    });
    let log = pair.a.stderr();
    let forged: Vec<&str> = log.lines().filter(|one| one.starts_with(line)).collect();
    assert!(forged.is_empty(), "{forged:?}");
    let is_whole = |one: &&str| one.starts_with("20") && one.contains(" [");
    assert!(log.lines().all(|one| is_whole(&one)), "{log}");
    assert!(!log.contains(|c: char| c != '\n' && misleads(c)));
    pair.is_unharmed();
}

/// Each character there is, alone and between others.
#[test]
fn case_63_every_character_is_shown_on_one_line() {
    for c in '\0'..=char::MAX {
        let text = format!("a{c}b");
        let shown = escaped(&text);
        assert!(shown.lines().count() == 1 && !shown.contains(char::is_control), "{c:?}");
        let json = escaped_json(serde_json::to_string(&text).unwrap());
        assert!(json.lines().count() == 1 && !json.contains(misleads), "{c:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

/// The digits of the keys that a node holds: none of them is in anything it prints, in what the system shows of its process,
/// or in a dump of its memory, which is not written.
#[test]
fn case_66_keys_are_in_no_output_and_in_no_core_dump() {
    let network = Network::new();
    let setup = network.node("a");
    let key = setup.home().join("network.key");
    assert_eq!(Ended::of(kithd().args(["keygen", "--out"]).arg(&key)).code, Some(0));
    let flags = ["--network-key-file", key.to_str().unwrap(), "--log-level", "trace"];
    let dumps = format!("ulimit -c unlimited 2>/dev/null; cd {} && exec", setup.home().display());
    let mut a = setup.under(&dumps).with(&flags).start();
    let other = network.node("other").with(&flags).connect(a.address).start();
    agreed(&[&a, &other]);
    // A stranger who has another key makes it speak of keys.
    let without = network.node("without").connect(a.address).start();
    counted(&a, "network-key", 1);

    let text = fs::read_to_string(&key).unwrap();
    let digits = text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned();
    assert_eq!(digits.len(), 64);
    let identity = fs::read_to_string(a.setup().state_dir().join("identity.key")).unwrap();
    let seed = identity.lines().find(|line| !line.starts_with('#')).unwrap().trim().to_owned();
    assert!(seed.len() >= 64, "{} digits", seed.len());
    a.signal(Signal::USR1);
    until("the report is in the log", SOON, || {
        let log = a.stderr();
        if log.contains("report: ") { Ok(()) } else { Err(log) }
    });
    let said = |args: &[&str]| {
        let ended = a.client(&[args, &["--format", "json"]].concat());
        ended.stdout + &ended.stderr
    };
    let shown = Ended::of(kithd().args(["config", "show"]).args(flags));
    let process = |file: &str| {
        let bytes = fs::read(format!("/proc/{}/{file}", a.pid())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let known = fs::read_to_string(a.setup().state_dir().join("known.json")).unwrap_or_default();
    let outputs = [
        ("the log", a.stderr()),
        ("the stranger's log", without.stderr()),
        ("status", said(&["status"])),
        ("network", said(&["network"])),
        ("peers", said(&["peers", "--all"])),
        ("identity", said(&["identity"])),
        ("config show", shown.stdout + &shown.stderr),
        ("the command line", process("cmdline")),
        ("the environment", process("environ")),
        ("known.json", known),
    ];
    for (what, output) in outputs {
        let output = output.to_ascii_lowercase();
        assert!(!output.contains(&digits[..16]), "the network's key is in {what}");
        assert!(!output.contains(&seed.to_ascii_lowercase()[..16]), "the identity's key is in {what}");
    }
    let debugged = NetworkKey::generate().unwrap();
    let own = debugged.to_file().lines().last().unwrap()[..16].to_owned();
    assert!(!format!("{debugged:?}").contains(&own), "{debugged:?}");

    a.signal(Signal::ABORT);
    let ended = a.ended();
    assert!(ended.signal() == Some(6) && !ended.core_dumped(), "{ended:?}");
}

/// A key that others may read is refused, and the line says what to do.
#[test]
fn case_66_a_key_that_others_may_read_is_refused() {
    let network = Network::new();
    let mut a = network.start("a");
    a.kill();
    let identity = a.setup().state_dir().join("identity.key");
    for open in [0o640, 0o604, 0o660, 0o644] {
        set_mode(&identity, open);
        assert!(a.setup().refused().one_line(4).contains("chmod 600"));
        assert_eq!(mode(&identity), open, "it is the user's to close");
    }
    let key = a.setup().home().join("network.key");
    assert_eq!(Ended::of(kithd().args(["keygen", "--out"]).arg(&key)).code, Some(0));
    set_mode(&key, 0o640);
    let refused = network.node("b").with(&["--network-key-file", key.to_str().unwrap()]).refused();
    assert!(refused.one_line(4).contains("chmod 600"), "{refused:?}");
}

/// What no node can run with is refused before it starts, with the line and exit code 2; `config check` says the same.
#[test]
fn case_67_a_bad_configuration_is_refused_with_its_line() {
    let own = "1c9f02ab".repeat(8);
    let twice = format!("[network]\nallow = [\n  \"{own}\",\n  \"{own}\",\n]");
    let cases = [
        ("[heartbeat]\nintervall = \"1s\"", 2, "did you mean heartbeat.interval?"),
        ("[limits]\n\nmax_nodes = \"many\"", 3, "must be a whole number"),
        ("[limits]\nmax_nodes = 1000000000", 2, "must be from 2 to 1048576"),
        ("[limits]\nmax_pending = -1", 2, "must be from 1"),
        ("[limits]\nmemory_budget = \"9000GiB\"", 2, "must be"),
        ("[network]\nconnect = [\n  \"127.0.0.1:1\",\n  \"127.0.0.1:1\",\n]", 4, "is given twice"),
        (&twice, 4, "is given twice"),
        ("[network]\nname = \"a\"\nname = \"b\"", 3, "duplicate key"),
        ("[network\n", 1, "not TOML"),
    ];
    let network = Network::new();
    for (text, line, why) in cases {
        let setup = network.node("a");
        let file = setup.home().join("kithd.toml");
        write(&file, text.as_bytes());
        let setup = setup.with(&["--config", file.to_str().unwrap()]);
        for ended in [setup.refused(), Ended::of(kithd().args(["config", "check", "--config"]).arg(&file))] {
            let said = ended.one_line(2);
            assert!(said.contains(&format!("line {line}:")) && said.contains(why), "{text:?}: {said}");
        }
        assert!(!setup.state_dir().exists(), "{text:?} has made a state directory");
    }
}
