//! Options of a session and of a torrent.

/// Methods of a builder that set the field of their name.
macro_rules! setters {
    ($($(#[$meta:meta])* $field:ident($value:ident: $type:ty);)*) => {
        $(
            $(#[$meta])*
            pub fn $field(mut self, $value: $type) -> Self {
                self.$field = $value.into();
                self
            }
        )*
    };
}

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
use swarm_core::proxy::{Proxy, ProxyKind};

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

    setters! {
        /// The network device that every socket is bound to (Linux only).
        bind_device(device: impl Into<Option<String>>);

        /// Payload sent to peers, all torrents together, in bytes/s.
        upload_limit(bytes_per_s: impl Into<Option<u64>>);

        /// Payload received from peers, all torrents together, in bytes/s.
        download_limit(bytes_per_s: impl Into<Option<u64>>);

        /// Connections, all torrents together: 500 unless given.
        peers_max(count: usize);

        /// Connections being made, all torrents together: 128 unless given, since most addresses may be silent.
        half_open_max(count: usize);

        /// Memory for received blocks that are not yet written, in bytes, all torrents together: 32 MiB unless given. What does not fit
        /// waits in the sockets, or in a part file if pieces are larger than this.
        buffer_bytes(bytes: usize);

        /// How many threads hash, read and write for transfers, and how many check what is on disk; with one more than that for both. 0, the
        /// default: one for each core.
        workers(threads: usize);

        /// The DHT, which finds peers without a tracker (BEP 5). `None`: the session takes no part in it.
        dht(dht: impl Into<Option<DhtOptions>>);

        /// Whether torrents that are not private are announced to the local network, and looked for there (BEP 14). Unless given, they are
        /// if the session listens on more than loopback.
        lsd(on: bool);

        /// Whether peers of torrents that are not private tell each other of peers (PEX, BEP 11).
        pex(on: bool);

        /// Whether peers are dialled and accepted over TCP: they are, unless given.
        tcp(on: bool);

        /// Whether peers are dialled and accepted over uTP (BEP 29), on the UDP ports of the addresses that the session listens on: they
        /// are, unless given or the session has a [`proxy`](Self::proxy). uTP gives way to what else is on the line.
        utp(on: bool);

        /// When connections to peers are encrypted (MSE): where nothing else works, unless given.
        encryption(encryption: Encryption);

        /// Whether the gateway is asked to pass on what comes for the session's port, by PCP, NAT-PMP or UPnP: on unless given. A session that
        /// listens on loopback only asks nobody.
        port_mapping(on: bool);

        /// Where the gateway is, which may be on loopback. No UPnP then.
        #[cfg(feature = "__hooks")]
        #[doc(hidden)]
        gateway(gateway: impl Into<Option<SocketAddr>>);

        /// Addresses that nothing is exchanged with: no peers, nodes of the DHT or trackers, whoever names them. A file is looked at every
        /// ten seconds, and read again when it has changed; if that goes wrong, the old filter stays, and a warning tells of it.
        ip_filter(filter: impl Into<Option<IpFilterSource>>);

        /// How often the file of the IP filter is looked at.
        #[cfg(feature = "__hooks")]
        #[doc(hidden)]
        ip_filter_interval(interval: Duration);
    }

    /// Where the state that makes restarts quick is kept. Without it complete data is checked at each start.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> SessionOptions {
        self.state_dir = Some(dir.into());
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

/// What a session was told, for those who show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionFacts {
    /// Connections, all torrents together.
    pub peers_max: usize,
    /// Whether it takes part in the DHT.
    pub dht: bool,
    /// Whether torrents are announced to the local network.
    pub lsd: bool,
    /// Whether peers tell each other of peers.
    pub pex: bool,
    /// Whether peers are dialled and accepted over TCP.
    pub tcp: bool,
    /// The same over uTP.
    pub utp: bool,
    /// When connections to peers are encrypted.
    pub encryption: Encryption,
    /// Whether the gateway is asked to pass on what comes for its port.
    pub port_mapping: bool,
    /// Whether there are addresses that nothing is exchanged with.
    pub ip_filter: bool,
    /// What the proxy speaks, if everything goes through one.
    pub proxy: Option<ProxyKind>,
}

impl SessionOptions {
    /// What of this others may want to show.
    pub fn facts(&self) -> SessionFacts {
        SessionFacts {
            peers_max: self.peers_max,
            dht: self.dht.is_some(),
            lsd: self.has_lsd(),
            pex: self.pex,
            tcp: self.tcp,
            utp: self.utp && self.proxy.is_none(),
            encryption: self.encryption,
            port_mapping: self.port_mapping && self.proxy.is_none(),
            ip_filter: self.ip_filter.is_some(),
            proxy: self.proxy.as_ref().map(ProxyHost::kind),
        }
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
