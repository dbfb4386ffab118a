//! One announce: what a client tells a tracker and what the tracker answers
//! (BEP 3, with 7 for IPv6, 23 for compact peers, 24 for the client's address).

use std::net::IpAddr;
use std::time::Duration;

use bendy::encoding::AsString;
use url::Url;

use super::peers::{PeerFormat, ReplyOddities, TrackerPeer, read_peers, write_peers};
use super::query::{self, RequestError};
use super::reply::{self, ReplyError};
use crate::bencode::{self, Value, emit_some};
use crate::id::{InfoHash, PeerId};
use crate::net::{Family, write_ip};

/// What `left` says while the length is unknown, as with a magnet link: not zero, so that the
/// tracker does not take us for a seed.
pub const LEFT_UNKNOWN: u64 = 16 * 1024;
/// Longest `tracker id` that is kept and sent back, in bytes; a longer one is ignored.
pub const TRACKER_ID_LEN_MAX: usize = 256;
/// The interval of a reply that names none.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Why an announce is made, other than that its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first announce to this tracker.
    Started,
    /// The download has just finished. Never sent by who had everything from the start.
    Completed,
    /// The peer leaves.
    Stopped,
}

impl Event {
    /// As written in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Event::Started => "started",
            Event::Completed => "completed",
            Event::Stopped => "stopped",
        }
    }
}

/// What a client tells a tracker. The client's address is not part of it: the tracker takes it from
/// the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What the client calls itself in its handshakes.
    pub peer_id: PeerId,
    /// Where it listens for peers, on the address that it announces from.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still wanted; zero from a seed, [`LEFT_UNKNOWN`] without the metainfo.
    pub left: u64,
    /// Why now.
    pub event: Option<Event>,
    /// How many peers are wished for; the tracker decides if absent.
    pub numwant: Option<u32>,
    /// How peers are to be listed.
    pub format: PeerFormat,
    /// Lets a tracker recognise a client whose address has changed (BEP 7). Not shown to peers.
    pub key: Option<u32>,
    /// The `tracker id` of an earlier reply, sent back.
    pub tracker_id: Option<Vec<u8>>,
}

impl AnnounceRequest {
    /// The URL to fetch: the tracker's own, its query kept (a passkey is often in it), ours appended.
    pub fn url(&self, tracker: &Url) -> Url {
        let ours = self.to_query();
        let query = match tracker.query() {
            None | Some("") => ours,
            Some(own) => format!("{own}&{ours}"),
        };
        let mut url = tracker.clone();
        url.set_query(Some(&query));
        url.set_fragment(None);
        url
    }

    /// The parameters as a query string, percent-encoded, without a leading `?`.
    pub fn to_query(&self) -> String {
        let mut out = String::with_capacity(320);
        let mut bytes = |name: &str, value: &[u8]| {
            out.push_str(name);
            query::push_encoded(&mut out, value);
        };
        bytes("info_hash=", &self.info_hash.0);
        bytes("&peer_id=", &self.peer_id.0);
        bytes("&port=", self.port.to_string().as_bytes());
        bytes("&uploaded=", self.uploaded.to_string().as_bytes());
        bytes("&downloaded=", self.downloaded.to_string().as_bytes());
        bytes("&left=", self.left.to_string().as_bytes());
        if let Some(event) = self.event {
            bytes("&event=", event.as_str().as_bytes());
        }
        if let Some(numwant) = self.numwant {
            bytes("&numwant=", numwant.to_string().as_bytes());
        }
        if let Some(key) = self.key {
            bytes("&key=", format!("{key:08X}").as_bytes());
        }
        match self.format {
            PeerFormat::Compact => bytes("&compact=1", b""),
            PeerFormat::Dictionaries => bytes("&compact=0", b""),
            PeerFormat::DictionariesWithoutIds => bytes("&compact=0&no_peer_id=1", b""),
        }
        if let Some(id) = &self.tracker_id {
            bytes("&trackerid=", id);
        }
        out
    }

