//! The one table of keys. The file's reader, the flags, their help, `config show` and "did you mean" all follow it.

use std::sync::LazyLock;
use std::time::Duration;

use super::Config;
use super::field::{Fault, Field, Shape};

/// One key: its name in the file, its flag, and how its value is read and written.
#[derive(Clone, Debug)]
pub struct Key {
    /// Table and name, as in the file: `heartbeat.timeout`.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// Its flag, without the dashes: the short one if it has one, else `heartbeat-timeout`.
    pub flag: String,
    /// The flag after the key's name, where `flag` is a shorter one.
    pub long_flag: Option<String>,
    /// The environment variable that sets it, if there is one.
    pub environment: Option<&'static str>,
    field: Field,
}

impl Key {
    /// The table it is in: `heartbeat`.
    pub fn table(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(table, _)| table)
    }

    /// Its name in that table: `timeout`.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// Whether it takes any number of values.
    pub fn is_list(&self) -> bool {
        matches!(self.shape(), Shape::List | Shape::Table)
    }

    /// What stands for its value in help: `DURATION`.
    pub fn placeholder(&self) -> &'static str {
        self.field.placeholder()
    }

    /// Its value as words, each as it would be given to its flag; none: it is not set.
    pub fn words(&self, config: &Config) -> Vec<String> {
        self.field.words(config)
    }

    /// Its value as JSON: numbers for counts and sizes, arrays, objects, text for the others, null if it is not set.
    pub fn json(&self, config: &Config) -> serde_json::Value {
        self.field.json(config)
    }

    /// Its value in one word: `500ms`, `2MiB`; lists with commas; empty if it is not set.
    pub fn text(&self, config: &Config) -> String {
        self.words(config).join(",")
    }

    /// Sets it, or says which word is wrong and why.
    pub(super) fn set(&self, config: &mut Config, words: &[String]) -> Result<(), Fault> {
        self.field.set(config, words)
    }

    /// The form of its value in the file.
    pub(super) fn shape(&self) -> Shape {
        self.field.shape()
    }

    /// What its value must be in the file, in words.
    pub(super) fn expected(&self) -> &'static str {
        self.field.expected()
    }

    /// How much it is, if it can be compared.
    pub(super) fn magnitude(&self, config: &Config) -> Option<u128> {
        self.field.magnitude(config)
    }

    fn new(name: &'static str, field: Field) -> Self {
        Self { name, help: "", flag: name.replace(['.', '_'], "-"), long_flag: None, environment: None, field }
    }

    fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    fn flag(self, flag: &str) -> Self {
        Self { long_flag: Some(self.flag), flag: flag.to_owned(), ..self }
    }

    fn environment(self, variable: &'static str) -> Self {
        Self { environment: Some(variable), ..self }
    }
}

/// All keys, in the order of the file.
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        [node_and_network(), monitor_and_heartbeat(), discovery(), requests(), limits(), log()].concat()
    });
    &KEYS
}

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.name == name)
}

/// The nearest key to what was written, if one is near enough to be meant.
pub(super) fn nearest(written: &str) -> Option<&'static Key> {
    let (table, name) = written.rsplit_once('.').unwrap_or(("", written));
    let distance = |key: &Key| match table {
        // The right name in the wrong table is as near as one wrong letter.
        _ if key.short_name() == name => 1,
        "" => edits(key.short_name(), name),
        _ => edits(key.name, written),
    };
    let near = keys().iter().map(|key| (distance(key), key)).filter(|(distance, _)| *distance <= 3);
    near.min_by_key(|(distance, _)| *distance).map(|(_, key)| key)
}

