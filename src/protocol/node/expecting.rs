//! Nodes that should be there: dialled for ever while they are not, and named; and what it looks like when many nodes
//! vanish at once.
//!
//! Of a network that is split each side sees the other one go down. What they have in common is the moment: a third of all
//! known nodes, and two at least, that went down within [`TOGETHER`] are told of in a warning, on both sides if both are that
//! large. Nodes that are expected are named on every side on which they are not, however few they are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::idle::Tick;
use crate::protocol::address::HostPort;
use crate::protocol::address_book::Obstacle;
use crate::protocol::expected::{Expected, Place};
use crate::protocol::identity::{ControllerId, Label};
use crate::protocol::message::Purpose;
use crate::protocol::node::Actions;
use crate::protocol::reason::Reason;
use crate::protocol::record::{Forget, ForgetBody, VerifiedItem};
use crate::protocol::report::Status;
use crate::protocol::time::{Now, Time, rfc3339};

/// Nodes that go down within so long went together. Ten thousand nodes find out about half of them in ten seconds; twice
/// that and more for machines that are busy with it.
const TOGETHER: Duration = Duration::from_secs(30);
/// The share of known nodes that tells a split from a failure: one in so many.
const SHARE: usize = 3;
/// Expected nodes that have a warning of their own; the rest share one.
const NAMED: usize = 16;

/// An expected node that is not here.
struct Absence<'a> {
    name: &'a Expected,
    place: Option<Place>,
    /// What the view knows of it.
    status: Option<(ControllerId, Status)>,
}

impl Node {
    /// These and no others are expected from now on.
    pub fn expect_nodes(&mut self, now: Now, names: &[Expected]) {
        self.expectations.set(names);
        let known: Vec<ControllerId> = self.view.iter().map(|(id, _)| *id).collect();
        for id in known {
            self.follow_expected(&id);
        }
        self.stir(now);
    }

    /// Expects nobody of exactly this name any more; who that was, if he was ever found. `None`: nobody was expected so.
    pub fn expect_no_more(&mut self, name: &Expected) -> Option<Option<ControllerId>> {
        let place = self.expectations.drop_name(name)?;
        Some(place.map(|place| place.node))
    }

    /// Where the node that is expected by this name was found last; `None` if nobody is expected so.
    pub fn expected_place(&self, name: &Expected) -> Option<Option<Place>> {
        self.expectations.iter().find(|(held, _)| *held == name).map(|(_, place)| place)
    }

    /// The expected nodes that are not here, as they are expected.
    pub fn expected_missing(&self) -> Vec<String> {
        self.absences().iter().map(|absence| absence.name.to_string()).collect()
    }

    /// What its user should know of nodes that are not here.
    pub fn warnings_of_absence(&self, now: Now) -> Vec<String> {
        let absences = self.absences();
        let mut warnings: Vec<String> = self.split_warning().into_iter().collect();
        warnings.extend(absences.iter().take(NAMED).map(|absence| self.absence_told(now, absence)));
        if absences.len() > NAMED {
            let more = absences.len() - NAMED;
            warnings.push(format!("{more} more expected nodes are not here: see expected_missing in 'kithd status'"));
        }
        warnings
    }

    /// A node that is gone is dropped everywhere, and expected nowhere.
    pub(super) fn forget(&mut self, now: Now, id: ControllerId, actions: &mut Actions) {
        let Some(entry) = self.view.get(&id).filter(|entry| !entry.is_up()) else { return };
        let body = ForgetBody {
            network: self.settings.network,
            subject: id.short(),
            record: entry.hash().short(),
            issued: now.wall_hours(),
            author: self.me,
        };
        let forget = Forget::signed(body, &*self.signer);
        self.merge(now, None, VerifiedItem::Forget(forget), actions);
    }

    /// True if the configuration expects this node.
    pub(super) fn is_expected(&self, id: &ControllerId, label: &Label) -> bool {
        self.expectations.is_expected(id, label)
    }

    /// News of a node: where it is to be found, or that it is expected no more.
    pub(super) fn follow_expected(&mut self, id: &ControllerId) {
        if self.expectations.is_empty() {
            return;
        }
        let Some(entry) = self.view.get(id) else { return };
        let body = &entry.record().body;
        if entry.forget().is_some() {
            self.expectations.forget(id, &body.label);
        } else {
            self.expectations.found(body, |held| !self.view.get(held).is_some_and(|entry| entry.is_up()));
        }
    }

