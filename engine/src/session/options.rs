//! Options of a session and of a torrent.

mod torrent;

pub use self::torrent::{AddTorrent, Files, Mode, Source};

use crate::error::OptionError;
use crate::ip_filter::IpFilterSource;
pub use crate::net::socket::LISTEN_PORT_FIRST;
use crate::net::socket::{Binding, ProxyHost};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use swarm_core::mse::Encryption;
use swarm_core::proxy::Proxy;

/// How a session behaves. The default is what `swarm get` does: it listens on all interfaces, takes part in the DHT and in local
/// service discovery, exchanges peers, and keeps no state.
///
/// ```
/// use swarm_engine::SessionOptions;
/// let options = SessionOptions::new().upload_limit(10_000_000).state_dir("state");
/// ```
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) bind_device: Option<String>,
    pub(crate) upload_limit: Option<u64>,
    pub(crate) download_limit: Option<u64>,
    pub(crate) peers_max: usize,
    pub(crate) half_open_max: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) workers: usize,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) dht: Option<DhtOptions>,
    pub(crate) lsd: Option<bool>,
    pub(crate) pex: bool,
    pub(crate) tcp: bool,
    pub(crate) utp: bool,
    pub(crate) encryption: Encryption,
    proxy: Option<ProxyHost>,
    pub(crate) seed: Option<u64>,
    pub(crate) port_mapping: bool,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) ip_filter: Option<IpFilterSource>,
    pub(crate) ip_filter_interval: Duration,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions::new()
    }
}

impl SessionOptions {
    /// The default.
    pub fn new() -> SessionOptions {
        SessionOptions {
            listen: Vec::new(),
            bind_device: None,
            upload_limit: None,
            download_limit: None,
            peers_max: 500,
            half_open_max: 128,
            buffer_bytes: 32 * 1024 * 1024,
            workers: 0,
            state_dir: None,
            dht: Some(DhtOptions::default()),
            lsd: None,
            pex: true,
            tcp: true,
            utp: true,
            encryption: Encryption::default(),
            proxy: None,
            seed: None,
            port_mapping: true,
            gateway: None,
            ip_filter: None,
            ip_filter_interval: Duration::from_secs(10),
        }
    }

    /// Where to listen. Empty: every interface, IPv4 and IPv6, on the first free port from [`LISTEN_PORT_FIRST`] up. With an address
    /// that is not unspecified, outgoing connections also leave from it. Port 0 lets the system choose.
    pub fn listen(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> SessionOptions {
        self.listen = addrs.into_iter().collect();
        self
    }

    /// The network device that every socket is bound to (Linux only).
    pub fn bind_device(mut self, device: impl Into<Option<String>>) -> SessionOptions {
        self.bind_device = device.into();
        self
    }

    /// Payload sent to peers, all torrents together, in bytes/s.
    pub fn upload_limit(mut self, bytes_per_s: impl Into<Option<u64>>) -> SessionOptions {
        self.upload_limit = bytes_per_s.into();
        self
    }

    /// Payload received from peers, all torrents together, in bytes/s.
    pub fn download_limit(mut self, bytes_per_s: impl Into<Option<u64>>) -> SessionOptions {
        self.download_limit = bytes_per_s.into();
        self
    }

    /// Connections, all torrents together: 500 unless given.
    pub fn peers_max(mut self, count: usize) -> SessionOptions {
        self.peers_max = count;
        self
    }

    /// Connections being made, all torrents together: 128 unless given, since most addresses may be silent.
    pub fn half_open_max(mut self, count: usize) -> SessionOptions {
        self.half_open_max = count;
        self
    }

    /// Memory for received blocks that are not yet written, in bytes, all torrents together: 32 MiB unless given. What does not fit
    /// waits in the sockets, or in a part file if pieces are larger than this.
    pub fn buffer_bytes(mut self, bytes: usize) -> SessionOptions {
        self.buffer_bytes = bytes;
        self
    }

    /// Threads that hash, read and write. 0, the default: one for each core.
    pub fn workers(mut self, threads: usize) -> SessionOptions {
        self.workers = threads;
        self
    }

    /// Where the state that makes restarts quick is kept. Without it complete data is checked at each start.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> SessionOptions {
        self.state_dir = Some(dir.into());
        self
    }

    /// The DHT, which finds peers without a tracker (BEP 5). `None`: the session takes no part in it.
    pub fn dht(mut self, dht: impl Into<Option<DhtOptions>>) -> SessionOptions {
        self.dht = dht.into();
        self
    }

    /// Whether torrents that are not private are announced to the local network, and looked for there (BEP 14). Unless given, they are
    /// if the session listens on more than loopback.
    pub fn lsd(mut self, on: bool) -> SessionOptions {
        self.lsd = Some(on);
        self
    }

    /// Whether peers of torrents that are not private tell each other of peers (PEX, BEP 11).
    pub fn pex(mut self, on: bool) -> SessionOptions {
        self.pex = on;
        self
    }

