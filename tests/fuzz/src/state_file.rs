//! `known.json`: whatever lies there, a node starts with it or without it, remembers no more than it may, and what it
//! writes is read back as the same.

use kithd::protocol::bans::Ban;
use kithd::protocol::node::{MAX_KEPT, Memory, Node};
use kithd::protocol::time::{Now, Time};

use super::made::{WALL_MS, id};
use super::node::{Key, bounded, settings};

pub fn run(data: &[u8]) {
    let Ok(memory) = serde_json::from_slice::<Memory>(data) else { return };
    let written = serde_json::to_vec(&memory).expect("a memory is JSON");
    assert_eq!(serde_json::from_slice::<Memory>(&written).ok().as_ref(), Some(&memory));

    let now = Now { mono: Time(1_000_000), wall_ms: WALL_MS };
    let mut node = Node::new(settings(), Box::new(Key(id(0))), &memory, 1, now);
    bounded(&node);
    let own = node.view().get(&id(0)).map(|entry| entry.record().body.version);
    assert!(own >= Some(memory.version), "the node would speak with less authority than it did before");
    node.network_report(now);
    assert!(node.bans().iter(now).count() <= settings().max_bans);
    node.bans().next_end(now);
    for row in node.memory().bans {
        assert_eq!(Ban::from_row(&row).map(|ban| ban.row()), Some(row), "a ban is lost at the next start");
    }
    assert!(node.memory().addresses.len() <= MAX_KEPT);
    let kept = serde_json::to_vec(&node.memory()).expect("a memory is JSON");
    assert_eq!(serde_json::from_slice::<Memory>(&kept).ok(), Some(node.memory()));
}
