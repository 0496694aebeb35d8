//! A live node: one of this machine puts the loads on it, over the connection that its requests take, as its admin socket has
//! it do.
//!
//! ```text
//!   this process ── admin socket ──▶ a node of this machine ── its connection ──▶ the live node: echo, status
//! ```

use std::path::Path;
use std::time::Duration;

use super::figures::{Figures, each};
use super::pair::INLINE;
use super::workloads::Workload;
use crate::admin::api::{AdminError, Verb};
use crate::admin::client::Client;
use crate::admin::load::{How, LoadCall};
use crate::admin::payload::RequestReport;
use crate::cli::client_args::understood;
use crate::config::duration;
use crate::controller::load::Manner;
use crate::protocol::escape::escaped;
use crate::protocol::report::Report;
use crate::protocol::requests::report::{LoadReport, PingReport};

/// For a dial, and for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a load takes beside its span: a dial and a first answer before, the last answers after it, half a minute each.
const AROUND: Duration = Duration::from_secs(90);
/// What a node answers with its report.
const STATUS: &str = "status";

/// Both of them, as far as they are known here.
pub(super) struct Live {
    pub(super) label: String,
    /// What is to be said of the figures.
    pub(super) notes: Vec<String>,
    client: Client,
    /// As the user names it.
    node: String,
    /// It says what it has served.
    tells: bool,
}

/// What the nodes have counted so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    /// The asking node: answered requests of its own.
    answered: u64,
    /// The live node, if it tells: requests that it has served.
    served: Option<u64>,
}

impl Live {
    /// Finds both, and has them connected.
    ///
    /// # Errors
    /// Nobody is at the socket, or the node is not there for it.
    pub(super) fn meet(socket: &Path, node: &str) -> Result<Self, AdminError> {
        let mut client = Client::connect(socket)?;
        let verb = Verb::Ping { node: node.to_owned(), count: Some(1), timeout: Some(duration::text(PATIENCE)) };
        let ping: PingReport = understood(&client.call_within(&verb, AROUND)?)?;
        if ping.answered == 0 {
            let why = ping.why.as_deref().unwrap_or("for no reason the node could name");
            return Err(AdminError::negative("unanswered", format!("{node} has not answered a ping: {why}")));
        }
        let label = ping.label.unwrap_or_else(|| node.to_owned());
        let mut live = Self { label, notes: Vec::new(), client, node: node.to_owned(), tells: true };
        if let Err(error) = live.served() {
            live.tells = false;
            live.note(format!("{} does not say what it has served, which was not compared: {error}", live.label));
        }
        live.note(format!("what {} uses of its processors is not seen from here", live.label));
        Ok(live)
    }

    /// Measures a workload, with less under way if the nodes' limits want that.
    pub(super) fn measure(
        &mut self,
        workload: &Workload,
        (manner, payload): (Manner, usize),
        span: Duration,
    ) -> Result<Figures, AdminError> {
        let wanted = Size::of(manner, payload);
        let mut size = wanted;
        let (loaded, counted) = loop {
            let before = self.counts()?;
            match self.load(manner, size, span) {
                Ok(loaded) => break (loaded, self.counts()?.since(before)),
                Err(error) => size = size.smaller(&error.code).ok_or(error)?,
            }
        };
        // One more, before: so that no dial is measured.
        counted.check(loaded.answered + 1, &self.label)?;
        let window = Some(size.count).filter(|_| size.count != wanted.count);
        let payload_bytes = Some(size.payload).filter(|_| size.payload != wanted.payload);
        if let Some(window) = window {
            let why = format!("{}: {window} under way at a time and not {}", workload.name, wanted.count);
            self.note(format!("{why}, as more were refused as overloaded"));
        }
        if let Some(bytes) = payload_bytes {
            let why = format!("{}: payloads of {bytes} bytes and not {}", workload.name, wanted.payload);
            self.note(format!("{why}, as longer ones were refused as too large"));
        }
        let elapsed = Duration::try_from_secs_f64(loaded.elapsed_seconds).unwrap_or_default();
        let used = Duration::try_from_secs_f64(loaded.cpu_seconds).unwrap_or_default();
        let figures = Figures {
            p50_us: loaded.p50_us,
            p99_us: loaded.p99_us,
            p999_us: loaded.p999_us,
            client_cpu_us_per_request: each(used, loaded.answered),
            window,
            payload_bytes,
            ..Figures::default()
        };
        Ok(workload.with_sizes(figures.at_rate_of(loaded.answered, elapsed, size.payload, workload.is_bulk())))
    }

