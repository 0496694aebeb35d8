//! The fuzz targets, each a function of bytes that panics where a promise is broken.
//!
//! The fuzzer runs them on nightly Rust (`cargo install cargo-fuzz`, from this folder):
//!
//! ```text
//!   cargo +nightly fuzz run --fuzz-dir . TARGET grown/TARGET corpus/TARGET -- -max_total_time=600 -malloc_limit_mb=16
//!   cargo +nightly fuzz cmin --fuzz-dir . TARGET corpus/TARGET
//! ```
//!
//! New inputs go to the first folder (`mkdir -p grown/TARGET`), which is not kept. What is kept, `corpus/TARGET`, is the
//! few inputs that together reach all that was reached (libFuzzer's `-merge=1` chooses them), and each input that once
//! broke a promise. The ordinary tests replay them on stable Rust: `cargo test --test corpus`.
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
            state_file
            tail_message
            text
        }
    };
}
