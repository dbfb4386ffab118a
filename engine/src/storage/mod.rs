//! A torrent's files: verified writes, mapped reads, and what can be trusted after a crash.
//!
//! # Where things are
//!
//! A download of NAME into DIR keeps everything unfinished in the work folder `DIR/.NAME.swarm/`:
//!
//! | file | holds |
//! |---|---|
//! | `lock` | the lock against a second download; the system frees it when the process ends |
//! | `INDEX.part` | the unfinished file of that index in the metainfo, at its full length |
//! | `side` | the part file: what edge pieces have of unwanted files, and blocks of unfinished pieces; sparse, by offset in the torrent |
//! | `state` | what could be trusted when the download was last started or stopped; replaced atomically |
//! | `journal` | what has been written and synced since; appended to |
//!
//! A file gets its final name, `DIR/NAME/…`, when all its pieces are verified *and durable*. So a name from a torrent touches the disk
//! only once, and what has its final name is complete, even after a power cut, or not ours. Empty files, then symbolic links, come
//! last. Then the work folder is removed, unless it holds bytes of unwanted files, from which a later download goes on. What stays is
//! a small state in the user's state folder (if the caller names one), by info-hash and destination. Seeding writes only there, and what
//! it mends.
//!
//! Blocks of unfinished pieces move to the part file when memory is short and when the download stops. The state of a clean stop says
//! which are there. They are not verified: the piece is, once it is complete. `kill -9` loses those since the last stop.
//!
//! # What is trusted
//!
//! A piece goes into the journal after its write and before it is announced; a *mark* follows each
//! [`sync`](Storage::sync). After a crash, marked pieces are trusted and journalled ones checked again. After a power cut (another
//! boot), all that the file systems have data for is checked. A file whose length, modification time or inode number has changed since
//! we last wrote to it, or that has holes in what is marked, is checked again. Complete files are compared likewise: before they get
//! their final names, before a download is finished, before anything is read to be sent, and when the state is used again. What
//! differs is [in doubt](Storage::take_doubts), and the caller checks it. If [`verify`] finds a piece wrong, it
//! [ends](verify::end_trust) all of this trust.
//!
//! What the state vouches for is [unchecked](check) until it has been read: it is hashed before any of it is sent. Everything is read
//! again over time if a caller [scrubs](Storage::scrub_piece). A piece that is bad though its files look as they did when it was right has
//! rotted, and may be [mended](mend) in place.
//!
//! # Files that are already there
//!
//! A file at its final name that we did not put there is only ever read. Pieces of it that match count. The first one that does not is
//! [`StorageError::ForeignData`], and so is another length. A piece that it shares with files that are not there yet is downloaded, and
//! then compared instead of written. With [`OpenOptions::overwrite`] such a file is moved into the work folder and completed. Unwanted
//! files stay as they are.
//!
//! # Files that are elsewhere
//!
//! What a download is told to [reuse](reuse) is cloned or copied into the work folder and checked there like what an earlier run has left:
//! the files that it comes from are only read, and what changes meanwhile is downloaded.
//!
//! # Threads
//!
//! Everything blocks and may be called from any thread, at the same time for different pieces: [`crate::hash::Workers`] is meant for
//! that. Calls for *one* piece follow each other.

mod batch;
pub(crate) mod bulk;
mod check;
mod custom;
mod delete;
mod error;
#[cfg(feature = "__hooks")]
pub(crate) mod fuzz;
mod handles;
mod journal;
mod location;
mod mend;
mod names;
mod open;
mod options;
mod prepared;
mod read;
mod relocate;
mod reserve;
mod reuse;
mod saved;
mod scan;
mod space;
mod state;
mod sync;
mod sys;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod trust;
pub mod verify;
mod work;
mod write;

pub(crate) use check::Checked;
pub use custom::{PieceStorage, Stored};
pub use error::StorageError;
pub use handles::{HandleLimits, Handles};
pub(crate) use location::Location;
pub use options::{Mode, OpenOptions, Opened, Trust};
pub use prepared::Prepared;
pub(crate) use relocate::{Relocation, Spot, relocate};
pub(crate) use reuse::{Elsewhere, Lengths, Reusable, ReuseSources, Sibling};
pub use space::SpaceBudget;

use crate::buffer::{PieceBuffer, Spill};
use crate::hash::lanes::{Algorithm as _, Sha256Lanes, hash_many};
use read::Use;
use saved::SavedState;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::merkle::Node;
use swarm_core::metainfo::{FileEntry, Info, Metainfo, PieceHash, PieceTree};
use table::{Doubts, Table};
use tree::Tree;
use trust::Writing;
use work::Work;