/// How many letters must be added, removed or changed to turn one word into the other (Levenshtein).
pub(super) fn edits(one: &str, other: &str) -> usize {
    // A key is short: cutting what is long changes no answer that is used, and bounds the work.
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(64).collect(), other.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn node_and_network() -> Vec<Key> {
    use Field::{Addresses, Advertise, Expected, Hosts, Ids, Label, OptionalPath, Path, Tags};
    vec![
        Key::new("node.label", Label(|c| &mut c.node.label)).help("Readable name of this node").flag("label"),
        Key::new("node.state_dir", Path(|c| &mut c.node.state_dir))
            .help("Where identity and known addresses are kept")
            .flag("state-dir")
            .environment("KITHD_STATE_DIR"),
        Key::new("node.tags", Tags(|c| &mut c.node.tags))
            .help("What else the network should know of this node")
            .flag("tag"),
        Key::new("node.socket", OptionalPath(|c| &mut c.node.socket))
            .help("Admin socket, if not in the state directory")
            .flag("socket")
            .environment("KITHD_SOCKET"),
        Key::new("listen.addresses", Addresses(|c| &mut c.listen.addresses))
            .help("Where to accept connections; port 0: any")
            .flag("listen"),
        Key::new("listen.advertise", Advertise(|c| &mut c.listen.advertise))
            .help("Address that others are told to dial")
            .flag("advertise"),
        Key::new("network.name", Label(|c| &mut c.network.name)).help("Name of the network; others are refused"),
        Key::new("network.key_file", OptionalPath(|c| &mut c.network.key_file))
            .help("File with the network's key; see kithd keygen"),
        Key::new("network.connect", Hosts(|c| &mut c.network.connect))
            .help("Where the network is to be found")
            .flag("connect"),
        Key::new("network.expect", Expected(|c| &mut c.network.expect))
            .help("Nodes that should be there, by label or id"),
        Key::new("network.allow", Ids(|c| &mut c.network.allow)).help("Nodes that may be neighbours, by id"),
    ]
}

fn monitor_and_heartbeat() -> Vec<Key> {
    use Field::{OptionalPath, Time};
    vec![
        Key::new("monitor.idle_period", Time(|c| &mut c.monitor.idle_period, 10 * MS, HOUR))
            .help("How often to look for somebody to dial"),
        Key::new("monitor.status_period", Time(|c| &mut c.monitor.status_period, 100 * MS, 24 * HOUR))
            .help("How often to report"),
        Key::new("monitor.status_file", OptionalPath(|c| &mut c.monitor.status_file))
            .help("Where to write the report, as JSON"),
        Key::new("heartbeat.interval", Time(|c| &mut c.heartbeat.interval, 10 * MS, HOUR))
            .help("How often to ask neighbours for life"),
        Key::new("heartbeat.timeout", Time(|c| &mut c.heartbeat.timeout, 10 * MS, MINUTE))
            .help("How much silence becomes suspicion"),
    ]
}

fn discovery() -> Vec<Key> {
    use Field::{Count, Time};
    vec![
        Key::new("discovery.out_degree", Count(|c| &mut c.discovery.out_degree, 1, 256))
            .help("Neighbours to dial and keep"),
        Key::new("discovery.accept", Count(|c| &mut c.discovery.accept, 1, 4096))
            .help("Neighbours to accept from those who dial"),
        Key::new("discovery.accept_ring", Count(|c| &mut c.discovery.accept_ring, 0, 256))
            .help("Further neighbours to accept, for ring edges"),
        Key::new("discovery.flush_first", Time(|c| &mut c.discovery.flush_first, MS, 10 * SECOND))
            .help("How long news wait before they are sent"),
        Key::new("discovery.flush_interval", Time(|c| &mut c.discovery.flush_interval, MS, MINUTE))
            .help("Least time between two sendings of news"),
        Key::new("discovery.publish_stability", Time(|c| &mut c.discovery.publish_stability, MS, MINUTE))
            .help("Publish neighbours once unchanged for so long"),
        Key::new("discovery.publish_interval", Time(|c| &mut c.discovery.publish_interval, 10 * MS, HOUR))
            .help("Least time between two own records"),
        Key::new("discovery.refute_window", Time(|c| &mut c.discovery.refute_window, 10 * MS, 10 * MINUTE))
            .help("How long a suspected node has to speak up"),
        Key::new("discovery.dial_timeout", Time(|c| &mut c.discovery.dial_timeout, 10 * MS, 2 * MINUTE))
            .help("How long a dial may take"),
    ]
}

fn requests() -> Vec<Key> {
    use Field::{Switch, Time};
    vec![
        Key::new("requests.idle_close", Time(|c| &mut c.requests.idle_close, 100 * MS, 24 * HOUR))
            .help("How long an edge for requests stays without one"),
        Key::new("requests.timeout", Time(|c| &mut c.requests.timeout, 10 * MS, HOUR))
            .help("How long a request may take, unless it says"),
        Key::new("requests.echo", Switch(|c| &mut c.requests.echo)).help("Whether the service echo answers"),
        Key::new("requests.status", Switch(|c| &mut c.requests.status)).help("Whether the service status answers"),
        Key::new("requests.identity", Switch(|c| &mut c.requests.identity))
            .help("Whether the service identity answers"),
    ]
}

fn limits() -> Vec<Key> {
    use Field::{Count, Size, Switch, Time};
    const PEERS: usize = 65_535;
    const ENTRIES: usize = 1 << 20;
    const KIB: usize = 1 << 10;
    const GIB: usize = 1 << 30;
    vec![
        Key::new("limits.max_outgoing", Count(|c| &mut c.limits.max_outgoing, 1, PEERS))
            .help("Most connections dialled"),
        Key::new("limits.max_incoming", Count(|c| &mut c.limits.max_incoming, 1, PEERS))
            .help("Most connections accepted"),
        Key::new("limits.max_pending", Count(|c| &mut c.limits.max_pending, 1, PEERS))
            .help("Most accepted ones not yet known"),
        Key::new("limits.max_pending_per_prefix", Count(|c| &mut c.limits.max_pending_per_prefix, 1, PEERS))
            .help("The same, from one /24 or /64"),
        Key::new("limits.connections_per_prefix", Count(|c| &mut c.limits.connections_per_prefix, 1, 100_000))
            .help("New connections a second from one /24 or /64"),
        Key::new("limits.connections_burst", Count(|c| &mut c.limits.connections_burst, 1, 100_000))
            .help("How many may come at once before that rate counts"),
        Key::new("limits.connections_per_second", Count(|c| &mut c.limits.connections_per_second, 1, 100_000))
            .help("New connections a second from all networks"),
        Key::new("limits.exempt_loopback", Switch(|c| &mut c.limits.exempt_loopback))
            .help("Whether loopback is exempt from limits per /24"),
        Key::new("limits.handshake_timeout", Time(|c| &mut c.limits.handshake_timeout, 100 * MS, 2 * MINUTE))
            .help("How long a handshake may take in all"),
        Key::new("limits.max_queued", Size(|c| &mut c.limits.max_queued, 64 * KIB, GIB))
            .help("Most bytes waiting for one peer"),
        Key::new("limits.max_queued_total", Size(|c| &mut c.limits.max_queued_total, 64 * KIB, 2 * GIB))
            .help("Most bytes waiting for all peers"),
        Key::new("limits.memory_budget", Size(|c| &mut c.limits.memory_budget, 4 << 20, 2 * GIB))
            .help("What all queues may take; the bounds above follow it"),
        Key::new("limits.max_payload", Size(|c| &mut c.limits.max_payload, 64 * KIB, 16 << 20))
            .help("Most bytes of one request, or of its answer"),
        Key::new("limits.max_outstanding", Count(|c| &mut c.limits.max_outstanding, 1, 65_535))
            .help("Most open requests of one peer, and at one"),
        Key::new("limits.max_outstanding_bytes", Size(|c| &mut c.limits.max_outstanding_bytes, 64 * KIB, GIB))
            .help("The same, in bytes of their payloads"),
        Key::new("limits.workers", Count(|c| &mut c.limits.workers, 1, 256))
            .help("Most threads for handlers that may block"),
        Key::new("limits.max_calls", Count(|c| &mut c.limits.max_calls, 1, 65_535))
            .help("Most requests that wait for one of them"),
        Key::new("limits.frame_timeout", Time(|c| &mut c.limits.frame_timeout, 100 * MS, 10 * MINUTE))
            .help("How long a message may take to arrive"),
        Key::new("limits.max_nodes", Count(|c| &mut c.limits.max_nodes, 2, ENTRIES)).help("Most nodes in the view"),
        Key::new("limits.max_addresses", Count(|c| &mut c.limits.max_addresses, 16, ENTRIES))
            .help("Most addresses heard of but never reached"),
        Key::new("limits.max_addresses_per_source", Count(|c| &mut c.limits.max_addresses_per_source, 1, ENTRIES))
            .help("The same, from one source"),
        Key::new("limits.max_bans", Count(|c| &mut c.limits.max_bans, 1, 16_384)).help("Most bans at a time"),
        Key::new("limits.max_admin_clients", Count(|c| &mut c.limits.max_admin_clients, 1, 1024))
            .help("Most connections to the admin socket"),
    ]
}

fn log() -> Vec<Key> {
    use Field::{Level, OptionalPath};
    vec![
        Key::new("log.level", Level(|c| &mut c.log.level)).help("Least important lines to write"),
        Key::new("log.file", OptionalPath(|c| &mut c.log.file)).help("Where to write log lines, if not to stderr"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_flags_are_unique() {
        let names: BTreeSet<_> = keys().iter().map(|key| key.name).collect();
        let flags: BTreeSet<_> =
            keys().iter().flat_map(|key| [Some(&key.flag), key.long_flag.as_ref()]).flatten().collect();
        assert_eq!(names.len(), keys().len());
        assert!(keys().iter().all(|key| !key.help.is_empty()));
        assert_eq!(flags.len(), keys().iter().map(|key| 1 + usize::from(key.long_flag.is_some())).sum::<usize>());
    }

    #[test]
    fn each_default_is_accepted_and_reads_back_the_same() {
        let default = Config::default();
        for key in keys() {
            let mut config = Config::default();
            let words = key.words(&default);
            if !words.is_empty() {
                assert_eq!(key.set(&mut config, &words).map_err(|fault| fault.message), Ok(()), "{}", key.name);
            }
            assert_eq!(config, default, "{}", key.name);
        }
    }

    #[test]
    fn each_key_has_a_field_of_its_own() {
        let changed = |key: &Key| match key.field {
            Field::Label(_) => "another",
            Field::Level(_) => "trace",
            Field::Path(_) | Field::OptionalPath(_) => "/another",
            Field::Addresses(_) | Field::Advertise(_) | Field::Hosts(_) => "127.0.0.1:1",
            Field::Expected(_) => "another",
            Field::Ids(_) => "1c9f02ab1c9f02ab1c9f02ab1c9f02ab1c9f02ab1c9f02ab1c9f02ab1c9f02ab",
            Field::Command(_) => "uptime",
            Field::Tags(_) => "role=web",
            Field::Time(..) => "7s",
            Field::Count(..) => "100",
            Field::Size(..) => "5MiB",
            Field::Switch(_) => "false",
        };
        for key in keys() {
            let mut config = Config::default();
            key.set(&mut config, &[changed(key).to_owned()]).map_err(|fault| fault.message).unwrap();
            let differing = keys().iter().filter(|other| other.words(&config) != other.words(&Config::default()));
            assert_eq!(differing.map(|other| other.name).collect::<Vec<_>>(), [key.name]);
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        for (written, meant) in [
            ("heartbeat.intervall", Some("heartbeat.interval")),
            ("heartbeat.time_out", Some("heartbeat.timeout")),
            ("hearbeat.interval", Some("heartbeat.interval")),
            ("timeout", Some("heartbeat.timeout")),
            ("max_node", Some("limits.max_nodes")),
            ("node.connect", Some("network.connect")),
            ("node.colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written).map(|key| key.name), meant, "{written}");
        }
    }
}
