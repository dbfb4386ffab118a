//! Comparing what is on disk with a torrent, without opening it for a transfer.

use super::bulk::{BulkError, hash_pieces};
use super::error::StorageError;
use super::saved::SavedState;
use super::state::State;
use super::sys::{self, Stamp};
use super::tree::Tree;
use super::work::WorkFolder;
use super::{lock, names};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Info};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Pieces that are right.
    pub pieces_ok: Bitfield,
    /// Pieces whose bytes are there, and wrong. The others are missing at least in part.
    pub pieces_wrong: Bitfield,
    /// Bytes in pieces that are right, padding left out.
    pub bytes_ok: u64,
    /// The state of each file of the metainfo; pad files are always right.
    pub files: Vec<FileState>,
    /// How the files looked before they were read.
    pub(super) looks: Vec<Option<Stamp>>,
}

/// What is the matter with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Whether it has as many pieces and files as this torrent.
    pub(crate) fn is_of(&self, info: &Info) -> bool {
        self.pieces_ok.len() == info.geometry.pieces() && self.files.len() == info.files.len()
    }

    /// Whether everything is as the torrent says.
    pub fn is_ok(&self) -> bool {
        self.pieces_ok.is_full() && self.files.iter().all(|&state| state == FileState::Ok)
    }
}

/// Hashes what is in `dir` (which holds the torrent's file or folder) on so many threads. `progress` is called, on any
/// of them, with the bytes of the torrent that are done.
///
/// # Errors
/// If something that is there cannot be read, or the torrent is a hybrid that contradicts itself. What is missing, too short or wrong is in
/// the report.
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
    let stamps =
        info.files.iter().map(|file| Stamp::followed(&tree.path_of(&file.path)).filter(|_| !file.attr.pad));
    let stamps = stamps.collect();
    let looks = info.files.iter().map(|file| look_at(&tree.path_of(&file.path), file));
    let looks: Vec<(FileState, u64)> = looks.collect::<Result<_, _>>()?;
    let readable = readable_pieces(info, &looks);
    let files: Vec<FileState> = looks.into_iter().map(|(state, _)| state).collect();
    let none = || Bitfield::empty(info.geometry.pieces());
    let done = AtomicU64::new(info.payload_len() - len_of(info, &readable));
    progress(done.load(Ordering::Relaxed));
    let report = Report { pieces_ok: none(), pieces_wrong: none(), bytes_ok: 0, files, looks: stamps };
    let found = Mutex::new((report, None));
    hash_pieces(
        info,
        threads,
        &|piece| readable.has(piece),
        &|file| {
            let path = path_of(file);
            match is_unwritten_padding(&path, &info.files[file.idx()]) {
                true => Ok(None),
                false => File::open(path).map(|file| Some(Arc::new(file))),
            }
        },
        &|piece, hash| {
            let len = u64::from(info.payload_of(piece));
            let (report, error) = &mut *lock(&found);
            match hash {
                Ok(hash) if hash == info.piece_hash(piece) => {
                    report.pieces_ok.insert(piece);
                    report.bytes_ok += len;
                }
                Ok(hash) if info.is_contradicted_by(piece, hash) => {
                    *error = Some(StorageError::contradiction(info, piece));
                }
                Ok(_) => blame(info, piece, report),
                // It was long enough a moment ago.
                Err(BulkError::Short(file)) => report.files[file.idx()] = FileState::Short,
                Err(BulkError::Io(file, e)) => *error = Some(StorageError::io(&path_of(file), "read", e)),
            }
            progress(done.fetch_add(len, Ordering::Relaxed) + len);
            error.is_none()
        },
    );
    let (report, error) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(report), Err)
}

/// Whether a file is padding that is not on disk. What has only the name of padding may be.
pub(super) fn is_unwritten_padding(path: &Path, file: &FileEntry) -> bool {
    let is_there = || fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.length);
    file.attr.pad && (file.is_padding_for_sure() || !is_there())
}

/// How files looked at one moment, by which it is noticed later that they have changed since.
#[derive(Clone, Debug)]
pub struct Looks(Vec<Option<Stamp>>);

impl Looks {
    /// How the files at these paths look now.
    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Looks {
        Looks(paths.into_iter().map(|path| Stamp::followed(&path)).collect())
    }
}

