//! What a torrent's task is asked to do.

use super::event::TorrentStats;
use super::options::{AddTorrent, Files};
use super::piece_map::PieceMap;
use super::rate_group::RateGroup;
use super::relocation::Request as Relocate;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use swarm_core::id::PieceIndex;
use swarm_core::picker::Order;
use swarm_core::tracker::access::UrlOrigin;
use tokio::sync::oneshot;

/// What a torrent's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Stats(oneshot::Sender<TorrentStats>),
    AddPeers(Vec<SocketAddr>),
    FileProgress(oneshot::Sender<Option<Vec<u64>>>),
    Pieces(oneshot::Sender<Option<Box<PieceMap>>>),
    AddTrackers(Vec<String>, UrlOrigin),
    AddWebSeeds(Vec<String>, UrlOrigin),
    SetFiles(Files),
    SetOrder(Order),
    SetFirstLast(bool),
    SetTrackers(Vec<Vec<String>>),
    SetWebSeeds(Vec<String>),
    Relocate(Box<Relocate>),
    SetUploadLimit(Option<u64>),
    SetDownloadLimit(Option<u64>),
    SetRateGroups(Box<[RateGroup]>),
    SetScrub(Option<u64>),
    Pause,
    Resume,
    Recheck,
    Reannounce,
    Read(ReadRequest),
    Stop,
    Delete,
}

/// What a command changes for when the torrent starts again.
impl Command {
    pub(super) fn apply(&self, options: &mut Rc<AddTorrent>) {
        let command = self;
        if matches!(
            command,
            Command::Stats(_) | Command::FileProgress(_) | Command::Pieces(_) | Command::Read(_)
        ) {
            return;
        }
        let options = Rc::make_mut(options);
        match command {
            Command::AddPeers(peers) => options.peers.extend(peers),
            Command::AddTrackers(urls, UrlOrigin::Typed) => options.trackers.extend(urls.iter().cloned()),
            Command::AddTrackers(urls, UrlOrigin::Metainfo) => {
                options.trackers_found.extend(urls.iter().cloned());
            }
            Command::AddWebSeeds(urls, UrlOrigin::Typed) => options.web_seeds.extend(urls.iter().cloned()),
            Command::AddWebSeeds(urls, UrlOrigin::Metainfo) => {
                options.web_seeds_found.extend(urls.iter().cloned());
            }
            Command::SetFiles(files) => (options.files, options.hold) = (files.clone(), false),
            Command::SetOrder(order) => options.order = *order,
            Command::SetFirstLast(on) => options.first_last = *on,
            Command::SetTrackers(tiers) => {
                options.trackers_found.clear();
                options.tiers = Some(tiers.clone());
            }
            Command::SetWebSeeds(urls) => {
                options.web_seeds_found.clear();
                options.web_seeds_of_source = Some(urls.clone());
            }
            Command::SetUploadLimit(limit) => options.upload_limit = *limit,
            Command::SetDownloadLimit(limit) => options.download_limit = *limit,
            Command::SetRateGroups(groups) => options.rate_groups.clone_from(groups),
            Command::SetScrub(rate) => options.scrub = *rate,
            Command::Recheck => options.recheck = true,
            Command::Pause => options.paused = true,
            Command::Resume => options.paused = false,
            _ => {}
        }
    }
}

/// What a reader asks its torrent for.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    /// Whose reader it is.
    pub(super) reader: u64,
    /// The pieces to download first; empty when the reader is gone.
    pub(super) window: Range<u32>,
    /// What to read, unless the reader is gone.
    pub(super) part: Option<ReadPart>,
}

/// A part of a piece to read once it is there.
#[derive(Debug)]
pub(super) struct ReadPart {
    pub(super) piece: PieceIndex,
    pub(super) range: Range<u32>,
    pub(super) reply: oneshot::Sender<io::Result<Vec<u8>>>,
}
