//! What a node answers, and how it asks: tables `requests` and `services.NAME`.

use std::time::Duration;

use crate::protocol::identity::ControllerId;

/// Table `requests`.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// How long an edge that was dialled for a request stays without one. Shorter frees a connection at both ends sooner;
    /// longer spares the next request a dial and a handshake. Bound: 100ms to 24h.
    pub idle_close: Duration,
    /// How long a request may take if whoever asks does not say. Shorter gives up on the slow; longer keeps the asker,
    /// and a place at both ends, waiting for the dead. Bound: 10ms to 1h.
    pub timeout: Duration,
    /// Whether the service `echo` answers, with what it was sent. It shows that requests arrive, and costs traffic as
    /// others please. Bound: true or false.
    pub echo: bool,
    /// Whether the service `status` answers, with what `kithd status` shows here. Handy for whoever looks after many
    /// nodes; every member may read it. Bound: true or false.
    pub status: bool,
    /// Whether the service `identity` answers, with id and label, which the network knows anyway. Bound: true or
    /// false.
    pub identity: bool,
}

impl Requests {
    /// The services that this node may answer itself, and whether it does.
    pub fn built_in(&self) -> [(&'static str, bool); 3] {
        [("echo", self.echo), ("status", self.status), ("identity", self.identity)]
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            idle_close: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            echo: true,
            status: true,
            identity: true,
        }
    }
}

/// Table `services.NAME`: a service that a program answers, or who may ask for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The program that is run for each request, and its arguments; no shell reads them. None: somebody else answers, this
    /// node itself or a program that registers the service, and the table says only who may ask. What it does it does with
    /// this node's rights, for everybody who may ask. Bound: 1 to 64 words without NUL.
    pub command: Vec<String>,
    /// How long one run may take, after which it is killed with all that it has started. Shorter frees its worker sooner,
    /// longer lets slow programs end. Bound: 10ms to 1h.
    pub timeout: Duration,
    /// How many bytes it may answer; with more it is killed, and the request fails. Lower bounds memory, higher lets it say
    /// more. Bound: 0 to 16MiB, at most `limits.max_payload`.
    pub max_output: usize,
    /// Who may ask, by the id each has proven; none: every member of the network. A list keeps out whoever is not on it,
    /// and has to follow the network as it grows. Bound: 512, none twice.
    pub allow: Vec<ControllerId>,
}

impl Service {
    /// The most words of a command: what is longer is a script, and belongs into a file.
    pub const WORDS_MAX: usize = 64;
    /// The most services: more than anybody tells apart, and each is looked for at every request.
    pub const MOST: usize = 256;
}

impl Default for Service {
    fn default() -> Self {
        Self { command: Vec::new(), timeout: Duration::from_secs(5), max_output: 64 << 10, allow: Vec::new() }
    }
}
