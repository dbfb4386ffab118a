//! Data that rots on the disk without any sign, as a program with the engine in it sees it.

mod common;

use common::{content, publish, seed, session, session_on, until};
use std::fs::File;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Metainfo;
use swarm_engine::{AddTorrent, Event, Session, TorrentHandle};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const PIECE: u32 = 65_536;
const LEN: usize = 3_000_000;
/// Somewhere in piece 12.
const AT: u64 = 12 * 65_536 + 5;

for_both_families![
    a_reader_of_trusted_data_never_sees_rot,
    a_scrub_begins_and_ends_while_a_seed_runs,
    a_recheck_finds_rot_and_a_scrub_mends_it,
];

/// A seed that trusts its state, though its data has rotted since; its metainfo, and a seed with the right data.
struct Rotten {
    dir: TempDir,
    _state: TempDir,
    _right: TempDir,
    metainfo: Arc<Metainfo>,
    session: Session,
    seeding: TorrentHandle,
    other: Session,
    _other_seeding: TorrentHandle,
}

impl Rotten {
    async fn new(ip: &str) -> Rotten {
        let (dir, state, right) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let metainfo = publish(dir.path(), &[("a.bin", LEN)], PIECE);
        publish(right.path(), &[("a.bin", LEN)], PIECE);
        let session = session_on(ip, |options| options.state_dir(state.path().to_owned()));
        seed(&session, &metainfo, dir.path()).await.stop().await.unwrap();
        rot(&dir.path().join("data/a.bin"));
        let other = common::session(ip);
        let other_seeding = seed(&other, &metainfo, right.path()).await;
        let options =
            AddTorrent::seed(Arc::clone(&metainfo), dir.path()).peers(other.listen_addrs().to_vec());
        let seeding = session.add(options).await.unwrap();
        let mut events = seeding.events();
        let all = metainfo.info.geometry.pieces();
        until(&mut events, |event| matches!(event, Event::Started { have, .. } if *have == all)).await;
        Rotten {
            dir,
            _state: state,
            _right: right,
            metainfo,
            session,
            seeding,
            other,
            _other_seeding: other_seeding,
        }
    }

    fn is_right(&self) -> bool {
        std::fs::read(self.dir.path().join("data/a.bin")).unwrap() == content(LEN, 0)
    }
}

/// Changes a byte, and nothing that shows it.
fn rot(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, AT).unwrap();
    file.write_all_at(&[!byte[0]], AT).unwrap();
    file.set_modified(time).unwrap();
}

async fn a_reader_of_trusted_data_never_sees_rot(ip: &str) {
    let rotten = Rotten::new(ip).await;
    let mut events = rotten.seeding.events();
    let mut reader = rotten.seeding.read(FileIndex(0)).unwrap();
    let mut bytes = vec![0; 12 * PIECE as usize];
    reader.read_exact(&mut bytes).await.unwrap();
    assert!(bytes == content(LEN, 0)[..bytes.len()]);
    let refused = reader.read_exact(&mut [0; 10]).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NotFound, "{refused}");
    let bad = until(&mut events, |event| matches!(event, Event::DataBad { .. })).await;
    assert!(matches!(bad, Event::DataBad { pieces: 1, refetched: false, .. }), "{bad:?}");
    // Where it may be fetched again, a reader waits for it.
    rotten.seeding.set_scrub(1);
    reader.seek(SeekFrom::Start(AT - 5)).await.unwrap();
    let mut bytes = [0; 100];
    reader.read_exact(&mut bytes).await.unwrap();
    assert!(bytes == content(LEN, 0)[AT as usize - 5..][..100]);
    assert!(rotten.is_right());
}

async fn a_scrub_begins_and_ends_while_a_seed_runs(ip: &str) {
    let rotten = Rotten::new(ip).await;
    let mut events = rotten.seeding.events();
    rotten.seeding.set_scrub(1 << 30);
    let bad = until(&mut events, |event| matches!(event, Event::DataBad { .. })).await;
    assert!(matches!(bad, Event::DataBad { pieces: 1, refetched: true, .. }), "{bad:?}");
    until(&mut events, |event| matches!(event, Event::DataMended { piece, .. } if piece.0 == 12)).await;
    assert!(rotten.is_right());
    rotten.seeding.set_scrub(None);
    // What is here now is served: nobody else is asked.
    let target = TempDir::new().unwrap();
    let getter = session(ip);
    let get = AddTorrent::download(Arc::clone(&rotten.metainfo), target.path());
    let torrent = getter.add(get.peers(rotten.session.listen_addrs().to_vec())).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(torrent.stats().await.unwrap().totals.bytes_corrupt, 0);
    assert!(std::fs::read(target.path().join("data/a.bin")).unwrap() == content(LEN, 0));
    drop(rotten.other);
}

async fn a_recheck_finds_rot_and_a_scrub_mends_it(ip: &str) {
    let rotten = Rotten::new(ip).await;
    let mut events = rotten.seeding.events();
    rotten.seeding.recheck();
    let all = rotten.metainfo.info.geometry.pieces();
    until(&mut events, |event| matches!(event, Event::Started { have, .. } if *have == all - 1)).await;
    rotten.seeding.set_scrub(1);
    until(&mut events, |event| matches!(event, Event::DataMended { piece, .. } if piece.0 == 12)).await;
    assert!(rotten.is_right());
}
