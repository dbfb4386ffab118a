//! What the user can set, on the command line and in a configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, ColorChoice, Parser, ValueEnum};
use serde::Deserialize;
use swarm_tracker::process::Secret;
use swarm_tracker::{Config, Limits, SharedStore, Source};

/// A BitTorrent tracker: tells the peers of a swarm about each other over HTTP and UDP.
///
/// Clients announce to http://HOST:PORT/announce and scrape at /scrape, or do both at
/// udp://HOST:PORT/announce. Over HTTP, /health says "ok", /stats is what the tracker holds as
/// JSON, and /metrics for Prometheus.
///
/// SIGHUP reads the files again: the allow list, the certificate and the configuration file. What changed
/// there is taken, except listen, listen-udp, listen-tls, behind-proxy, state, store, store-file, store-ca and
/// log, which need a restart; the log names those.
///
/// A tracker that starts without its swarms asks peers of small swarms to come again after the minimum
/// interval, until a whole interval has passed.
#[derive(Clone, Debug, Default, Parser, Deserialize)]
#[command(
    name = "swarm-tracker",
    version,
    after_help = "Exit status: 0 after SIGINT or SIGTERM, 1 if it cannot run, 2 if a flag or a setting is wrong."
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Take what is not set here from this TOML file; its keys are the flags' long names
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Listen here; may be repeated, port 0 takes a free one [default, if
    /// nothing else is listened on: 0.0.0.0:6969 and [::]:6969]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,

    /// Listen here over UDP; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_udp: Vec<SocketAddr>,

    /// Listen here for HTTPS; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_tls: Vec<SocketAddr>,

    /// The certificate for HTTPS with its chain, in PEM; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// How often peers are to announce [default: 30m]
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<Span>,

    /// How often peers may announce when they need others [default: 5m, or the interval if shorter]
    #[arg(long, value_name = "DURATION")]
    pub min_interval: Option<Span>,

    /// How long a peer is listed after its last announce [default: one and a half intervals]
    #[arg(long, value_name = "DURATION")]
    pub peer_timeout: Option<Span>,

    /// Peers in a reply to a client that sends no `numwant` [default: 50]
    #[arg(long, value_name = "N")]
    pub numwant_default: Option<u32>,

    /// Most peers in a reply [default: 200]
    #[arg(long, value_name = "N")]
    pub numwant_max: Option<u32>,

    /// Serve only the torrents whose info-hashes this file lists, one a line; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub allow_list: Option<PathBuf>,

    /// Refuse more announces and scrapes a minute than this from one address [default: no limit]
    #[arg(long, value_name = "PER-MINUTE")]
    pub rate_limit: Option<u32>,

    /// Take clients' addresses from the proxy in front; only the proxy may be able to connect. UDP is not
    /// proxied
    #[arg(long, value_name = "HOW")]
    pub behind_proxy: Option<BehindProxy>,

    /// Send this `tracker id` in replies
    #[arg(long, value_name = "TEXT")]
    pub tracker_id: Option<String>,

    /// Keep the swarms over a restart in this file, written at the end and every five minutes
    /// [default: swarm-tracker.state in the folder that systemd's StateDirectory= names, if it does]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Track at most this many torrents; beyond, those of few announcers are evicted, first those of the
    /// network with most [default: 1000000]
    #[arg(long, value_name = "N")]
    pub max_swarms: Option<usize>,

    /// List at most this many peers in all torrents; one takes up to 64 bytes. Beyond, torrents are evicted
    /// as with --max-swarms [default: 10000000]
    #[arg(long, value_name = "N")]
    pub max_peers: Option<usize>,

    /// Serve at most this many connections at a time; beyond, idle and slow ones are closed
    /// [default: 10000, or fewer if the process may not open so many files]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,

    /// Share the swarms with other trackers in this Redis: redis://USER:PASSWORD@HOST:PORT/DB, or rediss://
    /// for TLS. Better in --store-file or in the variable SWARM_TRACKER_STORE, where the password is not seen
    #[arg(long, value_name = "URL", conflicts_with = "store_file")]
    pub store: Option<Secret>,

    /// Take the URL of the shared store from this file
    #[arg(long, value_name = "FILE")]
    pub store_file: Option<PathBuf>,

    /// Trust the store's certificate if it is, or is signed by, one of those in this PEM file
    /// [default: what the system trusts]
    #[arg(long, value_name = "FILE")]
    pub store_ca: Option<PathBuf>,

    /// Log format [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<LogFormat>,

    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    #[serde(skip)]
    pub color: ColorChoice,

    /// Log more; may be repeated
    #[arg(short, long, action = ArgAction::Count)]
    #[serde(skip)]
    pub verbose: u8,

    /// Log less; may be repeated
    #[arg(short, long, action = ArgAction::Count)]
    #[serde(skip)]
    pub quiet: u8,
}

