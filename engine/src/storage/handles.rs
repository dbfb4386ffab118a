//! Open files and maps, shared by all torrents of a session and bounded in number.
//!
//! A torrent of 20,000 files cannot keep them all open, and a session with 10,000 torrents at rest should keep none:
//! files are opened when needed and the least recently used ones are closed. The same goes for maps, of which a
//! process may have 65,530. Files are mapped in windows of 16 MiB, so that what is mapped (and with it the resident
//! memory that tools show) stays bounded too. Whoever holds a handle or a map keeps it alive after it has left the
//! cache.

use super::error::StorageError;
use super::sys;
use memmap2::{MmapOptions, MmapRaw};
use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files are mapped in windows that start at multiples of this.
pub(super) const WINDOW_LEN: u64 = 16 << 20;

/// How many files and maps may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleLimits {
    /// Open files. A process often may have no more than 1,024, sockets included.
    pub open_files: usize,
    /// Maps; each keeps its file open too. None at all: files are read into memory.
    pub maps: usize,
    /// Bytes mapped.
    pub mapped_bytes: u64,
}

impl Default for HandleLimits {
    fn default() -> HandleLimits {
        HandleLimits { open_files: 128, maps: 256, mapped_bytes: 1 << 30 }
    }
}

/// Open files and maps of all torrents that were given this.
#[derive(Debug, Default)]
pub struct Handles {
    limits: HandleLimits,
    next_storage: AtomicU32,
    files: Mutex<Recent<FileKey, Arc<File>>>,
    maps: Mutex<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    recent: Recent<MapKey, Arc<Map>>,
    bytes: u64,
}

/// Which file, of which storage, and whether it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    pub(super) storage: u32,
    pub(super) file: u32,
    pub(super) writable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MapKey {
    storage: u32,
    file: u32,
    window: u64,
}

/// A window of a file, mapped for reading.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) raw: MmapRaw,
    pub(super) file: Arc<File>,
    /// Where the map starts in the file.
    pub(super) start: u64,
}

impl Handles {
    /// Keeps at most this many.
    pub fn new(limits: HandleLimits) -> Handles {
        Handles { limits, ..Handles::default() }
    }

    /// A number for a storage's keys.
    pub(super) fn register(&self) -> u32 {
        self.next_storage.fetch_add(1, Ordering::Relaxed)
    }

    /// The open file, or what `open` gives. If there are no more file descriptors, closes all of ours and tries again.
    pub(super) fn file(
        &self,
        key: FileKey,
        open: impl Fn() -> Result<File, StorageError>,
    ) -> Result<Arc<File>, StorageError> {
        if let Some(file) = self.lock_files().get(&key) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(match open() {
            Err(StorageError::Io { source, .. }) if sys::is_too_many_files(&source) => {
                drop((self.lock_files().take_all(), self.lock_maps().take_all()));
                open()?
            }
            opened => opened?,
        });
        let closed = {
            let mut files = self.lock_files();
            files.insert(key, Arc::clone(&file));
            files.shrink_to(self.limits.open_files)
        };
        drop(closed);
        Ok(file)
    }

    /// The map of the window at `offset` of a file that is `file_len` long; `None` if the system has no more maps.
    pub(super) fn map(
        &self,
        key: FileKey,
        offset: u64,
        file_len: u64,
        open: impl FnOnce() -> Result<Arc<File>, StorageError>,
    ) -> Result<Option<Arc<Map>>, StorageError> {
        if self.limits.maps == 0 {
            return Ok(None);
        }
        let window = offset / WINDOW_LEN;
        let key = MapKey { storage: key.storage, file: key.file, window };
        if let Some(map) = self.lock_maps().recent.get(&key) {
            return Ok(Some(Arc::clone(map)));
        }
        let start = window * WINDOW_LEN;
        let Ok(map) = Map::new(&open()?, start, (file_len - start).min(WINDOW_LEN)) else { return Ok(None) };
        let map = Arc::new(map);
        let unmapped = self.lock_maps().insert(key, Arc::clone(&map), &self.limits);
        drop(unmapped);
        Ok(Some(map))
    }

    /// Forgets one file: it has been moved.
    pub(super) fn forget_file(&self, storage: u32, file: u32) {
        let closed = self.lock_files().take_if(|key| key.storage == storage && key.file == file);
        let unmapped = self.lock_maps().take_if(|key| key.storage == storage && key.file == file);
        drop((closed, unmapped));
    }

    /// Forgets the files of a storage that were open for writing.
    pub(super) fn forget_writable(&self, storage: u32) {
        let closed = self.lock_files().take_if(|key| key.storage == storage && key.writable);
        drop(closed);
    }

    /// Forgets everything of a storage.
    pub(super) fn forget_storage(&self, storage: u32) {
        let closed = self.lock_files().take_if(|key| key.storage == storage);
        let unmapped = self.lock_maps().take_if(|key| key.storage == storage);
        drop((closed, unmapped));
    }

    fn lock_files(&self) -> MutexGuard<'_, Recent<FileKey, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    /// Maps `len` bytes from `start`, which is a multiple of the page size.
    pub(super) fn new(file: &Arc<File>, start: u64, len: u64) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let raw = MmapOptions::new().offset(start).len(len).map_raw_read_only(&**file)?;
        sys::expect_random_reads(&raw);
        Ok(Map { raw, file: Arc::clone(file), start })
    }

    /// Bytes mapped.
    pub(super) fn len(&self) -> u64 {
        self.raw.len() as u64
    }
}

impl Maps {
    /// Adds a map and gives back those that have to go for it.
    fn insert(&mut self, key: MapKey, map: Arc<Map>, limits: &HandleLimits) -> Vec<Arc<Map>> {
        self.bytes += map.len();
        let mut gone: Vec<_> = self.recent.insert(key, map).into_iter().collect();
        self.bytes -= gone.iter().map(|map| map.len()).sum::<u64>();
        while self.recent.len() > limits.maps.max(1)
            || (self.bytes > limits.mapped_bytes && self.recent.len() > 1)
        {
            let Some(oldest) = self.recent.take_oldest() else { break };
            self.bytes -= oldest.len();
            gone.push(oldest);
        }
        gone
    }

    fn take_if(&mut self, which: impl Fn(&MapKey) -> bool) -> Vec<Arc<Map>> {
        let gone = self.recent.take_if(which);
        self.bytes -= gone.iter().map(|map| map.len()).sum::<u64>();
        gone
    }

    fn take_all(&mut self) -> Vec<Arc<Map>> {
        self.take_if(|_| true)
    }
}

/// Values with the time of their last use. Small enough that finding the oldest one by looking at all is cheap.
///
/// Whatever leaves is handed to the caller, who drops it outside the lock: closing and unmapping take time.
#[derive(Debug)]
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    clock: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: HashMap::new(), clock: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.clock += 1;
        self.entries.insert(key, (self.clock, value)).map(|(_, old)| old)
    }

    fn take_oldest(&mut self) -> Option<V> {
        let key = *self.entries.iter().min_by_key(|(_, (used, _))| *used)?.0;
        self.entries.remove(&key).map(|(_, value)| value)
    }

    fn shrink_to(&mut self, max: usize) -> Vec<V> {
        let mut gone = Vec::new();
        while self.len() > max.max(1) {
            gone.extend(self.take_oldest());
        }
        gone
    }

    fn take_if(&mut self, which: impl Fn(&K) -> bool) -> Vec<V> {
        self.entries.extract_if(|key, _| which(key)).map(|(_, (_, value))| value).collect()
    }

    fn take_all(&mut self) -> Vec<V> {
        self.take_if(|_| true)
    }
}
