//! rust-libp2p as its documentation sets it up: TCP, Noise and Yamux on tokio, and one request-response behaviour, whose codec
//! sends bytes after their length. What a workload would meet of its bounds is lifted, and of the two ways to agree on a
//! stream's protocol it has the faster one; all else is as it comes.
//!
//! Who asks does it in the loop that drives his swarm; callers who share one send it what they ask.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Parser;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{Behaviour, Codec, Config, Event, Message, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use yardsticks::child::say_and_follow;
use yardsticks::figures::Loaded;
use yardsticks::plan::{Plan, Workload};
use yardsticks::runtime::{Flavour, run_on};
use yardsticks::{AT_ONCE, CALLERS, FAN, FAN_WINDOW, LARGE, LARGE_WINDOW, SMALL, WINDOW, Yardstick};

/// The workloads of kithd bench, on rust-libp2p.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    plan: Plan,
    #[command(flatten)]
    flavour: Flavour,
}

fn main() {
    let Words { plan, flavour } = Words::parse();
    yardsticks::run(&plan, &format!("libp2p on tokio, {}", flavour.name()), &Libp2p(flavour));
}

/// More than any workload has open on one connection.
const MANY: usize = 1024;
/// Longer than anything here lasts.
const LONG: Duration = Duration::from_secs(7200);

struct Libp2p(Flavour);

impl Yardstick for Libp2p {
    fn serve(&self) -> ! {
        match run_on(&self.0.runtime(), answer_all()) {}
    }

    fn load(&self, workload: Workload, server: SocketAddr, span: Duration) -> Loaded {
        let runtime = self.0.runtime();
        match workload {
            Workload::W1 => run_on(&runtime, async move { lone(Client::dial(server).await, span).await }),
            Workload::W2 => run_on(&runtime, async move {
                let client = Client::dial(server).await;
                pipelined(client, SMALL, WINDOW, Instant::now(), span).await
            }),
            // A caller is a task, whichever way he waits.
            Workload::W2c | Workload::W2p => run_on(&runtime, callers(server, span)),
            Workload::W3 => run_on(&runtime, fan_in(server, span)),
            Workload::W4 => run_on(&runtime, async move {
                let client = Client::dial(server).await;
                pipelined(client, LARGE, LARGE_WINDOW, Instant::now(), span).await
            }),
            Workload::W6 => run_on(&runtime, connect(server, span)),
            Workload::W5 => unreachable!("it is no load"),
        }
    }

    fn idle(&self, server: SocketAddr, count: usize) -> Box<dyn Any> {
        let (stop, stopped) = oneshot::channel();
        let runtime = self.0.runtime();
        runtime.block_on(async {
            for _ in 0..count {
                let mut client = Client::dial(server).await;
                tokio::spawn(async move {
                    loop {
                        client.swarm.select_next_some().await;
                    }
                });
            }
        });
        // Somebody has to drive them.
        let thread = thread::spawn(move || drop(runtime.block_on(stopped)));
        Box::new(Idle { stop: Some(stop), thread: Some(thread) })
    }
}

/// Swarms on a runtime, until this is dropped.
struct Idle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

/// Four bytes of length, and so many bytes.
#[derive(Clone, Default)]
struct Lengths;

#[async_trait]
impl Codec for Lengths {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, stream: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(stream).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, stream: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(stream).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, stream: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(stream, request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, stream: &mut T, response: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(stream, response).await
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: Vec<u8>) -> io::Result<()> {
    let length = (bytes.len() as u32).to_be_bytes();
    if bytes.len() > SMALL {
        stream.write_all(&length).await?;
        return stream.write_all(&bytes).await;
    }
    // One write is one frame.
    stream.write_all(&[&length, &*bytes].concat()).await
}

fn swarm() -> Swarm<Behaviour<Lengths>> {
    // The defaults are 100 streams on a connection, 128 of them in negotiation, and ten seconds of idleness.
    let streams = Config::default().with_max_concurrent_streams(MANY);
    let protocol = (StreamProtocol::new("/yardstick/1"), ProtocolSupport::Full);
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .expect("it is put together")
        .with_behaviour(|_| Behaviour::<Lengths>::new([protocol], streams))
        .expect("it is put together")
        .with_swarm_config(|config| {
            let config = config.with_idle_connection_timeout(LONG).with_max_negotiating_inbound_streams(MANY);
            // The name of a stream's protocol goes with what is asked, instead of before it.
            config.with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build()
}

/// For ever.
async fn answer_all() -> Infallible {
    let mut swarm = swarm();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("it is an address")).expect("there is a port");
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => say_and_follow(socket(&address)),
            SwarmEvent::Behaviour(Event::Message { message: Message::Request { request, channel, .. }, .. }) => {
                // Whoever asks may leave in any way he likes.
                let _ = swarm.behaviour_mut().send_response(channel, request);
            }
            _ => {}
        }
    }
}

fn socket(address: &Multiaddr) -> SocketAddr {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => (ip, port).into(),
        _ => panic!("{address} is no address of TCP"),
    }
}

/// A peer that asks another one.
struct Client {
    swarm: Swarm<Behaviour<Lengths>>,
    server: PeerId,
    connection: ConnectionId,
}