    fn load(&mut self, manner: Manner, size: Size, span: Duration) -> Result<LoadReport, AdminError> {
        let call = LoadCall {
            node: self.node.clone(),
            service: INLINE.to_owned(),
            manner: match manner {
                Manner::Lone => How::Lone,
                Manner::Window(_) => How::Window,
                Manner::Callers(_) => How::Callers,
                Manner::Logical(_) => How::Logical,
            },
            count: size.count as u64,
            payload: size.payload as u64,
            span_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
        };
        understood(&self.client.call_within(&Verb::Load(call), span + AROUND)?)
    }

    fn counts(&mut self) -> Result<Counts, AdminError> {
        let own: Report = understood(&self.client.call(&Verb::Status)?)?;
        let served = if self.tells { Some(self.served()?) } else { None };
        Ok(Counts { answered: own.requests.answered, served })
    }

    /// What the live node says that it has served; any member of the network may ask it, unless its configuration says
    /// otherwise.
    fn served(&mut self) -> Result<u64, AdminError> {
        let verb = Verb::Request {
            node: self.node.clone(),
            service: STATUS.to_owned(),
            payload: Vec::new().into(),
            timeout: Some(duration::text(PATIENCE)),
        };
        let answer: RequestReport = understood(&self.client.call_within(&verb, AROUND)?)?;
        let report: Report = serde_json::from_slice(&answer.payload.0).map_err(|error| {
            AdminError::negative("unknown-status", format!("its status is of another kind: {error}"))
        })?;
        Ok(report.requests.served)
    }

    fn note(&mut self, note: String) {
        self.notes.push(escaped(&note).into_owned());
    }
}

impl Counts {
    fn since(self, before: Self) -> Self {
        let served = self.served.zip(before.served).map(|(after, before)| after.saturating_sub(before));
        Self { answered: self.answered.saturating_sub(before.answered), served }
    }

    /// Others may ask as well, meanwhile: there are as many, or more.
    fn check(self, counted: u64, label: &str) -> Result<(), AdminError> {
        let counts = [("the node that asked", Some(self.answered)), (label, self.served)];
        let short = counts.into_iter().find(|(_, count)| count.is_some_and(|count| count < counted));
        match short {
            Some((who, count)) => Err(AdminError::negative(
                "miscounted",
                format!("{counted} requests were counted by the load, and {} by {who}", count.unwrap_or(0)),
            )),
            None => Ok(()),
        }
    }
}

/// How much is under way: of so many bytes each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    count: usize,
    payload: usize,
}

impl Size {
    fn of(manner: Manner, payload: usize) -> Self {
        Self { count: manner.count(), payload }
    }

    /// Half of what was refused with this code; `None` if less of it does not help.
    fn smaller(self, code: &str) -> Option<Self> {
        match code {
            "overloaded" if self.count > 1 => Some(Self { count: self.count / 2, ..self }),
            "too-large" if self.payload > 1 => Some(Self { payload: self.payload / 2, ..self }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_halved_until_nothing_is_left() {
        let mut size = Size::of(Manner::Logical(128), 64);
        let mut counts = Vec::new();
        while let Some(smaller) = size.smaller("overloaded") {
            size = smaller;
            counts.push(size.count);
        }
        assert_eq!((counts, size.payload), (vec![64, 32, 16, 8, 4, 2, 1], 64));
        let large = Size::of(Manner::Window(4), 1 << 20);
        assert_eq!(large.smaller("too-large"), Some(Size { count: 4, payload: 1 << 19 }));
        assert_eq!(large.smaller("unknown-service"), None);
        assert_eq!(Size::of(Manner::Lone, 1).smaller("too-large"), None);
    }

    #[test]
    fn both_nodes_have_counted_no_fewer() {
        let counts = |answered, served| Counts { answered, served };
        let of = counts(20, Some(30)).since(counts(10, Some(20)));
        assert_eq!(of, counts(10, Some(10)));
        assert_eq!((of.check(10, "b"), of.check(9, "b")), (Ok(()), Ok(())));
        assert_eq!(
            of.check(11, "b").unwrap_err().message,
            "11 requests were counted by the load, and 10 by the node that asked"
        );
        let message = counts(11, Some(3)).check(11, "b").unwrap_err().message;
        assert_eq!(message, "11 requests were counted by the load, and 3 by b");
        assert_eq!(counts(11, None).check(11, "b"), Ok(()), "it does not tell");
        assert_eq!(counts(5, Some(0)).since(counts(9, Some(7))), counts(0, Some(0)), "it was started again");
    }
}
