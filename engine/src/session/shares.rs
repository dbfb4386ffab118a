//! What the process may use, and how the session divides it: descriptors among sockets and files, address space.
//!
//! A process often may have 1,024 descriptors, and sometimes 64. Strangers' connections must never take those that files
//! need, so each has its share, and some are spared for what comes and goes: folders on a path, trackers, the session's own
//! sockets. The limit is raised first, as far as the system lets us and there is use for it.

use super::options::SessionOptions;
use crate::Error;
use crate::storage::HandleLimits;

/// How many accepted connections may be without a handshake at a time. Beyond, the oldest of the largest crowd is evicted.
pub(super) const UNFINISHED_MAX: usize = 256;

/// Descriptors for everything but peers and the torrents' files, where there are enough.
const SPARE: usize = 128;

/// With fewer descriptors for files than this, none is mapped.
const MAPPED_FROM: usize = 96;

/// A session needs this much address space, and [`THREAD_SPACE`] for each of its threads, in bytes.
const SPACE_MIN: u64 = 192 << 20;
/// Address space of a thread: its stack, and what the allocator sets aside for it.
const THREAD_SPACE: u64 = 16 << 20;

/// What each part of a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Descriptors of the process, if they are limited.
    pub(crate) descriptors: Option<usize>,
    /// Sockets to peers, dialled and accepted.
    pub(crate) sockets: usize,
    /// Of these, sockets that peers have dialled: they leave some for those that we dial.
    pub(crate) incoming: usize,
    /// Open files and maps.
    pub(crate) files: HandleLimits,
}

impl Shares {
    /// Raises the limits of this process as far as useful, and divides what there is.
    ///
    /// # Errors
    /// [`Error::AddressSpace`] if a session cannot work within them.
    pub(super) fn of_process(options: &SessionOptions, threads: usize) -> Result<Shares, Error> {
        Shares::divide(options, threads, raise_descriptors(descriptors_wanted(options)), address_space())
    }

    /// Divides so many descriptors and so much address space; `None` is without limit.
    fn divide(
        options: &SessionOptions,
        threads: usize,
        descriptors: Option<usize>,
        address_space: Option<u64>,
    ) -> Result<Shares, Error> {
        let mut files = HandleLimits::default();
        if let Some(space) = address_space {
            let needed = SPACE_MIN + THREAD_SPACE * threads as u64 + options.buffer_bytes as u64;
            if space < needed {
                let (has_mib, needed_mib) = (space >> 20, needed.div_ceil(1 << 20));
                return Err(Error::AddressSpace { has_mib, needed_mib });
            }
            files.mapped_bytes = files.mapped_bytes.min((space - needed) / 2);
        }
        let wanted = sockets_wanted(options);
        let Some(limit) = descriptors.filter(|&limit| limit < descriptors_wanted(options)) else {
            return Ok(Shares { descriptors, sockets: wanted, incoming: wanted, files });
        };
        let spare = (limit / 2).min(SPARE);
        let for_files = (limit - spare) / 3;
        let sockets = (limit - spare - for_files).min(wanted);
        // A map keeps its file open, and so does whoever still sends from it: where there are few, files are read instead.
        files.maps = if for_files < MAPPED_FROM { 0 } else { files.maps.min(for_files - for_files / 3) };
        files.open_files = files.open_files.min(for_files - files.maps).max(1);
        Ok(Shares { descriptors, sockets, incoming: sockets * 3 / 4, files })
    }
}

fn sockets_wanted(options: &SessionOptions) -> usize {
    options.peers_max + options.half_open_max + UNFINISHED_MAX
}

fn descriptors_wanted(options: &SessionOptions) -> usize {
    let files = HandleLimits::default();
    sockets_wanted(options) + files.open_files + files.maps + SPARE
}

/// Raises the limit of descriptors to so many, if it is lower and that is allowed. What it is then.
#[cfg(unix)]
fn raise_descriptors(wanted: usize) -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(wanted as u64);
    if limit.current.is_some_and(|current| current < most)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).is_ok()
    {
        limit.current = Some(most);
    }
    limit.current.map(|current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn raise_descriptors(_: usize) -> Option<usize> {
    None
}

#[cfg(target_os = "linux")]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divide(descriptors: Option<usize>) -> Shares {
        Shares::divide(&SessionOptions::default(), 2, descriptors, None).unwrap()
    }

    #[test]
    fn with_enough_nobody_is_short() {
        let all = divide(None);
        assert_eq!(all.files, HandleLimits::default());
        assert_eq!(all.sockets, sockets_wanted(&SessionOptions::default()));
        assert_eq!(divide(Some(65_536)), Shares { descriptors: Some(65_536), ..all });
    }

    #[test]
    fn files_and_dialling_have_their_share_of_few_descriptors() {
        for limit in 16..2_000 {
            let shares = divide(Some(limit));
            let files = shares.files.open_files + shares.files.maps;
            let spare = limit.checked_sub(shares.sockets + files).expect("no more is shared than there is");
            assert!(spare >= (limit / 2).min(SPARE) - 1, "{shares:?}");
            assert!(files * 6 >= limit.min(768) - 10, "{shares:?}");
            assert!(shares.incoming < shares.sockets || limit >= 1_300, "{shares:?}");
        }
    }

    #[test]
    fn too_little_address_space_is_refused_in_one_line() {
        let options = SessionOptions::default();
        let error = Shares::divide(&options, 2, None, Some(150 << 20)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process may use 150 MiB of address space (ulimit -v): at least 256 MiB are needed"
        );
        let little = Shares::divide(&options, 2, None, Some(300 << 20)).unwrap();
        assert!(little.files.mapped_bytes <= 22 << 20, "{little:?}");
    }
}
