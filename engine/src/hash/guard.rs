//! Reading mapped files that someone may truncate.
//!
//! A file that is cut short while it is mapped turns the pages past its new end into holes, and touching one
//! raises SIGBUS, which kills the process. [`read`] registers the range it is about to touch; the signal
//! handler puts zeros over a hole inside a registered range and remembers it, so that the reader carries on
//! and then learns that what it read was worthless (the way of systemd's `sigbus.c`). A fault anywhere else
//! goes to whoever handled SIGBUS before us.
//!
//! A cut inside the last page raises nothing and reads as zeros: callers compare lengths as well.

use memmap2::MmapRaw;
use std::ops::Range;

/// Why mapped bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The system had no bytes for part of the range: the file was truncated, or its disk failed. The map now
    /// has zeros there and must not be used any more.
    Hole,
    /// No guard can be had here and now: use `pread` instead.
    Unguarded,
}

/// Runs `f` on `range` of a map of a file.
///
/// # Panics
/// If the range is not inside the map.
#[cfg(target_os = "linux")]
pub(crate) fn read<T>(
    map: &MmapRaw,
    range: Range<usize>,
    f: impl FnOnce(&[u8]) -> T,
) -> Result<T, ReadError> {
    assert!(range.start <= range.end && range.end <= map.len(), "{range:?} of {}", map.len());
    let start = map.as_ptr() as usize;
    let slot = linux::Registered::new(start + range.start..start + range.end).ok_or(ReadError::Unguarded)?;
    // SAFETY: the range lies in a live read-only map, and the guard turns a missing page into zeros. Somebody
    // may write the file meanwhile; the bytes are only ever hashed, compared or copied, so that this changes
    // a result and nothing else.
    let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr().add(range.start), range.len()) };
    let value = f(bytes);
    if slot.faulted() { Err(ReadError::Hole) } else { Ok(value) }
}

/// A range of a map of a file that can be read for as long as this lives.
pub(crate) struct Held {
    map: MmapRaw,
    range: Range<usize>,
    #[cfg(target_os = "linux")]
    slot: linux::Registered,
}

impl Held {
    /// `None` if no guard can be had here and now: use `pread` instead.
    ///
    /// # Panics
    /// If the range is not inside the map.
    pub(crate) fn new(map: MmapRaw, range: Range<usize>) -> Option<Held> {
        assert!(range.start <= range.end && range.end <= map.len(), "{range:?} of {}", map.len());
        #[cfg(target_os = "linux")]
        {
            let start = map.as_ptr() as usize;
            let slot = linux::Registered::new(start + range.start..start + range.end)?;
            Some(Held { map, range, slot })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// The bytes; zeros from a hole on.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies in a live read-only map, and the guard turns a missing page into zeros. Somebody may write
        // the file meanwhile; the bytes are only ever hashed, so that this changes a result and nothing else.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.range.start), self.range.len()) }
    }

    /// Whether there was a hole: what has been read is worthless then.
    pub(crate) fn has_hole(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.slot.faulted();
        #[cfg(not(target_os = "linux"))]
        false
    }
}

/// Bytes of a map that somebody else keeps alive, which can be read for as long as this lives.
pub(crate) struct Watched(#[cfg(target_os = "linux")] linux::Registered);

impl Watched {
    /// `None` if no guard can be had here and now. Where there are no guards, none of the bytes may lie in maps of files.
    pub(crate) fn new(bytes: &[u8]) -> Option<Watched> {
        #[cfg(target_os = "linux")]
        {
            let start = bytes.as_ptr() as usize;
            linux::Registered::new(start..start + bytes.len()).map(Watched)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = bytes;
            Some(Watched())
        }
    }

    /// Whether there was a hole: what has been read is worthless then.
    pub(crate) fn has_hole(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.0.faulted();
        #[cfg(not(target_os = "linux"))]
        false
    }
}

/// Runs `f` on bytes that may lie in a map of a file, where all are in the same one.
#[cfg(target_os = "linux")]
pub(crate) fn read_bytes<T>(bytes: &[u8], f: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
    let start = bytes.as_ptr() as usize;
    let slot = linux::Registered::new(start..start + bytes.len()).ok_or(ReadError::Unguarded)?;
    let value = f(bytes);
    if slot.faulted() { Err(ReadError::Hole) } else { Ok(value) }
}

/// Runs `f` on bytes, none of which lie in maps of files where there is no guard.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_bytes<T>(bytes: &[u8], f: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
    Ok(f(bytes))
}

/// Runs `f` on `range` of a map of a file: never, where there is no guard.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read<T>(_: &MmapRaw, _: Range<usize>, _: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
    Err(ReadError::Unguarded)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ops::Range;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

