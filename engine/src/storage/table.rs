//! What is known about pieces and files while a storage is open.

use super::sys::Stamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Info};

/// Where a file's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A pad file: nowhere, and all zeros.
    Pad,
    /// No bytes: an empty file or a symbolic link, made at the end.
    Empty,
    /// Unwanted: what edge pieces have of it is in the part file.
    PartFile,
    /// In the work folder, to be written.
    Work,
    /// Under its final name, only to be read.
    Present,
    /// A seed's file that is not there.
    Absent,
}

/// Blocks in the part file of pieces that are not complete, by piece. They were never verified.
pub(super) type Partial = BTreeMap<PieceIndex, BTreeSet<u32>>;

/// One file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) is_wanted: bool,
    /// Under its final name, and known as a whole to be right, even where edge pieces are not there.
    pub(super) is_verified: bool,
    /// Its disk space is reserved.
    pub(super) is_reserved: bool,
    /// It was not in the work folder before.
    pub(super) is_made: bool,
    /// The pieces that lie in its holes have been checked: the file system does not store zeros.
    pub(super) has_holes: bool,
    /// Pieces that it lies in and that are not there.
    pub(super) pieces_missing: u32,
}

impl Slot {
    /// Whether it is in the work folder with all its pieces.
    pub(super) fn is_complete(&self) -> bool {
        self.place == Place::Work && self.pieces_missing == 0
    }

    /// Whether its disk space has yet to be reserved.
    pub(super) fn is_unreserved(&self) -> bool {
        self.place == Place::Work && self.is_wanted && !self.is_reserved
    }

    /// Whether the file is under its final name and right.
    pub(super) fn is_finished(&self) -> bool {
        self.place == Place::Present && (self.is_verified || self.pieces_missing == 0)
    }
}

/// What is known. In a mutex that is never held during I/O.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) have: Bitfield,
    /// Pieces that may be there and were not checked yet.
    pub(super) in_doubt: Bitfield,
    /// What is to be known of files that rot; `None` if that is nothing.
    pub(super) rot: Option<Box<Rot>>,
    /// What the wanted files need.
    pub(super) needed: Bitfield,
    pub(super) slots: Vec<Slot>,
    /// How files looked when we first saw them, or after what we last did to them. A file that looks otherwise was
    /// changed by somebody else.
    pub(super) stamps: Vec<Option<Stamp>>,
    /// Pieces that were put in doubt, and files that were found changed, since the caller last asked.
    pub(super) new_doubts: Doubts,
    /// How often a file was found changed.
    pub(super) changes: u64,
    /// Pieces that were found bad, and their files, when nothing is downloaded any more.
    pub(super) bad: Bad,
    /// What was written since the last sync began.
    pub(super) dirty: Dirty,
    /// Files in the work folder all of whose pieces are there.
    pub(super) complete: Vec<FileIndex>,
    /// Files that have got their final names since the caller last asked.
    pub(super) finished: Vec<FileIndex>,
    /// Something is known that the saved state does not say. For seeds only.
    pub(super) is_unsaved: bool,
    /// What the last write lacked on a full disk; there is space again when so much is free.
    pub(super) lacking_bytes: u64,
    pub(super) partial: Partial,
    /// Space was reserved in this run: files may be written to from now on.
    pub(super) is_begun: bool,
}

/// What is known of files that rot without any sign.
#[derive(Debug)]
pub(super) struct Rot {
    /// Pieces that an earlier run vouches for, and that nobody has read in this one. All of them are had.
    pub(super) unchecked: Bitfield,
    /// Of these, those that are being read.
    pub(super) checking: BTreeSet<PieceIndex>,
    /// Pieces that were right when their files looked as they do now: if they are not, that is rot.
    pub(super) rotten: Bitfield,
    /// Where a scrub goes on, and how many bytes it has read since that was saved.
    pub(super) scrubbed: (PieceIndex, u64),
}

