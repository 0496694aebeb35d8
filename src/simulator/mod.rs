//! A network of nodes in virtual time: the code of `protocol/`, without threads, sockets or clocks.
//!
//! ```text
//!   world      the hosts, and the queue of events
//!   trouble    what befalls them: crash, kill, stop, partition, leave, restart
//!   traffic    connections between them, and what passes on these
//!   process    one node as its daemon runs it: Node, Peers, codec; one loop instead of threads
//!   ring       the network keys of one node, as marks without keys
//!   links      packets: latency, loss, order, partitions
//!   checks     the truth, and what the nodes say of it
//!   scenario   a story with a measured end, as `kithd simulate` and the tests tell it
//! ```
//!
//! Everything follows from one seed: collections are ordered, chance comes from [`Rng`](crate::protocol::rng::Rng), and
//! events of one moment keep the order in which they were made. So a failure is replayed by its seed alone.
//!
//! Not modelled: the time a node computes, bandwidth, real signatures (a hash stands in for them).

pub mod checks;
mod links;
mod process;
mod ring;
pub mod scenario;
mod traffic;
mod trouble;
pub mod world;

pub use checks::Findings;
pub use scenario::{Outcome, Scenario};
pub use world::{Conditions, Host, World};
