//! Copies for the user: taken under one look at the node, printed elsewhere.

use std::collections::BTreeMap;

use super::Node;
use super::link::{ClosedPeer, Contact, Phase};
use crate::protocol::identity::{ControllerId, Label};
use crate::protocol::reason::Reason;
use crate::protocol::report::{
    AgreementReport, Direction, EdgeRow, NetworkReport, NodeRow, PeerCounts, PeerRow, RttSummary, SCHEMA, Status,
    ViewCounts,
};
use crate::protocol::time::{Now, rfc3339};
use crate::protocol::view::{Entry, Standing};

impl Node {
    /// What is known of a node's life, as shown.
    pub fn status(&self, id: &ControllerId) -> Option<Status> {
        status_of(self.view.get(id)?)
    }

    /// The whole network as this node knows it.
    pub fn network_report(&mut self, now: Now) -> NetworkReport {
        let mut edges: Vec<_> =
            self.view.edges().map(|(tail, head)| EdgeRow { tail: tail.hex(), head: head.hex() }).collect();
        edges.sort();
        let mut degrees: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for edge in &edges {
            degrees.entry(edge.tail.clone()).or_default().0 += 1;
            degrees.entry(edge.head.clone()).or_default().1 += 1;
        }
        let rows = self.view.iter().filter_map(|(id, entry)| {
            let body = &entry.record().body;
            let (status, since) = (self.status(id)?, self.chronicle.status_since(id));
            let suspicions = entry.suspicions().filter(|_| status == Status::Suspect);
            let (edges_out, edges_in) = degrees.get(&id.hex()).copied().unwrap_or_default();
            Some(NodeRow {
                id: id.hex(),
                label: body.label.to_string(),
                address: body.address,
                tags: entry.record().tags(),
                status,
                version: body.version,
                reachable: body.reach.known(),
                edges_out,
                edges_in,
                witnesses: entry.certificate().iter().map(|witness| witness.body.observer.hex()).collect(),
                suspected_by: suspicions.map(|witness| witness.body.observer.hex()).collect(),
                since: since.map(|since| rfc3339(since.wall_ms)),
                since_seconds: since.map(|since| now.mono.since(since.mono).as_secs_f64()),
                expected: self.is_expected(id, &body.label),
            })
        });
        let mut nodes: Vec<_> = rows.collect();
        nodes.sort_by(|one, two| (&one.label, &one.id).cmp(&(&two.label, &two.id)));
        NetworkReport {
            schema: SCHEMA,
            id: self.me.hex(),
            digest: self.view.digest().hex(),
            agreement: self.agreement_report(now),
            nodes,
            edges,
            expected_missing: self.expected_missing(),
            census: None,
        }
    }

    /// One row per open connection; traffic is the driver's to fill in.
    pub fn peer_rows(&self, now: Now) -> Vec<PeerRow> {
        self.links
            .iter()
            .map(|(peer, link)| row(&Contact::of(*peer, link), link.phase.name(), now.wall_at(link.since), None))
            .collect()
    }

    /// The same for closed connections, oldest first.
    pub fn closed_rows(&self, now: Now) -> Vec<PeerRow> {
        let rows = self
            .closed
            .iter()
            .map(|ClosedPeer { contact, at, reason }| row(contact, "closed", now.wall_at(*at), Some(*reason)));
        rows.collect()
    }

    /// Connections by kind.
    pub fn peer_counts(&self) -> PeerCounts {
        let established = |direction| {
            self.links.values().filter(|link| link.phase == Phase::Established && link.direction == direction).count()
        };
        PeerCounts {
            outgoing: established(Direction::Outgoing),
            incoming: established(Direction::Incoming),
            handshaking: self.links.values().filter(|link| link.phase != Phase::Established).count(),
            known_addresses: self.book.len(),
        }
    }

    /// The view in numbers.
    pub fn view_counts(&mut self, now: Now) -> ViewCounts {
        let statuses: Vec<_> = self.view.iter().filter_map(|(id, _)| self.status(id)).collect();
        let count = |status| statuses.iter().filter(|held| **held == status).count();
        ViewCounts {
            nodes: statuses.len(),
            up: count(Status::Up),
            suspect: count(Status::Suspect),
            down: count(Status::Down),
            left: count(Status::Left),
            edges: self.view.edges().count(),
            digest: self.view.digest().hex(),
            agreement: self.agreement_report(now),
        }
    }

    /// Round trips over the established outgoing connections.
    pub fn round_trips(&self) -> Option<RttSummary> {
        let mut spans: Vec<f64> =
            self.links.values().filter_map(|link| link.round_trip).map(|span| span.as_secs_f64() * 1000.0).collect();
        spans.sort_by(f64::total_cmp);
        let at = |share: f64| spans.get(((spans.len() - 1) as f64 * share).round() as usize).copied();
        (!spans.is_empty()).then(|| RttSummary { p50: at(0.5).unwrap_or(0.0), p99: at(0.99).unwrap_or(0.0) })
    }

    /// Connections refused or closed for cause.
    pub fn refused(&self) -> &BTreeMap<Reason, u64> {
        &self.refused
    }

    /// What was thrown away.
    pub fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    /// Connections closed for silence.
    pub fn timed_out(&self) -> u64 {
        self.timed_out
    }

    /// What its user should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.warnings.values().cloned().collect();
        let mut labels: BTreeMap<&Label, usize> = BTreeMap::new();
        for (_, entry) in self.view.up() {
            *labels.entry(&entry.record().body.label).or_default() += 1;
        }
        let twice = labels.into_iter().filter(|(_, nodes)| *nodes > 1);
        warnings.extend(twice.map(|(label, nodes)| {
            format!("{nodes} nodes have the label {label}: name them by their ids, or give each its own label")
        }));
        warnings
    }

    fn agreement_report(&self, now: Now) -> AgreementReport {
        let shown = self.agreement(now);
        AgreementReport {
            agreeing: shown.agreeing,
            live: shown.live,
            unanimous: shown.is_unanimous(),
            radius: shown.radius,
            age_seconds: shown.age.as_secs_f64(),
            since: rfc3339(now.wall_at(shown.since)),
            held_seconds: now.mono.since(shown.since).as_secs_f64(),
        }
    }
}

/// How an entry stands, as shown; forgotten ones are not.
pub(super) fn status_of(entry: &Entry) -> Option<Status> {
    match entry.standing() {
        Standing::Up if entry.is_suspected() => Some(Status::Suspect),
        Standing::Up => Some(Status::Up),
        Standing::Down => Some(Status::Down),
        Standing::Left => Some(Status::Left),
        Standing::Forgotten => None,
    }
}

fn row(contact: &Contact, state: &str, since_ms: u64, close_reason: Option<Reason>) -> PeerRow {
    PeerRow {
        peer_id: contact.peer.0,
        direction: contact.direction,
        purpose: contact.purpose,
        state: state.to_owned(),
        id: contact.node.map(|id| id.hex()),
        label: contact.label.as_ref().map(ToString::to_string),
        address: contact.address.to_string(),
        since: rfc3339(since_ms),
        key: contact.key.map(|key| key.to_string()),
        rtt_ms: contact.round_trip.map(|span| span.as_secs_f64() * 1000.0),
        heartbeat_outstanding_ms: None,
        bytes_in: 0,
        bytes_out: 0,
        queued_bytes: 0,
        close_reason,
    }
}
