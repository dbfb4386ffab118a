//! Those who dial and those who accept, over loopback.

use super::*;
use crate::hash::Workers;
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::id::PeerId;
use swarm_core::mse::Encryption::{self, Allow, Off, Prefer, Require};
use swarm_core::mse::Method;
use swarm_core::rng::Rng;
use swarm_core::wire::handshake::Reserved;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

const PATIENCE: Duration = Duration::from_secs(10);

fn encryptor(policy: Encryption) -> Encryptor {
    Encryptor::new(policy, Arc::new(Workers::new("test", 1).unwrap()))
}

fn handshake(torrent: u8) -> Handshake {
    Handshake { reserved: Reserved::FAST, info_hash: InfoHash([torrent; 20]), peer_id: PeerId([torrent; 20]) }
}

/// Has torrents 1 and 2.
fn ours(torrent: u8) -> Ours {
    let Handshake { reserved, info_hash, peer_id } = handshake(torrent);
    Ours { reserved, info_hashes: info_hash.into(), peer_id }
}

fn find(named: Named) -> Option<(u8, InfoHash, Ours)> {
    let of = |torrent| (torrent, handshake(torrent).info_hash, ours(torrent));
    (1..3).map(of).find(|(_, info_hash, _)| match named {
        Named::Plainly(hash) => hash == *info_hash,
        Named::Obfuscated(hash) => hash == ObfuscatedHash::of(*info_hash),
    })
}

/// Accepts one after the other until one shakes hands: how many did not.
async fn accept_until_opened(listener: TcpListener, policy: Encryption, failed: Rc<Cell<usize>>) -> Opened {
    let encryptor = encryptor(policy);
    loop {
        let (tcp, addr) = listener.accept().await.unwrap();
        match accept(Stream::accepted_tcp(tcp, addr).unwrap(), &encryptor, find).await {
            Ok((2, opened)) => return opened,
            Ok((other, _)) => panic!("torrent {other}"),
            Err(_) => failed.set(failed.get() + 1),
        }
    }
}

/// One dials torrent 2 of the other: both ends if they come together, and how many attempts failed.
async fn meet(dials: Encryption, is_wanted: bool, accepts: Encryption) -> (io::Result<[Opened; 2]>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan =
        DialPlan::new(listener.local_addr().unwrap(), PATIENCE, &[Transport::Tcp], dials.attempts(is_wanted));
    let failed = Rc::new(Cell::new(0));
    let accepted = spawn_local(accept_until_opened(listener, accepts, Rc::clone(&failed)));
    let encryptor = encryptor(dials);
    let dialled = dial(&plan, &Binding::default(), &encryptor, ours(2), async || {}, || true).await;
    let ends = match dialled {
        Ok(dialled) => Ok([dialled, accepted.await.unwrap()]),
        Err(error) => {
            accepted.abort();
            Err(error)
        }
    };
    (ends, failed.get())
}

#[tokio::test]
async fn who_connects_with_whom_and_how() {
    const PLAIN: Option<Option<Method>> = Some(None);
    const TEXT: Option<Option<Method>> = Some(Some(Method::Plaintext));
    const RC4: Option<Option<Method>> = Some(Some(Method::Rc4));
    // For each that dials and each that accepts: what comes of it, and how many attempts fail before. Then the same where the peer
    // is known to want encryption.
    let expected = [
        (
            Off,
            [(PLAIN, 0), (PLAIN, 0), (PLAIN, 0), (None, 1)],
            [(PLAIN, 0), (PLAIN, 0), (PLAIN, 0), (None, 1)],
        ),
        (Allow, [(PLAIN, 0), (PLAIN, 0), (PLAIN, 0), (RC4, 1)], [(PLAIN, 1), (TEXT, 0), (RC4, 0), (RC4, 0)]),
        (Prefer, [(PLAIN, 1), (TEXT, 0), (RC4, 0), (RC4, 0)], [(PLAIN, 1), (TEXT, 0), (RC4, 0), (RC4, 0)]),
        (Require, [(None, 1), (RC4, 0), (RC4, 0), (RC4, 0)], [(None, 1), (RC4, 0), (RC4, 0), (RC4, 0)]),
    ];
    let check = async {
        for (dials, unknown, wanted) in expected {
            for (is_wanted, row) in [(false, unknown), (true, wanted)] {
                for (accepts, expected) in [Off, Allow, Prefer, Require].into_iter().zip(row) {
                    let (ends, failed) = meet(dials, is_wanted, accepts).await;
                    let how = ends.as_ref().ok().map(|[dialled, _]| dialled.stream.encryption());
                    assert_eq!((how, failed), expected, "{dials:?} to {accepts:?}, wanted: {is_wanted}");
                    for end in ends.iter().flatten() {
                        assert_eq!(end.theirs, handshake(2));
                        assert_eq!(end.stream.encryption(), how.unwrap());
                    }
                }
            }
        }
    };
    LocalSet::new().run_until(check).await;
}

#[tokio::test]
async fn where_nobody_listens_one_attempt_is_made() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan =
        DialPlan::new(listener.local_addr().unwrap(), PATIENCE, &[Transport::Tcp], Allow.attempts(false));
    drop(listener);
    let again = Cell::new(0);
    let pace = async || again.set(again.get() + 1);
    let dialled = dial(&plan, &Binding::default(), &encryptor(Allow), ours(2), pace, || true).await;
    assert_eq!(dialled.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(again.get(), 0);
}

