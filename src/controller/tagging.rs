//! A node's tags as its user or a program changes them: all that is asked for, or nothing.

use super::registry::Registry;
use crate::protocol::node::Input;
use crate::protocol::tags::{Tags, changed};

/// Sets some tags, in words such as `role=db`, and removes others; gives back what they are now.
///
/// # Errors
/// One line with the cure; nothing has changed then.
pub fn tag(registry: &Registry, set: &[String], remove: &[String]) -> Result<Tags, String> {
    registry.think(|node, now, actions| {
        let tags = changed(node.tags(), set, remove)?;
        node.handle(now, Input::Tags(tags.clone()), actions);
        Ok(tags)
    })
}
