//! The peer's state machine under any sequence of inputs: it never panics, does nothing after its end, keeps to its side of
//! the direction rule, and always comes to rest until its next deadline.

use std::time::Duration;

use kithd::protocol::heartbeat::Side;
use kithd::protocol::key_mark::KeyMark;
use kithd::protocol::open_requests::{MAX_WATCHES, WATCHES_BORNE};
use kithd::protocol::peer_state::{Action, Command, Greeting, Input, Peer, PeerEvent, PeerState, PeerTimes};
use kithd::protocol::time::Time;

use super::bytes::Bytes;
use super::made::{Maker, WALL_MS, address, any_id, purpose, reason};

/// After this many ticks at one moment a machine is no longer late but in a circle.
const MOST_TICKS: usize = 4;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let side = bytes.pick(&[Side::Tail, Side::Head]);
    let mut trial = Trial {
        side,
        peer: Peer::new(side, times(&mut bytes)),
        maker: Maker::speaking(any_id(&mut bytes)),
        now: Time(1_000_000),
        beat: 0,
        watches: 0,
        secured: false,
    };
    while !bytes.is_empty() {
        let input = trial.input(&mut bytes);
        trial.put(input);
        for tick in 0.. {
            let Some(deadline) = trial.peer.deadline().filter(|deadline| *deadline <= trial.now) else { break };
            assert!(tick < MOST_TICKS, "it wants a tick at {deadline:?} for ever, and it is {:?}", trial.now);
            trial.put(Input::Tick);
        }
    }
}

/// What a configuration may say, from its least to its most.
fn times(bytes: &mut Bytes<'_>) -> PeerTimes {
    let span = |bytes: &mut Bytes<'_>| bytes.pick(&[100, 500, 1000, 5000, 3_600_000].map(Duration::from_millis));
    PeerTimes { interval: span(bytes), timeout: span(bytes), dial: span(bytes), handshake: span(bytes) }
}

struct Trial {
    side: Side,
    peer: Peer,
    maker: Maker,
    now: Time,
    /// The last heartbeat that was sent.
    beat: u32,
    /// Handed up and not yet answered.
    watches: u32,
    /// Somebody has proved a key.
    secured: bool,
}

impl Trial {
    fn input(&mut self, bytes: &mut Bytes<'_>) -> Input {
        // The controller is the node's own: it asks of each end what that end can do.
        match (bytes.below(16), self.side) {
            (0, Side::Tail) => Input::Command(Command::Connect(Box::new(Greeting {
                address: address(bytes),
                record: self.maker.record(bytes),
                clock_ms: WALL_MS,
                purpose: purpose(bytes),
                first_key: false,
            }))),
            (0, Side::Head) => Input::Command(Command::Accept),
            (1, Side::Tail) => Input::Connected,
            (1 | 2, _) => self.secure().unwrap_or(Input::Tick),
            (3 | 4, Side::Head) => Input::Command(Command::Answer(self.maker.head_message(self.beat, bytes))),
            (3 | 4, Side::Tail) => Input::Command(Command::Issue(self.maker.tail_message(bytes))),
            (5, _) => Input::Command(Command::Beat),
            (6, _) => Input::Command(Command::Spare),
            (7, _) if bytes.chance(4) => Input::Command(Command::Close(reason(bytes))),
            (8, _) if bytes.chance(4) => Input::Ended(reason(bytes)),
            (9 | 10, _) => {
                self.advance(bytes);
                if bytes.chance(8) { Input::Stalled(bytes.chance(2)) } else { Input::Tick }
            }
            (11.., _) => match (self.side, bytes.chance(32)) {
                (Side::Head, false) | (Side::Tail, true) => {
                    let message = self.maker.tail_message(bytes);
                    Input::Request { message, dated: bytes.chance(2).then_some(self.now) }
                }
                _ => Input::Answer(self.maker.head_message(self.beat, bytes)),
            },
            _ => Input::Tick,
        }
    }

    /// The handshake is over, if there is one.
    fn secure(&mut self) -> Option<Input> {
        let PeerState::Handshaking { remote: None, .. } = self.peer.state() else { return None };
        self.secured = true;
        self.maker.speaker.map(|remote| Input::Secured(remote, KeyMark([0; 8])))
    }

    /// To the next deadline, a little or a lot later; the clock may also stand still.
    fn advance(&mut self, bytes: &mut Bytes<'_>) {
        self.now = match (bytes.below(6), self.peer.deadline()) {
            (0..=2, Some(deadline)) => self.now.max(deadline),
            (3, _) => self.now + Duration::from_micros(bytes.number() >> 1),
            (_, _) => self.now + Duration::from_millis(u64::from(bytes.byte()) * 20),
        };
    }

    fn put(&mut self, input: Input) {
        let was_over = matches!(self.peer.state(), PeerState::Closed(_));
        let mut actions = Vec::new();
        self.peer.handle(self.now, input, &mut actions);
        let is_over = matches!(self.peer.state(), PeerState::Closed(_));
        assert!(!was_over || actions.is_empty(), "it acts after its end: {actions:?}");
        assert!(actions.len() <= 8, "{actions:?}");
        let ends = actions.iter().filter(|action| matches!(action, Action::Report(PeerEvent::Closed { .. })));
        let shuts = actions.iter().filter(|action| matches!(action, Action::Shut));
        let ended = usize::from(is_over && !was_over);
        assert_eq!((ends.count(), shuts.count()), (ended, ended), "{actions:?}");
        for action in &actions {
            self.check(action);
        }
    }

    fn check(&mut self, action: &Action) {
        match action {
            Action::Dial(_) | Action::Secure { .. } | Action::Issue(_) | Action::Beat { .. } => {
                assert_eq!(self.side, Side::Tail, "{action:?}");
            }
            Action::Answer(_) => assert_eq!(self.side, Side::Head, "{action:?}"),
            _ => {}
        }
        if matches!(action, Action::Issue(_) | Action::Answer(_) | Action::Beat { .. }) {
            assert!(self.secured, "a stranger gets not one byte: {action:?}");
        }
        match action {
            Action::Beat { seq, echo } => {
                assert!(*seq == self.beat + 1 && echo.is_none_or(|echo| echo <= self.beat));
                self.beat = *seq;
            }
            Action::Answer(kithd::protocol::message::HeadMessage::News(_)) => {
                self.watches = self.watches.saturating_sub(1);
            }
            // A heartbeat arms two, whatever there was.
            Action::Report(PeerEvent::Statement(..)) if self.side == Side::Head => self.watches = MAX_WATCHES,
            Action::Report(PeerEvent::Watch) => {
                self.watches += 1;
                assert!(self.watches <= WATCHES_BORNE, "a head bears {} watches", self.watches);
            }
            _ => {}
        }
    }
}
