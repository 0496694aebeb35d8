//! `kithd demo`: a real network on loopback in one command, which loses a node and gets it back while one looks on.
//!
//! ```text
//!   demo          waits for the next moment, a notice or Ctrl-C, and tells what happened
//!   ├── cast      the nodes: library nodes of this process, each with its own state directory
//!   ├── script    who is stopped and started, and when
//!   └── picture   what a terminal shows of it
//! ```

mod cast;
mod picture;
mod script;

use std::collections::{BTreeSet, VecDeque};
use std::env;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use crossbeam_channel::{Receiver, select};

use self::cast::{Cast, Concord};
use self::picture::Screen;
use self::script::{Cue, Script};
use super::client_args::{self, Failure};
use super::interrupts::Interrupts;
use super::table::short;
use super::{NOT_STARTED, fail, terminal};
use crate::Event;
use crate::config::duration;
use crate::protocol::identity::PeerId;
use crate::protocol::report::Status;

/// From one look at the network to the next: four pictures a second look alive and cost little.
const PERIOD: Duration = Duration::from_millis(250);
/// A network that is about to agree when its time is over is waited for so long.
const GRACE: Duration = Duration::from_secs(4);
/// Bounds of `--duration`.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What happened last stays in the picture for so many lines.
const TOLD: usize = 10;

/// The verb's arguments.
pub fn command() -> Command {
    Command::new("demo")
        .about("Show a real network on loopback: its nodes find each other, one is killed, and comes back")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("COUNT")
                .value_parser(size)
                .default_value("5")
                .help("How many nodes, 2 to 32"),
        )
        .arg(
            Arg::new("duration")
                .long("duration")
                .value_name("DURATION")
                .value_parser(limit)
                .help("End after so long, 1s to 24h, with 1 if the nodes do not agree then [default: at Ctrl-C]"),
        )
        .after_help("On a terminal the network is drawn; elsewhere each change is a line.")
}

/// Plays until the time is over or somebody has seen enough.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let nodes = matches.get_one("nodes").copied().unwrap_or(5);
    match play(nodes, matches.get_one("duration").copied()) {
        Ok(end) => end,
        Err(Trouble::NotStarted(why)) => fail(NOT_STARTED, why),
        Err(Trouble::Output(error)) => client_args::conclude(Err(Failure::Output(error))),
    }
}

/// Why the show cannot go on.
enum Trouble {
    /// A node, a directory or a thread is missing.
    NotStarted(String),
    /// Nobody can see it.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (2..=cast::MAX).contains(size));
    size.ok_or_else(|| format!("must be a whole number from 2 to {}", cast::MAX))
}

fn limit(text: &str) -> Result<Duration, String> {
    let limit = duration::parse(text)?;
    if (SHORTEST..=LONGEST).contains(&limit) { Ok(limit) } else { Err("must be 1s to 24h".to_owned()) }
}

fn play(nodes: usize, limit: Option<Duration>) -> Result<ExitCode, Trouble> {
    let interrupts = Interrupts::start().map_err(|error| Trouble::NotStarted(error.to_string()))?;
    let mut cast = Cast::gather().map_err(Trouble::NotStarted)?;
    let outcome = Show::open(&cast, limit).and_then(|mut show| {
        let ended = show.play(&mut cast, nodes, &interrupts.received);
        let parted = show.close(&cast, nodes);
        ended.and_then(|end| parted.map(|()| end))
    });
    cast.end();
    drop(interrupts);
    match outcome? {
        End::Interrupted => Ok(ExitCode::SUCCESS),
        End::OverTime(concord) if concord.is_whole() => Ok(ExitCode::SUCCESS),
        End::OverTime(concord) => {
            let Concord { agreeing, running, .. } = concord;
            Ok(fail(
                1,
                format!("the network does not agree: {agreeing} of {running} nodes know that all hold one view"),
            ))
        }
    }
}

/// Why the show is over.
enum End {
    /// Somebody has seen enough.
    Interrupted,
    /// The time is over, and this is what the nodes said then.
    OverTime(Concord),
}

/// What the viewer gets to see.
struct Show {
    started: Instant,
    limit: Option<Duration>,
    screen: Option<Screen>,
    told: VecDeque<String>,
    /// Connections of the first node that were edges: only their loss is worth a line.
    edges: BTreeSet<PeerId>,
    events: Receiver<Event>,
    agreed: Option<Concord>,
}

impl Show {
    fn open(cast: &Cast, limit: Option<Duration>) -> Result<Self, Trouble> {
        let draws = terminal::watched() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Ok(Self {
            started: Instant::now(),
            limit,
            screen: if draws { Some(Screen::open()?) } else { None },
            told: VecDeque::new(),
            edges: BTreeSet::new(),
            events: cast.events(),
            agreed: None,
        })
    }

