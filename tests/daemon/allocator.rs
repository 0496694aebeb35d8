//! The threads of a node share one pool of memory, unless whoever starts it has tuned the allocator himself.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::fs;

use crate::daemon::{Daemon, Network};

/// What the process found in its environment when it began.
fn tuned(node: &Daemon) -> Vec<String> {
    let environment = fs::read(format!("/proc/{}/environ", node.pid())).unwrap();
    let words = environment.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(|word| word.starts_with("GLIBC_TUNABLES=") || word.starts_with("MALLOC_ARENA_MAX=")).collect()
}

#[test]
fn a_node_takes_its_memory_from_one_pool_and_is_the_process_that_was_started() {
    let network = Network::new();
    let node = network.start("frugal");
    // Some versions of glibc cut it, where they have read it.
    let [tuned] = &tuned(&node)[..] else { panic!("it is not tuned") };
    let whole = "GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0:glibc.malloc.arena_max=1";
    assert!([whole, whole.split(':').next().unwrap()].contains(&tuned.as_str()), "{tuned}");
    let command = fs::read(format!("/proc/{}/cmdline", node.pid())).unwrap();
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let asked = node.setup().command();
    assert_eq!(words[0], asked.get_program().as_encoded_bytes());
    assert_eq!(
        words[1..=asked.get_args().count()],
        asked.get_args().map(|word| word.as_encoded_bytes()).collect::<Vec<_>>()
    );
}

#[test]
fn what_its_user_has_chosen_holds() {
    let network = Network::new();
    for choice in ["GLIBC_TUNABLES=glibc.malloc.arena_max=3", "MALLOC_ARENA_MAX=4"] {
        let node = network.node("tuned").under(&format!("export {choice}; exec")).start();
        assert_eq!(tuned(&node), [choice]);
    }
}
