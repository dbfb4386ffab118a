//! Mapping one port by UPnP, through `igd-next`. What to ask for, and when, is [`swarm_core::port_mapping`]'s to say.
//!
//! The library searches from our address, takes a device only where it answers from, and bounds what it reads and how long it
//! waits. Its HTTP goes out as the system likes: whoever binds to another way must not use it.

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, GatewayIpVersion, PortMappingProtocol, SearchError, SearchOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use swarm_core::port_mapping::{Transport, Trouble, Upnp, UpnpError};
use tokio::sync::watch;

/// How long devices may take to answer the search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// What the gateway's own pages call the mapping.
const DESCRIPTION: &str = "Swarm";
/// Bytes of a gateway's words that are passed on.
const TEXT_LEN_MAX: usize = 80;

/// One port, and the device that maps it.
pub(crate) struct UpnpPort {
    client: SocketAddr,
    protocol: PortMappingProtocol,
    gateway: Option<Gateway<Tokio>>,
    /// Whether it is over: then no device is searched for.
    stopped: watch::Receiver<bool>,
}

/// What has come of a request.
pub(crate) enum Done {
    Mapped(Result<(u16, Option<IpAddr>), UpnpError>),
    Removed,
}

impl UpnpPort {
    /// A port of ours, on this address.
    pub(crate) fn new(
        client: Ipv4Addr,
        port: u16,
        transport: Transport,
        stopped: watch::Receiver<bool>,
    ) -> UpnpPort {
        let protocol = match transport {
            Transport::Tcp => PortMappingProtocol::TCP,
            Transport::Udp => PortMappingProtocol::UDP,
        };
        UpnpPort { client: (client, port).into(), protocol, gateway: None, stopped }
    }

    /// Does what is to be done.
    pub(crate) async fn run(&mut self, what: Upnp) -> Done {
        match what {
            Upnp::Map { external_port, lifetime_s } => {
                let mapped = self.map(external_port, lifetime_s).await;
                if matches!(mapped, Err(UpnpError::Other(_))) {
                    // Next time it may be another.
                    self.gateway = None;
                }
                Done::Mapped(mapped)
            }
            Upnp::Remove { external_port } => {
                if let Some(gateway) = &self.gateway
                    && let Err(error) = gateway.remove_port(self.protocol, external_port).await
                {
                    tracing::debug!(%error, external_port, "UPnP: the mapping stays");
                }
                Done::Removed
            }
        }
    }

    async fn map(&mut self, external_port: u16, lifetime_s: u32) -> Result<(u16, Option<IpAddr>), UpnpError> {
        let gateway = match self.gateway.take() {
            Some(gateway) => gateway,
            None => self.search().await.map_err(UpnpError::Other)?,
        };
        let gateway = self.gateway.insert(gateway);
        let added = gateway.add_port(self.protocol, external_port, self.client, lifetime_s, DESCRIPTION);
        added.await.map_err(|error| match error {
            AddPortError::PortInUse => UpnpError::Conflict,
            AddPortError::OnlyPermanentLeasesSupported => UpnpError::PermanentOnly,
            AddPortError::ActionNotAuthorized => {
                UpnpError::Other(Trouble::Refused("not authorized".to_owned()))
            }
            error => UpnpError::Other(Trouble::Refused(shortened(&error.to_string()))),
        })?;
        // Without it the port is mapped all the same.
        Ok((external_port, gateway.get_external_ip().await.ok()))
    }

    async fn search(&self) -> Result<Gateway<Tokio>, Trouble> {
        let mut stopped = self.stopped.clone();
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::new(self.client.ip(), 0);
        options.timeout = Some(SEARCH_TIMEOUT);
        options.single_search_timeout = Some(SEARCH_TIMEOUT);
        options.gateway_ip_version = GatewayIpVersion::V4;
        let found = tokio::select! {
            biased;
            _ = stopped.wait_for(|&is_stopped| is_stopped) => return Err(Trouble::Silent),
            found = search_gateway(options) => found,
        };
        found.map_err(|error| match error {
            SearchError::NoResponseWithinTimeout => Trouble::Silent,
            SearchError::IoError(_) => Trouble::Unreachable,
            _ => Trouble::Nonsense,
        })
    }
}

/// What a gateway says may be anything.
fn shortened(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= TEXT_LEN_MAX).last().unwrap_or(0);
    if text.len() <= TEXT_LEN_MAX { text } else { format!("{}…", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_a_search() {
        let (stop, stopped) = watch::channel(false);
        let mut port = UpnpPort::new(Ipv4Addr::LOCALHOST, 6_881, Transport::Tcp, stopped);
        stop.send_replace(true);
        let began = tokio::time::Instant::now();
        port.run(Upnp::Map { external_port: 6_881, lifetime_s: 60 }).await;
        assert!(matches!(port.run(Upnp::Remove { external_port: 6_881 }).await, Done::Removed));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
