//! The configuration from outside: what the documented file says, and what the real binary answers to bad input.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use kithd::config::{Config, Origin, Overrides, Service, keys, service_keys};
use serde_json::Value;
use tempfile::TempDir;

/// `config/kithd.toml` is what people learn the keys from, so it says all of them and nothing else than the truth.
#[test]
fn the_documented_file_holds_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/kithd.toml");
    let text = fs::read_to_string(&path).unwrap();

    let loaded = Config::load(Some(&path), &Overrides::default()).unwrap();
    for key in keys().iter().filter(|key| key.environment.is_none()) {
        assert_eq!(key.words(&loaded.config), key.words(&Config::default()), "{}", key.name);
    }

    // Once the commented-out examples are live, no key is missing, and each example is accepted.
    let is_live = |line: &&str| is_setting(line) || line.starts_with('[');
    let all: Vec<&str> = text.lines().map(|line| line.strip_prefix("# ").filter(is_live).unwrap_or(line)).collect();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("all.toml");
    fs::write(&path, all.join("\n")).unwrap();
    let loaded = Config::load(Some(&path), &Overrides::default()).unwrap();
    let silent: Vec<_> = keys().iter().filter(|key| loaded.origins.of(key.name).to_string() == "default").collect();
    assert!(silent.is_empty(), "not in config/kithd.toml: {silent:?}");
    let (uptime, service) = loaded.config.services.first_key_value().unwrap();
    let silent: Vec<_> = service_keys().iter().map(|key| key.name_of(uptime)).collect();
    let silent: Vec<_> = silent.iter().filter(|key| *loaded.origins.of(key) == Origin::Default).collect();
    assert!(silent.is_empty(), "not in config/kithd.toml: {silent:?}");
    assert_eq!(*service, Service { command: vec!["uptime".to_owned()], ..Service::default() });

    // Only what depends on the machine, or has no default, is commented out.
    let live: BTreeSet<_> = text.lines().filter(|line| is_setting(line)).map(name).collect();
    let commented = keys().iter().map(|key| key.short_name()).filter(|name| !live.contains(name));
    assert_eq!(
        commented.collect::<Vec<_>>(),
        ["label", "state_dir", "socket", "advertise", "key_file", "status_file", "file"]
    );
}

/// The file for small machines says only what it changes, and changes all that it says.
#[test]
fn the_file_for_small_machines_is_sound_and_repeats_no_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/constrained.toml");
    let output = kithd(path.parent().unwrap(), ["config", "check", "--config", "constrained.toml"]);
    assert!(output.status.success(), "{output:?}");
    let loaded = Config::load(Some(&path), &Overrides::default()).unwrap();
    let said = keys().iter().filter(|key| loaded.origins.of(key.name).to_string().contains("constrained.toml"));
    let said: Vec<_> = said.collect();
    assert!(said.len() > 20, "{said:?}");
    for key in said {
        assert_ne!(key.words(&loaded.config), key.words(&Config::default()), "{} is the default", key.name);
    }
    assert_eq!(loaded.config.limits.memory_budget, 4 << 20);
}

