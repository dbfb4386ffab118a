//! The files of IP filters: text of all formats of [`swarm_core::ip_filter`], PeerGuardian's binary `.p2b`, and either of them in
//! gzip. What a file holds is told by its bytes, not by its name.

use flate2::bufread::MultiGzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use swarm_core::ip_filter::{BadLine, FilterReader, IpFilter, IpRange, RANGES_MAX};

/// Bytes of a line that are looked at. A longer one says nothing.
const LINE_LEN_MAX: usize = 4_096;
/// Bytes of a file, after decompression.
const FILE_LEN_MAX: u64 = 1 << 30;
const GZIP: &[u8] = &[0x1f, 0x8b];
const P2B: &[u8] = b"\xff\xff\xff\xffP2B";

/// Where a session's IP filter comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum IpFilterSource {
    /// A file, which is read again when it changes. Lines of CIDR, eMule `.dat` and PeerGuardian `.p2p`, mixed as one likes, or
    /// `.p2b`; also in gzip.
    File(PathBuf),
    /// These ranges.
    Ranges(Arc<IpFilter>),
}

impl From<PathBuf> for IpFilterSource {
    fn from(file: PathBuf) -> IpFilterSource {
        IpFilterSource::File(file)
    }
}

impl From<&Path> for IpFilterSource {
    fn from(file: &Path) -> IpFilterSource {
        IpFilterSource::File(file.to_owned())
    }
}

impl From<IpFilter> for IpFilterSource {
    fn from(filter: IpFilter) -> IpFilterSource {
        IpFilterSource::Ranges(Arc::new(filter))
    }
}

/// Why a file is no filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpFilterError {
    /// The system cannot read it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// None of its lines says anything.
    #[error("no line of it is one of an IP filter; {0}")]
    NoFilter(BadLine),
    /// It is an archive or a text that cannot be read.
    #[error("is {what}; {mend}")]
    Format {
        /// What it is.
        what: &'static str,
        /// What to do about it.
        mend: &'static str,
    },
    /// It has more ranges than are kept.
    #[error("has more than {RANGES_MAX} ranges")]
    TooManyRanges,
    /// It is longer than any such file.
    #[error("has more than {} MiB", FILE_LEN_MAX >> 20)]
    TooLong,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Stamp { len: metadata.len(), modified: metadata.modified().ok(), inode }
    }

    /// Of the file that is there now.
    pub(crate) fn now(file: &Path) -> io::Result<Stamp> {
        Ok(Stamp::of(&std::fs::metadata(file)?))
    }
}

/// A filter as it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) filter: Arc<IpFilter>,
    /// The first bad lines.
    pub(crate) bad: Vec<BadLine>,
    /// How many there are in all.
    pub(crate) bad_lines: u64,
    /// Of the file that it was read from, as it was before.
    pub(crate) stamp: Option<Stamp>,
}

/// Reads a filter. Takes about 100 ms for half a million lines.
pub(crate) fn load(source: &IpFilterSource) -> Result<Loaded, IpFilterError> {
    match source {
        IpFilterSource::Ranges(filter) => {
            Ok(Loaded { filter: Arc::clone(filter), bad: Vec::new(), bad_lines: 0, stamp: None })
        }
        IpFilterSource::File(file) => load_file(file),
    }
}

fn load_file(path: &Path) -> Result<Loaded, IpFilterError> {
    let file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut file = BufReader::with_capacity(1 << 16, file);
    let reader = if file.fill_buf()?.starts_with(GZIP) {
        read(&mut BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file)).take(FILE_LEN_MAX + 1))?
    } else {
        read(&mut file.take(FILE_LEN_MAX + 1))?
    };
    if reader.is_full() {
        return Err(IpFilterError::TooManyRanges);
    }
    let (filter, bad, bad_lines) = reader.finish();
    match bad.first() {
        Some(first) if filter.is_empty() => Err(IpFilterError::NoFilter(*first)),
        _ => Ok(Loaded { filter: Arc::new(filter), bad, bad_lines, stamp: Some(stamp) }),
    }
}

/// The filter that a file of these bytes is, without gzip; for fuzz targets.
#[cfg(feature = "__hooks")]
pub fn read_bytes(bytes: &[u8]) -> Option<IpFilter> {
    Some(read(&mut bytes.take(FILE_LEN_MAX + 1)).ok()?.finish().0)
}

