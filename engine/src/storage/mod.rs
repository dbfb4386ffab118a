//! A torrent's files: verified writes, mapped reads, and knowing after a crash what can be trusted.
//!
//! # Where things live
//!
//! A download of NAME into DIR keeps everything unfinished in the work folder `DIR/.NAME.swarm/`:
//!
//! | file | holds |
//! |---|---|
//! | `lock` | the lock that keeps a second download out; the system frees it when the process ends, however it ends |
//! | `INDEX.part` | the file of that index in the metainfo, at its full length |
//! | `side` | parts of edge pieces that belong to unwanted files, and blocks of unfinished pieces; sparse, addressed by the offset in the torrent |
//! | `state` | what could be trusted when the download was last started or stopped; replaced atomically |
//! | `journal` | what has been written and synced since; appended to |
//!
//! Unfinished files are in there, rather than under the torrent's own names, so that a name from a torrent touches the
//! disk only once, when a finished file moves to its place: nothing can collide, and no name grows too long. A file
//! gets its final name, `DIR/NAME/…`, when all its pieces are verified *and durable*, so what has its final name is
//! either complete, even after a power cut, or not ours. Files of zero length, then symbolic links, come last. When
//! the download is complete the work folder goes, and what is left is a small state file in the user's state folder
//! (if the caller names one), by info-hash and destination, for a quick restart. Seeding writes to that folder only.
//! The folder stays while it holds bytes of files that are not wanted: a later download that wants them goes on from
//! there.
//!
//! Blocks of unfinished pieces move to the part file when memory is short and when the download stops. The state
//! of a stop in order says which are there, so that the next start goes on from them; nobody has verified them, and the
//! piece is verified as a whole once it is complete. After `kill -9`, those since the last stop are lost.
//!
//! # What is trusted
//!
//! A piece goes into the journal after its write and before it is announced; a *mark* follows each
//! [`sync`](Storage::sync). After a crash, marked pieces are trusted, journalled ones are checked again; after a
//! power cut (another boot) so is all that the file systems have data for. In any case a file's length, modification time and
//! inode number must be what they were after we last wrote to it, and there must be no holes in what is marked; else its pieces
//! are checked again. That is also what vouches for complete files, in one run and from one to the next: they are compared
//! before a file gets its final name, before a download is finished, before anything is read to be sent, and when the
//! state is used again. What differs is [in doubt](Storage::take_doubts) and has to be checked by the caller. If
//! [`verify`] finds a piece wrong, it [ends](verify::end_trust) all of this trust.
//!
//! # Files that are already there
//!
//! A file at its final name that we did not put there is a candidate: it is only ever read. Pieces of it that
//! match count; the first one that does not is [`StorageError::ForeignData`], and so is another length. A piece that it
//! shares with files that are not there yet is downloaded, and then compared instead of written. With
//! [`OpenOptions::overwrite`] such a file is moved into the work folder and completed like any other. Unwanted files are
//! left alone.
//!
//! # Storage that is not files
//!
//! The session knows the trait [`Storage`]. [`FileStorage`] is what all of the above is about; [`custom`] is the other form, for what an
//! embedder has made.
//!
//! # Threads
//!
//! Everything blocks and may be called from any thread; [`crate::hash::Workers`] is meant for that. Different pieces can be
//! written, checked and prepared at the same time. Calls for *one* piece follow each other: the caller does not
//! verify a piece while its blocks are being spilled.

pub(crate) mod bulk;
mod custom;
mod delete;
mod error;
mod handles;
mod home;
mod journal;
mod names;
mod open;
mod options;
mod prepared;
mod read;
mod reserve;
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

pub use custom::{PieceStorage, Stored};
pub use error::StorageError;
pub use handles::{HandleLimits, Handles};
pub use options::{Mode, OpenOptions, Opened, Trust};
pub use prepared::Prepared;
pub use space::SpaceBudget;

use crate::buffer::{PieceBuffer, Spill};
use home::StateHome;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::metainfo::{FileEntry, Info, Metainfo};
use table::{Doubts, Table};
use tree::Tree;
use trust::Writing;
use work::Work;

/// A torrent's files on disk.
///
/// The order of calls for a download: [`open`](Self::open), [`check_piece`](Self::check_piece) for what is in doubt,
/// [`reserve`](Self::reserve), then [`verify_and_write`](Self::verify_and_write) and now and then
/// [`sync`](Self::sync); when everything needed is there [`finish`](Self::finish); at the end, complete or not,
/// [`close`](Self::close). Dropping it without closing is like a crash, but for the lock.
#[derive(Debug)]
pub struct FileStorage {
    info: Arc<Info>,
    tree: Tree,
    /// Where the state is kept once the work folder has gone, and of a seed.
    home: Option<StateHome>,
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
    /// Whether what is known of complete files was read from the user's state folder, or is saved there.
    is_saved: AtomicBool,
    /// When it was last looked whether that is still there.
    looked_at: Mutex<Option<Instant>>,
    /// Whether data was lost in a sync. Held during a sync.
    syncing: Mutex<bool>,
    /// The digest of a piece of zeros, once it was needed.
    hash_of_zeros: OnceLock<[u8; 20]>,
    /// Held while a file moves into the work folder.
    moving: Mutex<()>,
}

/// What became of a piece.
#[derive(Debug)]
pub enum PieceOutcome {
    /// It is right, written and in the journal: it may be announced.
    Ok,
    /// It is not what the torrent says. Nothing was written, and blocks that had been spilled are gone.
    HashMismatch(PieceBuffer),
    /// It is right, but could not be stored. It may be tried again.
    Failed {
        /// Why.
        error: StorageError,
        /// The piece.
        buffer: PieceBuffer,
    },
}

