//! tokio with `LengthDelimitedCodec` and bincode, in the clear: a task for each connection, and one flush for all that can be
//! said at the moment. Callers share a connection by way of a task that asks for them and one that hears for them.
//!
//! What is heard is read where it lies, and what is said is encoded into a buffer that is used again.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures::{FutureExt, Sink, SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec};
use yardsticks::child::say_and_follow;
use yardsticks::figures::Loaded;
use yardsticks::plan::{Plan, Workload};
use yardsticks::runtime::{Flavour, run_on};
use yardsticks::{AT_ONCE, CALLERS, FAN, FAN_WINDOW, LARGE, LARGE_WINDOW, SMALL, WINDOW, Yardstick};

/// The workloads of kithd bench, on tokio.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    plan: Plan,
    #[command(flatten)]
    flavour: Flavour,
}

fn main() {
    let Words { plan, flavour } = Words::parse();
    yardsticks::run(&plan, &format!("tokio, {}", flavour.name()), &Tokio(flavour));
}

/// What a connection reads at once, and says at once: more than a window of small messages.
const BUFFER: usize = 16 * 1024;

struct Tokio(Flavour);

impl Yardstick for Tokio {
    fn serve(&self) -> ! {
        match run_on(&self.0.runtime(), answer_all()) {}
    }

    fn load(&self, workload: Workload, server: SocketAddr, span: Duration) -> Loaded {
        let runtime = self.0.runtime();
        match workload {
            Workload::W1 => run_on(&runtime, async move { lone(dial(server).await, span).await }),
            Workload::W2 => run_on(&runtime, async move {
                let line = dial(server).await;
                pipelined(line, WINDOW, Instant::now(), span).await
            }),
            // A caller is a task, whichever way he waits.
            Workload::W2c | Workload::W2p => run_on(&runtime, callers(server, span)),
            Workload::W3 => run_on(&runtime, fan_in(server, span)),
            Workload::W4 => run_on(&runtime, bulk(server, span)),
            Workload::W6 => run_on(&runtime, connect(server, span)),
            Workload::W5 => unreachable!("it is no load"),
        }
    }

    fn idle(&self, server: SocketAddr, count: usize) -> Box<dyn Any> {
        let runtime = self.0.runtime();
        let lines = runtime.block_on(async {
            let mut lines = Vec::new();
            for _ in 0..count {
                lines.push(dial(server).await);
            }
            lines
        });
        Box::new((lines, runtime))
    }
}

/// What travels: a number, by which an answer finds its caller, and bytes.
#[derive(Serialize, Deserialize)]
struct Message<'a> {
    number: u64,
    #[serde(borrow, with = "serde_bytes")]
    payload: &'a [u8],
}

type Line = Framed<TcpStream, LengthDelimitedCodec>;

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(2 * LARGE).new_codec()
}

fn framed(stream: TcpStream) -> Line {
    stream.set_nodelay(true).expect("the system lets it");
    Framed::with_capacity(stream, codec(), BUFFER)
}

/// Connected, and answered once.
async fn dial(server: SocketAddr) -> Line {
    let mut line = framed(TcpStream::connect(server).await.expect("the server is there"));
    put(&mut line, &mut Vec::new(), 0, &[0x5a; SMALL]).await.expect("it is asked");
    flush(&mut line).await.expect("it is asked");
    let frame = line.next().await.expect("it stays").expect("it answers");
    assert_eq!(decoded(&frame).payload.len(), SMALL, "an answer is as long as its request");
    line
}

/// The same, in two parts for two tasks.
async fn dial_apart(
    server: SocketAddr,
) -> (FramedRead<OwnedReadHalf, LengthDelimitedCodec>, FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>) {
    // Nothing is under way, so nothing is left in its buffers.
    let (reader, writer) = dial(server).await.into_inner().into_split();
    (FramedRead::with_capacity(reader, codec(), BUFFER), FramedWrite::with_capacity(writer, codec(), BUFFER))
}

