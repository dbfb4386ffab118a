//! What announce and scrape replies have in common: failure, text, peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bendy::encoding::{Encoder, Error as BendyError, SortedDictEncoder};

use super::announce::{PeerFormat, REPLY_NAMES_MAX, REPLY_PEERS_MAX, ReplyOddities, TrackerPeer};
use crate::bencode::{self, BencodeError, Dict, Document, Limits, Value};
use crate::id::PeerId;

/// Longest text taken from a tracker, in characters.
pub const TEXT_LEN_MAX: usize = 300;

/// How long a host name may be, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;
const V4_LEN: usize = 6;
const V6_LEN: usize = 18;

/// A reply nests at most dictionary, list, dictionary; a peer dictionary holds seven values.
const LIMITS: Limits =
    Limits { depth_max: 16, tokens_max: 16 * REPLY_PEERS_MAX, input_len_max: super::REPLY_LEN_MAX };

/// When a tracker that refuses wants to be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryIn {
    /// After this long; counted in minutes on the wire.
    After(Duration),
    /// Not at all.
    Never,
}

/// Why a tracker's reply is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// Not bencoded data.
    #[error("the tracker's reply is not bencoded: {0}")]
    Malformed(#[from] BencodeError),
    /// Bencoded, but not a dictionary.
    #[error("the tracker's reply is not a dictionary")]
    NotADictionary,
    /// The tracker says no.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// In the tracker's words.
        reason: String,
        /// When to ask again, if it says so.
        retry: Option<RetryIn>,
    },
}

/// A reply that says no (BEP 3's `failure reason`, BEP 31's `retry in`).
pub fn encode_failure(reason: &str, retry: Option<RetryIn>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder
        .emit_dict(|mut dict| {
            dict.emit_pair(b"failure reason", reason)?;
            match retry {
                Some(RetryIn::After(delay)) => dict.emit_pair(b"retry in", delay.as_secs().div_ceil(60)),
                Some(RetryIn::Never) => dict.emit_pair(b"retry in", "never"),
                None => Ok(()),
            }
        })
        .and_then(|()| encoder.get_output())
        .expect("keys are in order and each has a value")
}

/// The bencoded value that a body starts with: some trackers end it with a line break.
pub(super) fn document(body: &[u8]) -> Result<Document<'_>, ReplyError> {
    Ok(bencode::parse_prefix(body, &LIMITS)?.0)
}

/// The dictionary of a reply that is not a failure.
pub(super) fn accepted<'a>(document: &'a Document<'_>) -> Result<Dict<'a>, ReplyError> {
    let dict = document.root().as_dict().ok_or(ReplyError::NotADictionary)?;
    let Some(reason) = dict.get(b"failure reason").and_then(Value::as_bytes) else { return Ok(dict) };
    let retry = dict.get(b"retry in").and_then(|value| match value.as_bytes() {
        Some(b"never") => Some(RetryIn::Never),
        // Minutes, as an integer or as its digits.
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok().map(minutes),
        None => u32::try_from(value.as_int()?).ok().map(minutes),
    });
    Err(ReplyError::Refused { reason: text(reason), retry })
}

fn minutes(n: u32) -> RetryIn {
    RetryIn::After(Duration::from_secs(u64::from(n) * 60))
}

/// A number of seconds; a negative one is zero.
pub(super) fn seconds(value: Value<'_>) -> Option<Duration> {
    Some(Duration::from_secs(u64::try_from(value.as_int()?).unwrap_or(0)))
}

/// Text for a person: no control characters (a terminal would obey them), of bounded length.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_LEN_MAX)
        .collect()
}

/// An address as 4 or 16 bytes (BEP 24), or written out.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        return Some(Ipv6Addr::from(octets).to_canonical());
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Appends the peers of a `peers` or `peers6` value, up to [`REPLY_PEERS_MAX`] in all.
pub(super) fn read_peers(
    value: Value<'_>,
    v6: bool,
    peers: &mut Vec<TrackerPeer>,
    oddities: &mut ReplyOddities,
) {
    let room = REPLY_PEERS_MAX.saturating_sub(peers.len());
    if let Some(list) = value.as_list() {
        oddities.lacks_peers = false;
        for entry in list.iter().take(room) {
            match read_entry(entry) {
                Some(Entry::Peer(peer)) => peers.push(peer),
                Some(Entry::Named(name)) if oddities.names.len() < REPLY_NAMES_MAX => {
                    oddities.names.push(name);
                }
                // Who cannot be dialled is often listed so.
                Some(Entry::NoPort) => {}
                _ => oddities.passed_over += 1,
            }
        }
    } else if let Some(bytes) = value.as_bytes() {
        oddities.lacks_peers = false;
        let entries = bytes.chunks_exact(if v6 { V6_LEN } else { V4_LEN });
        peers.extend(entries.filter_map(compact).take(room));
    }
}

