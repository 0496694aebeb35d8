//! What requests mean for their connection: its life, its deadlines, and when it may go.
//!
//! ```text
//!   close: surplus   in use ──▶ kept, for applications                          tail
//!   close: idle      in use ──▶ kept                                            tail
//!   drain            something is open ──▶ closed when it is answered           tail
//!                    closed by the tail, or when it has not done so in time     head
//!   for applications, and nobody has asked for `requests.idle_close` ──▶ idle   tail
//! ```

use std::time::Duration;

use super::main_loop::MainLoop;
use super::surroundings::Order;
use crate::protocol::heartbeat::Side;
use crate::protocol::message::{Purpose, TailMessage};
use crate::protocol::peer_state::{Command, Input, PeerEvent, PeerState};
use crate::protocol::reason::Reason;
use crate::protocol::time::Time;

/// A connection whose place a newer one has taken waits so long for what it still owes: as long as a request has by default.
/// Longer keeps two connections where one should be; shorter fails requests that have done nothing wrong.
const DRAIN: Duration = Duration::from_secs(10);

impl MainLoop {
    pub(super) fn obey(&mut self, order: Order) {
        let Order::Command(command) = order else { return };
        let is_edge = matches!(self.peer.state(), PeerState::Established { .. });
        match (*command, self.side) {
            (Command::Close(Reason::Surplus), Side::Tail) if is_edge && self.requests.open() > 0 => {
                self.handle(Input::Command(Command::Issue(TailMessage::Repurpose(Purpose::Application))));
                self.waiting.push_back(PeerEvent::Kept);
            }
            (Command::Close(Reason::Idle), Side::Tail) if is_edge && !self.requests.retire(Reason::Idle) => {}
            (Command::Drain, Side::Tail) if is_edge && self.requests.drain(Reason::Replaced) > 0 => self.part_later(),
            (Command::Drain, Side::Head) if is_edge => self.part_later(),
            (command, _) => self.handle(Input::Command(command)),
        }
    }

    fn part_later(&mut self) {
        self.parting = Some((Reason::Replaced, self.around.clock.time() + DRAIN));
    }

    /// When something has to be looked at, beside what requests themselves want.
    pub(super) fn deadline(&self) -> Option<Time> {
        let parting = self.parting.map(|(_, latest)| latest);
        [self.peer.deadline(), parting, self.idle_at(), self.settles_at].into_iter().flatten().min()
    }

    /// Requests may have shown that the remote lives, may be late, and may be over.
    #[inline(never)]
    pub(super) fn look_after_requests(&mut self) {
        if !matches!(self.peer.state(), PeerState::Established { .. }) {
            return;
        }
        let heard = self.requests.heard_at();
        if heard > self.heard {
            self.heard = heard;
            self.handle(Input::Heard(heard));
        }
        let now = self.around.clock.time();
        if let Err(reason) = self.requests.due(now) {
            return self.handle(Input::Command(Command::Close(reason)));
        }
        if let Some((reason, latest)) = self.parting
            && (latest <= now || self.side == Side::Tail && self.requests.open() == 0)
        {
            return self.handle(Input::Command(Command::Close(reason)));
        }
        if self.idle_at().is_some_and(|idle_at| idle_at <= now) && self.requests.retire(Reason::Idle) {
            self.handle(Input::Command(Command::Close(Reason::Idle)));
        }
    }

    /// When an edge that applications asked for has been of no use for long enough.
    fn idle_at(&self) -> Option<Time> {
        let is_edge = matches!(self.peer.state(), PeerState::Established { .. });
        let is_asked_for = self.side == Side::Tail && self.peer.purpose() == Purpose::Application;
        let is_idle = is_edge && is_asked_for && self.requests.open() == 0;
        is_idle.then(|| self.requests.asked_at().max(self.edge_since) + self.around.idle_close)
    }
}
