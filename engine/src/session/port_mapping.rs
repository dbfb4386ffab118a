//! The session's port at the gateway: [`swarm_core::port_mapping`] on a socket, and what is told to trackers, the DHT and peers
//! when the world sees us at another port.

use super::context::Context;
use super::event::Event;
use crate::net::gateway::{self, default_gateway, device_of};
use crate::net::socket::{Binding, route};
use crate::upnp::{Done, UpnpPort};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_core::port_mapping::{
    Action, DATAGRAM_LEN_MAX, Event as MapperEvent, GATEWAY_PORT, Mapping, PortMapper, Route, Transport,
};
use swarm_core::time::Time;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_local};

/// How often the system is asked where the gateway is.
const ROUTE_INTERVAL: Duration = Duration::from_secs(15);

/// Where UPnP searches. Nothing is sent there from here.
const SEARCHED: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// What keeps the session's ports mapped.
pub(super) struct PortMappings {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl PortMappings {
    /// Has the gateway pass on what comes for the port that the session listens on, over TCP if it takes that, and over UDP if it
    /// hears that there.
    pub(super) fn start(context: &Rc<Context>) -> PortMappings {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        if let Some(ours) = context.mapped_from() {
            let is_ours = |addr: SocketAddr| addr.is_ipv4() && addr.port() == ours.port();
            let has_utp = context.utps.borrow().iter().any(|utp| utp.local_addr().is_some_and(is_ours));
            let has_dht = context.dht.borrow().iter().any(|dht| dht.port(Family::V4) == Some(ours.port()));
            let udp = has_utp || has_dht;
            let tcp = context.options.tcp;
            for transport in
                [tcp.then_some(Transport::Tcp), udp.then_some(Transport::Udp)].into_iter().flatten()
            {
                let port = Port::new(Rc::clone(context), ours, transport);
                tasks.push(spawn_local(port.keep(stopped.clone())));
            }
        }
        PortMappings { stop, tasks }
    }

