use super::*;
use crate::storage::verify::{self, Report};
use swarm_core::geometry::Geometry;
use swarm_core::merkle;
use swarm_core::metainfo::{Content as Shared, Create, Format, Hashes, Info, SourceFile, pad_files};

const PIECE_LEN: u32 = 8 * BLOCK_LEN;

/// What is made of these bytes, in which the files end there.
fn made(create: Create, data: &[u8], ends: &[usize]) -> Arc<Info> {
    let nodes = create.piece_nodes(|piece, nth| {
        let start = (piece.0 * PIECE_LEN + nth * BLOCK_LEN) as usize;
        let end = ends.iter().find(|&&end| end > start).expect("a block of a file");
        merkle::leaf(&data[start..(start + BLOCK_LEN as usize).min(*end)])
    });
    let sha1: Vec<u8> =
        data.chunks(PIECE_LEN as usize).flat_map(|piece| crate::hash::sha1([piece])).collect();
    Metainfo::parse(&create.encode(Hashes { sha1: &sha1, nodes: &nodes }).unwrap()).unwrap().info
}

/// A torrent in this format of the file `x`, of some pieces and a bit.
fn torrent(format: Format) -> Torrent {
    let (_, data) =
        super::super::testing::info_of("x", PIECE_LEN.into(), &[("", Content::Random(1_000_000))]);
    let content = Shared::File { length: data.len() as u64, attr: Default::default() };
    let create = Create { format, ..Create::new("x".to_owned(), content, PIECE_LEN) };
    let info = made(create, &data, &[data.len()]);
    Torrent { info, data, pool: crate::buffer::BlockPool::new(64 << 20) }
}

fn overwriting(dir: &Path, trust: Trust) -> OpenOptions {
    OpenOptions { overwrite: true, trust, ..all_of(dir) }
}

fn found(torrent: &Torrent, dir: &Path) -> Trust {
    Trust::Found(Arc::new(report(torrent, dir)))
}

fn report(torrent: &Torrent, dir: &Path) -> Report {
    verify::run(&torrent.info, dir, 2, &|_| ()).unwrap()
}

/// The file with this byte wrong.
fn spoilt(torrent: &Torrent, at: usize) -> Vec<u8> {
    let mut bytes = torrent.data.clone();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn what_was_found_just_now_is_not_read_again() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let mut big = torrent.file_bytes(0).to_vec();
    big[100_000] ^= 1;
    fs::write(torrent.path(dir.path(), 0), &big).unwrap();
    let long = [torrent.file_bytes(6), b"more"].concat();
    fs::write(torrent.path(dir.path(), 6), long).unwrap();
    let (storage, opened) = torrent.open(overwriting(dir.path(), found(&torrent, dir.path()))).unwrap();
    assert_eq!(opened.recheck.count(), 0, "neither what is right nor what is wrong");
    let bad = PieceIndex(100_000 / (32 * KIB as u32));
    assert_eq!(opened.damaged.iter().collect::<Vec<_>>(), [bad]);
    let missing: Vec<PieceIndex> = opened.needed.iter_without(&opened.have).collect();
    assert_eq!(missing, [bad]);
    storage.reserve().unwrap();
    torrent.write(&storage, bad);
    storage.finish().unwrap();
    torrent.assert_complete(dir.path());
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn rot_under_trusted_state_is_repaired_by_blocks() {
    let (dir, states) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = torrent(Format::V2);
    torrent.lay_out(dir.path());
    let storage = torrent.open(with_state(seeding(dir.path()), states.path())).unwrap().0;
    assert!(torrent.pieces().all(|piece| storage.check_piece(piece).unwrap()));
    storage.close().unwrap();
    super::rot::rot(&torrent.path(dir.path(), 0), 200_000);
    let trust = found(&torrent, dir.path());
    verify::end_trust(&torrent.info, dir.path(), Some(states.path())).unwrap();
    let options = with_state(overwriting(dir.path(), trust), states.path());
    let (storage, opened) = torrent.open(options).unwrap();
    let bad = PieceIndex(200_000 / PIECE_LEN);
    assert!(opened.damaged.iter().eq([bad]) && storage.mendable().is_empty());
    assert!(!storage.block_digests(bad).is_empty(), "the good ones stay");
}

#[test]
fn what_has_changed_since_it_was_found_is_checked() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let trust = found(&torrent, dir.path());
    // The clock of file times may stand still for a few milliseconds.
    let path = torrent.path(dir.path(), 0);
    let modified = fs::metadata(&path).unwrap().modified().unwrap() + std::time::Duration::from_secs(1);
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let (_, opened) = torrent.open(overwriting(dir.path(), trust)).unwrap();
    let pieces = (300 * KIB + 7).div_ceil(32 * KIB) as u32;
    assert_eq!(opened.recheck.iter().collect::<Vec<_>>(), (0..pieces).map(PieceIndex).collect::<Vec<_>>());
    assert_eq!(opened.have.count() + pieces, opened.have.len());
}

