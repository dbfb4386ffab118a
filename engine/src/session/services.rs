//! What runs beside the torrents of a session: uTP, the DHT, local discovery, and the watch on our own addresses.

use super::accept::Incoming;
use super::context::Context;
use super::dht::SessionDht;
use super::filter_state::What;
use super::lsd::SessionLsd;
use super::shares::UNFINISHED_MAX;
use crate::Error;
use crate::dht::{Dht, PUBLIC_NODES, Saved};
use crate::hash::Lane;
use crate::net::socket::route;
use crate::net::udp::UdpPort;
use crate::net::utp::{Utp, UtpStream};
use crate::net::utp_port::UtpPort;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use swarm_core::dht::MutableTorrentLink;
use swarm_core::id::InfoHash;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

/// How often the known nodes are saved, beside when the session stops.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);
/// How often the system is asked for our addresses.
const WATCH_INTERVAL: Duration = Duration::from_secs(15);

/// Finds out which torrent the link of a mutable torrent stands for now.
pub(super) async fn resolve(context: &Context, link: &MutableTorrentLink) -> Result<InfoHash, Error> {
    let dht = context.dht.borrow().clone();
    dht.ok_or(Error::NoDht)?.resolve(link).await
}

/// The same, unless nobody waits for it any more.
pub(super) async fn resolve_for(
    context: Rc<Context>,
    link: MutableTorrentLink,
    mut reply: oneshot::Sender<Result<InfoHash, Error>>,
) {
    let found = tokio::select! {
        found = resolve(&context, &link) => found,
        () = reply.closed() => return,
    };
    let _ = reply.send(found);
}

/// Where the node's ids and the nodes that it knows are kept between sessions.
fn saved_in(context: &Context) -> Option<PathBuf> {
    Some(context.options.state_dir.as_ref()?.join("dht-nodes"))
}

/// Joins by the nodes that are given and by those that were known last time; then saves the known ones now and then.
async fn join_dht(context: &Context, ours: &SessionDht, mut hosts: Vec<String>) {
    if let Some(file) = saved_in(context)
        && let Ok(Ok(saved)) = context.on_worker(Lane::Check, move || Saved::read(&file)).await
    {
        ours.dhts.iter().for_each(|dht| dht.resume(&saved));
        hosts.extend(saved.hosts());
    }
    ours.join(&hosts).await;
    // What was announced before has found nobody to ask.
    ours.hasten_all();
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        save_dht(context).await;
    }
}

/// Saves the nodes that are known.
pub(super) async fn save_dht(context: &Context) {
    let (Some(ours), Some(file)) = (context.dht.borrow().clone(), saved_in(context)) else { return };
    let state = Saved::of(&ours.dhts);
    let name = file.display().to_string();
    let save = move || {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        state.write(&file)
    };
    if let Ok(Err(error)) = context.on_worker(Lane::Transfer, save).await {
        tracing::warn!(file = name, %error, "cannot save the nodes of the DHT");
    }
}

/// Opens a UDP port for each address that the session listens on, for uTP and the DHT, and has uTP serve them; none without uTP. With a
/// proxy uTP goes through that, and has no port of ours.
pub(super) fn start_utp(context: &Rc<Context>, incoming: &Rc<Incoming>) -> Vec<Rc<UdpPort>> {
    if !context.options.utp {
        return Vec::new();
    }
    let (accepted, arrivals) = mpsc::unbounded_channel();
    let mut ports = Vec::new();
    match &context.binding.proxy {
        Some(proxy) if proxy.carries_datagrams() => {
            let started = serve_utp(context, UtpPort::relayed(&context.binding), &accepted, |_, _| {});
            if let Err(error) = started {
                tracing::warn!(%error, "no uTP through the proxy");
            }
        }
        Some(_) => {}
        None => {
            for addr in &context.listening {
                let opened = UdpPort::open(*addr, &context.binding).map(Rc::new).and_then(|port| {
                    let (for_dht, its) = (Rc::clone(context), Rc::clone(&port));
                    serve_utp(
                        context,
                        UtpPort::Direct(Rc::clone(&port)),
                        &accepted,
                        move |from, datagram| {
                            if let Some(ours) = &*for_dht.dht.borrow() {
                                ours.dhts.iter().for_each(|dht| dht.handle_datagram(&its, from, datagram));
                            }
                        },
                    )?;
                    Ok(port)
                });
                match opened {
                    Ok(port) => ports.push(port),
                    Err(error) => tracing::warn!(%addr, %error, "no socket for uTP"),
                }
            }
        }
    }
    spawn_local(Rc::clone(incoming).accept_utp(arrivals));
    ports
}

