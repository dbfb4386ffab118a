//! KRPC: queries, responses and errors, one to a datagram (BEP 5).
//!
//! Reading is strict in what an answer depends on (ids and targets of 20 bytes, ports that fit) and lenient in what
//! real nodes do: unknown keys and versions of any length are skipped, a list of nodes may be cut short, whatever
//! follows the message is ignored. Writing is by hand, since signed values (BEP 44) must go out as they came in.

use super::compact::{NodeInfo, read_nodes, write_nodes};
use super::id::NodeId;
use super::items::{Item, Owner, SALT_LEN_MAX, VALUE_LEN_MAX};
use super::scrape::{Filter, Scrape};
use crate::bencode::{self, BencodeError, Dict, Limits, Value};
use crate::id::InfoHash;
use crate::net::{Family, compact_len, read_compact, write_compact};
use std::net::SocketAddr;

/// Longest datagram that is read, in bytes. What nodes send stays below the 1,500 of an Ethernet frame.
pub const DATAGRAM_LEN_MAX: usize = 2_048;
/// Longest transaction id that is answered, in bytes. In use are 2 to 8.
pub const TRANSACTION_LEN_MAX: usize = 32;
/// Longest token that is sent back, in bytes. In use are 4 to 20.
pub const TOKEN_LEN_MAX: usize = 64;
/// Most peers and samples taken from one response.
pub const VALUES_MAX: usize = 200;

/// What a datagram may cost to read.
const LIMITS: Limits = Limits { depth_max: 32, tokens_max: 600, input_len_max: DATAGRAM_LEN_MAX };

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `t`: made up by who asks, repeated by who answers.
    pub transaction: Vec<u8>,
    /// `ip`: where the sender sees the receiver (BEP 42).
    pub external_addr: Option<SocketAddr>,
    /// `ro`: the sender answers no queries and is not to be remembered (BEP 43).
    pub read_only: bool,
    /// What it is.
    pub body: Body,
}

/// A message by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Somebody asks.
    Query(Query),
    /// Somebody answers.
    Response(Response),
    /// Somebody says no.
    Error(KrpcError),
}

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The asker's id.
    pub id: NodeId,
    /// The families of nodes that it wants (BEP 32); empty: the one that the query comes over.
    pub want: Vec<Family>,
    /// The question.
    pub question: Question,
}

/// A question and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// Are you there?
    Ping,
    /// Which nodes are nearest to a place?
    FindNode {
        /// The place.
        target: NodeId,
    },
    /// Who is in a swarm?
    GetPeers {
        /// The swarm.
        info_hash: InfoHash,
        /// Leave out seeds (BEP 33).
        no_seeds: bool,
        /// Tell how many there are (BEP 33).
        scrape: bool,
    },
    /// I am in a swarm.
    AnnouncePeer {
        /// The swarm.
        info_hash: InfoHash,
        /// Where I listen.
        port: u16,
        /// Never mind `port`: I listen where this datagram comes from.
        implied_port: bool,
        /// I have all of it (BEP 33).
        is_seed: bool,
        /// What you gave me when I asked for peers.
        token: Vec<u8>,
    },
    /// What is kept at a place (BEP 44)?
    Get {
        /// The place.
        target: NodeId,
        /// Leave out a value that is no newer than this.
        seq: Option<i64>,
    },
    /// Keep this (BEP 44).
    Put {
        /// What to keep.
        item: Item,
        /// Only if this version is there.
        cas: Option<i64>,
        /// What you gave me when I asked what is there.
        token: Vec<u8>,
    },
    /// Which swarms do you know peers of (BEP 51)?
    SampleInfohashes {
        /// Name nodes near this place besides.
        target: NodeId,
    },
    /// A question that we do not know, about a place: answered with the nodes nearest to it.
    UnknownAbout {
        /// `target` or `info_hash`.
        target: NodeId,
    },
}

