//! Torrents known by a link only: their metadata comes from peers, over loopback.

mod common;

use common::tracker::{Say, Scripted, parameter, peers};
use common::{FILES, Swarm, names_in, path_of, publish, seed, session, session_with_dht, until};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use swarm_core::id::{FileIndex, PeerId};
use swarm_core::metainfo::{Magnet, Metainfo};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, Reserved};
use swarm_core::wire::{DecodeLimits, Decoded, Message, MetadataMessage, decode, metadata_range};
use swarm_engine::{AddTorrent, Error, Event, Files, Session, TorrentHandle, Waiting};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

for_both_families![
    the_link_names_a_peer,
    a_tracker_names_a_peer,
    a_peer_dials_us,
    the_dht_names_a_peer,
    a_liar_is_banned_and_holds_nobody_up,
    a_private_torrent_keeps_only_peers_of_trackers_and_users,
    files_are_chosen_once_the_metadata_is_here,
    a_search_that_is_stopped_ends,
    metadata_over_the_limit_is_named_and_waited_for,
    trackers_hear_of_a_search_that_is_given_up,
];

fn link(metainfo: &Metainfo) -> Magnet {
    Magnet { trackers: Vec::new(), ..metainfo.magnet() }
}

fn peer_of(addr: SocketAddr) -> (String, u16) {
    (addr.ip().to_string(), addr.port())
}

/// Adds a search for the metadata of this link.
async fn search(getter: &Session, magnet: Magnet) -> TorrentHandle {
    getter.add(AddTorrent::metadata(magnet)).await.unwrap()
}

async fn found(getter: &Session, magnet: Magnet) -> Arc<Metainfo> {
    search(getter, magnet).await.metadata().await.unwrap()
}

async fn the_link_names_a_peer(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 16_384).await;
    let getter = session(ip);
    let mut at_seed = swarm.seeding.events();
    let magnet = Magnet { peers: vec![peer_of(swarm.seeder.listen_addrs()[0])], ..link(&swarm.metainfo) };
    let torrent = getter.add(AddTorrent::download(magnet, swarm.target.path())).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(torrent.metainfo().unwrap().info, swarm.metainfo.info);
    swarm.check();
    let again = getter.add(AddTorrent::metadata(link(&swarm.metainfo))).await;
    assert!(matches!(again, Err(Error::AlreadyAdded { id, .. }) if id == torrent.id()), "{again:?}");
    getter.stop().await;
    // One connection has brought the metadata and all of the data.
    let left = until(&mut at_seed, |event| matches!(event, Event::PeerLeft { .. })).await;
    let all = swarm.metainfo.info.payload_len();
    assert!(matches!(left, Event::PeerLeft { bytes_up, .. } if bytes_up == all), "{left:?}");
}

async fn files_are_chosen_once_the_metadata_is_here(ip: &str) {
    let swarm = Swarm::in_pieces(ip, FILES, 16_384).await;
    let getter = session(ip);
    let peers = swarm.seeder.listen_addrs().to_vec();
    let torrent = AddTorrent::download(link(&swarm.metainfo), swarm.target.path()).peers(peers).hold(true);
    let torrent = getter.add(torrent).await.unwrap();
    torrent.metadata().await.unwrap();
    assert!(names_in(swarm.target.path()).is_empty(), "nothing is opened before files are chosen");
    torrent.set_files(Files::only([FileIndex(0)])).unwrap();
    torrent.completed().await.unwrap();
    let path = |nth| path_of(&swarm.metainfo, swarm.target.path(), nth);
    assert!(path(0).exists());
    assert!(!path(1).exists());
}

async fn a_tracker_names_a_peer(ip: &str) {
    let swarm = Swarm::of(ip, FILES).await;
    let mut tracker = Scripted::always(ip, Say::ok(peers(swarm.seeder.listen_addrs()))).await;
    let magnet = Magnet { trackers: vec![tracker.url("/announce")], ..link(&swarm.metainfo) };
    let getter = session(ip);
    let fetched = found(&getter, magnet).await;
    assert_eq!(fetched.info, swarm.metainfo.info);
    assert_eq!(fetched.trackers, [[tracker.url("/announce")]]);
    let asked = tracker.request().await;
    assert_eq!(parameter(&asked, "event").as_deref(), Some("started"));
    assert_ne!(parameter(&asked, "left").as_deref(), Some("0"), "only seeds say so");
}

