//! What is known about pieces and files while a storage is open.

use super::sys::Stamp;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Unwanted: what edge pieces have of it is in the side file.
    Side,
    /// In the work folder, to be written.
    Work,
    /// Under its final name, only to be read.
    Present,
    /// A seed's file that is not there or too short.
    Absent,
}

/// Blocks in the side file of pieces that are not complete, by piece. They were never verified.
pub(super) type Partial = BTreeMap<PieceIndex, BTreeSet<u32>>;

/// One file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) is_wanted: bool,
    /// Under its final name, and known as a whole to be right, even where edge pieces are not there.
    pub(super) is_vouched: bool,
    /// Its disk space is reserved.
    pub(super) is_reserved: bool,
    /// Pieces that it lies in and that are not there.
    pub(super) pieces_missing: u32,
}

impl Slot {
    /// Whether the file is under its final name and right.
    pub(super) fn is_finished(&self) -> bool {
        self.place == Place::Present && (self.is_vouched || self.pieces_missing == 0)
    }
}

/// What is known. In a mutex that is never held during I/O.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) have: Bitfield,
    /// Pieces that may be there and were not checked yet.
    pub(super) in_doubt: Bitfield,
    /// What the wanted files need.
    pub(super) needed: Bitfield,
    pub(super) slots: Vec<Slot>,
    /// How files under their final names looked when we first or last saw them.
    pub(super) stamps: Vec<Option<Stamp>>,
    /// What was written since the last sync began.
    pub(super) dirty: Dirty,
    /// Files in the work folder all of whose pieces are there.
    pub(super) complete: Vec<FileIndex>,
    /// Something is known that the saved state does not say. For seeds only.
    pub(super) is_unsaved: bool,
    /// What the last write lacked on a full disk; there is space again when so much is free.
    pub(super) lacking_bytes: u64,
    pub(super) partial: Partial,
    /// Space was reserved in this run: files may be written to from now on.
    pub(super) is_begun: bool,
}

/// What a sync has to make durable.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) files: BTreeSet<FileIndex>,
    pub(super) side: bool,
    pub(super) bytes: u64,
}

impl Dirty {
    /// Puts back what could not be synced.
    pub(super) fn merge(&mut self, other: Dirty) {
        self.files.extend(other.files);
        self.side |= other.side;
        self.bytes += other.bytes;
    }
}

/// Number of pieces that a file lies in.
pub(super) fn pieces_of(info: &Info, file: &FileEntry) -> u32 {
    if file.length == 0 {
        return 0;
    }
    let len = u64::from(info.geometry.piece_len());
    ((file.offset + file.length - 1) / len - file.offset / len + 1) as u32
}

impl Table {
    /// Counts a piece as had.
    pub(super) fn add(&mut self, info: &Info, piece: PieceIndex) {
        self.in_doubt.remove(piece);
        if !self.have.insert(piece) {
            return;
        }
        for segment in info.segments(piece) {
            let slot = &mut self.slots[segment.file.idx()];
            slot.pieces_missing -= 1;
            if slot.pieces_missing == 0 && slot.place == Place::Work {
                self.complete.push(segment.file);
            }
        }
        self.is_unsaved = true;
    }

    /// Whether all that is wanted is there.
    pub(super) fn is_complete(&self) -> bool {
        self.needed.words().iter().zip(self.have.words()).all(|(needed, have)| needed & !have == 0)
    }
}
