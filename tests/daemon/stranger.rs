//! Somebody who speaks the protocol, with the crate's own types and the real handshake, over a socket of his own, and does
//! with it what he likes.
//!
//! As a tail he dials a node and introduces himself; as a head he listens, and a node that was told his address dials
//! him. His address answers nobody unless he listens, and his record says that it was never reached, so that no
//! honest node tries to.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kithd::protocol::codec::{HEADER, MAX_FRAME, Message, PREAMBLE, Preamble, decode_frame, encode_frame, messages};
use kithd::protocol::hash::HalfHash;
use kithd::protocol::identity::{ControllerId, Label};
use kithd::protocol::list::List;
use kithd::protocol::message::{HeadMessage, Purpose, Statement, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::{NetworkId, Reach, Record, RecordBody, RecordState, Signature, Signer};
use kithd::secure::credentials::Credentials;
use kithd::secure::handshake::{Answer, Head, Secured, Tail};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;
use kithd::secure::session::{Opening, Sealing};
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, Network, closed_port};
use crate::patience::SOON;

/// A member of the network with a key of his own.
#[derive(Clone)]
pub struct Stranger {
    pub identity: Identity,
    pub body: RecordBody,
}

impl Stranger {
    pub fn new(network: &Network, label: &str) -> Self {
        Self::new_in(NetworkId::of(network.name()), label)
    }

    /// The same, where only the network's id is at hand.
    pub fn new_in(network: NetworkId, label: &str) -> Self {
        let identity = Identity::generate().unwrap();
        let body = RecordBody {
            network,
            id: identity.id(),
            version: wall_ms(),
            issued: u32::try_from(wall_ms() / 3_600_000).unwrap(),
            incarnation: 1,
            state: RecordState::Up,
            reach: Reach::Unproven,
            address: closed_port(),
            label: label.parse::<Label>().unwrap(),
            tags: List::new(),
            edges: List::new(),
            round_trips: List::new(),
        };
        Self { identity, body }
    }

    /// His id, as reports show it.
    pub fn id(&self) -> String {
        self.body.id.hex()
    }

    /// His record, signed.
    pub fn record(&self) -> Arc<Record> {
        Record::signed(self.body.clone(), self).shared()
    }

    /// What he shows in a handshake in the network that his body names; or in the node's, if that is another.
    pub fn credentials(&self, network: NetworkId) -> Arc<Credentials> {
        Arc::new(Credentials::new(self.identity.clone(), network).unwrap())
    }

    /// How he introduces himself to a node.
    pub fn hello(&self, daemon: &Daemon) -> TailMessage {
        self.hello_for(Purpose::Overlay, daemon.address)
    }

    /// The same for any purpose, at a node of which only the address counts.
    pub fn hello_for(&self, purpose: Purpose, dialled: SocketAddr) -> TailMessage {
        TailMessage::Hello { record: self.record(), clock_ms: wall_ms(), purpose, dialled }
    }

    /// How he welcomes a node.
    pub fn welcome(&self) -> HeadMessage {
        HeadMessage::Welcome { record: self.record(), clock_ms: wall_ms() }
    }

    /// Dials a node and becomes its neighbour.
    pub fn dial(&self, daemon: &Daemon) -> Line {
        let mut line = Line::to(daemon.address);
        self.introduce(daemon, &mut line);
        line
    }

    /// Dials whoever listens there, for that.
    pub fn dial_for(&self, purpose: Purpose, address: SocketAddr) -> Line {
        self.welcomed_for(purpose, address, Line::to(address))
    }

    /// The same on a line that stands.
    pub fn welcomed_for(&self, purpose: Purpose, address: SocketAddr, mut line: Line) -> Line {
        line.secure(self, purpose);
        line.tell(&self.hello_for(purpose, address));
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Welcome { .. }) => line,
            other => panic!("no welcome, but {other:?}"),
        }
    }

    /// The same on a line that stands.
    pub fn introduce(&self, daemon: &Daemon, line: &mut Line) {
        line.secure(self, Purpose::Overlay);
        line.tell(&self.hello(daemon));
        match line.hear::<HeadMessage>() {
            Some(HeadMessage::Welcome { record, .. }) => assert_eq!(record.body.id.hex(), daemon.id),
            other => panic!("no welcome, but {other:?}"),
        }
    }
}

