//! Accepting connections, up to the handshake that says which torrent they are for.

use super::context::Context;
use super::filter_state::What;
use super::shares::UNFINISHED_MAX;
use crate::net::handshake::{self, Named};
use crate::net::transport::Stream;
use crate::net::utp::UtpStream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::admission::Unfinished;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};

/// How long to wait when there are no more file descriptors for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The accepted connections that have not shaken hands, and the tasks that wait for it.
pub(super) struct Incoming {
    context: Rc<Context>,
    unfinished: RefCell<Unfinished>,
    tasks: RefCell<BTreeMap<u64, AbortHandle>>,
}

impl Incoming {
    pub(super) fn new(context: &Rc<Context>) -> Incoming {
        let unfinished = RefCell::new(Unfinished::new(UNFINISHED_MAX));
        Incoming { context: Rc::clone(context), unfinished, tasks: RefCell::default() }
    }

    /// Accepts on one socket for as long as the session lives.
    pub(super) async fn accept(self: Rc<Self>, socket: TcpListener) {
        let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
        loop {
            // Whoever waits for a place does so in the system's queue.
            while !self.context.may_accept() && self.context.unfinished.get() == 0 {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            match listener.accept().await {
                Ok((_, addr)) if self.is_blocked(addr) => {}
                Ok((stream, addr)) => {
                    if !self.context.may_accept() {
                        self.make_room();
                    }
                    match Stream::accepted_tcp(stream, addr) {
                        Ok(stream) => self.enter(stream),
                        Err(error) => tracing::debug!(%addr, %error, "incoming connection lost"),
                    }
                }
                // Most likely the system has no more file descriptors: who has not shaken hands gives one back.
                Err(error) if self.make_room() => {
                    tracing::debug!(%error, "closed an incoming connection for another");
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    self.context.lacks_descriptors();
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Accepts what has been dialled over uTP, for as long as the session lives.
    pub(super) async fn accept_utp(self: Rc<Self>, mut arrivals: mpsc::UnboundedReceiver<UtpStream>) {
        while let Some(stream) = arrivals.recv().await {
            let stream = Stream::over_utp(stream);
            if !self.is_blocked(stream.peer_addr()) {
                self.enter(stream);
            }
        }
    }

    /// Whether the IP filter blocks who has dialled us, which is counted.
    fn is_blocked(&self, addr: SocketAddr) -> bool {
        let is_blocked = self.context.peer_filter().is_blocked(addr.ip());
        if is_blocked {
            tracing::debug!(%addr, "incoming connection blocked by the IP filter");
            self.context.on_blocked(What::Incoming, 1);
        }
        is_blocked
    }

    /// Waits for a connection's handshake, for as long as nobody else needs its place more.
    fn enter(self: &Rc<Self>, stream: Stream) {
        let addr = stream.peer_addr();
        let (number, gone) = self.unfinished.borrow_mut().arrive(addr.ip());
        gone.into_iter().for_each(|gone| self.close(gone));
        let incoming = Rc::clone(self);
        let task = spawn_local(async move {
            let find = |named| {
                let torrents = &incoming.context.torrents;
                let info_hash = match named {
                    Named::Plainly(info_hash) => info_hash,
                    Named::Obfuscated(hash) => torrents.revealed(hash)?,
                };
                let torrent = torrents.get(info_hash)?;
                let ours = torrent.ours();
                Some((torrent, info_hash, ours))
            };
            let opened = handshake::accept(stream, &incoming.context.encryptor, find).await;
            incoming.unfinished.borrow_mut().leave(number);
            incoming.tasks.borrow_mut().remove(&number);
            incoming.count();
            match opened {
                Ok((torrent, opened)) => torrent.connected(opened),
                Err(error) => tracing::debug!(%addr, %error, "incoming connection refused"),
            }
        });
        self.tasks.borrow_mut().insert(number, task.abort_handle());
        self.count();
    }

    /// Ends the waiting for one that is not among the unfinished any more.
    fn close(&self, number: u64) {
        if let Some(task) = self.tasks.borrow_mut().remove(&number) {
            task.abort();
        }
        self.count();
    }

    fn count(&self) {
        self.context.unfinished.set(self.unfinished.borrow().count());
    }

    /// Closes the connection that goes first. Whether there was any.
    fn make_room(&self) -> bool {
        let gone = self.unfinished.borrow_mut().evict();
        gone.into_iter().for_each(|gone| self.close(gone));
        gone.is_some()
    }
}
