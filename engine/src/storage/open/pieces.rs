//! Which pieces are there, and the table that a storage begins with.

use super::files::Evidence;
use super::known::Known;
use super::{Findings, Opening};
use crate::storage::options::{Mode, OpenOptions, Opened, Trust};
use crate::storage::sys;
use crate::storage::table::{Bad, Dirty, Doubts, Place, Rot, Slot, Table, pieces_in};
use crate::storage::tree::{Access, Tree};
use crate::storage::work::WorkFolder;
use std::fs::File;
use std::ops::Range;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::Info;

/// A download's folder, and its part file if there is one.
type Folder<'a> = (&'a WorkFolder, Option<&'a File>);

impl Opening<'_> {
    /// Sorts the pieces into those that are there, those to check, those that are bad at least in part, and the rest.
    pub(super) fn classify(
        &self,
        known: &Known,
        files: &[Evidence],
        folder: Option<Folder<'_>>,
    ) -> (Bitfield, Bitfield, Bitfield) {
        let geometry = &self.info.geometry;
        let none = || Bitfield::empty(geometry.pieces());
        let (mut have, mut recheck, mut damaged) = (none(), none(), none());
        let mut probe = Probe { tree: self.tree, folder, last: None, stretch: None };
        for piece in geometry.piece_indices() {
            let (mut is_readable, mut is_intact, mut is_present) = (true, true, true);
            let mut is_taken = false;
            for segment in self.info.segments(piece) {
                let file = &files[segment.file.idx()];
                is_readable &= segment.offset + segment.len <= file.available;
                is_intact &= file.is_intact;
                is_taken |= file.is_taken;
                is_present &= matches!(file.place, Place::Present | Place::Pad);
            }
            if !is_readable {
                // Of a file that is too short there may be some blocks.
                if is_taken && self.begins(files, piece) {
                    damaged.insert(piece);
                }
                continue;
            }
            let was_there = known.state.have.has(piece);
            // After a crash there must be no holes in what was marked.
            let may_lack = !known.state.is_clean && is_intact && was_there && folder.is_some();
            is_intact &= !may_lack || probe.may_be_there(&self.info, files, piece);
            if is_intact && (was_there || is_present && self.options.trust == Trust::Lengths) {
                have.insert(piece);
            } else if is_intact && known.wrong.as_ref().is_some_and(|wrong| wrong.has(piece)) {
                damaged.insert(piece);
            } else if was_there
                || is_present
                || is_taken
                || known.state.in_doubt.has(piece)
                || known.is_suspect && probe.may_be_there(&self.info, files, piece)
            {
                recheck.insert(piece);
            }
        }
        (have, recheck, damaged)
    }

    /// Whether the first block of a piece can be read.
    fn begins(&self, files: &[Evidence], piece: PieceIndex) -> bool {
        let first = self.info.segments(piece).next();
        first.is_some_and(|first| first.offset + u64::from(BLOCK_LEN) <= files[first.file.idx()].available)
    }
}

impl Findings {
    pub(super) fn conclude(self, info: &Info, options: &OpenOptions) -> (Table, Opened) {
        let slots = self.slots(info, &options.trust);
        let needed = self.needed(info, &slots, options.mode == Mode::Seed);
        let Findings { known, files, have, recheck, damaged, .. } = self;
        let indices = || (0..slots.len() as u32).map(FileIndex);
        let is_absent = |file: &FileIndex| match slots[file.idx()].place {
            Place::Absent => true,
            // What there is of it counts.
            Place::Present => files[file.idx()].available < info.files[file.idx()].length,
            _ => false,
        };
        let partial = known.state.partial.iter().filter(|(piece, _)| needed.has(**piece));
        let opened = Opened {
            have: have.clone(),
            recheck: recheck.clone(),
            damaged,
            needed: needed.clone(),
            partial: partial.map(|(piece, blocks)| (*piece, blocks.iter().copied().collect())).collect(),
            absent: indices().filter(is_absent).collect(),
            warnings: known.warnings,
        };
        let mut rot = Rot { unchecked: have.clone(), ..Rot::none(have.len()) };
        rot.scrubbed.0 = known.state.scrubbed;
        for piece in known.state.rotten.iter().filter(|piece| !have.has(*piece)) {
            let files = info.segments(piece).map(|segment| &files[segment.file.idx()]);
            let (is_complete, is_intact) = files.fold((false, true), |(is_complete, is_intact), file| {
                (is_complete || file.place == Place::Present, is_intact && file.is_intact)
            });
            if is_complete && is_intact {
                rot.rotten.insert(piece);
            }
        }
        let has_stamp = |file: &&Evidence| matches!(file.place, Place::Present | Place::Work);
        let table = Table {
            complete: indices().filter(|file| slots[file.idx()].is_complete()).collect(),
            rot: Some(rot).filter(|rot| !rot.is_nothing()).map(Box::new),
            have,
            in_doubt: recheck,
            needed,
            stamps: files.iter().map(|file| Some(file).filter(has_stamp)?.stamp).collect(),
            slots,
            new_doubts: Doubts::default(),
            changes: 0,
            bad: Bad::default(),
            dirty: Dirty::default(),
            is_unsaved: false,
            lacking_bytes: 0,
            partial: known.state.partial,
            finished: Vec::new(),
            is_begun: false,
        };
        (table, opened)
    }

