//! Waiting until a network agrees, for programs that start one and want to go on when it stands.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::node::Node;
use crate::protocol::report::NetworkReport;

impl Node {
    /// Waits until this node can show that so many live nodes, itself among them and no others, hold the view that it holds
    /// itself; gives back that view. It speaks for those it has heard of: who starts a hundred nodes waits for a hundred.
    ///
    /// # Errors
    /// It was not so within `patience`: the view as it was last.
    pub fn await_agreement(&self, live: usize, patience: Duration) -> Result<NetworkReport, Box<NetworkReport>> {
        let deadline = Instant::now() + patience;
        loop {
            let (told, agreed) = bounded(1);
            self.registry.await_agreement(live, told.clone());
            // The loops of a node that has ended tell nobody, and the deadline comes all the same.
            let is_over = agreed.recv_deadline(deadline).is_err();
            self.registry.await_no_more(&told);
            let report = self.network();
            if report.agreement.unanimous && report.agreement.live == live {
                return Ok(report);
            }
            if is_over {
                return Err(Box::new(report));
            }
        }
    }
}
