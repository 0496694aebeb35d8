//! Counting the network: a user's census begins here, a tail's goes on to this node's heads.

use std::time::Duration;

use super::{Action, Actions, Node, Ticket};
use crate::protocol::bucket::Rate;
use crate::protocol::census_report::{CensusReport, DigestRow, ProofRow};
use crate::protocol::discovery::census::{
    Admission, Asker, Gain, Head, MAX_OWN_PER_MINUTE, MAX_PER_MINUTE, Own, PATIENCE, Poll, Step,
};
use crate::protocol::hash::Hash;
use crate::protocol::identity::{ControllerId, PeerId, to_hex};
use crate::protocol::message::{HeadMessage, TailMessage};
use crate::protocol::peer_state::Command;
use crate::protocol::reason::Reason;
use crate::protocol::record::{RecordState, Verified};
use crate::protocol::testimony::{Gathered, Holders, Mode, Nonce, Returns, Testimony, TestimonyBody};
use crate::protocol::time::{Now, rfc3339};

/// What one tail may bring: an honest one takes part in eighteen a minute, its own included, and brings each once. Twice that
/// may come at once, after a stretch in which nothing came through.
const FROM_ONE_TAIL: Rate = Rate { per_second: 1, burst: 2 * (MAX_PER_MINUTE + MAX_OWN_PER_MINUTE) as u32 };

impl Node {
    pub(super) fn count_for_user(&mut self, now: Now, nonce: Nonce, mode: Mode, ticket: Ticket, actions: &mut Actions) {
        let refused = match self.censuses.admit(nonce, true, now.mono) {
            _ if self.state == RecordState::Left => Some(Reason::Leaving),
            Admission::New => None,
            Admission::Known | Admission::Refused => Some(Reason::Overloaded),
        };
        if let Some(reason) = refused {
            return actions.push(Action::Counted(ticket, Err(reason)));
        }
        let poll = Poll { ticket, live: self.view.up().map(|(id, _)| *id).collect(), digest: self.digest() };
        self.join_census(now, nonce, mode, Asker::User(poll), PATIENCE, actions);
    }

    pub(super) fn count_for_tail(
        &mut self,
        now: Now,
        peer: PeerId,
        nonce: Nonce,
        mode: Mode,
        remaining_ms: u32,
        actions: &mut Actions,
    ) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if !link.is_edge() || !link.censuses.take(FROM_ONE_TAIL, now.mono) {
            return actions.push(Action::Command(peer, Command::Close(Reason::Unexpected)));
        }
        let answer = match self.censuses.admit(nonce, false, now.mono) {
            _ if self.state == RecordState::Left => Returns::Refused,
            Admission::New => {
                let patience = Duration::from_millis(remaining_ms.into());
                return self.join_census(now, nonce, mode, Asker::Tail(peer), patience, actions);
            }
            Admission::Known => Returns::Counted,
            Admission::Refused => {
                self.count_dropped(Reason::Overloaded);
                Returns::Refused
            }
        };
        actions.push(Action::Command(peer, Command::Answer(HeadMessage::Census { nonce, returns: answer })));
    }

    pub(super) fn counted(
        &mut self,
        now: Now,
        peer: PeerId,
        nonce: Nonce,
        returns: Returns<Verified<Testimony>>,
        actions: &mut Actions,
    ) {
        let view = &self.view;
        let is_known = |id: &ControllerId| view.get(id).is_some();
        let steps = self.censuses.answered(peer, nonce, returns, is_known, self.settings.max_nodes, now.mono);
        self.take_steps(now, steps, actions);
    }

    /// Nobody answers on a connection that is over.
    pub(super) fn give_up_censuses(&mut self, now: Now, peer: PeerId, actions: &mut Actions) {
        let steps = self.censuses.gone(peer, now.mono);
        self.take_steps(now, steps, actions);
    }

    pub(super) fn expire_censuses(&mut self, now: Now, actions: &mut Actions) {
        if self.censuses.due().is_some_and(|due| due <= now.mono) {
            let steps = self.censuses.expire(now.mono);
            self.take_steps(now, steps, actions);
        }
    }

    fn join_census(
        &mut self,
        now: Now,
        nonce: Nonce,
        mode: Mode,
        asker: Asker,
        patience: Duration,
        actions: &mut Actions,
    ) {
        let digest = self.digest();
        let own = match mode {
            Mode::Count => Own::Digest(digest),
            Mode::Prove => {
                // A view is far smaller than that.
                let live = u32::try_from(self.view.up().count()).unwrap_or(u32::MAX);
                let body = TestimonyBody { network: self.settings.network, nonce, id: self.me, digest, live };
                Own::Testimony(Testimony::signed(body, &*self.signer))
            }
        };
        let heads = self.heads_to_ask(&asker);
        let steps = self.censuses.join(nonce, asker, patience, own, &heads, now.mono);
        self.take_steps(now, steps, actions);
    }

    /// Each head once, but for the node that asks: it has counted itself.
    fn heads_to_ask(&self, asker: &Asker) -> Vec<Head> {
        let tail = match asker {
            Asker::Tail(peer) => self.links.get(peer).and_then(|link| link.node),
            Asker::User(_) => None,
        };
        let mut heads: Vec<Head> = Vec::new();
        for (peer, link) in self.links.iter().filter(|(_, link)| link.is_outgoing_edge() && !link.dismissed) {
            let Some(node) = link.node.filter(|id| Some(*id) != tail).map(|id| id.short()) else { continue };
            if heads.iter().all(|head| head.node != node) {
                heads.push(Head { peer: *peer, node, round_trip: link.round_trip.unwrap_or_default() });
            }
        }
        heads
    }

    fn take_steps(&self, now: Now, steps: Vec<Step>, actions: &mut Actions) {
        actions.extend(steps.into_iter().map(|step| match step {
            Step::Ask(peer, nonce, mode, patience) => {
                // Seconds at most.
                let remaining_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
                Action::Command(peer, Command::Issue(TailMessage::Census { nonce, mode, remaining_ms }))
            }
            Step::Answer(peer, nonce, returns) => {
                Action::Command(peer, Command::Answer(HeadMessage::Census { nonce, returns: bare(returns) }))
            }
            Step::Close(peer, reason) => Action::Command(peer, Command::Close(reason)),
            Step::Done(poll, nonce, gain, took) => {
                let ticket = poll.ticket;
                let begun_ms = now.wall_ms.saturating_sub(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                let report = CensusReport {
                    network: to_hex(&self.settings.network.0),
                    at: rfc3339(begun_ms),
                    took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    ..self.census_report(&poll, nonce, gain)
                };
                Action::Counted(ticket, Ok(Box::new(report)))
            }
        }));
    }

    fn census_report(&self, poll: &Poll, nonce: Nonce, gain: Gain) -> CensusReport {
        let report = CensusReport {
            mode: Mode::Count,
            nonce: nonce.hex(),
            network: String::new(),
            at: String::new(),
            took_ms: 0,
            digest: poll.digest.hex(),
            asked_live: poll.live.len(),
            answered: 0,
            unanimous: false,
            digests: Vec::new(),
            others: 0,
            missing: Vec::new(),
            differing: Vec::new(),
            strangers: 0,
            proof: Vec::new(),
        };
        match gain {
            Gain::Counts(gathered) => self.counted_report(report, poll, &gathered),
            Gain::Proof(held) => proved_report(report, poll, held),
        }
    }

    fn counted_report(&self, report: CensusReport, poll: &Poll, gathered: &Gathered) -> CensusReport {
        let counts = gathered.counts();
        let answered = gathered.nodes() as usize;
        let mine = counts.digests.iter().find(|Holders(digest, _)| *digest == poll.digest);
        // Whoever one tail has not heard may have answered another: while nobody is missing, nobody is named.
        let silent = gathered.silent().iter().filter_map(|short| self.view.resolve(short));
        let missing = silent.filter(|id| answered < poll.live.len() && poll.live.contains(id)).map(|id| id.hex());
        CensusReport {
            answered,
            unanimous: answered == poll.live.len() && mine.is_some_and(|mine| mine.1 as usize == answered),
            digests: rows(counts.digests.into_vec()),
            others: counts.others as usize,
            missing: missing.collect(),
            ..report
        }
    }
}