impl Signer for Stranger {
    fn id(&self) -> ControllerId {
        self.body.id
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        self.identity.sign(bytes)
    }
}

/// A stranger who listens.
pub struct Trap {
    pub stranger: Stranger,
    pub address: SocketAddr,
    listener: TcpListener,
    network: NetworkId,
}

impl Trap {
    pub fn new(network: &Network, label: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut stranger = Stranger::new(network, label);
        stranger.body.address = address;
        Self { stranger, address, listener, network: NetworkId::of(network.name()) }
    }

    /// The next connection, which has to come soon.
    pub fn accept(&self) -> Line {
        self.accept_within(SOON).expect("nobody dials")
    }

    pub fn accept_within(&self, limit: Duration) -> Option<Line> {
        let start = Instant::now();
        while start.elapsed() < limit {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let line = Line::over(stream.into());
                    line.socket.set_nonblocking(false).unwrap();
                    return Some(line);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        }
        None
    }

    /// Whether somebody waits to be accepted.
    pub fn is_dialled(&self) -> bool {
        self.accept_within(Duration::from_millis(50)).is_some()
    }

    /// The next connection, up to the introduction of the node that dials.
    pub fn catch(&self, daemon: &Daemon) -> Line {
        let (id, line) = self.catch_anybody();
        assert_eq!(id.hex(), daemon.id);
        line
    }

    /// The same, whoever it is.
    pub fn catch_anybody(&self) -> (ControllerId, Line) {
        self.introduced(self.accept()).expect("somebody introduces himself")
    }

    /// The same on a line that was accepted, unless it ends before.
    pub fn introduced(&self, mut line: Line) -> Option<(ControllerId, Line)> {
        let id = line.answer(&self.stranger.credentials(self.network))?;
        match line.hear::<TailMessage>()? {
            TailMessage::Hello { record, .. } => assert_eq!(record.body.id, id),
            other => panic!("no hello, but {other:?}"),
        }
        Some((id, line))
    }
}

/// One TCP connection, in frames or in bytes.
pub struct Line {
    pub socket: Socket,
    session: Option<(Sealing, Opening)>,
    heard: VecDeque<Vec<u8>>,
}

