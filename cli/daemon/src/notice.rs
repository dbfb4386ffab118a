//! What happens, for those who watch: the events of `/api/v1/events`.

use crate::table::Summary;
use crate::torrents::Id;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_engine::{Event, WebSeedPenalty};

/// Something that happened, and the torrent that it happened to. Names and fields are those of `swarm get --json` where both have them.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// The torrent, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A torrent was added, or lists show something new of it.
    Torrent {
        /// The table's revision.
        revision: u64,
        /// The torrent.
        torrent: Arc<Summary>,
    },
    /// A torrent was removed.
    Removed {
        /// The table's revision.
        revision: u64,
    },
    /// The metadata of a link is here.
    Metadata,
    /// Other files on this machine had something of it.
    Reused {
        /// Bytes that came from there.
        bytes: u64,
        /// Bytes wanted.
        bytes_total: u64,
    },
    /// Existing data is known; peers are welcome.
    Checked {
        /// Pieces that are there.
        pieces_have: u32,
        /// Pieces.
        pieces: u32,
    },
    /// A piece did not verify.
    PieceFailed {
        /// Which.
        piece: u32,
    },
    /// A peer lied and is banned.
    PeerBanned {
        /// Its address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Something is wrong with a web seed.
    WebSeedFault {
        /// Which.
        url: String,
        /// The file; null if it is about the URL.
        file: Option<String>,
        /// What is wrong.
        reason: String,
        /// How long it is left alone, in seconds; null if for good.
        retry_in: Option<f64>,
    },
    /// Something is not as it should be, and all goes on.
    Warning {
        /// What.
        message: String,
    },
    /// Another program has changed a file.
    FileChanged {
        /// Its path in the torrent.
        path: String,
    },
    /// Data that was there is bad now.
    DataBad {
        /// The path of a file in the torrent.
        path: String,
        /// How many of its pieces.
        pieces: u32,
    },
    /// The disk takes no more data.
    DiskStalled {
        /// Why.
        reason: String,
        /// Whether it is full.
        full: bool,
    },
    /// The disk takes data again.
    DiskResumed,
    /// Everything wanted is there.
    Complete,
    /// A goal has stopped it.
    GoalReached {
        /// Which: `ratio` or `seed_time`.
        goal: crate::torrents::record::StoppedBy,
    },
    /// The program that is run on completion has ended.
    ProgramEnded {
        /// How: its exit status, or what went wrong.
        status: String,
    },
    /// It has ended by an error.
    Failed {
        /// Why.
        message: String,
    },
    /// Whoever watches was too slow, and so many events are lost.
    Missed {
        /// How many.
        count: u64,
    },
}

impl What {
    /// What an event of the session means for those who watch; `None` if nothing.
    pub fn of(event: &Event) -> Option<What> {
        Some(match event {
            Event::MetadataReceived => What::Metadata,
            Event::Reused { bytes, bytes_total, .. } => {
                What::Reused { bytes: *bytes, bytes_total: *bytes_total }
            }
            Event::Started { have, pieces } => What::Checked { pieces_have: *have, pieces: *pieces },
            Event::PieceFailed(piece) => What::PieceFailed { piece: piece.0 },
            Event::PeerBanned { addr, reason } => {
                What::PeerBanned { address: *addr, reason: reason.to_string() }
            }
            Event::WebSeedFault { url, file, fault, penalty } => What::WebSeedFault {
                url: url.clone(),
                file: file.clone(),
                reason: fault.to_string(),
                retry_in: match penalty {
                    WebSeedPenalty::Paused(wait) | WebSeedPenalty::FilePaused(wait) => {
                        Some(wait.as_secs_f64())
                    }
                    _ => None,
                },
            },
            Event::Warning(message) => What::Warning { message: message.clone() },
            Event::FileChanged { path, .. } => What::FileChanged { path: path.clone() },
            Event::DataBad { path, pieces, .. } => What::DataBad { path: path.clone(), pieces: *pieces },
            Event::DiskStalled { error } => {
                What::DiskStalled { reason: error.to_string(), full: error.is_no_space() }
            }
            Event::DiskResumed => What::DiskResumed,
            Event::Completed => What::Complete,
            Event::Missed { count } => What::Missed { count: *count },
            _ => return None,
        })
    }
}
