//! The options of commands that talk to peers, and the session that they ask for.

use crate::exit::{Exit, Failure};
use crate::proxy::ProxyArgs;
use crate::units;
use clap::{Args, ValueEnum, ValueHint};
use std::io::ErrorKind::AddrInUse;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use swarm_engine::{AddTorrent, DhtOptions, Encryption, Error, IpFilterSource, Session, SessionOptions};
use url::{Host, Url};

/// Network options of `seed`, `get`, `show --fetch` and `create --seed`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network options")]
pub struct NetworkArgs {
    /// Listen on this address and port; repeatable. Default: all interfaces, the first free port from 6881
    ///
    /// Port 0 lets the system choose; the `listening` event of --json has its choice. Outgoing connections
    /// use the address too, unless it is `0.0.0.0` or `[::]`.
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    pub listen: Vec<SocketAddr>,

    /// Connect to this peer; repeatable
    #[arg(long = "peer", value_name = "ADDR:PORT", value_parser = parse_peer)]
    pub peers: Vec<SocketAddr>,

    /// Announce to this tracker too, in a tier of its own; repeatable
    #[arg(long = "tracker", value_name = "URL", value_parser = parse_tracker)]
    pub trackers: Vec<String>,

    /// Ignore the trackers of the metainfo or magnet link
    #[arg(long)]
    pub no_tracker: bool,

    /// Disable the DHT
    #[arg(long)]
    pub no_dht: bool,

    /// Bootstrap the DHT from this node; repeatable. Default: public nodes, unless --listen is loopback only
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_bootstrap, conflicts_with = "no_dht")]
    pub dht_bootstrap: Vec<String>,

    /// Disable local service discovery (LSD)
    ///
    /// With --listen on loopback only, it is disabled anyway.
    #[arg(long)]
    pub no_lsd: bool,

    /// Disable peer exchange (PEX)
    #[arg(long)]
    pub no_pex: bool,

    /// Do not ask the gateway to pass on what comes for our port (PCP, NAT-PMP, UPnP)
    ///
    /// With --listen on loopback only, it is not asked anyway.
    #[arg(long)]
    pub no_port_mapping: bool,

    /// Exchange nothing with the addresses in this file: CIDR lines, eMule .dat, PeerGuardian .p2p or .p2b, also in gzip
    ///
    /// It holds for peers, nodes of the DHT and trackers, whoever names them. The file is read again when it
    /// changes.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ip_filter: Option<PathBuf>,

    /// Use TCP only
    ///
    /// uTP, on the UDP port of the same number, yields to other traffic, and reaches some peers that TCP does not.
    /// It goes through a SOCKS5 proxy that relays datagrams, and through no other.
    #[arg(long)]
    pub no_utp: bool,

    /// Use uTP only
    #[arg(long, conflicts_with = "no_utp")]
    pub no_tcp: bool,

    /// Encrypt connections to peers (MSE)
    ///
    /// This hides BitTorrent from networks that hinder it. It keeps nothing secret from who knows the torrent.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub encryption: EncryptionWhen,

    /// Limit the upload rate, as in 500k, 10MB/s or 80Mbit/s
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub max_up: Option<u64>,

    /// Limit the download rate
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pub max_down: Option<u64>,

    /// Limit the number of connections
    #[arg(long, value_name = "N", value_parser = units::whole::<u32>(1..=u64::from(u32::MAX)))]
    pub max_peers: Option<u32>,

    /// Bind all sockets to this network interface (Linux)
    #[arg(long, value_name = "NAME")]
    pub bind_device: Option<String>,

    /// Save state in this folder. Default: $XDG_STATE_HOME/swarm, or ~/.local/state/swarm
    ///
    /// It records which complete data has been checked, so that the next start need not check it again. The
    /// resume data of an unfinished download is saved beside its files instead.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,

    /// Save no state, and check complete data at each start
    #[arg(long, conflicts_with = "state_dir")]
    pub no_state: bool,

    /// Of `seed` only.
    #[arg(skip)]
    pub super_seed: SuperSeed,

    /// What `--web-seed` of `get` says.
    #[arg(skip)]
    pub web_seeds: Vec<String>,

    #[command(flatten)]
    pub proxy: ProxyArgs,

    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// Whether a seed that knows of no other copy super-seeds (BEP 16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SuperSeed {
    /// Unless --listen is loopback only
    #[default]
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

/// When connections to peers are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EncryptionWhen {
    /// Never
    Off,
    /// Where a peer cannot be reached otherwise, or wants it
    #[default]
    Allow,
    /// Where the peer can do it
    Prefer,
    /// Always, and all of it; peers without encryption are left alone
    Require,
}

