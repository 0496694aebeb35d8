//! Members that lie, as far as a member can without being thrown out: they hold the network's key, sign with their own, and
//! say only what the protocol has words for.
//!
//! A liar is an honest node whose words are twisted on their way out. So it knows what any member knows, keeps its
//! connections, and is not found out by what it fails to do.

use super::door::StandIn;
use crate::protocol::identity::ControllerId;
use crate::protocol::list::List;
use crate::protocol::message::{HeadMessage, MAX_RADIUS, News, Statement, TailMessage};
use crate::protocol::node::Node;
use crate::protocol::record::{Item, NetworkId, Stage, Witness, WitnessBody};
use crate::protocol::rng::Rng;

/// Records that are kept to be replayed.
const MAX_KEPT: usize = 64;
/// Of those, so many go along with a message.
const REPLAYED: usize = 8;

/// How a member lies. Hosts that lie take these in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Malice {
    /// Calls the living silent, and down.
    Slander,
    /// Passes on nothing that others said.
    Conceal,
    /// Says again what others said long ago.
    Replay,
    /// Claims that all agree with whoever listens, and have just done so.
    Boast,
    /// Sends newcomers away, to where nobody is.
    Misdirect,
    /// Slanders with every word, without end: each refutation that it passes on brings the next slander along.
    Hound,
}

const KINDS: [Malice; 6] =
    [Malice::Slander, Malice::Conceal, Malice::Replay, Malice::Boast, Malice::Misdirect, Malice::Hound];

/// What twists the words of one process.
#[derive(Debug)]
pub(super) struct Liar {
    malice: Malice,
    me: ControllerId,
    network: NetworkId,
    rng: Rng,
    kept: Vec<Item>,
    /// It has not used its turn yet: a slander with every word would keep any network from ever agreeing.
    has_turn: bool,
}

impl Liar {
    /// The `number`th liar of the world.
    pub(super) fn new(number: usize, me: ControllerId, network: NetworkId, seed: u64) -> Self {
        Self {
            malice: KINDS[number % KINDS.len()],
            me,
            network,
            rng: Rng::new(seed),
            kept: Vec::new(),
            has_turn: false,
        }
    }

    pub(super) fn twist_request(&mut self, node: &Node, request: TailMessage) -> TailMessage {
        match request {
            TailMessage::Push(news) => TailMessage::Push(self.twist_news(node, news)),
            TailMessage::Heartbeat { seq, statement, echo } => {
                TailMessage::Heartbeat { seq, statement: self.twist_statement(statement), echo }
            }
            other => other,
        }
    }

    pub(super) fn twist_answer(&mut self, node: &Node, answer: HeadMessage) -> HeadMessage {
        match answer {
            HeadMessage::News(news) => HeadMessage::News(self.twist_news(node, news)),
            HeadMessage::Ack(news) => HeadMessage::Ack(self.twist_news(node, news)),
            HeadMessage::Heartbeat { seq, statement } => {
                HeadMessage::Heartbeat { seq, statement: self.twist_statement(statement) }
            }
            HeadMessage::Busy { record, hints } if self.malice == Malice::Misdirect => {
                // In a network of its own, which no simulated host is in.
                let nobody = |number: usize| ([10, 255, 255, (number % 250) as u8], 7100).into();
                let hints = (0..hints.len().max(1)).map(|_| nobody(self.rng.below(250))).collect();
                HeadMessage::Busy { record, hints }
            }
            other => other,
        }
    }

    /// It may slander somebody, once.
    pub(super) fn take_turn(&mut self) {
        self.has_turn = true;
    }

    /// True if it sends this newcomer away.
    pub(super) fn turns_away(&mut self) -> bool {
        self.malice == Malice::Misdirect && self.rng.chance(0.5)
    }

    fn twist_statement(&self, statement: Statement) -> Statement {
        match self.malice {
            Malice::Boast => Statement { ages: std::iter::repeat_n(1, MAX_RADIUS).collect(), ..statement },
            _ => statement,
        }
    }

    fn twist_news(&mut self, node: &Node, news: News) -> News {
        match self.malice {
            Malice::Slander if std::mem::take(&mut self.has_turn) => self.slander(node, news),
            Malice::Conceal => {
                let own = |item: &Item| matches!(item, Item::Record(record) if record.body.id == self.me);
                let items = news.items.iter().filter(|item| own(item)).cloned().collect();
                News { items, announcements: List::new(), ..news }
            }
            Malice::Replay => self.replay(news),
            Malice::Hound => self.slander(node, news),
            Malice::Slander | Malice::Boast | Malice::Misdirect => news,
        }
    }

    fn slander(&mut self, node: &Node, mut news: News) -> News {
        let others: Vec<_> = node.view().up().filter(|(id, _)| **id != self.me).collect();
        let Some((id, entry)) = others.get(self.rng.below(others.len())) else { return news };
        let stage = if self.rng.chance(0.5) { Stage::Suspect } else { Stage::Down };
        let body = WitnessBody {
            network: self.network,
            subject: id.short(),
            record: entry.hash().short(),
            stage,
            need: 1,
            observer: self.me,
        };
        // If it is full, the lie waits for the next one.
        let _ = news.items.push(Item::Witness(Witness::signed(body, &StandIn(self.me)).shared()));
        news
    }

    fn replay(&mut self, mut news: News) -> News {
        for _ in 0..REPLAYED {
            if let Some(old) = self.kept.get(self.rng.below(self.kept.len())) {
                let _ = news.items.push(old.clone());
            }
        }
        let records = news.items.iter().filter(|item| matches!(item, Item::Record(_)));
        let room = MAX_KEPT.saturating_sub(self.kept.len());
        let kept: List<Item, REPLAYED> = records.take(room.min(REPLAYED)).cloned().collect();
        self.kept.extend(kept.into_vec());
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hash::HalfHash;

    #[test]
    fn a_boaster_says_that_all_agree_on_whatever_it_holds() {
        let mut liar = Liar::new(3, ControllerId([1; 32]), NetworkId([1; 8]), 7);
        assert_eq!(liar.malice, Malice::Boast);
        let digest = HalfHash([5; 16]);
        let statement = liar.twist_statement(Statement { digest, ages: List::new() });
        assert_eq!((statement.digest, statement.ages.len()), (digest, MAX_RADIUS));
        assert!(!liar.turns_away());
    }
}
