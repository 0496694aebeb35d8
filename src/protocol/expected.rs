//! The nodes that should be there, by what their user calls them, and where each was found last.
//!
//! A view forgets who has been gone for two days, and an address book who has not answered for one. Whoever is expected is
//! forgotten by neither: his place is kept here, and over restarts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::{ControllerId, Label, from_hex};
use super::record::RecordBody;

/// As many as may be expected: each is dialled once a minute for ever while it is not there, and named in reports. Those who
/// expect more ask `kithd network`.
pub const MAX_EXPECTED: usize = 512;

/// What the user calls a node. A label is what its owner says: whoever must be sure gives the id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Expected {
    /// This very node.
    Id(ControllerId),
    /// Any node of this label.
    Label(Label),
}

/// Where an expected node was found last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which node it was.
    pub node: ControllerId,
    /// The address it told.
    pub address: SocketAddr,
}

/// A [`Place`] as `known.json` keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlace {
    /// As it is expected: a label or an id.
    pub expected: String,
    /// The node's id.
    pub node: String,
    /// Its address.
    pub address: String,
}

impl Expected {
    /// True if a node that says this of itself is meant.
    pub fn is(&self, id: &ControllerId, label: &Label) -> bool {
        match self {
            Self::Id(expected) => expected == id,
            Self::Label(expected) => expected == label,
        }
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No label is as long as an id.
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Label).map_err(|_| {
                "is neither a label (1 to 63 of A-Z a-z 0-9 . _ -) nor an id of 64 hex digits; 'kithd network' shows both"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.pad(&id.hex()),
            Self::Label(label) => label.fmt(f),
        }
    }
}

/// All that are expected now.
#[derive(Debug, Default)]
pub struct Expectations {
    held: BTreeMap<Expected, Option<Place>>,
    stamp: u64,
}

impl Expectations {
    /// These and no others are expected from now on; where those that were expected before are is still known.
    pub fn set(&mut self, names: &[Expected]) {
        let mut before = std::mem::take(&mut self.held);
        let place = |name: &Expected| (name.clone(), before.remove(name).flatten());
        self.held = names.iter().take(MAX_EXPECTED).map(place).collect();
        self.stamp += 1;
    }

    /// What a run before this one knew of those that are still expected.
    pub fn restore(&mut self, kept: &[KeptPlace]) {
        for row in kept {
            let (name, node, address) = (row.expected.parse(), from_hex::<32>(&row.node), row.address.parse());
            if let (Ok(name), Some(node), Ok(address)) = (name, node, address)
                && let Some(place @ None) = self.held.get_mut::<Expected>(&name)
            {
                *place = Some(Place { node: ControllerId(node), address });
            }
        }
    }

    /// What to keep over a restart.
    pub fn kept(&self) -> Vec<KeptPlace> {
        let places = self.held.iter().filter_map(|(name, place)| Some((name, (*place)?)));
        let row = |(name, place): (&Expected, Place)| KeptPlace {
            expected: name.to_string(),
            node: place.node.hex(),
            address: place.address.to_string(),
        };
        places.map(row).collect()
    }

    /// Rises whenever there is something new to keep.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Takes note of what a node says of itself. Another node of the same label takes the place of the one that was found
    /// first only if that one is `gone`.
    pub fn found(&mut self, body: &RecordBody, gone: impl Fn(&ControllerId) -> bool) {
        let new = Place { node: body.id, address: body.address };
        for (_, place) in self.held.iter_mut().filter(|(name, _)| name.is(&body.id, &body.label)) {
            let is_free = place.is_none_or(|held| held.node == new.node || gone(&held.node));
            if is_free && *place != Some(new) {
                *place = Some(new);
                self.stamp += 1;
            }
        }
    }

    /// This node is to be forgotten: it is expected no more, under whatever name.
    pub fn forget(&mut self, id: &ControllerId, label: &Label) {
        let before = self.held.len();
        self.held.retain(|name, place| match place {
            Some(place) => place.node != *id,
            None => !name.is(id, label),
        });
        self.stamp += u64::from(self.held.len() != before);
    }

    /// The one of this name is expected no more; where it was found last, if it was expected.
    pub fn drop_name(&mut self, name: &Expected) -> Option<Option<Place>> {
        let dropped = self.held.remove(name)?;
        self.stamp += 1;
        Some(dropped)
    }

