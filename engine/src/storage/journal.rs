//! What has been written and synced since the state was saved.
//!
//! A file of 32-byte records, appended to and never changed. Each record's check covers the check of the one before,
//! back to the header, which is bound to the torrent and to the state that the journal goes on from. Reading
//! stops at the first record that does not fit: torn by a crash, left as zeros by a power cut, or of another
//! journal. So a record counts only if everything before it is there too.
//!
//! | kind | index | a | b |
//! |---|---|---|---|
//! | piece | of the piece | | |
//! | mark | | piece records from the start that are durable now | |
//! | file | of the file | modification time in ns | inode number |
//! | stamp | of the file | modification time in ns | inode number |
//! | doubt | of the piece | | |
//!
//! A *file* is complete; a *stamp* says how an unfinished one looked after we wrote to it, and goes with the piece that was
//! written. *Doubt* revokes what was said of a piece: another program has changed its file.
//!
//! A piece record need not be durable when the piece is announced: it is in the page cache, which `kill -9` leaves alone.

use super::error::StorageError;
use super::sys::{self, Stamp};
use crate::hash::sha1;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, IoSlice, Read};
use std::path::PathBuf;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, InfoHash, PieceIndex};

/// Bytes of a record, and of the header.
pub(super) const RECORD_LEN: u64 = 32;

/// How many records are written at a time, of what may be about every piece.
const RECORDS_AT_ONCE: usize = 4_096;

pub(super) const BODY_LEN: usize = 24;
const MAGIC: &[u8; 4] = b"SWJ1";

const KIND_PIECE: u32 = 1;
const KIND_MARK: u32 = 2;
const KIND_FILE: u32 = 3;
const KIND_STAMP: u32 = 4;
const KIND_DOUBT: u32 = 5;

pub(super) type Record = [u8; RECORD_LEN as usize];

/// The end of a journal, to append to.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Of the state that it goes on from.
    pub(super) generation: u64,
    /// Bytes of whole records.
    len: u64,
    /// The last record's check.
    check: [u8; 8],
    pieces: u64,
    marked: u64,
}

/// What a journal says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replay {
    /// Pieces that are durable.
    pub(super) marked: Bitfield,
    /// Pieces that were written after the last mark, and the number of the first record that says so.
    pub(super) unmarked: BTreeMap<PieceIndex, u64>,
    /// Files that were complete and durable, as they looked then.
    pub(super) files: Vec<(FileIndex, Stamp)>,
    /// How files looked that we wrote to last.
    pub(super) stamps: BTreeMap<FileIndex, Stamp>,
    /// Pieces that were taken back and not found right since.
    pub(super) doubted: BTreeSet<PieceIndex>,
}

impl Replay {
    fn nothing(pieces: u32) -> Replay {
        Replay {
            marked: Bitfield::empty(pieces),
            unmarked: BTreeMap::new(),
            files: Vec::new(),
            stamps: BTreeMap::new(),
            doubted: BTreeSet::new(),
        }
    }

    /// The data behind the first `records` piece records is durable. What waits for a mark is never much, however long the journal is.
    fn mark(&mut self, records: u64) {
        let marked = &mut self.marked;
        self.unmarked.retain(|&piece, &mut at| {
            let is_marked = at <= records;
            if is_marked {
                marked.insert(piece);
            }
            !is_marked
        });
    }
}

impl Journal {
    /// Starts an empty journal in an empty file.
    pub(super) fn create(
        file: File,
        path: PathBuf,
        info_hash: InfoHash,
        generation: u64,
    ) -> Result<Journal, StorageError> {
        let (header, check) = header(info_hash, generation);
        let mut journal = Journal { file, path, generation, len: 0, check: [0; 8], pieces: 0, marked: 0 };
        journal.write(&header, check)?;
        Ok(journal)
    }

