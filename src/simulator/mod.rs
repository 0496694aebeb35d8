//! A network of nodes in virtual time: the code of `protocol/`, without threads, sockets or clocks.
//!
//! ```text
//!   world       the hosts, and the queue of events
//!   trouble     what befalls them: crash, kill, stop, partition, leave, restart
//!   batch       events that do not touch each other happen together
//!   traffic     connections between them, and what passes on these
//!   job         a process with something to think about
//!   crew        the threads that let it
//!   process     one node as its daemon runs it: Node, Peers, codec; one loop instead of threads
//!   parcel      what it puts on a connection
//!   sieve       what it takes off a connection
//!   hostile     members that lie
//!   door        what was signed is checked here; equal records are one object for all nodes
//!   ring        the network keys of one node, as marks without keys
//!   links       packets: latency, loss, order, partitions
//!   ledger      who holds what: full agreement, kept up as it changes
//!   history     which digests a node held lately
//!   spread      how a piece of news spreads
//!   checks      the truth, and what the nodes say of it
//!   measure     how long the network took to settle
//!   replay      everything that was ever signed, said again
//!   scenario    a story with measured steps, as `kithd simulate`, the tests and the benches tell it
//!   story       how it is told
//! ```
//!
//! Everything follows from one seed: collections that are gone through are ordered, chance comes from
//! [`Rng`](crate::protocol::rng::Rng), and events of one moment keep the order in which they were made. So a failure is
//! replayed by its seed alone.
//!
//! Bytes are counted as they would be on the wire: messages with the 20 bytes that sealing adds to a record, and 40 of TCP
//! and IP per packet of 1448. What TCP acknowledges without anything to send along is counted apart (`Sent::acks`): goals
//! are about packets that say something. What is retransmitted is not counted again.
//!
//! Not modelled: bandwidth, the time a node computes except for signatures ([`Conditions::signature_cost`]), what the
//! handshake's key agreement costs. A hash stands in for a signature.

mod batch;
pub mod checks;
mod crew;
mod door;
mod history;
mod hostile;
mod job;
mod ledger;
mod links;
mod measure;
mod parcel;
mod process;
mod queue;
mod replay;
mod ring;
pub mod scenario;
mod sieve;
mod spread;
mod story;
mod traffic;
mod trouble;
pub mod world;

pub use checks::Findings;
pub use measure::Settled;
pub use scenario::{Outcome, Part, Scenario, Step, Trouble};
pub use spread::{Reach, Wanted};
pub use story::Told;
pub use world::{Conditions, Host, Sent, World};
