//! What a storage promises, on real files.

use super::testing::{Content, Torrent, all_of, names};
use super::*;
use crate::buffer::BLOCK_BYTES;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::InfoHash;

mod downloading;
mod full_disks;
mod leftovers;
mod never_outside;
mod odd_names;
mod relocating;
mod repairing;
mod resuming;
mod reusing;
mod rot;
mod seeding;
mod trust;
mod what_is_already_there;

const KIB: u64 = 1024;

/// Files of all kinds, with pieces that span several of them.
fn mixed() -> Torrent {
    Torrent::new(
        "mixed",
        32 * KIB,
        &[
            ("big", Content::Random(300 * KIB + 7)),
            ("pad", Content::Pad(20 * KIB - 7)),
            ("empty", Content::Random(0)),
            ("deep/er/tiny", Content::Random(3)),
            ("deep/run", Content::Program(100)),
            ("deep/link", Content::Link("deep/er/tiny")),
            ("tail", Content::Random(90 * KIB)),
        ],
    )
}

fn wanting(dir: &Path, wanted: &[bool]) -> OpenOptions {
    OpenOptions::new(dir, Mode::Download { wanted: Some(wanted.to_vec()) })
}

fn seeding(dir: &Path) -> OpenOptions {
    OpenOptions::new(dir, Mode::Seed)
}

fn with_state(options: OpenOptions, dir: &Path) -> OpenOptions {
    OpenOptions { state_dir: Some(dir.to_owned()), ..options }
}

/// What a prepared range holds, by both ways of reading it.
fn prepared_bytes(storage: &FileStorage, piece: PieceIndex, range: Range<u32>) -> Vec<u8> {
    let prepared = storage.prepare(piece, range.clone()).unwrap();
    let sent: Vec<u8> = prepared.slices(range.start, range.len() as u32).flatten().copied().collect();
    let mut copied = vec![0; range.len()];
    prepared.copy_to(range.start, &mut copied).unwrap();
    assert!(sent == copied);
    sent
}

fn assert_serves_everything(torrent: &Torrent, storage: &FileStorage) {
    for piece in torrent.pieces() {
        let len = torrent.info.geometry.len_of(piece);
        assert!(prepared_bytes(storage, piece, 0..len) == torrent.bytes(piece), "piece {piece}");
        let inner = len / 3..len - len / 4;
        let expected = &torrent.bytes(piece)[inner.start as usize..inner.end as usize];
        assert!(prepared_bytes(storage, piece, inner) == expected, "inside piece {piece}");
    }
}

#[test]
fn pieces_can_be_written_checked_and_synced_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<String> = (0..200).map(|i| format!("f{i}")).collect();
    let files: Vec<_> = files.iter().map(|path| (path.as_str(), Content::Random(20_000))).collect();
    let torrent = Torrent::new("busy", 32 * KIB, &files);
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let mut finished = 0;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (torrent, storage) = (&torrent, &storage);
            scope.spawn(move || {
                for piece in torrent.pieces().filter(|piece| piece.0 % 4 == thread) {
                    torrent.write(storage, piece);
                    let len = torrent.info.geometry.len_of(piece);
                    assert!(prepared_bytes(storage, piece, 0..len) == torrent.bytes(piece));
                    assert!(storage.check_piece(piece).unwrap());
                }
            });
        }
        for _ in 0..20 {
            finished += storage.sync().unwrap().len();
        }
    });
    finished += storage.finish().unwrap().len();
    assert_eq!(finished, 200);
    torrent.assert_complete(dir.path());
    assert_eq!(torrent.pool.used_bytes() % BLOCK_BYTES, 0);
}
