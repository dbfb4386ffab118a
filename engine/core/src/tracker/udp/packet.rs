//! The datagrams: fixed fields, big-endian, in this order.

use std::time::Duration;

use url::Url;

use crate::fields::Fields;
use crate::id::{InfoHash, PeerId};
use crate::net::{Family, compact_len, write_compact};
use crate::tracker::announce::{AnnounceRequest, AnnounceResponse, Event};
use crate::tracker::peers::{PeerFormat, REPLY_PEERS_MAX, compact_peer};
use crate::tracker::{reply, scrape::ScrapeStats};

/// The longest datagram that is sent, in bytes: every link that carries IPv6 takes it in one piece.
pub const DATAGRAM_LEN_MAX: usize = 1280 - 40 - 8;
/// The longest path and query that an announce carries (BEP 41), in bytes.
pub const URL_DATA_LEN_MAX: usize = 1024;
/// Most info-hashes in one scrape, as BEP 15 has it.
pub const SCRAPE_HASHES_MAX: usize = 74;

/// What an announce or a scrape carries to show that its sender has the address that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// The client's name for a request, repeated in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// Most peers in a response that [`DATAGRAM_LEN_MAX`] has room for.
pub const fn peers_max(family: Family) -> usize {
    (DATAGRAM_LEN_MAX - ANNOUNCE_RESPONSE_LEN) / compact_len(family)
}

/// What a connect has in place of a connection id.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Bytes of an announce's response before its peers.
const ANNOUNCE_RESPONSE_LEN: usize = 20;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_URL_DATA: u8 = 2;

/// Why a datagram is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// It ends within a field.
    #[error("the datagram is too short")]
    TooShort,
    /// An action that this protocol does not have, or not in this direction.
    #[error("there is no action {0}")]
    UnknownAction(u32),
    /// A connect that does not begin as every connect does.
    #[error("it is not a connect of the UDP tracker protocol")]
    NotAConnect,
    /// A scrape of nothing, of part of an info-hash, or of more than [`SCRAPE_HASHES_MAX`].
    #[error("a scrape does not name between one and {SCRAPE_HASHES_MAX} info-hashes")]
    WrongHashes,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for a connection id.
    Connect {
        /// To be repeated in the response.
        transaction: TransactionId,
    },
    /// An announce. The address is that of the sender; `tracker_id` and `format` do not travel.
    Announce {
        /// From an earlier connect.
        connection: ConnectionId,
        /// To be repeated in the response.
        transaction: TransactionId,
        /// What is announced.
        announce: AnnounceRequest,
        /// Path and query of the tracker's URL, at most [`URL_DATA_LEN_MAX`] bytes; see [`url_data`].
        url_data: Vec<u8>,
    },
    /// Asks for the sizes of swarms.
    Scrape {
        /// From an earlier connect.
        connection: ConnectionId,
        /// To be repeated in the response.
        transaction: TransactionId,
        /// The torrents, one to [`SCRAPE_HASHES_MAX`].
        info_hashes: Vec<InfoHash>,
    },
}

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a connect.
    Connect {
        /// Of the request.
        transaction: TransactionId,
        /// To be sent with announces and scrapes.
        connection: ConnectionId,
    },
    /// To an announce: interval, sizes and peers are all that travels.
    Announce {
        /// Of the request.
        transaction: TransactionId,
        /// What the tracker says.
        response: AnnounceResponse,
    },
    /// To a scrape: sizes in the order of the request.
    Scrape {
        /// Of the request.
        transaction: TransactionId,
        /// For each torrent that was asked for.
        stats: Vec<ScrapeStats>,
    },
    /// The tracker says no.
    Error {
        /// Of the request.
        transaction: TransactionId,
        /// In the tracker's words.
        message: String,
    },
}

/// The path and query of a tracker's URL, as an announce carries them (BEP 41): a passkey is often there.
pub fn url_data(url: &Url) -> String {
    let mut data = url.path().to_owned();
    if let Some(query) = url.query() {
        data.push('?');
        data.push_str(query);
    }
    data
}