impl From<EncryptionWhen> for Encryption {
    fn from(when: EncryptionWhen) -> Encryption {
        match when {
            EncryptionWhen::Off => Encryption::Off,
            EncryptionWhen::Allow => Encryption::Allow,
            EncryptionWhen::Prefer => Encryption::Prefer,
            EncryptionWhen::Require => Encryption::Require,
        }
    }
}

/// Hidden options, for `swarm lab`.
#[derive(Args, Clone, Debug, Default)]
pub struct TuningArgs {
    /// Let trackers ask for announces as often as this
    #[arg(long, hide = true, value_name = "DURATION", value_parser = units::parse_duration)]
    announce_interval_min: Option<Duration>,

    /// Report progress as often as this; default: every second with --json, else every ten
    #[arg(long, hide = true, value_name = "DURATION", value_parser = units::parse_duration)]
    pub progress_interval: Option<Duration>,

    /// Speak PCP and NAT-PMP with a gateway here, and no UPnP
    #[arg(long, hide = true, value_name = "ADDR:PORT", value_parser = parse_address)]
    gateway: Option<SocketAddr>,

    /// Hash, read and write on so many threads, and check what is on disk on as many; default: one for each core
    #[arg(long, hide = true, value_name = "N", value_parser = units::whole::<usize>(1..=1024))]
    workers: Option<usize>,
}

impl NetworkArgs {
    /// A session as the user wants it.
    ///
    /// # Errors
    /// If the proxy makes no sense.
    pub fn session_options(&self) -> anyhow::Result<SessionOptions> {
        let mut options = SessionOptions::new()
            .listen(self.listen.iter().copied())
            .bind_device(self.bind_device.clone())
            .upload_limit(self.max_up)
            .download_limit(self.max_down)
            .dht((!self.no_dht).then(|| DhtOptions::bootstrap(self.dht_bootstrap.clone())))
            .pex(!self.no_pex)
            .proxy(self.proxy.proxy()?)
            .port_mapping(!self.no_port_mapping)
            .gateway(self.tuning.gateway)
            .ip_filter(self.ip_filter.clone().map(IpFilterSource::from))
            .utp(!self.no_utp)
            .tcp(!self.no_tcp)
            .encryption(self.encryption.into())
            .workers(self.tuning.workers.unwrap_or(0));
        if let Some(count) = self.max_peers {
            options = options.peers_max(count as usize);
        }
        if let Some(dir) = self.state_dir() {
            options = options.state_dir(dir);
        }
        Ok(if self.no_lsd { options.lsd(false) } else { options })
    }

    /// Starts a session as the user wants it.
    pub fn start_session(&self) -> anyhow::Result<Session> {
        Session::start(self.session_options()?).map_err(|error| {
            let option = match (&error, &self.bind_device) {
                (Error::IpFilter { .. }, _) => "--ip-filter".to_owned(),
                (_, Some(device)) => format!("--bind-device: {device}"),
                _ if self.listen.is_empty() => return error.into(),
                _ => "--listen".to_owned(),
            };
            match &error {
                Error::Listen { addr, source } if source.kind() == AddrInUse => {
                    let mend = "another program listens there; choose another port";
                    Failure::new(Exit::Runtime, format!("{option}: cannot listen on {addr}: {mend}")).into()
                }
                _ => anyhow::Error::new(error).context(option),
            }
        })
    }

    fn super_seeding(&self) -> bool {
        match self.super_seed {
            // Within one machine no uplink is short, and to hide pieces only costs time.
            SuperSeed::Auto => !self.is_local(),
            SuperSeed::On => true,
            SuperSeed::Off => false,
        }
    }

    /// Whether nobody but this machine can reach us.
    fn is_local(&self) -> bool {
        !self.listen.is_empty() && self.listen.iter().all(|addr| addr.ip().is_loopback())
    }

    /// The torrent with the user's peers and trackers. One torrent may have all connections that --max-peers
    /// allows the session.
    pub fn apply(&self, torrent: AddTorrent) -> AddTorrent {
        let mut torrent = torrent
            .peers(self.peers.iter().copied())
            .trackers(self.trackers.clone())
            .web_seeds(self.web_seeds.clone())
            .use_metainfo_trackers(!self.no_tracker)
            .super_seeding(self.super_seeding());
        if let Some(interval) = self.tuning.announce_interval_min {
            torrent = torrent.announce_interval_min(interval);
        }
        match self.max_peers {
            Some(count) => torrent.peers_max(count as usize),
            None => torrent,
        }
    }