/// Has uTP serve a port; datagrams of others go to `other`.
fn serve_utp(
    context: &Rc<Context>,
    port: UtpPort,
    accepted: &mpsc::UnboundedSender<UtpStream>,
    other: impl Fn(SocketAddr, &[u8]) + 'static,
) -> io::Result<()> {
    let rng = context.rng.borrow_mut().fork();
    let connections_max = context.options.peers_max + context.options.half_open_max + UNFINISHED_MAX;
    let utp = Rc::new(Utp::new(port, context.clock, connections_max, rng, accepted.clone())?);
    utp.set_ip_filter(context.peer_filter());
    context.utps.borrow_mut().push(Rc::clone(&utp));
    let context = Rc::clone(context);
    spawn_local(utp.run(other, move |times| context.on_blocked(What::Incoming, times)));
    Ok(())
}

/// Runs the session's node, if it is to have one, on the ports that are there already, or on ports of its own.
pub(super) fn start_dht(context: &Rc<Context>, ports: &[Rc<UdpPort>]) {
    let Some(options) = &context.options.dht else { return };
    if context.binding.proxy.as_ref().is_some_and(|proxy| !proxy.carries_datagrams()) {
        return tracing::info!("no DHT: the proxy carries no datagrams");
    }
    let opened = match ports {
        [] => Dht::open_all_by(&context.listening, &context.binding, false),
        ports => Dht::on_all(ports, &context.binding),
    };
    let dhts = match opened {
        Ok(dhts) => dhts,
        Err(error) => return tracing::warn!(%error, "no socket for the DHT"),
    };
    let mut hosts = options.bootstrap.clone();
    if hosts.is_empty() && !dhts.iter().all(Dht::is_local) {
        hosts.extend(PUBLIC_NODES.map(str::to_owned));
    }
    let ours = Rc::new(SessionDht::new(dhts, Rc::clone(&context.torrents), context.listening.clone()));
    for dht in &ours.dhts {
        dht.set_ip_filter(context.ip_filter());
    }
    *context.dht.borrow_mut() = Some(Rc::clone(&ours));
    for nth in 0..ours.dhts.len() {
        let ours = Rc::clone(&ours);
        spawn_local(async move { ours.dhts[nth].run(|event| ours.on_event(nth, event)).await });
    }
    let (joining, state) = (Rc::clone(&ours), Rc::clone(context));
    spawn_local(async move { join_dht(&state, &joining, hosts).await });
    spawn_local(async move { ours.announce_all().await });
}

/// Takes part in local service discovery, if the session is to.
pub(super) fn start_lsd(context: &Rc<Context>) {
    if !context.options.has_lsd() {
        return;
    }
    let (device, torrents) = (context.binding.device.as_deref(), Rc::clone(&context.torrents));
    let cookie = context.rng.borrow_mut().next_u64();
    let lsd = SessionLsd::open(&context.listening, device, context.clock, torrents, cookie).map(Rc::new);
    lsd.iter().for_each(SessionLsd::start);
    *context.lsd.borrow_mut() = lsd;
}

/// Watches our addresses for as long as the session lives.
pub(super) async fn watch_addresses(context: Rc<Context>) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let device = context.binding.device.as_deref();
        if context.routes.borrow_mut().have_changed(|to| route(to, device)) {
            tracing::info!("our address has changed");
            context.udp_trackers.forget();
            context.torrents.all().iter().for_each(|torrent| torrent.addresses_changed());
        }
    }
}
