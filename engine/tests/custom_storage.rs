//! Torrents whose pieces are kept by a storage of the embedder's, here in memory, over loopback.

mod common;

use common::{FILES, content, get, publish, same_tree, seed, session, session_on, until};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerId};
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use swarm_core::wire::handshake::{HANDSHAKE_LEN, Handshake, Reserved};
use swarm_core::wire::{Message, MetadataMessage};
use swarm_engine::{
    AddTorrent, Data, Error, Event, FileIndex, Files, Metainfo, OptionError, PieceIndex, PieceStorage,
    Session, Stored, TorrentHandle,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

for_both_families![
    a_download_goes_into_memory,
    a_link_is_downloaded_into_memory,
    memory_seeds_to_files,
    metadata_does_not_wait_for_a_block_that_the_storage_is_slow_with,
    what_rots_in_memory_is_never_sent,
    only_pieces_of_wanted_files_are_written,
    a_corrupt_piece_is_found_by_recheck_and_fetched_again,
    unverified_pieces_are_checked_before_they_count,
    a_full_storage_stalls_and_goes_on,
    a_storage_that_is_full_from_the_start_is_waited_for,
    what_does_not_verify_is_never_written,
    an_error_that_cannot_pass_ends_only_its_torrent,
    an_error_of_read_fails_only_what_it_was_for,
    a_panic_ends_only_its_torrent,
    partial_pieces_are_dropped_when_memory_is_full,
    what_waits_in_memory_does_not_stop_other_torrents,
    less_memory_than_two_pieces_is_an_error,
    removal_with_its_data_deletes_it,
];

const PIECE_LEN: u32 = 65_536;
/// So long a read is held at most: what waits for it then fails its test.
const HELD_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Memory(Mutex<State>, Condvar);

#[derive(Debug, Default)]
struct State {
    pieces: BTreeMap<PieceIndex, Vec<u8>>,
    piece_count: u32,
    /// What is there has to be checked.
    unverified: bool,
    /// How calls fail.
    reserve: Option<ErrorKind>,
    write: Option<ErrorKind>,
    read: Option<ErrorKind>,
    /// Reads wait for as long.
    holds_reads: bool,
    panics: bool,
    /// Calls other than reads.
    writes: Vec<PieceIndex>,
    calls: Vec<&'static str>,
}

fn fails(with: Option<ErrorKind>) -> io::Result<()> {
    with.map_or(Ok(()), |kind| Err(kind.into()))
}

impl Memory {
    /// One that holds all of a published torrent.
    fn full(dir: &Path, metainfo: &Metainfo) -> Arc<Memory> {
        let files = metainfo.info.files.iter().map(|file| dir.join(file.path.join("/")));
        let bytes: Vec<u8> = files.flat_map(|path| std::fs::read(path).unwrap()).collect();
        let pieces = (0..).map(PieceIndex).zip(bytes.chunks(metainfo.info.geometry.piece_len() as usize));
        let memory = Memory::default();
        memory.state().pieces = pieces.map(|(piece, bytes)| (piece, bytes.to_vec())).collect();
        Arc::new(memory)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn bytes(&self) -> Vec<u8> {
        self.state().pieces.values().flatten().copied().collect()
    }

    fn count(&self, call: &str) -> usize {
        self.state().calls.iter().filter(|called| **called == call).count()
    }
}

impl PieceStorage for Memory {
    fn open(&self, metainfo: &Metainfo) -> io::Result<()> {
        let mut state = self.state();
        state.piece_count = metainfo.info.geometry.pieces();
        state.calls.push("open");
        Ok(())
    }

    fn stored(&self, piece: PieceIndex) -> Stored {
        let state = self.state();
        assert!(piece.0 < state.piece_count);
        match state.pieces.contains_key(&piece) {
            false => Stored::Missing,
            true if state.unverified => Stored::Unverified,
            true => Stored::Verified,
        }
    }

    fn read(&self, piece: PieceIndex, begin: u32, buf: &mut [u8]) -> io::Result<()> {
        let held = self.1.wait_timeout_while(self.state(), HELD_MAX, |state| state.holds_reads);
        let (state, _) = held.unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(!state.panics, "as it was told");
        fails(state.read)?;
        let bytes = &state.pieces.get(&piece).ok_or(ErrorKind::NotFound)?[begin as usize..];
        buf.copy_from_slice(bytes.get(..buf.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, piece: PieceIndex, parts: &[&[u8]]) -> io::Result<()> {
        let mut state = self.state();
        fails(state.write)?;
        state.pieces.insert(piece, parts.concat());
        state.writes.push(piece);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        assert!(bytes > 0);
        let mut state = self.state();
        state.calls.push("reserve");
        fails(state.reserve)
    }

    fn finish(&self) -> io::Result<()> {
        self.state().calls.push("finish");
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.state().calls.push("close");
        Ok(())
    }

    fn delete(&self) -> io::Result<()> {
        let mut state = self.state();
        state.calls.push("delete");
        state.pieces.clear();
        Ok(())
    }
}

/// A published torrent, a session that seeds it, and one to get it into memory with.
struct Swarm {
    source: TempDir,
    metainfo: Arc<Metainfo>,
    seeder: Session,
    getter: Session,
    memory: Arc<Memory>,
}

impl Swarm {
    async fn new(ip: &str) -> Swarm {
        let common::Swarm { source, metainfo, seeder, .. } =
            common::Swarm::in_pieces(ip, FILES, PIECE_LEN).await;
        Swarm { source, metainfo, seeder, getter: session(ip), memory: Arc::default() }
    }

    fn download(&self) -> AddTorrent {
        get_into(&self.metainfo, self.memory.clone(), &[&self.seeder])
    }

    fn assert_complete(&self) {
        let expected = Memory::full(self.source.path(), &self.metainfo).bytes();
        assert!(self.memory.bytes() == expected, "memory holds something else");
    }

    fn len(&self) -> u64 {
        self.metainfo.info.payload_len()
    }
}

/// A download into memory.
fn get_into(metainfo: &Arc<Metainfo>, memory: Arc<Memory>, from: &[&Session]) -> AddTorrent {
    let peers = from.iter().flat_map(|session| session.listen_addrs().to_vec());
    AddTorrent::download_to(Arc::clone(metainfo), memory).peers(peers)
}

/// Seeds a published torrent from memory.
async fn seed_from_memory(
    seeder: &Session,
    metainfo: &Arc<Metainfo>,
    dir: &Path,
) -> (TorrentHandle, Arc<Memory>) {
    let memory = Memory::full(dir, metainfo);
    let torrent = AddTorrent::seed_from(Arc::clone(metainfo), memory.clone());
    let torrent = seeder.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    (torrent, memory)
}

/// Waits until a torrent that started again with some pieces has all.
async fn completed_again(torrent: &TorrentHandle) {
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::Started { have: 1.., .. })).await;
    until(&mut events, |event| matches!(event, Event::Completed)).await;
}

async fn a_download_goes_into_memory(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.assert_complete();
    let stats = torrent.stats().await.unwrap();
    assert_eq!((stats.bytes_verified, stats.totals.bytes_wasted), (swarm.len(), 0));
    swarm.getter.stop().await;
    assert_eq!(swarm.memory.state().calls, ["open", "reserve", "finish", "close"]);
    let (mut writes, pieces) =
        (swarm.memory.state().writes.clone(), swarm.metainfo.info.geometry.piece_indices());
    writes.sort_unstable();
    assert!(writes.into_iter().eq(pieces), "each piece was written once");
    assert_eq!((torrent.dir(), torrent.path(), torrent.file_path(FileIndex(0))), (None, None, None));
}

async fn a_link_is_downloaded_into_memory(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let peers = swarm.seeder.listen_addrs().to_vec();
    let link = AddTorrent::download_to(swarm.metainfo.info.info_hash, swarm.memory.clone()).peers(peers);
    let torrent = swarm.getter.add(link).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.assert_complete();
}

async fn memory_seeds_to_files(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, PIECE_LEN);
    let (seeder, getter) = (session(ip), session(ip));
    let (seeding, memory) = seed_from_memory(&seeder, &metainfo, source.path()).await;
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
    assert_eq!(memory.state().calls, ["open"]);
    let mut bytes = Vec::new();
    seeding.read(FileIndex(0)).unwrap().read_to_end(&mut bytes).await.unwrap();
    assert!(bytes == content(FILES[0].1, 0));
}

async fn metadata_does_not_wait_for_a_block_that_the_storage_is_slow_with(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), FILES, PIECE_LEN);
    let seeder = session(ip);
    let (_seeding, memory) = seed_from_memory(&seeder, &metainfo, source.path()).await;
    memory.state().holds_reads = true;
    let mut stream = TcpStream::connect(seeder.listen_addrs()[0]).await.unwrap();
    let (reserved, peer_id) = (Reserved::EXTENSION, PeerId(*b"-XX0001-000000000000"));
    let hello = Handshake { reserved, info_hash: metainfo.info.info_hash, peer_id };
    stream.write_all(&hello.encode()).await.unwrap();
    stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
    let offer =
        ExtensionHandshake { ids: [(Extension::Metadata, 3)].into(), ..ExtensionHandshake::default() };
    say(&mut stream, &Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: offer.encode() }).await;
    say(&mut stream, &Message::Interested).await;
    let mut metadata_id = None;
    let mut is_asked = false;
    loop {
        let (kind, body) = hear(&mut stream).await;
        match (kind, body.first()) {
            (20, Some(&0)) => {
                metadata_id =
                    ExtensionHandshake::decode(&body[1..]).unwrap().ids.get(&Extension::Metadata).copied();
            }
            (20, Some(&3)) => break,
            (7, _) => panic!("a block that the storage has not given"),
            // Unchoked.
            (1, _) => {
                let block = BlockRef { piece: PieceIndex(0), begin: 0, len: BLOCK_LEN };
                say(&mut stream, &Message::Request(block)).await;
                is_asked = true;
            }
            _ => {}
        }
        if is_asked && let Some(id) = metadata_id.take() {
            say(&mut stream, &Message::Extended { id, payload: MetadataMessage::Request(0).encode() }).await;
        }
    }
    memory.state().holds_reads = false;
    memory.1.notify_all();
    while hear(&mut stream).await.0 != 7 {}
}