impl Request {
    /// Reads a datagram as a server gets it. What follows the fields of a connect and the options of an announce
    /// is left to later extensions, as BEP 15 asks.
    ///
    /// # Errors
    /// When it is not a request of this protocol.
    pub fn parse(datagram: &[u8]) -> Result<Request, PacketError> {
        let mut fields = Fields(datagram);
        let connection = ConnectionId(fields.u64().ok_or(PacketError::TooShort)?);
        let (action, transaction) = read_head(&mut fields)?;
        match action {
            CONNECT if connection.0 == PROTOCOL_ID => Ok(Request::Connect { transaction }),
            CONNECT => Err(PacketError::NotAConnect),
            ANNOUNCE => {
                let announce = read_announce(&mut fields).ok_or(PacketError::TooShort)?;
                Ok(Request::Announce { connection, transaction, announce, url_data: read_url_data(fields.0) })
            }
            SCRAPE => {
                let (hashes, []) = fields.0.as_chunks() else { return Err(PacketError::WrongHashes) };
                if hashes.is_empty() || hashes.len() > SCRAPE_HASHES_MAX {
                    return Err(PacketError::WrongHashes);
                }
                let info_hashes = hashes.iter().copied().map(InfoHash).collect();
                Ok(Request::Scrape { connection, transaction, info_hashes })
            }
            other => Err(PacketError::UnknownAction(other)),
        }
    }

    /// The datagram as a client sends it. What is beyond the limits of a field is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut start = |id: u64, action: u32, transaction: TransactionId| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Request::Connect { transaction } => start(PROTOCOL_ID, CONNECT, *transaction),
            Request::Announce { connection, transaction, announce, url_data } => {
                start(connection.0, ANNOUNCE, *transaction);
                write_announce(announce, &mut out);
                for part in url_data[..url_data.len().min(URL_DATA_LEN_MAX)].chunks(u8::MAX.into()) {
                    out.extend_from_slice(&[OPTION_URL_DATA, part.len() as u8]);
                    out.extend_from_slice(part);
                }
            }
            Request::Scrape { connection, transaction, info_hashes } => {
                start(connection.0, SCRAPE, *transaction);
                for hash in info_hashes.iter().take(SCRAPE_HASHES_MAX) {
                    out.extend_from_slice(&hash.0);
                }
            }
        }
        out
    }
}

