//! The peer's state machine, for both ends of a connection.
//!
//! ```text
//!            Connect              connected,               Welcome
//!   Idle ──────────────▶ Connecting ──────▶ Handshaking ──────────────▶ Established
//!    │       (tail)          │     keys, Hello   ▲  │      (head: sent)      │
//!    └──────── Accept (head) ┼───────────────────┘  │                        │
//!                            ▼                      ▼                        ▼
//!                         Closed(reason) ◀──────────┴────────────────────────┘
//!            refused, no answer        Busy, deadline, bad bytes     silence, Goodbye, end of stream, Close
//! ```
//!
//! Input goes in (a command of the controller, a message of the remote, the end of the stream, a deadline), actions come
//! out. The head does not decide who may stay: it hands the `Hello` up and answers as the controller commands.

use std::time::Duration;

use super::heartbeat::{Due, Heartbeat, LATE, RELAXED, Side};
use super::identity::ControllerId;
use super::key_mark::KeyMark;
use super::message::{HeadMessage, Purpose, TailMessage};
use super::open_requests::OpenRequests;
use super::reason::Reason;
use super::time::Time;

mod exchange;

pub use super::peer_event::{NewsKind, PeerEvent, Tidings};
pub use exchange::{Action, Command, Greeting, Input};

/// The state of one connection.
#[derive(Clone, Debug)]
pub enum PeerState {
    /// Made, and waiting for its first command.
    Idle,
    /// The tail's dial is under way.
    Connecting {
        /// What the controller wants said first.
        greeting: Box<Greeting>,
        /// When the dial has failed.
        deadline: Time,
    },
    /// The stream stands: the keys are agreed on, then the ends introduce themselves.
    Handshaking {
        /// When all of it has failed.
        deadline: Time,
        /// Who has proved its key; nothing is said before that.
        remote: Option<ControllerId>,
        /// The head has handed a `Hello` up and waits for the controller's answer.
        heard: bool,
        /// What the tail is to say.
        greeting: Option<Box<Greeting>>,
    },
    /// An edge.
    Established {
        /// Its deadlines.
        heartbeat: Heartbeat,
        /// What the tail asked and the head has not answered.
        open: OpenRequests,
    },
    /// Over; nothing follows.
    Closed(Reason),
}

/// The durations of a connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerTimes {
    /// Between heartbeats.
    pub interval: Duration,
    /// For the answer to one.
    pub timeout: Duration,
    /// For a dial.
    pub dial: Duration,
    /// For the identification.
    pub handshake: Duration,
}

impl PeerTimes {
    /// Between heartbeats on an edge of this purpose.
    pub fn between(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Ring => self.interval,
            Purpose::Overlay | Purpose::Probe | Purpose::Application => self.interval * RELAXED,
        }
    }
}

/// One end of one connection: its state and what does not change.
#[derive(Clone, Debug)]
pub struct Peer {
    side: Side,
    times: PeerTimes,
    purpose: Purpose,
    state: PeerState,
}

type Actions = Vec<Action>;

impl Peer {
    /// An idle peer of the given end.
    pub fn new(side: Side, times: PeerTimes) -> Self {
        Self { side, times, purpose: Purpose::Overlay, state: PeerState::Idle }
    }

    /// Its state now.
    pub fn state(&self) -> &PeerState {
        &self.state
    }