    /// Whether peers are dialled and accepted over TCP: they are, unless given.
    pub fn tcp(mut self, on: bool) -> SessionOptions {
        self.tcp = on;
        self
    }

    /// Whether peers are dialled and accepted over uTP (BEP 29), on the UDP ports of the addresses that the session listens on: they
    /// are, unless given or the session has a [`proxy`](Self::proxy). uTP gives way to what else is on the line.
    pub fn utp(mut self, on: bool) -> SessionOptions {
        self.utp = on;
        self
    }

    /// When connections to peers are encrypted (MSE): where nothing else works, unless given.
    pub fn encryption(mut self, encryption: Encryption) -> SessionOptions {
        self.encryption = encryption;
        self
    }

    /// A proxy, through which everything goes and nothing another way: if it is gone, nothing goes. It looks up the names of hosts. The
    /// session then takes no part in local service discovery, asks no gateway for a port, has no uTP, tells nobody its addresses, and
    /// listens only where [`listen`](Self::listen) says, since a proxy brings nobody to us. Over HTTP proxies, and over SOCKS5 proxies that
    /// refuse to relay datagrams, there is no DHT and no UDP tracker. Of hosts that the proxy looks up the IP filter does not know the
    /// addresses.
    ///
    /// ```
    /// use swarm_engine::{Proxy, SessionOptions};
    /// let proxy: Proxy = "socks5://127.0.0.1:9050".parse()?;
    /// let options = SessionOptions::new().proxy(proxy);
    /// # Ok::<(), swarm_engine::ProxyUrlError>(())
    /// ```
    pub fn proxy(mut self, proxy: impl Into<Option<Proxy>>) -> SessionOptions {
        self.proxy = proxy.into().map(ProxyHost::new);
        self
    }

    /// Determines every random choice of the protocol, but for the keys and pads of encrypted handshakes.
    pub fn random_seed(mut self, seed: u64) -> SessionOptions {
        self.seed = Some(seed);
        self
    }

    /// Whether the gateway is asked to pass on what comes for the session's port, by PCP, NAT-PMP or UPnP: on unless given. A session that
    /// listens on loopback only asks nobody.
    pub fn port_mapping(mut self, on: bool) -> SessionOptions {
        self.port_mapping = on;
        self
    }

    /// Where the gateway is, which may be on loopback. No UPnP then.
    #[cfg(feature = "__hooks")]
    #[doc(hidden)]
    pub fn gateway(mut self, gateway: impl Into<Option<SocketAddr>>) -> SessionOptions {
        self.gateway = gateway.into();
        self
    }

    /// Addresses that nothing is exchanged with: no peers, nodes of the DHT or trackers, whoever names them. A file is looked at every
    /// ten seconds, and read again when it has changed; if that goes wrong, the old filter stays, and a warning tells of it.
    pub fn ip_filter(mut self, filter: impl Into<Option<IpFilterSource>>) -> SessionOptions {
        self.ip_filter = filter.into();
        self
    }

    /// How often the file of the IP filter is looked at.
    #[cfg(feature = "__hooks")]
    #[doc(hidden)]
    pub fn ip_filter_interval(mut self, interval: Duration) -> SessionOptions {
        self.ip_filter_interval = interval;
        self
    }

    pub(crate) fn has_lsd(&self) -> bool {
        let is_local = !self.listen.is_empty() && self.listen.iter().all(|addr| addr.ip().is_loopback());
        self.lsd.unwrap_or(!is_local) && self.proxy.is_none()
    }

    pub(crate) fn validate(&self) -> Result<(), OptionError> {
        let is_past_proxy = self.proxy.as_ref().is_some_and(|proxy| !proxy.carries_datagrams());
        if !self.tcp && (!self.utp || is_past_proxy) {
            return Err(OptionError::NoTransport);
        }
        let counts = [
            ("peers_max", self.peers_max),
            ("half_open_max", self.half_open_max),
            ("buffer_bytes", self.buffer_bytes),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            Some((option, _)) => Err(OptionError::Zero { option }),
            None => Ok(()),
        }
    }

    /// What the session's sockets are bound to.
    pub(super) fn binding(&self) -> Binding {
        let (listen, device) = (self.listen.clone(), self.bind_device.clone());
        Binding { listen, device, proxy: self.proxy.clone() }
    }
}

/// A session's node of the DHT. It listens on the session's addresses, over UDP.
#[derive(Clone, Debug, Default)]
pub struct DhtOptions {
    pub(crate) bootstrap: Vec<String>,
}

impl DhtOptions {
    /// Nodes to start from, as `HOST:PORT`. Empty: [`PUBLIC_NODES`](crate::dht::PUBLIC_NODES), unless the session listens on loopback
    /// only.
    pub fn bootstrap(nodes: impl IntoIterator<Item = impl Into<String>>) -> DhtOptions {
        DhtOptions { bootstrap: nodes.into_iter().map(Into::into).collect() }
    }
}
