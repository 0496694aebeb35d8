//! What a node gives each of its peers.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::crew::Crew;
use super::main_loop::Checked;
use super::requests::Line;
use super::sink::Budget;
use crate::clock::Clock;
use crate::protocol::discovery::agreement::Claim;
use crate::protocol::identity::PeerId;
use crate::protocol::peer_state::{Command, PeerTimes};
use crate::protocol::requests::Window;
use crate::reactor::ReactorHandle;
use crate::secure::credentials::Credentials;
use crate::secure::door::Door;
use crate::secure::network_key::KeyRing;
use crate::secure::recent::Recent;
use crate::services::Services;

/// Commands a peer may have waiting: discovery sends a handful at a time, and a peer that is this far behind is lost.
pub const MAX_COMMANDS: usize = 1024;

/// What a peer is told by others than the network.
pub enum Order {
    /// By the controller.
    Command(Box<Command>),
    /// By whoever has asked something, or answered it: a deadline may have come nearer.
    Look,
}

/// What all peers of a node share.
#[derive(Clone)]
pub struct Surroundings {
    /// The node's clock.
    pub clock: Clock,
    /// The threads.
    pub crew: Arc<Crew>,
    /// Where connections are made.
    pub reactor: ReactorHandle,
    /// Where signatures are checked.
    pub door: Arc<Door>,
    /// What this node shows in a handshake.
    pub credentials: Arc<Credentials>,
    /// The network's keys.
    pub keys: Arc<KeyRing>,
    /// First messages of handshakes that were seen lately.
    pub seen: Arc<Recent>,
    /// What the node may state of its view now; changed by the controller in the same step as the view.
    pub claim: Arc<Mutex<Claim>>,
    /// Bound on the bytes queued for all peers.
    pub budget: Arc<Budget>,
    /// Bound on the bytes queued for one.
    pub max_queued: usize,
    /// How much may be open on one connection, in each direction.
    pub window: Window,
    /// How long the pieces of a request may be under way.
    pub patience: Duration,
    /// What this node answers.
    pub services: Arc<Services>,
    /// An edge that applications asked for is closed when nobody has asked for so long.
    pub idle_close: Duration,
    /// The durations of a connection.
    pub times: PeerTimes,
    /// Counts how often threads wake up.
    pub wakeups: Arc<AtomicU64>,
    /// Counts the heartbeats answered.
    pub answered: Arc<AtomicU64>,
    /// To the controller; a peer waits if it is full.
    pub events: Sender<(PeerId, Checked)>,
}

impl Surroundings {
    /// What a peer's requests need of the node. They must not keep the peer's thread alive once it was let go.
    pub fn line(&self, sender: &Arc<Sender<Order>>) -> Line {
        let sender = Arc::downgrade(sender);
        let look = move || {
            if let Some(sender) = sender.upgrade().filter(|sender| sender.len() < MAX_COMMANDS) {
                let _ = sender.send(Order::Look);
            }
        };
        Line {
            clock: self.clock,
            services: Arc::clone(&self.services),
            window: self.window,
            patience: self.patience,
            budget: Arc::clone(&self.budget),
            look: Box::new(look),
        }
    }
}