    /// Notes that a piece has been written, and how its files look now.
    pub(super) fn piece(
        &mut self,
        piece: PieceIndex,
        stamps: &[(FileIndex, Stamp)],
    ) -> Result<(), StorageError> {
        let piece = (KIND_PIECE, piece.0, 0, 0);
        self.append(&std::iter::once(piece).chain(stamp_records(KIND_STAMP, stamps)).collect::<Vec<_>>())?;
        self.pieces += 1;
        Ok(())
    }

    /// Notes how a file looks that we have changed in another way than by writing a piece.
    pub(super) fn stamp(&mut self, file: FileIndex, stamp: Stamp) -> Result<(), StorageError> {
        self.append(&stamp_records(KIND_STAMP, &[(file, stamp)]).collect::<Vec<_>>())
    }

    /// Takes back what was said of these pieces.
    pub(super) fn doubt(&mut self, pieces: &[PieceIndex]) -> Result<(), StorageError> {
        let mut some = pieces.chunks(RECORDS_AT_ONCE);
        some.try_for_each(|some| {
            self.append(&some.iter().map(|piece| (KIND_DOUBT, piece.0, 0, 0)).collect::<Vec<_>>())
        })
    }

    /// Number of piece records: what a mark may cover, if all data behind them is made durable after this was called.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Whether some piece records are not covered by a mark.
    pub(super) fn has_unmarked(&self) -> bool {
        self.marked < self.pieces
    }

    /// Notes durably that the data behind the first `pieces` piece records is durable, and how the files look that
    /// are complete with them.
    pub(super) fn mark(&mut self, pieces: u64, files: &[(FileIndex, Stamp)]) -> Result<(), StorageError> {
        let mark = (KIND_MARK, 0, pieces, 0);
        self.append(&std::iter::once(mark).chain(stamp_records(KIND_FILE, files)).collect::<Vec<_>>())?;
        self.file.sync_data().map_err(|e| StorageError::space(&self.path, "sync", 0, e))?;
        self.marked = self.marked.max(pieces);
        Ok(())
    }

    /// Reserves the disk space of so many more records, so that a full disk does not stop the journal first.
    pub(super) fn reserve(&self, records: u64) -> Result<(), StorageError> {
        let len = records * RECORD_LEN;
        sys::reserve(&self.file, self.len, len, true)
            .map_err(|e| StorageError::space(&self.path, "reserve", len, e))
    }

    fn append(&mut self, records: &[(u32, u32, u64, u64)]) -> Result<(), StorageError> {
        let mut bytes = Vec::with_capacity(records.len() * RECORD_LEN as usize);
        let mut check = self.check;
        for &(kind, index, a, b) in records {
            let mut body = [0; BODY_LEN];
            body[..4].copy_from_slice(&kind.to_le_bytes());
            body[4..8].copy_from_slice(&index.to_le_bytes());
            body[8..16].copy_from_slice(&a.to_le_bytes());
            body[16..].copy_from_slice(&b.to_le_bytes());
            check = check_of(&check, &body);
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(&check);
        }
        self.write(&bytes, check)
    }

    /// Appends whole records. If that fails, the next ones go to the same place.
    fn write(&mut self, bytes: &[u8], check: [u8; 8]) -> Result<(), StorageError> {
        sys::write_all_at(&self.file, &mut [IoSlice::new(bytes)], self.len)
            .map_err(|e| StorageError::space(&self.path, "write", bytes.len() as u64, e))?;
        self.len += bytes.len() as u64;
        self.check = check;
        Ok(())
    }
}

fn stamp_records(
    kind: u32,
    stamps: &[(FileIndex, Stamp)],
) -> impl Iterator<Item = (u32, u32, u64, u64)> + '_ {
    stamps.iter().map(move |(file, stamp)| (kind, file.0, stamp.mtime_ns as u64, stamp.ino))
}

/// The header, which does not show the generation, and the check that does depend on it.
pub(super) fn header(info_hash: InfoHash, generation: u64) -> (Record, [u8; 8]) {
    let mut record = [0; RECORD_LEN as usize];
    record[..4].copy_from_slice(MAGIC);
    record[4..BODY_LEN].copy_from_slice(&info_hash.0);
    let check = check_of(&generation.to_le_bytes(), &record[..BODY_LEN]);
    record[BODY_LEN..].copy_from_slice(&check);
    (record, check)
}

