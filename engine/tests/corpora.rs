//! Cases collected from other projects, which are not part of this one: the folder that `SWARM_CORPORA` names. Without
//! it these tests have nothing to do, and say so.

mod common;
#[path = "../core/tests/corpora/table.rs"]
mod table;

use common::tracker::{Say, Scripted};
use common::{publish, session};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::Metainfo;
use swarm_core::tracker::AnnounceResponse;
use swarm_engine::{AddTorrent, Event, SessionOptions, fetch};
use table::{base64, rows, text};
use tempfile::TempDir;

/// What a session and a fetch made of one raw response.
#[derive(Debug)]
struct Outcome {
    /// What was announced: peers and our own address; or the warning.
    announced: Result<(usize, Option<IpAddr>), String>,
    /// How long until the next announce.
    next: Option<Duration>,
    /// The same bytes as the answer to a fetch.
    body: Result<Vec<u8>, String>,
}

/// A seed announces: it has no use for more peers, and so no reason to announce early.
async fn try_out(metainfo: &Arc<Metainfo>, dir: &Path, response: Vec<u8>) -> Outcome {
    let tracker = Scripted::always("127.0.0.1", Say::All(response)).await;
    let url = tracker.url("/announce");
    let session = session("127.0.0.1");
    let torrent = AddTorrent::seed(Arc::clone(metainfo), dir).trackers(vec![url.clone()]);
    let torrent = session.add(torrent).await.unwrap();
    let mut events = torrent.events();
    let announced = loop {
        match events.next().await.expect("the tracker is asked") {
            Event::Announced { peers, external_ip, .. } => break Ok((peers, external_ip)),
            Event::Warning(text) => break Err(text),
            _ => {}
        }
    };
    let next = torrent.stats().await.unwrap().trackers[0].next_announce;
    session.stop().await;
    let body = fetch(&url.parse().unwrap(), 1 << 20, &SessionOptions::default()).await;
    Outcome { announced, next, body: body.map_err(|error| error.to_string()) }
}

impl Outcome {
    fn fails(&self) -> bool {
        self.announced.is_err() && self.body.is_err()
    }

    /// A reply that is none, in a response that is one.
    fn is_refused(&self, reason: &str) -> bool {
        self.announced.as_ref().is_err_and(|said| said.contains(reason)) && self.body.is_ok()
    }

    /// The peers that the reply names, as the session counts them.
    fn peers(&self) -> Option<Vec<String>> {
        let response = AnnounceResponse::parse(self.body.as_ref().ok()?).ok()?;
        let peers: Vec<String> = response.peers.iter().map(|peer| peer.addr.to_string()).collect();
        self.announced.as_ref().is_ok_and(|&(count, _)| count == peers.len()).then_some(peers)
    }

    fn names(&self, peers: &[&str]) -> bool {
        self.peers().is_some_and(|found| found == peers)
    }

    /// Whether the next announce comes after about so many seconds.
    fn waits(&self, seconds: u64) -> bool {
        let whole = Duration::from_secs(seconds);
        self.next.is_some_and(|next| next <= whole && next > whole / 2)
    }

    /// Whether this is what must follow from the row of this name; `None` where `docs/protocol.md` argues
    /// why it is not tried.
    fn is_right(&self, row: &str) -> Option<bool> {
        let has_external_ip = |ip: &str| {
            self.announced
                .as_ref()
                .is_ok_and(|(_, external)| external.map(|ip| ip.to_string()).as_deref() == Some(ip))
        };
        Some(match row {
            "chunked_ok" => self.body.as_deref() == Ok(b"test12340123456789abcdef"),
            "announce-nopeers" => self.names(&[]) && self.waits(1803) && has_external_ip("1.2.3.4"),
            "announce-compact" => self.names(&["127.0.0.1:64551"]) && self.waits(1803),
            "announce-list" => self.names(&["8.8.4.4:53"]),
            "announce-failure" => self.is_refused("foobar"),
            "announce-bad-length" | "self-nest" => self.is_refused("not bencoded"),
            "self-interval0" | "self-interval-neg" => self.names(&[]) && self.waits(60),
            "self-interval-huge" => self.names(&[]) && self.waits(24 * 3600),
            "self-peers-mod6" => self.names(&["97.98.99.100:25958"]),
            "self-peers-port0" => self.names(&[]),
            "missing_chunked_header" => true,
            "self-gzip-note" => return None,
            _ => self.fails(),
        })
    }
}

#[tokio::test]
async fn answers_of_servers_have_the_consequences_that_others_expect() {
    let material = TempDir::new().unwrap();
    let metainfo = publish(material.path(), &[("a.bin", 100_000)], 16_384);
    let mut wrong = Vec::new();
    for row in rows("http_client.json") {
        let outcome = try_out(&metainfo, material.path(), base64(text(&row, "b64"))).await;
        if outcome.is_right(text(&row, "id")) == Some(false) {
            wrong.push(format!("{} ({}): {outcome:?}", text(&row, "id"), text(&row, "expect")));
        }
    }
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}