/// Where the shared store is, if nothing else says so.
pub const STORE_VARIABLE: &str = "SWARM_TRACKER_STORE";

/// What a running tracker cannot change.
const NEED_A_RESTART: [&str; 9] =
    ["listen", "listen-udp", "listen-tls", "behind-proxy", "state", "store", "store-file", "store-ca", "log"];

/// The names of settings that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running tracker takes.
    pub taken: Vec<&'static str>,
    /// Those that need a restart.
    pub kept: Vec<&'static str>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

/// How a proxy passes its client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BehindProxy {
    /// In the last entry of the header X-Forwarded-For.
    ForwardedFor,
    /// In the PROXY protocol, version 1 or 2.
    ProxyProtocol,
}

impl Settings {
    /// The command line's settings over those of the configuration file that it names, if any.
    ///
    /// # Errors
    /// When the configuration file cannot be read or makes no sense.
    pub fn with_file(self) -> anyhow::Result<Settings> {
        let Some(path) = &self.config else { return Ok(self) };
        let file = read(path)?;
        let settings = toml::from_str(&file).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| file.get(..span.start)).unwrap_or_default();
            let (line, message) = (before.matches('\n').count() + 1, error.message().replace('\n', "; "));
            anyhow::anyhow!("{}: line {line}: {message}", path.display())
        })?;
        Ok(self.over(settings))
    }

    fn over(self, file: Settings) -> Settings {
        Settings {
            config: self.config,
            listen: if self.listen.is_empty() { file.listen } else { self.listen },
            listen_udp: if self.listen_udp.is_empty() { file.listen_udp } else { self.listen_udp },
            listen_tls: if self.listen_tls.is_empty() { file.listen_tls } else { self.listen_tls },
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            interval: self.interval.or(file.interval),
            min_interval: self.min_interval.or(file.min_interval),
            peer_timeout: self.peer_timeout.or(file.peer_timeout),
            numwant_default: self.numwant_default.or(file.numwant_default),
            numwant_max: self.numwant_max.or(file.numwant_max),
            allow_list: self.allow_list.or(file.allow_list),
            rate_limit: self.rate_limit.or(file.rate_limit),
            behind_proxy: self.behind_proxy.or(file.behind_proxy),
            tracker_id: self.tracker_id.or(file.tracker_id),
            state: self.state.or(file.state),
            max_swarms: self.max_swarms.or(file.max_swarms),
            max_peers: self.max_peers.or(file.max_peers),
            max_connections: self.max_connections.or(file.max_connections),
            // One says where the store is: what the command line says of that is all.
            store_file: if self.store.is_some() { None } else { self.store_file.clone().or(file.store_file) },
            store: if self.store_file.is_some() { None } else { self.store.or(file.store) },
            store_ca: self.store_ca.or(file.store_ca),
            log: self.log.or(file.log),
            color: self.color,
            verbose: self.verbose,
            quiet: self.quiet,
        }
    }

    /// What was set, in the order of [`NEED_A_RESTART`] and then of the others, for comparing.
    fn named(&self) -> Vec<(&'static str, String)> {
        fn shown(value: &impl std::fmt::Debug) -> String {
            format!("{value:?}")
        }
        vec![
            ("listen", shown(&self.listen)),
            ("listen-udp", shown(&self.listen_udp)),
            ("listen-tls", shown(&self.listen_tls)),
            ("behind-proxy", shown(&self.behind_proxy)),
            ("state", shown(&self.state)),
            ("store", shown(&self.store.as_ref().map(|secret| &secret.0))),
            ("store-file", shown(&self.store_file)),
            ("store-ca", shown(&self.store_ca)),
            ("log", shown(&self.log)),
            ("tls-cert", shown(&self.tls_cert)),
            ("tls-key", shown(&self.tls_key)),
            ("interval", shown(&self.interval)),
            ("min-interval", shown(&self.min_interval)),
            ("peer-timeout", shown(&self.peer_timeout)),
            ("numwant-default", shown(&self.numwant_default)),
            ("numwant-max", shown(&self.numwant_max)),
            ("allow-list", shown(&self.allow_list)),
            ("rate-limit", shown(&self.rate_limit)),
            ("tracker-id", shown(&self.tracker_id)),
            ("max-swarms", shown(&self.max_swarms)),
            ("max-peers", shown(&self.max_peers)),
            ("max-connections", shown(&self.max_connections)),
        ]
    }

    /// What a tracker that runs with these settings takes of others, and the names of what changes: what it
    /// takes, and what needs a restart and stays as it is.
    pub fn reload(&self, other: Settings) -> (Settings, Changes) {
        let changes = self.named().into_iter().zip(other.named());
        let changed = changes.filter(|((_, before), (_, after))| before != after).map(|((name, _), _)| name);
        let (kept, taken) = changed.partition(|name| NEED_A_RESTART.contains(name));
        let settings = Settings {
            listen: self.listen.clone(),
            listen_udp: self.listen_udp.clone(),
            listen_tls: self.listen_tls.clone(),
            behind_proxy: self.behind_proxy,
            state: self.state.clone(),
            store: self.store.clone(),
            store_file: self.store_file.clone(),
            store_ca: self.store_ca.clone(),
            log: self.log,
            ..other
        };
        (settings, Changes { taken, kept })
    }

    /// The store that is shared with other trackers, if one is named; `variable` is what the environment
    /// says.
    ///
    /// # Errors
    /// When it cannot be made out.
    pub fn shared_store(&self, variable: Option<String>) -> anyhow::Result<Option<SharedStore>> {
        anyhow::ensure!(
            self.store.is_none() || self.store_file.is_none(),
            "store and store-file both say where the store is; give one of them"
        );
        let (what, url) = if let Some(Secret(url)) = &self.store {
            ("store".to_owned(), url.clone())
        } else if let Some(path) = &self.store_file {
            (path.display().to_string(), read(path)?)
        } else if let Some(url) = variable.filter(|url| !url.is_empty()) {
            (STORE_VARIABLE.to_owned(), url)
        } else {
            anyhow::ensure!(self.store_ca.is_none(), "store-ca is of no use without a store");
            return Ok(None);
        };
        let trusted = self.store_ca.as_deref().map(read).transpose()?;
        let store = SharedStore::new(url.trim(), trusted.as_ref().map(|pem| pem.as_bytes()));
        Ok(Some(store.map_err(|error| anyhow::anyhow!("{what}: {error}"))?))
    }

    /// The tracker's configuration, with what is not set at its default.
    ///
    /// # Errors
    /// When settings contradict each other.
    pub fn tracker(&self) -> anyhow::Result<Config> {
        let default = Config::default();
        let interval = self.interval.map_or(default.interval, |span| span.0);
        let min_interval = self.min_interval.map_or(default.min_interval.min(interval), |span| span.0);
        let peer_timeout = self.peer_timeout.map_or(interval * 3 / 2, |span| span.0);
        anyhow::ensure!(min_interval <= interval, "min-interval must not be longer than interval");
        anyhow::ensure!(peer_timeout > interval, "peer-timeout must be longer than interval");
        anyhow::ensure!(
            self.listen_tls.is_empty() || (self.tls_cert.is_some() && self.tls_key.is_some()),
            "listen-tls needs tls-cert and tls-key"
        );
        anyhow::ensure!(self.rate_limit != Some(0), "rate-limit must be at least 1");
        Ok(Config {
            interval,
            min_interval,
            peer_timeout,
            numwant_default: self.numwant_default.unwrap_or(default.numwant_default),
            numwant_max: self.numwant_max.unwrap_or(default.numwant_max),
            tracker_id: self.tracker_id.clone(),
            source: match self.behind_proxy {
                None => Source::Connection,
                Some(BehindProxy::ForwardedFor) => Source::ForwardedFor,
                Some(BehindProxy::ProxyProtocol) => Source::ProxyProtocol,
            },
            requests_per_minute_max: self.rate_limit,
            limits: Limits {
                swarms_max: self.max_swarms.unwrap_or(default.limits.swarms_max),
                peers_max: self.max_peers.unwrap_or(default.limits.peers_max),
                connections_max: self.max_connections.unwrap_or(default.limits.connections_max),
                ..default.limits
            },
        })
    }
}

