//! Comparing what is on disk with a torrent, without opening it for a transfer.

use super::bulk::{BulkError, hash_pieces};
use super::error::StorageError;
use super::names;
use super::tree::Tree;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Info};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Pieces that are right.
    pub pieces_ok: Bitfield,
    /// Bytes in pieces that are right, padding left out.
    pub bytes_ok: u64,
    /// The state of each file of the metainfo; pad files are always right.
    pub files: Vec<FileState>,
}

/// What is the matter with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Nothing.
    Ok,
    /// It is not there.
    Missing,
    /// It ends too early.
    Short,
    /// A piece that it lies in is not what it should be. Where that piece holds several files, all of them are in doubt.
    Corrupt,
    /// It is right as far as the torrent goes, and goes on.
    Long,
}

impl Report {
    /// Whether everything is as the torrent says.
    pub fn is_ok(&self) -> bool {
        self.pieces_ok.is_full() && self.files.iter().all(|&state| state == FileState::Ok)
    }
}

/// Hashes what is in `dir` (which holds the torrent's file or folder) on so many threads. `progress` is told, on any
/// of them, how many bytes of the torrent are done.
///
/// # Errors
/// If something that is there cannot be read. What is missing, too short or wrong is in the report.
pub fn run(
    info: &Info,
    dir: &Path,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, StorageError> {
    let tree = Tree::new(dir.to_owned());
    let named = names::for_reading(&Arc::new(info.clone()), dir);
    let info = &*named;
    let path_of = |file: FileIndex| tree.path_of(&info.files[file.idx()].path);
    let files = info.files.iter().map(|file| look_at(&tree.path_of(&file.path), file));
    let mut files: Vec<FileState> = files.collect::<Result<_, _>>()?;
    let readable = readable_pieces(info, &files);
    let done = AtomicU64::new(info.payload_len() - len_of(info, &readable));
    progress(done.load(Ordering::Relaxed));
    let found = Mutex::new((Bitfield::empty(info.geometry.pieces()), files.clone(), None));
    hash_pieces(
        info,
        threads,
        &|piece| readable.has(piece),
        &|file| {
            let path = path_of(file);
            match is_unwritten_padding(&path, &info.files[file.idx()]) {
                true => Ok(None),
                false => File::open(path).map(Some),
            }
        },
        &|piece, hash| {
            let len = u64::from(info.payload_of(piece));
            let (ok, files, error) = &mut *found.lock().unwrap_or_else(PoisonError::into_inner);
            match hash {
                Ok(hash) if hash == info.piece_hash(piece) => drop(ok.insert(piece)),
                Ok(_) => blame(info, piece, files),
                // It was long enough a moment ago.
                Err(BulkError::Short(file)) => files[file.idx()] = FileState::Short,
                Err(BulkError::Io(file, e)) => *error = Some(StorageError::io(&path_of(file), "read", e)),
            }
            progress(done.fetch_add(len, Ordering::Relaxed) + len);
            error.is_none()
        },
    );
    let (pieces_ok, found, error) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    files = found;
    match error {
        Some(e) => Err(e),
        None => Ok(Report { bytes_ok: len_of(info, &pieces_ok), pieces_ok, files }),
    }
}

/// Whether a file is padding that is not on disk. What has only the name of padding may be.
pub(super) fn is_unwritten_padding(path: &Path, file: &FileEntry) -> bool {
    let is_there = || fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.length);
    file.attr.pad && (file.is_padding_for_sure() || !is_there())
}

/// A file as far as its length tells.
fn look_at(path: &PathBuf, file: &FileEntry) -> Result<FileState, StorageError> {
    if is_unwritten_padding(path, file) || file.attr.symlink && file.symlink_target.is_none() {
        return Ok(FileState::Ok);
    }
    let meta = if file.attr.symlink { fs::symlink_metadata(path) } else { fs::metadata(path) };
    let gone = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
    match meta {
        Err(e) if gone.contains(&e.kind()) => Ok(FileState::Missing),
        Err(e) => Err(StorageError::io(path, "look at", e)),
        Ok(meta) if file.attr.symlink => {
            Ok(if meta.is_symlink() { FileState::Ok } else { FileState::Corrupt })
        }
        Ok(meta) if !meta.is_file() => Ok(FileState::Missing),
        Ok(meta) if meta.len() < file.length => Ok(FileState::Short),
        Ok(meta) if meta.len() > file.length => Ok(FileState::Long),
        Ok(_) => Ok(FileState::Ok),
    }
}