impl Rot {
    pub(super) fn none(pieces: u32) -> Rot {
        let none = || Bitfield::empty(pieces);
        Rot { unchecked: none(), checking: BTreeSet::new(), rotten: none(), scrubbed: (PieceIndex(0), 0) }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.unchecked.count() + self.rotten.count() + self.scrubbed.0.0 == 0
    }
}

/// What can no longer be relied on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Pieces to pass to [`Storage::check_piece`](super::Storage::check_piece) before they are sent to anyone.
    pub pieces: Vec<PieceIndex>,
    /// Files that somebody else has changed.
    pub files: Vec<FileIndex>,
}

/// What was found bad, to be checked again if somebody puts it right.
#[derive(Debug, Default)]
pub(super) struct Bad {
    pub(super) pieces: BTreeSet<PieceIndex>,
    pub(super) files: BTreeMap<FileIndex, BadFile>,
    /// When to try once more what the disk did not give.
    pub(super) retry_at: Option<Instant>,
}

/// How a file looked when a piece of it was found bad, and when it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct BadFile {
    pub(super) hashed: Option<Stamp>,
    pub(super) seen: Option<Stamp>,
}

/// What a sync has to make durable.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) files: BTreeSet<FileIndex>,
    pub(super) part_file: bool,
    pub(super) bytes: u64,
}

impl Dirty {
    /// Puts back what could not be synced.
    pub(super) fn merge(&mut self, other: Dirty) {
        self.files.extend(other.files);
        self.part_file |= other.part_file;
        self.bytes += other.bytes;
    }
}

/// The pieces that a file lies in.
pub(super) fn pieces_in(
    info: &Info,
    file: &FileEntry,
) -> impl ExactSizeIterator<Item = PieceIndex> + Clone + use<> {
    let len = u64::from(info.geometry.piece_len());
    let first = file.offset / len;
    let end = if file.length == 0 { first } else { (file.offset + file.length).div_ceil(len) };
    (first as u32..end as u32).map(PieceIndex)
}

impl Table {
    /// The files for which `which`.
    pub(super) fn files_where(&self, which: impl Fn(&Slot) -> bool) -> Vec<FileIndex> {
        let files = (0..).map(FileIndex).zip(&self.slots);
        files.filter(|(_, slot)| which(slot)).map(|(file, _)| file).collect()
    }

    /// Counts a piece as had.
    pub(super) fn add(&mut self, info: &Info, piece: PieceIndex) {
        self.in_doubt.remove(piece);
        self.bad.pieces.remove(&piece);
        self.set_rotten(piece, false);
        if !self.have.insert(piece) {
            return;
        }
        for segment in info.segments(piece) {
            let slot = &mut self.slots[segment.file.idx()];
            slot.pieces_missing -= 1;
            if slot.is_complete() {
                self.complete.push(segment.file);
            }
        }
        self.is_unsaved = true;
    }

    /// Counts a piece as had no longer. Whether it was.
    pub(super) fn remove(&mut self, info: &Info, piece: PieceIndex) -> bool {
        if !self.have.remove(piece) {
            return false;
        }
        self.set_checked(piece);
        for segment in info.segments(piece) {
            self.slots[segment.file.idx()].pieces_missing += 1;
        }
        let slots = &self.slots;
        self.complete.retain(|file| slots[file.idx()].pieces_missing == 0);
        self.is_unsaved = true;
        true
    }

    /// These pieces have to be checked again. Gives those that were had.
    pub(super) fn doubt(&mut self, info: &Info, pieces: impl Iterator<Item = PieceIndex>) -> Vec<PieceIndex> {
        let doubted: Vec<PieceIndex> = pieces.filter(|&piece| self.remove(info, piece)).collect();
        for &piece in &doubted {
            self.in_doubt.insert(piece);
        }
        self.new_doubts.pieces.extend_from_slice(&doubted);
        doubted
    }