    /// Reads the query of an announce as a server gets it, without the leading `?`.
    ///
    /// Unknown parameters and events are ignored, as is `ip`: a client that could name any address
    /// could point a swarm at a stranger.
    ///
    /// # Errors
    /// When the info-hash, the peer id or the port is missing or malformed, or a number is not one.
    pub fn parse_query(query: &[u8]) -> Result<AnnounceRequest, RequestError> {
        let (mut info_hash, mut peer_id, mut port) = (None, None, None);
        let (mut uploaded, mut downloaded, mut left) = (0, 0, LEFT_UNKNOWN);
        let (mut event, mut numwant, mut key, mut tracker_id) = (None, None, None, None);
        let (mut compact, mut no_peer_id) = (true, false);
        for (name, value) in query::pairs(query) {
            match name {
                b"info_hash" => info_hash = Some(InfoHash(query::twenty("info_hash", value)?)),
                b"peer_id" => peer_id = Some(PeerId(query::twenty("peer_id", value)?)),
                b"port" => {
                    let number = query::number("port", value)?.and_then(|n| u16::try_from(n).ok());
                    port = Some(number.ok_or(RequestError::NotANumber("port"))?);
                }
                b"uploaded" => uploaded = query::number("uploaded", value)?.unwrap_or(0),
                b"downloaded" => downloaded = query::number("downloaded", value)?.unwrap_or(0),
                b"left" => left = query::number("left", value)?.unwrap_or(LEFT_UNKNOWN),
                b"numwant" => {
                    let number = query::number("numwant", value)?;
                    numwant = number.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
                }
                b"event" => event = parse_event(value),
                b"compact" => compact = value != b"0",
                b"no_peer_id" => no_peer_id = value == b"1",
                b"key" => key = parse_key(value),
                b"trackerid" => {
                    let id: Vec<u8> = query::decoded(value).take(TRACKER_ID_LEN_MAX + 1).collect();
                    tracker_id = (id.len() <= TRACKER_ID_LEN_MAX).then_some(id);
                }
                _ => {}
            }
        }
        let format = match (compact, no_peer_id) {
            (true, _) => PeerFormat::Compact,
            (false, true) => PeerFormat::DictionariesWithoutIds,
            (false, false) => PeerFormat::Dictionaries,
        };
        Ok(AnnounceRequest {
            info_hash: info_hash.ok_or(RequestError::Missing("info_hash"))?,
            peer_id: peer_id.ok_or(RequestError::Missing("peer_id"))?,
            port: port.ok_or(RequestError::Missing("port"))?,
            uploaded,
            downloaded,
            left,
            event,
            numwant,
            format,
            key,
            tracker_id,
        })
    }
}

fn parse_event(value: &[u8]) -> Option<Event> {
    [Event::Started, Event::Completed, Event::Stopped].into_iter().find(|e| e.as_str().as_bytes() == value)
}

fn parse_key(value: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When to announce again.
    pub interval: Duration,
    /// How long to wait at least, even when more peers are needed.
    pub min_interval: Option<Duration>,
    /// To be sent back with later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// Seeds in the swarm.
    pub complete: Option<u32>,
    /// Leechers in the swarm.
    pub incomplete: Option<u32>,
    /// How often the torrent was downloaded.
    pub downloaded: Option<u32>,
    /// The address that the tracker saw the announce come from (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// For the user to read; the announce succeeded nevertheless.
    pub warning: Option<String>,
    /// Other peers, in no particular order.
    pub peers: Vec<TrackerPeer>,
    /// What else the reply says of peers, or does not say. Never written.
    pub oddities: ReplyOddities,
}

impl AnnounceResponse {
    /// Reads a reply as a client gets it: any order of keys, compact peers, dictionaries, or a list of compact
    /// peers, with entries that make no sense left out (port 0, a tail shorter than a peer).
    /// Nothing is checked about the addresses themselves, and intervals are as the tracker says,
    /// but for negative ones, which are zero.
    ///
    /// # Errors
    /// When the tracker gives a failure reason, or the reply is not a bencoded dictionary.
    pub fn parse(body: &[u8]) -> Result<AnnounceResponse, ReplyError> {
        let document = reply::document(body)?;
        let dict = reply::accepted(&document)?;
        let count = |key: &[u8]| dict.get(key)?.as_int().and_then(|n| u32::try_from(n).ok());
        let interval = dict.get(b"interval").and_then(reply::seconds).unwrap_or(INTERVAL_DEFAULT);
        let tracker_id = dict.get(b"tracker id").and_then(Value::as_bytes);
        let mut peers = Vec::new();
        let mut oddities = ReplyOddities { lacks_peers: true, ..ReplyOddities::default() };
        for (key, family) in [(b"peers".as_slice(), Family::V4), (b"peers6", Family::V6)] {
            if let Some(value) = dict.get(key) {
                read_peers(value, family, &mut peers, &mut oddities);
            }
        }
        Ok(AnnounceResponse {
            interval,
            min_interval: dict.get(b"min interval").and_then(reply::seconds),
            tracker_id: tracker_id.filter(|id| id.len() <= TRACKER_ID_LEN_MAX).map(<[u8]>::to_vec),
            complete: count(b"complete"),
            incomplete: count(b"incomplete"),
            downloaded: count(b"downloaded"),
            external_ip: dict.get(b"external ip").and_then(Value::as_bytes).and_then(reply::ip),
            warning: dict.get(b"warning message").and_then(Value::as_bytes).map(reply::text),
            peers,
            oddities,
        })
    }

    /// The reply as a server sends it. In compact form peers of both families go to their own keys;
    /// peers without a known id get no `peer id`.
    pub fn encode(&self, format: PeerFormat) -> Vec<u8> {
        bencode::write_dict(|mut dict| {
            emit_some(&mut dict, b"complete", self.complete)?;
            emit_some(&mut dict, b"downloaded", self.downloaded)?;
            emit_some(&mut dict, b"external ip", self.external_ip.map(|ip| AsString(write_ip(ip))))?;
            emit_some(&mut dict, b"incomplete", self.incomplete)?;
            dict.emit_pair(b"interval", self.interval.as_secs())?;
            emit_some(&mut dict, b"min interval", self.min_interval.map(|interval| interval.as_secs()))?;
            write_peers(&self.peers, format, &mut dict)?;
            emit_some(&mut dict, b"tracker id", self.tracker_id.as_ref().map(AsString))?;
            emit_some(&mut dict, b"warning message", self.warning.as_ref())
        })
    }
}

#[cfg(test)]
mod tests;
