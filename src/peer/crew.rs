//! The crew: the threads of a node's peers. A thread that a peer has left waits a while for the next one.
//!
//! ```text
//!   take_on ──▶ greeters: until it is an edge that stays ──▶ keepers: as long as it is one
//!                  ▲    │ closed                               ▲    │ closed
//!                  └────┴─ spare, for 10 s                     └────┴─ spare, for 10 s
//! ```
//!
//! There are two halls because of the stacks. A handshake and the first signature dig some 16 KiB deep, and what a thread has
//! touched of its stack stays: an edge that lived on where it was made would keep all of it for ever. So one that stays moves,
//! once, to a thread that was never there; and those that have been are used again, by the next who comes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::protocol::identity::PeerId;
use crate::scheduling::interrupt_nobody;

/// A thread's stack: the deepest call verifies a record. 64 KiB were enough for all tests of optimised code, and the
/// backtrace of a panic takes 28; code that is not optimised, as in a program under development that has this library in it,
/// overflowed 128. Only what is touched takes memory, but the kernel's table of pages is by 2 MiB: of the smaller stacks
/// fifteen share one, of the larger four.
const STACK: usize = if cfg!(debug_assertions) { 512 * 1024 } else { 128 * 1024 };
/// Threads of one hall that may wait for the next peer. More spare a burst the making of threads; each keeps the few pages
/// of its stack.
const SPARE: usize = 8;
/// Threads before the handshake's end, spare ones among them, beyond which an edge moves on at once: their stacks are large, and
/// what they leave behind when all of them end at once is in others' way.
const FEW: usize = 2 * SPARE;
/// How long they wait. Longer serves rarer guests; shorter lets the memory go sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a thread without a peer is called.
const SPARE_NAME: &str = "peer-spare";

/// A part of a peer's life. It does not panic.
pub type Part = Box<dyn FnOnce() + Send>;

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Until it is an edge that stays, or nothing came of it.
    Greeting,
    /// As an edge.
    Keeping,
}

/// The threads of both stages.
#[derive(Default)]
pub struct Crew {
    greeters: Arc<Hall>,
    keepers: Arc<Hall>,
}

#[derive(Default)]
struct Hall {
    state: Mutex<State>,
    /// There is a part to be played, or the end has come.
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// For those who are spare or were just started.
    waiting: VecDeque<(PeerId, Part)>,
    spare: usize,
    /// All that were started and are not joined yet, by number.
    threads: BTreeMap<u64, JoinHandle<()>>,
    started: u64,
    /// A thread that has come to its end, and is joined by the next that does.
    over: Option<u64>,
    is_over: bool,
}

impl Crew {
    /// Has a thread play this part of a peer's life.
    ///
    /// # Errors
    /// None is spare, and the system has no other to give: the part comes back.
    pub fn take_on(&self, stage: Stage, peer: PeerId, part: Part) -> Result<(), (Part, io::Error)> {
        let hall = match stage {
            Stage::Greeting => &self.greeters,
            Stage::Keeping => &self.keepers,
        };
        let mut state = hall.state.lock();
        let is_awaited = state.spare > state.waiting.len();
        state.waiting.push_back((peer, part));
        if is_awaited {
            hall.work.notify_one();
            return Ok(());
        }
        hall.start(&mut state).or_else(|error| match state.waiting.pop_back() {
            Some((_, part)) => Err((part, error)),
            None => Ok(()),
        })
    }

    /// True while so few greet that a guest may stay where it is.
    pub fn has_few_guests(&self) -> bool {
        self.greeters.state.lock().threads.len() <= FEW
    }

    /// The end: joins all threads. Every peer has to have its last order by then, and none may come any more.
    pub fn end(&self) {
        // The greeters first: they hand on to the others.
        for hall in [&self.greeters, &self.keepers] {
            let mut state = hall.state.lock();
            state.is_over = true;
            let threads = std::mem::take(&mut state.threads);
            hall.work.notify_all();
            drop(state);
            threads.into_values().for_each(join);
        }
    }
}