fn is_setting(line: &str) -> bool {
    line.contains(" = ") && name(line).bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

fn name(line: &str) -> &str {
    line.split(" = ").next().unwrap_or_default()
}

/// Each file is refused with exactly that line on stderr, and exit code 2.
#[test]
fn a_bad_file_is_refused_in_one_line_with_place_and_cure() {
    let long = format!("[node]\nsocket = \"/{}\"", "x".repeat(107));
    let tags = format!("[node.tags]\na = \"b\"\nlong = \"{}\"", "x".repeat(251));
    let many =
        format!("[listen]\naddresses = [{}]", (1..=17).map(|n| format!("\"127.0.0.1:{n}\",")).collect::<String>());
    let words = format!("[services.a]\ncommand = [{}]", (0..=64).map(|n| format!("\"{n}\",")).collect::<String>());
    let services: String = (0..=256).map(|n| format!("services.s{n}.allow = []\n")).collect();
    #[rustfmt::skip]
    let cases = [
        // The value.
        ("[heartbeat]\ntimeout = \"0s\"", "line 2: heartbeat.timeout = \"0s\": must be longer than zero; 500ms is the default"),
        ("heartbeat.timeout = \"2h\"", "line 1: heartbeat.timeout = \"2h\": must be from 10ms to 1m; 500ms is the default"),
        ("heartbeat.timeout = \"5\"", "line 1: heartbeat.timeout = \"5\": needs a unit (ms, s, m or h), as in 5s"),
        ("heartbeat.timeout = \"soon\"", "line 1: heartbeat.timeout = \"soon\": must be a whole number and a unit (ms, s, m or h), as in 500ms"),
        ("limits.max_nodes = 1000000000", "line 1: limits.max_nodes = 1000000000: must be from 2 to 1048576; 16384 is the default"),
        ("limits.max_nodes = -1", "line 1: limits.max_nodes = -1: must be from 2 to 1048576; 16384 is the default"),
        ("limits.max_nodes = 0x1", "line 1: limits.max_nodes = 0x1: must be from 2 to 1048576; 16384 is the default"),
        ("limits.max_queued = \"2MB\"", "line 1: limits.max_queued = \"2MB\": must be a whole number of bytes or a size in quotes, as in \"2MiB\""),
        ("limits.max_queued = \"9GiB\"", "line 1: limits.max_queued = \"9GiB\": must be from 64KiB to 1GiB; 2MiB is the default"),
        ("[node]\nlabel = \"\"", "line 2: node.label = \"\": a label has 1 to 63 characters, this one 0"),
        ("[node]\nlabel = \"a b\"", "line 2: node.label = \"a b\": a label has only A-Z a-z 0-9 . _ -, this one has ' '"),
        ("[node]\nlabel = \"\u{202e}x\"", "line 2: node.label = \"\\u{202e}x\": a label has only A-Z a-z 0-9 . _ -, this one has '\\u{202e}'"),
        ("[node]\nstate_dir = \"\"", "line 2: node.state_dir = \"\": is no path; leave it out for the default"),
        ("[node]\nstate_dir = \"a\\u0000\"", "line 2: node.state_dir = \"a\\u0000\": has a control character; use another path"),
        ("[node]\ntags = { role = \"\" }", "line 2: node.tags.role = \"\": a tag's key and value have at least one character each, all printable ASCII"),
        ("[node]\ntags = { \"a=b\" = \"c\" }", "line 2: node.tags.a=b = \"c\": a tag's key has no '='; use another"),
        ("[network]\nname = \"\"", "line 2: network.name = \"\": a label has 1 to 63 characters, this one 0"),
        ("[listen]\naddresses = []", "line 2: listen.addresses = []: needs an address; 127.0.0.1:0 listens on some port of loopback"),
        ("[listen]\naddresses = [\n  \"127.0.0.1:1\",\n  \"localhost:1\",\n]", "line 4: listen.addresses = \"localhost:1\": must be an IP address and a port, as in 127.0.0.1:7100 or [::1]:7100"),
        ("listen.addresses = [\"[::1]:1\", \"[::1]:1\"]", "line 1: listen.addresses = \"[::1]:1\": is given twice; leave one out"),
        (&many, "line 2: listen.addresses = \"127.0.0.1:17\": is one too many; 16 are allowed"),
        ("listen.advertise = \"0.0.0.0:1\"", "line 1: listen.advertise = \"0.0.0.0:1\": is no address to dial; give one of the node's own"),
        ("network.connect = [\"seed.example\"]", "line 1: network.connect = \"seed.example\": has no port; write host:port, such as seed.example:7100"),
        ("network.connect = [\"127.0.0.1:0\"]", "line 1: network.connect = \"127.0.0.1:0\": port 0 cannot be dialled; give the port the node listens on"),
        ("network.allow = [\"alpha\"]", "line 1: network.allow = \"alpha\": is no node's id; give the 64 hex digits that 'kithd identity' prints there"),
        ("network.allow = \"alpha\"", "line 1: network.allow = \"alpha\": must be a list of ids in quotes, as in [\"1c9f…\"], each of 64 hex digits"),
        ("log.level = \"loud\"", "line 1: log.level = \"loud\": must be off, error, warn, info, debug or trace; info is the default"),
        // Its type.
        ("heartbeat.timeout = 5", "line 1: heartbeat.timeout = 5: must be a duration in quotes, as in \"500ms\""),
        ("limits.max_nodes = \"9\"", "line 1: limits.max_nodes = \"9\": must be a whole number, as in 64"),
        ("limits.max_nodes = 1e9", "line 1: limits.max_nodes = 1e9: must be a whole number, as in 64"),
        ("listen.addresses = \"127.0.0.1:1\"", "line 1: listen.addresses = \"127.0.0.1:1\": must be a list of addresses in quotes, as in [\"127.0.0.1:7100\"]"),
        ("network.connect = [7]", "line 1: network.connect = 7: must be a list of places in quotes, as in [\"192.0.2.1:7100\", \"seed.example:7100\"]"),
        ("node.tags = [\"a=b\"]", "line 1: node.tags = [\"a=b\"]: must be a table of texts, as in { role = \"web\" }"),
        ("[heartbeat.timeout]\na = 1", "line 1: heartbeat.timeout = {…}: must be a duration in quotes, as in \"500ms\""),
        ("heartbeat = 5", "line 1: heartbeat = 5: is a table; write its keys below a line [heartbeat]"),
        ("[[limits]]", "line 1: limits = [[limits]]: is a table; write its keys below a line [limits]"),
        // The key.
        ("[heartbeat]\n\nintervall = \"1s\"", "line 3: heartbeat.intervall = \"1s\": unknown key; did you mean heartbeat.interval?"),
        ("timeout = \"1s\"", "line 1: timeout = \"1s\": unknown key; did you mean heartbeat.timeout?"),
        ("[node]\ncolour = \"red\"", "line 2: node.colour = \"red\": unknown key; [node] has label, state_dir, tags, socket"),
        ("[hartbeat]", "line 1: [hartbeat]: unknown table; did you mean [heartbeat]?"),
        ("[\"a\\nb\"]", "line 1: [a\\nb]: unknown table; the tables are node, listen, network, monitor, heartbeat, discovery, requests, limits, log, services"),
        // A service's.
        ("[services.uptime]\ncomand = [\"uptime\"]", "line 2: services.uptime.comand = [\"uptime\"]: unknown key; did you mean services.uptime.command?"),
        ("services.uptime.user = \"nobody\"", "line 1: services.uptime.user = \"nobody\": unknown key; [services.uptime] has command, timeout, max_output, allow"),
        ("[services.uptime]\ncommand = \"uptime -p\"", "line 2: services.uptime.command = \"uptime -p\": must be a list of words in quotes, as in [\"df\", \"-h\"]"),
        ("[services.uptime]\ncommand = [\"uptime\", 7]", "line 2: services.uptime.command = 7: must be a list of words in quotes, as in [\"df\", \"-h\"]"),
        ("[services.uptime]\ncommand = []", "line 2: services.uptime.command = []: needs a program; leave it out where another one registers the service"),
        ("[services.uptime]\ncommand = [\"\"]", "line 2: services.uptime.command = \"\": is no program; give its name or its path"),
        ("[services.uptime]\ncommand = [\"a\", \"\\u0000\"]", "line 2: services.uptime.command = \"\\u0000\": has a NUL, which no argument can have; leave it out"),
        (&words, "line 2: services.a.command = \"64\": is one too many; 64 are allowed"),
        ("[services.uptime]\ncommand = [\"uptime\"]\ntimeout = 5", "line 3: services.uptime.timeout = 5: must be a duration in quotes, as in \"500ms\""),
        ("[services.uptime]\ncommand = [\"uptime\"]\ntimeout = \"1ms\"", "line 3: services.uptime.timeout = \"1ms\": must be from 10ms to 1h; 5s is the default"),
        ("[services.uptime]\ncommand = [\"uptime\"]\nmax_output = \"1GiB\"", "line 3: services.uptime.max_output = \"1GiB\": must be from 0 to 16MiB; 64KiB is the default"),
        ("services.uptime.allow = [\"alpha\"]", "line 1: services.uptime.allow = \"alpha\": is no node's id; give the 64 hex digits that 'kithd identity' prints there"),
        ("[services.\"up time\"]\nallow = []", "line 1: services.up time = {…}: a service's name has only A-Z a-z 0-9 . _ -, this one has ' '"),
        ("[services]\nuptime = [\"uptime\"]", "line 2: services.uptime = [\"uptime\"]: is a table; write its keys below a line [services.uptime]"),
        ("[[services]]\nname = \"uptime\"", "line 1: services = [[services]]: is a table; write a service's keys below a line [services.NAME]"),
        ("[service.uptime]\ncommand = [\"uptime\"]", "line 1: [service]: unknown table; did you mean [services]?"),
        (&services, "line 257: services.s256.allow = []: is of one service too many; 256 are allowed"),
        // Two keys.
        ("[services.echo]\ncommand = [\"cat\"]", "line 2: services.echo.command = [\"cat\"]: names a program for what the node answers itself; choose another name, or set requests.echo = false"),
        ("[services.a]\nallow = []\ntimeout = \"5s\"", "line 3: services.a.timeout = \"5s\": bounds a program, and there is none; add a command to the service, or leave this out"),
        ("[services.a]\ncommand = [\"a\"]\nmax_output = \"2MiB\"", "line 3: services.a.max_output = \"2MiB\": must not be more than limits.max_payload, which is 1MiB (default)"),
        ("services.a.command = [\"a\"]\nservices.a.max_output = \"512KiB\"\nlimits.max_payload = \"64KiB\"", "line 3: limits.max_payload = \"64KiB\": must not be less than services.a.max_output, which is 512KiB (kithd.toml:2)"),
        ("[limits]\nmax_payload = \"16MiB\"", "line 2: limits.max_payload = \"16MiB\": must not be more than limits.max_outstanding_bytes, which is 8MiB (default)"),
        ("[limits]\nmax_pending = 4", "line 2: limits.max_pending = 4: must not be less than limits.max_pending_per_prefix, which is 8 (default)"),
        ("[discovery]\naccept_ring = 40\naccept = 20", "line 3: discovery.accept = 20: must not be less than discovery.accept_ring, which is 40 (kithd.toml:2)"),
        (&long, "line 2: node.socket = \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…: makes a socket path of 108 bytes, and 107 are allowed; set node.socket to a shorter path"),
        (&tags, "line 3: node.tags.long = \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…: all tags' keys and values together have at most 256 bytes; shorten some"),
        // The syntax.
        ("[heartbeat]\ninterval =", "line 2: interval =: not TOML: string values must be quoted, expected literal string"),
        ("[heartbeat]\ninterval = \"1s\"\ninterval = \"2s\"", "line 3: interval = \"2s\": not TOML: duplicate key"),
    ];
    for (text, expected) in cases {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("kithd.toml"), text).unwrap();
        for verb in ["check", "show"] {
            let output = kithd(directory.path(), ["config", verb, "--config", "kithd.toml"]);
            assert_refused(&output, &format!("kithd.toml: {expected}"));
        }
    }
}