/// A torrent's files on disk. Dropping it without [closing](Storage::close) is like a crash, but for the lock.
#[derive(Debug)]
pub struct FileStorage {
    info: Arc<Info>,
    tree: Tree,
    /// Where the state is kept once the work folder has gone, and of a seed.
    saved_state: Option<SavedState>,
    is_seed: bool,
    overwrite: bool,
    handles: Arc<Handles>,
    /// Our part of the handles' keys.
    id: u32,
    budget: Option<Arc<SpaceBudget>>,
    table: Mutex<Table>,
    /// Of a download that is not finished. Its locks are taken after `syncing` and `writing`, and before `table`.
    work: Mutex<Option<Arc<Work>>>,
    /// The part file of a finished download, which has no name any more.
    removed_part_file: Mutex<Option<Arc<File>>>,
    /// A work folder that could not be removed.
    left_over: Mutex<Option<[String; 1]>>,
    /// Held while a file in the work folder is written to.
    writing: Writing,
    /// Whether pieces that have rotted may be written.
    may_mend: AtomicBool,
    /// Whether the user's state folder has a state of complete files.
    is_saved: AtomicBool,
    /// When that was last checked.
    state_checked: Mutex<Option<Instant>>,
    /// Whether data was lost in a sync. Held during a sync.
    syncing: Mutex<bool>,
    /// The digest of a whole piece of zeros.
    hash_of_zeros: OnceLock<PieceHash>,
    /// Held while a file moves into the work folder.
    moving: Mutex<()>,
}

/// What became of a piece.
#[derive(Debug)]
pub enum PieceOutcome {
    /// It is right, written and in the journal: it may be announced.
    Ok,
    /// It is wrong. Nothing was written, and blocks that had been spilled are gone.
    HashMismatch(PieceBuffer),
    /// Of a hybrid: one of its hashes holds, and the other does not. Nothing was written.
    Contradictory,
    /// It is right, but could not be stored. It may be tried again.
    Failed { error: StorageError, buffer: PieceBuffer },
}

/// How much is read at a time for leaves, in bytes.
const LEAVES_CHUNK: u32 = 1 << 20;

/// Where a torrent's pieces are: its [files](FileStorage), or whatever an [embedder](PieceStorage) has made for them.
///
/// The order of calls for a download: [`open`], [`check_piece`](Self::check_piece) for what is in doubt,
/// [`reserve`](Self::reserve), then [`verify_and_write`](Self::verify_and_write) and every few seconds [`sync`](Self::sync);
/// [`finish`](Self::finish) when everything needed is there; at the end, complete or not, [`close`](Self::close).
pub(crate) trait Storage: Send + Sync {
    /// Where the torrent's file or folder is, or will be: `DIR/NAME`.
    fn path(&self) -> PathBuf;

    /// Where its files are, if that is in files.
    fn location(&self) -> Option<Location> {
        None
    }

    /// Reserves the space of every wanted file, and leaves some of the volume to others. Called again after an error that
    /// [may pass](StorageError::may_pass), until it succeeds. What was reserved before it failed is given back.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] with the bytes that must come free; [`StorageError::TooLarge`] if the volume
    /// could never hold it; [`StorageError::Gone`]; whatever the system says.
    fn reserve(&self) -> Result<(), StorageError>;

