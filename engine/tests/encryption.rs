//! Encrypted connections (MSE) between sessions, over loopback. Who connects with whom and how is tested beside the code
//! (`net/handshake/tests.rs`); here, that sessions find torrents by them and exchange data.

mod common;

use common::{get, publish, same_tree, seed, session_on};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Encryption, EncryptionMethod, Event, PeerStats, Session, TorrentHandle};
use tempfile::TempDir;

fn encrypted(encryption: Encryption) -> Session {
    session_on("127.0.0.1", |options| options.encryption(encryption))
}

/// The torrent's first peer, once it has one.
async fn peer_of(torrent: &TorrentHandle) -> PeerStats {
    loop {
        if let Some(peer) = torrent.stats().await.unwrap().peer_list.pop() {
            return peer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sessions_exchange_data_in_every_manner_that_both_take() {
    use Encryption::{Allow, Off, Prefer, Require};
    const TEXT: Option<EncryptionMethod> = Some(EncryptionMethod::Plaintext);
    const RC4: Option<EncryptionMethod> = Some(EncryptionMethod::Rc4);
    let source = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    // A file that is mapped, some that are not, and a piece that lies in several.
    let files = [("a.bin", 1_000_000), ("b/c.bin", 30_001), ("z.bin", 1)];
    let metainfo = publish(source.path(), &files, 65_536);
    let another = publish(other.path(), &[("other.bin", 20_000)], 16_384);
    for (dials, accepts, manner) in [
        (Off, Allow, None),
        (Allow, Allow, None),
        (Allow, Require, RC4),
        (Prefer, Allow, TEXT),
        (Prefer, Prefer, RC4),
        (Prefer, Off, None),
        (Require, Allow, RC4),
        (Require, Require, RC4),
    ] {
        let target = TempDir::new().unwrap();
        let (seeder, getter) = (encrypted(accepts), encrypted(dials));
        // The peer names one of two.
        seed(&seeder, &another, other.path()).await;
        let seeding = seed(&seeder, &metainfo, source.path()).await;
        let download = get(&metainfo, target.path(), &[&seeder]).download_limit(0);
        let torrent = getter.add(download).await.unwrap();
        assert_eq!(peer_of(&torrent).await.encryption, manner, "{dials:?} to {accepts:?}");
        assert_eq!(peer_of(&seeding).await.encryption, manner, "{dials:?} to {accepts:?}");
        torrent.set_download_limit(None);
        torrent.completed().await.unwrap();
        same_tree(&source.path().join("data"), &target.path().join("data"));
    }
}

/// Others cannot (aria2's issue 2046, rTorrent's 670).
#[tokio::test]
async fn a_link_is_enough_where_encryption_is_required() {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a.bin", 300_000)], 16_384);
    let (seeder, getter) = (encrypted(Encryption::Require), encrypted(Encryption::Require));
    seed(&seeder, &metainfo, source.path()).await;
    let link = AddTorrent::download(metainfo.info.info_hash, target.path());
    let torrent = getter.add(link.peers(seeder.listen_addrs().to_vec())).await.unwrap();
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

/// A download that stands half-way, over RC4, of one large file.
async fn half_way(
    metainfo: &Arc<Metainfo>,
    seeder: &Session,
    target: &TempDir,
) -> (Session, TorrentHandle, swarm_engine::EventReceiver) {
    let getter = encrypted(Encryption::Require);
    let download = get(metainfo, target.path(), &[seeder]).download_limit(20_000_000);
    let torrent = getter.add(download).await.unwrap();
    let mut events = torrent.events();
    let mut verified = 0;
    while verified < 10 {
        if let Event::PieceVerified(_) = events.next().await.unwrap() {
            verified += 1;
        }
    }
    (getter, torrent, events)
}

#[tokio::test]
async fn a_file_that_is_cut_short_under_an_encrypted_upload_is_said_and_kills_nobody() {
    const LEN: usize = 24 << 20;
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a.bin", LEN)], 65_536);
    let seeder = encrypted(Encryption::Require);
    let seeding = seed(&seeder, &metainfo, source.path()).await;
    let mut said = seeding.events();
    let (_getter, torrent, _events) = half_way(&metainfo, &seeder, &target).await;
    let path = source.path().join("data/a.bin");
    fs::File::options().write(true).open(&path).unwrap().set_len(LEN as u64 / 100).unwrap();
    torrent.set_download_limit(None);
    loop {
        match said.next().await.unwrap() {
            Event::Warning(text) if text.contains("a.bin") => break,
            Event::FileChanged { path, .. } if path.contains("a.bin") => break,
            _ => {}
        }
    }
    assert!(seeding.stats().await.is_ok());
}