/// What somebody answers. Which parts there are depends on the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The answerer's id.
    pub id: Option<NodeId>,
    /// Nodes that are nearer, IPv4.
    pub nodes: Option<Vec<NodeInfo>>,
    /// Nodes that are nearer, IPv6 (BEP 32).
    pub nodes6: Option<Vec<NodeInfo>>,
    /// To be shown when announcing or storing.
    pub token: Option<Vec<u8>>,
    /// Peers of the swarm that was asked about.
    pub peers: Vec<SocketAddr>,
    /// How many peers the node knows of that swarm, if that was asked (BEP 33).
    pub scrape: Option<Scrape>,
    /// What is kept at the place that was asked about. A mutable item comes without its salt, which who asks knows.
    pub item: Option<Item>,
    /// The version of what is kept there.
    pub seq: Option<i64>,
    /// Swarms that the node knows peers of.
    pub samples: Option<Samples>,
}

/// Some of the swarms that a node knows peers of (BEP 51).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Seconds until asking again gives others.
    pub interval_s: u32,
    /// How many there are in all.
    pub count: u32,
    /// Some of them.
    pub hashes: Vec<InfoHash>,
}

/// Somebody's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrpcError {
    /// See [`ErrorCode`].
    pub code: i64,
    /// For a person who debugs.
    pub text: String,
}

/// The codes of errors that we send (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Something about the arguments is wrong, or the token.
    Protocol = 203,
    /// No such question.
    MethodUnknown = 204,
    /// The value is longer than [`VALUE_LEN_MAX`] (BEP 44).
    ValueTooBig = 205,
    /// The signature is not the owner's.
    BadSignature = 206,
    /// The salt is longer than [`SALT_LEN_MAX`].
    SaltTooBig = 207,
    /// Another version is there than the sender expects.
    CasMismatch = 301,
    /// A later version is there.
    Outdated = 302,
}

/// Why a datagram is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not bencoded.
    #[error("the datagram is not bencoded: {0}")]
    Malformed(#[from] BencodeError),
    /// Bencoded, but neither a query, a response nor an error, or without a transaction.
    #[error("the datagram is no message of the DHT")]
    NotAMessage,
    /// A query that cannot be answered but with an error.
    #[error("the query is not valid: {text}")]
    BadQuery {
        /// To be repeated in the answer.
        transaction: Vec<u8>,
        /// Which error it is.
        code: ErrorCode,
        /// What is wrong.
        text: &'static str,
    },
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`MessageError`] says whether it deserves an answer.
    pub fn parse(datagram: &[u8]) -> Result<Message, MessageError> {
        let (document, _) = bencode::parse_prefix(datagram, &LIMITS)?;
        let dict = document.root().as_dict().ok_or(MessageError::NotAMessage)?;
        let bytes = |key: &[u8]| dict.get(key).and_then(Value::as_bytes);
        let transaction = bytes(b"t").filter(|t| t.len() <= TRANSACTION_LEN_MAX);
        let transaction = transaction.ok_or(MessageError::NotAMessage)?.to_vec();
        let body = match bytes(b"y") {
            Some(b"q") => read_query(dict).map(Body::Query).map_err(|(code, text)| {
                MessageError::BadQuery { transaction: transaction.clone(), code, text }
            })?,
            Some(b"r") => {
                let values = dict.get(b"r").and_then(Value::as_dict);
                Body::Response(values.map(read_response).ok_or(MessageError::NotAMessage)?)
            }
            Some(b"e") => Body::Error(read_error(dict)),
            _ => return Err(MessageError::NotAMessage),
        };
        Ok(Message {
            transaction,
            external_addr: bytes(b"ip").and_then(read_compact),
            read_only: is_set(dict, b"ro"),
            body,
        })
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match &self.body {
            Body::Query(query) => {
                w.key(b"a").raw(b"d");
                write_arguments(query, &mut w);
                w.raw(b"e");
            }
            Body::Error(error) => {
                w.key(b"e").raw(b"l").int(error.code).bytes(error.text.as_bytes()).raw(b"e");
            }
            Body::Response(_) => {}
        }
        if let Some(addr) = self.external_addr {
            w.key(b"ip").addr(addr);
        }
        match &self.body {
            Body::Query(query) => {
                w.key(b"q").bytes(method(&query.question));
            }
            Body::Response(response) => {
                w.key(b"r").raw(b"d");
                write_response(response, &mut w);
                w.raw(b"e");
            }
            Body::Error(_) => {}
        }
        if self.read_only {
            w.key(b"ro").int(1);
        }
        w.key(b"t").bytes(&self.transaction);
        w.key(b"v").bytes(VERSION);
        w.key(b"y").bytes(match self.body {
            Body::Query(_) => b"q",
            Body::Response(_) => b"r",
            Body::Error(_) => b"e",
        });
        w.finish()
    }
}