async fn a_peer_dials_us(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    let (seeder, getter) = (session(ip), session(ip));
    let searching = search(&getter, link(&metainfo)).await;
    let peers = getter.listen_addrs().to_vec();
    let torrent = AddTorrent::seed(Arc::clone(&metainfo), source.path()).peers(peers);
    let _seed = seeder.add(torrent).await.unwrap();
    assert_eq!(searching.metadata().await.unwrap().info, metainfo.info);
}

async fn the_dht_names_a_peer(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    let node = session_with_dht(ip, &[]);
    let seeder = session_with_dht(ip, node.listen_addrs());
    let _seed = seed(&seeder, &metainfo, source.path()).await;
    let getter = session_with_dht(ip, node.listen_addrs());
    assert_eq!(found(&getter, link(&metainfo)).await.info, metainfo.info);
}

/// A peer that offers these bytes as the metadata of a torrent.
async fn scripted(ip: &str, metainfo: &Metainfo, bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(ip.parse().unwrap(), 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (bytes, info_hash) = (Arc::new(bytes), metainfo.info.info_hash);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move {
                let peer_id = PeerId(rand_id(addr));
                let ours = Handshake { reserved: Reserved::EXTENSION, info_hash, peer_id };
                let size = bytes.len() as u32;
                let hello = ExtensionHandshake {
                    ids: [(Extension::Metadata, 3)].into(),
                    metadata_size: Some(size),
                    ..ExtensionHandshake::default()
                };
                stream.write_all(&ours.encode()).await?;
                say(&mut stream, EXTENSION_HANDSHAKE_ID, hello.encode()).await?;
                let mut heard = Vec::new();
                while stream.read_buf(&mut heard).await? > 0 {
                    while heard.len() > HANDSHAKE_LEN {
                        let message = decode(&heard[HANDSHAKE_LEN..], &DecodeLimits::default()).unwrap();
                        let Some((Decoded::Message(message), used)) = message else { break };
                        heard.drain(HANDSHAKE_LEN..HANDSHAKE_LEN + used);
                        let Message::Extended { id: 3, payload } = message else { continue };
                        let request = MetadataMessage::decode(&payload).unwrap();
                        let Some(MetadataMessage::Request(piece)) = request else { continue };
                        let bytes = &bytes[metadata_range(size, piece).unwrap()];
                        let data = MetadataMessage::Data { piece, total_size: size, bytes };
                        say(&mut stream, Extension::Metadata.local_id(), data.encode()).await?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    addr
}

fn rand_id(addr: SocketAddr) -> [u8; 20] {
    let mut id = *b"-ZZ0000-abcdefghij..";
    id[18..].copy_from_slice(&addr.port().to_be_bytes());
    id
}

async fn say(stream: &mut TcpStream, id: u8, payload: Vec<u8>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    Message::Extended { id, payload }.encode(&mut bytes);
    stream.write_all(&bytes).await
}

async fn a_liar_is_banned_and_holds_nobody_up(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    let liar = scripted(ip, &metainfo, vec![0; 49_152]).await;
    let getter = session(ip);
    let magnet = Magnet { peers: vec![peer_of(liar)], ..link(&metainfo) };
    let searching = search(&getter, magnet).await;
    let event = searching.events().next().await;
    assert!(matches!(&event, Some(Event::PeerBanned { addr, .. }) if *addr == liar), "{event:?}");
    let begun = Instant::now();
    let peers = getter.listen_addrs().to_vec();
    let seeder = session(ip);
    let torrent = AddTorrent::seed(Arc::clone(&metainfo), source.path()).peers(peers);
    let _seed = seeder.add(torrent).await.unwrap();
    assert_eq!(searching.metadata().await.unwrap().info, metainfo.info);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

async fn a_private_torrent_keeps_only_peers_of_trackers_and_users(ip: &str) {
    let info = b"d6:lengthi5e4:name1:n12:piece lengthi16384e6:pieces20:AAAAAAAAAAAAAAAAAAAA7:privatei1ee";
    let file = [b"d4:info", &info[..], b"e"].concat();
    let metainfo = Metainfo::parse(&file).unwrap();
    let by_tracker = scripted(ip, &metainfo, info.to_vec()).await;
    let target = TempDir::new().unwrap();
    let getter = session(ip);
    let torrent = getter.add(AddTorrent::download(link(&metainfo), target.path())).await.unwrap();
    // It comes by itself, and has nothing.
    let mut stranger = TcpStream::connect(getter.listen_addrs()[0]).await.unwrap();
    let (reserved, peer_id) = (Reserved::EXTENSION, PeerId(*b"-XX0001-000000000000"));
    let hello = Handshake { reserved, info_hash: metainfo.info.info_hash, peer_id };
    stranger.write_all(&hello.encode()).await.unwrap();
    while torrent.stats().await.unwrap().peers == 0 {
        tokio::task::yield_now().await;
    }
    torrent.add_peers([by_tracker]);
    assert!(torrent.metadata().await.unwrap().info.private);
    let mut rest = Vec::new();
    let _ = stranger.read_to_end(&mut rest).await;
    let peers: Vec<_> = torrent.stats().await.unwrap().peer_list.iter().map(|peer| peer.addr).collect();
    assert_eq!(peers, [by_tracker]);
}

async fn a_search_that_is_stopped_ends(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    let getter = session(ip);
    let searching = search(&getter, link(&metainfo)).await;
    searching.stop().await.unwrap();
    assert!(matches!(searching.metadata().await, Err(Error::Stopped)));
    // It is not known any more, so it can be looked for again.
    search(&getter, link(&metainfo)).await;
}

async fn trackers_hear_of_a_search_that_is_given_up(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, 16_384);
    for with_the_session in [false, true] {
        let mut tracker = Scripted::always(ip, Say::ok(peers(&[]))).await;
        let getter = session(ip);
        let magnet = Magnet { trackers: vec![tracker.url("/announce")], ..link(&metainfo) };
        let searching = search(&getter, magnet).await;
        let started = tracker.request().await;
        assert_eq!(parameter(&started, "event").as_deref(), Some("started"));
        if with_the_session {
            getter.stop().await;
        } else {
            searching.stop().await.unwrap();
        }
        assert!(matches!(searching.metadata().await, Err(Error::Stopped)));
        let told = tokio::time::timeout(Duration::from_secs(30), tracker.until_event("stopped")).await;
        let told = told.expect("the tracker hears of it");
        assert_eq!(parameter(told.last().unwrap(), "peer_id"), parameter(&started, "peer_id"));
    }
}

async fn metadata_over_the_limit_is_named_and_waited_for(ip: &str) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let info_hash = swarm_core::id::InfoHash([7; 20]);
    let magnet = Magnet { peers: vec![peer_of(listener.local_addr().unwrap())], ..Magnet::new(info_hash) };
    let getter = session(ip);
    let searching = search(&getter, magnet).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut greeting).await.unwrap();
    let reserved = Reserved::EXTENSION;
    let hello = Handshake { reserved, info_hash, peer_id: PeerId(*b"-XX0001-000000000000") };
    stream.write_all(&hello.encode()).await.unwrap();
    let offer = ExtensionHandshake {
        ids: [(Extension::Metadata, 3)].into(),
        metadata_size: Some(100_000_000),
        ..ExtensionHandshake::default()
    };
    let mut bytes = Vec::new();
    Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: offer.encode() }.encode(&mut bytes);
    stream.write_all(&bytes).await.unwrap();
    // One peer's word does not end it.
    loop {
        if let Some(waiting @ Waiting::MetadataTooLong { .. }) = searching.stats().await.unwrap().waiting {
            let text = "the metadata is longer than the limit of 50331648 bytes: it has 100000000 by the word of 1 peer";
            assert_eq!(waiting.to_string(), text);
            return;
        }
        tokio::task::yield_now().await;
    }
}
