//! The nodes of a demonstration: real ones, each with its threads, sockets and state directory, in this process.

use std::thread;

use super::super::descriptors;
use super::super::place::Place;
use super::picture::Named;
use crate::config::Config;
use crate::controller::StartError;
use crate::protocol::address::HostPort;
use crate::protocol::identity::Label;
use crate::protocol::report::NetworkReport;
use crate::{Event, Node};

/// Names that are easier to follow than numbers, and there are enough of them.
const LABELS: [&str; 32] = [
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "aleph", "beth", "gimel",
    "daleth", "he", "waw", "zayin", "heth",
];
/// The most nodes of a demonstration.
pub(super) const MAX: usize = LABELS.len();

/// One node, running or stopped.
struct Role {
    name: Named,
    config: Config,
    node: Option<Node>,
}

/// All nodes; the first one is the viewer's.
pub(super) struct Cast {
    // Before the place: what runs goes first, then its files.
    roles: Vec<Role>,
    first: Node,
    first_name: Named,
    place: Place,
}

/// What all running nodes together say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Concord {
    /// Those that run.
    pub(super) running: usize,
    /// Those that hold the first one's view and know that all running ones do.
    pub(super) agreeing: usize,
    /// The first one's digest.
    pub(super) digest: String,
}

impl Concord {
    /// True if all that run agree, and on who runs.
    pub(super) fn is_whole(&self) -> bool {
        self.agreeing == self.running
    }
}

impl Cast {
    /// The first node alone.
    pub(super) fn gather() -> Result<Self, String> {
        descriptors::raise_limit();
        let place = Place::make("demo")?;
        let first = Node::start(config(&place, 0, None)).map_err(|error| error.to_string())?;
        let first_name = named(&first);
        Ok(Self { roles: Vec::new(), first, first_name, place })
    }

    /// One more, which looks for the first.
    pub(super) fn join(&mut self) -> Result<&Named, StartError> {
        let seed = self.first.addresses().first().copied();
        let config = config(&self.place, self.len(), seed.map(HostPort::from));
        let node = Node::start(config.clone())?;
        self.roles.push(Role { name: named(&node), config, node: Some(node) });
        Ok(self.name(self.roles.len()))
    }

    /// Ends a node as if killed. The first is never asked to.
    pub(super) fn stop(&mut self, number: usize) {
        if let Some(node) = self.role(number).and_then(|role| role.node.take()) {
            node.abort();
        }
    }

    /// Starts a stopped node on what it left behind; true if it is again the node it was.
    pub(super) fn restart(&mut self, number: usize) -> Result<bool, StartError> {
        let Some(role) = self.role(number).filter(|role| role.node.is_none()) else { return Ok(true) };
        let node = Node::start(role.config.clone())?;
        let is_same = node.id().hex() == role.name.id;
        role.node = Some(node);
        Ok(is_same)
    }

    /// All of them, running or not.
    pub(super) fn len(&self) -> usize {
        1 + self.roles.len()
    }

    /// Who has this number.
    pub(super) fn name(&self, number: usize) -> &Named {
        match number.checked_sub(1) {
            Some(other) => &self.roles[other].name,
            None => &self.first_name,
        }
    }

    /// All names, by number.
    pub(super) fn names(&self) -> Vec<Named> {
        (0..self.len()).map(|number| self.name(number).clone()).collect()
    }

    /// What happens, as the first node notices it.
    pub(super) fn events(&self) -> crossbeam_channel::Receiver<Event> {
        self.first.events()
    }

    /// The network as the first node sees it, and what all running nodes say.
    pub(super) fn look(&self) -> (NetworkReport, Concord) {
        let seen = self.first.network();
        let others: Vec<NetworkReport> =
            self.roles.iter().filter_map(|role| role.node.as_ref()).map(Node::network).collect();
        let running = 1 + others.len();
        let agrees = |report: &&NetworkReport| {
            let agreement = &report.agreement;
            report.digest == seen.digest && agreement.unanimous && agreement.live == running
        };
        let agreeing = std::iter::once(&seen).chain(&others).filter(agrees).count();
        let digest = seen.digest.clone();
        (seen, Concord { running, agreeing, digest })
    }

    /// Ends all of them at once, as if killed: nobody is left who would want a farewell.
    pub(super) fn end(self) {
        let Self { roles, first, place, .. } = self;
        thread::scope(|scope| {
            for node in roles.into_iter().filter_map(|role| role.node).chain([first]) {
                // Dropping a node instead would take leave of each other one and wait for its answer.
                let ending = thread::Builder::new().name("ending".into());
                let _ = ending.spawn_scoped(scope, move || node.abort());
            }
        });
        drop(place);
    }

    fn role(&mut self, number: usize) -> Option<&mut Role> {
        self.roles.get_mut(number.checked_sub(1)?)
    }
}

fn named(node: &Node) -> Named {
    let identity = node.identity();
    Named { label: identity.label, id: identity.id }
}

fn config(place: &Place, number: usize, seed: Option<HostPort>) -> Config {
    let mut config = Config::default();
    config.node.label = Label::from_lossy(LABELS.get(number).copied().unwrap_or("node"));
    config.node.state_dir = place.of(number);
    config.listen.addresses = vec![([127, 0, 0, 1], 0).into()];
    config.network.name = Label::from_lossy("demo");
    config.network.connect = seed.into_iter().collect();
    // Fewer edges than usual: in a small network all would be linked to all, and the picture would show nothing.
    config.discovery.out_degree = 3;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_is_one_and_only_one() {
        let labels: std::collections::BTreeSet<_> = LABELS.iter().collect();
        assert_eq!(labels.len(), MAX);
        assert!(LABELS.iter().all(|label| Label::from_lossy(label).as_str() == *label && label.len() <= 7));
    }
}
