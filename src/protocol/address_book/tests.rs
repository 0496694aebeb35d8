//! What the address book remembers, and what it lets be dialled.

use super::*;

fn address(port: u16) -> HostPort {
    HostPort::Ip(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn kept(port: u16, since: Option<u64>) -> KnownAddress {
    KnownAddress { address: address(port).to_string(), node: Some(ControllerId([1; 32]).hex()), since }
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000)
}

#[test]
fn backoff_doubles_to_a_minute_and_good_service_resets_it() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    let target = address(1);
    let mut spans = Vec::new();
    for _ in 0..9 {
        book.failed(&target, Duration::ZERO, false, at(0), &mut rng);
        match book.obstacle(&target, at(0)) {
            Some(Obstacle::Backoff(until)) => spans.push(until.since(at(0)).as_secs_f64()),
            other => panic!("{other:?}"),
        }
    }
    for (span, nominal) in spans.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
        assert!(*span >= nominal * 0.74 && *span <= nominal * 1.26, "{spans:?}");
    }
    book.failed(&target, GOOD_SERVICE, false, at(0), &mut rng);
    assert_eq!(book.obstacle(&target, at(2)), None);
}

#[test]
fn who_does_not_answer_the_handshake_is_left_alone_for_up_to_ten_minutes() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    let target = address(1);
    book.configure(target.clone(), at(0));
    for _ in 0..20 {
        book.unanswered(&target, at(0), &mut rng);
    }
    let Some(Obstacle::Backoff(until)) = book.obstacle(&target, at(0)) else { panic!("no backoff") };
    assert!(until > at(400) && until < at(800), "{until:?}");
}

#[test]
fn a_node_that_is_alone_keeps_knocking_at_configured_addresses() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    book.configure(address(1), at(0));
    for target in [address(1), address(2)] {
        for _ in 0..20 {
            book.failed(&target, Duration::ZERO, true, at(0), &mut rng);
        }
    }
    assert_eq!(book.obstacle(&address(1), at(7)), None);
    assert!(book.obstacle(&address(2), at(40)).is_some(), "a learned one has its backoff");
}

#[test]
fn each_condition_is_named() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    assert_eq!(book.obstacle(&address(1), at(0)), None);
    book.begin(&address(1), at(0));
    assert_eq!(book.obstacle(&address(1), at(0)), Some(Obstacle::UnderWay));
    book.busy(&address(1), at(0), &mut rng);
    assert!(matches!(book.obstacle(&address(1), at(0)), Some(Obstacle::Backoff(_))));
    book.ban(&address(1), at(0));
    assert!(matches!(book.obstacle(&address(1), at(0)), Some(Obstacle::Banned(_))));
    book.mark_myself(&address(1), at(0));
    assert_eq!(book.obstacle(&address(1), at(1_000_000)), Some(Obstacle::Myself));
}

#[test]
fn a_source_cannot_fill_the_book() {
    let mut book = AddressBook::new(5, 3);
    let network = |number: u8| Some(Neighbourhood::of([10, 0, number, 1].into()));
    let (liar, other) = (network(1), network(2));
    let told = |book: &mut AddressBook, from, ports: std::ops::Range<u16>| {
        ports.filter(|port| book.learn(([10, 0, 0, 1], *port).into(), from, at(0))).count()
    };
    assert_eq!(told(&mut book, liar, 1..100), 3);
    assert_eq!(told(&mut book, other, 200..300), 2);
    book.reached(&HostPort::Ip(([10, 0, 0, 1], 1).into()), ControllerId([9; 32]), Now { mono: at(0), wall_ms: 0 });
    assert_eq!(told(&mut book, other, 400..500), 1, "what answered does not count");
}

#[test]
fn an_address_that_somebody_told_of_is_tried_once_a_minute() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    let (told, own) = (address(1), address(2));
    book.learn(([127, 0, 0, 1], 1).into(), Some(Neighbourhood::V4([10, 0, 0])), at(0));
    for target in [&told, &own] {
        book.failed(target, Duration::ZERO, false, at(0), &mut rng);
    }
    assert!(book.obstacle(&told, at(59)).is_some() && book.obstacle(&told, at(60)).is_none());
    assert!(book.obstacle(&own, at(2)).is_none(), "what a record names is tried sooner");
    book.vouch(&told);
    book.failed(&told, Duration::ZERO, false, at(60), &mut rng);
    assert!(book.obstacle(&told, at(63)).is_none());
}

