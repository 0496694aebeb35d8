//! Deadlines and directions of one connection.

use super::*;

const TIMES: PeerTimes = PeerTimes {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    dial: Duration::from_secs(2),
    handshake: Duration::from_secs(5),
};

fn at(ms: u64) -> Time {
    Time(ms * 1000)
}

fn accepted() -> Peer {
    let mut peer = Peer::new(Side::Head, TIMES);
    peer.handle(at(0), Input::Command(Command::Accept), &mut Vec::new());
    peer
}

#[test]
fn a_deadline_met_in_time_ends_it_and_one_that_was_slept_through_starts_anew() {
    let mut peer = accepted();
    peer.handle(at(5000), Input::Tick, &mut Vec::new());
    assert!(matches!(peer.state(), PeerState::Closed(Reason::HandshakeTimeout)));

    let mut peer = accepted();
    peer.handle(at(60_000), Input::Tick, &mut Vec::new());
    assert_eq!(peer.deadline(), Some(at(65_000)));
}

#[test]
fn a_frame_in_the_wrong_direction_closes() {
    let mut peer = accepted();
    let mut actions = Vec::new();
    peer.handle(at(1), Input::Answer(HeadMessage::Goodbye(Reason::Local)), &mut actions);
    assert!(matches!(peer.state(), PeerState::Closed(Reason::WrongDirection)));
    assert!(matches!(actions.as_slice(), [Action::Shut, Action::Report(PeerEvent::Closed { .. })]));
}

#[test]
fn who_was_dialled_to_be_asked_something_is_asked_for_life_only_later() {
    for (purpose, first) in
        [(Purpose::Ring, 0), (Purpose::Overlay, 0), (Purpose::Probe, 0), (Purpose::Application, 1000)]
    {
        let mut peer = Peer::new(Side::Tail, TIMES);
        peer.purpose = purpose;
        peer.establish(at(10));
        assert_eq!(peer.deadline(), Some(at(10 + first)), "{purpose:?}");
        let mut actions = Vec::new();
        peer.handle(at(10 + first), Input::Tick, &mut actions);
        assert!(matches!(actions.as_slice(), [Action::Beat { .. }]), "{purpose:?}");
    }
}
