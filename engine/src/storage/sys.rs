//! What the system offers for files, with a plainer way where it offers less.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;

/// Most slices that one system call takes (Linux's `IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// By which it is noticed that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Length in bytes.
    pub(super) len: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub(super) mtime_ns: i64,
    /// The file's number in its file system; zero where there is none.
    pub(super) ino: u64,
}

impl Stamp {
    #[cfg(unix)]
    pub(super) fn of(meta: &Metadata) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        let mtime_ns = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
        Stamp { len: meta.len(), mtime_ns, ino: meta.ino() }
    }

    #[cfg(not(unix))]
    pub(super) fn of(meta: &Metadata) -> Stamp {
        let since = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Stamp { len: meta.len(), mtime_ns: since.map_or(0, |d| d.as_nanos() as i64), ino: 0 }
    }

    /// Of the file that a path leads to, links followed; `None` if there is none.
    pub(super) fn followed(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().filter(Metadata::is_file).map(|meta| Stamp::of(&meta))
    }

    // The fields' types differ between systems.
    #[cfg(unix)]
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Stamp {
        let mtime_ns =
            (stat.st_mtime as i64).wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec as i64);
        Stamp { len: stat.st_size as u64, mtime_ns, ino: stat.st_ino as u64 }
    }
}

/// How many names a file has.
pub(super) fn links(meta: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(meta);
    #[cfg(not(unix))]
    {
        let _ = meta;
        1
    }
}

/// Reads until `buf` is full or the file ends; gives the number of bytes.
pub(super) fn read_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<usize> {
    let wanted = buf.len();
    while !buf.is_empty() {
        match read_once_at(file, buf, offset) {
            Ok(0) => break,
            Ok(n) => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(wanted - buf.len())
}

/// Writes all of `bufs` one after the other, in as few calls as the system allows.
pub(super) fn write_all_at(file: &File, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        match write_once_at(file, &bufs[..bufs.len().min(SLICES_MAX)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                IoSlice::advance_slices(&mut bufs, n);
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes `to`, an empty file, share all the blocks of `from`, if their file system can do that.
pub(super) fn clone_file(from: &File, to: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::ioctl_ficlone(to, from)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// As [`copy_range`], within the system where that can be done: a file system may then share blocks, or copy on its server. What
/// cannot be read ends the copy, and is no error; so does it when `goes_on` no longer holds, which is asked again and again.
pub(super) fn copy_within(
    (from, from_at): (&File, u64),
    (to, to_at): (&File, u64),
    len: u64,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut done = 0;
    #[cfg(target_os = "linux")]
    while done < len {
        if !goes_on() {
            return Ok(());
        }
        let (mut from_now, mut to_now) = (from_at + done, to_at + done);
        let wanted = (len - done).min(COPY_LEN) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut from_now), to, Some(&mut to_now), wanted) {
            Ok(0) => return Ok(()),
            Ok(n) => done += n as u64,
            // Whatever it is, reading and writing tells it apart.
            Err(_) => break,
        }
    }
    let mut buf = vec![0; (len - done).min(1 << 20) as usize];
    while done < len && goes_on() {
        let wanted = buf.len().min((len - done) as usize);
        let Ok(read @ 1..) = read_at(from, &mut buf[..wanted], from_at + done) else { return Ok(()) };
        write_all_at(to, &mut [IoSlice::new(&buf[..read])], to_at + done)?;
        done += read as u64;
    }
    Ok(())
}

/// How much the system is asked to copy at a time, so that it does not take long to end.
#[cfg(target_os = "linux")]
const COPY_LEN: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// Copies a range from one file to another; where the first one ends, so does the copy.
pub(super) fn copy_range(from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> io::Result<()> {
    let mut buf = vec![0; len.min(1 << 20) as usize];
    let mut done = 0;
    while done < len {
        let wanted = buf.len().min((len - done) as usize);
        let read = read_at(from, &mut buf[..wanted], from_at + done)?;
        write_all_at(to, &mut [IoSlice::new(&buf[..read])], to_at + done)?;
        done += read as u64;
        if read < wanted {
            break;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_once_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_once_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(target_os = "linux")]
fn write_once_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, bufs, offset)?)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn write_once_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, &bufs[0], offset)
}

#[cfg(windows)]
fn write_once_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, &bufs[0], offset)
}

/// Whether so many bytes of a file have their disk space, and hold data.
pub(super) fn is_whole(file: &File, len: u64) -> bool {
    let is_long = |meta: Metadata| meta.len() >= len && allocated(&meta) >= len;
    file.metadata().is_ok_and(is_long) && find_hole(file, 0, len).is_none()
}

/// Gives a file `len` bytes of disk from `offset` on, keeping what is there. `keep_len` leaves the file's length.
/// Where the file system cannot promise space, the file grows with holes if the space is there right now.
pub(super) fn reserve(file: &File, offset: u64, len: u64, keep_len: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let flags = if keep_len { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
        loop {
            match fallocate(file, flags, offset, len) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                reserved => return Ok(reserved?),
            }
        }
    }
    if keep_len {
        return Ok(());
    }
    let meta = file.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let free = free_bytes(&rustix::fs::fstatvfs(file)?);
        if free < (offset + len).saturating_sub(meta.blocks() * 512) {
            return Err(io::ErrorKind::StorageFull.into());
        }
    }
    file.set_len(meta.len().max(offset + len))
}