async fn say(stream: &mut TcpStream, message: &Message) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    stream.write_all(&bytes).await.unwrap();
}

/// The next message: its number, and what follows it.
async fn hear(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    loop {
        let len = stream.read_u32().await.unwrap();
        let mut bytes = vec![0; len as usize];
        stream.read_exact(&mut bytes).await.unwrap();
        if !bytes.is_empty() {
            return (bytes.remove(0), bytes);
        }
    }
}

async fn what_rots_in_memory_is_never_sent(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, PIECE_LEN);
    let (seeder, getter) = (session(ip), session(ip));
    let (seeding, memory) = seed_from_memory(&seeder, &metainfo, source.path()).await;
    let mut bad = seeding.events();
    memory.state().pieces.get_mut(&PieceIndex(1)).unwrap()[7] ^= 1;
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    let mut events = torrent.events();
    for _ in 1..metainfo.info.geometry.pieces() {
        let heard = |event: &Event| matches!(event, Event::PieceVerified(_) | Event::PieceFailed(_));
        let heard = until(&mut events, heard).await;
        assert!(matches!(heard, Event::PieceVerified(piece) if piece != PieceIndex(1)), "{heard:?}");
    }
    until(&mut bad, |event| matches!(event, Event::DataBad { pieces: 1, .. })).await;
}

