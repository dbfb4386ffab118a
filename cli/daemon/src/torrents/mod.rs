//! Torrents as the daemon keeps them: records, and what follows from them. No I/O here; time comes as an argument.
//!
//! [`record`] is what is kept of a torrent, [`edit`] what users change of it, [`labels`] what several have in common, [`queue`] says who
//! has a turn, [`goals`] when enough was seeded, [`schedule`] when other limits hold, [`paths`] who may write where, [`addresses`] which
//! trackers and web seeds there are. [`book`] holds all torrents and works out what a command would change: a [`Change`], which is
//! written first and applied then.

pub mod addresses;
pub mod book;
pub mod edit;
pub mod goals;
pub mod labels;
pub mod paths;
pub mod queue;
pub mod record;
pub mod schedule;

pub use addresses::TrackerEdit;
pub use book::{Book, Change, New};
pub use edit::{Edit, Place};
pub use goals::Goal;
pub use labels::{Category, CategoryEdit, Labels, LabelsEdit, SharedLimits};
pub use record::{Id, Moving, Options, Progress, Record, Totals};

use std::path::PathBuf;

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such torrent.
    #[error("there is no torrent {0}")]
    NoSuchTorrent(String),
    /// It is here already.
    #[error("the torrent is here already: {name} ({id})")]
    AlreadyAdded {
        /// Its number.
        id: Id,
        /// Its name.
        name: String,
    },
    /// Another torrent writes there.
    #[error("{}: {name} ({id}) writes there; add it to another folder, or as a seed", .path.display())]
    PathTaken {
        /// The path that both would write to.
        path: PathBuf,
        /// The torrent that was first.
        id: Id,
        /// Its name.
        name: String,
    },
    /// The folder is none of those that may be used.
    #[error("{}: is not below a folder that may be used; the configuration names them (dir, allow-dir)", .0.display())]
    Folder(PathBuf),
    /// It is larger than the file system that it is to go to.
    #[error("{}: cannot hold {needed} bytes: its file system has {size}", .dir.display())]
    TooLarge {
        /// The folder.
        dir: PathBuf,
        /// What the torrent takes, in bytes.
        needed: u64,
        /// What the file system has, in bytes.
        size: u64,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such category.
    #[error("there is no category {0}")]
    NoSuchCategory(String),
    /// There is one of that name.
    #[error("there is a category {0} already")]
    CategoryExists(String),
    /// It takes the torrent's metadata, which is not here yet.
    #[error("it is not known yet which files the torrent has")]
    NoMetadata,
    /// The torrent's files are being moved.
    #[error("the torrent's files are being moved")]
    Moving,
    /// The torrent is being removed.
    #[error("the torrent is being removed")]
    Removing,
    /// There are as many torrents as may be.
    #[error("there are {0} torrents already")]
    TooMany(usize),
    /// It could not be written down.
    #[error("{message}")]
    Store {
        /// Why not.
        message: String,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// What is at a URL could not be had.
    #[error("{0}")]
    Fetch(String),
    /// A URL leads to this machine or network.
    #[error(
        "{url}: {ip} is an address of this machine or network; the configuration allows those (allow-private-urls)"
    )]
    PrivateUrl {
        /// The URL.
        url: String,
        /// Where it leads.
        ip: std::net::IpAddr,
    },
    /// The session refuses it.
    #[error("{0}")]
    Engine(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Stopping,
}
