//! Over which edges changes go at once; and whether this node itself can be reached.
//!
//! With sixteen edges a change would reach each node fifteen times. The quickest few edges bring nearly all first copies, so
//! changes go at once over the two ring edges, which connect everybody, and over the two quickest others that this node
//! dialled, in both directions: eight edges a node on average. Over the others they go a second later, announced, and only if
//! the remote has not shown by then that it has them (it mostly has). While a node looks for edges, or loses packets, all
//! are eager.
//!
//! | eager edges dialled | bytes for a change | the last node has it after |
//! | --- | --- | --- |
//! | all | twice as many | hardly sooner |
//! | fewer than four | fewer | the slowest links decide |

use std::time::Duration;

use super::{Action, Actions, Node};
use crate::protocol::identity::{PeerId, ShortId};
use crate::protocol::message::{Purpose, TailMessage};
use crate::protocol::peer_state::Command;
use crate::protocol::record::Reach;
use crate::protocol::time::Now;

/// Of the edges that this node dialled, so many pass changes on at once.
const EAGER: usize = 4;
/// So much above the least measured are round trips on average where one packet in twenty is lost: each loss takes 200 ms and
/// more.
const LOSSY: Duration = Duration::from_millis(15);
/// A node that nobody has reached so long after its first edge says that nobody can.
pub(super) const REACH_PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Tells heads whose edges are to be eager from now on, or no more.
    pub(super) fn choose_eager(&mut self, actions: &mut Actions) {
        let edges = self.links.iter().filter(|(_, link)| link.is_outgoing_edge() && !link.dismissed);
        let mut ranked: Vec<(bool, Duration, PeerId)> = edges
            .map(|(peer, link)| (link.purpose != Purpose::Ring, link.round_trip.unwrap_or(Duration::MAX), *peer))
            .collect();
        ranked.sort_unstable();
        let lossy = self.is_lossy();
        for (rank, (.., peer)) in ranked.into_iter().enumerate() {
            let eager = rank < EAGER || !self.settled && !self.is_crowded() || lossy;
            let Some(link) = self.links.get_mut(&peer).filter(|link| link.eager != eager) else { continue };
            link.eager = eager;
            actions.push(Action::Command(peer, Command::Issue(TailMessage::Eager(eager))));
        }
    }

    /// Round trips are longer than they could be: packets are lost, and what waits on one edge is here sooner by another.
    fn is_lossy(&self) -> bool {
        let edges = self.links.values().filter(|link| link.is_outgoing_edge());
        let excess = edges.filter_map(|link| Some(link.round_trip?.saturating_sub(link.least_round_trip?)));
        let (sum, count) = excess.fold((Duration::ZERO, 0), |(sum, count), excess| (sum + excess, count + 1));
        sum > LOSSY * count
    }

    /// The round trip to a head, as records tell it.
    pub(super) fn round_trip_to(&self, head: &ShortId) -> u8 {
        let links = self.links.values().filter(|link| link.node.is_some_and(|id| id.short() == *head));
        let measured = links.filter_map(|link| link.round_trip).min();
        measured.map_or(0, |span| u8::try_from(span.as_millis().max(1)).unwrap_or(u8::MAX))
    }

    /// Somebody dialled the advertised address, and is here.
    pub(super) fn reached_here(&mut self, now: Now) {
        self.reach_due = None;
        match std::mem::replace(&mut self.reach, Reach::Proven) {
            Reach::Proven => {}
            // Edges may lead here already: it can be said with whatever is said next.
            Reach::Unproven => self.publisher.mention_aside(now.mono),
            Reach::Never => self.publisher.hurry(),
        }
    }

    /// Nobody has, for too long.
    pub(super) fn give_up_reach(&mut self) {
        self.reach_due = None;
        if self.reach == Reach::Unproven {
            self.reach = Reach::Never;
            self.publisher.hurry();
        }
    }
}
