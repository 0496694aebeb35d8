//! What it costs to cut bytes into frames and to make messages of them: `cargo bench --bench codec`.

#[allow(dead_code, reason = "shared with other benches, each of which uses a part of it")]
mod members;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kithd::protocol::codec::{FrameSplitter, Frames, HEADER, MAX_FRAME, Message, PREAMBLE, decode_frame, encode_frame};
use kithd::protocol::hash::HalfHash;
use kithd::protocol::message::{Announcement, News, Statement, TailMessage};
use kithd::protocol::reason::Reason;
use kithd::protocol::record::Item;

/// As much of a stream as a packet brings.
const PACKET: usize = 1448;

fn messages(criterion: &mut Criterion) {
    for (name, message) in [("heartbeat", heartbeat()), ("push of 16 records", push())] {
        let mut group = criterion.benchmark_group(name);
        let frame = encode_frame(&message);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function("encode", |bench| bench.iter(|| encode_frame(black_box(&message))));
        group.bench_function("decode", |bench| bench.iter(|| decoded::<TailMessage>(black_box(&frame))));
        group.finish();
    }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    for (name, message, count) in [("heartbeats", heartbeat(), 500), ("pushes", push(), 20)] {
        let stream: Vec<u8> = std::iter::repeat_n(encode_frame(&message), count).flatten().collect();
        assert_eq!((split(&stream, stream.len()), split(&stream, PACKET)), (count, count));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count} {name}, at once"), |bench| bench.iter(|| split(&stream, stream.len())));
        group.bench_function(format!("{count} {name}, by packets"), |bench| bench.iter(|| split(&stream, PACKET)));
    }
    group.finish();
}

fn heartbeat() -> TailMessage {
    let statement = Statement { digest: HalfHash([7; 16]), ages: [1, 2, 3].into_iter().collect() };
    TailMessage::Heartbeat { seq: 1, statement, echo: Some(0) }
}

fn push() -> TailMessage {
    let announcement =
        |number| Announcement { node: members::id(number).short(), version: 1, verdict: [0; 4], suspected: false };
    TailMessage::Push(News {
        items: (0..16).map(|number| Item::Record(members::record(number, 1).shared())).collect(),
        announcements: (16..80).map(announcement).collect(),
        ..News::default()
    })
}

fn decoded<M: Message>(frame: &[u8]) -> M {
    decode_frame(&frame[HEADER..]).expect("it was encoded here")
}

fn split(stream: &[u8], piece: usize) -> usize {
    let (mut splitter, mut counted) = (FrameSplitter::new(), Counted(0));
    for bytes in stream.chunks(piece) {
        splitter.split(black_box(bytes), &mut counted).expect("these are frames");
    }
    assert!(!splitter.is_partial());
    counted.0
}

struct Counted(usize);

impl Frames for Counted {
    fn limit(&self) -> usize {
        MAX_FRAME
    }

    fn preamble(&mut self, _: [u8; PREAMBLE]) -> Result<(), Reason> {
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), Reason> {
        black_box(frame);
        self.0 += 1;
        Ok(())
    }
}

fn brief() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1))
}

criterion_group! { name = codec; config = brief(); targets = messages, frames }
criterion_main!(codec);
