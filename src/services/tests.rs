use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

fn caller(number: u8) -> Caller {
    Caller { id: ControllerId([number; 32]), label: "alpha".parse().unwrap() }
}

fn request(from: u8, service: &str) -> Request {
    let deadline = Instant::now() + Duration::from_secs(30);
    Request { caller: Arc::new(caller(from)), service: service.parse().unwrap(), payload: b"hello".to_vec(), deadline }
}

/// Serves it, and gives back where the answer will be.
fn ask(services: &Services, request: Request) -> mpsc::Receiver<(Outcome, Vec<u8>)> {
    let (sender, answer) = mpsc::channel();
    services.serve(request, 0, move |outcome, payload| sender.send((outcome, payload)).unwrap());
    answer
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

#[test]
fn who_is_not_meant_is_refused_whatever_it_calls_itself() {
    let services = Services::new(2, 2, 100);
    services.register(name("a"), Runs::Inline(Arc::new(|request| request.payload.into()))).unwrap();
    assert_eq!(
        services.register(name("a"), Runs::Inline(Arc::new(|_| "".into()))),
        Err(ServiceError::Taken(name("a")))
    );
    services.allow(name("a"), [ControllerId([1; 32])]);
    let refused = |refusal| Ok((Outcome::Refused(refusal), Vec::new()));
    assert_eq!(ask(&services, request(1, "a")).recv(), Ok((Outcome::Done, b"hello".to_vec())));
    assert_eq!(ask(&services, request(2, "a")).recv(), refused(Refusal::NotAllowed), "the label is the same");
    assert_eq!(ask(&services, request(1, "b")).recv(), refused(Refusal::UnknownService));
    services.allow(name("a"), []);
    assert_eq!(ask(&services, request(2, "a")).recv().unwrap().0, Outcome::Done);
    services.remove(&name("a"));
    assert_eq!(ask(&services, request(2, "a")).recv(), refused(Refusal::UnknownService));
}

#[test]
fn a_handler_that_panics_forgets_or_says_too_much_has_failed_and_the_next_one_has_not() {
    let services = Services::new(1, 1, 100);
    let panics: Handler = Arc::new(|_| panic!("as the test wants it"));
    services.register(name("inline"), Runs::Inline(Arc::clone(&panics))).unwrap();
    services.register(name("worker"), Runs::OnWorker(panics)).unwrap();
    services.register(name("forgets"), Runs::Elsewhere(Arc::new(|_, _| {}))).unwrap();
    services.register(name("long"), Runs::OnWorker(Arc::new(|_| vec![0; 101].into()))).unwrap();
    services.register(name("fits"), Runs::OnWorker(Arc::new(|_| vec![0; 100].into()))).unwrap();
    for _ in 0..3 {
        let failed = |service: &str| ask(&services, request(1, service)).recv().unwrap();
        assert_eq!(failed("inline"), (Outcome::Failed(Failure::Panicked), vec![]));
        assert_eq!(failed("worker"), (Outcome::Failed(Failure::Panicked), vec![]));
        assert_eq!(failed("forgets"), (Outcome::Failed(Failure::Gone), vec![]));
        assert_eq!(failed("long"), (Outcome::Failed(Failure::TooLarge), vec![]));
        assert_eq!(failed("fits"), (Outcome::Done, vec![0; 100]));
    }
    services.finish(Instant::now() + Duration::from_secs(30));
    services.end();
}

#[test]
fn one_that_asks_too_much_is_refused_and_others_are_served() {
    let services = Services::new(2, 2, 100);
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    let (started, at_work) = mpsc::channel();
    let blocks = move |_| {
        started.send(()).unwrap();
        gate.lock().recv().unwrap();
        "done".into()
    };
    services.register(name("slow"), Runs::OnWorker(Arc::new(blocks))).unwrap();
    let greedy: Vec<_> = (0..4).map(|_| ask(&services, request(1, "slow"))).collect();
    at_work.recv().unwrap();
    let refused = |answer: &mpsc::Receiver<(Outcome, Vec<u8>)>| {
        answer.recv_timeout(Duration::from_secs(30)).unwrap().0 == Outcome::Refused(Refusal::Overloaded)
    };
    assert!(refused(&ask(&services, request(1, "slow"))), "two at work and two that wait are all there may be");
    let other = ask(&services, request(2, "slow"));
    assert!(refused(&greedy[3]), "the newest of the greedy one makes room");
    (0..4).for_each(|_| release.send(()).unwrap());
    assert_eq!(other.recv().unwrap(), (Outcome::Done, b"done".to_vec()));
    assert!(greedy[..3].iter().all(|answer| answer.recv().unwrap().0 == Outcome::Done));
    services.finish(Instant::now() + Duration::from_secs(30));
    services.end();
    assert_eq!(ask(&services, request(2, "slow")).recv().unwrap().0, Outcome::Refused(Refusal::Leaving));
}

#[test]
fn a_handler_that_never_returns_does_not_hold_up_the_end() {
    let services = Services::new(1, 1, 100);
    let (release, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    let (started, at_work) = mpsc::channel();
    let blocks = move |_| {
        started.send(()).unwrap();
        let _ = gate.lock().recv();
        "late".into()
    };
    services.register(name("stuck"), Runs::OnWorker(Arc::new(blocks))).unwrap();
    let stuck = ask(&services, request(1, "stuck"));
    at_work.recv().unwrap();
    let waits = ask(&services, request(1, "stuck"));
    services.end();
    assert_eq!(waits.recv().unwrap().0, Outcome::Refused(Refusal::Leaving));
    drop(release);
    assert_eq!(stuck.recv().unwrap().0, Outcome::Done, "it is left to itself");
}

#[test]
fn what_comes_elsewhere_than_at_the_lookout_is_done_by_another_worker() {
    let services = Services::new(2, 2, 100);
    services
        .register(name("thread"), Runs::OnWorker(Arc::new(|_| format!("{:?}", thread::current().id()).into())))
        .unwrap();
    let (looks_out, is_out) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    services.look_out(Box::new(move |is_done| {
        looks_out.send(is_done()).unwrap();
        let _ = gate.lock().recv();
    }));
    let done_by = || ask(&services, request(1, "thread")).recv_timeout(Duration::from_secs(60)).unwrap();
    // A call may be too long for that on a machine that is busy: then the next one is not.
    let first = std::iter::repeat_with(|| (done_by(), is_out.recv_timeout(Duration::from_millis(100))));
    let (first, out) = first.take(600).find(|(_, out)| out.is_ok()).unwrap();
    assert_eq!(out, Ok(false));
    let second = done_by();
    assert!(first.0 == Outcome::Done && second.0 == Outcome::Done && first != second, "it stands there still");
    drop(go_on);
    services.finish(Instant::now() + Duration::from_secs(30));
    services.end();
}
