//! Info dictionaries in a file instead of in memory.
//!
//! Most of a torrent's metainfo is hashes, which a torrent at rest has no use for. Here they lie in a file of the process's own, mapped, so
//! that the system reads them when they are asked for and takes their memory back when it is short. The file has no name: nobody can change
//! or cut it, and it is gone with the process. Where that cannot be had they stay in memory.

use std::io;
use std::path::Path;
use swarm_core::metainfo::Metainfo;

/// Where info dictionaries are kept that take more than a little memory. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct MetainfoSpool(#[cfg(target_os = "linux")] Option<std::sync::Arc<linux::Spool>>);

impl MetainfoSpool {
    /// A place in this folder, which must be there.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(dir: &Path) -> io::Result<MetainfoSpool> {
        #[cfg(target_os = "linux")]
        return Ok(MetainfoSpool(Some(std::sync::Arc::new(linux::Spool::new(dir)?))));
        #[cfg(not(target_os = "linux"))]
        {
            let _ = dir;
            Ok(MetainfoSpool())
        }
    }

    /// The same torrent, with its info dictionary here.
    pub fn keep(&self, metainfo: Metainfo) -> Metainfo {
        #[cfg(target_os = "linux")]
        if let Some(spool) = &self.0 {
            return metainfo.moved(|info| spool.keep(info));
        }
        metainfo
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use bytes::Bytes;
    use memmap2::{MmapOptions, MmapRaw};
    use rustix::fs::FallocateFlags;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::ops::Range;
    use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
    use std::path::Path;
    use std::sync::{Arc, Mutex, PoisonError};

    /// What is shorter stays in memory, in bytes.
    const LEN_MIN: usize = 4_096;
    /// Where the next one begins is a multiple of this: whole pages can be given back to the disk.
    const ALIGN: u64 = 4_096;
    /// How much of the file is mapped at a time, in bytes, so that there are few maps.
    const SEGMENT_LEN: usize = 32 << 20;

    #[derive(Debug)]
    pub(super) struct Spool {
        file: Arc<File>,
        tail: Mutex<Tail>,
    }

    /// Where the next info dictionary goes.
    #[derive(Debug, Default)]
    struct Tail {
        end: u64,
        segment: Option<Segment>,
    }

    /// A part of the file that is mapped.
    #[derive(Clone, Debug)]
    struct Segment {
        map: Arc<MmapRaw>,
        start: u64,
    }

    /// One info dictionary.
    struct Kept {
        file: Arc<File>,
        segment: Segment,
        range: Range<usize>,
    }

    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: the range lies in a live read-only map. It was written before this was made, and is never written again: the file
            // has no name by which anybody else could, and a place in it is used once.
            unsafe {
                std::slice::from_raw_parts(self.segment.map.as_ptr().add(self.range.start), self.range.len())
            }
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            let (start, len) = (self.segment.start + self.range.start as u64, self.range.len() as u64);
            // Not all file systems can; then the file keeps its length until the end.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(&*self.file, flags, start, len.next_multiple_of(ALIGN));
        }
    }

    impl Spool {
        pub(super) fn new(dir: &Path) -> io::Result<Spool> {
            let path = dir.join(format!(".spool-{}", std::process::id()));
            // One that was left by a crash between here and the next line.
            let _ = std::fs::remove_file(&path);
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(Spool { file: Arc::new(file), tail: Mutex::default() })
        }

        /// These bytes in the file; in memory if they are few, or the disk does not take them.
        pub(super) fn keep(&self, info: &[u8]) -> Bytes {
            if info.len() < LEN_MIN {
                return Bytes::copy_from_slice(info);
            }
            match self.put(info) {
                Ok(kept) => Bytes::from_owner(kept),
                Err(error) => {
                    tracing::debug!(%error, "an info dictionary stays in memory");
                    Bytes::copy_from_slice(info)
                }
            }
        }

        fn put(&self, info: &[u8]) -> io::Result<Kept> {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let at = tail.end;
            self.file.write_all_at(info, at)?;
            let end = at + info.len() as u64;
            let covers = |segment: &&Segment| end <= segment.start + segment.map.len() as u64;
            let segment = match tail.segment.as_ref().filter(covers) {
                Some(segment) => segment.clone(),
                None => {
                    let len = SEGMENT_LEN.max(info.len());
                    let map = MmapOptions::new().offset(at).len(len).map_raw_read_only(&*self.file)?;
                    Segment { map: Arc::new(map), start: at }
                }
            };
            tail.segment = Some(segment.clone());
            tail.end = end.next_multiple_of(ALIGN);
            let start = (at - segment.start) as usize;
            Ok(Kept { file: Arc::clone(&self.file), segment, range: start..start + info.len() })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::os::unix::fs::MetadataExt as _;

        fn sample(nth: usize, len: usize) -> Vec<u8> {
            (0..len).map(|at| (at * 7 + nth * 31) as u8).collect()
        }

        #[test]
        fn keeps_what_it_is_given_in_a_file_without_a_name_and_gives_its_space_back() {
            let dir = tempfile::tempdir().unwrap();
            let spool = Spool::new(dir.path()).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            // Beyond one segment, and one that is longer than a segment.
            let lens = [20_000, 1, 4_096, SEGMENT_LEN - 5_000, 30_000, SEGMENT_LEN + 1, 10_000, LEN_MIN - 1];
            let all: Vec<Vec<u8>> = lens.iter().enumerate().map(|(nth, &len)| sample(nth, len)).collect();
            let kept: Vec<Bytes> = all.iter().map(|bytes| spool.keep(bytes)).collect();
            assert!(all.iter().zip(&kept).all(|(bytes, kept)| bytes == kept));
            let blocks = || spool.file.metadata().unwrap().blocks() * 512;
            assert!(blocks() > 2 * SEGMENT_LEN as u64);
            let last = kept[6].slice(5_000..);
            drop(kept);
            assert_eq!(last, all[6][5_000..]);
            assert!(blocks() <= 64 << 10, "{} bytes", blocks());
        }

        #[test]
        fn what_the_disk_does_not_take_stays_in_memory() {
            let dir = tempfile::tempdir().unwrap();
            let mut spool = Spool::new(dir.path()).unwrap();
            std::fs::write(dir.path().join("a"), "").unwrap();
            spool.file = Arc::new(File::open(dir.path().join("a")).unwrap());
            assert_eq!(spool.keep(&sample(1, 20_000)), sample(1, 20_000));
        }
    }
}
