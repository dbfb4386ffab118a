//! `swarm dht`: a node of the DHT by itself, for others to join by, and questions to the DHT.

use crate::context::Context;
use crate::events::{About, Stamped};
use crate::exit::{Exit, Failure, printable};
use crate::interrupt::Interrupt;
use crate::network::{parse_address, parse_node};
use crate::units;
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueHint};
use serde::Serialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future as _, pending, poll_fn};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use swarm_core::bencode;
use swarm_core::dht::{
    Announce, Event, Item, LookupId, MutableTorrentLink, NodeId, SALT_LEN_MAX, VALUE_LEN_MAX,
    mutable_torrent_value,
};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_engine::LISTEN_PORT_FIRST;
use swarm_engine::dht::{Dht, PUBLIC_NODES, Saved};
use tokio::sync::Notify;

/// How often `--save` writes, while the node runs.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

/// Options of `swarm dht`.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct DhtArgs {
    #[command(subcommand)]
    question: Option<Question>,

    /// Listen on this address and port; repeatable. Default: all interfaces, port 6881
    ///
    /// Several addresses of one family are a node each (BEP 45); the first sends the queries.
    #[arg(long, global = true, value_name = "ADDR:PORT", value_parser = parse_address)]
    listen: Vec<SocketAddr>,

    /// Bootstrap from this node; repeatable. Default: public nodes, unless --listen is loopback only
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = parse_node)]
    bootstrap: Vec<String>,

    /// Save the node's IDs and the addresses of known nodes in this file, and load them from it
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    save: Option<PathBuf>,

    /// Print events as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

/// What to ask the DHT. Without a question the node runs until it is interrupted.
#[derive(Clone, Debug, Subcommand)]
enum Question {
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

/// A question as the node takes it.
enum Ask {
    Peers(InfoHash),
    Announce(InfoHash, u16),
    Scrape(InfoHash),
    Sample(NodeId),
    Get(NodeId, Vec<u8>),
    Put(Item),
}

/// Where an item is kept.
#[derive(Clone, Debug)]
enum Place {
    Target(NodeId),
    Pointer(MutableTorrentLink),
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
            .map(Place::Pointer)
            .map_err(|error: swarm_core::dht::MutableTorrentLinkError| error.to_string());
    }
    parse_target(text).map(Place::Target).map_err(str::to_owned)
}