    /// Finds what is elsewhere on this machine of the wanted files, and clones files that can be cloned: that takes no space. Reads
    /// on so many threads for as long as `goes_on`. Before [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// Whatever the system says of our own files. What is wrong with others is no error.
    fn find_reusable(
        &self,
        _sources: &ReuseSources,
        _threads: usize,
        _goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Reusable, StorageError> {
        Ok(Reusable::default())
    }

    /// Copies what was found and could not be cloned, after [`reserve`](Self::reserve). The pieces to pass to
    /// [`check_piece`](Self::check_piece) are those of the [`Reusable`]. Can be called again after an error.
    ///
    /// # Errors
    /// As [`spill`](Self::spill).
    fn copy_reusable(
        &self,
        _reusable: &Reusable,
        _goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StorageError> {
        Ok(())
    }

    /// Finds which missing pieces files elsewhere on this machine have, while others are written.
    fn find_elsewhere(
        &self,
        _sources: &ReuseSources,
        _threads: usize,
        _goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Option<Elsewhere> {
        None
    }

    /// Verifies a complete piece, writes it and notes it in the journal, while it is in the CPU's cache. Space must have been
    /// [reserved](Self::reserve).
    ///
    /// # Panics
    /// If the buffer is not [complete](PieceBuffer::is_complete).
    fn verify_and_write(&self, buffer: PieceBuffer) -> PieceOutcome;

    /// As [`verify_and_write`](Self::verify_and_write), several pieces one after the other; they may be hashed side by side.
    fn verify_and_write_all(&self, buffers: Vec<PieceBuffer>) -> Vec<PieceOutcome> {
        buffers.into_iter().map(|buffer| self.verify_and_write(buffer)).collect()
    }

    /// Whether blocks of partial pieces can be [spilled](Self::spill).
    fn can_spill(&self) -> bool {
        true
    }

    /// Writes blocks of a partial piece to the part file, to free their memory. They survive a restart after
    /// [`close`](Self::close).
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] and others; the blocks are still there and can be restored.
    fn spill(&self, spill: &Spill) -> Result<(), StorageError>;

    /// Reads a piece from disk: whether it is right. If so it counts as had from now on and goes into the journal. A seed's state is
    /// saved after the last piece that was in doubt.
    ///
    /// # Errors
    /// [`StorageError::ForeignData`] if it lies in one file alone that we did not put there, and does not match; whatever the system
    /// says. A missing or short file is no error: the piece is not right.
    fn check_piece(&self, piece: PieceIndex) -> Result<bool, StorageError>;

    /// The same for several pieces, in order: side by side, where that is quicker. Of fewer, once `goes_on` says no.
    fn check_pieces(
        &self,
        pieces: &[PieceIndex],
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Result<bool, StorageError>> {
        pieces.iter().take_while(|_| goes_on()).map(|&piece| self.check_piece(piece)).collect()
    }

    /// Whether the piece counts as had and nobody has read it since the storage was opened: it is not to be sent before
    /// [`check_unchecked`](Self::check_unchecked) has said that it is right.
    fn is_unchecked(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// Leaves those of these pieces that are [unchecked](Self::is_unchecked).
    fn retain_unchecked(&self, pieces: &mut Vec<PieceIndex>) {
        pieces.retain(|piece| self.is_unchecked(*piece));
    }

    /// As [`check_piece`](Self::check_piece), for several pieces that are [unchecked](Self::is_unchecked): side by side, and perhaps with
    /// others. None is told of that another call checks already. A file that cannot be read, or that somebody has changed, is an error
    /// and says nothing of the piece.
    fn check_unchecked(&self, pieces: &[PieceIndex]) -> Vec<Checked> {
        pieces.iter().map(|&piece| Checked::new(piece, self.check_piece(piece))).collect()
    }

    /// Reads a piece that is had from the disk once more: whether it is right. If it is not, what follows is as with
    /// [`check_piece`](Self::check_piece).
    ///
    /// # Errors
    /// As there, and [`StorageError::Changed`] if somebody has changed the file.
    fn scrub_piece(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        self.check_piece(piece)
    }

    /// Where to go on with [`scrub_piece`](Self::scrub_piece).
    fn scrubbed(&self) -> PieceIndex {
        PieceIndex(0)
    }

    /// Whether a seed may write pieces that have rotted; others always do.
    fn set_mending(&self, _on: bool) {}

    /// Whether a piece that is bad, or in doubt, has rotted, and may be written in its place once it is here again.
    fn mends(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// All pieces that it [mends](Self::mends).
    fn mendable(&self) -> Vec<PieceIndex> {
        Vec::new()
    }

    /// Whether the piece counts as had.
    fn has(&self, piece: PieceIndex) -> bool;

    /// Whether the piece waits to be checked again.
    fn is_in_doubt(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// Puts the bad pieces of files in doubt that somebody has changed since, and that stand still. Whether there are still bad
    /// pieces. For what is not downloaded.
    ///
    /// # Errors
    /// Whatever the system says.
    fn look_at_bad_files(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    /// What was found changed since the last call. Called after whatever else was done with the storage.
    fn take_doubts(&self) -> Doubts {
        Doubts::default()
    }

    /// Whether pieces can still be written.
    fn is_downloading(&self) -> bool;

    /// Brings a range of a piece, in bytes, into memory for sending.
    ///
    /// # Errors
    /// [`StorageError::Truncated`] if a file is shorter than it ought to be; whatever the system says.
    ///
    /// # Panics
    /// If there is no such range.
    fn prepare(&self, piece: PieceIndex, range: Range<u32>) -> Result<Prepared, StorageError>;

    /// The leaves of a piece that is here, of as many of its bytes as `tree` says (BEP 52); none without it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn leaves(&self, piece: PieceIndex, tree: Option<PieceTree>) -> Result<Vec<Node>, StorageError> {
        let len = tree.map_or(0, |tree| tree.len);
        let (mut leaves, mut buf) = (Vec::new(), vec![0; len.min(LEAVES_CHUNK) as usize]);
        for start in (0..len).step_by(LEAVES_CHUNK as usize) {
            let end = len.min(start + LEAVES_CHUNK);
            let bytes = &mut buf[..(end - start) as usize];
            self.prepare(piece, start..end)?.copy_to(start, bytes)?;
            let blocks: Vec<Vec<&[u8]>> = bytes.chunks(BLOCK_LEN as usize).map(|block| vec![block]).collect();
            leaves.extend(hash_many::<Sha256Lanes>(Sha256Lanes::choice(), &blocks));
        }
        Ok(leaves)
    }

    /// The digest of each block that is on disk of a piece of version 2, as [`PieceResult`](swarm_core::torrent::PieceResult) has them;
    /// zeros for those that cannot be read. Nothing if blocks cannot be [kept](crate::buffer::PieceBuffer::with_in_place) where they are.
    fn block_digests(&self, _piece: PieceIndex) -> Vec<[u8; 20]> {
        Vec::new()
    }

    /// Bytes written since the last [`sync`](Self::sync) began.
    fn unsynced_bytes(&self) -> u64 {
        0
    }

    /// Makes all that is in the journal durable and marks it so; then gives complete files their final names. Returns all
    /// that have got theirs and were not returned yet: an earlier call may have failed half-way.
    ///
    /// # Errors
    /// If data could not be made durable, this storage marks nothing any more, since the system reports such an error only once; the
    /// pieces concerned are checked again after a restart.
    fn sync(&self) -> Result<Vec<FileIndex>, StorageError>;

    /// Everything that is needed is there: gives the last files their final names, makes empty files and symbolic
    /// links, removes the work folder unless it holds bytes of unwanted files. All pieces can still be read.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), as is what it returns; [`StorageError::Changed`] if a needed piece is missing. Can be called again.
    fn finish(&self) -> Result<Vec<FileIndex>, StorageError>;

    /// Saves the state for the next start, and frees open files and maps. Nothing must be written afterwards.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), or if the state could not be saved: then the next start has more to check.
    fn close(&self) -> Result<(), StorageError>;

    /// As [`close`](Self::close), but removes a work folder that holds nothing: it would be in the way of another torrent.
    fn abandon(&self);

    /// Deletes, once it is closed, what is known to be the torrent's.
    fn delete(&self) -> Result<(), StorageError>;
}

/// Opens what an embedder has made for a torrent's pieces, or else its files.
pub(crate) fn open(
    metainfo: &Metainfo,
    custom: Option<Arc<dyn PieceStorage>>,
    options: OpenOptions,
) -> Result<(Arc<dyn Storage>, Opened), StorageError> {
    if let Some(pieces) = custom {
        let (storage, opened) = custom::Custom::open(metainfo, pieces, &options)?;
        return Ok((Arc::new(storage), opened));
    }
    let (storage, opened) = FileStorage::open(Arc::clone(&metainfo.info), options)?;
    Ok((Arc::new(storage), opened))
}

impl FileStorage {
    /// Opens the torrent's files and finds out what is already there. Creates and locks the work folder of a
    /// download, and the destination if need be.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if somebody else downloads to the same place; [`StorageError::ForeignData`] if a
    /// wanted file is there with another length; whatever the system says.
    ///
    /// # Panics
    /// If [`Mode::Download`] does not have one choice for each file.
    pub fn open(info: Arc<Info>, options: OpenOptions) -> Result<(FileStorage, Opened), StorageError> {
        open::open(info, options)
    }

    /// Whether a file is under its final name.
    #[cfg(test)]
    pub fn is_finished(&self, file: FileIndex) -> bool {
        self.table().slots[file.idx()].is_finished()
    }

    fn entry(&self, file: FileIndex) -> &FileEntry {
        &self.info.files[file.idx()]
    }

    /// Where a file is once it is complete.
    fn final_path(&self, file: FileIndex) -> PathBuf {
        self.tree.path_of(&self.entry(file).path)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn work(&self) -> Option<Arc<Work>> {
        lock(&self.work).clone()
    }
}

impl Storage for FileStorage {
    fn path(&self) -> PathBuf {
        self.tree.path_of(&[&self.info.name])
    }

    fn location(&self) -> Option<Location> {
        Some(Location { tree: self.tree.clone(), info: Arc::clone(&self.info) })
    }

    fn reserve(&self) -> Result<(), StorageError> {
        self.reserve_all()
    }

    fn find_reusable(
        &self,
        sources: &ReuseSources,
        threads: usize,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Reusable, StorageError> {
        self.find_and_clone(sources, threads, goes_on)
    }

    fn copy_reusable(
        &self,
        reusable: &Reusable,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), StorageError> {
        self.copy_found(reusable, goes_on)
    }

    fn find_elsewhere(
        &self,
        sources: &ReuseSources,
        threads: usize,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Option<Elsewhere> {
        self.find_pieces(sources, threads, goes_on)
    }

    fn verify_and_write(&self, buffer: PieceBuffer) -> PieceOutcome {
        self.verify_then_write(buffer, None)
    }

    fn verify_and_write_all(&self, buffers: Vec<PieceBuffer>) -> Vec<PieceOutcome> {
        let hashes = self.hash_received(&buffers).into_iter();
        buffers.into_iter().zip(hashes).map(|(buffer, hash)| self.verify_then_write(buffer, hash)).collect()
    }

    fn spill(&self, spill: &Spill) -> Result<(), StorageError> {
        self.spill_blocks(spill)
    }

    fn check_piece(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        self.check_one(piece)
    }

    fn check_pieces(
        &self,
        pieces: &[PieceIndex],
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Vec<Result<bool, StorageError>> {
        self.check_side_by_side(pieces, goes_on)
    }

    fn is_unchecked(&self, piece: PieceIndex) -> bool {
        self.table().is_unchecked(piece)
    }

    fn retain_unchecked(&self, pieces: &mut Vec<PieceIndex>) {
        let table = self.table();
        pieces.retain(|piece| table.is_unchecked(*piece));
    }

    fn check_unchecked(&self, pieces: &[PieceIndex]) -> Vec<Checked> {
        self.check_together(pieces)
    }

    fn scrub_piece(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        self.scrub_one(piece)
    }

    fn scrubbed(&self) -> PieceIndex {
        self.table().rot.as_ref().map_or(PieceIndex(0), |rot| rot.scrubbed.0)
    }

    fn set_mending(&self, on: bool) {
        self.may_mend.store(on || !self.is_seed, Ordering::Relaxed);
    }

    fn mends(&self, piece: PieceIndex) -> bool {
        self.mends_piece(piece)
    }

    fn mendable(&self) -> Vec<PieceIndex> {
        let table = self.table();
        let rot = table.rot.as_ref().filter(|_| self.may_mend.load(Ordering::Relaxed));
        rot.map_or_else(Vec::new, |rot| rot.rotten.iter().collect())
    }

    fn can_spill(&self) -> bool {
        self.work().is_some()
    }

    fn has(&self, piece: PieceIndex) -> bool {
        self.table().have.has(piece)
    }

    fn is_in_doubt(&self, piece: PieceIndex) -> bool {
        self.table().in_doubt.has(piece)
    }

    fn look_at_bad_files(&self) -> Result<bool, StorageError> {
        self.doubt_mended_files()
    }

    fn take_doubts(&self) -> Doubts {
        std::mem::take(&mut self.table().new_doubts)
    }

    fn is_downloading(&self) -> bool {
        self.work().is_some()
    }

    fn prepare(&self, piece: PieceIndex, range: Range<u32>) -> Result<Prepared, StorageError> {
        self.prepare_as(piece, range, Use::Send)
    }

    fn block_digests(&self, piece: PieceIndex) -> Vec<[u8; 20]> {
        // A complete file is mended by whole pieces.
        match self.work().is_some() && !self.mends_piece(piece) {
            true => self.digest_blocks(piece),
            false => Vec::new(),
        }
    }

    fn unsynced_bytes(&self) -> u64 {
        self.table().dirty.bytes
    }

    fn sync(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.sync_and_mark()?;
        Ok(std::mem::take(&mut self.table().finished))
    }

    fn finish(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.finish_download()?;
        Ok(std::mem::take(&mut self.table().finished))
    }

    fn close(&self) -> Result<(), StorageError> {
        self.save_and_release()
    }

    fn abandon(&self) {
        if self.work().is_some_and(|work| self.is_unused(&work)) {
            self.remove_work_folder();
        }
        if let Err(e) = self.save_and_release() {
            tracing::debug!("{e}");
        }
    }

    fn delete(&self) -> Result<(), StorageError> {
        self.delete_files()
    }
}

/// Locks, whether or not a thread has panicked meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        self.handles.forget_storage(self.id);
    }
}