#[test]
fn file_that_is_only_too_long_is_cut() {
    for trust in [true, false] {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
        torrent.lay_out(dir.path());
        let long = [torrent.file_bytes(0), &[1; 100_000]].concat();
        fs::write(torrent.path(dir.path(), 0), long).unwrap();
        let trust = if trust { found(&torrent, dir.path()) } else { Trust::Nothing };
        let (storage, opened) = torrent.open(overwriting(dir.path(), trust)).unwrap();
        assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
        storage.finish().unwrap();
        torrent.assert_complete(dir.path());
        assert_eq!(names(dir.path()), ["mixed"]);
    }
}

#[test]
fn nothing_moves_if_something_is_in_the_way() {
    let (dir, torrent) = (tempfile::tempdir().unwrap(), mixed());
    torrent.lay_out(dir.path());
    let long = [torrent.file_bytes(0), b"more"].concat();
    fs::write(torrent.path(dir.path(), 0), &long).unwrap();
    let tail = torrent.path(dir.path(), 6);
    fs::remove_file(&tail).unwrap();
    fs::create_dir(&tail).unwrap();
    let error = torrent.open(overwriting(dir.path(), found(&torrent, dir.path()))).unwrap_err();
    assert!(matches!(&error, StorageError::WrongKind { path, .. } if *path == tail), "{error}");
    assert!(fs::read(torrent.path(dir.path(), 0)).unwrap() == long);
    assert_eq!(names(dir.path()), ["mixed"]);
}

#[test]
fn good_blocks_of_a_bad_piece_stay_where_they_are() {
    for format in [Format::V2, Format::Hybrid] {
        let dir = tempfile::tempdir().unwrap();
        let torrent = torrent(format);
        // Two bad blocks in the second piece, and one in the last, which is short.
        let len = BLOCK_LEN as usize;
        let mut bytes = spoilt(&torrent, 9 * len);
        bytes[12 * len + 5] ^= 1;
        let last = torrent.pieces().next_back().unwrap();
        let begin = torrent.info.geometry.offset_of(last) as usize;
        bytes[begin] ^= 1;
        fs::write(dir.path().join("x"), &bytes).unwrap();
        let (storage, opened) = torrent.open(overwriting(dir.path(), found(&torrent, dir.path()))).unwrap();
        assert_eq!(opened.damaged.iter().collect::<Vec<_>>(), [PieceIndex(1), last]);
        storage.reserve().unwrap();
        for piece in opened.damaged.iter() {
            let digests = storage.block_digests(piece);
            let right = torrent.bytes(piece).chunks(len).map(merkle::leaf);
            let bad: Vec<u32> = (0..)
                .zip(right.zip(&digests))
                .filter(|(_, (leaf, digest))| leaf[..20] != digest[..])
                .map(|(n, _)| n)
                .collect();
            assert_eq!(bad, if piece == last { vec![0] } else { vec![1, 4] });
            let good: Vec<u32> = (0..digests.len() as u32).filter(|n| !bad.contains(n)).collect();
            let mut buffer = in_place(&torrent.info.geometry, piece, &good);
            assert_eq!((buffer.is_complete(), buffer.bytes_in_memory()), (false, 0));
            for n in bad {
                torrent.receive(&mut buffer, n..n + 1);
            }
            assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
        }
        storage.finish().unwrap();
        torrent.assert_complete(dir.path());
        assert_eq!(names(dir.path()), ["x"]);
    }
}

fn in_place(geometry: &Geometry, piece: PieceIndex, blocks: &[u32]) -> PieceBuffer {
    PieceBuffer::new(geometry, piece).with_in_place(blocks)
}

#[test]
fn blocks_in_place_that_have_changed_do_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let torrent = torrent(Format::V2);
    fs::write(dir.path().join("x"), spoilt(&torrent, 0)).unwrap();
    let (storage, _) = torrent.open(overwriting(dir.path(), found(&torrent, dir.path()))).unwrap();
    storage.reserve().unwrap();
    let mut buffer = in_place(&torrent.info.geometry, PieceIndex(0), &[1, 2, 3, 4, 5, 6, 7]);
    torrent.receive(&mut buffer, 0..1);
    // Somebody writes to the file, or cuts it.
    fs::write(dir.path().join("x"), &spoilt(&torrent, 100_000)[..110_000]).unwrap();
    let PieceOutcome::HashMismatch(mut buffer) = storage.verify_and_write(buffer) else {
        panic!("it is wrong")
    };
    assert!(buffer.block(0).is_some() && buffer.block(5).is_none());
    buffer.forget(&[1, 2, 3, 4, 5, 6, 7]);
    torrent.receive(&mut buffer, 1..8);
    assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
}