fn read<R: BufRead>(input: &mut io::Take<R>) -> Result<FilterReader, IpFilterError> {
    let start = input.fill_buf()?;
    let format = |what, mend| Err(IpFilterError::Format { what, mend });
    match start {
        _ if start.starts_with(b"PK\x03\x04") => return format("a zip archive", "unpack it first"),
        _ if start.starts_with(b"7z\xbc\xaf") => return format("a 7z archive", "unpack it first"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return format("text in UTF-16", "save it in UTF-8"),
        _ => {}
    }
    let mut reader = FilterReader::default();
    if start.starts_with(P2B) {
        read_p2b(input, &mut reader)?;
    } else {
        let mut line = Vec::new();
        while let Some(is_whole) = read_until(input, b'\n', &mut line)? {
            if is_whole {
                reader.handle_line(&line)
            } else {
                reader.handle_long_line()
            }
            if reader.is_full() {
                break;
            }
        }
    }
    if input.limit() == 0 { Err(IpFilterError::TooLong) } else { Ok(reader) }
}

/// Reads up to an end mark, which is left out, and keeps at most [`LINE_LEN_MAX`] bytes of it. Whether that is all; `None` at the end.
fn read_until(input: &mut impl BufRead, end: u8, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut is_whole, mut is_there) = (true, false);
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(is_there.then_some(is_whole));
        }
        is_there = true;
        let at = bytes.iter().position(|byte| *byte == end);
        let part = &bytes[..at.unwrap_or(bytes.len())];
        is_whole &= line.len() + part.len() <= LINE_LEN_MAX;
        if is_whole {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(at.is_some());
        input.consume(used);
        if at.is_some() {
            return Ok(Some(is_whole));
        }
    }
}

/// PeerGuardian's binary lists: versions 1 and 2 have a name before each range, version 3 has all names first.
fn read_p2b(input: &mut impl BufRead, reader: &mut FilterReader) -> Result<(), IpFilterError> {
    let mut head = [0; P2B.len() + 1];
    input.read_exact(&mut head)?;
    let mut name = Vec::new();
    match head[P2B.len()] {
        1 | 2 => {
            while read_until(input, 0, &mut name)?.is_some() && !reader.is_full() {
                reader.add(read_range(input)?);
            }
        }
        3 => {
            for _ in 0..read_u32(input)? {
                read_until(input, 0, &mut name)?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
            }
            for _ in 0..read_u32(input)? {
                let _name = read_u32(input)?;
                reader.add(read_range(input)?);
                if reader.is_full() {
                    break;
                }
            }
        }
        _ => {
            let (what, mend) = ("a .p2b of an unknown version", "convert it to .p2p");
            return Err(IpFilterError::Format { what, mend });
        }
    }
    Ok(())
}

fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_range(input: &mut impl Read) -> Result<IpRange, IpFilterError> {
    let (first, last) = (read_u32(input)?, read_u32(input)?);
    let of = |bits| Ipv4Addr::from_bits(bits).into();
    let (what, mend) = ("a .p2b with a range that ends before it begins", "get it again");
    IpRange::new(of(first), of(last)).map_err(|_| IpFilterError::Format { what, mend })
}

/// What to do about the file of a filter, by what was seen of it. It is read only after it has been the same for two looks: until
/// then somebody may be writing it.
#[derive(Debug)]
pub(crate) struct Watch {
    loaded: Option<Stamp>,
    seen: Option<Stamp>,
    has_failed: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    Rest,
    /// Read it.
    Read,
    /// Say that it cannot be looked at. The old filter stays.
    Gone,
}

impl Watch {
    /// A filter was read from a file of this stamp.
    pub(crate) fn new(loaded: Option<Stamp>) -> Watch {
        Watch { loaded, seen: None, has_failed: false }
    }

    /// The file is this now, or not there.
    pub(crate) fn handle_look(&mut self, now: Option<Stamp>) -> Look {
        let seen = std::mem::replace(&mut self.seen, now);
        match now {
            None if self.has_failed => Look::Rest,
            None => {
                self.has_failed = true;
                self.loaded = None;
                Look::Gone
            }
            Some(_) if now == self.loaded || now != seen => Look::Rest,
            Some(_) => {
                // Read once, whatever comes of it.
                self.loaded = now;
                self.has_failed = false;
                Look::Read
            }
        }
    }
}

#[cfg(test)]
mod tests;