/// What we call ourselves: two letters and a version.
const VERSION: &[u8; 4] = b"SW\x00\x01";

type Refusal = (ErrorCode, &'static str);

fn read_query(dict: Dict<'_>) -> Result<Query, Refusal> {
    let wrong = |text| (ErrorCode::Protocol, text);
    let method = dict.get(b"q").and_then(Value::as_bytes).ok_or(wrong("no method"))?;
    let args = dict.get(b"a").and_then(Value::as_dict).ok_or(wrong("no arguments"))?;
    let twenty = |key: &[u8]| <[u8; 20]>::try_from(args.get(key)?.as_bytes()?).ok();
    let id = twenty(b"id").map(NodeId).ok_or(wrong("id is not 20 bytes"))?;
    let target = || twenty(b"target").map(NodeId).ok_or(wrong("target is not 20 bytes"));
    let info_hash = || twenty(b"info_hash").map(InfoHash).ok_or(wrong("info_hash is not 20 bytes"));
    let question = match method {
        b"ping" => Question::Ping,
        b"find_node" => Question::FindNode { target: target()? },
        b"get_peers" => Question::GetPeers {
            info_hash: info_hash()?,
            no_seeds: is_set(args, b"noseed"),
            scrape: is_set(args, b"scrape"),
        },
        b"announce_peer" => Question::AnnouncePeer {
            info_hash: info_hash()?,
            port: read_port(args).ok_or(wrong("port is not from 1 to 65535"))?,
            implied_port: is_set(args, b"implied_port"),
            is_seed: is_set(args, b"seed"),
            token: token(args).ok_or(wrong("no token"))?,
        },
        b"get" => Question::Get { target: target()?, seq: args.get(b"seq").and_then(Value::as_int) },
        b"put" => Question::Put {
            item: read_put(args)?,
            cas: args.get(b"cas").and_then(Value::as_int),
            token: token(args).ok_or(wrong("no token"))?,
        },
        b"sample_infohashes" => Question::SampleInfohashes { target: target()? },
        _ => match target().or_else(|_| info_hash().map(NodeId::from)) {
            Ok(target) => Question::UnknownAbout { target },
            Err(_) => return Err((ErrorCode::MethodUnknown, "method unknown")),
        },
    };
    Ok(Query { id, want: read_want(args), question })
}

fn read_put(args: Dict<'_>) -> Result<Item, Refusal> {
    let value = args.get(b"v").ok_or((ErrorCode::Protocol, "no value"))?.raw().to_vec();
    if value.len() > VALUE_LEN_MAX {
        return Err((ErrorCode::ValueTooBig, "value too big"));
    }
    if args.get(b"k").is_none() {
        return Ok(Item::immutable(value));
    }
    let owner =
        read_owner(args).ok_or((ErrorCode::Protocol, "k, sig or seq is missing or of a wrong length"))?;
    if owner.salt.len() > SALT_LEN_MAX {
        return Err((ErrorCode::SaltTooBig, "salt too big"));
    }
    Ok(Item { value, owner: Some(owner) })
}

fn read_owner(dict: Dict<'_>) -> Option<Owner> {
    let bytes = |key: &[u8]| dict.get(key).and_then(Value::as_bytes);
    Some(Owner {
        key: bytes(b"k")?.try_into().ok()?,
        salt: bytes(b"salt").unwrap_or_default().to_vec(),
        seq: dict.get(b"seq")?.as_int()?,
        signature: bytes(b"sig")?.try_into().ok()?,
    })
}

/// The port announced; 0 if there is none and it is not needed.
fn read_port(args: Dict<'_>) -> Option<u16> {
    let port = args.get(b"port").and_then(Value::as_int).and_then(|port| u16::try_from(port).ok());
    if is_set(args, b"implied_port") { Some(port.unwrap_or(0)) } else { port.filter(|port| *port != 0) }
}

fn read_want(args: Dict<'_>) -> Vec<Family> {
    let named = args.get(b"want").and_then(Value::as_list);
    let mut families: Vec<Family> = named
        .into_iter()
        .flat_map(|list| list.iter().take(4))
        .filter_map(|name| match name.as_bytes() {
            Some(b"n4") => Some(Family::V4),
            Some(b"n6") => Some(Family::V6),
            _ => None,
        })
        .collect();
    families.sort_unstable();
    families.dedup();
    families
}

fn read_response(dict: Dict<'_>) -> Response {
    let bytes = |key: &[u8]| dict.get(key).and_then(Value::as_bytes);
    let peers = dict.get(b"values").and_then(Value::as_list);
    Response {
        id: bytes(b"id").and_then(|id| id.try_into().ok()).map(NodeId),
        nodes: bytes(b"nodes").map(|nodes| read_nodes(nodes, Family::V4)),
        nodes6: bytes(b"nodes6").map(|nodes| read_nodes(nodes, Family::V6)),
        token: token(dict),
        peers: peers
            .into_iter()
            .flat_map(|list| list.iter().take(VALUES_MAX))
            .filter_map(|peer| peer.as_bytes().and_then(read_compact))
            .filter(|addr| addr.port() != 0)
            .collect(),
        scrape: filter(dict, b"BFsd")
            .zip(filter(dict, b"BFpe"))
            .map(|(seeds, downloaders)| Scrape { seeds, downloaders }),
        item: dict
            .get(b"v")
            .map(Value::raw)
            .filter(|value| value.len() <= VALUE_LEN_MAX)
            .map(|value| Item { value: value.to_vec(), owner: read_owner(dict) }),
        seq: dict.get(b"seq").and_then(Value::as_int),
        samples: bytes(b"samples").map(|samples| Samples {
            interval_s: number(dict, b"interval"),
            count: number(dict, b"num"),
            hashes: samples.as_chunks::<20>().0.iter().take(VALUES_MAX).copied().map(InfoHash).collect(),
        }),
    }
}

fn filter(dict: Dict<'_>, key: &[u8]) -> Option<Filter> {
    Some(Filter(Box::new(dict.get(key)?.as_bytes()?.try_into().ok()?)))
}

fn number(dict: Dict<'_>, key: &[u8]) -> u32 {
    dict.get(key).and_then(Value::as_int).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

fn read_error(dict: Dict<'_>) -> KrpcError {
    let list = dict.get(b"e").and_then(Value::as_list);
    let mut values = list.into_iter().flat_map(|list| list.iter());
    let code = values.next().and_then(Value::as_int).unwrap_or(0);
    let text = values.next().and_then(Value::as_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(100).collect();
    KrpcError { code, text }
}

fn token(dict: Dict<'_>) -> Option<Vec<u8>> {
    let token = dict.get(b"token")?.as_bytes()?;
    (token.len() <= TOKEN_LEN_MAX).then(|| token.to_vec())
}

fn is_set(dict: Dict<'_>, key: &[u8]) -> bool {
    dict.get(key).and_then(Value::as_int).is_some_and(|value| value != 0)
}

fn method(question: &Question) -> &'static [u8] {
    match question {
        Question::Ping => b"ping",
        // We ask no question that we do not know; its nearest relative.
        Question::FindNode { .. } | Question::UnknownAbout { .. } => b"find_node",
        Question::GetPeers { .. } => b"get_peers",
        Question::AnnouncePeer { .. } => b"announce_peer",
        Question::Get { .. } => b"get",
        Question::Put { .. } => b"put",
        Question::SampleInfohashes { .. } => b"sample_infohashes",
    }
}

fn write_arguments(query: &Query, w: &mut Writer) {
    if let Question::Put { cas: Some(cas), .. } = query.question {
        w.key(b"cas").int(cas);
    }
    w.key(b"id").bytes(&query.id.0);
    match &query.question {
        Question::Ping => {}
        Question::FindNode { target }
        | Question::UnknownAbout { target }
        | Question::SampleInfohashes { target } => {
            w.key(b"target").bytes(&target.0);
        }
        Question::Get { target, seq } => {
            if let Some(seq) = seq {
                w.key(b"seq").int(*seq);
            }
            w.key(b"target").bytes(&target.0);
        }
        Question::Put { item, token, .. } => {
            if let Some(owner) = &item.owner {
                w.key(b"k").bytes(&owner.key);
                if !owner.salt.is_empty() {
                    w.key(b"salt").bytes(&owner.salt);
                }
                w.key(b"seq").int(owner.seq).key(b"sig").bytes(&owner.signature);
            }
            w.key(b"token").bytes(token).key(b"v").raw(&item.value);
        }
        Question::GetPeers { info_hash, no_seeds, scrape } => {
            w.key(b"info_hash").bytes(&info_hash.0);
            if *no_seeds {
                w.key(b"noseed").int(1);
            }
            if *scrape {
                w.key(b"scrape").int(1);
            }
        }
        Question::AnnouncePeer { info_hash, port, implied_port, is_seed, token } => {
            if *implied_port {
                w.key(b"implied_port").int(1);
            }
            w.key(b"info_hash").bytes(&info_hash.0);
            w.key(b"port").int(i64::from(*port));
            if *is_seed {
                w.key(b"seed").int(1);
            }
            w.key(b"token").bytes(token);
        }
    }
    if !query.want.is_empty() {
        w.key(b"want").raw(b"l");
        for family in &query.want {
            w.bytes(if *family == Family::V4 { b"n4" } else { b"n6" });
        }
        w.raw(b"e");
    }
}

fn write_response(response: &Response, w: &mut Writer) {
    if let Some(Scrape { seeds, downloaders }) = &response.scrape {
        w.key(b"BFpe").bytes(&downloaders.0[..]).key(b"BFsd").bytes(&seeds.0[..]);
    }
    if let Some(id) = response.id {
        w.key(b"id").bytes(&id.0);
    }
    if let Some(samples) = &response.samples {
        w.key(b"interval").int(samples.interval_s.into());
    }
    let owner = response.item.as_ref().and_then(|item| item.owner.as_ref());
    if let Some(owner) = owner {
        w.key(b"k").bytes(&owner.key);
    }
    if let Some(nodes) = &response.nodes {
        w.key(b"nodes").bytes(&write_nodes(nodes));
    }
    if let Some(nodes) = &response.nodes6 {
        w.key(b"nodes6").bytes(&write_nodes(nodes));
    }
    if let Some(samples) = &response.samples {
        let hashes: Vec<u8> = samples.hashes.iter().flat_map(|hash| hash.0).collect();
        w.key(b"num").int(samples.count.into()).key(b"samples").bytes(&hashes);
    }
    if let Some(seq) = response.seq {
        w.key(b"seq").int(seq);
    }
    if let Some(owner) = owner {
        w.key(b"sig").bytes(&owner.signature);
    }
    if let Some(token) = &response.token {
        w.key(b"token").bytes(token);
    }
    if let Some(item) = &response.item {
        w.key(b"v").raw(&item.value);
    }
    if !response.peers.is_empty() {
        w.key(b"values").raw(b"l");
        for peer in &response.peers {
            w.addr(*peer);
        }
        w.raw(b"e");
    }
}

/// Writes one dictionary; the caller keeps its keys in order.
struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Writer {
        Writer(b"d".to_vec())
    }

    fn raw(&mut self, bencoded: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bencoded);
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.raw(bytes.len().to_string().as_bytes()).raw(b":").raw(bytes)
    }

    fn key(&mut self, key: &[u8]) -> &mut Writer {
        self.bytes(key)
    }

    fn int(&mut self, int: i64) -> &mut Writer {
        self.raw(format!("i{int}e").as_bytes())
    }

    fn addr(&mut self, addr: SocketAddr) -> &mut Writer {
        let mut bytes = Vec::with_capacity(compact_len(Family::V6));
        write_compact(addr, &mut bytes);
        self.bytes(&bytes)
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.push(b'e');
        self.0
    }
}

#[cfg(test)]
mod tests;