/// A file system's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    /// All of them; zero if it does not say.
    pub(super) total: u64,
    /// What an ordinary user may still take.
    pub(super) free: u64,
}

/// How much the file system of `path` holds.
pub(super) fn volume(path: &Path) -> io::Result<Volume> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(path)?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        Ok(Volume { total, free: free_bytes(&stat) })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Bytes of disk that a file takes up, holes left out.
pub(super) fn allocated(meta: &Metadata) -> u64 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512);
    #[cfg(not(unix))]
    meta.len()
}

#[cfg(unix)]
fn free_bytes(stat: &rustix::fs::StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

/// Gives the disk space of a range back; it then reads as zeros. Where that cannot be done nothing happens.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        let _ = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// Gives back what was reserved of a file and never written. Only while nobody writes to it.
pub(super) fn release_reserved(file: &File) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SeekFrom, seek};
        let Ok(len) = file.metadata().map(|meta| meta.len()) else { return };
        let mut at = 0;
        while at < len {
            let Ok(hole) = seek(file, SeekFrom::Hole(at)) else { return };
            let end = seek(file, SeekFrom::Data(hole)).unwrap_or(len);
            if end > hole {
                punch_hole(file, hole, end - hole);
            }
            at = end.max(hole + 1);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// The first stretch at or behind an offset that may hold data: what lies before it and right behind it is known to be a hole or merely
/// reserved. Looking for where it ends takes as long as it has parts on the disk.
pub(super) fn next_data(file: &File, offset: u64) -> Range<u64> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(at) => at,
            Err(Errno::NXIO) => return u64::MAX..u64::MAX,
            // A file system that cannot tell.
            Err(_) => return offset..u64::MAX,
        };
        start..seek(file, SeekFrom::Hole(start)).unwrap_or(u64::MAX)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        offset..u64::MAX
    }
}

/// How much the system is asked to read ahead at a time: what every device takes in one go.
#[cfg(target_os = "linux")]
const READ_AHEAD_LEN: usize = 128 * 1024;

/// Keeps the system from reading ahead around what is read from a map: else one byte has 128 KiB read.
pub(super) fn expect_random_reads(map: &memmap2::MmapRaw) {
    #[cfg(target_os = "linux")]
    if let Err(error) = map.advise(memmap2::Advice::Random) {
        tracing::debug!(%error, "cannot advise that a map is read at random");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}

/// Whether the system has all of part of a map in memory already. To who may not write the file it may say so of anything.
pub(super) fn is_in_memory(map: &memmap2::MmapRaw, offset: usize, len: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        assert!(offset + len <= map.len(), "a range of the map");
        // SAFETY: `sysconf` only reads.
        let page_len = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
        let start = offset / page_len * page_len;
        let mut pages = vec![0_u8; (offset + len - start).div_ceil(page_len)];
        // SAFETY: the range lies in a live map, it starts at a page, and there is a byte for each of its pages.
        let looked = unsafe {
            libc::mincore(map.as_mut_ptr().add(start).cast(), offset + len - start, pages.as_mut_ptr())
        };
        looked == 0 && pages.iter().all(|page| page & 1 != 0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (map, offset, len);
        false
    }
}

/// Has the system forget what it holds in memory of part of a file, as far as nobody has it mapped and it is on the disk: then
/// what is read next is what the disk has. Of a page at an end all of it.
pub(super) fn forget_cached(file: &File, offset: u64, len: u64) {
    /// A multiple of every page size in use, in bytes.
    #[cfg(target_os = "linux")]
    const ALIGN: u64 = 64 << 10;
    #[cfg(target_os = "linux")]
    let (offset, len) =
        (offset / ALIGN * ALIGN, (offset + len).next_multiple_of(ALIGN) - offset / ALIGN * ALIGN);
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed)
    {
        tracing::debug!(%error, "cannot advise that a file is not needed");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// Asks the system to read part of a file ahead, in order.
pub(super) fn will_need(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(len), rustix::fs::Advice::WillNeed)
    {
        tracing::debug!(%error, "cannot advise that a file is read");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// The first byte from `offset` on, and before `end`, that lies in a hole or is merely reserved, where the file system
/// says so.
pub(super) fn find_hole(file: &File, offset: u64, end: u64) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SeekFrom, seek};
        seek(file, SeekFrom::Hole(offset)).ok().filter(|&at| at < end)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, offset, end);
        None
    }
}

