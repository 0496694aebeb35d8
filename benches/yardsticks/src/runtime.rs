//! tokio's runtimes, for the yardsticks that stand on one.

use std::future::Future;

use clap::Args;
use tokio::runtime::{Builder, Runtime};

/// Which runtime, at both ends.
#[derive(Args, Debug)]
pub struct Flavour {
    /// Threads of the runtime; without them all runs on one (current_thread)
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
}

impl Flavour {
    /// In words.
    pub fn name(&self) -> String {
        self.workers.map_or_else(|| "current_thread".to_owned(), |count| format!("{count} workers"))
    }

    /// A new one.
    pub fn runtime(&self) -> Runtime {
        let mut builder = match self.workers {
            None => Builder::new_current_thread(),
            Some(_) => Builder::new_multi_thread(),
        };
        if let Some(count) = self.workers {
            builder.worker_threads(count);
        }
        builder.enable_all().build().expect("the runtime starts")
    }
}

/// Runs it on a thread of the runtime, which this one is not where there are workers.
pub fn run_on<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(async { tokio::spawn(work).await.expect("it ends") })
}
