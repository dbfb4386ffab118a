//! Torrents whose files a web server has.

use super::origin::{Answer, Asked, Origin};
use super::*;
use std::collections::BTreeMap;
use swarm_engine::{WebSeedFault, WebSeedPenalty};

pub const PIECE: u32 = 32_768;

/// A torrent, the server's files for it, and a folder to download into.
pub struct Web {
    pub source: TempDir,
    pub target: TempDir,
    pub metainfo: Arc<Metainfo>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub session: Session,
}

impl Web {
    pub fn of(files: &[(&str, usize)], piece_len: u32) -> Web {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), files, piece_len);
        let served = files.iter().map(|(path, _)| {
            let bytes = std::fs::read(source.path().join("data").join(path)).unwrap();
            (format!("/data/{path}"), bytes)
        });
        let files = served.collect();
        Web { source, target, metainfo, files, session: session("127.0.0.1") }
    }

    pub fn download(&self, urls: &[String]) -> AddTorrent {
        get(&self.metainfo, self.target.path(), &[]).web_seeds(urls)
    }

    pub async fn start(&self, urls: &[String]) -> TorrentHandle {
        self.session.add(self.download(urls)).await.unwrap()
    }

    /// All of it comes from there.
    pub async fn whole_from(&self, origin: &Origin) -> TorrentHandle {
        let torrent = self.start(&[origin.url("/")]).await;
        torrent.completed().await.unwrap();
        self.check();
        torrent
    }

    pub fn check(&self) {
        same_tree(&self.source.path().join("data"), &self.target.path().join("data"));
    }
}

/// The faults of web seeds until the torrent is complete, or until there are as many as wanted.
pub async fn faults(
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

/// A download from a server that answers so at first, and well later: the first fault, what it costs, and that it ends whole.
pub async fn first_fault(
    files: &[(&str, usize)],
    bad: impl Fn(&Asked, &[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> (Option<String>, WebSeedFault, WebSeedPenalty) {
    let web = Web::of(files, PIECE);
    let origin = Origin::with(web.files.clone(), move |asked, files| {
        let file = &files[&asked.path];
        bad(asked, file).unwrap_or_else(|| Answer::part(asked, file))
    })
    .await;
    let good = Origin::of(web.files.clone()).await;
    let torrent = web.start(&[origin.url("/")]).await;
    let fault = faults(&torrent, 1).await.remove(0);
    // Another URL has what this one has not.
    torrent.add_web_seeds([good.url("/")]);
    torrent.completed().await.unwrap();
    web.check();
    fault
}

pub const ONE: &[(&str, usize)] = &[("a.bin", 3_000_000)];
