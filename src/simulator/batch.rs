//! Events that do not touch each other, together: of distinct hosts, and within less time than anything takes from one host
//! to another. So each of them happens as if it were alone, and their processes may think at the same time.
//!
//! ```text
//!   begin       in order: what happens to the hosts; chance has its say here
//!   think       in any order, on several threads: processes, each for itself
//!   conclude    in order: what they want of the world
//! ```
//!
//! A batch is the same however many threads there are. What it leads to may come before its last event, at the same host as
//! its cause: the clock steps back a little between batches, but for each host it goes forward only.

use std::time::Duration;

use super::crew;
use super::job::{Job, Sequel, Turn, Word};
use super::process::{Effect, Process};
use super::traffic::{Event, other};
use super::world::{Host, World};
use crate::protocol::heartbeat::Side;
use crate::protocol::time::Time;

/// So many events may wait for a host that is in the batch already: each of them is passed over once per batch.
const PASSED_OVER: usize = 64;
/// Times are microseconds.
const TICK: Duration = Duration::from_micros(1);

/// To whom an event happens.
enum Concerned {
    Nobody,
    One(Host),
    All,
}

impl World {
    /// Lets the first events happen; false if none comes until then.
    pub(super) fn pass(&mut self, until: Time) -> bool {
        let Some(first) = self.queue.first().map(|(at, _)| at).filter(|at| *at <= until) else { return false };
        let last = until.min(first + self.links.least_latency().saturating_sub(TICK));
        while let Some((at, event)) = self.queue.first().filter(|(at, _)| *at <= last) {
            let concerned = self.concerned(event);
            let is_full = self.crew.len() == crew::MOST || self.queue.aside() == PASSED_OVER;
            if is_full || (matches!(concerned, Concerned::All) && self.crew.len() > 0) {
                break;
            }
            if matches!(concerned, Concerned::One(host) if self.machine(host).thinks) {
                self.queue.set_aside();
                continue;
            }
            let Some((_, event)) = self.queue.pop() else { break };
            self.now = at;
            if !matches!(concerned, Concerned::Nobody)
                && let Some(job) = self.begin(event)
            {
                self.crew.give(job);
            }
        }
        self.queue.put_back();
        while let Some(job) = self.crew.take() {
            self.conclude(*job);
        }
        true
    }

    /// One event alone, now.
    pub(super) fn happen(&mut self, event: Event) {
        let job = self.begin(event);
        self.think(job);
    }

    /// A host's timers are looked at, now.
    pub(super) fn tick(&mut self, host: Host) {
        let job = self.wake(host);
        self.think(job);
    }

    fn think(&mut self, job: Option<Job>) {
        if let Some(mut job) = job {
            job.think();
            self.conclude(job);
        }
    }

    /// A process does something, now.
    pub(super) fn with_process(&mut self, host: Host, act: impl FnOnce(&mut Process) -> Vec<Effect>) {
        if let Some(process) = self.machine_mut(host).process.as_mut() {
            let effects = act(process);
            let turn = Turn::of(process, effects);
            self.carry_out(host, turn);
        }
    }

    /// The process is back, and what it wants happens.
    fn conclude(&mut self, job: Job) {
        let Job { host, now, process, sequel, waited, turns, .. } = job;
        self.now = now.mono;
        let machine = self.machine_mut(host);
        machine.process = Some(process);
        machine.thinks = false;
        match sequel {
            Sequel::Joins(id, Some(peer)) => {
                machine.connections.insert(peer, id);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.head.peer = Some(peer);
                }
            }
            Sequel::Joins(id, None) => self.close(id, Side::Head),
            Sequel::Leaves(..) | Sequel::Nothing => {}
        }
        turns.into_iter().for_each(|turn| self.carry_out(host, turn));
        if let Sequel::Leaves(id, side, peer) = sequel {
            self.machine_mut(host).connections.remove(&peer);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.end(side).open = false;
                self.drop_if_over(id);
            }
        }
        if waited {
            self.go_on(host);
        }
    }

    /// The process leaves its machine, to think.
    pub(super) fn job(&mut self, host: Host, word: Word, sequel: Sequel) -> Option<Job> {
        let now = self.now_at(host);
        let machine = self.machine_mut(host);
        let process = machine.process.take()?;
        machine.thinks = true;
        Some(Job::new(host, now, process, word, sequel))
    }

    /// What follows from what a process did: signatures that it checked keep it busy, and what it says comes after that.
    fn carry_out(&mut self, host: Host, turn: Turn) {
        let (now, cost) = (self.now, self.signature_cost);
        let machine = self.machine_mut(host);
        if turn.checks > 0 && cost > Duration::ZERO {
            machine.busy_until = machine.busy_until.max(now) + cost * turn.checks;
        }
        self.apply(host, turn.effects);
        self.watch(host, turn.sketch, turn.deadline);
    }

    /// After whatever a process did: what it holds now is noted, and its next deadline is an event.
    fn watch(&mut self, host: Host, sketch: u64, deadline: Option<Time>) {
        let (now, heartbeat) = (self.now, self.heartbeat);
        self.ledger.touch(host);
        let machine = &mut self.machines[host.0];
        let Some(process) = &machine.process else { return };
        machine.history.note(now, Some(sketch), heartbeat);
        if let Some(spread) = &mut self.spread {
            spread.look(host, process.node(), now);
        }
        if let Some(deadline) = deadline {
            let deadline = deadline.max(now);
            if machine.alarm.is_none_or(|alarm| deadline < alarm) {
                machine.alarm = Some(deadline);
                self.at(deadline, Event::Alarm(host, deadline));
            }
        }
    }

    fn concerned(&self, event: &Event) -> Concerned {
        let end = |id: &u64, side: Side| match self.connections.get(id) {
            Some(connection) if side == Side::Tail => Concerned::One(connection.tail.host),
            Some(connection) => Concerned::One(connection.head.host),
            None => Concerned::Nobody,
        };
        match event {
            Event::Syn(id, _) | Event::Answered(id, _) => end(id, Side::Tail),
            Event::SynArrives(id) | Event::Accept(id) => end(id, Side::Head),
            Event::Arrives(id, side, _) => end(id, *side),
            // It is the sender who sends again.
            Event::Retry(id, side) => end(id, other(*side)),
            Event::Alarm(host, _) | Event::Resolved(host, ..) | Event::Rested(host) => Concerned::One(*host),
            Event::Wear | Event::Mischief(_) => Concerned::All,
        }
    }
}
