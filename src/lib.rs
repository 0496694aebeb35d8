//! kithd: a peer-to-peer node on OS threads, without an async runtime.
//!
//! Nodes connect over TCP, watch each other, and each learns the whole network: who is there, who is linked to whom, who
//! is gone, and how many nodes are shown to know the same. The daemon `kithd` is this library with a command line.
//!
//! # A node in a program
//!
//! ```
//! use kithd::{Config, Node};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = std::env::temp_dir().join(format!("kithd-doc-{}", std::process::id()));
//! let mut config = Config::default();
//! config.node.state_dir = state.clone();
//! config.listen.addresses = vec!["127.0.0.1:0".parse()?];
//!
//! let node = Node::start(config)?;
//! let network = node.network();
//! assert_eq!(network.nodes.len(), 1);
//! assert!(network.agreement.unanimous, "alone, one agrees with oneself");
//! node.shutdown();
//! # std::fs::remove_dir_all(state)?;
//! # Ok(())
//! # }
//! ```
//!
//! # The names a program needs
//!
//! [`Node`] runs; [`Config`] is what it is told, a struct per table of `config/kithd.toml`; [`StartError`] is why it does
//! not start, [`AccessError`] why somebody is not banned, [`Reloaded`] what became of a changed configuration; [`Event`]
//! is what it notices; [`Outcome`] is how a dial ended; [`End`] is why it should end. A service takes a [`Request`] and makes
//! a [`Response`]; whoever asks has an answer or a [`RequestError`], and for many at once a [`Requester`]. What it reports is in
//! [`protocol::report`]. The other modules are the house itself: open to be read, and free to change.
//!
//! # For programs in other languages
//!
//! [`protocol::wire`] gives every byte that two nodes exchange, with examples: enough to write another one.
//!
//! # The house
//!
//! Each floor may use only what lies below it.
//!
//! ```text
//!  6  main.rs, cli       parse, run, print
//!  5  controller         the node's threads: main, listen, monitor idle, monitor status, network discovery
//!     simulator          the same thinking in virtual time, without threads
//!  4  peer, admin        one connection's thread · JSON lines over a Unix socket, to a desk where the controller sits
//!  3  services           what this node answers: handlers, their workers, programs
//!  2  reactor, secure    the thread that reads all sockets · keys, and what was signed
//!  1  protocol           the thinking: pure, time and chance are arguments
//!     config, clock      what a node is told; the one place that asks for the time
//!     scheduling         how the system is to treat threads that others wake all the time
//! ```
//!
//! ```text
//!         bytes      frames                  messages / events              pure call
//!  socket ────▶ reactor ────────▶ peer main loop ────────▶ controller main loop ────▶ protocol::node
//!     ▲                             │        ▲                   │                        │
//!     └───────────── sink ──────────┘        └──── commands ─────┴──────── actions ───────┘
//! ```
//!
//! Up may wait, down never waits: a peer that cannot hand its events on stops taking frames, its socket is no longer
//! read, and TCP slows the sender down. A command that finds no room closes its peer, with the reason. So no circle of
//! full channels can stand still.
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | node | one running kithd: one controller and its peers |
//! | controller | the node's one coordinator; its id is its Ed25519 public key, unique in the network |
//! | peer | what is in charge of one TCP connection; its id is the controller's number for it |
//! | tail, head, edge | who dialled, who accepted, the connection. The tail asks, the head answers, never otherwise |
//! | label | a readable name, hopefully unique: 1 to 63 of `A-Z a-z 0-9 . _ -` |
//! | address | the `ip:port` under which others are told to dial the node |
//! | service | a name under which a node answers what applications ask |
//! | record | what a node says of itself, signed by it and versioned |
//! | view | what a node knows of the whole network: records, edges, who is up, suspect, down or left |
//! | digest, agreement | a hash of the view, and how many nodes are shown to hold the same one |
//!
//! Gossip reaches *eventual agreement*: when nothing changes for a while, all come to hold the same view, and each can
//! show who does. It is not consensus as databases mean it: there is no quorum and no order of all changes.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod controller;
pub mod peer;
pub mod protocol;
pub mod reactor;
pub mod scheduling;
pub mod secure;
pub mod services;
pub mod simulator;

pub use config::Config;
pub use controller::node::Node;
pub use controller::requester::{Completion, Pipeline, Requester};
pub use controller::{AccessError, End, Reloaded, StartError};
pub use protocol::node::{Notice as Event, Outcome};
pub use protocol::requests::error::RequestError;
pub use services::{Caller, Request, Response, ServiceError};

/// The README's programs are tested too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