async fn only_pieces_of_wanted_files_are_written(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let last = FILES.len() - 1;
    let only = swarm.download().files(Files::only([FileIndex(last as u32)]));
    let torrent = swarm.getter.add(only).await.unwrap();
    torrent.completed().await.unwrap();
    let info = &swarm.metainfo.info;
    let pieces = info.geometry.piece_indices();
    let wanted = pieces.filter(|&piece| info.segments(piece).any(|segment| segment.file.idx() == last));
    assert!(swarm.memory.state().pieces.keys().copied().eq(wanted));
    // What is there stays when more is wanted.
    torrent.set_files(Files::all()).unwrap();
    completed_again(&torrent).await;
    swarm.assert_complete();
    assert_eq!(swarm.memory.state().writes.len(), info.geometry.pieces() as usize);
}

async fn a_corrupt_piece_is_found_by_recheck_and_fetched_again(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.memory.state().pieces.get_mut(&PieceIndex(3)).unwrap()[5] ^= 1;
    swarm.memory.state().pieces.get_mut(&PieceIndex(7)).unwrap().truncate(100);
    swarm.memory.state().writes.clear();
    torrent.recheck();
    completed_again(&torrent).await;
    let mut writes = swarm.memory.state().writes.clone();
    writes.sort_unstable();
    assert_eq!(writes, [PieceIndex(3), PieceIndex(7)]);
    swarm.assert_complete();
}

