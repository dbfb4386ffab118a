//! What `swarm dht` can ask the DHT, from the command line to what its node takes.

use crate::exit::{Exit, Failure};
use crate::units;
use anyhow::{Context as _, Result};
use clap::{Subcommand, ValueHint};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use swarm_core::dht::{Item, MutableTorrentLink, NodeId, SALT_LEN_MAX, VALUE_LEN_MAX, mutable_torrent_value};
use swarm_core::hex::{hex, unhex};
use swarm_core::id::InfoHash;

#[derive(Clone, Debug, Subcommand)]
pub enum Query {
    /// Print the peers of a torrent
    GetPeers {
        /// The torrent's info-hash, 40 hexadecimal digits
        #[arg(value_name = "HASH", value_parser = parse_hash)]
        hash: InfoHash,
    },
    /// Announce a peer at this machine's address, and print the other peers of the torrent
    Announce {
        /// The torrent's info-hash, 40 hexadecimal digits
        #[arg(value_name = "HASH", value_parser = parse_hash)]
        hash: InfoHash,
        /// The port on which the peer listens
        #[arg(long, value_name = "PORT", value_parser = units::whole::<u16>(1..=65_535))]
        port: u16,
    },
    /// Estimate how many peers a torrent has (BEP 33)
    Scrape {
        /// The torrent's info-hash, 40 hexadecimal digits
        #[arg(value_name = "HASH", value_parser = parse_hash)]
        hash: InfoHash,
    },
    /// Print a sample of the info-hashes that nodes store (BEP 51)
    Sample {
        /// Query nodes near this ID, 40 hexadecimal digits. Default: a random ID
        #[arg(value_name = "TARGET", value_parser = parse_target)]
        target: Option<NodeId>,
    },
    /// Print an item stored in the DHT (BEP 44): text, the info-hash of a mutable torrent, or else bencoded
    Get {
        /// The item's target, 40 hexadecimal digits, or the link of a mutable torrent, as `put` prints them
        #[arg(value_name = "TARGET|LINK", value_parser = parse_place)]
        place: Place,
        /// The salt of a mutable item
        #[arg(long, value_name = "TEXT", default_value = "")]
        salt: String,
    },
    /// Store a text or a mutable torrent in the DHT for two hours, and print its target
    Put {
        /// The text
        #[arg(value_name = "TEXT", required_unless_present = "torrent")]
        text: Option<String>,
        /// Store a mutable torrent (BEP 46) with this info-hash in place of a text, and print its link
        #[arg(long, value_name = "HASH", value_parser = parse_hash, requires = "key", conflicts_with = "text")]
        torrent: Option<InfoHash>,
        /// Store a mutable item, signed with the key in this file; created if missing
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: Option<PathBuf>,
        /// The salt of the mutable item
        #[arg(long, value_name = "TEXT", default_value = "", requires = "key")]
        salt: String,
        /// Its sequence number; a higher one replaces a lower one. Default: seconds since 1970
        #[arg(long, value_name = "N", value_parser = parse_seq, requires = "key")]
        seq: Option<i64>,
    },
}

/// A query as the node takes it.
pub enum Request {
    Peers(InfoHash),
    Announce(InfoHash, u16),
    Scrape(InfoHash),
    Sample(NodeId),
    Get(NodeId, Vec<u8>),
    Put(Item),
}

/// Where an item is kept.
#[derive(Clone, Debug)]
pub enum Place {
    Target(NodeId),
    Mutable(MutableTorrentLink),
}

fn parse_hash(text: &str) -> Result<InfoHash, &'static str> {
    text.parse().map_err(|_| "is not an info-hash of 40 hexadecimal digits")
}

fn parse_seq(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "is not a whole number")
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.starts_with("magnet:") {
        return text
            .parse()
            .map(Place::Mutable)
            .map_err(|error: swarm_core::dht::MutableTorrentLinkError| error.to_string());
    }
    parse_target(text).map(Place::Target).map_err(str::to_owned)
}

impl Query {
    /// The query with everything that it needs.
    pub fn request(self) -> Result<Request> {
        Ok(match self {
            Query::GetPeers { hash } => Request::Peers(hash),
            Query::Announce { hash, port } => Request::Announce(hash, port),
            Query::Scrape { hash } => Request::Scrape(hash),
            Query::Sample { target: Some(target) } => Request::Sample(target),
            Query::Sample { target: None } => {
                let mut target = [0; 20];
                getrandom::fill(&mut target).map_err(io::Error::other).context("cannot get random bytes")?;
                Request::Sample(NodeId(target))
            }
            Query::Get { place: Place::Target(target), salt } => Request::Get(target, salt.into_bytes()),
            Query::Get { place: Place::Mutable(link), .. } => Request::Get(link.target(), link.salt),
            Query::Put { text, torrent, key, salt, seq } => {
                let text = text.unwrap_or_default();
                let text = format!("{}:{text}", text.len()).into_bytes();
                let value = torrent.map_or(text, mutable_torrent_value);
                let too_long = |what: &str, max| {
                    Failure::new(
                        Exit::Usage,
                        format!("the {what} is too long for the DHT, which takes {max} bytes"),
                    )
                };
                if value.len() > VALUE_LEN_MAX {
                    return Err(too_long("text", VALUE_LEN_MAX).into());
                }
                if salt.len() > SALT_LEN_MAX {
                    return Err(too_long("salt", SALT_LEN_MAX).into());
                }
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let seq = seq.unwrap_or(now as i64);
                Request::Put(match key {
                    None => Item::immutable(value),
                    Some(file) => Item::signed(&secret_key(&file)?, salt.into_bytes(), seq, value),
                })
            }
        })
    }
}

fn parse_target(text: &str) -> Result<NodeId, &'static str> {
    text.parse::<InfoHash>().map(NodeId::from).map_err(|_| "is not 40 hexadecimal digits")
}

/// The secret key in a file, as 64 hexadecimal digits; a new one if there is no such file.
fn secret_key(file: &Path) -> Result<[u8; 32]> {
    let name = file.display();
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let key = unhex(text.trim()).and_then(|bytes| bytes.try_into().ok());
            key.with_context(|| format!("--key: {name}: is not a key of 64 hexadecimal digits"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(io::Error::other).context("cannot get random bytes")?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let written = options.open(file).and_then(|mut file| writeln!(file, "{}", hex(&key)));
            written.with_context(|| format!("--key: {name}: cannot write"))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("--key: {name}: cannot read")),
    }
}
