//! Files that are elsewhere on this machine already.

use super::*;
use crate::storage::reuse::{Reusable, ReuseSources};
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::InfoHashV2;
use swarm_core::merkle::{self, Node};

const MIB: u64 = 1024 * KIB;

/// The same files as a torrent of version 2.
fn in_v2(torrent: &Torrent) -> Torrent {
    let mut info = Info::clone(&torrent.info);
    info.files.retain(|file| !file.attr.pad);
    let piece_len = info.geometry.piece_len();
    let geometry = Geometry::of_files(info.files.iter().map(|file| file.length), piece_len.into()).unwrap();
    let (mut data, mut nodes): (Vec<u8>, Vec<Node>) = Default::default();
    for file in &mut info.files {
        let bytes = &torrent.data[file.offset as usize..(file.offset + file.length) as usize];
        data.resize(data.len().next_multiple_of(piece_len as usize), 0);
        file.offset = data.len() as u64;
        data.extend_from_slice(bytes);
        if bytes.is_empty() {
            continue;
        }
        let tree = merkle::Tree::new(file.length, piece_len);
        let pieces = bytes.chunks(piece_len as usize).map(|piece| {
            let leaves: Vec<Node> = piece.chunks(BLOCK_LEN as usize).map(merkle::leaf).collect();
            tree.piece_node(&leaves)
        });
        let pieces: Vec<Node> = pieces.collect();
        let layer = tree.piece_layer();
        file.pieces_root = Some(merkle::root(&pieces, layer, tree.height() - layer));
        nodes.extend(pieces);
    }
    info.info_hash_v2 = Some(InfoHashV2([2; 32]));
    info.info_hash = InfoHashV2([2; 32]).truncated();
    (info.piece_hashes, info.piece_nodes, info.geometry) = (None, Some(nodes.into()), geometry);
    info.padding = swarm_core::metainfo::padding_of(&info.files);
    Torrent { info: Arc::new(info), data, pool: crate::buffer::BlockPool::new(64 << 20) }
}

fn files(lengths: &[(&'static str, u64)]) -> Torrent {
    let files: Vec<_> = lengths.iter().map(|&(path, len)| (path, Content::Random(len))).collect();
    Torrent::new("t", 32 * KIB, &files)
}

fn below(dir: &Path) -> ReuseSources {
    ReuseSources { dirs: vec![dir.to_owned()], ..ReuseSources::default() }
}

fn find(storage: &FileStorage, sources: &ReuseSources) -> Reusable {
    storage.find_reusable(sources, 2, &|| true).unwrap()
}

/// Takes what was found: the pieces that are right then.
fn take(storage: &FileStorage, found: &Reusable) -> Vec<PieceIndex> {
    storage.reserve().unwrap();
    storage.copy_reusable(found, &|| true).unwrap();
    let pieces = found.pieces().into_iter().flat_map(Bitfield::iter);
    pieces.filter(|&piece| storage.check_piece(piece).unwrap()).collect()
}

/// How many pieces of a new download into `dir` are there after taking what is below `old`; the rest is downloaded.
fn reused(torrent: &Torrent, dir: &Path, old: &Path) -> usize {
    let (storage, opened) = torrent.download(dir);
    let had = take(&storage, &find(&storage, &below(old)));
    assert!(had.iter().all(|&piece| storage.has(piece)));
    for piece in opened.needed.iter().filter(|piece| !had.contains(piece)) {
        torrent.write(&storage, piece);
    }
    assert_serves_everything(torrent, &storage);
    storage.finish().unwrap();
    torrent.assert_complete(dir);
    assert_eq!(names(dir), [torrent.info.name.as_str()]);
    had.len()
}

fn put(path: impl AsRef<Path>, bytes: &[u8]) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_all_there_is_not_downloaded() {
    for torrent in [mixed(), in_v2(&mixed())] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        torrent.lay_out(old.path());
        assert_eq!(reused(&torrent, new.path(), old.path()), torrent.info.geometry.pieces() as usize);
        torrent.assert_complete(old.path());
    }
}

#[test]
fn names_and_places_may_differ() {
    for torrent in [mixed(), in_v2(&mixed())] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (n, file) in torrent.info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad) {
            if file.length > 0 {
                put(old.path().join(format!("{n}/some/where/else {n}")), torrent.file_bytes(n));
            }
        }
        assert_eq!(reused(&torrent, new.path(), old.path()), torrent.info.geometry.pieces() as usize);
    }
}