async fn unverified_pieces_are_checked_before_they_count(ip: &str) {
    let mut swarm = Swarm::new(ip).await;
    swarm.memory = Memory::full(swarm.source.path(), &swarm.metainfo);
    swarm.memory.state().unverified = true;
    swarm.memory.state().pieces.get_mut(&PieceIndex(0)).unwrap()[0] ^= 1;
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(swarm.memory.state().writes, [PieceIndex(0)]);
    swarm.assert_complete();
}

async fn a_full_storage_stalls_and_goes_on(ip: &str) {
    for (kind, is_full) in [(ErrorKind::StorageFull, true), (ErrorKind::TimedOut, false)] {
        let swarm = Swarm::new(ip).await;
        swarm.memory.state().write = Some(kind);
        let torrent = swarm.getter.add(swarm.download()).await.unwrap();
        let mut events = torrent.events();
        match until(&mut events, |event| matches!(event, Event::DiskStalled { .. })).await {
            Event::DiskStalled { error } => assert_eq!(error.is_no_space(), is_full, "{error}"),
            _ => unreachable!(),
        }
        assert_eq!(torrent.stats().await.unwrap().pieces_have, 0, "nothing counts that was not written");
        swarm.memory.state().write = None;
        until(&mut events, |event| matches!(event, Event::DiskResumed)).await;
        torrent.completed().await.unwrap();
        swarm.assert_complete();
        assert!(swarm.memory.count("reserve") >= 2, "it is asked for space before it is tried again");
    }
}

async fn a_storage_that_is_full_from_the_start_is_waited_for(ip: &str) {
    let swarm = Swarm::new(ip).await;
    swarm.memory.state().reserve = Some(ErrorKind::QuotaExceeded);
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    let mut events = torrent.events();
    until(&mut events, |event| matches!(event, Event::DiskStalled { .. })).await;
    swarm.memory.state().reserve = None;
    torrent.completed().await.unwrap();
    swarm.assert_complete();
}

async fn what_does_not_verify_is_never_written(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let liar = session(ip);
    let lying = AddTorrent::seed(swarm.metainfo.clone(), swarm.source.path()).poison(true);
    liar.add(lying).await.unwrap().completed().await.unwrap();
    let download = get_into(&swarm.metainfo, swarm.memory.clone(), &[&liar]);
    let torrent = swarm.getter.add(download).await.unwrap();
    until(&mut torrent.events(), |event| matches!(event, Event::PeerBanned { .. })).await;
    assert!(swarm.memory.state().writes.is_empty());
    torrent.add_peers(swarm.seeder.listen_addrs().to_vec());
    torrent.completed().await.unwrap();
    swarm.assert_complete();
}