    /// What the connection is for, as far as this end knows.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// When it wants an [`Input::Tick`].
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            PeerState::Idle | PeerState::Closed(_) => None,
            PeerState::Connecting { deadline, .. } | PeerState::Handshaking { deadline, .. } => Some(*deadline),
            PeerState::Established { heartbeat, .. } => Some(heartbeat.deadline()),
        }
    }

    /// The one door in; what is to be done is added to `actions`, in order.
    pub fn handle(&mut self, now: Time, input: Input, actions: &mut Actions) {
        if matches!(self.state, PeerState::Closed(_)) {
            return;
        }
        match input {
            Input::Command(command) => self.command(now, command, actions),
            Input::Connected => self.connected(now, actions),
            Input::Secured(remote, key) => self.secured(remote, key, actions),
            Input::Request { message, dated } if self.side == Side::Head => self.request(now, message, dated, actions),
            Input::Answer(message) if self.side == Side::Tail => self.answer(now, message, actions),
            Input::Request { .. } | Input::Answer(_) => self.close(Reason::WrongDirection, actions),
            Input::Ended(reason) => self.ended(reason, actions),
            Input::Heard(at) => self.heard(at, actions),
            Input::Stalled(moves) => self.stalled(now, moves, actions),
            Input::Tick => self.tick(now, actions),
        }
    }

    fn command(&mut self, now: Time, command: Command, actions: &mut Actions) {
        match (command, &mut self.state) {
            (Command::Connect(greeting), PeerState::Idle) => {
                actions.push(Action::Dial(greeting.address));
                self.purpose = greeting.purpose;
                self.state = PeerState::Connecting { greeting, deadline: now + self.patience() };
            }
            (Command::Accept, PeerState::Idle) => {
                self.state = self.handshaking(now, None);
            }
            (Command::Answer(HeadMessage::Goodbye(reason)), _) | (Command::Close(reason), _) => {
                self.close(reason, actions);
            }
            (Command::Answer(welcome @ HeadMessage::Welcome { .. }), PeerState::Handshaking { heard: true, .. }) => {
                actions.extend([Action::Open, Action::Answer(welcome)]);
                self.establish(now);
            }
            (Command::Answer(busy @ HeadMessage::Busy { .. }), PeerState::Handshaking { heard: true, .. }) => {
                actions.push(Action::Answer(busy));
                self.shut(Reason::Busy, false, actions);
            }
            (Command::Answer(answer), PeerState::Established { open, .. }) => {
                open.answered(&answer);
                actions.push(Action::Answer(answer));
            }
            (Command::Issue(request), PeerState::Established { open, heartbeat }) => {
                open.asked(&request);
                if let TailMessage::Repurpose(purpose) = &request {
                    self.purpose = *purpose;
                    heartbeat.set_interval(self.times.between(*purpose), now);
                }
                actions.push(Action::Issue(request));
            }
            (Command::Beat, PeerState::Established { heartbeat, .. }) => {
                let due = heartbeat.beat_now(now);
                self.act_on(due, actions);
            }
            (Command::Spare, PeerState::Established { heartbeat, .. }) => heartbeat.spare(),
            (Command::Drain, PeerState::Established { .. }) if self.side == Side::Tail => {
                self.close(Reason::Replaced, actions);
            }
            // The controller's view of this peer lags behind: the command is for a state that has passed.
            _ => {}
        }
    }

    fn connected(&mut self, now: Time, actions: &mut Actions) {
        let PeerState::Connecting { greeting, .. } = &self.state else { return };
        let Greeting { purpose, first_key, .. } = **greeting;
        actions.extend([Action::Secure { purpose, first_key }, Action::Report(PeerEvent::Connected)]);
        self.state = self.handshaking(now, Some(greeting.clone()));
    }

    fn secured(&mut self, id: ControllerId, key: KeyMark, actions: &mut Actions) {
        let PeerState::Handshaking { remote, greeting, .. } = &mut self.state else { return };
        *remote = Some(id);
        actions.push(Action::Report(PeerEvent::Secured(key)));
        if let Some(greeting) = greeting.take() {
            let Greeting { address, record, clock_ms, purpose, .. } = *greeting;
            actions.push(Action::Issue(TailMessage::Hello { record, clock_ms, purpose, dialled: address }));
        }
    }

    fn handshaking(&self, now: Time, greeting: Option<Box<Greeting>>) -> PeerState {
        PeerState::Handshaking { deadline: now + self.patience(), remote: None, heard: false, greeting }
    }

    fn request(&mut self, now: Time, message: TailMessage, dated: Option<Time>, actions: &mut Actions) {
        match &mut self.state {
            PeerState::Handshaking { remote: None, .. } => self.close(Reason::Unexpected, actions),
            PeerState::Handshaking { remote: Some(remote), heard, .. } => match message {
                TailMessage::Hello { record, .. } if record.body.id != *remote => {
                    self.close(Reason::IdentityMismatch, actions);
                }
                TailMessage::Hello { record, clock_ms, purpose, dialled } if !*heard => {
                    *heard = true;
                    self.purpose = purpose;
                    actions.push(Action::Report(PeerEvent::Hello { record, clock_ms, purpose, dialled }));
                }
                TailMessage::Goodbye(reason) => self.shut(reason.heard(), true, actions),
                _ => self.close(Reason::Unexpected, actions),
            },
            PeerState::Established { heartbeat, open } => {
                if heartbeat.life(now) {
                    actions.push(Action::Report(PeerEvent::Alive));
                }
                open.asked(&message);
                let event = match message {
                    TailMessage::Heartbeat { statement, .. } => {
                        open.beaten();
                        PeerEvent::Statement(statement, dated)
                    }
                    _ if open.exceeds() => return self.close(Reason::Unexpected, actions),
                    TailMessage::Watch => PeerEvent::Watch,
                    TailMessage::Push(news) => PeerEvent::Push(news.into()),
                    TailMessage::Sync { first, buckets } => PeerEvent::Sync(first, buckets),
                    TailMessage::Eager(eager) => PeerEvent::Eager(eager),
                    TailMessage::Census { nonce, mode, remaining_ms } => PeerEvent::Census(nonce, mode, remaining_ms),
                    TailMessage::Repurpose(purpose) => {
                        heartbeat.set_interval(self.times.between(purpose), now);
                        PeerEvent::Repurpose(purpose)
                    }
                    TailMessage::Goodbye(reason) => return self.shut(reason.heard(), true, actions),
                    // Requests are dealt with where frames are taken off, once the edge stands.
                    TailMessage::Hello { .. } | TailMessage::Request(_) | TailMessage::Piece(_) => {
                        return self.close(Reason::Unexpected, actions);
                    }
                };
                actions.push(Action::Report(event));
            }
            PeerState::Idle | PeerState::Connecting { .. } | PeerState::Closed(_) => {
                self.close(Reason::Unexpected, actions);
            }
        }
    }

    fn answer(&mut self, now: Time, message: HeadMessage, actions: &mut Actions) {
        match &mut self.state {
            PeerState::Handshaking { remote: None, .. } => self.close(Reason::Unexpected, actions),
            PeerState::Handshaking { remote: Some(remote), .. } => match message {
                HeadMessage::Welcome { record, .. } | HeadMessage::Busy { record, .. } if record.body.id != *remote => {
                    self.close(Reason::IdentityMismatch, actions);
                }
                HeadMessage::Welcome { record, clock_ms } => {
                    self.establish(now);
                    actions.extend([Action::Open, Action::Report(PeerEvent::Welcome { record, clock_ms })]);
                    self.tick(now, actions);
                }
                HeadMessage::Busy { record, hints } => {
                    actions.push(Action::Report(PeerEvent::Busy { record, hints }));
                    self.shut(Reason::Busy, true, actions);
                }
                HeadMessage::Goodbye(reason) => self.shut(reason.heard(), true, actions),
                _ => self.close(Reason::Unexpected, actions),
            },
            PeerState::Established { heartbeat, open } => {
                if !open.answered(&message) {
                    return self.close(Reason::Unexpected, actions);
                }
                if heartbeat.life(now) {
                    actions.push(Action::Report(PeerEvent::Alive));
                }
                let event = match message {
                    HeadMessage::Heartbeat { seq, statement } => {
                        let Some((sent, _)) = heartbeat.answered(seq, now) else {
                            return self.close(Reason::Unexpected, actions);
                        };
                        if let Some(round_trip) = heartbeat.round_trip() {
                            actions.push(Action::Report(PeerEvent::RoundTrip(round_trip)));
                        }
                        PeerEvent::Statement(statement, Some(sent))
                    }
                    HeadMessage::News(said) => PeerEvent::News(said.into(), NewsKind::Watched),
                    HeadMessage::Ack(said) => PeerEvent::News(said.into(), NewsKind::Acknowledged),
                    HeadMessage::Differences { last, buckets, entries } => {
                        PeerEvent::Differences(last, buckets, entries)
                    }
                    HeadMessage::Census { nonce, returns } => PeerEvent::Counted(nonce, returns),
                    HeadMessage::Goodbye(reason) => return self.shut(reason.heard(), true, actions),
                    HeadMessage::Welcome { .. }
                    | HeadMessage::Busy { .. }
                    | HeadMessage::Response(_)
                    | HeadMessage::Piece(_) => {
                        return self.close(Reason::Unexpected, actions);
                    }
                };
                actions.push(Action::Report(event));
            }
            PeerState::Idle | PeerState::Connecting { .. } | PeerState::Closed(_) => {
                self.close(Reason::Unexpected, actions);
            }
        }
    }

    /// A stream that ends by itself is the remote's doing; bytes that were refused are closed with a goodbye.
    fn ended(&mut self, reason: Reason, actions: &mut Actions) {
        // Nothing may be said before the keys are agreed on: a stranger gets not one byte.
        let is_stranger = matches!(self.state, PeerState::Handshaking { remote: None, .. });
        match reason {
            // The tail's first message was not worth an answer: most likely the head has another network key.
            Reason::EndOfStream | Reason::Reset | Reason::EofInFrame if is_stranger && self.side == Side::Tail => {
                self.shut(Reason::NoAnswer, true, actions);
            }
            Reason::NotKithd => self.shut(reason, false, actions),
            Reason::EndOfStream | Reason::Reset | Reason::EofInFrame => self.shut(reason, true, actions),
            _ if is_stranger || matches!(self.state, PeerState::Connecting { .. }) => self.shut(reason, false, actions),
            _ => self.close(reason, actions),
        }
    }

    fn tick(&mut self, now: Time, actions: &mut Actions) {
        let patience = self.patience();
        match &mut self.state {
            // This process slept: what the remote did meanwhile waits to be seen.
            PeerState::Connecting { deadline, .. } | PeerState::Handshaking { deadline, .. }
                if now.since(*deadline) > LATE =>
            {
                *deadline = now + patience;
            }
            PeerState::Connecting { deadline, .. } if now >= *deadline => {
                self.shut(Reason::ConnectTimeout, false, actions);
            }
            PeerState::Handshaking { deadline, .. } if now >= *deadline => {
                self.shut(Reason::HandshakeTimeout, false, actions);
            }
            PeerState::Established { heartbeat, .. } => {
                let due = heartbeat.due(now);
                self.act_on(due, actions);
            }
            _ => {}
        }
    }

    fn heard(&mut self, at: Time, actions: &mut Actions) {
        if let PeerState::Established { heartbeat, .. } = &mut self.state
            && heartbeat.life(at)
        {
            actions.push(Action::Report(PeerEvent::Alive));
        }
    }

    /// What the remote says is not heard while it does not listen: that is no silence of its own.
    fn stalled(&mut self, now: Time, moves: bool, actions: &mut Actions) {
        match &mut self.state {
            PeerState::Established { heartbeat, .. } if now >= heartbeat.deadline() => match moves {
                true => _ = heartbeat.life(now),
                false => self.close(Reason::SlowReader, actions),
            },
            _ => {}
        }
    }

    /// For the next step before the edge stands.
    fn patience(&self) -> Duration {
        match (self.side, &self.state) {
            (Side::Head, _) => self.times.handshake,
            (Side::Tail, PeerState::Idle) => self.times.dial,
            // A head that accepts and says nothing is a failed dial: the probe of a stopped process must not wait longer.
            (Side::Tail, _) => self.times.dial.min(self.times.handshake),
        }
    }

    fn act_on(&mut self, due: Option<Due>, actions: &mut Actions) {
        match due {
            Some(Due::Beat { seq, echo }) => {
                if let PeerState::Established { open, .. } = &mut self.state {
                    open.beat();
                }
                actions.push(Action::Beat { seq, echo });
            }
            Some(Due::Silent) => actions.push(Action::Report(PeerEvent::Silent)),
            Some(Due::TimedOut) => self.close(Reason::HeartbeatTimeout, actions),
            None => {}
        }
    }

    fn establish(&mut self, now: Time) {
        let mut heartbeat = Heartbeat::new(self.side, self.times.between(self.purpose), self.times.timeout, now);
        if self.purpose == Purpose::Application {
            // Dialled to be asked something: the answer is life too, and most often it is all that is wanted.
            heartbeat.begin_after(self.times.interval, now);
        }
        self.state = PeerState::Established { heartbeat, open: OpenRequests::default() };
    }

    /// Closes with a word to the remote, if there is anybody who would understand it.
    fn close(&mut self, reason: Reason, actions: &mut Actions) {
        match (&self.state, self.side) {
            (PeerState::Handshaking { remote: Some(_), .. } | PeerState::Established { .. }, Side::Tail) => {
                actions.push(Action::Issue(TailMessage::Goodbye(reason)));
            }
            (PeerState::Established { .. } | PeerState::Handshaking { heard: true, .. }, Side::Head) => {
                actions.push(Action::Answer(HeadMessage::Goodbye(reason)));
            }
            _ => {}
        }
        self.shut(reason, false, actions);
    }

    fn shut(&mut self, reason: Reason, by_remote: bool, actions: &mut Actions) {
        self.state = PeerState::Closed(reason);
        actions.extend([Action::Shut, Action::Report(PeerEvent::Closed { reason, by_remote })]);
    }
}

#[cfg(test)]
mod tests;
