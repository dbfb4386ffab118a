//! Reading stretches of files for hashing: mapped and guarded where that pays, else with `pread`.

use super::handles::Map;
use super::sys;
use crate::hash::guard::{self, ReadError};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Below this length, mapping costs more than copying, in bytes.
pub(super) const MAP_LEN_MIN: u64 = 64 * 1024;

/// How much `pread` takes at a time, in bytes.
const CHUNK_LEN: usize = 64 * 1024;

/// Maps start at multiples of this, which is a multiple of every page size in use, in bytes.
pub(super) const MAP_ALIGN: u64 = 64 * 1024;

/// Padding.
pub(super) static ZEROS: [u8; CHUNK_LEN] = [0; CHUNK_LEN];

/// Why a stretch could not be read.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The file ends before it, or was cut short meanwhile.
    Short,
    Io(io::Error),
}

impl From<io::Error> for ScanError {
    fn from(e: io::Error) -> ScanError {
        ScanError::Io(e)
    }
}

/// Calls `each` with `len` bytes of a file from `offset` on, in order, in parts.
///
/// After an error, `each` may have seen some of the bytes, and zeros in the place of others.
pub(super) fn scan(
    file: &Arc<File>,
    offset: u64,
    len: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<(), ScanError> {
    if file.metadata()?.len() < offset + len {
        return Err(ScanError::Short);
    }
    if len >= MAP_LEN_MIN {
        let start = offset / MAP_ALIGN * MAP_ALIGN;
        if let Ok(map) = Map::new(file, start, offset + len - start) {
            match guard::read(&map.raw, (offset - start) as usize..map.raw.len(), &mut each) {
                Ok(()) => return Ok(()),
                Err(ReadError::Hole) if file.metadata()?.len() < offset + len => {
                    return Err(ScanError::Short);
                }
                Err(ReadError::Hole) => return Err(sys::unreadable().into()),
                Err(ReadError::Unguarded) => {}
            }
        }
    }
    let mut buf = vec![0; len.min(CHUNK_LEN as u64) as usize];
    for at in (0..len).step_by(CHUNK_LEN) {
        let chunk = &mut buf[..(len - at).min(CHUNK_LEN as u64) as usize];
        if sys::read_at(file, chunk, offset + at)? < chunk.len() {
            return Err(ScanError::Short);
        }
        each(chunk);
    }
    Ok(())
}

/// Calls `each` with `len` zeros.
pub(super) fn zeros(len: u64, mut each: impl FnMut(&[u8])) {
    for at in (0..len).step_by(CHUNK_LEN) {
        each(&ZEROS[..(len - at).min(CHUNK_LEN as u64) as usize]);
    }
}