pub(super) fn check_of(previous: &[u8; 8], body: &[u8]) -> [u8; 8] {
    sha1([&previous[..], body])[..8].try_into().expect("20 bytes hold 8")
}

/// Reads a journal up to the first record that does not fit.
pub(super) fn replay(
    journal: impl Read,
    info_hash: InfoHash,
    generation: u64,
    pieces: u32,
    files: &[u64],
) -> Replay {
    let mut journal = BufReader::with_capacity(1 << 16, journal);
    let mut next = || {
        let mut record: Record = [0; RECORD_LEN as usize];
        journal.read_exact(&mut record).ok().map(|()| record)
    };
    let mut replay = Replay::nothing(pieces);
    let (expected, mut check) = header(info_hash, generation);
    if next() != Some(expected) {
        return replay;
    }
    let mut records = 0;
    while let Some(record) = next() {
        let (body, found) = record.split_at(BODY_LEN);
        check = check_of(&check, body);
        if check != found {
            break;
        }
        let index = u32::from_le_bytes(body[4..8].try_into().expect("4 bytes"));
        let word = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("8 bytes"));
        let kind = u32::from_le_bytes(body[..4].try_into().expect("4 bytes"));
        match kind {
            KIND_PIECE if index < pieces => {
                let piece = PieceIndex(index);
                records += 1;
                // The record that counts is the first one since the piece was last taken back.
                if !replay.marked.has(piece) {
                    replay.unmarked.entry(piece).or_insert(records);
                }
                replay.doubted.remove(&piece);
            }
            KIND_MARK if word(8) <= records => replay.mark(word(8)),
            KIND_FILE | KIND_STAMP if (index as usize) < files.len() => {
                let stamp = Stamp { len: files[index as usize], mtime_ns: word(8) as i64, ino: word(16) };
                replay.stamps.insert(FileIndex(index), stamp);
                if kind == KIND_FILE {
                    replay.files.push((FileIndex(index), stamp));
                }
            }
            KIND_DOUBT if index < pieces => {
                let piece = PieceIndex(index);
                replay.marked.remove(piece);
                replay.unmarked.remove(&piece);
                replay.doubted.insert(piece);
            }
            _ => break,
        }
    }
    replay
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const HASH: InfoHash = InfoHash([3; 20]);
    const PIECES: u32 = 40;
    const FILES: [u64; 3] = [10, 20, 30];

    fn read(bytes: &[u8]) -> Replay {
        replay(bytes, HASH, 7, PIECES, &FILES)
    }

    /// Writes pieces and marks; gives the bytes, and the set that is marked once that many bytes are there.
    fn journal(steps: &[Option<u32>]) -> (Vec<u8>, Vec<(usize, BTreeSet<PieceIndex>)>) {
        let file = tempfile::tempfile().unwrap();
        let mut journal = Journal::create(file.try_clone().unwrap(), "journal".into(), HASH, 7).unwrap();
        let (mut marked, mut pending) = (vec![(0, BTreeSet::new())], BTreeSet::new());
        for step in steps {
            match step {
                Some(piece) => {
                    journal
                        .piece(PieceIndex(*piece), &[(FileIndex(0), Stamp { len: 10, mtime_ns: 1, ino: 2 })])
                        .unwrap();
                    pending.insert(PieceIndex(*piece));
                }
                None => {
                    let stamp = Stamp { len: 20, mtime_ns: 5, ino: 6 };
                    journal.mark(journal.pieces(), &[(FileIndex(1), stamp)]).unwrap();
                    let mut set = marked.last().unwrap().1.clone();
                    set.append(&mut pending);
                    marked.push((journal.len as usize - RECORD_LEN as usize, set));
                }
            }
        }
        let mut bytes = vec![0; journal.len as usize];
        sys::read_at(&file, &mut bytes, 0).unwrap();
        (bytes, marked)
    }

    /// What is really durable when the first `len` bytes are as they were written.
    fn really_marked(marked: &[(usize, BTreeSet<PieceIndex>)], len: usize) -> &BTreeSet<PieceIndex> {
        &marked.iter().rev().find(|(at, _)| *at <= len).unwrap().1
    }

    #[test]
    fn says_what_was_written_and_what_was_marked() {
        let (bytes, _) = journal(&[Some(1), Some(2), None, Some(3)]);
        let replay = read(&bytes);
        assert!(replay.marked.iter().eq([PieceIndex(1), PieceIndex(2)]));
        assert!(replay.unmarked.into_keys().eq([PieceIndex(3)]));
        let (written, complete) =
            (Stamp { len: 10, mtime_ns: 1, ino: 2 }, Stamp { len: 20, mtime_ns: 5, ino: 6 });
        assert_eq!(replay.files, [(FileIndex(1), complete)]);
        assert_eq!(replay.stamps, [(FileIndex(0), written), (FileIndex(1), complete)].into());
    }

    #[test]
    fn what_was_taken_back_is_in_doubt_until_it_is_found_right() {
        let file = tempfile::tempfile().unwrap();
        let mut journal = Journal::create(file.try_clone().unwrap(), "journal".into(), HASH, 7).unwrap();
        for piece in [1, 2, 3] {
            journal.piece(PieceIndex(piece), &[]).unwrap();
        }
        journal.mark(journal.pieces(), &[]).unwrap();
        journal.doubt(&[PieceIndex(1), PieceIndex(2), PieceIndex(9)]).unwrap();
        journal.piece(PieceIndex(2), &[]).unwrap();
        let mut bytes = vec![0; journal.len as usize];
        sys::read_at(&file, &mut bytes, 0).unwrap();
        let replay = read(&bytes);
        assert!(replay.marked.iter().eq([PieceIndex(3)]) && replay.unmarked.into_keys().eq([PieceIndex(2)]));
        assert_eq!(replay.doubted, [PieceIndex(1), PieceIndex(9)].into());
    }

    #[test]
    fn another_torrents_or_states_journal_says_nothing() {
        let (bytes, _) = journal(&[Some(1), None]);
        let nothing = Replay::nothing(PIECES);
        assert_eq!(replay(&bytes[..], InfoHash([4; 20]), 7, PIECES, &FILES), nothing);
        assert_eq!(replay(&bytes[..], HASH, 8, PIECES, &FILES), nothing);
        assert_eq!(replay(&bytes[..], HASH, 7, 1, &FILES), Replay::nothing(1), "no such piece");
    }

    #[test]
    fn cut_or_zeroed_anywhere_it_trusts_only_what_is_marked() {
        let (bytes, marked) = journal(&[Some(1), Some(2), None, Some(3), Some(1), None, None, Some(4)]);
        for len in 0..=bytes.len() {
            let mut zeroed = bytes.clone();
            zeroed[len..].fill(0);
            for journal in [&bytes[..len], &zeroed] {
                let trusted: BTreeSet<_> = read(journal).marked.iter().collect();
                assert!(trusted.is_subset(really_marked(&marked, len)), "{len} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_anywhere_it_trusts_only_what_is_marked(
            steps in prop::collection::vec(prop::option::weighted(0.8, 0..PIECES), 0..40),
            damage in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
            lost in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let (mut bytes, marked) = journal(&steps);
            let mut intact = bytes.len();
            if let Some((at, flip)) = damage {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                intact = intact.min(at);
            }
            if let Some(lost) = lost {
                // A page in the middle never reached the disk.
                let lost = lost.index(bytes.len());
                let end = (lost + 40).min(bytes.len());
                bytes[lost..end].fill(0);
                intact = intact.min(lost);
            }
            let replay = read(&bytes);
            let trusted: BTreeSet<_> = replay.marked.iter().collect();
            prop_assert!(trusted.is_subset(&marked.last().unwrap().1));
            prop_assert!(really_marked(&marked, intact).is_subset(&trusted), "intact marks are kept");
        }
    }
}