impl Question {
    fn ask(self) -> Result<Ask> {
        Ok(match self {
            Question::GetPeers { hash } => Ask::Peers(hash),
            Question::Announce { hash, port } => Ask::Announce(hash, port),
            Question::Scrape { hash } => Ask::Scrape(hash),
            Question::Sample { target: Some(target) } => Ask::Sample(target),
            Question::Sample { target: None } => {
                let mut target = [0; 20];
                getrandom::fill(&mut target).map_err(io::Error::other).context("cannot get random bytes")?;
                Ask::Sample(NodeId(target))
            }
            Question::Get { place: Place::Target(target), salt } => Ask::Get(target, salt.into_bytes()),
            Question::Get { place: Place::Pointer(link), .. } => Ask::Get(link.target(), link.salt),
            Question::Put { text, torrent, key, salt, seq } => {
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
                Ask::Put(match key {
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
            let digits = text.trim();
            let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
            let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
            let key = bytes.and_then(|bytes| bytes.try_into().ok());
            key.with_context(|| format!("--key: {name}: is not a key of 64 hexadecimal digits"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(io::Error::other).context("cannot get random bytes")?;
            let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let written = options.open(file).and_then(|mut file| writeln!(file, "{text}"));
            written.with_context(|| format!("--key: {name}: cannot write"))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("--key: {name}: cannot read")),
    }
}

/// A torrent that an item points to as info-hash, a bencoded text as it is; anything else bencoded, escaped where that cannot be printed.
fn shown(item: &Item) -> String {
    if let Some(hash) = item.torrent() {
        return hash.to_string();
    }
    let text = bencode::parse(&item.value, &bencode::Limits::default());
    let text = text.ok().and_then(|document| document.root().as_str().map(printable));
    text.unwrap_or_else(|| item.value.escape_ascii().to_string())
}

const EXAMPLES: &str = "\
Examples:
  swarm dht --listen 0.0.0.0:6881 --save nodes.txt
  swarm seed release.meta . --dht-bootstrap dht.example:6881
  swarm dht get-peers HASH --bootstrap dht.example:6881

Without a command it runs as a bootstrap node until it is interrupted.";

/// What scripts are told.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Record<'a> {
    /// Where the node listens.
    Listening { addresses: &'a [SocketAddr], ids: Vec<String> },
    /// Peers that were not known before.
    Peers { peers: &'a [SocketAddr], by: SocketAddr },
    /// How many peers there are, on one of the networks.
    Scraped { family: &'a str, seeds: u32, downloaders: u32 },
    /// Info-hashes that were not known before, of `count` that a node has; in `interval` seconds it tells others.
    Samples { hashes: &'a [String], count: u32, interval: u32, by: SocketAddr },
    /// An item that was looked for, or its newer version; or one that is being put.
    Item { target: String, value: &'a str, seq: Option<i64>, torrent: Option<String>, link: Option<String> },
    /// A search is over.
    Done { nodes: usize, stored: usize, queries: u32, hops: u8 },
}

/// Runs the node until it is interrupted, or has found what it was asked for.
pub async fn run(args: DhtArgs, cx: &mut Context) -> Result<Exit> {
    if args.json {
        cx.console.set_json();
    }
    let result = serve(args, cx).await;
    cx.end(&About::default(), result)
}

async fn serve(args: DhtArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let question = args.question.map(Question::ask).transpose()?;
    let everywhere = [
        (Ipv4Addr::UNSPECIFIED, LISTEN_PORT_FIRST).into(),
        (Ipv6Addr::UNSPECIFIED, LISTEN_PORT_FIRST).into(),
    ];
    let listen = if args.listen.is_empty() { &everywhere[..] } else { &args.listen };
    let dhts = Dht::open_all(listen, None, question.is_some()).with_context(|| {
        let option = if args.listen.is_empty() { "" } else { "--listen: " };
        format!("{option}cannot open a socket for the DHT")
    })?;
    let [dht, others @ ..] = &dhts[..] else { unreachable!("there is at least one address") };
    let mut hosts = args.bootstrap.clone();
    if let Some(file) = &args.save {
        let saved = Saved::read(file).with_context(|| format!("--save: {}: cannot read", file.display()))?;
        dhts.iter().for_each(|dht| dht.resume(&saved));
        hosts.extend(saved.hosts());
    }
    let (addresses, ids): (Vec<SocketAddr>, _) =
        dhts.iter().flat_map(|dht| dht.saved().ids).map(|(addr, id)| (addr, id.to_string())).unzip();
    tell(cx, &Record::Listening { addresses: &addresses, ids });
    addresses.iter().for_each(|addr| cx.console.note(&format!("listening on {addr}")));
    if hosts.is_empty() && !dht.is_local() {
        hosts.extend(PUBLIC_NODES.map(str::to_owned));
    }
    let is_service = question.is_none();
    let search = Search { question, cx: RefCell::new(cx), state: RefCell::default(), done: Notify::new() };
    let result = tokio::select! {
        () = dht.run(|event| search.on_event(event)) => Ok(Exit::Done),
        result = search.ask(dht, &hosts) => result,
        () = run_all(others, &hosts) => Ok(Exit::Done),
        result = save_now_and_then(&dhts, args.save.as_deref()) => result,
        signal = interrupt.wait() => Ok(if is_service { signal.exit_of_service() } else { signal.exit() }),
    };
    if let Some(file) = &args.save {
        save(&dhts, file)?;
    }
    result
}

/// Runs nodes that nobody asks anything, for as long as it is polled.
async fn run_all(dhts: &[Dht], hosts: &[String]) {
    let mut running = Vec::new();
    for dht in dhts {
        running.push(Box::pin(async move { tokio::join!(dht.join(hosts), dht.run(|_| ())) }));
    }
    poll_fn(|cx| {
        for node in &mut running {
            let _ = node.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

fn tell(cx: &mut Context, record: &Record<'_>) {
    if cx.console.is_json() {
        cx.console.json(&Stamped::now(record, cx.start));
    }
}

fn tell_item(cx: &mut Context, item: &Item) {
    let seq = item.owner.as_ref().map(|owner| owner.seq);
    let torrent = item.torrent().map(|hash| hash.to_string());
    let link = pointer_link(item);
    tell(cx, &Record::Item { target: item.target().to_string(), value: &shown(item), seq, torrent, link });
}

/// The link to an item that is a pointer.
fn pointer_link(item: &Item) -> Option<String> {
    item.torrent()?;
    MutableTorrentLink::of(item).map(|link| link.to_string())
}

/// A question on its way.
struct Search<'a> {
    question: Option<Ask>,
    cx: RefCell<&'a mut Context>,
    state: RefCell<Found>,
    done: Notify,
}

/// What has been found.
#[derive(Default)]
struct Found {
    running: BTreeMap<LookupId, Family>,
    peers: BTreeSet<SocketAddr>,
    hashes: BTreeSet<InfoHash>,
    nodes: usize,
    stored: usize,
    item: Option<Item>,
}

impl Search<'_> {
    fn on_event(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        let mut cx = self.cx.borrow_mut();
        match event {
            Event::Peers { lookup, mut peers, by, .. } if state.running.contains_key(&lookup) => {
                if matches!(self.question, Some(Ask::Scrape(_))) {
                    return;
                }
                peers.retain(|peer| state.peers.insert(*peer));
                if !peers.is_empty() {
                    tell(&mut cx, &Record::Peers { peers: &peers, by });
                }
                if !cx.console.is_json() {
                    peers.iter().for_each(|peer| cx.console.result(&peer.to_string()));
                }
            }
            // Both networks may have it, in different versions.
            Event::Item { lookup, item }
                if state.running.contains_key(&lookup)
                    && state.item.as_ref().is_none_or(|known| item.seq() > known.seq()) =>
            {
                tell_item(&mut cx, &item);
                state.item = Some(item);
            }
            Event::Scraped { lookup, seeds, downloaders, .. } => {
                let Some(family) = state.running.get(&lookup) else { return };
                let family = if *family == Family::V4 { "IPv4" } else { "IPv6" };
                tell(&mut cx, &Record::Scraped { family, seeds, downloaders });
                if !cx.console.is_json() {
                    cx.console.result(&format!("{family}: {seeds} seeds, {downloaders} downloaders"));
                }
            }
            Event::Samples { lookup, mut samples, by } if state.running.contains_key(&lookup) => {
                samples.hashes.retain(|hash| state.hashes.insert(*hash));
                let hashes: Vec<String> = samples.hashes.iter().map(InfoHash::to_string).collect();
                let (count, interval) = (samples.count, samples.interval_s);
                tell(&mut cx, &Record::Samples { hashes: &hashes, count, interval, by });
                if !cx.console.is_json() {
                    hashes.iter().for_each(|hash| cx.console.result(hash));
                }
            }
            Event::Done { lookup, nodes, stored, queries, hops }
                if state.running.remove(&lookup).is_some() =>
            {
                state.nodes += nodes.len();
                state.stored += stored;
                tell(&mut cx, &Record::Done { nodes: nodes.len(), stored, queries, hops });
                if state.running.is_empty() {
                    self.done.notify_one();
                }
            }
            _ => {}
        }
    }

    /// Joins, asks on each network, and waits until all searches are over.
    async fn ask(&self, dht: &Dht, hosts: &[String]) -> Result<Exit> {
        dht.join(hosts).await;
        let Some(question) = &self.question else { return pending().await };
        for family in dht.families() {
            let lookup = dht.with(|node, now| match question {
                Ask::Peers(hash) => node.get_peers(now, family, *hash),
                Ask::Announce(hash, port) => {
                    let what = Announce { port: *port, implied_port: false, is_seed: false };
                    node.announce(now, family, *hash, what)
                }
                Ask::Scrape(hash) => node.scrape(now, family, *hash),
                Ask::Sample(target) => node.sample_infohashes(now, family, *target),
                Ask::Get(target, salt) => node.get_item(now, family, *target, salt),
                Ask::Put(item) => node.put_item(now, family, item.clone(), None),
            });
            self.state.borrow_mut().running.insert(lookup, family);
        }
        self.done.notified().await;
        let state = self.state.borrow();
        let failure = |text: &str| Err(Failure::new(Exit::Runtime, text).into());
        match question {
            _ if state.nodes == 0 => {
                failure("no node of the DHT answered; name one that does with --bootstrap HOST:PORT")
            }
            Ask::Announce(..) if state.stored == 0 => failure("no node took the announcement"),
            Ask::Put(_) if state.stored == 0 => failure("no node took the item; is there a later version?"),
            Ask::Put(item) => {
                let cx = &mut **self.cx.borrow_mut();
                tell_item(cx, item);
                cx.console.result(&item.target().to_string());
                if let Some(link) = pointer_link(item) {
                    cx.console.result(&link);
                }
                Ok(Exit::Done)
            }
            Ask::Get(..) => match &state.item {
                Some(item) => {
                    self.cx.borrow_mut().console.result(&shown(item));
                    Ok(Exit::Done)
                }
                None => failure("no node keeps such an item"),
            },
            Ask::Peers(_) | Ask::Announce(..) | Ask::Scrape(_) | Ask::Sample(_) => Ok(Exit::Done),
        }
    }
}

async fn save_now_and_then(dhts: &[Dht], file: Option<&Path>) -> Result<Exit> {
    let Some(file) = file else { return pending().await };
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        save(dhts, file)?;
    }
}

fn save(dhts: &[Dht], file: &Path) -> Result<()> {
    Saved::of(dhts).write(file).map_err(|error| {
        let exit = Exit::of_write(&error);
        anyhow::Error::new(error)
            .context(Failure::new(exit, format!("--save: {}: cannot write", file.display())))
    })
}