    pub(super) fn rot(&mut self) -> &mut Rot {
        let pieces = self.have.len();
        self.rot.get_or_insert_with(|| Box::new(Rot::none(pieces)))
    }

    pub(super) fn is_unchecked(&self, piece: PieceIndex) -> bool {
        self.rot.as_ref().is_some_and(|rot| rot.unchecked.has(piece))
    }

    /// A piece has been read, or is not had any more.
    pub(super) fn set_checked(&mut self, piece: PieceIndex) {
        if let Some(rot) = &mut self.rot {
            rot.unchecked.remove(piece);
        }
    }

    /// Whether a piece was right when its files looked as they do now.
    pub(super) fn is_rotten(&self, piece: PieceIndex) -> bool {
        self.rot.as_ref().is_some_and(|rot| rot.rotten.has(piece))
    }

    pub(super) fn set_rotten(&mut self, piece: PieceIndex, on: bool) {
        if on {
            self.rot().rotten.insert(piece);
        } else if let Some(rot) = &mut self.rot {
            rot.rotten.remove(piece);
        }
    }

    /// A piece that was right is bad, and its files look as they did. They are no longer known to be right as a whole.
    pub(super) fn note_rot(&mut self, info: &Info, piece: PieceIndex, is_seed: bool) {
        self.set_rotten(piece, true);
        for segment in info.segments(piece) {
            self.slots[segment.file.idx()].is_verified = false;
        }
        if !is_seed {
            self.needed.insert(piece);
        }
    }

    /// A piece is bad that nobody downloads. With `is_stale` its file was found changed while it was hashed.
    pub(super) fn note_bad(&mut self, info: &Info, piece: PieceIndex, is_stale: bool) {
        self.bad.pieces.insert(piece);
        for segment in info.segments(piece).filter(|segment| !info.files[segment.file.idx()].attr.pad) {
            let hashed = self.stamps[segment.file.idx()].filter(|_| !is_stale);
            let file = BadFile { hashed, seen: hashed };
            if is_stale {
                self.bad.files.insert(segment.file, file);
            } else {
                self.bad.files.entry(segment.file).or_insert(file);
            }
        }
    }

    /// The bad ones among these pieces have to be checked again.
    pub(super) fn doubt_bad(&mut self, pieces: impl Iterator<Item = PieceIndex>) {
        for piece in pieces {
            if self.bad.pieces.remove(&piece) {
                self.in_doubt.insert(piece);
                self.new_doubts.pieces.push(piece);
            }
        }
    }

    /// The file is about to be made in the work folder, unless it is there.
    pub(super) fn note_made(&mut self, file: FileIndex) {
        self.slots[file.idx()].is_made |= self.stamps[file.idx()].is_none();
    }

    /// Whether something that was downloaded, or moved in, is in the work folder.
    pub(super) fn has_work(&self, info: &Info, unfinished: &[FileIndex]) -> bool {
        let was_there = |file: &FileIndex| self.slots.get(file.idx()).is_none_or(|slot| !slot.is_made);
        let is_inside =
            |file: FileIndex| matches!(self.slots[file.idx()].place, Place::Work | Place::PartFile);
        let lies_inside = |piece| info.segments(piece).any(|segment| is_inside(segment.file));
        unfinished.iter().any(was_there)
            || !self.partial.is_empty()
            || self.have.iter().chain(self.in_doubt.iter()).any(lies_inside)
    }

    /// These files, if they are still complete, are to get their final names with the next sync.
    pub(super) fn complete_later(&mut self, files: impl Iterator<Item = FileIndex>) {
        for file in files {
            if self.slots[file.idx()].is_complete() && !self.complete.contains(&file) {
                self.complete.push(file);
            }
        }
    }

    /// Whether all that is wanted is there.
    pub(super) fn is_complete(&self) -> bool {
        !self.needed.has_other_than(&self.have)
    }
}
