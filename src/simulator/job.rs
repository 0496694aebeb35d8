//! One process with something to think about. It is out of the world while it thinks, so that others can think beside it on
//! other threads, and comes back with all that it wants of the world.

use std::net::SocketAddr;

use super::parcel::Spoken;
use super::process::{Effect, Process};
use super::world::Host;
use crate::protocol::heartbeat::Side;
use crate::protocol::identity::PeerId;
use crate::protocol::node::Input;
use crate::protocol::reason::Reason;
use crate::protocol::time::{Now, Time};

/// A process, what it is told, and what came of it.
pub(super) struct Job {
    pub(super) host: Host,
    /// By the host's own clocks.
    pub(super) now: Now,
    pub(super) process: Box<Process>,
    /// Until it has been thought about.
    word: Option<Word>,
    /// What it means for a connection.
    pub(super) sequel: Sequel,
    /// True if it waited for a busy process: others may wait behind it.
    pub(super) waited: bool,
    pub(super) turns: Vec<Turn>,
}

/// What a process is told.
pub(super) enum Word {
    /// Perhaps a deadline has come.
    Tick,
    /// Something from its user, or from the resolver.
    Tell(Input),
    /// A connection has come in.
    Accept(SocketAddr),
    /// A dial succeeded.
    Connected(PeerId),
    /// A dial failed.
    Refused(PeerId, Reason),
    /// Messages came in.
    Told(PeerId, Vec<Spoken>),
    /// Bytes came in, in pieces.
    Received(PeerId, Vec<Vec<u8>>),
    /// A connection is over; true if by a reset.
    Ended(PeerId, bool),
}

/// What becomes of a connection once the process knows.
pub(super) enum Sequel {
    /// It stays what it is.
    Nothing,
    /// This one came in; which peer it became, if it was let in.
    Joins(u64, Option<PeerId>),
    /// This end is over.
    Leaves(u64, Side, PeerId),
}

/// What a process did in one go, and how it was then.
pub(super) struct Turn {
    pub(super) effects: Vec<Effect>,
    /// How many signatures it checked.
    pub(super) checks: u32,
    /// Of its view.
    pub(super) sketch: u64,
    pub(super) deadline: Option<Time>,
}

impl Job {
    pub(super) fn new(host: Host, now: Now, process: Box<Process>, word: Word, sequel: Sequel) -> Self {
        Self { host, now, process, word: Some(word), sequel, waited: false, turns: Vec::new() }
    }

    /// The process thinks: whatever happens here depends on nothing but the job.
    pub(super) fn think(&mut self) {
        let now = self.now;
        match self.word.take() {
            Some(Word::Tick) => self.turn(|process| process.tick(now)),
            Some(Word::Tell(input)) => self.turn(|process| process.tell(now, input)),
            Some(Word::Accept(from)) => {
                let (accepted, effects) = self.process.accepted(now, from);
                if let Sequel::Joins(_, peer) = &mut self.sequel {
                    *peer = accepted.ok();
                }
                self.turn(|_| effects);
            }
            Some(Word::Connected(peer)) => self.turn(|process| process.connected(now, peer)),
            Some(Word::Refused(peer, reason)) => {
                self.turn(|process| process.refused(now, peer, reason));
                self.turn(|process| process.ended(now, peer, true));
            }
            Some(Word::Told(peer, messages)) => self.turn(|process| process.told(now, peer, messages)),
            Some(Word::Received(peer, pieces)) => {
                pieces.iter().for_each(|piece| self.turn(|process| process.received(now, peer, piece)));
            }
            Some(Word::Ended(peer, reset)) => self.turn(|process| process.ended(now, peer, reset)),
            None => {}
        }
    }

    fn turn(&mut self, act: impl FnOnce(&mut Process) -> Vec<Effect>) {
        if !self.turns.last().is_some_and(Turn::is_last) {
            let effects = act(&mut self.process);
            self.turns.push(Turn::of(&mut self.process, effects));
        }
    }
}

impl Turn {
    pub(super) fn of(process: &mut Process, effects: Vec<Effect>) -> Self {
        let (checks, sketch) = (process.take_checks(), process.node().view().sketch());
        Self { effects, checks, sketch, deadline: process.deadline() }
    }

    /// After this the process is gone.
    fn is_last(&self) -> bool {
        matches!(self.effects.last(), Some(Effect::Exit))
    }
}
