//! What it costs to believe what is said: signatures, the merge of views and their digest. `cargo bench --bench thinking`.

#[allow(dead_code, reason = "shared with other benches, each of which uses a part of it")]
mod members;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kithd::protocol::record::{Record, Signer, VerifiedItem};
use kithd::protocol::view::View;
use kithd::secure::door::Door;
use kithd::secure::keys::Identity;

use members::{NETWORK, body, record};

const SIZES: [u16; 2] = [64, 1024];
const MAX_NODES: usize = 16_384;

fn signatures(criterion: &mut Criterion) {
    let identity = Identity::generate().expect("randomness");
    let sign = || Record::signed(body(0, identity.id(), 1), &identity);
    let signed = sign();
    let mut group = criterion.benchmark_group("record");
    group.bench_function("sign", |bench| bench.iter(sign));
    group.bench_function("check", |bench| {
        bench.iter_batched_ref(|| Door::new(NETWORK), |door| door.record(signed.shared()), BatchSize::SmallInput);
    });
    let door = Door::new(NETWORK);
    assert!(door.record(signed.shared()).is_ok());
    group.bench_function("check again", |bench| bench.iter(|| door.record(black_box(signed.shared()))));
    group.finish();
}

fn views(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("view");
    for size in SIZES {
        let news = |version| (0..size).map(|number| VerifiedItem::Record(record(number, version))).collect::<Vec<_>>();
        let (first, second) = (news(1), news(2));
        let known = view(&first);
        group.throughput(Throughput::Elements(u64::from(size)));
        group.bench_function(format!("{size} newcomers"), |bench| bench.iter_with_large_drop(|| view(&first)));
        group.bench_function(format!("{size} new versions"), |bench| {
            bench.iter_batched_ref(|| view(&first), |view| merge(view, &second), BatchSize::LargeInput);
        });
        let mut same = known;
        group.bench_function(format!("{size} that are known"), |bench| bench.iter(|| merge(&mut same, &first)));
        // One bucket is hashed anew, and the digest over all of them.
        let mut version = 2;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("one change among {size}, and the digest"), |bench| {
            let next = || {
                version += 1;
                VerifiedItem::Record(record(0, version))
            };
            let change = |item: VerifiedItem| {
                same.merge(item);
                same.digest()
            };
            bench.iter_batched(next, change, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn view(news: &[VerifiedItem]) -> View {
    let mut view = View::new(MAX_NODES);
    merge(&mut view, news);
    view
}

/// With the digest, which every change of a view is followed by.
fn merge(view: &mut View, news: &[VerifiedItem]) {
    for item in news {
        black_box(view.merge(item.clone()));
    }
    black_box(view.digest());
}

fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
}

criterion_group! { name = thinking; config = brief(); targets = signatures, views }
criterion_main!(thinking);
