//! Why a node is as it is, and what happens next: the chronicle read for one node or one address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Node;
use super::naming::meant;
use crate::protocol::address::HostPort;
use crate::protocol::bans::Target;
use crate::protocol::chronicle::{Event, Subject};
use crate::protocol::discovery::detector::Intent;
use crate::protocol::explanation::{NextStep, WhyEvent, WhyReport};
use crate::protocol::identity::{ControllerId, ShortId, to_hex};
use crate::protocol::reason::Reason;
use crate::protocol::record::MEMORY_HOURS;
use crate::protocol::report::{SCHEMA, Status};
use crate::protocol::time::{Now, Time, rfc3339};

const HOUR_MS: u64 = 3_600_000;

impl Node {
    /// The nodes this text may mean, those too that the view has dropped while something is remembered of them.
    pub fn find_remembered(&self, text: &str) -> Vec<ControllerId> {
        let found = self.find(text);
        if !found.is_empty() {
            return found;
        }
        let remembered = self.chronicle.nodes().collect::<BTreeSet<_>>();
        meant(text, remembered.into_iter().map(|id| (id, self.label_of(&id))))
    }

    /// The nodes that are at an address as they say themselves, or that answered there last.
    pub fn nodes_at(&self, address: &HostPort) -> Vec<ControllerId> {
        let told = self.view.iter().filter(|(_, entry)| HostPort::Ip(entry.record().body.address) == *address);
        let told: BTreeSet<ControllerId> = told.map(|(id, _)| *id).chain(self.book.node_at(address)).collect();
        told.into_iter().collect()
    }

    /// All about a node; `None` if nothing is known of it.
    pub fn why(&self, id: &ControllerId, now: Now) -> Option<WhyReport> {
        let body = self.view.get(id).map(|entry| &entry.record().body);
        let expected = self.expectations.iter().find_map(|(_, place)| place.filter(|place| place.node == *id));
        let address = body.map(|body| body.address).or(expected.map(|place| place.address));
        let mut subjects = vec![Subject::Node(*id)];
        let mut places: BTreeSet<HostPort> = self.book.places_of(*id).cloned().collect();
        places.extend(address.map(HostPort::Ip));
        subjects.extend(places.iter().cloned().map(Subject::Place));
        let events = self.events_of(&subjects);
        if body.is_none() && expected.is_none() && events.is_empty() {
            return None;
        }
        let next_dial = self.next_dial_of(id, address, &places, now);
        let mut next = self.steps_of(id, now);
        if next_dial.is_none() && self.status(id) == Some(Status::Down) && self.may_be_dialled(id, address, now) {
            let detail = format!("it is dialled by chance, as one of {} that are down", self.view.down_count());
            next.push(step("dial", None, now, detail));
        }
        next.extend(next_dial.map(|(at, place)| dial_step(&place, at, now)));
        let mut report = self.told(now, &events, next);
        report.node = Some(id.hex());
        report.label = body.map(|body| body.label.to_string());
        report.address = address.map(|address| address.to_string());
        report.status = self.status(id);
        let since = self.chronicle.status_since(id).filter(|_| report.status.is_some());
        report.since = since.map(|since| rfc3339(since.wall_ms));
        Some(report)
    }

    /// All about an address at which no node is known; `None` if nothing is known of it.
    pub fn why_address(&self, address: &HostPort, now: Now) -> Option<WhyReport> {
        let events = self.events_of(&[Subject::Place(address.clone())]);
        let known = self.book.is_known(address);
        if events.is_empty() && !known {
            return None;
        }
        let mut next = Vec::new();
        if let Some(step) = self.ban_step(None, address, now) {
            next.push(step);
        } else if self.book.is_proven(address) || self.is_hearsay_wanted(now.mono) {
            let at = self.next_dial(address, now).filter(|_| known);
            next.extend(at.map(|at| dial_step(address, at, now)));
        } else {
            next.push(step("nothing", None, now, "not dialled: there are enough neighbours".to_owned()));
        }
        let mut report = self.told(now, &events, next);
        report.address = Some(address.to_string());
        Some(report)
    }

    /// Of several subjects, in the order in which it happened.
    fn events_of(&self, subjects: &[Subject]) -> Vec<&Event> {
        let mut events: Vec<&Event> = subjects.iter().flat_map(|subject| self.chronicle.of(subject)).collect();
        events.sort_by_key(|event| event.at.mono);
        events
    }

    fn told(&self, now: Now, events: &[&Event], mut next: Vec<NextStep>) -> WhyReport {
        let mut labels = BTreeMap::new();
        for observer in events.iter().flat_map(|event| event.by()) {
            if let Some((id, label)) = self.view.resolve(observer).and_then(|id| Some((id, self.label_of(&id)?))) {
                labels.insert(id.hex(), label.to_string());
            }
        }
        let name = |short: &ShortId| self.view.resolve(short).map_or_else(|| to_hex(&short.0), |id| id.hex());
        let event = |event: &&Event| WhyEvent {
            at: rfc3339(event.at.wall_ms),
            ago_seconds: now.mono.since(event.at.mono).as_secs_f64(),
            times: event.times,
            last: rfc3339(event.at.wall_ms.saturating_add(event.last.since(event.at.mono).as_millis() as u64)),
            last_ago_seconds: now.mono.since(event.last).as_secs_f64(),
            what: event.what.to_string(),
            cause: event.cause.map(|cause| cause.to_string()),
            by: event.by().iter().map(name).collect(),
        };
        next.sort_by(|one, two| {
            let key = |step: &NextStep| step.in_seconds.unwrap_or(f64::INFINITY);
            key(one).total_cmp(&key(two))
        });
        WhyReport {
            schema: SCHEMA,
            node: None,
            label: None,
            address: None,
            status: None,
            since: None,
            now: rfc3339(now.wall_ms),
            events: events.iter().map(event).collect(),
            next_dial: next.iter().find(|step| step.what == "dial").and_then(|step| step.at.clone()),
            next,
            labels,
        }
    }

