//! Wakes a thread that blocks in a poll.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Token, Waker};

/// Wakes the thread that waits in an [`Acceptor`](super::Acceptor) or a [`LineServer`](super::LineServer), from any thread.
#[derive(Clone, Debug)]
pub struct PollWaker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // The poll's event alone would not do: under a flood of connections the poll is not asked.
    woken: AtomicBool,
    waker: Waker,
}

impl PollWaker {
    /// Wakes it, now or when it next waits. Several wakes before it looks are one.
    pub fn wake(&self) {
        self.inner.woken.store(true, Ordering::SeqCst);
        if let Err(error) = self.inner.waker.wake() {
            log::error!("cannot wake a poll: {error}");
        }
    }

    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        Ok(Self { inner: Arc::new(Inner { woken: AtomicBool::new(false), waker: Waker::new(registry, token)? }) })
    }

    /// Whether it was woken since this was last asked.
    pub(super) fn take(&self) -> bool {
        self.inner.woken.swap(false, Ordering::SeqCst)
    }

    pub(super) fn is_woken(&self) -> bool {
        self.inner.woken.load(Ordering::SeqCst)
    }
}