    fn slots(&self, info: &Info, trust: &Trust) -> Vec<Slot> {
        let slots = info.files.iter().enumerate().map(|(i, file)| {
            let was_complete = self.known.state.verified[i] || *trust == Trust::Lengths;
            let Evidence { place, is_intact, .. } = self.files[i];
            Slot {
                place,
                is_wanted: self.wanted[i],
                is_verified: place == Place::Present && is_intact && was_complete,
                is_reserved: false,
                is_made: false,
                has_holes: false,
                pieces_missing: pieces_in(info, file).filter(|&piece| !self.have.has(piece)).count() as u32,
            }
        });
        slots.collect()
    }

    /// The pieces that the wanted files need.
    fn needed(&self, info: &Info, slots: &[Slot], is_seed: bool) -> Bitfield {
        let mut needed = Bitfield::empty(info.geometry.pieces());
        for piece in info.geometry.piece_indices() {
            let needs = |slot: &Slot| {
                let is_settled = slot.is_verified && !self.have.has(piece) && !is_seed;
                slot.is_wanted && slot.place != Place::Pad && !is_settled
            };
            if info.segments(piece).any(|segment| needs(&slots[segment.file.idx()])) {
                needed.insert(piece);
            }
        }
        needed
    }
}

/// Looks for data in unfinished files, keeping the last one open since pieces come in order.
struct Probe<'a> {
    tree: &'a Tree,
    folder: Option<Folder<'a>>,
    last: Option<(FileIndex, File)>,
    stretch: Option<Stretch>,
}

/// What was found when a file was looked at last. It stands for all pieces in it: looking for each of them would take longer the more
/// there are.
struct Stretch {
    /// `None`: the part file.
    of: Option<FileIndex>,
    /// From here on, up to the data, there is none.
    from: u64,
    data: Range<u64>,
}

impl Stretch {
    /// Whether all of a range may be data. `look` gives the first stretch of data at or behind an offset.
    fn may_be_data(
        known: &mut Option<Stretch>,
        of: Option<FileIndex>,
        range: Range<u64>,
        look: impl FnOnce(u64) -> Range<u64>,
    ) -> bool {
        let is_known =
            |known: &Stretch| known.of == of && (known.from..known.data.end).contains(&range.start);
        if !known.as_ref().is_some_and(is_known) {
            *known = Some(Stretch { of, from: range.start, data: look(range.start) });
        }
        known.as_ref().is_some_and(|known| known.data.start <= range.start && range.end <= known.data.end)
    }
}

impl Probe<'_> {
    /// Whether no part of a piece is known never to have been written.
    fn may_be_there(&mut self, info: &Info, files: &[Evidence], piece: PieceIndex) -> bool {
        let Some((folder, part_file)) = self.folder else { return true };
        info.segments(piece).all(|segment| match files[segment.file.idx()].place {
            Place::PartFile => part_file.is_some_and(|part_file| {
                let offset = info.files[segment.file.idx()].offset + segment.offset;
                let range = offset..offset + segment.len;
                Stretch::may_be_data(&mut self.stretch, None, range, |at| sys::next_data(part_file, at))
            }),
            Place::Work => {
                if self.last.as_ref().is_none_or(|(file, _)| *file != segment.file) {
                    let opened = self.tree.open(&folder.unfinished(segment.file), Access::Read);
                    self.last = opened.ok().map(|file| (segment.file, file));
                }
                let (range, of) = (segment.offset..segment.offset + segment.len, Some(segment.file));
                let last = self.last.as_ref();
                last.is_some_and(|(_, file)| {
                    Stretch::may_be_data(&mut self.stretch, of, range, |at| sys::next_data(file, at))
                })
            }
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_of_data_is_looked_for_once() {
        // Of a hundred thousand pieces, all are there but two, and one in part.
        const LEN: u64 = 16_384;
        let holes = [10 * LEN..11 * LEN, 500 * LEN + 7..500 * LEN + 9, 99_999 * LEN..100_000 * LEN];
        let mut looks = 0;
        let mut known = None;
        let mut lacking = Vec::new();
        for piece in 0..100_000 {
            let look = |at: u64| {
                looks += 1;
                let start = holes.iter().find(|hole| hole.contains(&at)).map_or(at, |hole| hole.end);
                let end = holes.iter().map(|hole| hole.start).find(|&hole| hole > start);
                start..end.unwrap_or(u64::MAX)
            };
            let range = piece * LEN..(piece + 1) * LEN;
            if !Stretch::may_be_data(&mut known, Some(FileIndex(0)), range, look) {
                lacking.push(piece);
            }
        }
        assert_eq!(lacking, [10, 500, 99_999]);
        assert!(looks <= 6, "{looks}");
        let mut looked = false;
        Stretch::may_be_data(&mut known, None, 0..LEN, |at| {
            looked = true;
            at..u64::MAX
        });
        assert!(looked, "another file is another matter");
    }
}
