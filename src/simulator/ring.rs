//! The stand-in for a node's network keys: their marks, which nobody here makes up.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::protocol::key_mark::KeyMark;

/// The key that all hold until they are told otherwise.
const FIRST: KeyMark = KeyMark([0; 8]);

/// The keys of one process; it chooses among them as the daemon's key ring does.
pub(super) struct Ring {
    keys: Vec<KeyMark>,
    /// Where another key than the first is to be tried, or was right last.
    other: BTreeMap<SocketAddr, usize>,
}

impl Default for Ring {
    fn default() -> Self {
        Self { keys: vec![FIRST], other: BTreeMap::new() }
    }
}

impl Ring {
    pub(super) fn replace(&mut self, keys: &[KeyMark]) {
        (self.keys, self.other) = (keys.to_vec(), BTreeMap::new());
    }

    pub(super) fn marks(&self) -> &[KeyMark] {
        &self.keys
    }

    pub(super) fn for_dial(&self, address: SocketAddr, first_key: bool) -> KeyMark {
        let index = self.other.get(&address).copied().filter(|_| !first_key).unwrap_or(0);
        self.keys.get(index).copied().unwrap_or(FIRST)
    }

    /// What the next dial to this address takes, after this key had an answer there or none.
    pub(super) fn learn(&mut self, address: SocketAddr, key: KeyMark, answered: bool) {
        if let Some(index) = self.keys.iter().position(|held| *held == key) {
            self.other.insert(address, (index + usize::from(!answered)) % self.keys.len());
        }
    }
}