#[tokio::test]
async fn a_peer_that_is_silent_to_one_kind_is_dialled_in_the_other() {
    // What a filter does that drops plain handshakes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let patience = Duration::from_millis(300);
    let plan =
        DialPlan::new(listener.local_addr().unwrap(), patience, &[Transport::Tcp], Allow.attempts(false));
    let meeting = async {
        let accepting = spawn_local(async move {
            let (_silent, _) = listener.accept().await.unwrap();
            let (tcp, addr) = listener.accept().await.unwrap();
            accept(Stream::accepted_tcp(tcp, addr).unwrap(), &encryptor(Allow), find)
                .await
                .map(|(_, opened)| opened.stream.encryption())
        });
        let again = Cell::new(0);
        let pace = async || again.set(again.get() + 1);
        let dialled =
            dial(&plan, &Binding::default(), &encryptor(Allow), ours(2), pace, || true).await.unwrap();
        assert_eq!(dialled.stream.encryption(), Some(Method::Plaintext));
        assert_eq!(again.get(), 1, "another attempt waits for its turn");
        assert_eq!(accepting.await.unwrap().unwrap(), Some(Method::Plaintext));
    };
    LocalSet::new().run_until(meeting).await;
}

/// Bytes go one way while the reader takes little at a time. The writer hands over all that it is asked to, and then only waits.
async fn send_all(from: &mut Stream, to: &mut Stream, bytes: &[u8], rng: &mut Rng) {
    let (mut sent, mut received) = (0, Vec::new());
    let mut write = |from: &mut Stream, rng: &mut Rng| {
        let rest = &bytes[sent..];
        let (first, second) = rest.split_at(rng.index(rest.len().min(100_000) + 1));
        let second = &second[..rng.index(second.len().min(100_000) + 1)];
        match from.try_write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        sent < bytes.len()
    };
    let mut is_left = true;
    while received.len() < bytes.len() {
        if is_left {
            is_left = write(from, rng);
        }
        let (mut one, mut other) = (vec![0; rng.index(5_000) + 1], vec![0; 20_000]);
        let waits = async {
            // As a connection that has nothing to write: what was taken must leave all the same.
            loop {
                from.ready(Some(Interest::READABLE)).await.unwrap();
                // What the runtime remembers may be over.
                let read = from.try_read_vectored(&mut [IoSliceMut::new(&mut [0])]);
                assert_eq!(read.err().map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
            }
        };
        tokio::select! {
            ready = to.ready(Some(Interest::READABLE)) => drop(ready.unwrap()),
            () = waits => {}
            () = tokio::task::yield_now(), if is_left => continue,
        }
        match to.try_read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)]) {
            Ok(count) => received.extend([one, other].concat().into_iter().take(count)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert!(received == bytes);
}

#[tokio::test]
async fn what_is_sent_arrives_however_it_is_cut_and_whatever_the_system_takes() {
    let mut rng = Rng::new(5);
    let mut bytes = vec![0; 6 << 20];
    rng.fill(&mut bytes);
    let exchange = async {
        for (dials, accepts) in [(Off, Off), (Prefer, Allow), (Require, Require)] {
            let (ends, _) = meet(dials, false, accepts).await;
            let [mut dialled, mut accepted] = ends.unwrap().map(|end| end.stream);
            send_all(&mut dialled, &mut accepted, &bytes, &mut rng).await;
            send_all(&mut accepted, &mut dialled, &bytes, &mut rng).await;
        }
    };
    LocalSet::new().run_until(exchange).await;
}

/// What an acceptor makes of one that says this.
async fn say(bytes: &[u8], policy: Encryption) -> io::Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, addr) = listener.accept().await.unwrap();
    stranger.write_all(bytes).await.unwrap();
    let encryptor = encryptor(policy);
    let accepting = accept(Stream::accepted_tcp(tcp, addr).unwrap(), &encryptor, find);
    let error = LocalSet::new().run_until(accepting).await.err().expect("no torrent was named");
    // It is not told anything that would not be said to everybody.
    let mut heard = Vec::new();
    let _ = stranger.read_to_end(&mut heard).await;
    assert!(heard.is_empty() || heard.len() >= 96, "{} bytes", heard.len());
    error
}

#[tokio::test]
async fn strangers_that_say_nonsense_are_left() {
    let noise: Vec<u8> = (0..2_000u32).map(|n| (n * 7 + 1) as u8).collect();
    for (bytes, policy, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Off, "not a plain BitTorrent handshake"),
        (&noise, Off, "not a plain BitTorrent handshake"),
        (&noise, Allow, "not an encrypted handshake"),
        (&[0; 96], Require, "not a key of an encrypted handshake"),
        (&[0xff; 96], Prefer, "not a key of an encrypted handshake"),
        (&handshake(2).encode(), Require, "not encrypted"),
        (&handshake(3).encode(), Allow, "no such torrent here"),
    ] {
        assert_eq!(say(bytes, policy).await.to_string(), reason, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_too_little_is_left_in_time() {
    let noise = [7; 95];
    for len in [0, 19, 20, 95] {
        assert_eq!(say(&noise[..len], Allow).await.kind(), io::ErrorKind::TimedOut, "{len} bytes");
    }
}

#[tokio::test]
async fn two_handshakes_for_two_torrents_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let meeting = async {
        let accepting = spawn_local(async move {
            let (tcp, addr) = listener.accept().await.unwrap();
            accept(Stream::accepted_tcp(tcp, addr).unwrap(), &encryptor(Allow), find).await.map(|_| ())
        });
        let mut stream = Stream::connect_tcp(to, &Binding::default()).await.unwrap();
        let encryptor = encryptor(Allow);
        let inner = handshake(1).encode();
        encryptor.initiate(&mut stream, handshake(2).info_hash, &inner).await.unwrap();
        let error = accepting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the handshakes are for two torrents");
    };
    LocalSet::new().run_until(meeting).await;
}
