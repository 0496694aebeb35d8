//! Descriptors: none is left behind, and none left to be had is survived. One test, since both concern the whole process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use kithd::protocol::codec::{Frames, MAX_FRAME, PREAMBLE};
use kithd::protocol::reason::Reason;
use kithd::reactor::{Accepted, Acceptor, Connection, Flow, Reactor, ReactorSettings, Receiver};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PATIENCE: Duration = Duration::from_secs(30);

struct Ends(Sender<Reason>);

impl Frames for Ends {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, _: &[u8]) -> Result<(), Reason> {
        Err(Reason::Unexpected)
    }
}

impl Receiver for Ends {
    fn connected(&mut self) {}

    fn flush(&mut self) -> Flow {
        Flow::Continue
    }

    fn writable(&mut self) {}

    fn closed(&mut self, reason: Reason) {
        let _ = self.0.send(reason);
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_come_back_and_may_run_out() {
    ten_thousand_connections_leave_none_behind();
    an_acceptor_without_descriptors_turns_away_and_goes_on();
}

fn ten_thousand_connections_leave_none_behind() {
    let settings = ReactorSettings { frame_timeout: PATIENCE, wakeups: Arc::new(AtomicU64::new(0)) };
    let reactor = Reactor::start(settings).unwrap();
    let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let addr = acceptor.local_addrs()[0];
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ends, ended) = unbounded();
    let before = open_descriptors();
    let mut kept: Vec<Connection> = Vec::new();
    for n in 0..10_000 {
        let dialled = reactor.handle().dial(if n % 5 == 4 { refused } else { addr }).unwrap();
        reactor.handle().register(&dialled, Box::new(Ends(ends.clone())));
        kept.push(dialled.clone());
        if n % 5 == 4 {
            assert_eq!(ended.recv_timeout(PATIENCE), Ok(Reason::ConnectionRefused));
            continue;
        }
        let Accepted::Connection(stream, _) = acceptor.accept(Some(PATIENCE)) else { panic!("not accepted") };
        let Ok(adopted) = reactor.handle().adopt(stream) else { panic!("not adopted") };
        reactor.handle().register(&adopted, Box::new(Ends(ends.clone())));
        match n % 5 {
            0 => dialled.close(),
            1 => adopted.close(),
            2 => dialled.finish(),
            _ => {
                dialled.close();
                adopted.close();
            }
        }
        // Handles that outlive their connection keep nothing open.
        kept.push(adopted);
        ended.recv_timeout(PATIENCE).unwrap();
        ended.recv_timeout(PATIENCE).unwrap();
    }
    let until = Instant::now() + PATIENCE;
    while open_descriptors() > before {
        assert!(Instant::now() < until, "{} descriptors, {before} before", open_descriptors());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(ended.is_empty());
}

fn an_acceptor_without_descriptors_turns_away_and_goes_on() {
    let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let addr = acceptor.local_addrs()[0];
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let limit = getrlimit(Resource::Nofile);
    let used = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let highest = used.max().unwrap();
    let mut hoard = Vec::new();
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 8), ..limit }).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let Accepted::Exhausted(error) = acceptor.accept(Some(PATIENCE)) else { panic!("a descriptor was left") };
    assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::MFILE));
    assert_eq!(acceptor.turned_away(), 1);
    acceptor.pause(Duration::from_millis(10));
    drop(hoard);
    setrlimit(Resource::Nofile, limit).unwrap();
    // The other two are still in the backlog, and no new event announces them.
    for _ in 0..2 {
        assert!(matches!(acceptor.accept(Some(PATIENCE)), Accepted::Connection(..)));
    }
    let mut first = clients.remove(0);
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0; 1]).unwrap_or(0), 0, "turned away, not left waiting");
    let _ = (first.write(&[0]), first.shutdown(Shutdown::Both));
}