/// Where a torrent's pieces are: its [files](FileStorage), or whatever an [embedder](PieceStorage) has made for them.
pub(crate) trait Storage: Send + Sync {
    /// Where the torrent's file or folder is, or will be: `DIR/NAME`.
    fn path(&self) -> PathBuf;

    /// Reserves the space of every wanted file, before anything is promised to anyone, and leaves some to others. Can be
    /// called again, and must be after an error that [may pass](StorageError::may_pass), until it succeeds: then there
    /// is space again. What was reserved before it failed is given back.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] with the bytes that must come free; [`StorageError::TooLarge`] if the volume
    /// could never hold it; [`StorageError::Gone`]; whatever the system says.
    fn reserve(&self) -> Result<(), StorageError>;

    /// Verifies a complete piece, writes it and notes it in the journal, in one go while it is in the cache. Space
    /// must have been [reserved](Self::reserve).
    ///
    /// # Panics
    /// If the buffer is not [complete](PieceBuffer::is_complete).
    fn verify_and_write(&self, buffer: PieceBuffer) -> PieceOutcome;

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

    /// Reads a piece from disk and tells whether it is right; if so it counts as had from now on and goes into the
    /// journal. A seed's state is saved after the last piece that was in doubt.
    ///
    /// # Errors
    /// [`StorageError::ForeignData`] if it lies in one candidate file alone and does not match (see the module's
    /// documentation); whatever the system says. A missing or short file is no error: the piece is not right.
    fn check_piece(&self, piece: PieceIndex) -> Result<bool, StorageError>;

    /// Whether the piece counts as had.
    fn has(&self, piece: PieceIndex) -> bool;

    /// Whether the piece waits to be checked again.
    fn is_in_doubt(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// What was found changed since this was last asked. To be asked after whatever else was done with the storage.
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

    /// Bytes written since the last [`sync`](Self::sync) began. Worth a sync above 256 MiB.
    fn unsynced_bytes(&self) -> u64 {
        0
    }

    /// Makes all that is in the journal durable and marks it so; then gives the files that are complete their final
    /// names, and tells which those are. To be called every few seconds while something is written.
    ///
    /// # Errors
    /// If data could not be made durable, nothing more is ever marked by this storage, since the system reports such
    /// an error once and forgets it; the pieces concerned are checked again after a restart.
    fn sync(&self) -> Result<Vec<FileIndex>, StorageError>;

    /// Everything that is needed is there: gives the last files their final names, makes empty files and symbolic
    /// links, removes the work folder unless it holds bytes of unwanted files. Reading goes on working, and so does the edge of an unwanted file.
    ///
    /// # Errors
    /// As [`sync`](Self::sync); can be called again.
    ///
    /// # Panics
    /// If a needed piece is missing.
    fn finish(&self) -> Result<Vec<FileIndex>, StorageError>;

    /// Saves what is known for the next start, and frees open files and maps. Nothing must be written afterwards.
    ///
    /// # Errors
    /// As [`sync`](Self::sync), or if the state could not be saved: then the next start has more to check.
    fn close(&self) -> Result<(), StorageError>;

    /// The torrent does not run after all, because of an error or because the user wants it no more. Like
    /// [`close`](Self::close), but a work folder that holds nothing is removed: it would be in the way of another torrent.
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

    fn reserve(&self) -> Result<(), StorageError> {
        self.reserve_all()
    }

    fn verify_and_write(&self, buffer: PieceBuffer) -> PieceOutcome {
        self.verify_then_write(buffer)
    }

    fn spill(&self, spill: &Spill) -> Result<(), StorageError> {
        self.spill_blocks(spill)
    }

    fn check_piece(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        let changes = self.table().changes;
        let is_right = self.hash_piece(piece)? == Some(self.info.piece_hash(piece));
        if is_right {
            let work = self.work();
            match &work {
                Some(work) => {
                    self.mark_read(piece);
                    self.add_written(work, piece)?;
                }
                None => self.table().add(&self.info, piece),
            }
            self.doubt_if_changed(work.as_deref(), piece, changes)?;
        } else {
            let was_had = {
                let mut table = self.table();
                table.in_doubt.remove(piece);
                table.remove(&self.info, piece)
            };
            if let (true, Some(work)) = (was_had, self.work()) {
                work.journal().doubt(&[piece])?;
            }
            self.refuse_foreign(piece)?;
        }
        if self.work().is_none() && self.table().in_doubt.count() == 0 {
            // A seed's check is over: let it not be in vain if the process is killed. Failing that, `close` tries again.
            let _ = self.save_at_home().inspect_err(|e| tracing::warn!("{e}"));
        }
        Ok(is_right)
    }

    fn has(&self, piece: PieceIndex) -> bool {
        self.table().have.has(piece)
    }

    fn is_in_doubt(&self, piece: PieceIndex) -> bool {
        self.table().in_doubt.has(piece)
    }

    fn take_doubts(&self) -> Doubts {
        std::mem::take(&mut self.table().news)
    }

    fn is_downloading(&self) -> bool {
        self.work().is_some()
    }

    fn prepare(&self, piece: PieceIndex, range: Range<u32>) -> Result<Prepared, StorageError> {
        self.prepare_range(piece, range)
    }

    fn unsynced_bytes(&self) -> u64 {
        self.table().dirty.bytes
    }

    fn sync(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.sync_and_mark()
    }

    fn finish(&self) -> Result<Vec<FileIndex>, StorageError> {
        self.finish_download()
    }

    fn close(&self) -> Result<(), StorageError> {
        self.save_and_release()
    }

    fn abandon(&self) {
        self.abandon_download();
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
