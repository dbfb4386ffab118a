//! Web seeds (BEP 19) over loopback: what is asked for, and what comes of servers that misbehave.

mod common;

use common::origin::{Answer, Asked, Origin};
use common::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::{Content, Create, FileAttr, Metainfo, SourceFile};
use swarm_engine::{AddTorrent, Event, Session, TorrentHandle, WebSeedFault, WebSeedPenalty};
use tempfile::TempDir;

const PIECE: u32 = 32_768;

/// A torrent, the server's files for it, and a folder to download into.
struct Web {
    source: TempDir,
    target: TempDir,
    metainfo: Arc<Metainfo>,
    files: BTreeMap<String, Vec<u8>>,
    session: Session,
}

impl Web {
    fn of(files: &[(&str, usize)], piece_len: u32) -> Web {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), files, piece_len);
        let served = files.iter().map(|(path, _)| {
            let bytes = std::fs::read(source.path().join("data").join(path)).unwrap();
            (format!("/data/{path}"), bytes)
        });
        let files = served.collect();
        Web { source, target, metainfo, files, session: session("127.0.0.1") }
    }

    fn download(&self, urls: &[String]) -> AddTorrent {
        get(&self.metainfo, self.target.path(), &[]).web_seeds(urls)
    }

    async fn start(&self, urls: &[String]) -> TorrentHandle {
        self.session.add(self.download(urls)).await.unwrap()
    }

    fn check(&self) {
        same_tree(&self.source.path().join("data"), &self.target.path().join("data"));
    }
}

/// The faults of web seeds until the torrent is complete, or until there are as many as wanted.
async fn faults(
    torrent: &TorrentHandle,
    enough: usize,
) -> Vec<(Option<String>, WebSeedFault, WebSeedPenalty)> {
    let (mut events, mut found) = (torrent.events(), Vec::new());
    while found.len() < enough {
        match events.next().await.expect("the torrent goes on") {
            Event::WebSeedFault { file, fault, penalty, .. } => found.push((file, fault, penalty)),
            Event::Completed => break,
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    found
}

#[tokio::test]
async fn a_torrent_comes_whole_from_a_web_seed_alone() {
    let web = Web::of(FILES, PIECE);
    let origin = Origin::of(web.files.clone()).await;
    let torrent = web.start(&[origin.url("/")]).await;
    torrent.completed().await.unwrap();
    web.check();
    let (asked, total) = (origin.asked(), web.metainfo.info.payload_len());
    assert_eq!(origin.bytes_asked() as u64, total, "each byte once");
    assert!(asked.iter().all(|asked| asked.method == "GET" && asked.range.is_some()), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.headers["accept-encoding"] == "identity"));
    let connections = asked.iter().map(|asked| asked.connection).max().unwrap() + 1;
    assert!(connections < asked.len(), "{connections} connections for {} requests", asked.len());
    let stats = torrent.stats().await.unwrap();
    assert_eq!((stats.web_seeds.len(), stats.web_seeds[0].bytes_down), (1, total));
    assert_eq!(stats.totals.bytes_down, total);
}