/// Pieces that lie in files of which enough is there. A short file is not read at all: where its pieces are intact
/// nobody would know what to do with them.
fn readable_pieces(info: &Info, files: &[FileState]) -> Bitfield {
    let mut readable = Bitfield::empty(info.geometry.pieces());
    for piece in info.geometry.piece_indices() {
        let is_there = |file: FileIndex| !matches!(files[file.idx()], FileState::Missing | FileState::Short);
        if info.segments(piece).all(|segment| is_there(segment.file)) {
            readable.insert(piece);
        }
    }
    readable
}

/// A piece is wrong, and one of its files is to blame.
fn blame(info: &Info, piece: PieceIndex, files: &mut [FileState]) {
    for segment in info.segments(piece).filter(|segment| !info.files[segment.file.idx()].attr.pad) {
        files[segment.file.idx()] = FileState::Corrupt;
    }
}

fn len_of(info: &Info, pieces: &Bitfield) -> u64 {
    pieces.iter().map(|piece| u64::from(info.payload_of(piece))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{Content, Torrent};

    fn torrent() -> Torrent {
        let files = [
            ("a", Content::Random(300_000)),
            ("pad", Content::Pad(27_680)),
            ("empty", Content::Random(0)),
            ("sub/b", Content::Random(70_000)),
            ("sub/c", Content::Random(10)),
            ("sub/d", Content::Random(200_000)),
        ];
        Torrent::new("t", 32_768, &files)
    }

    fn verify(torrent: &Torrent, dir: &Path) -> Report {
        let last = AtomicU64::new(0);
        let report = run(&torrent.info, dir, 3, &|bytes| {
            last.fetch_max(bytes, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(last.into_inner(), torrent.info.payload_len());
        report
    }

    fn states(changes: &[(usize, FileState)]) -> Vec<FileState> {
        let mut states = vec![FileState::Ok; 6];
        changes.iter().for_each(|&(file, state)| states[file] = state);
        states
    }

    #[test]
    fn right_data_is_right() {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), torrent());
        torrent.lay_out(dir.path());
        let report = verify(&torrent, dir.path());
        assert!(report.is_ok() && report.bytes_ok == torrent.info.payload_len());
    }

    #[test]
    fn each_file_has_its_state() {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), torrent());
        torrent.lay_out(dir.path());
        let write = |file, bytes: &[u8]| fs::write(torrent.path(dir.path(), file), bytes).unwrap();
        let mut a = torrent.file_bytes(0).to_vec();
        a[100_000] ^= 1;
        write(0, &a);
        let report = verify(&torrent, dir.path());
        assert_eq!(report.files, states(&[(0, FileState::Corrupt)]));
        assert_eq!(report.pieces_ok.count() + 1, report.pieces_ok.len());
        assert!(
            !report.pieces_ok.has(PieceIndex(3)) && report.bytes_ok == torrent.info.payload_len() - 32_768
        );
        a[100_000] ^= 1;
        a.push(0);
        write(0, &a);
        write(2, b"x");
        write(5, &torrent.file_bytes(5)[..100]);
        let report = verify(&torrent, dir.path());
        assert_eq!(
            report.files,
            states(&[(0, FileState::Long), (2, FileState::Long), (5, FileState::Short)])
        );
        assert!(!report.is_ok());
        fs::remove_file(torrent.path(dir.path(), 4)).unwrap();
        write(5, torrent.file_bytes(5));
        let report = verify(&torrent, dir.path());
        assert_eq!(report.files[3..], [FileState::Ok, FileState::Missing, FileState::Ok]);
    }

    #[test]
    fn nothing_there_is_all_missing() {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), torrent());
        fs::write(dir.path().join("t"), b"no folder").unwrap();
        let report = verify(&torrent, dir.path());
        assert_eq!((report.pieces_ok.count(), report.files[0]), (0, FileState::Missing));
    }
}