impl Client {
    /// A new identity, connected.
    async fn dial(server: SocketAddr) -> Self {
        let mut swarm = swarm();
        let (server, connection) = connect_to(&mut swarm, server).await;
        Self { swarm, server, connection }
    }

    fn ask(&mut self, payload: Vec<u8>) -> OutboundRequestId {
        self.swarm.behaviour_mut().send_request(&self.server, payload)
    }

    /// The next answer.
    async fn hear(&mut self) -> (OutboundRequestId, Vec<u8>) {
        loop {
            if let Some(answer) = answer_in(self.swarm.select_next_some().await) {
                return answer;
            }
        }
    }

    /// Closes, and waits until that is done.
    async fn leave(mut self) -> Swarm<Behaviour<Lengths>> {
        assert!(self.swarm.close_connection(self.connection), "the connection is there");
        while !matches!(self.swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
        self.swarm
    }
}

async fn connect_to(swarm: &mut Swarm<Behaviour<Lengths>>, server: SocketAddr) -> (PeerId, ConnectionId) {
    let address = Multiaddr::from(server.ip()).with(Protocol::Tcp(server.port()));
    swarm.dial(address).expect("it is dialled");
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => return (peer_id, connection_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("no connection: {error}"),
            _ => {}
        }
    }
}

fn answer_in(event: SwarmEvent<Event<Vec<u8>, Vec<u8>>>) -> Option<(OutboundRequestId, Vec<u8>)> {
    match event {
        SwarmEvent::Behaviour(Event::Message { message: Message::Response { request_id, response }, .. }) => {
            Some((request_id, response))
        }
        SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) => panic!("a request failed: {error}"),
        SwarmEvent::ConnectionClosed { cause, .. } => panic!("the connection is gone: {cause:?}"),
        _ => None,
    }
}

async fn lone(mut client: Client, span: Duration) -> Loaded {
    let mut trips = Vec::new();
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < span {
        client.ask(vec![0x5a; SMALL]);
        assert_eq!(client.hear().await.1.len(), SMALL, "an answer is as long as its request");
        let then = Instant::now();
        trips.push(u32::try_from(then.duration_since(now).as_nanos()).unwrap_or(u32::MAX));
        now = then;
    }
    Loaded { answered: trips.len() as u64, elapsed: now.duration_since(start), trips }
}

async fn pipelined(mut client: Client, size: usize, window: usize, start: Instant, span: Duration) -> Loaded {
    let (mut answered, mut open) = (0, 0);
    loop {
        while open < window && start.elapsed() < span {
            client.ask(vec![0x5a; size]);
            open += 1;
        }
        if open == 0 {
            return Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() };
        }
        assert_eq!(client.hear().await.1.len(), size, "an answer is as long as its request");
        (answered, open) = (answered + 1, open - 1);
    }
}

type Asked = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// Until nobody can ask any more.
async fn ask_for_all(mut client: Client, mut asked: mpsc::Receiver<Asked>) {
    let mut waiting = HashMap::new();
    loop {
        tokio::select! {
            next = asked.recv() => {
                let Some((payload, caller)) = next else { return };
                waiting.insert(client.ask(payload), caller);
            }
            (request, answer) = client.hear() => {
                let caller: oneshot::Sender<Vec<u8>> = waiting.remove(&request).expect("somebody has asked");
                let _ = caller.send(answer);
            }
        }
    }
}

async fn callers(server: SocketAddr, span: Duration) -> Loaded {
    let (sender, asked) = mpsc::channel(CALLERS);
    tokio::spawn(ask_for_all(Client::dial(server).await, asked));
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..CALLERS {
        let sender = sender.clone();
        all.spawn(async move {
            let mut answered = 0;
            while start.elapsed() < span {
                let (tell, told) = oneshot::channel();
                sender.send((vec![0x5a; SMALL], tell)).await.expect("it is open");
                assert_eq!(told.await.expect("it answers").len(), SMALL, "an answer is as long as its request");
                answered += 1;
            }
            answered
        });
    }
    let answered = all.join_all().await.into_iter().sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

async fn fan_in(server: SocketAddr, span: Duration) -> Loaded {
    let mut clients = Vec::new();
    for _ in 0..FAN {
        clients.push(Client::dial(server).await);
    }
    let start = Instant::now();
    let asking = clients.into_iter().map(|client| pipelined(client, SMALL, FAN_WINDOW, start, span));
    let answered = asking.collect::<JoinSet<Loaded>>().join_all().await.into_iter().map(|loaded| loaded.answered).sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

/// Each peer again and again, with a new handshake each time; their identities are made before.
async fn connect(server: SocketAddr, span: Duration) -> Loaded {
    let swarms: Vec<_> = (0..AT_ONCE).map(|_| swarm()).collect();
    let start = Instant::now();
    let come_and_go = |mut swarm| async move {
        let mut made = 0;
        while start.elapsed() < span {
            let (server, connection) = connect_to(&mut swarm, server).await;
            let mut client = Client { swarm, server, connection };
            client.ask(vec![0x5a; SMALL]);
            assert_eq!(client.hear().await.1.len(), SMALL, "an answer is as long as its request");
            swarm = client.leave().await;
            made += 1;
        }
        made
    };
    let answered = swarms.into_iter().map(come_and_go).collect::<JoinSet<u64>>().join_all().await.into_iter().sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}