#[test]
fn who_answered_is_never_pushed_out_by_newcomers_nor_by_talk() {
    let mut book = AddressBook::new(5, 5);
    let moment = |seconds: u64| Now { mono: at(seconds), wall_ms: seconds * 1000 };
    for port in 1..=100 {
        book.reached(&address(port), ControllerId([port as u8; 32]), moment(u64::from(port)));
        book.learn(([10, 0, 0, 1], port).into(), None, at(u64::from(port)));
        book.begin(&address(1000 + port), at(u64::from(port)));
        book.ended(&address(1000 + port));
    }
    let kept: Vec<_> = book.worth_keeping().into_iter().map(|kept| kept.address).collect();
    assert_eq!(kept.len(), 5);
    for port in 1..=4 {
        assert!(kept.contains(&address(port).to_string()), "{kept:?}");
    }
    assert!(book.len() <= 16, "{}", book.len());
}

#[test]
fn long_known_is_who_answered_an_hour_ago_and_still_is_the_same() {
    let mut book = AddressBook::new(5, 5);
    let moment = |ms: u64| Now { mono: Time(ms * 1000), wall_ms: ms };
    book.reached(&address(1), ControllerId([1; 32]), moment(1000));
    book.reached(&address(2), ControllerId([2; 32]), moment(1000));
    book.reached(&address(1), ControllerId([1; 32]), moment(3_000_000));
    book.reached(&address(2), ControllerId([9; 32]), moment(3_000_000));
    assert_eq!(book.long_known(3_600_999).count(), 0);
    let known: Vec<_> = book.long_known(3_601_000).map(|(_, node)| node).collect();
    assert_eq!(known, [ControllerId([1; 32])], "another node at the same address is another");
    let mut after = AddressBook::new(5, 5);
    after.remember(&[kept(1, Some(1000))], at(0));
    assert_eq!(after.long_known(3_601_000).count(), 1);
}

#[test]
fn what_was_kept_is_kept_again_though_nobody_was_there() {
    let mut book = AddressBook::new(10, 3);
    let nobody = KnownAddress { node: None, ..kept(9, None) };
    let told: Vec<_> = (1..=20).map(|port| kept(port, None)).collect();
    let answered: Vec<_> = (21..=40).map(|port| kept(port, Some(1000))).collect();
    book.remember(&[told, vec![nobody], answered].concat(), at(0));
    let again = book.worth_keeping();
    assert_eq!(again.iter().filter(|kept| kept.since.is_some()).count(), 10, "those that answered come first");
    assert_eq!(again.len(), 15, "more than one liar could tell of, and room is left for talk: {again:?}");
    assert_eq!((book.unreached(), book.reached_count()), (5, 10));
    assert!(book.learn(([10, 0, 0, 1], 1).into(), Some(Neighbourhood::V4([10, 0, 0])), at(0)));
}

#[test]
fn who_answers_for_days_on_one_connection_is_not_forgotten() {
    let (mut book, mut rng) = (AddressBook::new(10, 10), Rng::new(1));
    let moment = |hours: u64| Now { mono: at(hours * 3600), wall_ms: hours * 3_600_000 };
    book.reached(&address(1), ControllerId([1; 32]), moment(0));
    let talk = |book: &mut AddressBook, hours: u64| book.learn(([10, 0, 0, 1], 1).into(), None, moment(hours).mono);
    talk(&mut book, 60);
    assert_eq!(book.long_known(moment(60).wall_ms).count(), 1);
    book.failed(&address(1), Duration::from_secs(60 * 3600), false, moment(60).mono, &mut rng);
    book.failed(&address(1), Duration::ZERO, false, moment(70).mono, &mut rng);
    let other =
        |book: &mut AddressBook, hours| book.learn(([10, 0, 0, 2], hours as u16).into(), None, moment(hours).mono);
    other(&mut book, 83);
    assert_eq!(book.reached_count(), 1);
    other(&mut book, 85);
    assert_eq!(book.reached_count(), 0, "a day after its end");
}
