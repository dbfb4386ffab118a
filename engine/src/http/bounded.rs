//! A connection that delivers so many bytes and no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes a connection may deliver in all. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(super) fn new(len: usize) -> Allowance {
        Allowance(Arc::new(AtomicUsize::new(len)))
    }

    /// It may deliver so many more.
    pub(super) fn add(&self, len: usize) {
        let len = len.min(usize::MAX - self.0.load(Ordering::Relaxed));
        self.0.fetch_add(len, Ordering::Relaxed);
    }
}

/// Fails reads once the allowance is used up; the last one may go beyond it.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
    read: usize,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, allowance: Allowance) -> Bounded<S> {
        Bounded { stream, allowance, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let allowed = self.allowance.0.load(Ordering::Relaxed);
        if self.read >= allowed {
            return Poll::Ready(Err(io::Error::other(format!("the answer takes more than {allowed} bytes"))));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}
