//! The network thread: accepting connections and taking requests.

use super::dht;
use super::events::EventSender;
use super::hub::Hub;
use super::lsd;
use super::registry::Registry;
use super::routes;
use super::shares::UNFINISHED_MAX;
use super::shell::Shell;
use super::torrent::{self, TorrentShell};
use super::{AddTorrent, Event, Request, TorrentHandle, TorrentId};
use crate::Error;
use crate::net::handshake::{self, HANDSHAKE_TIMEOUT};
use crate::net::socket;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::admission::Unfinished;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

/// How long to wait when there are no more file descriptors for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often memory that is no longer needed is given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

pub(super) fn run(
    runtime: &tokio::runtime::Runtime,
    hub: Hub,
    (registry, events): (Arc<Registry>, EventSender<(TorrentId, Event)>),
    sockets: Vec<TcpListener>,
    inbox: mpsc::UnboundedReceiver<Request>,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let hub = Rc::new(hub);
        let doorway = Rc::new(Doorway::new(&hub));
        for socket in sockets {
            spawn_local(accept(Rc::clone(&hub), socket, Rc::clone(&doorway)));
        }
        dht::start(&hub);
        lsd::start(&hub);
        spawn_local(routes::watch(Rc::clone(&hub)));
        let pool = hub.pool.clone();
        spawn_local(async move {
            loop {
                tokio::time::sleep(TRIM_INTERVAL).await;
                pool.trim();
            }
        });
        serve(&hub, &registry, &events, inbox).await;
    });
}

/// Takes requests until the session is stopped or dropped.
async fn serve(
    hub: &Rc<Hub>,
    registry: &Arc<Registry>,
    events: &EventSender<(TorrentId, Event)>,
    mut inbox: mpsc::UnboundedReceiver<Request>,
) {
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Add(torrent, reply) => {
                let _ = reply.send(add(hub, registry, events, *torrent));
            }
            Request::Resolve(link, reply) => {
                drop(spawn_local(dht::resolve_for(Rc::clone(hub), link, reply)));
            }
            Request::SetLimits { upload, download } => {
                hub.upload.set(hub.now(), upload);
                hub.download.set(hub.now(), download);
                hub.limits_changed();
            }
            Request::Stop => {
                let stops: Vec<_> = registry
                    .all()
                    .into_iter()
                    .map(|torrent| spawn_local(async move { torrent.stop().await }))
                    .collect();
                for stop in stops {
                    let _ = stop.await;
                }
                dht::save(hub).await;
                return;
            }
        }
    }
}

fn add(
    hub: &Rc<Hub>,
    registry: &Arc<Registry>,
    events: &EventSender<(TorrentId, Event)>,
    torrent: AddTorrent,
) -> Result<TorrentHandle, Error> {
    let id = registry.next_id();
    torrent.source.info_hash().map_or(Ok(()), |info_hash| registry.claim(info_hash, id))?;
    let handle = torrent::spawn(Rc::clone(hub), id, torrent, registry, events);
    registry.insert(handle.clone());
    Ok(handle)
}

/// The accepted connections that have not shaken hands, and the tasks that wait for it.
struct Doorway {
    hub: Rc<Hub>,
    unfinished: RefCell<Unfinished>,
    tasks: RefCell<BTreeMap<u64, AbortHandle>>,
}

impl Doorway {
    fn new(hub: &Rc<Hub>) -> Doorway {
        let unfinished = RefCell::new(Unfinished::new(UNFINISHED_MAX));
        Doorway { hub: Rc::clone(hub), unfinished, tasks: RefCell::default() }
    }

    /// Waits for a connection's handshake, for as long as nobody else needs its place more.
    fn enter(self: &Rc<Self>, stream: TcpStream, addr: SocketAddr) {
        let (number, gone) = self.unfinished.borrow_mut().arrive(addr.ip());
        gone.into_iter().for_each(|gone| self.close(gone));
        let doorway = Rc::clone(self);
        let task = spawn_local(async move {
            let greeted = greet(&doorway.hub, stream, addr);
            let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeted).await;
            doorway.unfinished.borrow_mut().leave(number);
            doorway.tasks.borrow_mut().remove(&number);
            doorway.count();
            match greeted {
                Ok(Ok((torrent, stream, hello))) => torrent.connected(stream, addr, true, hello),
                Ok(Err(error)) => tracing::debug!(%addr, %error, "incoming connection refused"),
                Err(_) => tracing::debug!(%addr, "incoming connection without a handshake"),
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
        self.hub.unfinished.set(self.unfinished.borrow().count());
    }

    /// Closes the connection that goes first. Whether there was any.
    fn make_room(&self) -> bool {
        let gone = self.unfinished.borrow_mut().give_way();
        gone.into_iter().for_each(|gone| self.close(gone));
        gone.is_some()
    }
}

async fn accept(hub: Rc<Hub>, socket: TcpListener, doorway: Rc<Doorway>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(socket) else { return };
    loop {
        // Whoever waits for a place does so in the system's queue.
        while !hub.may_accept() && hub.unfinished.get() == 0 {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, addr)) => {
                if !hub.may_accept() {
                    doorway.make_room();
                }
                doorway.enter(stream, addr);
            }
            // Most likely the system has no more file descriptors: who has not shaken hands gives one back.
            Err(error) if doorway.make_room() => {
                tracing::debug!(%error, "closed an incoming connection for another");
                tokio::task::yield_now().await;
            }
            Err(error) => {
                hub.lacks_descriptors();
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn greet(
    hub: &Hub,
    mut stream: TcpStream,
    addr: SocketAddr,
) -> std::io::Result<(Rc<TorrentShell>, TcpStream, swarm_core::wire::handshake::Handshake)> {
    socket::prepare(&stream)?;
    let mut torrent = None;
    let hello = handshake::accept(&mut stream, |info_hash| {
        torrent = hub.torrent(info_hash);
        torrent.as_ref().map(|torrent| (torrent.peer_id(), torrent.reserved()))
    })
    .await?;
    tracing::trace!(%addr, "incoming handshake");
    let torrent = torrent.ok_or_else(|| std::io::Error::other("no such torrent here"))?;
    Ok((torrent, stream, hello))
}
