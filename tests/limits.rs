//! What strangers can take of a node, from outside: a real daemon on loopback, counted by network like any other place,
//! and sockets from several addresses of 127.0.0.0/8.

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use daemon::{Daemon, Network, kithd, write};
use patience::{SOON, until};

/// A silent connection from an address of 127.0.0.0/8.
fn connect_from(network: u8, host: u8, to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, network, host), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Waits for the end of the stream, before which nothing may come.
fn is_closed_silently(socket: &mut Socket) {
    let mut byte = [0; 1];
    match socket.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?} {byte:?}"),
    }
}

fn is_open(socket: &Socket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let answer = (&*socket).read(&mut [0; 1]);
    socket.set_nonblocking(false).unwrap();
    answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn refused(node: &Daemon, reason: &str) -> u64 {
    node.status()["refused"][reason].as_u64().unwrap_or(0)
}

fn counted(node: &Daemon, reason: &str, least: u64) {
    until(&format!("{least} are counted as {reason}"), SOON, || match refused(node, reason) {
        count if count >= least => Ok(()),
        count => Err(format!("{count}")),
    });
}

#[test]
fn a_network_that_comes_too_fast_is_closed_and_others_come_in() {
    let flags = ["--limits-exempt-loopback", "false", "--limits-connections-burst", "20"];
    let slow = ["--limits-connections-per-prefix", "1", "--limits-handshake-timeout", "2m"];
    let node = Network::new().node("node").with(&flags).with(&slow).start();
    let mut flood: Vec<Socket> = (1..=200).map(|host| connect_from(7, host, node.address)).collect();
    counted(&node, "too-fast", 100);
    let closed = flood.iter_mut().skip(20).take(20);
    // Each second lets one in: on a slow machine some of these may be.
    assert!(closed.filter(|socket| !is_open(socket)).count() > 0);
    let before = refused(&node, "too-fast");
    let other = connect_from(8, 1, node.address);
    until("the other network's connection is taken in", SOON, || {
        let rows = node.peers();
        let from = other.local_addr().unwrap().as_socket().unwrap().to_string();
        let open = rows.iter().any(|row| row["address"] == from && row["state"] == "handshaking");
        if open { Ok(()) } else { Err(format!("{} rows", rows.len())) }
    });
    assert!(is_open(&other));
    println!("{before} of 200 were too fast");

    // Ten lines a minute, whatever comes; the test may run into the next minute, hardly into a third.
    let log = node.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("too-fast")).collect();
    assert!((1..=21).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines[0].contains("refused 127.0.7."), "{}", lines[0]);
}

#[test]
fn the_oldest_stranger_makes_room_for_the_next() {
    let flags = ["--limits-max-pending", "10", "--limits-handshake-timeout", "2m"];
    let node = Network::new().node("node").with(&flags).start();
    let mut silent: Vec<Socket> = (1..=10).map(|host| connect_from(1, host, node.address)).collect();
    until("all ten wait", SOON, || match node.status()["peers"]["handshaking"].as_u64() {
        Some(10) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let eleventh = connect_from(1, 11, node.address);
    is_closed_silently(&mut silent[0]);
    counted(&node, "too-many-pending", 1);
    assert!(silent.iter().skip(1).chain([&eleventh]).all(is_open));
    assert_eq!(refused(&node, "too-many-pending"), 1);
}

/// Two nodes find each other though silent strangers hold all the places there are.
#[test]
fn a_crowd_of_strangers_does_not_keep_a_node_out() {
    let network = Network::new();
    let flags = ["--limits-max-pending", "16", "--limits-handshake-timeout", "2m"];
    let node = network.node("node").with(&flags).start();
    let crowd: Vec<Socket> = (1..=64).map(|host| connect_from(1, host, node.address)).collect();
    counted(&node, "too-many-pending", 48);
    let late = network.node("late").connect(node.address).start();
    until("they are linked", SOON, || {
        let nodes = node.network()["nodes"].as_array().map_or(0, Vec::len);
        if nodes == 2 { Ok(()) } else { Err(format!("{nodes} nodes")) }
    });
    drop((crowd, late));
}

#[test]
fn one_key_scales_all_queues_and_the_report_shows_it() {
    let node = Network::new().node("node").with(&["--limits-memory-budget", "16MiB"]).start();
    assert_eq!(node.status()["memory"]["budget_bytes"], 16 << 20);
    let usual = Network::new().start("usual");
    assert_eq!(usual.status()["memory"]["budget_bytes"], 64 << 20);
}

/// The name of a directory is the user's to choose, and may still turn no line about.
#[test]
fn log_lines_and_reports_are_harmless_whatever_they_name() {
    let setup = Network::new().node("node");
    let odd = setup.home().join("st\u{202e}ate");
    std::fs::create_dir(&odd).unwrap();
    std::fs::set_permissions(&odd, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    write(&odd.join("known.json"), b"not JSON\n\x1b[2J");
    let mut command = kithd();
    command.args(["run", "--label", "node", "--listen", "127.0.0.1:0", "--state-dir"]).arg(&odd);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut ready = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut ready).unwrap();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    println!("{ready}{log}");
    let harmful = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
    assert!(ready.starts_with("kithd ready ") && !ready.contains(harmful), "{ready:?}");
    assert!(log.contains("st\\u{202e}ate/known.json is damaged") && !log.contains(harmful), "{log:?}");
}
