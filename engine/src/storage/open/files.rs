//! Where each file's bytes are.

use super::Opening;
use super::known::Known;
use crate::storage::error::StorageError;
use crate::storage::state::State;
use crate::storage::sys::{self, Stamp};
use crate::storage::table::{Place, pieces_in};
use crate::storage::tree::{Access, Found};
use crate::storage::work::WorkFolder;
use std::collections::BTreeSet;
use std::fs::File;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Segment};

/// What is there of one file.
#[derive(Clone, Copy)]
pub(super) struct Evidence {
    pub(super) place: Place,
    /// Bytes that can be read from its start.
    pub(super) available: u64,
    /// It is as it was when the state was saved.
    pub(super) is_intact: bool,
    /// It was under its final name, not as long as it should be, and is now to be completed: what it holds may be right.
    pub(super) is_taken: bool,
    pub(super) stamp: Option<Stamp>,
}

impl Evidence {
    const PAD: Evidence =
        Evidence { place: Place::Pad, available: u64::MAX, is_intact: true, is_taken: false, stamp: None };

    /// Of a file that looks like this, if there is one.
    fn of(place: Place, stamp: Option<Stamp>, is_intact: impl FnOnce(Stamp) -> bool) -> Evidence {
        let (available, is_intact) = (stamp.map_or(0, |s| s.len), stamp.is_some_and(is_intact));
        Evidence { place, available, is_intact, is_taken: false, stamp }
    }
}

/// The part file's length, zero if there is none.
pub(super) fn len_of(part_file: Option<&File>) -> u64 {
    part_file.and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len())
}