#[test]
fn what_is_no_configuration_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    fs::create_dir(here.join("dir")).unwrap();
    fs::write(here.join("latin1"), b"[node]\n# caf\xe9\n").unwrap();
    fs::write(here.join("long"), vec![b'\n'; 65 << 10]).unwrap();
    fs::write(here.join("secret"), "").unwrap();
    fs::set_permissions(here.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    for (file, expected) in [
        ("none", "none: no such file; give --config the path of one that exists"),
        ("no\u{1b}ne", "no\\u{1b}ne: no such file; give --config the path of one that exists"),
        ("dir", "dir: is a directory; give --config the path of a file"),
        ("latin1", "latin1: line 2: is not UTF-8; save the file in that encoding"),
        ("long", "long: is longer than 64 KiB; is it a configuration file?"),
        ("/dev/zero", "/dev/zero: is longer than 64 KiB; is it a configuration file?"),
    ] {
        assert_refused(&kithd(here, ["config", "check", "--config", file]), expected);
    }
    // Root may read everything.
    if fs::read(here.join("secret")).is_err() {
        let expected = "secret: permission denied; let the user that kithd runs as read it";
        assert_refused(&kithd(here, ["config", "check", "--config", "secret"]), expected);
    }
}

#[test]
fn a_bad_flag_is_refused_in_one_line_too() {
    let long = format!("/{}", "d".repeat(100));
    let cases: [(&[&str], &str); 12] = [
        (&["--heartbeat-timeout", "0s"], "--heartbeat-timeout 0s: must be longer than zero; 500ms is the default"),
        (&["--limits-max-nodes", "-1"], "--limits-max-nodes -1: must be from 2 to 1048576; 16384 is the default"),
        (&["--limits-max-nodes", "many"], "--limits-max-nodes many: must be a whole number, as in 64"),
        (&["--label", "a\nb"], "--label a\\nb: a label has only A-Z a-z 0-9 . _ -, this one has '\\n'"),
        (&["--node-label", ""], "--label \"\": a label has 1 to 63 characters, this one 0"),
        (&["--tag", "a=1", "--tag", "b"], "--tag b: must be a key and a value, as in role=web"),
        (&["--tag", "a=1", "--tag", "a=2"], "--tag a=2: gives the same tag twice; leave one out"),
        (
            &["--listen", "127.0.0.1:1", "--listen", "nowhere"],
            "--listen nowhere: must be an IP address and a port, as in 127.0.0.1:7100 or [::1]:7100",
        ),
        (
            &["--discovery-out-degree", "65"],
            "--discovery-out-degree 65: must not be more than limits.max_outgoing, which is 64 (default)",
        ),
        (
            &["--heartbeat-intervall", "1s"],
            "unexpected argument '--heartbeat-intervall' found; a similar argument exists: '--heartbeat-interval'",
        ),
        (
            &["--label", "a", "--label", "b"],
            "the argument '--label <LABEL>' cannot be used multiple times; see 'kithd config check --help'",
        ),
        (&["--connect", "127.0.0.1:99999"], "--connect 127.0.0.1:99999: the port is a number from 1 to 65535"),
    ];
    let directory = TempDir::new().unwrap();
    for (flags, expected) in cases {
        let args = ["config", "check"].iter().chain(flags);
        assert_refused(&kithd(directory.path(), args), expected);
    }
    let exposed = kithd(directory.path(), ["config", "check", "--listen", "0.0.0.0:7100"]);
    assert_eq!(exposed.status.code(), Some(4), "as of a node that is to run with it");
    let cure = "makes a socket path of 112 bytes, and 107 are allowed; set node.socket to a shorter path";
    let output = kithd(directory.path(), ["config", "check", "--state-dir", &long]);
    assert_refused(&output, &format!("--state-dir /{}…: {cure}", "d".repeat(79)));
    assert_eq!(
        kithd(directory.path(), ["config", "check", "--state-dir", &long, "--socket", "s"]).status.code(),
        Some(0)
    );
}

