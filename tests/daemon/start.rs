//! Starts that fail: with one line that says why, the right exit code, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::daemon::{Ended, Network, closed_port, kithd, write};

#[test]
fn without_any_configuration_a_node_serves_on_loopback() {
    // Its default port may be taken on this machine, so that is the one thing it is told.
    let home = tempfile::tempdir().unwrap();
    let mut child = kithd()
        .args(["run", "--listen", "127.0.0.1:0"])
        .env("XDG_STATE_HOME", home.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let state = home.path().join("kithd");
    crate::patience::until("it answers at the default place", crate::patience::SOON, || {
        let ended = Ended::of(kithd().args(["identity"]).env("XDG_STATE_HOME", home.path()));
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("identity.key")), 0o600);
    assert_eq!(mode(&state.join("admin.sock")), 0o600);
}

#[test]
fn a_port_in_use_is_exit_4() {
    let network = Network::new();
    let a = network.start("a");
    let line = network.node("b").listen(&[a.address]).refused();
    assert!(line.one_line(4).contains(&a.address.to_string()), "{line:?}");
    // An address of another machine.
    let elsewhere = network.node("c").listen(&["192.0.2.7:7100"]).with(&["--advertise", "127.0.0.1:7100"]).refused();
    // Without a network key nothing but loopback is listened on; either answer is right.
    assert!(elsewhere.one_line(4).contains("192.0.2.7:7100"), "{elsewhere:?}");
}

#[test]
fn a_state_directory_in_use_is_exit_4() {
    let network = Network::new();
    let a = network.start("a");
    let second = a.setup().refused();
    let line = second.one_line(4);
    assert!(line.contains(a.setup().state_dir().to_str().unwrap()), "{line}");
    // The first one did not notice.
    assert_eq!(a.json(&["identity"])["id"], a.id.as_str());
}

#[test]
fn a_damaged_identity_is_exit_4_and_stays_as_it_is() {
    let network = Network::new();
    let mut a = network.start("a");
    a.kill();
    let key = a.setup().state_dir().join("identity.key");
    let sound = fs::read(&key).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 0x80;
    for damaged in [&b""[..], &sound[..sound.len() / 2], &[sound.as_slice(), b"0"].concat(), &flipped, &[0xff; 5000]] {
        write(&key, damaged);
        let ended = a.setup().refused();
        assert!(ended.one_line(4).contains("identity.key"), "{ended:?}");
        assert_eq!(fs::read(&key).unwrap(), damaged);
    }
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    assert!(a.setup().refused().one_line(4).contains("identity.key"));
    fs::remove_dir(&key).unwrap();
    // A pipe that nobody writes to must not be waited for.
    mknodat(CWD, &key, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(a.setup().refused().one_line(4).contains("identity.key"));
    fs::remove_file(&key).unwrap();

    write(&key, &sound);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let id = a.id.clone();
    a.start_again();
    assert_eq!(a.id, id);
}

/// A key that others can read is no secret any more.
#[test]
fn an_identity_others_can_read_is_exit_4() {
    let network = Network::new();
    let mut a = network.start("a");
    a.kill();
    let key = a.setup().state_dir().join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(a.setup().refused().one_line(4).contains("identity.key"));
}

#[test]
fn a_state_directory_that_is_none_is_exit_4() {
    let network = Network::new();
    let setup = network.node("a");
    write(&setup.state_dir(), b"a file");
    let ended = setup.refused();
    assert!(ended.one_line(4).contains(setup.state_dir().to_str().unwrap()), "{ended:?}");
    assert_eq!(fs::read(setup.state_dir()).unwrap(), b"a file");

    let below = network.node("b").with(&["--socket", setup.state_dir().join("admin.sock").to_str().unwrap()]);
    below.refused().one_line(4);
}

/// Outside loopback strangers could come in, so a key is required that this version cannot have yet.
#[test]
fn listening_to_strangers_without_a_network_key_is_exit_4() {
    let network = Network::new();
    let port = closed_port().port();
    let ended =
        network.node("a").listen(&[format!("0.0.0.0:{port}")]).with(&["--advertise", "127.0.0.1:7100"]).refused();
    assert!(ended.one_line(4).contains("key"), "{ended:?}");
    let mixed = network.node("a").listen(&["127.0.0.1:0".to_owned(), format!("[::]:{port}")]).refused();
    mixed.one_line(4);
}

#[test]
fn errors_of_configuration_are_exit_2() {
    let network = Network::new();
    network.node(&"x".repeat(63)).start();

    let setup = network.node("a");
    let file = setup.home().join("kithd.toml");
    write(&file, b"[heartbeat]\nintervall = \"1s\"\n");
    let ended = setup.with(&["--config", file.to_str().unwrap()]).refused();
    let line = ended.one_line(2);
    for word in ["kithd.toml", "line 2", "heartbeat.intervall", "1s", "heartbeat.interval"] {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    let long = format!("/{}", "s".repeat(107));
    assert!(network.node("a").with(&["--socket", &long]).refused().one_line(2).contains("107"));
    for bad in [["--connect", "nowhere"], ["--listen", "7100"], ["--heartbeat-timeout", "0s"], ["--no-such-flag", "1"]]
    {
        network.node("a").with(&bad).refused().one_line(2);
    }
    Ended::of(kithd().args(["run", "--config", "/no/such/file"])).one_line(2);
}

#[test]
fn a_key_file_that_is_missing_open_to_others_or_empty_is_exit_4() {
    let network = Network::new();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("network.key");
    let start = || network.node("a").with(&["--network-key-file", path.to_str().unwrap()]).refused();
    assert!(start().one_line(4).contains("kithd keygen"));
    fs::write(&path, "aa".repeat(32)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = start();
    let line = refused.one_line(4);
    assert!(line.contains("0640") && line.contains("chmod 600") && !line.contains("aaaa"), "{line}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "# none\n").unwrap();
    assert!(start().one_line(4).contains("holds no key"));
}

#[test]
fn beyond_loopback_a_node_wants_a_key() {
    let network = Network::new();
    let refused = network.node("a").listen(&["0.0.0.0:0"]).refused();
    assert!(refused.one_line(4).contains("kithd keygen"), "{refused:?}");
}
