//! What its user says about this node, while it runs.

use super::Node;
use crate::protocol::record::RecordState;
use crate::protocol::tags::Tags;

impl Node {
    /// What the node's user says about it, as the next record will have it.
    pub fn tags(&self) -> &Tags {
        &self.settings.tags
    }

    /// The record follows at once, but not more often than edges that change are published.
    pub(super) fn tag(&mut self, tags: Tags) {
        if tags != self.settings.tags && self.state == RecordState::Up {
            self.settings.tags = tags;
            self.publisher.mention();
        }
    }
}
