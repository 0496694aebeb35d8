//! The inputs that the fuzzer found worth keeping, on stable Rust: each must pass its target (`tests/fuzz/`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

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