async fn an_error_that_cannot_pass_ends_only_its_torrent(ip: &str) {
    let swarm = Swarm::new(ip).await;
    swarm.memory.state().write = Some(ErrorKind::InvalidData);
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    let error = torrent.completed().await.unwrap_err();
    assert!(error.to_string().starts_with("data: cannot write: "), "{error}");
    let (other_source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let other = publish(other_source.path(), &[("b.bin", 300_000)], PIECE_LEN);
    seed(&swarm.seeder, &other, other_source.path()).await;
    let well = swarm.getter.add(get(&other, target.path(), &[&swarm.seeder])).await.unwrap();
    well.completed().await.unwrap();
}

async fn an_error_of_read_fails_only_what_it_was_for(ip: &str) {
    let (source, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let metainfo = publish(source.path(), FILES, PIECE_LEN);
    let (seeder, getter) = (session(ip), session(ip));
    let (seeding, memory) = seed_from_memory(&seeder, &metainfo, source.path()).await;
    let mut events = seeding.events();
    memory.state().read = Some(ErrorKind::Other);
    let torrent = getter.add(get(&metainfo, target.path(), &[&seeder])).await.unwrap();
    let warned = until(&mut events, |event| matches!(event, Event::Warning(_))).await;
    assert!(format!("{warned:?}").contains("data: cannot read: "), "{warned:?}");
    let mut bytes = Vec::new();
    let error = seeding.read(FileIndex(0)).unwrap().read_to_end(&mut bytes).await.unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    memory.state().read = None;
    // On the first connection, what was refused twice is not asked for again.
    torrent.pause();
    torrent.resume();
    torrent.completed().await.unwrap();
    same_tree(&source.path().join("data"), &target.path().join("data"));
}

async fn a_panic_ends_only_its_torrent(ip: &str) {
    let mut swarm = Swarm::new(ip).await;
    swarm.memory = Memory::full(swarm.source.path(), &swarm.metainfo);
    swarm.memory.state().unverified = true;
    swarm.memory.state().panics = true;
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    let error = torrent.completed().await.unwrap_err();
    assert!(matches!(error, Error::Defect(_)), "{error}");
    swarm.memory.state().panics = false;
    let again = swarm.getter.add(swarm.download()).await.unwrap();
    again.completed().await.unwrap();
}

async fn partial_pieces_are_dropped_when_memory_is_full(ip: &str) {
    let source = TempDir::new().unwrap();
    let metainfo = publish(source.path(), &[("a.bin", 24 << 20)], 512 << 10);
    // Room for two pieces, and more peers than that.
    let getter = session_on(ip, |options| options.buffer_bytes(1 << 20));
    let mut seeders = Vec::new();
    for _ in 0..5 {
        let seeder = session(ip);
        seed(&seeder, &metainfo, source.path()).await;
        seeders.push(seeder);
    }
    let memory = Arc::new(Memory::default());
    let from = seeders.iter().collect::<Vec<_>>();
    let download = get_into(&metainfo, memory.clone(), &from);
    let torrent = getter.add(download).await.unwrap();
    let done = tokio::time::timeout(Duration::from_secs(30), torrent.completed()).await;
    done.expect("the download stood still").unwrap();
    assert!(memory.bytes() == content(24 << 20, 0));
}

async fn what_waits_in_memory_does_not_stop_other_torrents(ip: &str) {
    let getter = session_on(ip, |options| options.buffer_bytes(1 << 20));
    let mut waiting = Vec::new();
    // Half a piece each, and nobody to get the rest from.
    for name in ["a.bin", "c.bin"] {
        let source = TempDir::new().unwrap();
        let metainfo = publish(source.path(), &[(name, 512 << 10)], 512 << 10);
        let seeder = session_on(ip, |options| options.upload_limit(Some(200_000)));
        seed(&seeder, &metainfo, source.path()).await;
        let memory: Arc<Memory> = Arc::default();
        let download = get_into(&metainfo, memory, &[&seeder]);
        let torrent = getter.add(download).await.unwrap();
        while torrent.stats().await.unwrap().bytes_unverified < 300_000 {
            tokio::task::yield_now().await;
        }
        seeder.stop().await;
        waiting.push(torrent);
    }
    let (source, seeder, memory) = (TempDir::new().unwrap(), session(ip), Arc::new(Memory::default()));
    let metainfo = publish(source.path(), &[("b.bin", 2 << 20)], 512 << 10);
    seed(&seeder, &metainfo, source.path()).await;
    let download = get_into(&metainfo, memory.clone(), &[&seeder]);
    let torrent = getter.add(download).await.unwrap();
    let done = tokio::time::timeout(Duration::from_secs(60), torrent.completed()).await;
    done.expect("the download stood still").unwrap();
    assert!(memory.bytes() == content(2 << 20, 0));
    let mut dropped = 0;
    for torrent in waiting {
        let stats = torrent.stats().await.unwrap();
        assert_eq!(stats.bytes_unverified + stats.totals.bytes_wasted, stats.totals.bytes_down);
        dropped += stats.totals.bytes_wasted;
    }
    assert!(dropped >= 300_000, "{dropped} bytes were dropped");
}

async fn less_memory_than_two_pieces_is_an_error(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let getter = session_on(ip, |options| options.buffer_bytes(2 * PIECE_LEN as usize - 1));
    let error = getter.add(swarm.download()).await.unwrap().completed().await.unwrap_err();
    assert!(matches!(error, Error::Option(OptionError::BufferTooSmall { .. })), "{error}");
    assert_eq!(swarm.memory.state().calls, [""; 0]);
}

async fn removal_with_its_data_deletes_it(ip: &str) {
    let swarm = Swarm::new(ip).await;
    let torrent = swarm.getter.add(swarm.download()).await.unwrap();
    torrent.completed().await.unwrap();
    swarm.getter.remove(torrent.id(), Data::Delete).await.unwrap();
    assert_eq!(swarm.memory.state().calls, ["open", "reserve", "finish", "close", "delete"]);
    assert!(swarm.memory.bytes().is_empty());
}
