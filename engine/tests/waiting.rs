//! What is said of a torrent to which nothing comes.

mod common;

use common::origin::{Answer, Origin};
use common::tracker::{Say, Scripted};
use common::{get, publish, seed, session_on, stats_until};
use std::net::SocketAddr;
use swarm_core::metainfo::Magnet;
use swarm_engine::{AddTorrent, Encryption, IpFilter, IpRange, SessionOptions, Waiting};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const IP: &str = "127.0.0.1";

/// What a download in a session with these options says in the end, if it knows this peer only.
async fn says(
    options: impl FnOnce(SessionOptions) -> SessionOptions,
    peer: SocketAddr,
    is_it: impl Fn(&Waiting) -> bool,
) -> String {
    says_with(options, |torrent| torrent.peers([peer]), is_it).await
}

/// The same of a download that is told of its sources so.
async fn says_with(
    options: impl FnOnce(SessionOptions) -> SessionOptions,
    sources: impl FnOnce(AddTorrent) -> AddTorrent,
    is_it: impl Fn(&Waiting) -> bool,
) -> String {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), &[("a.bin", 100_000)], 16_384);
    let session = session_on(IP, options);
    let torrent = session.add(sources(AddTorrent::download(metainfo, target.path()))).await.unwrap();
    let stats = stats_until(&torrent, |stats| stats.waiting.as_ref().is_some_and(&is_it)).await;
    session.stop().await;
    stats.waiting.unwrap().to_string()
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    std::net::UdpSocket::bind((IP, 0)).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn peers_that_do_not_answer_are_counted() {
    let unreachable = |waiting: &Waiting| matches!(waiting, Waiting::Unreachable { .. });
    let said = says(|options| options, nobody(), unreachable).await;
    assert_eq!(said, "no peers: nobody answers at the one known address");
    let said = says(|options| options.tcp(false), nobody(), unreachable).await;
    assert_eq!(said, "no peers: nobody answers at the one known address over uTP, and TCP is off");
}

#[tokio::test]
async fn filter_that_blocks_all_is_named() {
    let peer: SocketAddr = "127.0.0.5:6881".parse().unwrap();
    let filter = IpFilter::new([IpRange::new(peer.ip(), peer.ip()).unwrap()]);
    let filtered = |waiting: &Waiting| matches!(waiting, Waiting::Filtered);
    let said = says(|options| options.ip_filter(Some(filter.into())), peer, filtered).await;
    assert_eq!(said, "no peers: the IP filter blocks each address that was named");
}

#[tokio::test]
async fn encryption_that_the_peer_does_not_take_is_named() {
    use Encryption::{Off, Require};
    for (ours, theirs, reason) in [
        (Require, Off, "did not take an encrypted handshake, and encryption is required"),
        (Off, Require, "perhaps encryption is required there, and it is off here"),
    ] {
        let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(source.path(), &[("a.bin", 100_000)], 16_384);
        let with = |encryption| session_on(IP, |options| options.encryption(encryption));
        let (seeder, getter) = (with(theirs), with(ours));
        seed(&seeder, &metainfo, source.path()).await;
        let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
        let stats = stats_until(
            &torrent,
            |stats| matches!(&stats.waiting, Some(Waiting::Refused { encryption }) if *encryption == ours),
        )
        .await;
        let said = stats.waiting.unwrap().to_string();
        assert!(said.contains(reason), "{said}");
        getter.stop().await;
        seeder.stop().await;
    }
}

