//! A user's census: `kithd network --census`, and the same for programs.

use super::registry::Registry;
use crate::protocol::reason::Reason;
use crate::protocol::report::NetworkReport;
use crate::protocol::testimony::{Mode, Nonce};

/// Counts the network. `answer` gets the report as it was when the census began, and with it who answered; or why there was
/// none: [`Reason::Overloaded`] if there are too many, [`Reason::Leaving`], [`Reason::Internal`] without randomness.
pub fn count(registry: &Registry, mode: Mode, answer: impl FnOnce(Result<NetworkReport, Reason>) + Send + 'static) {
    // Nobody may know it before: what others sign for an older census with this nonce would pass for new.
    let mut nonce = [0; 16];
    if let Err(error) = getrandom::fill(&mut nonce) {
        log::error!("no census without randomness: {error}");
        return answer(Err(Reason::Internal));
    }
    let report = registry.read(|node, now| node.network_report(now));
    let told = move |counted: Result<Box<_>, _>| {
        answer(counted.map(|census| NetworkReport { census: Some(*census), ..report }));
    };
    registry.count(Nonce(nonce), mode, Box::new(told));
}