fn read_announce(fields: &mut Fields<'_>) -> Option<AnnounceRequest> {
    let info_hash = InfoHash(fields.take()?);
    let peer_id = PeerId(fields.take()?);
    let [downloaded, left, uploaded] = [fields.u64()?, fields.u64()?, fields.u64()?];
    let event = match fields.u32()? {
        1 => Some(Event::Completed),
        2 => Some(Event::Started),
        3 => Some(Event::Stopped),
        _ => None,
    };
    // A client that could name any address could point a swarm at a stranger.
    let _address = fields.u32()?;
    let key = Some(fields.u32()?);
    let numwant = fields.i32()?.try_into().ok();
    let port = fields.u16()?;
    let (format, tracker_id) = (PeerFormat::Compact, None);
    Some(AnnounceRequest {
        info_hash,
        peer_id,
        port,
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

fn write_announce(announce: &AnnounceRequest, out: &mut Vec<u8>) {
    out.extend_from_slice(&announce.info_hash.0);
    out.extend_from_slice(&announce.peer_id.0);
    for count in [announce.downloaded, announce.left, announce.uploaded] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    let event: u32 = match announce.event {
        None => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    };
    let numwant = announce.numwant.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
    out.extend_from_slice(&event.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&announce.key.unwrap_or_default().to_be_bytes());
    out.extend_from_slice(&numwant.to_be_bytes());
    out.extend_from_slice(&announce.port.to_be_bytes());
}

/// The options after an announce (BEP 41). Unknown ones are skipped; one that runs beyond the datagram ends them,
/// since some clients send a few bytes that mean nothing.
fn read_url_data(mut rest: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some((&kind, tail)) = rest.split_first() {
        rest = tail;
        match kind {
            OPTION_END => break,
            OPTION_NOP => continue,
            _ => {}
        }
        let Some((&len, tail)) = rest.split_first() else { break };
        let Some((value, tail)) = tail.split_at_checked(len.into()) else { break };
        rest = tail;
        if kind == OPTION_URL_DATA && data.len() + value.len() <= URL_DATA_LEN_MAX {
            data.extend_from_slice(value);
        }
    }
    data
}

impl Response {
    /// Reads a datagram as a client gets it over a socket of this family, which decides how long a peer is. Peers
    /// that make no sense are left out (port 0, a tail shorter than a peer), and negative numbers are zero.
    ///
    /// # Errors
    /// When it is not a response of this protocol.
    pub fn parse(datagram: &[u8], family: Family) -> Result<Response, PacketError> {
        let mut fields = Fields(datagram);
        let (action, transaction) = read_head(&mut fields)?;
        match action {
            CONNECT => {
                let connection = ConnectionId(fields.u64().ok_or(PacketError::TooShort)?);
                Ok(Response::Connect { transaction, connection })
            }
            ANNOUNCE => {
                let [interval, incomplete, complete] =
                    read_counts(&mut fields).ok_or(PacketError::TooShort)?;
                let peers = fields.0.chunks_exact(compact_len(family)).filter_map(compact_peer);
                let response = AnnounceResponse {
                    interval: Duration::from_secs(interval.into()),
                    min_interval: None,
                    tracker_id: None,
                    complete: Some(complete),
                    incomplete: Some(incomplete),
                    downloaded: None,
                    external_ip: None,
                    warning: None,
                    peers: peers.take(REPLY_PEERS_MAX).collect(),
                    oddities: Default::default(),
                };
                Ok(Response::Announce { transaction, response })
            }
            SCRAPE => {
                let (entries, _) = fields.0.as_chunks::<12>();
                let read = |entry: &[u8; 12]| {
                    let [complete, downloaded, incomplete] = read_counts(&mut Fields(entry))?;
                    Some(ScrapeStats { complete, incomplete, downloaded })
                };
                let stats = entries.iter().take(SCRAPE_HASHES_MAX).filter_map(read).collect();
                Ok(Response::Scrape { transaction, stats })
            }
            ERROR => Ok(Response::Error { transaction, message: reply::text(fields.0) }),
            other => Err(PacketError::UnknownAction(other)),
        }
    }

    /// Appends the datagram as a server sends it to a client of this family: the peers of that family, as many as
    /// [`peers_max`] allows.
    pub fn encode(&self, family: Family, out: &mut Vec<u8>) {
        let mut start = |action: u32, transaction: TransactionId| {
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.0.to_be_bytes());
        };
        match self {
            Response::Connect { transaction, connection } => {
                start(CONNECT, *transaction);
                out.extend_from_slice(&connection.0.to_be_bytes());
            }
            Response::Announce { transaction, response } => {
                start(ANNOUNCE, *transaction);
                let interval_s = u32::try_from(response.interval.as_secs()).unwrap_or(u32::MAX);
                let (incomplete, complete) = (response.incomplete, response.complete);
                for number in [interval_s, incomplete.unwrap_or_default(), complete.unwrap_or_default()] {
                    write_count(number, out);
                }
                let of_family = response.peers.iter().filter(|peer| Family::of_ip(peer.addr.ip()) == family);
                for peer in of_family.take(peers_max(family)) {
                    write_compact(peer.addr, out);
                }
            }
            Response::Scrape { transaction, stats } => {
                start(SCRAPE, *transaction);
                for stats in stats.iter().take(SCRAPE_HASHES_MAX) {
                    for number in [stats.complete, stats.downloaded, stats.incomplete] {
                        write_count(number, out);
                    }
                }
            }
            Response::Error { transaction, message } => {
                start(ERROR, *transaction);
                out.extend_from_slice(message.as_bytes());
            }
        }
    }
}

fn read_head(fields: &mut Fields<'_>) -> Result<(u32, TransactionId), PacketError> {
    let head = fields.u32().zip(fields.u32());
    head.map(|(action, transaction)| (action, TransactionId(transaction))).ok_or(PacketError::TooShort)
}

/// Three numbers that clients take for signed ones.
fn read_counts(fields: &mut Fields<'_>) -> Option<[u32; 3]> {
    let mut count = || Some(u32::try_from(fields.i32()?).unwrap_or(0));
    Some([count()?, count()?, count()?])
}

fn write_count(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&i32::try_from(number).unwrap_or(i32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests;
