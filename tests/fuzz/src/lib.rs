//! The fuzz targets, each a function of bytes that panics where a promise is broken.
//!
//! The fuzzer runs them on nightly Rust (`cargo install cargo-fuzz`, from this folder), each in a process that ends at the
//! first broken promise and leaves its input in `artifacts/TARGET`:
//!
//! ```text
//!   mkdir -p grown/TARGET small/TARGET
//!   export ASAN_OPTIONS=quarantine_size_mb=16        # else freed memory alone makes the process grow by 256 MiB
//!   cargo +nightly fuzz run --fuzz-dir . TARGET grown/TARGET corpus/TARGET -- -max_total_time=600 -malloc_limit_mb=16
//!   cargo +nightly fuzz run --fuzz-dir . TARGET artifacts/TARGET/crash-...        # once more, to see it
//!   cargo +nightly fuzz run --fuzz-dir . TARGET small/TARGET corpus/TARGET grown/TARGET -- -set_cover_merge=1 -use_counters=0
//! ```
//!
//! New inputs go to the first folder. What is kept in the tree, `corpus/TARGET`, is the few inputs that together reach every
//! branch that was reached (the last line chooses them; they have hashes for names), and by their names those that were
//! written by hand or once broke a promise. The ordinary tests replay them on stable Rust: `cargo test --test corpus`. A
//! promise that the fuzzer found broken gets a test beside the code as well.
//!
//! Keys are made anew in each process, so in the targets about keys an input is a recipe, not a recording.
//!
//! A new target is `src/NAME.rs` with a `run`, its line in each of the two lists below, `fuzz_targets/NAME.rs` and its
//! `[[bin]]` in `Cargo.toml`, both as the others are.

mod bytes;
mod hands;
mod made;

pub mod admin;
pub mod configuration;
pub mod door;
pub mod frames;
pub mod handshake_head;
pub mod handshake_tail;
pub mod head_message;
pub mod key_file;
pub mod merge;
pub mod node;
pub mod peer;
pub mod records;
pub mod requests;
pub mod state_file;
pub mod tail_message;
pub mod text;

/// Calls a macro with the name of every target.
#[macro_export]
macro_rules! for_each_target {
    ($macro:ident) => {
        $macro! {
            admin
            configuration
            door
            frames
            handshake_head
            handshake_tail
            head_message
            key_file
            merge
            node
            peer
            records
            requests
            state_file
            tail_message
            text
        }
    };
}
