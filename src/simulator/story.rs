//! How scenarios are told: what is done in each step, and what is measured.

use std::time::Duration;

use super::measure::Settled;
use super::scenario::{Part, Scenario, Step, Trouble};
use super::spread::Wanted;
use super::world::{Conditions, Host, Sent, World};
use crate::protocol::node::Input;
use crate::protocol::report::Status;
use crate::protocol::rng::Rng;
use crate::protocol::time::Time;

/// Up to this size it is measured when all have heard of all: beyond it the asking costs more than the story.
const ASKED: usize = 2048;
/// So long a network is left alone before a single change is measured, and so long the change is listened to: what it costs
/// is what is sent more in this time than in as long a time before.
const LISTENING: Duration = Duration::from_secs(10);
/// How long a restarted process is away.
const AWAY: Duration = Duration::from_secs(1);

/// After so long nobody speaks any more of those who are gone: 49 hours after what they said last, of which the beginning
/// counts whole, and an hour more until it is gone through.
const EXPIRED: Duration = Duration::from_secs(52 * 3600);
/// Between heartbeats in a story of days.
const SLOW_HEART: Duration = Duration::from_secs(30);

/// How it went.
pub(super) struct Story {
    pub(super) world: World,
    pub(super) steps: Vec<Step>,
}

/// What is told while a scenario happens.
pub enum Told<'a> {
    /// A step has been under way for so long, and live nodes hold so many different views.
    Second(&'static str, Duration, usize),
    /// A step is over.
    Over(&'a Step),
}

/// Lets a scenario happen, and tells of it.
pub(super) fn tell(scenario: &Scenario, listener: &mut dyn FnMut(Told<'_>)) -> Story {
    let Scenario { nodes, conditions, troubles, patience } = scenario;
    let expires = troubles.contains(&Trouble::Expiry);
    // Two days of heartbeats say nothing that those of a minute do not.
    let heartbeat = if expires { conditions.heartbeat.max(SLOW_HEART) } else { conditions.heartbeat };
    let world = World::network(Conditions { heartbeat, ..conditions.clone() }, *nodes);
    if expires {
        world.keep_all_said();
    }
    let rng = Rng::new(conditions.seed ^ 0x0c05e);
    // In such a story it takes several of these until anybody is missed.
    let patience = if expires { (*patience).max(heartbeat * 4) } else { *patience };
    let mut teller = Teller { world, rng, patience, steps: Vec::new(), listener, told: 0 };
    teller.start();
    teller.tell_steps();
    for trouble in troubles {
        teller.suffer(*trouble);
        teller.tell_steps();
    }
    Story { world: teller.world, steps: teller.steps }
}

/// A scenario under way.
struct Teller<'a> {
    world: World,
    rng: Rng,
    patience: Duration,
    steps: Vec<Step>,
    listener: &'a mut dyn FnMut(Told<'_>),
    /// Steps of which it has heard.
    told: usize,
}

/// What was counted when a step began.
struct Before {
    at: Time,
    sent: Sent,
    false_claims: u64,
    false_downs: u64,
    own_side_downs: u64,
    resurrected: u64,
}

