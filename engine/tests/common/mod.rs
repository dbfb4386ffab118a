//! Sessions on loopback with files to share.
#![allow(dead_code, reason = "not every test needs all of it")]

pub mod origin;
pub mod proxy;
pub mod tracker;
pub mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use swarm_core::metainfo::{Content, Create, Hashes, Metainfo, SourceFile};
use swarm_engine::{
    AddTorrent, DhtOptions, Event, EventReceiver, PeerStats, Session, SessionOptions, TorrentHandle,
    TorrentStats,
};
use tempfile::TempDir;

/// Defines each test once for IPv4 and once for IPv6.
#[macro_export]
macro_rules! for_both_families {
    ($($test:ident),* $(,)?) => {
        mod ipv4 {
            $(#[tokio::test]
            async fn $test() {
                super::$test("127.0.0.1").await;
            })*
        }
        mod ipv6 {
            $(#[tokio::test]
            async fn $test() {
                if std::net::TcpListener::bind("[::1]:0").is_ok() {
                    super::$test("::1").await;
                } else {
                    eprintln!("skipped: this machine has no IPv6 loopback");
                }
            })*
        }
    };
}

/// Bytes that no two offsets share a pattern of.
pub fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    swarm_core::rng::Rng::new(seed).fill(&mut bytes);
    bytes
}

/// A folder `data` with these files below `dir`, and its metainfo.
pub fn publish(dir: &Path, files: &[(&str, usize)], piece_length: u32) -> Arc<Metainfo> {
    let (mut sources, mut all) = (Vec::new(), Vec::new());
    for (i, (path, len)) in files.iter().enumerate() {
        let bytes = content(*len, i as u64);
        let full = dir.join("data").join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(&full, &bytes).unwrap();
        all.extend(bytes);
        let path = path.split('/').map(str::to_owned).collect();
        let attr = Default::default();
        sources.push(SourceFile { path, length: *len as u64, attr, symlink_target: None });
    }
    let hashes: Vec<[u8; 20]> =
        all.chunks(piece_length as usize).map(|piece| swarm_engine::hash::sha1([piece])).collect();
    let create = Create::new("data".to_owned(), Content::Folder(sources), piece_length);
    Arc::new(Metainfo::parse(&create.encode(Hashes::v1(hashes.as_flattened())).unwrap()).unwrap())
}

pub fn session_on(ip: &str, change: impl FnOnce(SessionOptions) -> SessionOptions) -> Session {
    let options = SessionOptions::new().listen([SocketAddr::new(ip.parse().unwrap(), 0)]).dht(None);
    Session::start(change(options)).unwrap()
}

pub fn session(ip: &str) -> Session {
    session_on(ip, |options| options)
}

/// A session whose DHT node starts from these.
pub fn session_with_dht(ip: &str, bootstrap: &[SocketAddr]) -> Session {
    let bootstrap = bootstrap.iter().map(SocketAddr::to_string);
    session_on(ip, |options| options.dht(DhtOptions::bootstrap(bootstrap)))
}

/// Waits until a torrent stands like this. Each look waits for the session's thread, so that no sleep is needed.
pub async fn stats_until(torrent: &TorrentHandle, is_it: impl Fn(&TorrentStats) -> bool) -> TorrentStats {
    loop {
        let stats = torrent.stats().await.unwrap();
        if is_it(&stats) {
            return stats;
        }
    }
}

/// The torrent's first peer, once it has one.
pub async fn peer_of(torrent: &TorrentHandle) -> PeerStats {
    let mut stats = stats_until(torrent, |stats| !stats.peer_list.is_empty()).await;
    stats.peer_list.remove(0)
}

/// The first event for which `is_it`.
pub async fn until(events: &mut EventReceiver, is_it: impl Fn(&Event) -> bool) -> Event {
    while let Some(event) = events.next().await {
        if is_it(&event) {
            return event;
        }
    }
    panic!("the torrent ended before that");
}

/// Where a file of a torrent is below `dir`.
pub fn path_of(metainfo: &Metainfo, dir: &Path, nth: usize) -> PathBuf {
    dir.join(metainfo.info.files[nth].path.iter().collect::<PathBuf>())
}

/// The names in a folder.
pub fn names_in(dir: &Path) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

pub fn same_tree(a: &Path, b: &Path) {
    let list = |root: &Path| {
        let mut found = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    };
    assert_eq!(list(a), list(b));
    for file in list(a) {
        assert!(
            std::fs::read(a.join(&file)).unwrap() == std::fs::read(b.join(&file)).unwrap(),
            "{file:?} differs"
        );
    }
}

pub async fn seed(session: &Session, metainfo: &Arc<Metainfo>, dir: &Path) -> TorrentHandle {
    let torrent = session.add(AddTorrent::seed(Arc::clone(metainfo), dir)).await.unwrap();
    torrent.completed().await.unwrap();
    torrent
}

pub fn get(metainfo: &Arc<Metainfo>, dir: &Path, from: &[&Session]) -> AddTorrent {
    let peers = from.iter().flat_map(|s| s.listen_addrs().to_vec());
    AddTorrent::download(Arc::clone(metainfo), dir).peers(peers)
}

pub const FILES: &[(&str, usize)] =
    &[("a.bin", 3_000_000), ("deep/er/b.bin", 70_001), ("deep/empty", 0), ("c.bin", 1), ("z.bin", 1_500_000)];

/// A seed of some files, and an empty folder to download them into.
pub struct Swarm {
    pub ip: String,
    pub source: TempDir,
    pub target: TempDir,
    pub metainfo: Arc<Metainfo>,
    pub seeder: Session,
    pub seeding: TorrentHandle,
}

impl Swarm {
    pub async fn new(ip: &str) -> Swarm {
        Swarm::of(ip, &[("a.bin", 100_000)]).await
    }

    pub async fn of(ip: &str, files: &[(&str, usize)]) -> Swarm {
        Swarm::in_pieces(ip, files, 16_384).await
    }

    pub async fn in_pieces(ip: &str, files: &[(&str, usize)], piece_length: u32) -> Swarm {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), files, piece_length);
        let seeder = session(ip);
        let seeding = seed(&seeder, &metainfo, source.path()).await;
        Swarm { ip: ip.to_owned(), source, target, metainfo, seeder, seeding }
    }

    pub fn seeder_addr(&self) -> SocketAddr {
        self.seeder.listen_addrs()[0]
    }

    /// A download from the seed.
    pub fn get(&self) -> AddTorrent {
        get(&self.metainfo, self.target.path(), &[&self.seeder])
    }

    /// A download that knows no peers, only these trackers.
    pub fn download(&self, trackers: &[String]) -> AddTorrent {
        get(&self.metainfo, self.target.path(), &[]).trackers(trackers)
    }

    /// Whether all of it is here as it is there.
    pub fn check(&self) {
        same_tree(&self.source.path().join("data"), &self.target.path().join("data"));
    }

    /// Takes the copy away again.
    pub fn forget(&self) {
        std::fs::remove_dir_all(self.target.path().join("data")).unwrap();
    }
}
