//! What a node may take in all, and what it lets be seen of odd names. What strangers can take of it is among the hostile
//! cases (`tests/hostile`).

#[allow(dead_code, reason = "shared with the daemon's tests, which use more of it")]
#[path = "daemon/daemon.rs"]
mod daemon;
#[allow(dead_code, reason = "as above")]
#[path = "daemon/patience.rs"]
mod patience;

use daemon::{Network, kithd, write};

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