/// Says it with the next flush.
async fn put<S>(line: &mut S, scratch: &mut Vec<u8>, number: u64, payload: &[u8]) -> io::Result<()>
where
    S: for<'a> Sink<&'a [u8], Error = io::Error> + Unpin,
{
    scratch.clear();
    bincode::serialize_into(&mut *scratch, &Message { number, payload }).expect("there is memory");
    line.feed(scratch).await
}

async fn flush<S>(line: &mut S) -> io::Result<()>
where
    S: for<'a> Sink<&'a [u8], Error = io::Error> + Unpin,
{
    SinkExt::<&[u8]>::flush(line).await
}

fn decoded(frame: &[u8]) -> Message<'_> {
    bincode::deserialize(frame).expect("it is a message")
}

/// For ever, a task for each connection.
async fn answer_all() -> Infallible {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    say_and_follow(listener.local_addr().expect("it has an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection comes");
        // Whoever asks may leave in any way he likes.
        tokio::spawn(async move { drop(answer(framed(stream)).await) });
    }
}

/// Until nobody asks any more.
async fn answer(mut line: Line) -> io::Result<()> {
    let mut scratch = Vec::new();
    while let Some(first) = line.next().await {
        let mut next = Some(first);
        while let Some(frame) = next {
            let frame = frame?;
            let Message { number, payload } = decoded(&frame);
            put(&mut line, &mut scratch, number, payload).await?;
            next = line.next().now_or_never().flatten();
        }
        flush(&mut line).await?;
    }
    Ok(())
}

async fn lone(mut line: Line, span: Duration) -> Loaded {
    let (mut scratch, mut trips) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < span {
        put(&mut line, &mut scratch, 1, &[0x5a; SMALL]).await.expect("it is asked");
        flush(&mut line).await.expect("it is asked");
        let frame = line.next().await.expect("it stays").expect("it answers");
        assert_eq!(decoded(&frame).payload.len(), SMALL, "an answer is as long as its request");
        let then = Instant::now();
        trips.push(u32::try_from(then.duration_since(now).as_nanos()).unwrap_or(u32::MAX));
        now = then;
    }
    Loaded { answered: trips.len() as u64, elapsed: now.duration_since(start), trips }
}

/// One task: as many as were answered are asked in the next flush.
async fn pipelined(mut line: Line, window: usize, start: Instant, span: Duration) -> Loaded {
    let (mut scratch, mut answered, mut open) = (Vec::new(), 0, 0);
    loop {
        if start.elapsed() < span {
            while open < window {
                put(&mut line, &mut scratch, 1, &[0x5a; SMALL]).await.expect("it is asked");
                open += 1;
            }
            flush(&mut line).await.expect("it is asked");
        }
        if open == 0 {
            return Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() };
        }
        let mut next = Some(line.next().await.expect("it stays"));
        while let Some(frame) = next {
            let frame = frame.expect("it answers");
            assert_eq!(decoded(&frame).payload.len(), SMALL, "an answer is as long as its request");
            (answered, open) = (answered + 1, open - 1);
            next = line.next().now_or_never().flatten();
        }
    }
}

/// A task asks and another one hears: with one for both, each end would wait until the other one reads.
async fn bulk(server: SocketAddr, span: Duration) -> Loaded {
    let (mut reader, mut writer) = dial_apart(server).await;
    let places = Arc::new(Semaphore::new(LARGE_WINDOW));
    let (free, start) = (Arc::clone(&places), Instant::now());
    let asking = tokio::spawn(async move {
        let (payload, mut scratch, mut asked) = (vec![0x5a; LARGE], Vec::new(), 0);
        loop {
            places.acquire().await.expect("nobody closes it").forget();
            if start.elapsed() >= span {
                // The server closes when it has answered.
                SinkExt::<&[u8]>::close(&mut writer).await.expect("the connection is there");
                return asked;
            }
            put(&mut writer, &mut scratch, 1, &payload).await.expect("it is asked");
            flush(&mut writer).await.expect("it is asked");
            asked += 1;
        }
    });
    let mut answered = 0;
    while let Some(frame) = reader.next().await {
        let frame = frame.expect("it answers");
        assert_eq!(decoded(&frame).payload.len(), LARGE, "an answer is as long as its request");
        answered += 1;
        free.add_permits(1);
    }
    let elapsed = start.elapsed();
    assert_eq!(asking.await.expect("it asks"), answered, "all are answered");
    Loaded { answered, elapsed, trips: Vec::new() }
}