/// The parser's message of several lines as one: what is wrong, then its tips.
pub fn usage_line(message: &str) -> String {
    let paragraphs = message.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let told = paragraphs.filter_map(|text| match text.strip_prefix("error: ") {
        Some(wrong) => Some(wrong.to_owned()),
        None => text.starts_with("tip: ").then_some(text),
    });
    told.chain(["see swarm-tracker --help".to_owned()]).collect::<Vec<_>>().join("; ")
}

/// The content of a file that the user named.
pub fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A duration as users write it: `30s`, `10m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Span, &'static str> {
        text.parse()
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Span, &'static str> {
        const WRONG: &str = "a duration is a number with a unit: 30s, 10m, 2h or 1d";
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or(WRONG)?;
        let (number, unit) = text.split_at(unit_at);
        let unit_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(WRONG),
        };
        let number: u32 = number.parse().map_err(|_| WRONG)?;
        Ok(Span(Duration::from_secs(u64::from(number) * unit_s)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.0.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("1d"), Ok(86_400));
        for wrong in ["", "30", "m", "1.5h", "-1s", "1 s", "1w", "99999999999s", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    fn parse(flags: &[&str]) -> Settings {
        Settings::try_parse_from(["swarm-tracker"].iter().chain(flags)).unwrap()
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(parse(&[]).tracker().unwrap(), Config::default());
    }

    #[test]
    fn what_follows_from_the_interval_follows_it() {
        let config = parse(&["--interval", "10s"]).tracker().unwrap();
        assert_eq!(config.min_interval, Duration::from_secs(10));
        assert_eq!(config.peer_timeout, Duration::from_secs(15));
    }

    #[test]
    fn contradictions_are_named() {
        assert!(parse(&["--interval", "1m", "--min-interval", "2m"]).tracker().is_err());
        assert!(parse(&["--interval", "1m", "--peer-timeout", "1m"]).tracker().is_err());
        assert!(parse(&["--rate-limit", "0"]).tracker().is_err());
        assert!(parse(&["--listen-tls", "127.0.0.1:443", "--tls-cert", "cert.pem"]).tracker().is_err());
    }

    #[test]
    fn every_key_of_a_file_is_a_flag_and_a_flag_comes_first() {
        let file = r#"
            listen = ["127.0.0.1:1", "[::1]:2"]
            listen-udp = ["127.0.0.1:1"]
            listen-tls = ["127.0.0.1:443"]
            tls-cert = "cert.pem"
            tls-key = "key.pem"
            interval = "20m"
            min-interval = "1m"
            peer-timeout = "1h"
            numwant-default = 10
            numwant-max = 20
            allow-list = "hashes"
            rate-limit = 30
            behind-proxy = "forwarded-for"
            tracker-id = "here"
            state = "swarms"
            max-swarms = 40
            max-peers = 50
            max-connections = 60
            store = "redis://store.example"
            store-file = "store"
            store-ca = "ca.pem"
            log = "json"
        "#;
        let from_file = || toml::from_str::<Settings>(file).unwrap();
        let keys: Vec<_> = file.lines().filter_map(|line| Some(line.split_once(" = ")?.0.trim())).collect();
        let command = Settings::command();
        let flags = command.get_arguments().filter_map(|flag| flag.get_long());
        let settable = flags.filter(|flag| !["config", "color", "verbose", "quiet"].contains(flag));
        assert_eq!(settable.collect::<Vec<_>>(), keys);

        let config = parse(&[]).over(from_file()).tracker().unwrap();
        assert_eq!(config.interval, Duration::from_secs(20 * 60));
        assert_eq!(config.limits.connections_max, 60);
        assert_eq!(config.source, Source::ForwardedFor);
        let both = parse(&["--interval", "10m", "--listen", "127.0.0.1:3"]).over(from_file());
        assert_eq!(both.tracker().unwrap().interval, Duration::from_secs(600));
        assert_eq!(both.listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!((both.log, both.rate_limit), (Some(LogFormat::Json), Some(30)));
    }

    #[test]
    fn one_of_three_says_where_the_store_is_and_no_message_has_its_password() {
        let variable = || Some("redis://u:secret@variable.example".to_owned());
        let named = |settings: &Settings, variable| {
            settings.shared_store(variable).map(|store| store.map(|store| store.to_string()))
        };
        assert_eq!(named(&parse(&[]), None).unwrap(), None);
        assert_eq!(named(&parse(&[]), variable()).unwrap().unwrap(), "redis://u@variable.example:6379/0");
        let flag = parse(&["--store", "redis://u:secret@flag.example"]);
        assert_eq!(named(&flag, variable()).unwrap().unwrap(), "redis://u@flag.example:6379/0");
        assert!(!format!("{flag:?}").contains("secret"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        std::fs::write(&path, "redis://u:secret@file.example\n").unwrap();
        let file = parse(&["--store-file", path.to_str().unwrap()]);
        assert_eq!(named(&file, variable()).unwrap().unwrap(), "redis://u@file.example:6379/0");

        std::fs::write(&path, "redis://u:secret@file.example:port\n").unwrap();
        for wrong in [file, parse(&["--store", "redis://u:secret"]), parse(&["--store-ca", "ca.pem"])] {
            let error = named(&wrong, None).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains('\n'), "{error}");
        }
        let both = "store = \"redis://u:secret@a.example\"\nstore-file = \"b\"";
        assert!(named(&toml::from_str(both).unwrap(), None).is_err());
        let flag =
            parse(&["--store", "redis://flag.example"]).over(toml::from_str("store-file = \"b\"").unwrap());
        assert_eq!(named(&flag, None).unwrap().unwrap(), "redis://flag.example:6379/0");
    }

    #[test]
    fn each_change_is_taken_or_named() {
        let names: Vec<_> = Settings::default().named().into_iter().map(|(name, _)| name).collect();
        let command = Settings::command();
        let flags = command.get_arguments().filter_map(|flag| flag.get_long());
        for flag in flags.filter(|flag| !["config", "color", "verbose", "quiet"].contains(flag)) {
            assert!(names.contains(&flag), "{flag} is compared");
        }
        let before = parse(&["--interval", "20m", "--listen", "127.0.0.1:1", "--max-swarms", "5"]);
        let after = parse(&["--interval", "10m", "--listen", "127.0.0.1:2", "--log", "json"]);
        let (settings, changes) = before.reload(after);
        assert_eq!(changes.taken, ["interval", "max-swarms"]);
        assert_eq!(changes.kept, ["listen", "log"]);
        assert_eq!(settings.listen, before.listen);
        let config = settings.tracker().unwrap();
        assert_eq!((config.interval, config.limits.swarms_max), (Duration::from_secs(600), 1_000_000));
    }

    #[test]
    fn a_file_with_unknown_or_wrong_keys_is_refused() {
        for wrong in ["intervall = \"1m\"", "interval = 60", "verbose = 1", "listen = \"127.0.0.1:1\""] {
            assert!(toml::from_str::<Settings>(wrong).is_err(), "{wrong}");
        }
    }
}