    /// Ranges that can be read at once; beyond that, `pread` does.
    const SLOTS_MAX: usize = 256;

    /// A range that is being read. Written by the thread that took it, read by the handler without a lock:
    /// the handler only believes a range whose version is odd and did not change while it looked.
    struct Slot {
        taken: AtomicBool,
        version: AtomicUsize,
        start: AtomicUsize,
        end: AtomicUsize,
        faulted: AtomicBool,
    }

    static SLOTS: [Slot; SLOTS_MAX] = [const {
        Slot {
            taken: AtomicBool::new(false),
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
        }
    }; SLOTS_MAX];

    /// What was there before us, or `None` if our handler could not be installed.
    static PREVIOUS: OnceLock<Option<Previous>> = OnceLock::new();

    struct Previous {
        action: libc::sigaction,
        page_len: usize,
    }

    /// A range in which holes read as zeros, until this is dropped.
    pub(super) struct Registered(&'static Slot);

    impl Registered {
        /// `None` if every slot is taken or there is no handler.
        pub(super) fn new(range: Range<usize>) -> Option<Registered> {
            PREVIOUS.get_or_init(install).as_ref()?;
            let slot = SLOTS.iter().find(|s| !s.taken.swap(true, Ordering::Acquire))?;
            slot.start.store(range.start, Ordering::Relaxed);
            slot.end.store(range.end, Ordering::Relaxed);
            slot.faulted.store(false, Ordering::Relaxed);
            slot.version.fetch_add(1, Ordering::Release);
            Some(Registered(slot))
        }

        /// Whether there was a hole.
        pub(super) fn faulted(&self) -> bool {
            self.0.faulted.load(Ordering::Acquire)
        }
    }

    impl Drop for Registered {
        fn drop(&mut self) {
            self.0.version.fetch_add(1, Ordering::Release);
            self.0.taken.store(false, Ordering::Release);
        }
    }

    fn install() -> Option<Previous> {
        // SAFETY: plain system calls on a zeroed structure, which is a valid `sigaction`. The handler is safe
        // to run at any moment: see there. `PREVIOUS` is set only after this returns, which the handler
        // allows for.
        unsafe {
            let page_len = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).ok()?;
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, ptr::null(), &mut action) != 0 {
                return None;
            }
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_sigbus as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut ours.sa_mask);
            (libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) == 0)
                .then_some(Previous { action, page_len })
        }
    }

    /// Only touches atomics, `errno` and system calls.
    extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let previous = PREVIOUS.get().and_then(Option::as_ref);
        // SAFETY: the kernel hands the handler a valid `siginfo_t`, and a fault's has an address.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        if let Some(previous) = previous
            && code == libc::BUS_ADRERR
            && fill_hole(address, previous.page_len)
        {
            return;
        }
        let (handler, flags) =
            previous.map_or((libc::SIG_DFL, 0), |p| (p.action.sa_sigaction, p.action.sa_flags));
        // SAFETY: `handler` is what `sigaction` returned, with the signature that its flags tell. With the
        // default action restored, returning repeats the fault and ends the process as it would have without
        // us.
        unsafe {
            if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
                if code != libc::BUS_ADRERR {
                    libc::raise(signal);
                }
            } else if flags & libc::SA_SIGINFO != 0 {
                let f: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                f(signal, info, context);
            } else {
                let f: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                f(signal);
            }
        }
    }

    /// Puts zeros from the hole at `address` to the end of the registered range that it lies in.
    fn fill_hole(address: usize, page_len: usize) -> bool {
        let Some((slot, end)) = SLOTS.iter().find_map(|slot| {
            let version = slot.version.load(Ordering::Acquire);
            let (start, end) = (slot.start.load(Ordering::Relaxed), slot.end.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let is_stable = version % 2 == 1 && slot.version.load(Ordering::Relaxed) == version;
            (is_stable && (start..end).contains(&address)).then_some((slot, end))
        }) else {
            return false;
        };
        let page = address & !(page_len - 1);
        let len = end.next_multiple_of(page_len) - page;
        // SAFETY: the pages belong to the registered map, which the interrupted thread is reading and nobody
        // else writes; `errno` is put back for the code that was interrupted.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let filled = libc::mmap(page as *mut _, len, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED;
            *errno = saved;
            slot.faulted.store(true, Ordering::Release);
            filled
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use memmap2::MmapOptions;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const LEN: usize = 1 << 20;

    fn mapped_file() -> (File, MmapRaw) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; LEN]).unwrap();
        let map = MmapOptions::new().map_raw_read_only(&file).unwrap();
        (file, map)
    }

    fn sum(bytes: &[u8]) -> u64 {
        bytes.iter().map(|&b| u64::from(b)).sum()
    }

    #[test]
    fn whole_file_reads_and_a_truncated_one_is_an_error() {
        let (file, map) = mapped_file();
        assert_eq!(read(&map, 0..LEN, sum), Ok(7 * LEN as u64));
        file.set_len(LEN as u64 / 2).unwrap();
        assert_eq!(read(&map, 0..LEN / 2, sum), Ok(7 * LEN as u64 / 2));
        assert_eq!(read(&map, 0..LEN, sum), Err(ReadError::Hole));
    }

    #[test]
    fn threads_do_not_disturb_each_other() {
        std::thread::scope(|scope| {
            for i in 0..16 {
                scope.spawn(move || {
                    let (file, map) = mapped_file();
                    for _ in 0..20 {
                        assert_eq!(read(&map, 0..LEN, sum), Ok(7 * LEN as u64));
                    }
                    if i % 2 == 0 {
                        file.set_len(0).unwrap();
                        assert_eq!(read(&map, 0..LEN, sum), Err(ReadError::Hole));
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_held_reads_as_zeros_from_a_hole_on() {
        let (file, map) = mapped_file();
        let held = Held::new(map, 0..LEN).expect("a guard");
        assert_eq!((sum(held.bytes()), held.has_hole()), (7 * LEN as u64, false));
        file.set_len(LEN as u64 / 2).unwrap();
        assert_eq!((sum(held.bytes()), held.has_hole()), (7 * LEN as u64 / 2, true));
    }

    /// Not a test of its own: what the child process of the next one does.
    #[test]
    fn child_faults_outside_any_range() {
        if std::env::var_os("SWARM_GUARD_CHILD").is_none() {
            return;
        }
        let (file, map) = mapped_file();
        assert_eq!(read(&map, 0..LEN, sum), Ok(7 * LEN as u64));
        file.set_len(0).unwrap();
        // SAFETY: inside the map; the fault is the point.
        unsafe { map.as_ptr().read_volatile() };
        unreachable!("the fault must end the process");
    }

    #[test]
    fn a_fault_elsewhere_still_ends_the_process() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hash::guard::tests::child_faults_outside_any_range"])
            .env("SWARM_GUARD_CHILD", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(libc::SIGBUS));
    }
}
