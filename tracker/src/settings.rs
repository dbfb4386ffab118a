//! What the user can set, and how it is written.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use swarm_tracker::{Config, Limits};

/// A BitTorrent tracker: tells the peers of a swarm about each other over HTTP.
///
/// Clients announce to http://HOST:PORT/announce and scrape at /scrape. /health says "ok" and
/// /stats tells what the tracker holds, as JSON.
#[derive(Debug, Parser)]
#[command(name = "swarm-tracker", version)]
pub struct Settings {
    /// Listen here; may be repeated, port 0 takes a free one [default: 0.0.0.0:6969 and [::]:6969]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,

    /// How often peers are to announce [default: 30m]
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<Span>,

    /// How often peers may announce when they need others [default: 5m, or the interval if shorter]
    #[arg(long, value_name = "DURATION")]
    pub min_interval: Option<Span>,

    /// How long a peer is listed after its last announce [default: one and a half intervals]
    #[arg(long, value_name = "DURATION")]
    pub peer_timeout: Option<Span>,

    /// How many peers a client gets that does not say how many it wants [default: 50]
    #[arg(long, value_name = "N")]
    pub numwant_default: Option<u32>,

    /// How many peers a client gets at most [default: 200]
    #[arg(long, value_name = "N")]
    pub numwant_max: Option<u32>,

    /// How many torrents there may be [default: 1000000]
    #[arg(long, value_name = "N")]
    pub max_swarms: Option<usize>,

    /// How many peers there may be in all torrents; one takes up to 64 bytes [default: 10000000]
    #[arg(long, value_name = "N")]
    pub max_peers: Option<usize>,

    /// How many connections there may be at a time [default: 10000]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,

    /// How the log is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,

    /// Say more; may be repeated
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Say less; may be repeated
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object on each line.
    Json,
}

impl Settings {
    /// The tracker's configuration, with what is not set at its default.
    ///
    /// # Errors
    /// When settings contradict each other; a usage error.
    pub fn config(&self) -> Result<Config, clap::Error> {
        let default = Config::default();
        let interval = self.interval.map_or(default.interval, |span| span.0);
        let min_interval = self.min_interval.map_or(default.min_interval.min(interval), |span| span.0);
        let peer_timeout = self.peer_timeout.map_or(interval * 3 / 2, |span| span.0);
        if min_interval > interval {
            return Err(contradiction("--min-interval must not be longer than --interval"));
        }
        if peer_timeout <= interval {
            return Err(contradiction("--peer-timeout must be longer than --interval"));
        }
        Ok(Config {
            interval,
            min_interval,
            peer_timeout,
            numwant_default: self.numwant_default.unwrap_or(default.numwant_default),
            numwant_max: self.numwant_max.unwrap_or(default.numwant_max),
            limits: Limits {
                swarms_max: self.max_swarms.unwrap_or(default.limits.swarms_max),
                peers_max: self.max_peers.unwrap_or(default.limits.peers_max),
                connections_max: self.max_connections.unwrap_or(default.limits.connections_max),
                ..default.limits
            },
        })
    }
}

fn contradiction(message: &str) -> clap::Error {
    Settings::command().error(clap::error::ErrorKind::ArgumentConflict, message)
}

/// A duration as users write it: `30s`, `10m`, `2h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

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

    fn config(flags: &[&str]) -> Result<Config, clap::Error> {
        Settings::try_parse_from(["swarm-tracker"].iter().chain(flags)).unwrap().config()
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(config(&[]).unwrap(), Config::default());
    }

    #[test]
    fn what_follows_from_the_interval_follows_it() {
        let config = config(&["--interval", "10s"]).unwrap();
        assert_eq!(config.min_interval, Duration::from_secs(10));
        assert_eq!(config.peer_timeout, Duration::from_secs(15));
    }

    #[test]
    fn contradictions_are_named() {
        assert!(config(&["--interval", "1m", "--min-interval", "2m"]).is_err());
        assert!(config(&["--interval", "1m", "--peer-timeout", "1m"]).is_err());
    }
}