fn proved_report(report: CensusReport, poll: &Poll, mut held: Vec<Verified<Testimony>>) -> CensusReport {
    held.sort_by_key(|one| one.id);
    let mut gathered = Gathered::default();
    held.iter().for_each(|one| gathered.add(one.digest, 1));
    let answered = held.iter().filter(|one| poll.live.contains(&one.id)).count();
    let differing: Vec<_> =
        held.iter().filter(|one| poll.live.contains(&one.id) && one.digest != poll.digest).collect();
    let has_answered = |id: &ControllerId| held.binary_search_by_key(id, |one| one.id).is_ok();
    CensusReport {
        mode: Mode::Prove,
        answered,
        unanimous: answered == poll.live.len() && differing.is_empty(),
        digests: rows(gathered.by_number()),
        others: gathered.uncounted() as usize,
        missing: poll.live.iter().filter(|id| !has_answered(id)).map(ControllerId::hex).collect(),
        differing: differing.iter().map(|one| one.id.hex()).collect(),
        strangers: held.len() - answered,
        proof: held.iter().map(|one| proof_row(one)).collect(),
        ..report
    }
}

fn rows(digests: Vec<Holders>) -> Vec<DigestRow> {
    let row = |Holders(digest, nodes): Holders| DigestRow { digest: digest.hex(), nodes: nodes as usize };
    digests.into_iter().map(row).collect()
}

fn proof_row(one: &Testimony) -> ProofRow {
    let Testimony { id, digest: Hash(digest), live, signature } = one;
    let signature = to_hex(&[signature.0, signature.1].concat());
    ProofRow { id: id.hex(), digest: to_hex(digest), live: *live, signature }
}

/// As it travels.
fn bare(returns: Returns<Verified<Testimony>>) -> Returns {
    match returns {
        Returns::Counted => Returns::Counted,
        Returns::Refused => Returns::Refused,
        Returns::Counts { counts, last } => Returns::Counts { counts, last },
        Returns::Testimonies { testimonies, last } => {
            Returns::Testimonies { testimonies: testimonies.iter().map(|one| (**one).clone()).collect(), last }
        }
    }
}