/// Saves that all data of a torrent in `dir` is right, so that it is seeded without a check. `before` is how the torrent's files
/// looked before they were hashed: one that has changed since is checked all the same. `state_dir` is the user's state folder.
///
/// # Errors
/// If it cannot be saved.
pub fn begin_trust(info: &Info, dir: &Path, state_dir: &Path, before: &Looks) -> Result<(), StorageError> {
    let root = dir.canonicalize().map_err(|e| StorageError::io(dir, "open", e))?;
    let mut state = State::new(info);
    state.have = Bitfield::full(info.geometry.pieces());
    state.stamps =
        info.files.iter().zip(&before.0).map(|(file, &look)| look.filter(|_| !file.attr.pad)).collect();
    state.verified.fill(true);
    state.boot_id = sys::boot_id();
    SavedState::new(state_dir, info, &root).save(&state)
}

/// Ends all trust in what was saved of a torrent in `dir`, since its data was found to be wrong: its next start, or a seed that
/// runs, checks everything again. What was right before, in files that look as they did then, counts as rotten. `state_dir` is the user's
/// state folder.
///
/// # Errors
/// If what was saved cannot be marked.
pub fn end_trust(info: &Info, dir: &Path, state_dir: Option<&Path>) -> Result<(), StorageError> {
    let root = dir.canonicalize().map_err(|e| StorageError::io(dir, "open", e))?;
    WorkFolder::distrust(&Tree::new(root.clone()), &info.name)?;
    state_dir.map_or(Ok(()), |state_dir| SavedState::new(state_dir, info, &root).distrust())
}

/// The state of a file by its length, and how many bytes of it are there.
fn look_at(path: &PathBuf, file: &FileEntry) -> Result<(FileState, u64), StorageError> {
    if is_unwritten_padding(path, file) || file.attr.symlink && file.symlink_target.is_none() {
        return Ok((FileState::Ok, u64::MAX));
    }
    let meta = if file.attr.symlink { fs::symlink_metadata(path) } else { fs::metadata(path) };
    let gone = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
    match meta {
        Err(e) if gone.contains(&e.kind()) => Ok((FileState::Missing, 0)),
        Err(e) => Err(StorageError::io(path, "look at", e)),
        Ok(meta) if file.attr.symlink => {
            Ok((if meta.is_symlink() { FileState::Ok } else { FileState::Corrupt }, 0))
        }
        Ok(meta) if !meta.is_file() => Ok((FileState::Missing, 0)),
        Ok(meta) if meta.len() < file.length => Ok((FileState::Short, meta.len())),
        Ok(meta) if meta.len() > file.length => Ok((FileState::Long, meta.len())),
        Ok(meta) => Ok((FileState::Ok, meta.len())),
    }
}

/// Pieces of which all bytes are there: also of a short file, as far as it goes.
fn readable_pieces(info: &Info, files: &[(FileState, u64)]) -> Bitfield {
    let mut readable = Bitfield::empty(info.geometry.pieces());
    for piece in info.geometry.piece_indices() {
        if info.segments(piece).all(|segment| segment.offset + segment.len <= files[segment.file.idx()].1) {
            readable.insert(piece);
        }
    }
    readable
}

/// A piece is wrong, and one of its files is to blame. One that is short is known to be wrong already.
fn blame(info: &Info, piece: PieceIndex, report: &mut Report) {
    report.pieces_wrong.insert(piece);
    for segment in info.segments(piece).filter(|segment| !info.files[segment.file.idx()].attr.pad) {
        let state = &mut report.files[segment.file.idx()];
        if *state != FileState::Short {
            *state = FileState::Corrupt;
        }
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
    fn whole_pieces_of_short_files_count() {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), torrent());
        torrent.lay_out(dir.path());
        let cut = |file: usize, len: usize| {
            fs::write(torrent.path(dir.path(), file), &torrent.file_bytes(file)[..len]).unwrap();
        };
        // Half of the first file, and all but the last byte of another.
        cut(0, 150_000);
        cut(3, 69_999);
        let report = verify(&torrent, dir.path());
        assert_eq!(report.files, states(&[(0, FileState::Short), (3, FileState::Short)]));
        assert_eq!(report.pieces_wrong.count(), 0, "what is missing is not wrong");
        // 4 of the first file's 10, 2 of the other's 3, and all that follow.
        let bad: Vec<u32> = torrent.pieces().filter(|&p| !report.pieces_ok.has(p)).map(|p| p.0).collect();
        assert_eq!(bad, [4, 5, 6, 7, 8, 9, 12]);
    }

    #[test]
    fn nothing_there_is_all_missing() {
        let (dir, torrent) = (tempfile::tempdir().unwrap(), torrent());
        fs::write(dir.path().join("t"), b"no folder").unwrap();
        let report = verify(&torrent, dir.path());
        assert_eq!((report.pieces_ok.count(), report.files[0]), (0, FileState::Missing));
    }
}
