//! What befalls hosts and links.

use super::door::StandIn;
use super::hostile::Liar;
use super::links::Segment;
use super::process::Process;
use super::traffic::{Event, other};
use super::world::{AFTERMATH, Host, MISCHIEF, WEAR, World};
use crate::protocol::heartbeat::Side;
use crate::protocol::node::{Input, Memory};
use crate::protocol::testimony::{Mode, Nonce};
use crate::protocol::time::Time;

impl World {
    /// Starts a node that is not running, with what it remembers.
    pub fn start(&mut self, host: Host) {
        let (now, moment) = (self.now_at(host), self.now);
        let (seed, door) = (self.rng.next_u64(), self.door.clone());
        let liar = self.liars.iter().position(|liar| *liar == host);
        let machine = self.machine_mut(host);
        machine.run += 1;
        machine.dark = false;
        machine.alive_since = moment;
        machine.undisturbed = moment + AFTERMATH;
        let signer = StandIn(machine.id);
        let mut process = Process::new(machine.settings.clone(), door, signer, &machine.memory, seed, now);
        if let Some(number) = liar {
            process.corrupt(Liar::new(number, machine.id, machine.settings.network, seed));
        }
        machine.process = Some(Box::new(process));
        self.with_process(host, |process| process.tick(now));
    }

    /// The node forgets what it wrote down; to be called while it is not running.
    pub fn lose_memory(&mut self, host: Host) {
        self.machine_mut(host).memory = Memory::default();
    }

    /// Sets a host's wall clock forward or back.
    pub fn shift_clock(&mut self, host: Host, by_ms: i64) {
        self.machine_mut(host).clock_ms += by_ms;
    }

    /// The host vanishes: nothing comes back from it any more.
    pub fn crash(&mut self, host: Host) {
        self.end_process(host);
        self.machine_mut(host).dark = true;
        for id in self.ends_of(host) {
            self.drop_if_over(id);
        }
    }

    /// The process is killed: its system resets its connections and refuses new ones.
    pub fn kill(&mut self, host: Host) {
        self.end_process(host);
        self.break_connections(host, Segment::Reset);
    }

    /// The process is stopped: its system still accepts connections, but nothing is done with them.
    pub fn stop(&mut self, host: Host) {
        self.ledger.touch(host);
        let machine = self.machine_mut(host);
        machine.held.get_or_insert_default();
        machine.undisturbed = Time(u64::MAX);
    }

    /// The process goes on: whatever came meanwhile comes now, before or after the timers see how late it is.
    pub fn cont(&mut self, host: Host) {
        let calm = self.now + AFTERMATH;
        let machine = self.machine_mut(host);
        machine.undisturbed = calm;
        machine.alive_since = calm;
        self.ledger.touch(host);
        let machine = self.machine_mut(host);
        let held = machine.held.take().unwrap_or_default();
        let timers_first = self.rng.chance(0.5);
        if timers_first {
            self.tick(host);
        }
        for event in held {
            self.happen(event);
        }
        self.tick(host);
    }

    /// The node takes its leave.
    pub fn leave(&mut self, host: Host) {
        self.tell(host, Input::Leave);
    }

    /// A user counts the network; how that ended will be among the findings.
    pub fn count(&mut self, host: Host, mode: Mode) {
        let [one, other] = [(); 2].map(|()| self.rng.next_u64().to_le_bytes());
        let nonce = Nonce([one, other].concat().try_into().unwrap_or_default());
        self.tell(host, Input::Census(nonce, mode, 0));
    }

    /// A user tells a node something.
    pub fn tell(&mut self, host: Host, input: Input) {
        let now = self.now_at(host);
        self.with_process(host, |process| process.tell(now, input));
    }

    /// These hosts on one side, all others on the other.
    pub fn partition(&mut self, aside: &[Host]) {
        self.links.set_larger(usize::from(aside.len() * 2 > self.machines.len()));
        for host in self.hosts() {
            self.links.set_side(host, usize::from(aside.contains(&host)));
            self.machine_mut(host).undisturbed = Time(u64::MAX);
            self.ledger.touch(host);
        }
    }

    /// All on one side again.
    pub fn heal(&mut self) {
        self.links.heal();
        let calm = self.now + AFTERMATH;
        for host in self.hosts() {
            self.machine_mut(host).undisturbed = calm;
            self.ledger.touch(host);
        }
    }

    /// Nothing passes between these two any more.
    pub fn cut(&mut self, one: Host, other: Host) {
        self.links.cut(one, other);
    }

    /// This share of all pairs hears each other in one direction only; 0: all hear each other again.
    pub fn one_way(&mut self, share: f64) {
        self.links.set_one_way(share);
    }

    /// One of those who lie has something to say, and its neighbours listen.
    pub(super) fn mischief(&mut self, time: usize) {
        if let Some(liar) = self.liars.get(time % self.liars.len().max(1)).copied() {
            if let Some(process) = &mut self.machine_mut(liar).process {
                process.tempt();
            }
            self.tell(liar, Input::Tags([("said".to_owned(), time.to_string())].into()));
        }
        self.at(self.now + MISCHIEF, Event::Mischief(time + 1));
    }

    /// Ends every connection of a host, as a restarting middle box does; the nodes live on.
    pub fn break_links(&mut self, host: Host) {
        for id in self.ends_of(host) {
            self.break_link(id);
        }
    }

    /// Some connections break, as many as do on average.
    pub(super) fn wear(&mut self) {
        let share = self.broken * WEAR.as_secs_f64();
        for host in self.hosts() {
            for id in self.ends_of(host) {
                let stands = self.connections.get(&id).is_some_and(|one| one.tail.host == host && one.head.open);
                if stands && self.rng.chance(share) {
                    self.break_link(id);
                }
            }
        }
    }

    fn break_link(&mut self, id: u64) {
        self.happen(Event::Arrives(id, Side::Tail, Segment::Reset));
        self.happen(Event::Arrives(id, Side::Head, Segment::Reset));
    }

    pub(super) fn end_process(&mut self, host: Host) {
        let (now, heartbeat) = (self.now, self.heartbeat);
        let machine = self.machine_mut(host);
        if let Some(process) = machine.process.take() {
            machine.memory = process.node().memory();
        }
        machine.held = None;
        machine.alarm = None;
        machine.backlog.clear();
        machine.busy_until = Time::ZERO;
        machine.connections.clear();
        machine.history.note(now, None, heartbeat);
        self.ledger.touch(host);
    }

    pub(super) fn break_connections(&mut self, host: Host, how: Segment) {
        for id in self.ends_of(host) {
            for side in [Side::Tail, Side::Head] {
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                let end = connection.end(side);
                if end.host == host && end.open {
                    end.open = false;
                    self.send(id, other(side), how.clone());
                }
            }
        }
    }

    fn ends_of(&self, host: Host) -> Vec<u64> {
        self.machine(host).ends.iter().copied().collect()
    }
}