impl Opening<'_> {
    pub(super) fn seed_file(&self, file: &FileEntry, saved: Option<Stamp>) -> Evidence {
        if file.is_padding_for_sure() {
            return Evidence::PAD;
        }
        let stamp = Stamp::followed(&self.tree.path_of(&file.path));
        if file.attr.pad && stamp.is_none_or(|stamp| stamp.len < file.length) {
            return Evidence::PAD;
        }
        let place = match stamp {
            _ if file.length == 0 => Place::Empty,
            Some(_) => Place::Present,
            None => Place::Absent,
        };
        Evidence::of(place, stamp, |stamp| saved == Some(stamp) || self.trusts_length(file, stamp.len))
    }

    /// Finds out where each file of a download is. Moves files that may be overwritten out of the way.
    pub(super) fn find_files(
        &self,
        folder: &WorkFolder,
        known: &Known,
        wanted: &[bool],
        part_file: Option<&File>,
    ) -> Result<Vec<Evidence>, StorageError> {
        let unfinished: BTreeSet<FileIndex> = folder.unfinished_files()?.into_iter().collect();
        let part_file_len = len_of(part_file);
        let is_fresh = self.tree.find(std::slice::from_ref(&self.info.name))? == Found::Nothing;
        let places = self.info.files.iter().zip(wanted).enumerate().map(|(i, (file, &is_wanted))| {
            if file.is_padding_for_sure() {
                return Ok(None);
            }
            let index = FileIndex(i as u32);
            let found = match is_fresh {
                true => Found::Nothing,
                false if is_wanted => self.tree.find(&file.path)?,
                false => self.tree.find(&file.path).unwrap_or(Found::Other),
            };
            let is_unfinished = unfinished.contains(&index);
            let is_right = found.stamp().is_some_and(|stamp| stamp.len == file.length);
            if file.attr.pad && !is_unfinished && !is_right {
                // Padding by its name, and nothing is there that says otherwise.
                return Ok(None);
            }
            let saved = known.state.stamps[i];
            let is_ours = known.state.verified[i] && saved.is_some() && saved == found.stamp();
            Ok(Some((self.place(file, is_wanted, is_ours, found, is_unfinished)?, found)))
        });
        // Nothing is moved before it is known that nothing is in the way.
        let places: Vec<Option<(Place, Found)>> = places.collect::<Result<_, StorageError>>()?;
        let files = self.info.files.iter().zip(places).enumerate().map(|(i, (file, place))| {
            let Some((place, found)) = place else { return Ok(Evidence::PAD) };
            let index = FileIndex(i as u32);
            let is_unfinished = unfinished.contains(&index);
            let (state, saved) = (&known.state, known.state.stamps[i]);
            Ok(match place {
                Place::PartFile => Evidence {
                    available: part_file_len.saturating_sub(file.offset),
                    is_intact: state.in_part_file[i],
                    ..Evidence::of(place, None, |_| false)
                },
                Place::Work if is_unfinished => {
                    let stamp = self.tree.find(&folder.unfinished(index))?.stamp();
                    // Where its bytes were in the part file, it was made just before a crash.
                    Evidence::of(place, stamp, |s| !state.in_part_file[i] && known.is_as_left(saved, s))
                }
                Place::Work => {
                    let is_taken = found != Found::Nothing;
                    if is_taken {
                        folder.take(&file.path, index)?;
                    } else if let Some(part_file) = part_file.filter(|_| state.in_part_file[i]) {
                        self.take_from_part_file(folder, index, part_file, state)?;
                    }
                    let stamp = self.tree.find(&folder.unfinished(index))?.stamp();
                    // Whatever its length, what was found in it just now need not be read again.
                    let is_known = |stamp| known.wrong.is_some() && is_taken && saved == Some(stamp);
                    Evidence { is_taken: is_taken && stamp.is_some(), ..Evidence::of(place, stamp, is_known) }
                }
                _ => Evidence::of(place, found.stamp(), |stamp| {
                    saved == Some(stamp) || self.trusts_length(file, stamp.len)
                }),
            })
        });
        files.collect()
    }

    /// A file that was not wanted before is wanted now: what edge pieces brought of it moves from the part file to a file of
    /// its own.
    fn take_from_part_file(
        &self,
        folder: &WorkFolder,
        index: FileIndex,
        part_file: &File,
        state: &State,
    ) -> Result<(), StorageError> {
        let (file, path) = (&self.info.files[index.idx()], folder.unfinished(index));
        let is_there = |piece: &PieceIndex| state.have.has(*piece) || state.in_doubt.has(*piece);
        let pieces = pieces_in(&self.info, file).filter(is_there);
        let segments = pieces.flat_map(|piece| self.info.segments(piece));
        let mut segments = segments.filter(|segment| segment.file == index).peekable();
        if segments.peek().is_none() {
            return Ok(());
        }
        let failed = |len, e| StorageError::space(&self.tree.path_of(&path), "write", len, e);
        let unfinished = self.tree.open(&path, Access::Create)?;
        unfinished.set_len(file.length).map_err(|e| failed(0, e))?;
        for Segment { offset, len, .. } in segments {
            sys::copy_range(part_file, file.offset + offset, &unfinished, offset, len)
                .map_err(|e| failed(len, e))?;
            sys::punch_hole(part_file, file.offset + offset, len);
        }
        Ok(())
    }

    /// Where a file belongs, given what is there.
    fn place(
        &self,
        file: &FileEntry,
        is_wanted: bool,
        is_ours: bool,
        found: Found,
        is_unfinished: bool,
    ) -> Result<Place, StorageError> {
        let path = || self.tree.path_of(&file.path);
        let in_the_way = match found {
            _ if !is_wanted || file.attr.symlink && found == Found::Other => false,
            Found::Nothing => false,
            Found::Other => return Err(StorageError::WrongKind { path: path(), wanted: "a regular file" }),
            Found::File(stamp) => is_unfinished || file.attr.symlink || stamp.len != file.length,
        };
        if in_the_way && !self.options.overwrite {
            return Err(StorageError::ForeignData { path: path() });
        }
        Ok(match found {
            _ if file.length == 0 => Place::Empty,
            _ if is_unfinished => Place::Work,
            Found::File(stamp) if is_ours && stamp.len == file.length => Place::Present,
            _ if !is_wanted => Place::PartFile,
            Found::File(_) if !in_the_way => Place::Present,
            _ => Place::Work,
        })
    }
}