/// One entry of a list of peers.
enum Entry {
    Peer(TrackerPeer),
    Named((String, u16)),
    NoPort,
}

/// A peer as a dictionary (BEP 3), or as the bytes of one compact peer, which some trackers list.
fn read_entry(value: Value<'_>) -> Option<Entry> {
    if let Some(bytes) = value.as_bytes() {
        let is_peer = matches!(bytes.len(), V4_LEN | V6_LEN);
        return is_peer.then(|| compact(bytes).map_or(Entry::NoPort, Entry::Peer));
    }
    let host = std::str::from_utf8(value.get(b"ip")?.as_bytes()?).ok()?;
    let port = u16::try_from(value.get(b"port")?.as_int()?).ok()?;
    if port == 0 {
        return Some(Entry::NoPort);
    }
    let Ok(ip) = host.parse::<IpAddr>() else {
        let is_name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        let is_host = (1..=HOST_LEN_MAX).contains(&host.len()) && host.bytes().all(is_name);
        return is_host.then(|| Entry::Named((host.to_owned(), port)));
    };
    let id = value.get(b"peer id").and_then(Value::as_bytes);
    let id = id.and_then(|id| id.try_into().ok()).map(PeerId);
    peer(ip.to_canonical(), port, id).map(Entry::Peer)
}

/// A peer as 6 bytes, or 18.
fn compact(entry: &[u8]) -> Option<TrackerPeer> {
    let (octets, port) = entry.split_last_chunk::<2>()?;
    let ip = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical(),
    };
    peer(ip, u16::from_be_bytes(*port), None)
}

fn peer(ip: IpAddr, port: u16, id: Option<PeerId>) -> Option<TrackerPeer> {
    (port != 0).then_some(TrackerPeer { addr: SocketAddr::new(ip, port), id })
}

/// Writes `peers`, and `peers6` where there are any.
pub(super) fn write_peers(
    peers: &[TrackerPeer],
    format: PeerFormat,
    dict: &mut SortedDictEncoder<'_>,
) -> Result<(), BendyError> {
    if format != PeerFormat::Compact {
        return dict.emit_pair_with(b"peers", |e| {
            e.emit_list(|list| {
                peers.iter().try_for_each(|peer| list.emit_with(|e| write_peer(peer, format, e)))
            })
        });
    }
    let (mut v4, mut v6) = (Vec::with_capacity(V4_LEN * peers.len()), Vec::new());
    for peer in peers {
        let out = match peer.addr.ip() {
            IpAddr::V4(ip) => {
                v4.extend_from_slice(&ip.octets());
                &mut v4
            }
            IpAddr::V6(ip) => {
                v6.extend_from_slice(&ip.octets());
                &mut v6
            }
        };
        out.extend_from_slice(&peer.addr.port().to_be_bytes());
    }
    dict.emit_pair_with(b"peers", |e| e.emit_bytes(&v4))?;
    if !v6.is_empty() {
        dict.emit_pair_with(b"peers6", |e| e.emit_bytes(&v6))?;
    }
    Ok(())
}

fn write_peer(
    peer: &TrackerPeer,
    format: PeerFormat,
    encoder: bendy::encoding::SingleItemEncoder<'_>,
) -> Result<(), BendyError> {
    encoder.emit_dict(|mut dict| {
        dict.emit_pair(b"ip", peer.addr.ip().to_string())?;
        if let (PeerFormat::Dictionaries, Some(id)) = (format, peer.id) {
            dict.emit_pair_with(b"peer id", |e| e.emit_bytes(&id.0))?;
        }
        dict.emit_pair(b"port", peer.addr.port())
    })
}