#[test]
fn a_bad_environment_is_refused_as_well() {
    let with =
        |value: &OsStr| command(Path::new("/"), ["config", "check"]).env("KITHD_SOCKET", value).output().unwrap();
    let refused = "has a control character; use another path";
    assert_refused(&with(OsStr::new("a\nb")), &format!("KITHD_SOCKET=a\\nb: {refused}"));
    assert_refused(&with(OsStr::from_bytes(b"\xff")), "KITHD_SOCKET=\u{fffd}: is not UTF-8; use another path");
    assert_eq!(with(OsStr::new("")).status.code(), Some(0));
}

/// Defaults, the file, the environment, flags: the later one stands, and `config show` says which it was.
#[test]
fn show_tells_each_value_and_where_it_came_from() {
    let directory = TempDir::new().unwrap();
    let text = "[node]\nstate_dir = \"of-file\"\nsocket = \"of-file\"\n[network]\nconnect = [\"a:1\", \"b:2\"]\n\
                [limits]\nmax_queued = 2097152\n[node.tags]\nrole = \"web\"\n";
    fs::write(directory.path().join("kithd.toml"), text).unwrap();
    let args = ["config", "show", "--config", "kithd.toml", "--socket", "of-flag", "--connect", "c:3"];
    let run = |format: &str| {
        let mut command = command(directory.path(), args.into_iter().chain(["--format", format]));
        command.env("KITHD_STATE_DIR", "of-environment").env("KITHD_SOCKET", "of-environment").output().unwrap()
    };

    let output = run("json");
    assert_eq!(output.status.code(), Some(0));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["schema"], 1);
    let rows = shown["keys"].as_array().unwrap();
    assert_eq!(rows.len(), keys().len());
    for (key, value, from) in [
        ("node.state_dir", r#""of-environment""#, "environment KITHD_STATE_DIR"),
        ("node.socket", r#""of-flag""#, "flag --socket"),
        ("node.tags", r#"{"role":"web"}"#, "kithd.toml:8"),
        ("network.connect", r#"["c:3"]"#, "flag --connect"),
        ("network.name", r#""kith""#, "default"),
        ("limits.max_queued", "2097152", "kithd.toml:7"),
        ("heartbeat.timeout", r#""500ms""#, "default"),
        ("log.file", "null", "default"),
    ] {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        assert_eq!((row["value"].to_string().as_str(), row["from"].as_str()), (value, Some(from)), "{key}");
    }

    let table = String::from_utf8(run("table").stdout).unwrap();
    let columns =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = table.lines().map(columns).collect();
    assert_eq!(rows[0], ["key", "value", "from"]);
    assert!(rows.contains(&["limits.max_queued", "2MiB", "kithd.toml:7"].map(str::to_owned).to_vec()), "{table}");
    assert!(rows.contains(&["listen.advertise", "-", "default"].map(str::to_owned).to_vec()), "{table}");
}

/// What follows the budget is shown as it follows, and says so.
#[test]
fn show_tells_what_a_budget_makes_of_the_bounds_on_queues() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("kithd.toml"), "[limits]\nmax_queued = \"4MiB\"\nmemory_budget = \"4MiB\"\n")
        .unwrap();
    let output = kithd(directory.path(), ["config", "show", "--config", "kithd.toml"]);
    let table = String::from_utf8(output.stdout).unwrap();
    for (key, value, from) in [
        ("limits.max_queued", "256KiB", "kithd.toml:3"),
        ("limits.max_queued_total", "4MiB", "kithd.toml:3"),
        ("limits.max_outstanding_bytes", "512KiB", "kithd.toml:3"),
        ("limits.memory_budget", "4MiB", "kithd.toml:3"),
        ("limits.max_payload", "1MiB", "default"),
    ] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), [key, value, from]);
    }
}

