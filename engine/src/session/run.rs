//! The network thread: what runs on it, and the requests that it takes.

use super::accept::Incoming;
use super::context::Context;
use super::events::EventSender;
use super::registry::Registry;
use super::{AddTorrent, Event, Request, TorrentHandle, TorrentId};
use super::{opening, services};
use crate::Error;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

/// How often memory that is no longer needed is given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

pub(super) fn run(
    runtime: &tokio::runtime::Runtime,
    context: Context,
    (registry, events): (Arc<Registry>, EventSender<(TorrentId, Event)>),
    sockets: Vec<TcpListener>,
    inbox: mpsc::UnboundedReceiver<Request>,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let context = Rc::new(context);
        let incoming = Rc::new(Incoming::new(&context));
        for socket in sockets {
            spawn_local(Rc::clone(&incoming).accept(socket));
        }
        services::start_dht(&context);
        services::start_lsd(&context);
        spawn_local(services::watch_addresses(Rc::clone(&context)));
        let pool = context.pool.clone();
        spawn_local(async move {
            loop {
                tokio::time::sleep(TRIM_INTERVAL).await;
                pool.trim();
            }
        });
        serve(&context, &registry, &events, inbox).await;
        context.torrents.clear();
    });
}

/// Takes requests until the session is stopped or dropped.
async fn serve(
    context: &Rc<Context>,
    registry: &Arc<Registry>,
    events: &EventSender<(TorrentId, Event)>,
    mut inbox: mpsc::UnboundedReceiver<Request>,
) {
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Add(torrent, reply) => {
                let _ = reply.send(add(context, registry, events, *torrent));
            }
            Request::Resolve(link, reply) => {
                drop(spawn_local(services::resolve_for(Rc::clone(context), link, reply)));
            }
            Request::SetUploadLimit(limit) => {
                context.upload.set(context.now(), limit);
                context.limits_changed();
            }
            Request::SetDownloadLimit(limit) => {
                context.download.set(context.now(), limit);
                context.limits_changed();
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
                services::save_dht(context).await;
                return;
            }
        }
    }
}

fn add(
    context: &Rc<Context>,
    registry: &Arc<Registry>,
    events: &EventSender<(TorrentId, Event)>,
    torrent: AddTorrent,
) -> Result<TorrentHandle, Error> {
    let id = registry.next_id();
    torrent.source.info_hash().map_or(Ok(()), |info_hash| registry.claim(info_hash, id))?;
    let handle = opening::spawn(Rc::clone(context), id, torrent, registry, events);
    registry.insert(handle.clone());
    Ok(handle)
}