/// Brings part of a map into memory. False where the system cannot; an error if the file is too short by now or its
/// disk fails.
pub(super) fn populate(map: &memmap2::MmapRaw, offset: usize, len: usize) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    for at in (0..len).step_by(READ_AHEAD_LEN) {
        // In long reads, before the pages are waited for one by one. If this fails, so does that.
        let _ = map.advise_range(memmap2::Advice::WillNeed, offset + at, READ_AHEAD_LEN.min(len - at));
    }
    #[cfg(target_os = "linux")]
    match map.advise_range(memmap2::Advice::PopulateRead, offset, len) {
        Ok(()) => Ok(true),
        // Before Linux 5.14.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(e) => Err(e),
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (map, offset, len);
        Ok(false)
    }
}

/// Makes everything written to the file system of `dir` durable. `Unsupported` where there is no such call.
pub(super) fn sync_file_system(dir: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(File::open(dir)?)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Takes the lock that the system frees when the process ends. False if another process has it. On file systems without locks
/// it always succeeds.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, flock};
        use rustix::io::Errno;
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(true)
    }
}

/// Frees the lock, also where others have the file open by the same opening.
pub(super) fn unlock(file: &File) {
    #[cfg(unix)]
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
    #[cfg(not(unix))]
    let _ = file;
}

/// Makes a file executable for those who may read it.
pub(super) fn make_executable(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let mode = file.metadata()?.mode();
        file.set_permissions(std::fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// What differs after each start of the machine, where that can be known. Equal values mean that no power was
/// lost in between.
pub(super) fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Whether the system gave one of these error codes of Unix.
pub(super) fn has_code(e: &io::Error, codes: &[i32]) -> bool {
    cfg!(unix) && e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// What a system says whose disk does not give what it holds.
pub(super) fn unreadable() -> io::Error {
    if cfg!(unix) {
        io::Error::from_raw_os_error(libc::EIO)
    } else {
        io::Error::other("the disk could not be read")
    }
}

/// Whether this is [`unreadable`].
pub(super) fn is_unreadable(e: &io::Error) -> bool {
    has_code(e, &[libc::EIO])
}

/// Whether the process or the system has no more file descriptors.
pub(super) fn is_too_many_files(e: &io::Error) -> bool {
    has_code(e, &[libc::EMFILE, libc::ENFILE])
}

/// Whether an error of a disk or its file system may pass by itself, or be repaired meanwhile.
pub(super) fn may_pass(e: &io::Error) -> bool {
    use io::ErrorKind as E;
    let of_a_network =
        [E::HostUnreachable, E::NetworkDown, E::NetworkUnreachable, E::NotConnected, E::TimedOut];
    let of_the_file = [E::NotFound, E::PermissionDenied, E::ReadOnlyFilesystem, E::StaleNetworkFileHandle];
    let of_the_system = [E::OutOfMemory, E::ResourceBusy, E::WouldBlock];
    [&of_a_network[..], &of_the_file, &of_the_system].concat().contains(&e.kind())
        || is_too_many_files(e)
        || has_code(e, &[libc::EIO, libc::ENODEV, libc::ENXIO])
}
