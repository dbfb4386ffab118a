//! The one error type of the public API.

use std::net::SocketAddr;
use swarm_core::metainfo::MetainfoError;

/// Why something could not be done. One line that names the thing, what is wrong and, where there is
/// one, the mend.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The metainfo is not valid.
    #[error("{0}")]
    Metainfo(#[from] MetainfoError),
    /// Reading or writing the torrent's data failed.
    #[error("{0}")]
    Storage(#[from] std::sync::Arc<crate::storage::StorageError>),
    /// There is nothing to seed.
    #[error("{}: nothing here is right; check the folder, or run `swarm verify`", .path.display())]
    NothingToSeed {
        /// Where the torrent's file or folder should be.
        path: std::path::PathBuf,
    },
    /// No socket could be opened on this address.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// Something could not be fetched.
    #[error("{url}: {reason}")]
    Fetch {
        /// What was to be fetched.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The session has this torrent already.
    #[error("the torrent {0} is in this session already")]
    AlreadyAdded(swarm_core::id::InfoHash),
    /// A pointer to a torrent can be found over the DHT only.
    #[error("only the DHT knows where it points to, and the session takes no part in it")]
    NoDht,
    /// What the DHT keeps at the place of a pointer is none.
    #[error("what the DHT keeps there points to no torrent")]
    NotAPointer,
    /// The torrent or the session has been stopped.
    #[error("stopped")]
    Stopped,
    /// Something that should never happen did, and ended the torrent.
    #[error("a defect in the engine ended the torrent: {0}")]
    Defect(String),
    /// The system refused something.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        reason: String,
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
    /// The network or the system.
    Runtime,
}

impl Error {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Metainfo(_) => ErrorKind::Metainfo,
            Error::Storage(error)
                if error.is_no_space() || error.is_too_large() || error.is_permission_denied() =>
            {
                ErrorKind::Destination
            }
            Error::Storage(_) | Error::NothingToSeed { .. } => ErrorKind::Data,
            _ => ErrorKind::Runtime,
        }
    }
}