impl Hall {
    /// One more thread for what waits.
    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let (hall, number) = (Arc::clone(self), state.started);
        let named = thread::Builder::new().name("peer".to_owned()).stack_size(STACK);
        let thread = named.spawn(move || hall.run(number))?;
        state.started += 1;
        state.threads.insert(number, thread);
        Ok(())
    }

    fn run(&self, number: u64) {
        interrupt_nobody();
        while let Some((peer, part)) = self.next() {
            name(&format!("peer-{peer}"));
            part();
            name(SPARE_NAME);
        }
        let mut state = self.state.lock();
        let before = state.over.replace(number).and_then(|before| state.threads.remove(&before));
        drop(state);
        // It has done this too, and is about to be gone.
        before.into_iter().for_each(join);
    }

    /// What the thread does next, if anything.
    fn next(&self) -> Option<(PeerId, Part)> {
        let mut state = self.state.lock();
        if let Some(next) = state.waiting.pop_front() {
            return Some(next);
        }
        if state.is_over || state.spare == SPARE {
            return None;
        }
        state.spare += 1;
        let until = Instant::now() + PATIENCE;
        let is_needed = |state: &mut State| !state.is_over && state.waiting.is_empty();
        let _ = self.work.wait_while_until(&mut state, is_needed, until);
        state.spare -= 1;
        state.waiting.pop_front()
    }
}

/// As the system shows this thread from now on.
fn name(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a peer's thread has panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::{bounded, unbounded};

    use super::*;

    fn count(crew: &Crew) -> [usize; 2] {
        [&crew.greeters, &crew.keepers].map(|hall| hall.state.lock().threads.len())
    }

    fn until(what: &str, mut look: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !look() {
            assert!(Instant::now() < deadline, "not in a minute: {what}");
            thread::yield_now();
        }
    }

    fn take_on(crew: &Crew, stage: Stage, peer: u64, part: impl FnOnce() + Send + 'static) {
        assert!(crew.take_on(stage, PeerId(peer), Box::new(part)).is_ok());
    }

    #[test]
    fn one_after_the_other_has_the_same_thread_and_his_own_name() {
        let crew = Crew::default();
        let (tell, told) = unbounded();
        for peer in 0..20 {
            let tell = tell.clone();
            take_on(&crew, Stage::Greeting, peer, move || {
                let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
                tell.send((name, thread::current().id())).unwrap();
            });
            let (name, _) = told.recv().unwrap();
            if cfg!(target_os = "linux") {
                assert_eq!(name, format!("peer-{peer}\n"));
            }
            until("it is spare again", || crew.greeters.state.lock().spare == 1);
        }
        assert_eq!(count(&crew), [1, 0]);
        crew.end();
        assert_eq!(count(&crew), [0, 0]);
    }

    #[test]
    fn many_at_once_have_a_thread_each_and_few_stay() {
        let crew = Arc::new(Crew::default());
        let (open, gate) = bounded::<()>(0);
        let (tell, told) = unbounded();
        for peer in 0..50 {
            let (gate, tell, next) = (gate.clone(), tell.clone(), Arc::clone(&crew));
            take_on(&crew, Stage::Greeting, peer, move || {
                // Waits for all: each is on a thread of its own.
                let _ = gate.recv();
                take_on(&next, Stage::Keeping, peer, move || tell.send(peer).unwrap());
            });
        }
        assert_eq!(count(&crew)[0], 50);
        drop(open);
        let mut peers: Vec<u64> = (0..50).map(|_| told.recv().unwrap()).collect();
        peers.sort_unstable();
        assert_eq!(peers, (0..50).collect::<Vec<_>>());
        // Those that wait, and one to be joined by the next.
        until("the others have ended", || count(&crew)[0] <= SPARE + 1);
        crew.end();
        assert_eq!(count(&crew), [0, 0]);
    }

    #[test]
    fn what_was_taken_on_is_done_before_the_end() {
        for _ in 0..200 {
            let crew = Arc::new(Crew::default());
            let (tell, told) = unbounded();
            for peer in 0..10 {
                let (tell, next) = (tell.clone(), Arc::clone(&crew));
                let part = move || take_on(&next, Stage::Keeping, peer, move || tell.send(peer).unwrap());
                take_on(&crew, Stage::Greeting, peer, part);
            }
            crew.end();
            assert_eq!(told.try_iter().count(), 10);
        }
    }
}
