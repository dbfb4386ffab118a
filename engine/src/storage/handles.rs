//! Open files and maps, shared by all torrents of a session and bounded in number.
//!
//! Files are opened and mapped when needed, and the least recently used ones are closed: a torrent may have 20,000 files, a process
//! often no more than 1,024 descriptors, and no more than 65,530 maps. Files are mapped in windows of 16 MiB, so that mapped (and with
//! it resident) memory is bounded too. Whoever holds a file or a map keeps it alive after it has left the cache.

use super::error::StorageError;
use super::{lock, sys};
use memmap2::{MmapOptions, MmapRaw};
use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Files are mapped in windows that start at multiples of this.
pub(super) const WINDOW_LEN: u64 = 16 << 20;

/// How many files and maps may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleLimits {
    /// Open files.
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
    maps: Mutex<Recent<MapKey, Arc<Map>>>,
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
    /// Something could not be read in it: the file was cut short, and there may be zeros of ours in the place of its bytes.
    pub(super) is_hollow: AtomicBool,
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
        if let Some(file) = lock(&self.files).get(&key) {
            return Ok(file);
        }
        let file = Arc::new(match open() {
            Err(e) if e.is_too_many_files() => {
                let gone = (lock(&self.files).take_if(|_| true), lock(&self.maps).take_if(|_| true));
                drop(gone);
                open()?
            }
            opened => opened?,
        });
        let is_too_much = |files: &HashMap<_, _>| files.len() > self.limits.open_files;
        let closed = lock(&self.files).insert(key, Arc::clone(&file), is_too_much);
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
        if let Some(map) = lock(&self.maps).get(&key).filter(|map| !map.is_hollow.load(Ordering::Relaxed)) {
            return Ok(Some(map));
        }
        let start = window * WINDOW_LEN;
        let Ok(map) = Map::new(&open()?, start, (file_len - start).min(WINDOW_LEN)) else { return Ok(None) };
        let map = Arc::new(map);
        let is_too_much = |maps: &HashMap<_, (u64, Arc<Map>)>| {
            let bytes: u64 = maps.values().map(|(_, map)| map.raw.len() as u64).sum();
            maps.len() > self.limits.maps || bytes > self.limits.mapped_bytes
        };
        let unmapped = lock(&self.maps).insert(key, Arc::clone(&map), is_too_much);
        drop(unmapped);
        Ok(Some(map))
    }

    /// Forgets one file: it has been moved.
    pub(super) fn forget_file(&self, storage: u32, file: u32) {
        let closed = lock(&self.files).take_if(|key| key.storage == storage && key.file == file);
        let unmapped = lock(&self.maps).take_if(|key| key.storage == storage && key.file == file);
        drop((closed, unmapped));
    }

    /// Forgets the files of a storage that were open for writing.
    pub(super) fn forget_writable(&self, storage: u32) {
        let closed = lock(&self.files).take_if(|key| key.storage == storage && key.writable);
        drop(closed);
    }

    /// Forgets everything of a storage.
    pub(super) fn forget_storage(&self, storage: u32) {
        let closed = lock(&self.files).take_if(|key| key.storage == storage);
        let unmapped = lock(&self.maps).take_if(|key| key.storage == storage);
        drop((closed, unmapped));
    }
}

impl Map {
    /// Maps `len` bytes from `start`, which is a multiple of the page size.
    pub(super) fn new(file: &Arc<File>, start: u64, len: u64) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let raw = MmapOptions::new().offset(start).len(len).map_raw_read_only(&**file)?;
        sys::expect_random_reads(&raw);
        Ok(Map { raw, file: Arc::clone(file), start, is_hollow: AtomicBool::new(false) })
    }
}

/// Values with the time of their last use. Few enough that looking at all of them to find the oldest is cheap.
///
/// Whatever is removed is returned to the caller, who drops it outside the lock: closing and unmapping take time.
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

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        self.clock += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(value.clone())
    }

    /// Adds a value and takes out the oldest ones as long as there is too much, but never the last.
    fn insert(&mut self, key: K, value: V, is_too_much: impl Fn(&HashMap<K, (u64, V)>) -> bool) -> Vec<V> {
        self.clock += 1;
        let replaced = self.entries.insert(key, (self.clock, value));
        let mut gone: Vec<V> = replaced.into_iter().map(|(_, old)| old).collect();
        while self.entries.len() > 1 && is_too_much(&self.entries) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            gone.extend(oldest.and_then(|key| self.entries.remove(&key)).map(|(_, value)| value));
        }
        gone
    }

    fn take_if(&mut self, which: impl Fn(&K) -> bool) -> Vec<V> {
        self.entries.extract_if(|key, _| which(key)).map(|(_, (_, value))| value).collect()
    }
}
