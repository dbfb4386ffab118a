//! The network thread: what runs on it, and the requests that it takes.

use super::accept::Incoming;
use super::context::Context;
use super::ip_filter;
use super::port_mapping::PortMappings;
use super::registry::Registry;
use super::{AddTorrent, Request, TorrentHandle};
use super::{opening, services, sharing};
use crate::Error;
use crate::hash::Lane;
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
    registry: Arc<Registry>,
    sockets: Vec<TcpListener>,
    inbox: mpsc::UnboundedReceiver<Request>,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let context = Rc::new(context);
        let incoming = Rc::new(Incoming::new(&context));
        // Without TCP they have only kept the ports.
        for socket in sockets.into_iter().filter(|_| context.options.tcp) {
            spawn_local(Rc::clone(&incoming).accept(socket));
        }
        let ports = services::start_utp(&context, &incoming);
        services::start_dht(&context, &ports);
        services::start_lsd(&context);
        spawn_local(services::watch_addresses(Rc::clone(&context)));
        spawn_local(ip_filter::watch(Rc::clone(&context)));
        spawn_local(sharing::share(Rc::clone(&context)));
        let (pool, workers) = (context.pool.clone(), Arc::clone(&context.workers));
        spawn_local(async move {
            loop {
                tokio::time::sleep(TRIM_INTERVAL).await;
                pool.trim();
                // Not here, where it would hold up everything for some milliseconds.
                workers.submit(Lane::Check, give_back);
            }
        });
        let mappings = PortMappings::start(&context);
        serve(&context, &registry, inbox, mappings).await;
        context.torrents.clear();
        context.utps.borrow().iter().for_each(|utp| utp.shut_down());
    });
}

/// Has the allocator give back what is free in its midst: after the start of many torrents that is much, and it does not by itself.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes requests until the session is stopped or dropped.
async fn serve(
    context: &Rc<Context>,
    registry: &Arc<Registry>,
    mut inbox: mpsc::UnboundedReceiver<Request>,
    mappings: PortMappings,
) {
    while let Some(request) = inbox.recv().await {
        match request {
            Request::Add(torrent, reply) => {
                let _ = reply.send(add(context, registry, *torrent));
            }
            Request::Active(reply) => {
                let _ = reply.send(context.torrents.active());
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
            Request::SetBanned(addresses) => context.set_banned(&addresses),
            Request::SetRateGroup(group, upload, download) => {
                context.rate_groups.set(context.now(), group, upload, download);
                context.limits_changed();
            }
            Request::SetIpFilter(source, reply) => {
                let context = Rc::clone(context);
                spawn_local(async move { reply.send(ip_filter::replace(&context, source).await) });
            }
            Request::Stop => {
                mappings.stop();
                let stops: Vec<_> = registry
                    .all()
                    .into_iter()
                    .map(|torrent| spawn_local(async move { torrent.stop().await }))
                    .collect();
                for stop in stops {
                    let _ = stop.await;
                }
                services::save_dht(context).await;
                context.tell_blocked(true);
                mappings.ended().await;
                return;
            }
        }
    }
}

fn add(context: &Rc<Context>, registry: &Arc<Registry>, torrent: AddTorrent) -> Result<TorrentHandle, Error> {
    let id = registry.next_id();
    registry.claim(torrent.source.info_hashes(), id)?;
    let handle = opening::spawn(Rc::clone(context), id, torrent, registry);
    registry.insert(handle.clone());
    Ok(handle)
}