impl Teller<'_> {
    fn start(&mut self) {
        let before = Before {
            at: Time::ZERO,
            sent: Sent::default(),
            false_claims: 0,
            false_downs: 0,
            own_side_downs: 0,
            resurrected: 0,
        };
        let all: Vec<Host> = self.world.hosts().collect();
        if all.len() <= ASKED {
            let subjects: Vec<_> = all.iter().map(|host| (*host, Wanted::Heard)).collect();
            self.world.follow(&subjects);
        }
        self.settle("start", &before);
    }

    fn suffer(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Idle(span) => self.idle(span),
            Trouble::Change => self.change(),
            Trouble::Spread => self.spread(),
            Trouble::Leave(part) => self.lose("leave", part, Status::Left, World::leave),
            Trouble::Kill(part) => self.lose("kill", part, Status::Down, World::kill),
            Trouble::Crash(part) => self.lose("crash", part, Status::Down, World::crash),
            Trouble::Restart(part) => self.restart(part),
            Trouble::Partition(part) => self.partition(part),
            Trouble::Churn(rate, span) => self.churn(rate, span),
            Trouble::OneWay(share) => self.one_way(share),
            Trouble::Expiry => self.expiry(),
        }
    }

    fn idle(&mut self, span: Duration) {
        let before = self.before();
        self.world.run_for(span);
        self.close("idle", &before, Settled::default(), false);
    }

    fn change(&mut self) {
        self.world.run_for(LISTENING);
        let quiet = self.before();
        self.world.run_for(LISTENING);
        let before = self.before();
        let usual = before.sent - quiet.sent;
        self.say_something_new();
        let settled = self.watched("change");
        let rest = (before.at + LISTENING).since(self.world.now());
        self.world.run_for(rest);
        self.close("change", &before, settled, true);
        if let Some(step) = self.steps.last_mut() {
            // Of a change that took longer than it was listened to, all is counted that was sent.
            step.sent = if step.span == LISTENING { step.sent - usual } else { step.sent };
        }
    }

    fn spread(&mut self) {
        let before = self.before();
        self.say_something_new();
        self.world.run_until(self.patience, |world| world.reach().is_some());
        let settled = Settled { reach: self.world.reach(), ..Settled::default() };
        self.close("spread", &before, settled, false);
        self.world.run_for(LISTENING);
    }

    fn say_something_new(&mut self) {
        let Some(host) = self.chosen(Part::Count(1)).pop() else { return };
        let id = self.world.id(host);
        let entry = self.world.node(host).and_then(|node| node.view().get(&id));
        let version = entry.map_or(0, |entry| entry.record().body.version);
        self.world.follow(&[(host, Wanted::Version(version + 1))]);
        self.world.tell(host, Input::Tags([("changed".to_owned(), version.to_string())].into()));
    }

    /// Some nodes go in one way, and all others learn of it.
    fn lose(&mut self, name: &'static str, part: Part, seen: Status, go: impl Fn(&mut World, Host)) {
        let gone = self.chosen(part);
        let before = self.before();
        let subjects: Vec<_> = gone.iter().map(|host| (*host, Wanted::Status(seen))).collect();
        self.world.follow(&subjects);
        gone.iter().for_each(|host| go(&mut self.world, *host));
        self.settle(name, &before);
    }

    fn restart(&mut self, part: Part) {
        let chosen = self.chosen(part);
        chosen.iter().for_each(|host| self.world.kill(*host));
        self.world.run_for(AWAY);
        let before = self.before();
        let version = |host: &Host| self.world.now_at(*host).wall_ms;
        let subjects: Vec<_> = chosen.iter().map(|host| (*host, Wanted::Version(version(host)))).collect();
        self.world.follow(&subjects);
        for host in chosen {
            self.world.lose_memory(host);
            self.world.start(host);
        }
        self.settle("restart", &before);
    }

    fn partition(&mut self, part: Part) {
        let aside = self.chosen(part);
        let before = self.before();
        self.world.partition(&aside);
        self.settle("partition", &before);
        let before = self.before();
        self.world.heal();
        self.settle("heal", &before);
    }

    /// Each time somebody goes, in one way or another, or comes back, with his memory or without; never the first one, whose
    /// address all know.
    fn churn(&mut self, rate: f64, span: Duration) {
        let before = self.before();
        let end = self.world.now() + span;
        let pause = Duration::from_secs_f64(1.0 / rate.max(1e-6));
        while self.world.now() < end {
            let wait = self.rng.jitter(pause);
            self.world.run_for(wait.min(end.since(self.world.now())));
            let (mut live, mut gone): (Vec<Host>, Vec<Host>) =
                self.world.hosts().skip(1).partition(|host| self.world.node(*host).is_some());
            let comes = self.rng.chance(0.5) || live.len() < gone.len();
            match self.rng.take(if comes { &mut gone } else { &mut live }) {
                Some(host) if comes => self.come(host),
                Some(host) => match self.rng.below(3) {
                    0 => self.world.leave(host),
                    1 => self.world.kill(host),
                    _ => self.world.crash(host),
                },
                None => {}
            }
        }
        self.close("churn", &before, Settled::default(), false);
        let before = self.before();
        self.settle("calm", &before);
    }

    fn come(&mut self, host: Host) {
        if self.rng.chance(0.5) {
            self.world.lose_memory(host);
        }
        self.world.start(host);
    }

    fn one_way(&mut self, share: f64) {
        let before = self.before();
        self.world.one_way(share);
        self.settle("one-way", &before);
        let before = self.before();
        self.world.one_way(0.0);
        self.settle("both ways", &before);
    }

    fn expiry(&mut self) {
        let quarter = Part::Share(0.25);
        self.lose("crash", quarter, Status::Down, World::crash);
        self.lose("leave", quarter, Status::Left, World::leave);
        let before = self.before();
        self.world.run_for(EXPIRED);
        self.world.findings.resurrected += self.world.remembered();
        self.world.say_all_again(self.rng.next_u64());
        self.world.run_for(LISTENING);
        self.world.findings.resurrected += self.world.remembered();
        self.settle("expiry", &before);
    }

    fn before(&mut self) -> Before {
        self.world.unfollow();
        let findings = &self.world.findings;
        Before {
            at: self.world.now(),
            sent: self.world.sent(),
            false_claims: findings.false_claim_count,
            false_downs: findings.false_down_count,
            own_side_downs: findings.own_side_downs,
            resurrected: findings.resurrected,
        }
    }

    fn settle(&mut self, name: &'static str, before: &Before) {
        let settled = self.watched(name);
        self.close(name, before, settled, true);
    }

    fn watched(&mut self, name: &'static str) -> Settled {
        let listener = &mut self.listener;
        self.world.settle_watched(self.patience, &mut |world, span| listener(Told::Second(name, span, world.views())))
    }

    /// Of those that are over, once it is known what each came to.
    fn tell_steps(&mut self) {
        self.steps[self.told..].iter().for_each(|step| (self.listener)(Told::Over(step)));
        self.told = self.steps.len();
    }

    fn close(&mut self, name: &'static str, before: &Before, settled: Settled, must_agree: bool) {
        let findings = &self.world.findings;
        self.steps.push(Step {
            name,
            settled,
            must_agree,
            span: self.world.now().since(before.at),
            sent: self.world.sent() - before.sent,
            live: self.world.live().count(),
            false_claims: findings.false_claim_count - before.false_claims,
            false_downs: findings.false_down_count - before.false_downs,
            own_side_downs: findings.own_side_downs - before.own_side_downs,
            resurrected: findings.resurrected - before.resurrected,
        });
    }

    /// Live nodes by lot; somebody is left to see it.
    fn chosen(&mut self, part: Part) -> Vec<Host> {
        let mut live: Vec<Host> = self.world.live().collect();
        let wanted = match part {
            Part::Count(count) => count,
            Part::Share(share) => (live.len() as f64 * share).round() as usize,
            Part::AllBut(left) => live.len().saturating_sub(left),
        };
        let wanted = wanted.min(live.len().saturating_sub(1));
        (0..wanted).filter_map(|_| self.rng.take(&mut live)).collect()
    }
}