    /// The soonest dial, and where to, if this node means to dial it at all.
    fn next_dial_of(
        &self,
        id: &ControllerId,
        address: Option<SocketAddr>,
        places: &BTreeSet<HostPort>,
        now: Now,
    ) -> Option<(Time, HostPort)> {
        let is_here = matches!(self.status(id), Some(Status::Up | Status::Suspect));
        if is_here || !self.may_be_dialled(id, address, now) {
            return None;
        }
        let is_expected = self.expectations.iter().any(|(_, place)| place.is_some_and(|place| place.node == *id));
        let is_wanted = |place: &&HostPort| is_expected || self.book.is_configured(place);
        let hopes = places.iter().filter(is_wanted);
        let hopes = hopes.filter_map(|place| Some((self.next_dial(place, now)?, place.clone())));
        let look = self.next_look(id).and_then(|at| Some((at.max(now.mono), HostPort::Ip(address?))));
        hopes.chain(look).min()
    }

    fn may_be_dialled(&self, id: &ControllerId, address: Option<SocketAddr>, now: Now) -> bool {
        let linked = self.links_with(id).iter().any(|peer| self.links[peer].is_edge());
        *id != self.me && !linked && address.is_none_or(|address| self.may_come_in(now, *id, address).is_ok())
    }

    /// What is to come but dials.
    fn steps_of(&self, id: &ControllerId, now: Now) -> Vec<NextStep> {
        let mut steps = Vec::new();
        if let Some((intent, at)) = self.detector.intent(id) {
            let (what, detail) = match intent {
                Intent::Accuse => ("suspect", "this node accuses it of silence, unless it answers before"),
                Intent::Testify => ("testify", "this node says that it is down, unless it speaks up before"),
                Intent::Review => ("testify", "this node sees whether its word is enough by then"),
            };
            steps.push(step(what, Some(at), now, detail.to_owned()));
        }
        let Some(entry) = self.view.get(id) else { return steps };
        let body = &entry.record().body;
        let (held, need) =
            (entry.certificate().len(), entry.certificate().iter().map(|witness| witness.body.need).min());
        if let Some(need) = need.map(usize::from).filter(|need| entry.is_up() && held < *need) {
            let detail = format!("{held} of {need} observers say that it is down: {} more are owed", need - held);
            steps.push(step("witnesses", None, now, detail));
        }
        if !entry.is_up() {
            // The first whole hour in which the record is older than the network remembers.
            let at_ms = u64::from(body.issued.saturating_add(MEMORY_HOURS + 1)).saturating_mul(HOUR_MS);
            steps.push(NextStep {
                at: Some(rfc3339(at_ms)),
                in_seconds: Some(at_ms.saturating_sub(now.wall_ms) as f64 / 1000.0),
                what: "drop".to_owned(),
                detail: match entry.forget() {
                    None => "it is dropped from the view, unless it comes back before".to_owned(),
                    Some(_) => {
                        "it need not be kept out of the view any longer; until then only a newer record brings it back"
                            .to_owned()
                    }
                },
            });
        }
        steps.extend(self.ban_step(Some(*id), &HostPort::Ip(body.address), now));
        steps
    }

    /// That somebody is kept out, and until when.
    fn ban_step(&self, id: Option<ControllerId>, address: &HostPort, now: Now) -> Option<NextStep> {
        let targets = self.bans.iter(now).filter(|ban| match (ban.target, address) {
            (Target::Node(banned), _) => id == Some(banned),
            (Target::Addresses(range), HostPort::Ip(address)) => range.holds(address.ip()),
            (Target::Addresses(_), HostPort::Name { .. }) => false,
        });
        if let Some(ban) = targets.max_by_key(|ban| ban.until_ms) {
            let seconds = ban.until_ms.saturating_sub(now.wall_ms) as f64 / 1000.0;
            let detail = "its ban ends; it is not dialled before".to_owned();
            let at = Some(rfc3339(ban.until_ms));
            return Some(NextStep { at, in_seconds: Some(seconds), what: "unban".to_owned(), detail });
        }
        let kept_out = id.is_some_and(|id| match address {
            HostPort::Ip(address) => self.may_come_in(now, id, *address) == Err(Reason::NotAllowed),
            HostPort::Name { .. } => false,
        });
        kept_out.then(|| step("nothing", None, now, "it is not dialled: it is not in network.allow".to_owned()))
    }
}

fn dial_step(place: &HostPort, at: Time, now: Now) -> NextStep {
    step("dial", Some(at), now, format!("{place} is dialled"))
}

fn step(what: &str, at: Option<Time>, now: Now, detail: String) -> NextStep {
    NextStep {
        at: at.map(|at| rfc3339(now.wall_at(at))),
        in_seconds: at.map(|at| at.since(now.mono).as_secs_f64()),
        what: what.to_owned(),
        detail,
    }
}
