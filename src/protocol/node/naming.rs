//! Which node a user means by a text: one with that label, or one whose id begins so.
//!
//! A label is what its owner says, and nothing keeps him from calling himself by the digits of another's id. So neither
//! reading wins: where both find somebody the text is ambiguous, and the user is shown both and gives more of the id.

use std::collections::BTreeSet;

use super::Node;
use crate::protocol::identity::{ControllerId, Label};

/// Where a label matches, the beginning of an id has to have so many digits to count beside it. Labels such as `a` and `db`
/// are digits too, and some id begins with them in any larger network; but nobody tells nodes apart by so few.
const TELLING: usize = 4;
/// Nodes that are named to whoever was ambiguous; one line has to hold them.
const MOST_NAMED: usize = 4;
/// Digits of an id that are shown then: twice those in tables, since the first eight may be what was ambiguous.
const DIGITS: usize = 16;

impl Node {
    /// The nodes this text may mean: a label, an id, or the beginning of one.
    pub fn find(&self, text: &str) -> Vec<ControllerId> {
        meant(text, self.view.iter().map(|(id, entry)| (*id, Some(&entry.record().body.label))))
    }

    /// True if a node in the view has exactly this label or id, of whatever else this may be the beginning.
    pub fn is_called(&self, text: &str) -> bool {
        self.find(text).iter().any(|id| {
            self.label_of(id).is_some_and(|label| label.as_str() == text) || id.hex().eq_ignore_ascii_case(text)
        })
    }

    /// These nodes, for somebody who has to choose.
    pub fn names_of(&self, ids: &[ControllerId]) -> String {
        let named = ids.iter().take(MOST_NAMED).map(|id| {
            let digits = &id.hex()[..DIGITS];
            self.label_of(id).map_or_else(|| digits.to_owned(), |label| format!("{label} ({digits})"))
        });
        let mut names = named.collect::<Vec<_>>().join(" or ");
        if ids.len() > MOST_NAMED {
            names.push_str(&format!(" or {} others", ids.len() - MOST_NAMED));
        }
        names
    }
}

/// Those of the nodes, with their labels, that the text may mean.
pub(super) fn meant<'a>(
    text: &str,
    nodes: impl Iterator<Item = (ControllerId, Option<&'a Label>)>,
) -> Vec<ControllerId> {
    let (mut called, mut begin_so) = (BTreeSet::new(), BTreeSet::new());
    for (id, label) in nodes.filter(|_| !text.is_empty()) {
        if label.is_some_and(|label| label.as_str() == text) {
            called.insert(id);
        }
        if id.begins_with(text) {
            begin_so.insert(id);
        }
    }
    if called.is_empty() || text.len() >= TELLING {
        called.append(&mut begin_so);
    }
    called.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> ControllerId {
        let mut id = [first; 32];
        id[31] = 1;
        ControllerId(id)
    }

    #[test]
    fn nobody_is_meant_in_anothers_place() {
        let label = |text: &str| text.parse::<Label>().unwrap();
        let (beta, impostor, short) = (label("beta"), label("abababab"), label("ab"));
        let nodes = [(id(0xab), Some(&beta)), (id(0x11), Some(&impostor)), (id(0x12), Some(&short)), (id(0x13), None)];
        let found = |text: &str| meant(text, nodes.into_iter());
        assert_eq!(found("beta"), [id(0xab)]);
        assert_eq!(found("abababab"), [id(0x11), id(0xab)], "the one is called so, the other is it");
        assert_eq!(found("ABABABABAB"), [id(0xab)], "more of the id tells them apart");
        assert_eq!(found("ab"), [id(0x12)], "of two digits a label is meant");
        assert_eq!(found("aba"), [id(0xab)], "if there is one");
        assert_eq!(found(&id(0x13).hex()), [id(0x13)]);
        assert_eq!(found("1"), [id(0x11), id(0x12), id(0x13)]);
        assert_eq!((found(""), found("gamma")), (vec![], vec![]));
    }
}