/// Services come after all keys, each with all of its own.
#[test]
fn show_tells_services_too() {
    let directory = TempDir::new().unwrap();
    let id = "1c9f02ab".repeat(8);
    let text = format!(
        "requests.identity = false\n[services]\nidentity.command = [\"kithd\", \"identity\"]\n[services.df]\n\
         command = [\"df\", \"-h\", \"-h\"]\nmax_output = 4096\nallow = [\"{id}\"]\n[services.echo]\nallow = [\"{id}\"]\n"
    );
    fs::write(directory.path().join("kithd.toml"), text).unwrap();
    let run = |format| kithd(directory.path(), ["config", "show", "--config", "kithd.toml", "--format", format]);
    let output = run("json");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = shown["keys"].as_array().unwrap();
    let told: Vec<String> =
        rows[keys().len()..].iter().map(|row| format!("{}={} {}", row["key"], row["value"], row["from"])).collect();
    let expected = [
        r#""services.df.command"=["df","-h","-h"] "kithd.toml:5""#.to_owned(),
        r#""services.df.timeout"="5s" "default""#.to_owned(),
        r#""services.df.max_output"=4096 "kithd.toml:6""#.to_owned(),
        format!(r#""services.df.allow"=["{id}"] "kithd.toml:7""#),
        r#""services.echo.command"=[] "default""#.to_owned(),
        r#""services.echo.timeout"="5s" "default""#.to_owned(),
        r#""services.echo.max_output"=65536 "default""#.to_owned(),
        format!(r#""services.echo.allow"=["{id}"] "kithd.toml:9""#),
        r#""services.identity.command"=["kithd","identity"] "kithd.toml:3""#.to_owned(),
        r#""services.identity.timeout"="5s" "default""#.to_owned(),
        r#""services.identity.max_output"=65536 "default""#.to_owned(),
        r#""services.identity.allow"=[] "default""#.to_owned(),
    ];
    assert_eq!(told, expected);
    let table = String::from_utf8(run("table").stdout).unwrap();
    let row = table.lines().find(|line| line.starts_with("services.df.command ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["services.df.command", "df,", "-h,", "-h", "kithd.toml:5"]);
}

#[test]
fn check_says_ok() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = kithd(manifest, ["config", "check", "--config", "config/kithd.toml"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "config/kithd.toml: ok\n");
    assert_eq!(output.status.code(), Some(0));
}

/// A program that sets the fields itself has them checked by the same table.
#[test]
fn values_set_by_a_program_are_checked_too() {
    let mut config = Config::default();
    config.node.state_dir = "/tmp".into();
    assert_eq!(config.check(), Ok(()));
    config.limits.max_nodes = 1;
    let error = config.check().unwrap_err().to_string();
    assert_eq!(error, "limits.max_nodes = 1: must be from 2 to 1048576; 16384 is the default");
    config.limits.max_nodes = 2;
    config.listen.addresses.clear();
    let error = config.check().unwrap_err().to_string();
    assert!(error.starts_with("listen.addresses = []: needs an address;"), "{error}");

    let with = |service: Service| {
        let services = [("a".parse().unwrap(), service)].into();
        Config { services, ..Config::default() }.check().map_err(|error| error.to_string())
    };
    let command = vec!["a\nb".to_owned()];
    assert_eq!(with(Service { command: command.clone(), ..Service::default() }), Ok(()));
    let endless = with(Service { timeout: Duration::MAX, command: command.clone(), ..Service::default() }).unwrap_err();
    assert!(endless.contains("must be from 10ms to 1h; 5s is the default"), "{endless}");
    let long = with(Service { max_output: 2 << 20, command, ..Service::default() }).unwrap_err();
    assert_eq!(
        long,
        "services.a.max_output = 2097152: must not be more than limits.max_payload, which is 1MiB (default)"
    );
    let idle = with(Service { max_output: 7, ..Service::default() }).unwrap_err();
    assert!(idle.starts_with("services.a.max_output = 7: bounds a program, and there is none;"), "{idle}");
    let services = (0..=256).map(|n| {
        (format!("s{n:03}").parse().unwrap(), Service { command: vec!["a".to_owned()], ..Service::default() })
    });
    let many = Config { services: services.collect(), ..Config::default() }.check().unwrap_err().to_string();
    assert_eq!(many, "services.s256.command = [\"a\"]: is of one service too many; 256 are allowed");
}

fn command<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kithd"));
    command.args(args).current_dir(directory).env_remove("KITHD_STATE_DIR").env_remove("KITHD_SOCKET");
    command
}

fn kithd<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>) -> Output {
    command(directory, args).output().unwrap()
}

#[track_caller]
fn assert_refused(output: &Output, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("kithd: {expected}\n"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(2), "{expected}");
}
