//! The inputs that the fuzzer found worth keeping, on stable Rust: each must pass its target (`tests/fuzz/`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kithd::protocol::codec::decode_frame;
use kithd::protocol::message::{HeadMessage, TailMessage};
use kithd::protocol::rng::Rng;

#[path = "fuzz/src/lib.rs"]
mod fuzz;

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(of)
}

/// The names of what lies in a folder.
fn names(of: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(of)).unwrap_or_else(|error| panic!("{of}: {error}"));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = format!("corpus/{target}");
    let kept = names(&corpus);
    assert!(!kept.is_empty(), "{corpus} is empty");
    for name in kept {
        let path = folder(&corpus).join(&name);
        let data = fs::read(&path).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&data)));
        assert!(outcome.is_ok(), "{} breaks a promise", path.display());
    }
    // And what no corpus can hold: nothing, and any one byte.
    run(&[]);
    (0..=u8::MAX).for_each(|byte| run(&[byte]));
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), fuzz::$target::run);
            }
        )*

        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

for_each_target!(replayed);

#[test]
fn every_target_is_known_to_the_fuzzer_and_its_corpus_is_small() {
    let expected: Vec<String> = TARGETS.iter().map(|target| (*target).to_owned()).collect();
    let binaries: Vec<String> = names("fuzz_targets").iter().map(|name| name.replace(".rs", "")).collect();
    assert_eq!(binaries, expected);
    assert_eq!(names("corpus"), expected);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} has no [[bin]]");
        let corpus = format!("corpus/{target}");
        let kept = names(&corpus);
        let bytes: u64 = kept.iter().map(|name| folder(&corpus).join(name).metadata().unwrap().len()).sum();
        assert!(kept.len() <= 100 && bytes <= 200 * 1024, "{corpus}: {} files, {bytes} bytes: merge it", kept.len());
    }
}

/// What is changed in a kept input, a thousand times each, for those who have no fuzzer at hand.
const MUTATIONS: usize = 1000;

/// A change or a few, as bytes suffer them that somebody plays with.
fn mutated(seed: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(data.len().max(1));
        match rng.below(7) {
            0 if !data.is_empty() => data[at] ^= 1 << rng.below(8),
            1 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            2 => data.truncate(at),
            3 => data.insert(at.min(data.len()), rng.next_u64() as u8),
            // Lengths stand as numbers before what they count.
            4 if at + 2 <= data.len() => {
                data[at..at + 2].copy_from_slice(&(rng.next_u64() as u16 >> rng.below(16)).to_le_bytes());
            }
            5 => data.extend_from_slice(&other[rng.below(other.len().max(1)).min(other.len())..]),
            _ => {
                let end = at + rng.below(data.len() - at.min(data.len()) + 1);
                data.drain(at.min(end)..end.min(data.len()));
            }
        }
    }
    data
}

fn mutations(target: &str, run: fn(&[u8])) {
    let kept: Vec<Vec<u8>> = names(&format!("corpus/{target}"))
        .iter()
        .map(|name| fs::read(folder(&format!("corpus/{target}/{name}"))).unwrap())
        .collect();
    let mut rng = Rng::new(7);
    for _ in 0..MUTATIONS {
        for seed in &kept {
            let data = mutated(seed, &kept[rng.below(kept.len())], &mut rng);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&data)));
            assert!(outcome.is_ok(), "{target}: {data:02x?} breaks a promise");
        }
    }
}

#[test]
fn messages_that_somebody_played_with_break_no_promise() {
    mutations("tail_message", fuzz::tail_message::run);
    mutations("head_message", fuzz::head_message::run);
    mutations("frames", fuzz::frames::run);
    mutations("requests", fuzz::requests::run);
}

/// An input that decodes no more, because the wire has changed, leads a fuzzer nowhere.
#[test]
fn every_kept_message_still_is_one() {
    let decodes = |corpus: &str, is_one: fn(&[u8]) -> bool| {
        let kept = names(corpus);
        let stale = |name: &&String| !is_one(&fs::read(folder(corpus).join(name)).unwrap());
        kept.iter().filter(stale).map(|name| format!("{corpus}/{name}")).collect::<Vec<_>>()
    };
    let tails = decodes("corpus/tail_message", |data| decode_frame::<TailMessage>(data).is_ok());
    let heads = decodes("corpus/head_message", |data| decode_frame::<HeadMessage>(data).is_ok());
    assert!(tails.is_empty() && heads.is_empty(), "remove\n{}", [tails, heads].concat().join("\n"));
}