    /// True if nobody is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True if a node that says this of itself is expected.
    pub fn is_expected(&self, id: &ControllerId, label: &Label) -> bool {
        self.held.contains_key(&Expected::Id(*id)) || self.held.contains_key(&Expected::Label(label.clone()))
    }

    /// Who is expected, and where each was found last.
    pub fn iter(&self) -> impl Iterator<Item = (&Expected, Option<Place>)> {
        self.held.iter().map(|(name, place)| (name, *place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::list::List;
    use crate::protocol::record::{NetworkId, Reach, RecordState};

    fn id(first: u8) -> ControllerId {
        ControllerId([first; 32])
    }

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn says(node: u8, name: &str, port: u16) -> RecordBody {
        RecordBody {
            network: NetworkId([0; 8]),
            id: id(node),
            version: 1,
            issued: 1,
            incarnation: 1,
            state: RecordState::Up,
            reach: Reach::Proven,
            address: ([10, 0, 0, node], port).into(),
            label: label(name),
            tags: List::new(),
            edges: List::new(),
            round_trips: List::new(),
        }
    }

    fn expecting(names: &[&str]) -> Expectations {
        let mut expectations = Expectations::default();
        expectations.set(&names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>());
        expectations
    }

    fn nodes(expectations: &Expectations) -> Vec<Option<ControllerId>> {
        expectations.iter().map(|(_, place)| place.map(|place| place.node)).collect()
    }

    #[test]
    fn a_name_is_a_label_or_an_id() {
        let whole = id(0xab).hex();
        assert_eq!(whole.parse(), Ok(Expected::Id(id(0xab))));
        assert_eq!(whole.to_uppercase().parse::<Expected>(), Ok(Expected::Id(id(0xab))));
        assert_eq!("abab".parse(), Ok(Expected::Label(label("abab"))));
        for wrong in ["", "a b", &whole[..63].repeat(2), "d\u{e9}"] {
            assert!(wrong.parse::<Expected>().unwrap_err().contains("neither a label"), "{wrong}");
        }
    }

    #[test]
    fn a_place_follows_its_node_and_no_impostor() {
        let mut expectations = expecting(&["db"]);
        expectations.found(&says(1, "db", 1), |_| false);
        expectations.found(&says(2, "db", 1), |_| false);
        assert_eq!(nodes(&expectations), [Some(id(1))], "the first is still there");
        expectations.found(&says(1, "db", 2), |_| false);
        assert_eq!(expectations.kept()[0].address, "10.0.0.1:2");
        expectations.found(&says(2, "db", 1), |gone| *gone == id(1));
        assert_eq!(nodes(&expectations), [Some(id(2))]);
        expectations.found(&says(3, "web", 1), |_| true);
        assert_eq!(nodes(&expectations), [Some(id(2))]);
    }

    #[test]
    fn what_was_found_lasts_over_a_restart_and_a_new_list() {
        let mut expectations = expecting(&["db", &id(2).hex(), "cache"]);
        expectations.found(&says(1, "db", 1), |_| false);
        expectations.found(&says(2, "web", 1), |_| false);
        let kept = expectations.kept();
        assert_eq!(kept.len(), 2);
        let mut next = expecting(&["db", "other"]);
        next.restore(&kept);
        next.restore(&[KeptPlace { expected: "other".to_owned(), node: "x".to_owned(), address: "y".to_owned() }]);
        assert_eq!(nodes(&next), [Some(id(1)), None], "who is expected no more is not restored, nor what is spoilt");
        let before = next.stamp();
        next.set(&["db".parse().unwrap()]);
        assert!(next.stamp() > before && nodes(&next) == [Some(id(1))]);
    }

    #[test]
    fn the_forgotten_are_expected_no_more() {
        let mut expectations = expecting(&["db", "cache", &id(1).hex(), &id(4).hex()]);
        expectations.found(&says(1, "db", 1), |_| false);
        expectations.forget(&id(3), &label("db"));
        assert_eq!(expectations.iter().count(), 4, "another node of that label is none of theirs");
        expectations.forget(&id(1), &label("renamed"));
        expectations.forget(&id(4), &label("x"));
        assert_eq!(expectations.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["cache"]);
        assert_eq!(expectations.drop_name(&"cache".parse().unwrap()), Some(None));
        assert_eq!(expectations.drop_name(&"cache".parse().unwrap()), None);
    }
}
