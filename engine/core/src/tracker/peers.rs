//! Peers in the replies of trackers: compact (BEP 7, 23), as dictionaries (BEP 3), or a mixture of both.

use std::net::{IpAddr, SocketAddr};

use bendy::encoding::{Error as BendyError, SingleItemEncoder, SortedDictEncoder};

use crate::bencode::Value;
use crate::id::PeerId;
use crate::net::{Family, compact_len, read_compact, write_compact};

/// Most peers taken from one reply; the rest is ignored.
pub const REPLY_PEERS_MAX: usize = 2000;
/// Most peers taken from one reply that are named by their hosts' names.
pub const REPLY_NAMES_MAX: usize = 8;
/// How long a host name may be, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;

/// How a reply lists its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerFormat {
    /// 6 bytes for each IPv4 peer (BEP 23), 18 for each IPv6 peer (BEP 7).
    Compact,
    /// A dictionary for each peer (BEP 3).
    Dictionaries,
    /// A dictionary for each peer, without its peer id.
    DictionariesWithoutIds,
}

/// A peer as a tracker names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrackerPeer {
    /// Where it listens. The port is never zero.
    pub addr: SocketAddr,
    /// Its peer id, if the reply was not compact.
    pub id: Option<PeerId>,
}

/// What is odd about the peers of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyOddities {
    /// Peers with a host's name for an address (BEP 3), and their ports: the first [`REPLY_NAMES_MAX`].
    pub names: Vec<(String, u16)>,
    /// Entries that are no peers, and names beyond the bound.
    pub passed_over: usize,
    /// There is no list of peers, not even an empty one.
    pub lacks_peers: bool,
}

/// Appends the peers of a `peers` or `peers6` value, up to [`REPLY_PEERS_MAX`] in all.
pub(super) fn read_peers(
    value: Value<'_>,
    family: Family,
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
        let entries = bytes.chunks_exact(compact_len(family));
        peers.extend(entries.filter_map(compact_peer).take(room));
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
        let is_peer = Family::ALL.map(compact_len).contains(&bytes.len());
        return is_peer.then(|| compact_peer(bytes).map_or(Entry::NoPort, Entry::Peer));
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
    Some(Entry::Peer(TrackerPeer { addr: SocketAddr::new(ip.to_canonical(), port), id }))
}

/// A peer in compact form; none at port 0.
pub(super) fn compact_peer(entry: &[u8]) -> Option<TrackerPeer> {
    let addr = read_compact(entry).filter(|addr| addr.port() != 0)?;
    Some(TrackerPeer { addr, id: None })
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
    let (mut v4, mut v6) = (Vec::with_capacity(compact_len(Family::V4) * peers.len()), Vec::new());
    for peer in peers {
        write_compact(peer.addr, if Family::of(peer.addr) == Family::V4 { &mut v4 } else { &mut v6 });
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
    encoder: SingleItemEncoder<'_>,
) -> Result<(), BendyError> {
    encoder.emit_dict(|mut dict| {
        dict.emit_pair(b"ip", peer.addr.ip().to_string())?;
        if let (PeerFormat::Dictionaries, Some(id)) = (format, peer.id) {
            dict.emit_pair_with(b"peer id", |e| e.emit_bytes(&id.0))?;
        }
        dict.emit_pair(b"port", peer.addr.port())
    })
}