    /// For ever, also long after the view has forgotten them, and after they have left.
    pub(super) fn dial_expected(&mut self, tick: &mut Tick, actions: &mut Actions) {
        let is_here = |id: &ControllerId| self.view.get(id).is_some_and(|entry| entry.is_up());
        let absent =
            self.expectations.iter().filter_map(|(_, place)| place).filter(|place| {
                place.node != self.me && !is_here(&place.node) && !self.is_kept_out(tick.now, place.node)
            });
        let absent: Vec<Place> = absent.collect();
        for Place { node, address } in absent {
            if !self.links.values().any(|link| link.node == Some(node)) {
                self.dial_hope(tick, HostPort::Ip(address), Purpose::Overlay, Some(node), actions);
            }
        }
    }

    /// When an address is dialled next: `None` if only an event can bring that about.
    pub(super) fn next_dial(&self, address: &HostPort, now: Now) -> Option<Time> {
        match self.book.obstacle(address, now.mono) {
            None => Some(self.idle_due.unwrap_or(now.mono).max(now.mono)),
            Some(Obstacle::Backoff(then) | Obstacle::Banned(then)) => Some(then),
            Some(Obstacle::UnderWay) => Some(now.mono),
            Some(Obstacle::Myself) => None,
        }
    }

    fn absences(&self) -> Vec<Absence<'_>> {
        let mut by_label: BTreeMap<&Label, Vec<ControllerId>> = self
            .expectations
            .iter()
            .filter_map(|(name, _)| match name {
                Expected::Label(label) => Some((label, Vec::new())),
                Expected::Id(_) => None,
            })
            .collect();
        if !by_label.is_empty() {
            for (id, entry) in self.view.iter() {
                if let Some(bearers) = by_label.get_mut(&entry.record().body.label) {
                    bearers.push(*id);
                }
            }
        }
        let mut absences = Vec::new();
        for (name, place) in self.expectations.iter() {
            let bearers = match name {
                Expected::Id(id) => vec![*id],
                Expected::Label(label) => by_label.remove(label).unwrap_or_default(),
            };
            let statuses = || bearers.iter().filter_map(|id| Some((*id, self.status(id)?)));
            if statuses().any(|(_, status)| matches!(status, Status::Up | Status::Suspect)) {
                continue;
            }
            // Of several that are gone, the one whose address is dialled.
            let status = statuses().find(|(id, _)| place.is_some_and(|place| place.node == *id)).or(statuses().next());
            absences.push(Absence { name, place, status });
        }
        absences
    }

    fn absence_told(&self, now: Now, absence: &Absence<'_>) -> String {
        let name = match absence.name {
            Expected::Id(id) => self.names_of(&[*id]),
            Expected::Label(label) => label.to_string(),
        };
        let seen = match absence.status {
            Some((id, status)) => {
                let since = self.chronicle.status_since(&id).map(|since| rfc3339(since.wall_ms));
                format!("{}{}", status.name(), since.map_or_else(String::new, |since| format!(" since {since}")))
            }
            None if absence.place.is_some() => "not seen since this node's start".to_owned(),
            None => "never seen".to_owned(),
        };
        let next = match absence.place {
            Some(place) => self.dial_told(now, place),
            None => "nobody has told where it is: see whether it runs, and whether that is its name".to_owned(),
        };
        format!("expected node {name} is not here: {seen}; {next}")
    }

    fn dial_told(&self, now: Now, place: Place) -> String {
        let address = HostPort::Ip(place.address);
        match self.may_come_in(now, place.node, place.address) {
            Err(Reason::Banned) => return "it is not dialled: it is banned here, see 'kithd bans'".to_owned(),
            Err(_) => return "it is not dialled: it is not in network.allow".to_owned(),
            Ok(()) => {}
        }
        match self.book.obstacle(&address, now.mono) {
            Some(Obstacle::UnderWay) => format!("{address} is being dialled"),
            _ => match self.next_dial(&address, now) {
                Some(then) => format!("next dial of {address} in {:.1} s", then.since(now.mono).as_secs_f64()),
                None => format!("{address} is this node's own address"),
            },
        }
    }

    /// So many nodes went together that it is hardly their own failure.
    fn split_warning(&self) -> Option<String> {
        let (mut known, mut down) = (0, Vec::new());
        for (id, _) in self.view.iter() {
            match self.status(id) {
                Some(Status::Up | Status::Suspect) => known += 1,
                Some(Status::Down) => {
                    known += 1;
                    down.extend(self.chronicle.status_since(id).map(|since| (since.mono, since.wall_ms)));
                }
                Some(Status::Left) | None => {}
            }
        }
        down.sort();
        let together = |first: &usize| down[*first..].partition_point(|(at, _)| *at <= down[*first].0 + TOGETHER);
        let first = (0..down.len()).max_by_key(|first| (together(first), usize::MAX - first))?;
        let gone = together(&first);
        (gone >= 2 && gone * SHARE >= known).then(|| {
            let since = rfc3339(down[first].1);
            format!("{gone} of {known} nodes are down since {since}: the network may be split; see 'kithd network'")
        })
    }
}