#[test]
fn one_changed_piece_is_downloaded_and_no_more() {
    let torrent = files(&[("a", 300 * KIB), ("b", 1000)]);
    for torrent in [in_v2(&torrent), torrent] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        torrent.lay_out(old.path());
        let mut changed = torrent.file_bytes(0).to_vec();
        changed[100_000] ^= 1;
        put(torrent.path(old.path(), 0), &changed);
        let pieces = torrent.info.geometry.pieces() as usize;
        assert_eq!(reused(&torrent, new.path(), old.path()), pieces - 1);
        // Also under another name: its first piece tells.
        fs::remove_file(torrent.path(old.path(), 0)).unwrap();
        put(old.path().join("other"), &changed);
        let new = tempfile::tempdir().unwrap();
        assert_eq!(reused(&torrent, new.path(), old.path()), pieces - 1);
    }
}

#[test]
fn one_file_changed_of_many_costs_that_file_and_its_edges() {
    let lengths: Vec<(String, u64)> = (0..50).map(|n| (format!("d/{n:02}"), 3 * KIB * n + 1)).collect();
    let lengths: Vec<_> = lengths.iter().map(|(path, len)| (&*path.clone().leak(), *len)).collect();
    let (before, mut after) = (files(&lengths), lengths.clone());
    // It is longer now, and shifts all that follow.
    after[20].1 += 777;
    let mut after = files(&after);
    let mut data = Vec::new();
    for n in 0..50 {
        match n {
            20 => data.extend(after.file_bytes(n).iter().map(|byte| !byte)),
            _ => data.extend_from_slice(before.file_bytes(n)),
        }
    }
    let hashes: Vec<u8> =
        data.chunks(32 * KIB as usize).flat_map(|piece| crate::hash::sha1([piece])).collect();
    Arc::get_mut(&mut after.info).unwrap().piece_hashes = Some(hashes.into());
    after.data = data;
    for after in [in_v2(&after), after] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        before.lay_out(old.path());
        let file = &after.info.files[20];
        let touched = table::pieces_in(&after.info, file).len();
        let had = reused(&after, new.path(), old.path());
        assert_eq!(had + touched, after.info.geometry.pieces() as usize, "{:?}", after.info.format());
    }
}

#[test]
fn a_file_that_has_grown_keeps_its_beginning() {
    let torrent = files(&[("log", 300 * KIB), ("b", 1000)]);
    for torrent in [in_v2(&torrent), torrent] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(torrent.path(old.path(), 0), &torrent.file_bytes(0)[..200 * KIB as usize]);
        assert_eq!(reused(&torrent, new.path(), old.path()), 6, "whole pieces of 200 KiB");
    }
}

#[test]
fn files_of_one_length_are_told_apart_and_a_copy_serves_twice() {
    let paths: Vec<String> = (0..20).map(|n| format!("{n}")).collect();
    let lengths: Vec<_> = paths.iter().map(|path| (&*path.clone().leak(), 64 * KIB)).collect();
    let torrent = files(&lengths);
    for torrent in [in_v2(&torrent), torrent] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for n in 0..19 {
            // Each has the name of another.
            put(old.path().join(format!("{}", (n + 1) % 19)), torrent.file_bytes(n));
        }
        assert_eq!(reused(&torrent, new.path(), old.path()), 38);
    }
}