    /// Takes the mappings away.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until they are gone, or the gateway has had its time.
    pub(super) async fn ended(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Where the gateway is, and the way there.
struct Way {
    socket: Option<UdpSocket>,
    gateway: Option<SocketAddr>,
    route: Route,
}

/// One port and transport.
struct Port {
    context: Rc<Context>,
    ours: SocketAddr,
    transport: Transport,
}

impl Port {
    fn new(context: Rc<Context>, ours: SocketAddr, transport: Transport) -> Port {
        Port { context, ours, transport }
    }

    /// Where the gateway is now.
    fn gateway(&self) -> Option<SocketAddr> {
        if let Some(gateway) = self.context.options.gateway {
            return Some(gateway);
        }
        let device = self.context.binding.device.clone();
        let chosen = Some(self.ours.ip()).filter(|ip| !ip.is_unspecified());
        let device = device.or_else(|| chosen.and_then(device_of));
        default_gateway(device.as_deref()).map(|ip| SocketAddr::from((ip, GATEWAY_PORT)))
    }

    fn way(&self) -> Way {
        let gateway = self.gateway();
        let binding = Binding { listen: vec![self.ours], ..self.context.binding.clone() };
        let socket = gateway.and_then(|gateway| gateway::connect(gateway, &binding).ok());
        let from = socket.as_ref().and_then(|socket| socket.local_addr().ok()).map(|addr| addr.ip());
        let chosen = Some(self.ours.ip()).filter(|ip| !ip.is_unspecified());
        let device = self.context.binding.device.as_deref();
        let client = match from.or(chosen).or_else(|| route(SEARCHED.into(), device)) {
            Some(IpAddr::V4(ip)) => ip,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        // The library for UPnP leaves the way to the system: it must be the one that was chosen.
        let usual = route(gateway.map_or(SEARCHED.into(), |gateway| gateway.ip()), None);
        let upnp = self.context.options.gateway.is_none()
            && !client.is_unspecified()
            && usual.is_none_or(|usual| usual == IpAddr::from(client));
        let route = Route { has_gateway: socket.is_some(), client, upnp };
        Way { socket, gateway, route }
    }

    async fn keep(self, mut stopped: watch::Receiver<bool>) {
        let (port, rng) = (self.ours.port(), self.context.rng.borrow_mut().fork());
        let mut way = self.way();
        let mut mapper = PortMapper::new(self.context.now(), self.transport, port, way.route, rng);
        let (asks, done) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (asks, mut done) = (self.start_upnp(asks, done.0, stopped.clone()), done.1);
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        let mut look_at = tokio::time::Instant::now() + ROUTE_INTERVAL;
        loop {
            while let Some(action) = mapper.poll_action() {
                match action {
                    Action::Send(datagram) => {
                        let sent = match &way.socket {
                            Some(socket) => socket.send(&datagram).await.map(drop),
                            None => Ok(()),
                        };
                        note(&mut mapper, self.context.now(), sent);
                    }
                    Action::Upnp(what) => drop(asks.send((way.route.client, what))),
                }
            }
            while let Some(event) = mapper.poll_event() {
                self.on_event(event);
            }
            if mapper.is_stopped() {
                return;
            }
            let deadline = self.context.instant(mapper.poll_timeout().unwrap_or(Time::MAX));
            tokio::select! {
                received = receive(way.socket.as_ref(), &mut buffer) => {
                    let now = self.context.now();
                    match received {
                        Ok(len) => mapper.handle_datagram(now, &buffer[..len]),
                        Err(error) => note(&mut mapper, now, Err(error)),
                    }
                }
                Some(done) = done.recv() => match done {
                    Done::Mapped(outcome) => mapper.handle_upnp(self.context.now(), outcome),
                    Done::Removed => mapper.handle_upnp_removed(),
                },
                () = tokio::time::sleep_until(deadline) => mapper.handle_timeout(self.context.now()),
                () = tokio::time::sleep_until(look_at) => {
                    look_at += ROUTE_INTERVAL;
                    if !*stopped.borrow() {
                        let now = self.way();
                        if (now.gateway, now.route) != (way.gateway, way.route) {
                            way = now;
                            mapper.handle_route(self.context.now(), way.route);
                        }
                    }
                }
                _ = stopped.changed() => mapper.handle_stop(self.context.now()),
            }
        }
    }

    /// What the library is asked goes to a task of its own, one thing after the other.
    fn start_upnp(
        &self,
        (asks, mut asked): Asks,
        done: mpsc::UnboundedSender<Done>,
        stopped: watch::Receiver<bool>,
    ) -> mpsc::UnboundedSender<Ask> {
        let (port, transport) = (self.ours.port(), self.transport);
        spawn_local(async move {
            let mut at: Option<(Ipv4Addr, UpnpPort)> = None;
            while let Some((client, what)) = asked.recv().await {
                let (_, port) = match at.take() {
                    Some(same) if same.0 == client => at.insert(same),
                    _ => at.insert((client, UpnpPort::new(client, port, transport, stopped.clone()))),
                };
                if done.send(port.run(what).await).is_err() {
                    return;
                }
            }
        });
        asks
    }

    fn on_event(&self, event: MapperEvent) {
        let (transport, port) = (self.transport, self.ours.port());
        match event {
            MapperEvent::Mapped(mapping) => {
                let Mapping { method, ip, port: external_port } = mapping;
                tracing::info!(%transport, port, %method, ?ip, external_port, "the port is mapped");
                let ip = ip.map(IpAddr::from);
                self.context.emit(Event::PortMapped { transport, port, method, ip, external_port });
                self.tell(Some(external_port));
            }
            MapperEvent::Lost(trouble) => self.on_trouble(trouble.to_string()),
            MapperEvent::Failed(troubles) => {
                let troubles: Vec<String> =
                    troubles.iter().map(|(method, trouble)| format!("{method}: {trouble}")).collect();
                self.on_trouble(troubles.join("; "));
            }
        }
    }

    fn on_trouble(&self, reason: String) {
        let (transport, port) = (self.transport, self.ours.port());
        tracing::info!(%transport, port, %reason, "the port is not mapped");
        self.context.emit(Event::PortNotMapped { transport, port, reason });
        self.tell(None);
    }

    /// Tells trackers, the DHT and peers where the world reaches us.
    fn tell(&self, external_port: Option<u16>) {
        if self.transport == Transport::Udp {
            self.context.mapped_udp_port.set(external_port);
        }
        // One port is told for both. Without TCP it is that of uTP.
        let is_told = self.transport == Transport::Tcp || !self.context.options.tcp;
        if is_told && self.context.mapped_port.replace(external_port) != external_port {
            let ours = external_port.unwrap_or(self.ours.port());
            self.context
                .torrents
                .all()
                .into_iter()
                .for_each(|torrent| torrent.port_mapped(external_port, ours));
            if let Some(dht) = &*self.context.dht.borrow() {
                dht.port_mapped(self.ours, external_port);
            }
        }
    }
}

type Ask = (Ipv4Addr, swarm_core::port_mapping::Upnp);
type Asks = (mpsc::UnboundedSender<Ask>, mpsc::UnboundedReceiver<Ask>);

/// What the system says about a datagram.
fn note(mapper: &mut PortMapper, now: Time, outcome: io::Result<()>) {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => mapper.handle_unreachable(now),
        Err(error) => tracing::debug!(%error, "no way to the gateway"),
        Ok(()) => {}
    }
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}

impl Context {
    /// The address whose port is to be mapped. With a proxy the world is not to reach us past it.
    fn mapped_from(&self) -> Option<SocketAddr> {
        let is_tested = self.options.gateway.is_some();
        let is_wanted = self.options.port_mapping && self.binding.proxy.is_none();
        is_wanted.then(|| to_map(&self.listening, is_tested)).flatten()
    }
}

/// The first address of IPv4 that others may reach.
fn to_map(listening: &[SocketAddr], with_loopback: bool) -> Option<SocketAddr> {
    let mut ours = listening.iter().copied();
    ours.find(|addr| addr.is_ipv4() && (with_loopback || !addr.ip().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_a_port_of_loopback() {
        let of = |text: &[&str]| {
            let listening: Vec<SocketAddr> = text.iter().map(|addr| addr.parse().unwrap()).collect();
            to_map(&listening, false).map(|addr| addr.to_string())
        };
        assert_eq!(of(&["127.0.0.1:6881", "[::1]:6881", "[::]:6881"]), None);
        assert_eq!(of(&["127.0.0.1:6881", "192.168.0.2:6882"]).as_deref(), Some("192.168.0.2:6882"));
        assert_eq!(of(&["[::]:6881", "0.0.0.0:6881"]).as_deref(), Some("0.0.0.0:6881"));
    }
}