/// A connection that tasks share.
#[derive(Clone)]
struct Shared(mpsc::Sender<(&'static [u8], oneshot::Sender<Bytes>)>);

/// Who waits for which answer.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>;

impl Shared {
    async fn over(server: SocketAddr) -> Self {
        let (reader, writer) = dial_apart(server).await;
        let (sender, asked) = mpsc::channel(CALLERS);
        let waiting = Waiting::default();
        tokio::spawn(ask_for_all(writer, asked, Arc::clone(&waiting)));
        tokio::spawn(hear_for_all(reader, waiting));
        Self(sender)
    }

    async fn ask(&self, payload: &'static [u8]) -> Bytes {
        let (tell, told) = oneshot::channel();
        self.0.send((payload, tell)).await.expect("it is open");
        told.await.expect("it answers")
    }
}

/// Until nobody can ask any more.
async fn ask_for_all(
    mut writer: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
    mut asked: mpsc::Receiver<(&'static [u8], oneshot::Sender<Bytes>)>,
    waiting: Waiting,
) {
    let (mut scratch, mut number) = (Vec::new(), 0);
    while let Some(first) = asked.recv().await {
        let mut next = Some(first);
        while let Some((payload, caller)) = next {
            number += 1;
            waiting.lock().expect("nobody panics").insert(number, caller);
            put(&mut writer, &mut scratch, number, payload).await.expect("it is asked");
            next = asked.try_recv().ok();
        }
        flush(&mut writer).await.expect("it is asked");
    }
}

async fn hear_for_all(mut reader: FramedRead<OwnedReadHalf, LengthDelimitedCodec>, waiting: Waiting) {
    while let Some(frame) = reader.next().await {
        let frame = frame.map(BytesMut::freeze).expect("it answers");
        let Message { number, payload } = decoded(&frame);
        let caller = waiting.lock().expect("nobody panics").remove(&number);
        let _ = caller.expect("somebody has asked").send(frame.slice_ref(payload));
    }
}

async fn callers(server: SocketAddr, span: Duration) -> Loaded {
    let shared = Shared::over(server).await;
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..CALLERS {
        let shared = shared.clone();
        all.spawn(async move {
            let mut answered = 0;
            while start.elapsed() < span {
                assert_eq!(shared.ask(&[0x5a; SMALL]).await.len(), SMALL, "an answer is as long as its request");
                answered += 1;
            }
            answered
        });
    }
    let answered = all.join_all().await.into_iter().sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

async fn fan_in(server: SocketAddr, span: Duration) -> Loaded {
    let mut lines = Vec::new();
    for _ in 0..FAN {
        lines.push(dial(server).await);
    }
    let start = Instant::now();
    let all: JoinSet<Loaded> = lines.into_iter().map(|line| pipelined(line, FAN_WINDOW, start, span)).collect();
    let answered = all.join_all().await.into_iter().map(|loaded| loaded.answered).sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}

async fn connect(server: SocketAddr, span: Duration) -> Loaded {
    let start = Instant::now();
    let come_and_go = move |_| async move {
        let mut made = 0;
        while start.elapsed() < span {
            // It is asked once, and closed.
            drop(dial(server).await);
            made += 1;
        }
        made
    };
    let all: JoinSet<u64> = (0..AT_ONCE).map(come_and_go).collect();
    let answered = all.join_all().await.into_iter().sum();
    Loaded { answered, elapsed: start.elapsed(), trips: Vec::new() }
}