#[test]
fn what_changes_meanwhile_costs_a_check() {
    let torrent = files(&[("a", 300 * KIB), ("b", 300 * KIB), ("c", 100 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let (storage, opened) = torrent.download(new.path());
    let found = find(&storage, &below(old.path()));
    assert_eq!(found.pieces().map(Bitfield::count), Some(22));
    fs::write(torrent.path(old.path(), 0), vec![7; 300 * KIB as usize]).unwrap();
    fs::remove_file(torrent.path(old.path(), 1)).unwrap();
    let had = take(&storage, &found);
    assert_eq!(had.len(), 3, "those of the last file alone");
    for piece in opened.needed.iter().filter(|piece| !had.contains(piece)) {
        torrent.write(&storage, piece);
    }
    storage.finish().unwrap();
    torrent.assert_complete(new.path());
}

#[test]
fn links_and_special_files_are_not_candidates() {
    let torrent = files(&[("a", 300 * KIB), ("sub/b", 100 * KIB)]);
    let (old, new, elsewhere) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(elsewhere.path());
    symlink(torrent.path(elsewhere.path(), 0), old.path().join("a")).unwrap();
    symlink(elsewhere.path().join("t/sub"), old.path().join("sub")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(old.path().join("b")).status().unwrap();
    assert!(pipe.success());
    assert_eq!(reused(&torrent, new.path(), old.path()), 0);
    // A folder that the user names may be a link; another name of the file is as good as the first.
    let new = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), old.path().join("named")).unwrap();
    fs::hard_link(torrent.path(elsewhere.path(), 0), old.path().join("x")).unwrap();
    assert_eq!(reused(&torrent, new.path(), &old.path().join("named")), 13);
    assert_eq!(fs::metadata(torrent.path(elsewhere.path(), 0)).unwrap().nlink(), 2);
}

#[test]
fn a_folder_that_becomes_a_link_is_not_followed() {
    let torrent = files(&[("a", 300 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let (storage, _) = torrent.download(new.path());
    let found = find(&storage, &below(old.path()));
    assert!(found.pieces().is_some_and(|pieces| pieces.count() > 0));
    if found.is_cloned(FileIndex(0)) {
        return;
    }
    fs::rename(old.path().join("t"), old.path().join("moved")).unwrap();
    symlink(old.path().join("moved"), old.path().join("t")).unwrap();
    assert_eq!(take(&storage, &found), []);
}

#[test]
fn what_is_in_place_stays_and_what_has_begun_is_completed() {
    let torrent = files(&[("a", 300 * KIB), ("b", 300 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    put(torrent.path(new.path(), 1), torrent.file_bytes(1));
    let inode = fs::metadata(torrent.path(new.path(), 1)).unwrap().ino();
    let (storage, opened) = torrent.download(new.path());
    storage.reserve().unwrap();
    for piece in [1, 5] {
        torrent.write(&storage, PieceIndex(piece));
    }
    assert!(opened.recheck.iter().all(|piece| storage.check_piece(piece).unwrap()));
    storage.close().unwrap();
    let (storage, opened) = torrent.download(new.path());
    assert!(opened.have.has(PieceIndex(1)) && opened.have.has(PieceIndex(5)));
    opened.recheck.iter().for_each(|piece| assert!(storage.check_piece(piece).unwrap()));
    let found = find(&storage, &below(old.path()));
    assert_eq!(found.pieces().map(Bitfield::count), Some(8), "of the first file, with its end");
    assert_eq!(take(&storage, &found).len(), 8);
    storage.finish().unwrap();
    torrent.assert_complete(new.path());
    assert_eq!(fs::metadata(torrent.path(new.path(), 1)).unwrap().ino(), inode);
}

#[test]
fn blocks_of_a_piece_that_was_found_are_forgotten() {
    let torrent = files(&[("a", 128 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (storage, _) = torrent.download(new.path());
    storage.reserve().unwrap();
    torrent.write(&storage, PieceIndex(0));
    let mut buffer = PieceBuffer::new(&torrent.info.geometry, PieceIndex(2));
    torrent.receive(&mut buffer, 0..1);
    storage.spill(&buffer.take_for_spill()).unwrap();
    storage.close().unwrap();
    let (storage, opened) = torrent.download(new.path());
    assert_eq!(opened.partial.len(), 1);
    torrent.lay_out(old.path());
    assert_eq!(take(&storage, &find(&storage, &below(old.path()))).len(), 3);
    storage.finish().unwrap();
    torrent.assert_complete(new.path());
    assert_eq!(names(new.path()), ["t"], "no work folder stays behind");
}

#[test]
fn unwanted_files_are_not_looked_for() {
    let torrent = files(&[("a", 64 * KIB), ("b", 64 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let (storage, _) = torrent.open(wanting(new.path(), &[true, false])).unwrap();
    assert_eq!(take(&storage, &find(&storage, &below(old.path()))).len(), 2);
    storage.finish().unwrap();
    assert_eq!(names(&new.path().join("t")), ["a"]);
}

#[test]
fn a_full_disk_is_waited_for() {
    let torrent = files(&[("a", MIB), ("b", MIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let budget = Arc::new(SpaceBudget::new(MIB + 1));
    let options = OpenOptions { budget: Some(Arc::clone(&budget)), ..all_of(new.path()) };
    let (storage, _) = torrent.open(options).unwrap();
    let found = find(&storage, &below(old.path()));
    if found.is_cloned(FileIndex(0)) {
        return;
    }
    storage.reserve().unwrap();
    let error = storage.copy_reusable(&found, &|| true).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    budget.lift();
    assert_eq!(take(&storage, &found).len(), 64);
}

#[test]
fn saved_state_tells_where_complete_torrents_are() {
    let (torrent, old) = (files(&[("a", 300 * KIB), ("b", 1000)]), tempfile::tempdir().unwrap());
    let (state, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let single = Torrent::new("single", 16 * KIB, &[("", Content::Random(200 * KIB))]);
    for torrent in [&torrent, &single] {
        let (storage, opened) = torrent.open(with_state(all_of(old.path()), state.path())).unwrap();
        storage.reserve().unwrap();
        torrent.fetch(&storage, &opened);
        storage.finish().unwrap();
        storage.close().unwrap();
    }
    fs::write(state.path().join("junk.state"), b"junk").unwrap();
    let known = ReuseSources { state_dir: Some(state.path().to_owned()), ..ReuseSources::default() };
    for torrent in [&torrent, &in_v2(&torrent), &in_v2(&single)] {
        let new = tempfile::tempdir().unwrap();
        let (storage, _) = torrent.download(new.path());
        let found = find(&storage, &known);
        assert_eq!(take(&storage, &found).len(), torrent.info.geometry.pieces() as usize);
        let origin = old.path().canonicalize().unwrap().join(&torrent.info.name);
        assert_eq!(found.origins(), [origin]);
    }
    // What has gone is no error.
    fs::remove_dir_all(old.path().join("t")).unwrap();
    let (storage, _) = torrent.download(new.path());
    assert_eq!(take(&storage, &find(&storage, &known)), []);
}

#[test]
fn what_is_missing_is_told_and_what_is_stopped_ends() {
    let torrent = files(&[("a", 300 * KIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let (storage, _) = torrent.download(new.path());
    let found = find(&storage, &below(&old.path().join("nowhere")));
    assert_eq!((found.warnings().len(), found.origins().len()), (1, 0));
    let stopped = storage.find_reusable(&below(old.path()), 2, &|| false).unwrap();
    assert_eq!(take(&storage, &stopped), []);
    // One file may be named too.
    assert_eq!(take(&storage, &find(&storage, &below(&torrent.path(old.path(), 0)))).len(), 10);
}

#[test]
fn a_long_copy_can_be_stopped_in_the_middle_and_done_again() {
    let torrent = files(&[("a", 5 * MIB)]);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    torrent.lay_out(old.path());
    let (storage, _) = torrent.download(new.path());
    let found = find(&storage, &below(old.path()));
    if found.is_cloned(FileIndex(0)) {
        eprintln!("skipped: this file system shares blocks, so nothing is copied");
        return;
    }
    storage.reserve().unwrap();
    let asked = std::sync::atomic::AtomicU32::new(0);
    let goes_on = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 4;
    storage.copy_reusable(&found, &goes_on).unwrap();
    let pieces = || found.pieces().into_iter().flat_map(Bitfield::iter);
    let right = pieces().filter(|&piece| storage.check_piece(piece).unwrap()).count();
    assert!(right > 0 && right < 100, "{right} pieces of {}", pieces().count());
    // What was not copied to its end is copied the next time.
    assert_eq!(take(&storage, &found).len(), pieces().count());
}

#[test]
fn files_of_the_same_length_without_end_are_not_hashed_without_end() {
    // Each lies in its pieces in a way of its own, so that a candidate is hashed anew for each of them.
    let paths: Vec<String> = (0..40).map(|n| format!("f{n}")).collect();
    let torrent: Vec<_> = paths.iter().map(|path| (&*path.clone().leak(), 2 * MIB + 1)).collect();
    let files: Vec<_> = torrent.iter().map(|&(path, len)| (path, Content::Random(len))).collect();
    let torrent = Torrent::new("t", MIB, &files);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for n in 0..30 {
        let file = fs::File::create(old.path().join(format!("{n}"))).unwrap();
        file.set_len(2 * MIB + 1).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, &[n], 0).unwrap();
    }
    // 1,200 pairs, each of at least a piece.
    let (storage, _) = torrent.download(new.path());
    let found = find(&storage, &below(old.path()));
    assert_eq!(found.pieces().map(Bitfield::count), Some(0));
    assert_eq!(found.warnings().len(), 1, "{:?}", found.warnings());
}

#[test]
fn what_others_have_is_read_from_where_it_is_until_it_has_gone() {
    for torrent in
        [files(&[("a", 300 * KIB), ("b", 200 * KIB)]), in_v2(&files(&[("a", 300 * KIB), ("b", 200 * KIB)]))]
    {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        torrent.lay_out(old.path());
        let (storage, _) = torrent.download(new.path());
        let found = storage.find_elsewhere(&below(old.path()), 1, &|| true).unwrap();
        let geometry = &torrent.info.geometry;
        let blocks = |piece: PieceIndex| -> Vec<_> {
            (0..geometry.blocks_in(piece)).map(|index| geometry.block(piece, index)).collect()
        };
        let bytes = |piece: PieceIndex| {
            let start = geometry.offset_of(piece) as usize;
            let end = (start + geometry.len_of(piece) as usize).min(torrent.data.len());
            &torrent.data[start..end]
        };
        let (of_a, of_b) = (PieceIndex(1), PieceIndex(geometry.pieces() - 2));
        for piece in found.pieces() {
            assert_eq!(found.read(&blocks(piece)).unwrap(), bytes(piece), "{piece}");
        }
        assert!(found.has(of_a) && found.has(of_b));
        fs::remove_file(torrent.path(old.path(), 0)).unwrap();
        found.read(&blocks(of_a)).unwrap_err();
        assert!(!found.has(of_a) && found.has(of_b), "one that has gone takes no other with it");
        assert_eq!(found.read(&blocks(of_b)).unwrap(), bytes(of_b));
    }
}