    fn play(&mut self, cast: &mut Cast, nodes: usize, interrupts: &Receiver<()>) -> Result<End, Trouble> {
        let first = cast.name(0);
        let viewer = first.label.clone();
        self.tell(&format!("{viewer} ({}) starts; it is the one through whose eyes you look", short(&first.id)))?;
        let mut script = Script::new(nodes, self.limit);
        let mut look = Instant::now();
        let events = self.events.clone();
        loop {
            select! {
                recv(interrupts) -> _ => return Ok(End::Interrupted),
                // The viewer's node lives as long as the cast, so its channel does not close.
                recv(events) -> event => if let Ok(event) = event { self.notice(cast, &event)? },
                default(look.saturating_duration_since(Instant::now())) => {
                    look = Instant::now() + PERIOD;
                    // One at a time, so that the viewer sees each one come, and Ctrl-C is never far.
                    if cast.len() < nodes {
                        self.enter(cast)?;
                        look = Instant::now() + PERIOD / 5;
                    }
                    let concord = self.look(cast, nodes)?;
                    let agreed = cast.len() == nodes && concord.is_whole();
                    match script.step(self.started.elapsed(), agreed) {
                        Some(cue) => self.perform(cast, cue)?,
                        None if self.is_over(agreed && script.is_calm()) => return Ok(End::OverTime(concord)),
                        None => {}
                    }
                }
            }
        }
    }

    /// Takes the picture away and, where there was one, leaves its last state on the terminal.
    fn close(&mut self, cast: &Cast, nodes: usize) -> Result<(), Trouble> {
        if self.screen.take().is_some() {
            let (report, _) = cast.look();
            terminal::say(&self.picture(cast, nodes, &picture::draw(&cast.names(), &report, terminal::colourful())))?;
        }
        Ok(())
    }

    /// A good moment to end is waited for, but not long.
    fn is_over(&self, is_good_moment: bool) -> bool {
        let elapsed = self.started.elapsed();
        self.limit.is_some_and(|limit| elapsed >= limit && (is_good_moment || elapsed >= limit + GRACE))
    }

    fn enter(&mut self, cast: &mut Cast) -> Result<(), Trouble> {
        let named = cast.join().map_err(|error| Trouble::NotStarted(error.to_string()))?;
        let line = format!("{} ({}) starts", named.label, short(&named.id));
        self.tell(&line)
    }

    fn perform(&mut self, cast: &mut Cast, cue: Cue) -> Result<(), Trouble> {
        match cue {
            Cue::Stop(number) => {
                self.tell(&format!("{} is stopped as if killed", cast.name(number).label))?;
                cast.stop(number);
            }
            Cue::Start(number) => {
                let is_same = cast.restart(number).map_err(|error| Trouble::NotStarted(error.to_string()))?;
                let named = cast.name(number);
                let identity = if is_same { "with the same id" } else { "with ANOTHER id" };
                let line = format!("{} is started again on its files, {identity} {}", named.label, short(&named.id));
                self.tell(&line)?;
            }
        }
        Ok(())
    }

    /// What the viewer's node noticed.
    fn notice(&mut self, cast: &Cast, event: &Event) -> Result<(), Trouble> {
        let viewer = &cast.name(0).label;
        let named = |id: &str| cast.names().into_iter().find(|named| named.id == id).map(|named| named.label);
        match event {
            Event::Status { label, status, .. } => {
                let verdict = match status {
                    Status::Up => "up",
                    Status::Suspect => "suspect: somebody misses it",
                    Status::Down => "down",
                    Status::Left => "gone: it has left",
                };
                self.tell(&format!("{viewer} sees that {label} is {verdict}"))
            }
            Event::EdgeUp(peer, _) => {
                self.edges.insert(*peer);
                Ok(())
            }
            Event::EdgeDown(peer, id, reason) if self.edges.remove(peer) => {
                let other = id.and_then(|id| named(&id.hex())).unwrap_or_else(|| "a stranger".to_owned());
                self.tell(&format!("{viewer} loses an edge with {other}: {reason}"))
            }
            // No node of a demonstration lies.
            Event::EdgeDown(..) | Event::Equivocation { .. } => Ok(()),
        }
    }

    /// Looks at all nodes, draws what the first sees, and tells it if all have come to agree.
    fn look(&mut self, cast: &Cast, nodes: usize) -> Result<Concord, Trouble> {
        let (report, concord) = cast.look();
        if cast.len() == nodes && concord.is_whole() && self.agreed.as_ref() != Some(&concord) {
            self.tell(&format!("all {} running nodes agree on view {}", concord.running, short(&concord.digest)))?;
            self.agreed = Some(concord.clone());
        }
        if let Some(screen) = &self.screen {
            let network = picture::draw(&cast.names(), &report, terminal::colourful());
            screen.show(&self.picture(cast, nodes, &network))?;
        }
        Ok(concord)
    }

    /// The network under its title, and above what happened last.
    fn picture(&self, cast: &Cast, nodes: usize, network: &str) -> String {
        let (viewer, seconds) = (&cast.name(0).label, self.started.elapsed().as_secs());
        let told: String = self.told.iter().map(|line| format!("{line}\n")).collect();
        format!(
            "kithd demo: {nodes} nodes on loopback, as {viewer} sees them; {seconds} s; Ctrl-C ends it\n\n{network}\n{told}"
        )
    }

    /// A line of what happened: kept for the picture, or written at once where there is none.
    fn tell(&mut self, what: &str) -> Result<(), Trouble> {
        let line = format!("{:>6.1} s  {what}", self.started.elapsed().as_secs_f64());
        if self.screen.is_none() {
            terminal::say(&format!("{line}\n"))?;
        }
        self.told.push_back(line);
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
        Ok(())
    }
}
