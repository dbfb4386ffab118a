//! A query of `swarm dht` on its way through the DHT, and what is found.

use super::query::Request;
use crate::context::Context;
use crate::exit::{Exit, fail, printable};
use anyhow::Result;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use swarm_core::bencode;
use swarm_core::dht::{Announce, Event, Item, LookupId, MutableTorrentLink};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_engine::dht::Dht;
use tokio::sync::Notify;

/// The events of `swarm dht --json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record<'a> {
    Listening {
        addresses: &'a [SocketAddr],
        ids: Vec<String>,
    },
    /// Peers that were not known before.
    Peers {
        peers: &'a [SocketAddr],
        by: SocketAddr,
    },
    /// How many peers there are, on one of the networks.
    Scraped {
        family: &'a str,
        seeds: u32,
        downloaders: u32,
    },
    /// Info-hashes that were not known before, of `count` that a node has; after `interval` seconds it gives
    /// others.
    Samples {
        hashes: &'a [String],
        count: u32,
        interval: u32,
        by: SocketAddr,
    },
    /// An item that was looked for, or its newer version; or one that is being put.
    Item {
        target: String,
        value: &'a str,
        seq: Option<i64>,
        torrent: Option<String>,
        link: Option<String>,
    },
    Done {
        nodes: usize,
        stored: usize,
        queries: u32,
        hops: u8,
    },
}

pub struct Search<'a> {
    query: Option<Request>,
    cx: RefCell<&'a mut Context>,
    state: RefCell<Found>,
    done: Notify,
}

#[derive(Default)]
struct Found {
    running: BTreeMap<LookupId, Family>,
    peers: BTreeSet<SocketAddr>,
    hashes: BTreeSet<InfoHash>,
    nodes: usize,
    stored: usize,
    item: Option<Item>,
}

impl<'a> Search<'a> {
    pub fn new(query: Option<Request>, cx: &'a mut Context) -> Search<'a> {
        Search { query, cx: RefCell::new(cx), state: RefCell::default(), done: Notify::new() }
    }

    pub fn on_event(&self, event: Event) {
        let mut state = self.state.borrow_mut();
        let mut cx = self.cx.borrow_mut();
        match event {
            Event::Peers { lookup, mut peers, by, .. } if state.running.contains_key(&lookup) => {
                if matches!(self.query, Some(Request::Scrape(_))) {
                    return;
                }
                peers.retain(|peer| state.peers.insert(*peer));
                if !peers.is_empty() {
                    cx.record(&Record::Peers { peers: &peers, by });
                }
                peers.iter().for_each(|peer| cx.console.result(&peer.to_string()));
            }
            // Both networks may have it, in different versions.
            Event::Item { lookup, item }
                if state.running.contains_key(&lookup)
                    && state.item.as_ref().is_none_or(|known| item.seq() > known.seq()) =>
            {
                record_item(&mut cx, &item);
                state.item = Some(item);
            }
            Event::Scraped { lookup, seeds, downloaders, .. } => {
                let Some(family) = state.running.get(&lookup) else { return };
                let family = if *family == Family::V4 { "IPv4" } else { "IPv6" };
                cx.record(&Record::Scraped { family, seeds, downloaders });
                cx.console.result(&format!("{family}: {seeds} seeds, {downloaders} downloaders"));
            }
            Event::Samples { lookup, mut samples, by } if state.running.contains_key(&lookup) => {
                samples.hashes.retain(|hash| state.hashes.insert(*hash));
                let hashes: Vec<String> = samples.hashes.iter().map(InfoHash::to_string).collect();
                let (count, interval) = (samples.count, samples.interval_s);
                cx.record(&Record::Samples { hashes: &hashes, count, interval, by });
                hashes.iter().for_each(|hash| cx.console.result(hash));
            }
            Event::Done { lookup, nodes, stored, queries, hops }
                if state.running.remove(&lookup).is_some() =>
            {
                state.nodes += nodes.len();
                state.stored += stored;
                cx.record(&Record::Done { nodes: nodes.len(), stored, queries, hops });
                if state.running.is_empty() {
                    self.done.notify_one();
                }
            }
            _ => {}
        }
    }

    /// Joins the DHT, sends the query in each address family, and waits until all lookups are over.
    pub async fn ask(&self, dht: &Dht, hosts: &[String]) -> Result<Exit> {
        dht.join(hosts).await;
        let Some(query) = &self.query else { return pending().await };
        for family in dht.families() {
            let lookup = match query {
                Request::Peers(hash) => dht.get_peers(family, *hash),
                Request::Announce(hash, port) => {
                    let what = Announce { port: *port, implied_port: false, is_seed: false };
                    dht.announce(family, *hash, what)
                }
                Request::Scrape(hash) => dht.scrape(family, *hash),
                Request::Sample(target) => dht.sample_infohashes(family, *target),
                Request::Get(target, salt) => dht.get_item(family, *target, salt),
                Request::Put(item) => dht.put_item(family, item.clone(), None),
            };
            self.state.borrow_mut().running.insert(lookup, family);
        }
        self.done.notified().await;
        let state = self.state.borrow();
        let failure = |text: &str| fail(Exit::Runtime, text);
        match query {
            _ if state.nodes == 0 => {
                failure("no node of the DHT answered; name one that does with --bootstrap HOST:PORT")
            }
            Request::Announce(..) if state.stored == 0 => failure("no node took the announcement"),
            Request::Put(_) if state.stored == 0 => {
                failure("no node took the item; is there a later version?")
            }
            Request::Put(item) => {
                let cx = &mut **self.cx.borrow_mut();
                record_item(cx, item);
                cx.console.result(&item.target().to_string());
                if let Some(link) = mutable_link(item) {
                    cx.console.result(&link);
                }
                Ok(Exit::Done)
            }
            Request::Get(..) => match &state.item {
                Some(item) => {
                    self.cx.borrow_mut().console.result(&shown(item));
                    Ok(Exit::Done)
                }
                None => failure("no node keeps such an item"),
            },
            Request::Peers(_) | Request::Announce(..) | Request::Scrape(_) | Request::Sample(_) => {
                Ok(Exit::Done)
            }
        }
    }
}

fn record_item(cx: &mut Context, item: &Item) {
    let seq = item.owner.as_ref().map(|owner| owner.seq);
    let torrent = item.torrent().map(|hash| hash.to_string());
    let link = mutable_link(item);
    cx.record(&Record::Item { target: item.target().to_string(), value: &shown(item), seq, torrent, link });
}

/// The link of a mutable torrent, if the item is one.
fn mutable_link(item: &Item) -> Option<String> {
    item.torrent()?;
    MutableTorrentLink::of(item).map(|link| link.to_string())
}

/// The info-hash of a mutable torrent, a bencoded text as it is; anything else bencoded, escaped where that
/// cannot be printed.
fn shown(item: &Item) -> String {
    if let Some(hash) = item.torrent() {
        return hash.to_string();
    }
    let text = bencode::parse(&item.value, &bencode::Limits::default());
    let text = text.ok().and_then(|document| document.root().as_str().map(printable));
    text.unwrap_or_else(|| item.value.escape_ascii().to_string())
}