    /// A warning if `XDG_STATE_HOME` would be used and is ignored.
    pub fn state_dir_warning(&self) -> Option<String> {
        let ignored = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty())?;
        let is_ignored = !self.no_state && self.state_dir.is_none() && absolute("XDG_STATE_HOME").is_none();
        let instead = self.state_dir().map_or_else(|| "nothing".to_owned(), |dir| dir.display().to_string());
        is_ignored.then(|| {
            let dir = ignored.display();
            format!(
                "XDG_STATE_HOME is {dir}, which is not an absolute path: it is ignored, and {instead} used"
            )
        })
    }

    /// The folder for state, unless the user wants none or has no home.
    pub fn state_dir(&self) -> Option<PathBuf> {
        if self.no_state {
            return None;
        }
        self.state_dir.clone().or_else(default_state_dir)
    }
}

/// The folder for state without --state-dir.
pub fn default_state_dir() -> Option<PathBuf> {
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(base.join("swarm"))
}

/// The folder in an environment variable, if it is absolute as the XDG Base Directory Specification demands.
fn absolute(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// An address and a port, which may be 0.
pub fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "is not ADDR:PORT; write it as in 192.0.2.7:6881 or [2001:db8::7]:6881")
}

fn parse_peer(text: &str) -> Result<SocketAddr, &'static str> {
    let addr = parse_address(text)?;
    if addr.port() == 0 { Err("has port 0, where no peer can listen") } else { Ok(addr) }
}

/// The host and port of a DHT node.
pub fn parse_node(text: &str) -> Result<(String, u16), &'static str> {
    const WRONG: &str = "is not HOST:PORT; write it as in dht.example:6881 or [2001:db8::7]:6881";
    let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
    let port = port.parse().ok().filter(|&port| port > 0).ok_or(WRONG)?;
    Host::parse(host).map_err(|_| WRONG)?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// A DHT node to bootstrap from, as the user wrote it.
pub fn parse_bootstrap(text: &str) -> Result<String, &'static str> {
    parse_node(text).map(|_| text.to_owned())
}

/// A tracker's URL, as the user wrote it.
pub fn parse_tracker(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https", "udp"])
}

/// A web seed's URL, as the user wrote it.
pub fn parse_web_seed(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https"])
}

fn parse_url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("starts with {}:, not {}", url.scheme(), schemes.join(":, ") + ":"));
    }
    if !url.has_host() || url.host_str() == Some("") {
        return Err("names no host".to_owned());
    }
    if url.scheme() == "udp" && url.port().is_none() {
        return Err("names no port, and udp: has none of its own".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_kept_as_written() {
        assert_eq!(
            parse_tracker("HTTP://Tracker.example/announce").unwrap(),
            "HTTP://Tracker.example/announce"
        );
        assert!(parse_tracker("udp://tracker.example:80").is_ok());
        for text in
            ["tracker.example", "ftp://tracker.example/", "udp://tracker.example", "http://", "udp://:80"]
        {
            assert!(parse_tracker(text).is_err(), "{text}");
        }
    }

    #[test]
    fn web_seeds_are_on_the_web() {
        assert!(parse_web_seed("udp://tracker.example:80").is_err());
        assert!(parse_web_seed("https://example/f.iso").is_ok());
    }

    #[test]
    fn super_seeding_is_as_the_user_says() {
        let torrent = |listen: &str, super_seed| {
            let network =
                NetworkArgs { listen: vec![listen.parse().unwrap()], super_seed, ..Default::default() };
            network.super_seeding()
        };
        for (super_seed, local, open) in
            [(SuperSeed::Auto, false, true), (SuperSeed::On, true, true), (SuperSeed::Off, false, false)]
        {
            assert_eq!(torrent("127.0.0.1:0", super_seed), local);
            assert_eq!(torrent("0.0.0.0:0", super_seed), open);
        }
    }

    #[test]
    fn addresses_need_a_port() {
        assert!(parse_address("127.0.0.1:0").is_ok());
        assert!(parse_address("[::1]:6881").is_ok());
        assert!(parse_address("localhost:1").is_err());
        assert!(parse_peer("127.0.0.1:0").is_err());
        for text in ["dht.example:6881", "192.0.2.7:1", "[2001:db8::7]:6881"] {
            assert_eq!(parse_bootstrap(text).as_deref(), Ok(text));
        }
        for text in ["dht.example", "dht.example:0", ":6881", "2001:db8::7:6881", "udp://dht.example:1"] {
            assert!(parse_node(text).is_err(), "{text}");
        }
    }
}
