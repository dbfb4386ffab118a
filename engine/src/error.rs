//! The errors of the public API.

use crate::id::TorrentId;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::id::InfoHash;
use swarm_core::metainfo::MetainfoError;

/// Why something could not be done. One line that names the thing, what is wrong and, where there is
/// one, the mend.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metainfo is not valid.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
    /// Reading or writing the torrent's data failed.
    #[error(transparent)]
    Storage(#[from] Arc<crate::storage::StorageError>),
    /// There is nothing to seed.
    #[error("{}: nothing here is right; check the folder, or run `swarm verify`", .path.display())]
    NothingToSeed {
        /// Where the torrent's file or folder should be.
        path: std::path::PathBuf,
    },
    /// No socket could be opened on this address.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file could not be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Something could not be fetched.
    #[error("{url}")]
    Fetch {
        /// What was to be fetched.
        url: String,
        /// Why not.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A URL leads to an address of this machine or network, where [`fetch_public`](crate::fetch_public) asks for nothing.
    #[error("{url}: {ip} is an address of this machine or network")]
    LocalAddress {
        /// What was to be fetched.
        url: String,
        /// The address.
        ip: std::net::IpAddr,
    },
    /// A file is no IP filter.
    #[error("{}: {source}", .file.display())]
    IpFilter {
        /// The file.
        file: std::path::PathBuf,
        /// Why not.
        source: Arc<crate::ip_filter::IpFilterError>,
    },
    /// The session has this torrent already.
    #[error("the torrent {info_hash} is in this session already")]
    AlreadyAdded {
        /// Its info-hash.
        info_hash: InfoHash,
        /// Its number in the session.
        id: TorrentId,
    },
    /// A mutable torrent can be resolved over the DHT only.
    #[error("only the DHT knows what a mutable torrent is, and the session takes no part in it")]
    NoDht,
    /// What the DHT keeps under a key is no mutable torrent (BEP 46).
    #[error("what the DHT keeps there is no mutable torrent")]
    NotMutable,
    /// An option makes no sense.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// It takes the torrent's metadata, which is not here yet: wait for [`metadata`](crate::TorrentHandle::metadata).
    #[error("the torrent's metadata is not here yet")]
    NoMetadata,
    /// The torrent or the session has been stopped.
    #[error("stopped")]
    Stopped,
    /// Something that should never happen did, and ended the torrent.
    #[error("a defect in the engine ended the torrent: {0}")]
    Defect(String),
    /// The system refused something.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// This process may use too little address space for a session.
    #[error(
        "this process may use {has_mib} MiB of address space (ulimit -v): at least {needed_mib} MiB are needed"
    )]
    AddressSpace {
        /// How much it may use, in MiB.
        has_mib: u64,
        /// How much it takes, in MiB.
        needed_mib: u64,
    },
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was given is not a valid torrent.
    Metainfo,
    /// The data on disk is in the way, damaged, or changed underneath.
    Data,
    /// No space, or no permission, at the destination.
    Destination,
    /// The call makes no sense, or not now: an option, a torrent that the session has already, a link without a DHT to ask, a file of
    /// a torrent without metadata.
    Usage,
    /// The network or the system; and a torrent that has been stopped.
    Runtime,
}

impl From<crate::storage::StorageError> for Error {
    fn from(error: crate::storage::StorageError) -> Error {
        Error::Storage(Arc::new(error))
    }
}

impl Error {
    pub(crate) fn system(what: &'static str, source: io::Error) -> Error {
        Error::System { what, source: Arc::new(source) }
    }

    /// A worker's job ended without a result.
    pub(crate) fn panicked() -> Error {
        Error::Defect("a disk job panicked".to_owned())
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Metainfo(_) => ErrorKind::Metainfo,
            Error::Storage(error) if error.is_contradiction() => ErrorKind::Metainfo,
            Error::Storage(error)
                if error.is_no_space() || error.is_too_large() || error.is_permission_denied() =>
            {
                ErrorKind::Destination
            }
            Error::Storage(_) | Error::NothingToSeed { .. } => ErrorKind::Data,
            Error::Option(_) | Error::AlreadyAdded { .. } | Error::NoDht | Error::NoMetadata => {
                ErrorKind::Usage
            }
            _ => ErrorKind::Runtime,
        }
    }
}

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// Something that must not be zero is.
    #[error("{option} is 0")]
    Zero {
        /// Which.
        option: &'static str,
    },
    /// Neither TCP nor uTP is left: uTP does not go through a proxy.
    #[error("without TCP and uTP, which goes through SOCKS5 proxies only, there is no way to a peer")]
    NoTransport,
    /// The torrent has no such file.
    #[error("there is no file {index}: the torrent has {files}, numbered from 0")]
    NoSuchFile {
        /// The index given.
        index: u32,
        /// How many files there are.
        files: usize,
    },
    /// Files cannot have these names.
    #[error(transparent)]
    Layout(#[from] swarm_core::metainfo::LayoutError),
    /// The torrent has no files, or not any of its own: its data is kept elsewhere.
    #[error("the torrent's data is not in files")]
    NoFiles,
    /// Priorities were given for more or for fewer files than there are.
    #[error("{given} priorities for {files} files")]
    FileCount {
        /// How many were given.
        given: usize,
        /// How many files there are.
        files: usize,
    },
    /// Storage that takes whole pieces only needs memory for two.
    #[error("buffer_bytes is {buffer_len}, and this storage needs room for two pieces of {piece_len} bytes")]
    BufferTooSmall {
        /// The length of a piece.
        piece_len: u32,
        /// The memory that there is for received blocks.
        buffer_len: usize,
    },
}
