//! What can go wrong with files, each as one line that names the file and, where there is one, the remedy.

use super::sys;
use std::io;
use std::path::{Path, PathBuf};
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::Info;

/// Why something could not be read or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process, or another torrent of this one, downloads to the same place.
    #[error("{}: another swarm process{} is downloading to it", .path.display(), in_parens(*.pid))]
    Locked {
        /// The destination.
        path: PathBuf,
        /// The other process, where known.
        pid: Option<u32>,
    },
    /// A file that is not this torrent's is in the way.
    #[error(
        "{}: is already there with other content; move it away, choose another destination, or allow overwriting",
        .path.display()
    )]
    ForeignData {
        /// The file.
        path: PathBuf,
    },
    /// Something that is neither a file nor a folder, such as a symbolic link, is where the torrent needs one.
    #[error("{}: is not {wanted}; move it away or choose another destination", .path.display())]
    WrongKind {
        /// What is in the way.
        path: PathBuf,
        /// What is needed: "a regular file" or "a folder".
        wanted: &'static str,
    },
    /// The unfinished download of another torrent is where this one's would be.
    #[error(
        "{}: holds the unfinished download of another torrent of that name; finish that one, remove the folder, \
         or choose another destination",
        .path.display()
    )]
    OtherTorrent {
        /// The work folder.
        path: PathBuf,
    },
    /// A path of the torrent would leave the destination.
    #[error("the torrent's path {path:?} is not a safe one below the destination")]
    UnsafePath {
        /// The path as the torrent has it.
        path: String,
    },
    /// The file system takes names of the torrent neither as they are nor changed by the rules for that.
    #[error(
        "{}: the file system takes no file called {}; choose another destination",
        .path.display(),
        quoted(.names)
    )]
    Names {
        /// The destination.
        path: PathBuf,
        /// Some of the names.
        names: Vec<String>,
    },
    /// The disk or the quota is full.
    #[error("{}: no space left on the disk{}", .path.display(), more(*.needed))]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
        /// Bytes that were about to be reserved or written; zero if that is not known.
        needed: u64,
    },
    /// The volume could not hold what is still needed even if nothing else were on it.
    #[error(
        "{}: {needed} bytes are still needed, and the volume has {total} in all; choose another destination, \
         or fewer files",
        .path.display()
    )]
    TooLarge {
        /// The torrent's file or folder.
        path: PathBuf,
        /// Bytes that are still to be stored.
        needed: u64,
        /// Bytes of the volume, free or not.
        total: u64,
    },
    /// A file is shorter than the torrent says, or was cut short while it was in use.
    #[error("{}: the file was truncated to {len} of {expected} bytes", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The length in bytes that it ought to have.
        expected: u64,
    },
    /// The folder with what is unfinished was removed, moved or unmounted while it was in use.
    #[error(
        "{}: was moved or removed while the download used it; put it back, or stop and start the download again",
        .path.display()
    )]
    Gone {
        /// The work folder.
        path: PathBuf,
    },
    /// A file would be longer than the file system, or a limit of this process, allows.
    #[error(
        "{}: a file of this length is more than the file system, or this process's limit (ulimit -f), allows",
        .path.display()
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file was changed by somebody else while it was in use: what it holds is in doubt.
    #[error("{}: was changed by another program", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The torrent is a hybrid whose two hashes of a piece belong to different data.
    #[error(
        "{}: the torrent contradicts itself: its hashes of version 1 and of version 2 for piece {piece} belong to different data; get a right \
         metainfo file from whoever made it",
        .path.display()
    )]
    HashesContradict {
        /// The file.
        path: PathBuf,
        /// The piece.
        piece: PieceIndex,
    },
    /// The storage was closed, or its download is finished.
    #[error("{}: is closed, and nothing more can be written", .path.display())]
    Closed {
        /// The destination.
        path: PathBuf,
    },
    /// Anything else that the system says.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, such as "write".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn in_parens(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

fn more(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(": {bytes} bytes more are needed") }
}

impl StorageError {
    /// An error of the system. A file that may not grow so far is [`FileTooLarge`](Self::FileTooLarge).
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> StorageError {
        if source.kind() == io::ErrorKind::FileTooLarge {
            return StorageError::FileTooLarge { path: path.to_owned() };
        }
        StorageError::Io { path: path.to_owned(), action, source }
    }

    /// The same for an operation that needs `needed` bytes of space: a full disk or quota is [`NoSpace`](Self::NoSpace).
    pub(crate) fn space(path: &Path, action: &'static str, needed: u64, source: io::Error) -> StorageError {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            StorageError::NoSpace { path: path.to_owned(), needed }
        } else {
            StorageError::io(path, action, source)
        }
    }

    /// This piece of a hybrid contradicts itself.
    pub(crate) fn contradiction(info: &Info, piece: PieceIndex) -> StorageError {
        let file =
            info.segments(piece).next().map(|segment| info.files[segment.file.idx()].path.iter().collect());
        StorageError::HashesContradict { path: file.unwrap_or_default(), piece }
    }

    /// Whether the torrent contradicts itself.
    pub fn is_contradiction(&self) -> bool {
        matches!(self, StorageError::HashesContradict { .. })
    }

    /// Something that should be there is not.
    pub(super) fn not_found(path: &Path, action: &'static str) -> StorageError {
        StorageError::io(path, action, io::ErrorKind::NotFound.into())
    }

    pub(super) fn has_kind(&self, kind: io::ErrorKind) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == kind)
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.has_kind(io::ErrorKind::NotFound)
    }

    /// Whether the torrent may go on by itself once there is space.
    pub fn is_no_space(&self) -> bool {
        matches!(self, StorageError::NoSpace { .. })
    }

    /// Whether the destination cannot hold the data, however long it is waited for.
    pub fn is_too_large(&self) -> bool {
        matches!(self, StorageError::TooLarge { .. } | StorageError::FileTooLarge { .. })
    }

    /// Whether the process or the system has no more file descriptors.
    pub fn is_too_many_files(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if sys::is_too_many_files(source))
    }

    /// Whether a torrent that runs waits and tries again, since this may pass or be repaired: a full disk, an I/O error,
    /// lost permission, a folder or volume that has gone.
    pub fn may_pass(&self) -> bool {
        match self {
            StorageError::NoSpace { .. } | StorageError::Gone { .. } => true,
            StorageError::Io { source, .. } => sys::may_pass(source),
            _ => false,
        }
    }

    /// Whether the disk does not give what it holds.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, StorageError::Io { action: "read", source, .. } if sys::is_unreadable(source))
    }

    /// Whether permission is what is missing.
    pub fn is_permission_denied(&self) -> bool {
        let denied = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        matches!(self, StorageError::Io { source, .. } if denied.contains(&source.kind()))
    }
}