#[test]
fn short_file_begins_with_blocks_that_count() {
    let dir = tempfile::tempdir().unwrap();
    let torrent = torrent(Format::V2);
    // A piece, and three blocks and a bit of the second.
    let len = PIECE_LEN as usize + 3 * BLOCK_LEN as usize + 100;
    fs::write(dir.path().join("x"), &torrent.data[..len]).unwrap();
    let (storage, opened) = torrent.open(overwriting(dir.path(), found(&torrent, dir.path()))).unwrap();
    assert_eq!(opened.have.iter().collect::<Vec<_>>(), [PieceIndex(0)]);
    assert_eq!(opened.damaged.iter().collect::<Vec<_>>(), [PieceIndex(1)]);
    storage.reserve().unwrap();
    let mut buffer = in_place(&torrent.info.geometry, PieceIndex(1), &[0, 1, 2]);
    torrent.receive(&mut buffer, 3..8);
    assert!(matches!(storage.verify_and_write(buffer), PieceOutcome::Ok));
}

/// The hybrid with another SHA-1 for its second piece.
fn contradictory(torrent: &Torrent) -> Torrent {
    let mut info = Info::clone(&torrent.info);
    let mut hashes = info.piece_hashes.as_deref().unwrap().to_vec();
    hashes[25] ^= 1;
    info.piece_hashes = Some(hashes.into());
    Torrent { info: Arc::new(info), data: torrent.data.clone(), pool: torrent.pool.clone() }
}

#[test]
fn hybrid_that_contradicts_itself_is_found_out_by_its_right_bytes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let torrent = contradictory(&torrent(Format::Hybrid));
    let (storage, opened) = torrent.download(dir.path());
    storage.reserve().unwrap();
    let (first, second) = (PieceIndex(0), PieceIndex(1));
    torrent.write(&storage, first);
    // Wrong bytes show nothing, whoever sends them.
    let mut wrong = torrent.received(second);
    wrong.forget(&[3]);
    wrong.insert(3, {
        let mut block = torrent.pool.take().unwrap();
        block.fill(0);
        block
    });
    assert!(matches!(storage.verify_and_write(wrong), PieceOutcome::HashMismatch(_)));
    assert!(matches!(storage.verify_and_write(torrent.received(second)), PieceOutcome::Contradictory));
    assert!(!opened.have.has(second));
    // The same where they are on disk.
    let there = tempfile::tempdir().unwrap();
    fs::write(there.path().join("x"), &torrent.data).unwrap();
    let (storage, _) = torrent.download(there.path());
    let error = storage.check_piece(second).unwrap_err();
    assert!(error.is_contradiction() && error.to_string().starts_with("x: "), "{error}");
    let error = verify::run(&torrent.info, there.path(), 2, &|_| ()).unwrap_err();
    assert!(error.is_contradiction(), "{error}");
    fs::write(there.path().join("x"), spoilt(&torrent, 200_000)).unwrap();
    assert!(!storage.check_piece(second).is_ok_and(|is_right| is_right));
    assert!(verify::run(&torrent.info, there.path(), 2, &|_| ()).is_ok());
}

#[test]
fn lies_in_the_place_of_padding_are_no_contradiction() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| SourceFile { path: vec![name.to_owned()], length: 20_000, ..Default::default() };
    let files = pad_files(vec![file("a"), file("b")], PIECE_LEN);
    let content = Shared::Folder(files);
    let create = Create { format: Format::Hybrid, ..Create::new("data".to_owned(), content, PIECE_LEN) };
    let mut data = vec![1; 20_000];
    data.resize(PIECE_LEN as usize, 0);
    data.extend([2; 20_000]);
    let ends = [20_000, data.len()];
    let torrent =
        Torrent { info: made(create, &data, &ends), data, pool: crate::buffer::BlockPool::new(64 << 20) };
    let (storage, _) = torrent.download(dir.path());
    storage.reserve().unwrap();
    // The second block ends with padding, and that is not zeros.
    let lying = || {
        let mut buffer = torrent.received(PieceIndex(0));
        buffer.forget(&[1]);
        let mut block = torrent.pool.take().unwrap();
        block.fill(1);
        buffer.insert(1, block);
        buffer
    };
    let outcomes = storage.verify_and_write_all(vec![lying()]);
    assert!(matches!(outcomes[..], [PieceOutcome::Ok]), "hashed side by side");
    assert!(matches!(storage.verify_and_write(lying()), PieceOutcome::Ok), "nothing of it is kept");
    assert!(storage.check_piece(PieceIndex(0)).unwrap());
}