impl Line {
    pub fn to(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket)
    }

    /// One that comes from this address of loopback.
    pub fn from(ip: impl Into<IpAddr>, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip.into(), 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket)
    }

    /// One whose system takes hardly anything that is not read.
    pub fn narrow_to(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket)
    }

    /// Over a connection that stands.
    pub fn over(socket: Socket) -> Self {
        socket.set_tcp_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.set_write_timeout(Some(SOON)).unwrap();
        Self { socket, session: None, heard: VecDeque::new() }
    }

    /// The handshake of a tail, without a network key.
    pub fn secure(&mut self, stranger: &Stranger, purpose: Purpose) {
        self.secure_in(stranger, stranger.body.network, purpose);
    }

    /// The same for a network that the stranger's record may not be of.
    pub fn secure_in(&mut self, stranger: &Stranger, network: NetworkId, purpose: Purpose) {
        let preamble = Preamble::of(Cipher::preferred() as u8, purpose);
        self.secure_with(&stranger.credentials(network), preamble).unwrap();
    }

    /// The same with any preamble; why it fails, if the node refuses it with an answer or closes without one.
    pub fn secure_with(&mut self, credentials: &Arc<Credentials>, preamble: Preamble) -> Result<(), Reason> {
        let (tail, bytes) = Tail::begin_with(credentials, &NetworkKey::none(), preamble, None).unwrap();
        self.send(&bytes);
        let message = self.frame().ok_or(Reason::NoAnswer)?;
        let (bytes, secured) = tail.finish(&message, wall_ms() / 1000)?;
        self.send(&bytes);
        self.keep(secured);
        Ok(())
    }

    /// The handshake of a head; who is there, unless he goes before.
    fn answer(&mut self, credentials: &Arc<Credentials>) -> Option<ControllerId> {
        let (mut preamble, now) = ([0; PREAMBLE], wall_ms() / 1000);
        self.fill(&mut preamble)?;
        let (keys, seen) = ([NetworkKey::none()], Recent::new(1));
        let message = self.frame()?;
        let preamble = Preamble::from_bytes(preamble);
        let Answer::Continue(head, bytes) = Head::first(preamble, &message, credentials, &keys, &seen, now).unwrap()
        else {
            panic!("another version")
        };
        self.send(&bytes);
        let message = self.frame()?;
        Some(self.keep(head.third(&message, credentials, now).unwrap()))
    }

    fn keep(&mut self, secured: Secured) -> ControllerId {
        self.session = Some((secured.sealing, secured.opening));
        secured.remote
    }

    /// This plaintext as it travels: whole messages share records, what is no message is a record of its own, and nothing
    /// is an empty one.
    pub fn sealed(&mut self, mut plaintext: &[u8]) -> Vec<u8> {
        let (sealing, _) = self.session.as_mut().expect("no session yet");
        let mut bytes = Vec::new();
        if plaintext.is_empty() {
            sealing.seal(plaintext, &mut bytes);
        }
        while !plaintext.is_empty() {
            let mut ends = vec![0];
            // An error only says that what follows is no message.
            let _ = messages(plaintext, |message| {
                ends.push(ends[ends.len() - 1] + HEADER + message.len());
                Ok(())
            });
            let fitting = ends.into_iter().rev().find(|end| (1..=MAX_FRAME).contains(end));
            let (record, rest) = plaintext.split_at(fitting.unwrap_or(plaintext.len()));
            sealing.seal(record, &mut bytes);
            plaintext = rest;
        }
        bytes
    }

    /// Sends a plaintext, sealed.
    pub fn say(&mut self, plaintext: &[u8]) {
        let bytes = self.sealed(plaintext);
        self.send(&bytes);
    }

    pub fn try_say(&mut self, plaintext: &[u8]) -> io::Result<()> {
        let bytes = self.sealed(plaintext);
        self.try_send(&bytes)
    }

    /// Sends bytes as they are. A remote that has closed meanwhile is no error: what it said is to be read.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.try_send(bytes) {
            Err(error) if !is_end(&error) => panic!("cannot send: {error}"),
            _ => {}
        }
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub fn tell(&mut self, message: &impl Message) {
        self.say(&encode_frame(message));
    }

    /// The next message, or `None` at the end of the stream.
    pub fn hear<M: Message>(&mut self) -> Option<M> {
        while self.heard.is_empty() {
            let (frame, mut plaintext) = (self.frame()?, Vec::new());
            let (_, opening) = self.session.as_mut().expect("no session yet");
            opening.open(&frame, &mut plaintext).unwrap();
            let keep = |message: &[u8]| {
                self.heard.push_back(message.to_vec());
                Ok(())
            };
            messages(&plaintext, keep).unwrap();
        }
        let message = self.heard.pop_front()?;
        Some(decode_frame(&message).unwrap_or_else(|reason| panic!("{reason}: {message:?}")))
    }

    /// The next frame, without its length.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; HEADER];
        self.fill(&mut header)?;
        let mut frame = vec![0; u32::from_be_bytes(header) as usize];
        self.fill(&mut frame)?;
        Some(frame)
    }

    /// The tail's end of the line: the reason of the head's farewell, `None` if it closes without one. Whatever else
    /// comes before is passed over.
    pub fn dismissed(&mut self) -> Option<Reason> {
        loop {
            match self.hear::<HeadMessage>()? {
                HeadMessage::Goodbye(reason) => return Some(reason),
                _ => continue,
            }
        }
    }

    /// The same at the head's end.
    pub fn abandoned(&mut self) -> Option<Reason> {
        loop {
            match self.hear::<TailMessage>()? {
                TailMessage::Goodbye(reason) => return Some(reason),
                _ => continue,
            }
        }
    }

    /// Every byte up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Err(error) if !is_end(&error) => panic!("the end does not come: {error}, after {} bytes", rest.len()),
            _ => rest,
        }
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        // The remote may have been faster.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.socket.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("nothing comes: {error}"),
        }
    }
}

/// The remote's end of the connection, polite or not.
pub fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A heartbeat of somebody who knows nothing.
pub fn heartbeat(seq: u32) -> TailMessage {
    TailMessage::Heartbeat { seq, statement: ignorance(), echo: None }
}

/// What somebody states who knows nothing.
pub fn ignorance() -> Statement {
    Statement { digest: HalfHash([0; 16]), ages: List::new() }
}

/// Unix time in milliseconds.
pub fn wall_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