/// A peer without extensions that says this after its handshake, and then nothing more.
async fn peer_that_says(messages: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((IP, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            let mut handshake = [0; 68];
            stream.read_exact(&mut handshake).await.unwrap();
            handshake[20..28].fill(0);
            handshake[48..].fill(b'x');
            stream.write_all(&handshake).await.unwrap();
            stream.write_all(messages).await.unwrap();
            // What it is sent is read, and forgotten.
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    addr
}

#[tokio::test]
async fn peers_that_give_nothing_are_told_apart() {
    const BITFIELD: [u8; 6] = [0, 0, 0, 2, 5, 0b1111_1110];
    const UNCHOKING: [u8; 11] = [0, 0, 0, 2, 5, 0b1111_1110, 0, 0, 0, 1, 1];
    let silent: [(&'static [u8], _); 3] = [
        (&[], "no connected peer has what is missing"),
        (&BITFIELD, "all peers choke us"),
        (&UNCHOKING, "peers do not answer"),
    ];
    for (messages, reason) in silent {
        let peer = peer_that_says(messages).await;
        let said = says(|options| options, peer, |waiting| waiting.to_string() == reason);
        assert_eq!(said.await, reason);
    }
}

/// A tracker that has nothing good to say.
async fn failing_tracker() -> Scripted {
    Scripted::always(IP, Say::ok(b"d14:failure reason12:not for youse")).await
}

#[tokio::test]
async fn what_a_tracker_says_is_passed_on() {
    let tracker = failing_tracker().await;
    let sources = |torrent: AddTorrent| torrent.trackers([tracker.url("/announce")]);
    let said = says_with(|options| options, sources, |waiting| matches!(waiting, Waiting::Tracker(_))).await;
    assert!(said.starts_with("no peers; tracker: ") && said.contains("not for you"), "{said}");
}

#[tokio::test]
async fn a_web_seed_that_does_not_answer_is_named() {
    let url = format!("http://{}/", nobody());
    let is_web_seed = |waiting: &Waiting| waiting.to_string().contains("tried again in");
    let said = says_with(|options| options, |torrent| torrent.web_seeds([&url]), is_web_seed).await;
    assert!(said.starts_with(&format!("no peers; web seed {url}: ")), "{said}");
    // Beside a peer that has nothing.
    let peer = peer_that_says(&[]).await;
    let sources = |torrent: AddTorrent| torrent.web_seeds([&url]).peers([peer]);
    let is_it =
        |waiting: &Waiting| matches!(waiting, Waiting::WebSeedBesidePeers { .. }) && is_web_seed(waiting);
    let said = says_with(|options| options, sources, is_it).await;
    let expected = format!("no connected peer has what is missing; web seed {url}: ");
    assert!(said.starts_with(&expected), "{said}");
}

/// Old metainfo files have such entries.
#[tokio::test]
async fn a_web_seed_of_no_use_does_not_hide_what_the_tracker_says() {
    let tracker = failing_tracker().await;
    let ftp = "ftp://old.example/a.bin";
    let sources = |torrent: AddTorrent| torrent.web_seeds([ftp]).trackers([tracker.url("/announce")]);
    let said = says_with(|options| options, sources, |waiting| matches!(waiting, Waiting::Tracker(_))).await;
    assert!(said.contains("not for you"), "{said}");
    // Where nobody else is to be asked it is the reason.
    let is_it = |waiting: &Waiting| matches!(waiting, Waiting::WebSeed { .. });
    let said = says_with(|options| options, |torrent| torrent.web_seeds([ftp]), is_it).await;
    let expected = "ftp: is not supported, only http: and https:; not used any more";
    assert_eq!(said, format!("no peers; web seed {ftp}: {expected}"));
}

#[tokio::test]
async fn a_web_seed_without_the_file_that_is_missing_is_needed_and_lacks_it() {
    let origin = Origin::with(Default::default(), |_, _| Answer::new(404, "")).await;
    let is_it = |waiting: &Waiting| waiting.to_string().contains("it has no file that is missing");
    let url = origin.url("/");
    let said = says_with(|options| options, |torrent| torrent.web_seeds([&url]), is_it).await;
    let expected = "the server answered 404; it has no file that is missing; tried again in ";
    assert!(said.starts_with(&format!("no peers; web seed {url}: {expected}")), "{said}");
}

#[tokio::test]
async fn peers_without_the_metadata_are_named() {
    let target = TempDir::new().unwrap();
    let hash = "xt=urn:btih:631a31dd0a46257d5078c0dee4e66e26f73e42ac";
    let magnet: Magnet = format!("magnet:?{hash}").parse().unwrap();
    let session = session_on(IP, |options| options);
    let torrent = AddTorrent::download(magnet, target.path()).peers([peer_that_says(&[]).await]);
    let torrent = session.add(torrent).await.unwrap();
    let stats = stats_until(&torrent, |stats| matches!(stats.waiting, Some(Waiting::NoMetadata))).await;
    assert_eq!(stats.waiting.unwrap().to_string(), "no connected peer has the metadata");
    session.stop().await;
}
