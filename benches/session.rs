//! What an encrypted connection computes, without a socket: `cargo bench --bench session`.
//!
//! Handshakes count both ends. `cargo bench --bench encryption` has the same over loopback, beside plain bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kithd::protocol::codec::{HEADER, PREAMBLE, Preamble};
use kithd::protocol::message::Purpose;
use kithd::protocol::record::NetworkId;
use kithd::secure::credentials::Credentials;
use kithd::secure::handshake::{Answer, Head, Secured, Tail};
use kithd::secure::keys::Identity;
use kithd::secure::network_key::NetworkKey;
use kithd::secure::primitives::Cipher;
use kithd::secure::recent::Recent;

/// Unix time that both ends of a handshake go by.
const NOW: u64 = 1_800_000_000;
const CIPHERS: [(&str, Cipher); 2] = [("ChaCha20-Poly1305", Cipher::ChaChaPoly), ("AES-GCM", Cipher::AesGcm)];
/// A heartbeat, and the largest record.
const SIZES: [usize; 2] = [64, 16 * 1024];
/// Records that are sealed before any of them is opened: each can be opened only once, and in its turn.
const AHEAD: BatchSize = BatchSize::NumIterations(64);

fn handshakes(criterion: &mut Criterion) {
    let members = Members::new();
    let mut group = criterion.benchmark_group("handshake");
    for (name, cipher) in CIPHERS {
        group.bench_function(name, |bench| bench.iter(|| members.shake_hands(cipher)));
    }
    let (_, first) = members.begin(Cipher::preferred());
    let other = NetworkKey::generate().expect("randomness");
    group.bench_function("refused for its network key", |bench| {
        bench.iter(|| assert!(members.answer(black_box(&first), &other).is_none()));
    });
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let members = Members::new();
    for (name, cipher) in CIPHERS {
        let mut group = criterion.benchmark_group(name);
        for size in SIZES {
            let plaintext = vec![7; size];
            group.throughput(Throughput::Bytes(size as u64));
            let (mut tail, _) = members.shake_hands(cipher);
            let mut sealed = Vec::new();
            group.bench_function(format!("seal {size} B"), |bench| {
                bench.iter(|| {
                    sealed.clear();
                    tail.sealing.seal(black_box(&plaintext), &mut sealed);
                });
            });
            let (mut tail, mut head) = members.shake_hands(cipher);
            let mut opened = Vec::new();
            group.bench_function(format!("open {size} B"), |bench| {
                let seal = || {
                    let mut record = Vec::with_capacity(size + 64);
                    tail.sealing.seal(&plaintext, &mut record);
                    record
                };
                let open = |record: &mut Vec<u8>| head.opening.open(&record[HEADER..], &mut opened).expect("its turn");
                bench.iter_batched_ref(seal, open, AHEAD);
            });
        }
        group.finish();
    }
}

struct Members {
    tail: Arc<Credentials>,
    head: Arc<Credentials>,
    key: NetworkKey,
}

impl Members {
    fn new() -> Self {
        let member = || {
            let identity = Identity::generate().expect("randomness");
            Arc::new(Credentials::new(identity, NetworkId::of("bench")).expect("randomness"))
        };
        Self { tail: member(), head: member(), key: NetworkKey::generate().expect("randomness") }
    }

    fn begin(&self, cipher: Cipher) -> (Tail, Vec<u8>) {
        Tail::begin(&self.tail, &self.key, cipher, Purpose::Overlay).expect("randomness")
    }

    fn answer(&self, first: &[u8], key: &NetworkKey) -> Option<(Head, Vec<u8>)> {
        let (preamble, message) = first.split_at(PREAMBLE);
        let preamble = Preamble::from_bytes(preamble.try_into().ok()?);
        let (keys, seen) = ([key.clone()], Recent::new(1));
        match Head::first(preamble, &message[HEADER..], &self.head, &keys, &seen, NOW).ok()? {
            Answer::Continue(head, second) => Some((head, second)),
            _ => None,
        }
    }

    fn shake_hands(&self, cipher: Cipher) -> (Secured, Secured) {
        let (tail, first) = self.begin(cipher);
        let (head, second) = self.answer(&first, &self.key).expect("the same key");
        let (third, at_tail) = tail.finish(&second[HEADER..], NOW).expect("an honest head");
        let at_head = head.third(&third[HEADER..], &self.head, NOW).expect("an honest tail");
        (at_tail, at_head)
    }
}

fn brief() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1))
}

criterion_group! { name = session; config = brief(); targets = handshakes, records }
criterion_main!(session);
