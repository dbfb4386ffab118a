//! Handles to a session's torrents, usable from any thread.

use super::command::Command;
use super::event::{Event, TorrentStats};
use super::events::{Received, Receiver, WeakEventSender};
use super::options::Files;
use super::piece_map::PieceMap;
use super::rate_group::RateGroup;
use super::reader::FileReader;
use super::relocation::Request as Relocate;
use crate::error::{Error, OptionError};
use crate::id::TorrentId;
use crate::storage::Location;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use swarm_core::id::{FileIndex, InfoHashes};
use swarm_core::metainfo::{Layout, Metainfo};
use swarm_core::picker::Order;
use swarm_core::tracker::access::UrlOrigin;
use tokio::sync::{mpsc, oneshot, watch};

/// How a torrent's task stands, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Running { complete: bool },
    Ended(Result<(), Error>),
}

/// What is known of a torrent so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that a link named, or that it was resolved to. Boxed, since most torrents have none.
    pub(super) info_hashes: OnceLock<Box<InfoHashes>>,
    pub(super) metainfo: OnceLock<Arc<Metainfo>>,
    /// The same without piece layers, which peers are asked for.
    pub(super) incomplete: OnceLock<Arc<Metainfo>>,
    /// The folder that it was added with, or moved to.
    pub(super) dir: Mutex<Option<PathBuf>>,
    /// Where its files are, since they were opened.
    pub(super) location: Mutex<Option<Location>>,
}

impl Known {
    pub(super) fn set_dir(&self, dir: PathBuf) {
        *self.dir.lock().unwrap_or_else(PoisonError::into_inner) = Some(dir);
    }

    /// Its info-hashes, as far as they are known.
    pub(super) fn info_hashes(&self) -> InfoHashes {
        let metainfo = self.metainfo.get().or(self.incomplete.get());
        let of_metainfo = metainfo.map(|metainfo| metainfo.info.info_hashes());
        of_metainfo.or_else(|| self.info_hashes.get().map(|hashes| **hashes)).unwrap_or_default()
    }

    pub(super) fn set_location(&self, location: Option<Location>) {
        *self.location.lock().unwrap_or_else(PoisonError::into_inner) = location;
    }

    /// Where its files are, if they have been opened.
    pub(super) fn location(&self) -> Option<Location> {
        self.location.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A torrent in a session. Clones are handles to the same torrent; dropping them changes nothing.
#[derive(Clone, Debug)]
pub struct TorrentHandle(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: TorrentId,
    pub(super) known: Arc<Known>,
    pub(super) commands: mpsc::UnboundedSender<Box<Command>>,
    pub(super) events: WeakEventSender<Event>,
    /// Has the last events since the start, for the first who asks.
    pub(super) first: Mutex<Option<Receiver<Event>>>,
    /// Ends with the session.
    pub(super) phases: watch::Receiver<Phase>,
}

impl TorrentHandle {
    pub(super) fn new(inner: Inner) -> TorrentHandle {
        TorrentHandle(Arc::new(inner))
    }

    fn command(&self, command: Command) {
        let _ = self.0.commands.send(Box::new(command));
    }

    /// Its number in the session.
    pub fn id(&self) -> TorrentId {
        self.0.id
    }

    /// What it goes by on the network.
    pub fn info_hashes(&self) -> InfoHashes {
        self.0.known.info_hashes()
    }

    /// What the torrent is; `None` until the metadata of a link is here, and the piece layers of a metainfo file that lacks them.
    pub fn metainfo(&self) -> Option<Arc<Metainfo>> {
        self.0.known.metainfo.get().cloned()
    }

    /// The folder that was given for its file or folder. `None` if it is kept elsewhere, or only its metadata is wanted.
    pub fn dir(&self) -> Option<PathBuf> {
        self.0.known.dir.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the torrent's file or folder is, or will be: an absolute path. `None` until its files have been opened, which they are at
    /// [`Event::Started`], and if they are none.
    pub fn path(&self) -> Option<PathBuf> {
        self.at(|location| Some(location.path()))
    }

    /// Where a file is once it is complete: an absolute path. Where the file system does not take a name of the torrent, that is not
    /// below [`dir`](Self::dir) by its path in the metainfo. Until then its bytes lie elsewhere, and [`read`](Self::read) has them.
    ///
    /// `None` if there is no such file, if it is never on disk (padding), or as for [`path`](Self::path).
    pub fn file_path(&self, file: FileIndex) -> Option<PathBuf> {
        self.at(|location| location.file_path(file))
    }

    fn at(&self, path: impl FnOnce(&Location) -> Option<PathBuf>) -> Option<PathBuf> {
        self.0.known.location.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(path)
    }

    /// Waits until it is known what the torrent is. For a link, trackers and web seeds are those of the link.
    ///
    /// # Errors
    /// What ended the torrent before that: [`Error::Metainfo`] if what peers have makes no usable torrent; [`Error::Stopped`] if it was
    /// stopped.
    pub async fn metadata(&self) -> Result<Arc<Metainfo>, Error> {
        let mut phase = self.0.phases.clone();
        loop {
            if let Some(metainfo) = self.metainfo() {
                return Ok(metainfo);
            }
            if let Phase::Ended(result) = &*phase.borrow_and_update() {
                return Err(result.clone().err().unwrap_or(Error::Stopped));
            }
            phase.changed().await.map_err(|_| Error::Stopped)?;
        }
    }

    /// The torrent as it stands.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has ended.
    pub async fn stats(&self) -> Result<TorrentStats, Error> {
        let (reply, stats) = oneshot::channel();
        self.0.commands.send(Box::new(Command::Stats(reply))).map_err(|_| Error::Stopped)?;
        stats.await.map_err(|_| Error::Stopped)
    }

    /// For each file of the metainfo, how many of its bytes are in verified pieces; `None` before its data is known, and while it is paused.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has ended.
    pub async fn file_progress(&self) -> Result<Option<Vec<u64>>, Error> {
        let (reply, progress) = oneshot::channel();
        self.0.commands.send(Box::new(Command::FileProgress(reply))).map_err(|_| Error::Stopped)?;
        progress.await.map_err(|_| Error::Stopped)
    }

    /// How each piece stands, and in how many connected peers it is; `None` before its data is known, and while it is paused.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has ended.
    pub async fn pieces(&self) -> Result<Option<PieceMap>, Error> {
        let (reply, pieces) = oneshot::channel();
        self.0.commands.send(Box::new(Command::Pieces(reply))).map_err(|_| Error::Stopped)?;
        Ok(pieces.await.map_err(|_| Error::Stopped)?.map(|pieces| *pieces))
    }

    /// What happens. The first receiver also has what happened before it was asked for, the last 64 events of it; later ones have what
    /// happens from now on. Each holds up to 4,096 events that have not been taken.
    pub fn events(&self) -> EventReceiver {
        let first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        EventReceiver(first.map(Receiver::claim).or_else(|| self.0.events.subscribe()))
    }

    /// Which files to download from now on. If it is running, its connections end and are made again.
    ///
    /// # Errors
    /// [`Error::Option`] if the torrent has no such files. Where the metadata is not here yet, that ends the torrent later.
    pub fn set_files(&self, files: Files) -> Result<(), Error> {
        if let Some(metainfo) = self.metainfo() {
            files.resolve(metainfo.info.files.len())?;
        }
        self.command(Command::SetFiles(files));
        Ok(())
    }

    /// The order in which pieces are started from now on.
    pub fn set_order(&self, order: Order) {
        self.command(Command::SetOrder(order));
    }

    /// Whether the first and the last piece of each file come before all others from now on.
    pub fn set_first_last(&self, on: bool) {
        self.command(Command::SetFirstLast(on));
    }

    /// Moves the torrent's files below another folder, which may be on another file system, and gives them these names there. What is
    /// verified stays so. Meanwhile the torrent is [`Moving`](super::State::Moving), and takes part in nothing; then it goes on as before. Returns
    /// once that is done.
    ///
    /// Files are renamed where that can be done, else copied, synced, compared in length, and removed when all are at the new place. After a
    /// crash they are at one of the two places, or partly at each, and none is lost: add the torrent with the old folder and names,
    /// [paused](crate::AddTorrent::paused), and call this again with `resumes`. Then what is at the new place already counts as moved.
    ///
    /// # Errors
    /// [`Error::Storage`] if something is there, or the system refuses: then all is where it was. [`Error::Option`] if files cannot have these
    /// names, or its data is not in files; [`Error::Stopped`] if it is stopped meanwhile.
    pub async fn move_to(&self, dir: impl Into<PathBuf>, layout: Layout, resumes: bool) -> Result<(), Error> {
        if let Some(metainfo) = self.metainfo() {
            layout.apply(&metainfo.info).map_err(OptionError::from)?;
        }
        let (reply, done) = oneshot::channel();
        let request = Relocate { dir: dir.into(), layout, resumes, reply };
        self.0.commands.send(Box::new(Command::Relocate(Box::new(request)))).map_err(|_| Error::Stopped)?;
        done.await.map_err(|_| Error::Stopped)?
    }

    /// Sets or lifts the limit of payload sent to this torrent's peers, in bytes/s.
    pub fn set_upload_limit(&self, bytes_per_s: impl Into<Option<u64>>) {
        self.command(Command::SetUploadLimit(bytes_per_s.into()));
    }

    /// Sets or lifts the limit of payload received from this torrent's peers, in bytes/s.
    pub fn set_download_limit(&self, bytes_per_s: impl Into<Option<u64>>) {
        self.command(Command::SetDownloadLimit(bytes_per_s.into()));
    }

    /// Puts the torrent into these groups, and no others: it shares their [limits](crate::Session::set_rate_group).
    pub fn set_rate_groups(&self, groups: impl Into<Box<[RateGroup]>>) {
        self.command(Command::SetRateGroups(groups.into()));
    }

    /// Reads all data again over time, at so many bytes/s, or no more: see [`AddTorrent::scrub`](crate::AddTorrent::scrub).
    pub fn set_scrub(&self, bytes_per_s: impl Into<Option<u64>>) {
        self.command(Command::SetScrub(bytes_per_s.into()));
    }

    /// Tells the torrent of more peers.
    pub fn add_peers(&self, peers: impl IntoIterator<Item = SocketAddr>) {
        self.command(Command::AddPeers(peers.into_iter().collect()));
    }

    /// Announces to these trackers too, each in a tier of its own.
    pub fn add_trackers(&self, urls: impl IntoIterator<Item = impl Into<String>>) {
        self.add_trackers_from(UrlOrigin::Typed, urls);
    }

    /// The same for trackers that somebody else has named: with [`UrlOrigin::Metainfo`] they lead to no more places than those of a
    /// metainfo file.
    pub fn add_trackers_from(&self, origin: UrlOrigin, urls: impl IntoIterator<Item = impl Into<String>>) {
        self.command(Command::AddTrackers(urls.into_iter().map(Into::into).collect(), origin));
    }

    /// Announces to these trackers, in tiers, instead of those of its metainfo or link and those that were added by
    /// [`add_trackers_from`](Self::add_trackers_from) as if they were. Trackers of [`AddTorrent::trackers`](crate::AddTorrent::trackers) and
    /// [`add_trackers`](Self::add_trackers) stay. Those that go are told that we stop.
    pub fn set_trackers(&self, tiers: impl IntoIterator<Item = Vec<String>>) {
        self.command(Command::SetTrackers(tiers.into_iter().collect()));
    }

    /// Uses these web seeds instead of those of its metainfo or link and those that were added as if they were. If it is running, its
    /// connections end and are made again.
    pub fn set_web_seeds(&self, urls: impl IntoIterator<Item = impl Into<String>>) {
        self.command(Command::SetWebSeeds(urls.into_iter().map(Into::into).collect()));
    }

    /// Uses these web seeds too (BEP 19).
    pub fn add_web_seeds(&self, urls: impl IntoIterator<Item = impl Into<String>>) {
        self.add_web_seeds_from(UrlOrigin::Typed, urls);
    }

    /// The same for web seeds that somebody else has named.
    pub fn add_web_seeds_from(&self, origin: UrlOrigin, urls: impl IntoIterator<Item = impl Into<String>>) {
        self.command(Command::AddWebSeeds(urls.into_iter().map(Into::into).collect(), origin));
    }

    /// Announces to trackers and the DHT now, as far as their shortest intervals allow it.
    pub fn reannounce(&self) {
        self.command(Command::Reannounce);
    }

    /// Ends all connections and leaves the swarm, until it is [resumed](Self::resume). Its state is saved.
    pub fn pause(&self) {
        self.command(Command::Pause);
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.command(Command::Resume);
    }

    /// Checks all data again, whatever saved state says; for a paused torrent when it is resumed.
    pub fn recheck(&self) {
        self.command(Command::Recheck);
    }

    /// Reads a file while it is downloaded: reading waits for what is missing, and has it downloaded first. It waits through a
    /// [pause](Self::pause), and on [hold](crate::AddTorrent::hold) until [`set_files`](Self::set_files).
    ///
    /// A file that is not wanted is downloaded as far as it is read, while something wanted is missing. Once nothing is, and on a seed,
    /// reading what is not there may fail with [`NotFound`](std::io::ErrorKind::NotFound): tell [`set_files`](Self::set_files) first.
    ///
    /// # Errors
    /// [`Error::Option`] if there is no such file; [`Error::NoMetadata`] before it is known which there are; [`Error::Stopped`] if the
    /// torrent has ended.
    pub fn read(&self, file: FileIndex) -> Result<FileReader, Error> {
        if self.0.commands.is_closed() {
            return Err(Error::Stopped);
        }
        let metainfo = self.metainfo().ok_or(Error::NoMetadata)?;
        FileReader::new(self.0.commands.clone(), metainfo, file)
    }

    /// Waits until everything wanted is verified and in place: at once if it is already, after all calls made before.
    ///
    /// It waits through a [pause](Self::pause), and on [hold](crate::AddTorrent::hold) until [`set_files`](Self::set_files). If no file
    /// is wanted, nothing is missing once the data is opened. A seed is complete once its data is checked, whatever it lacks. After
    /// `set_files` or [`recheck`](Self::recheck) it is for what is wanted then.
    ///
    /// # Errors
    /// Whatever ended the torrent before that; [`Error::Stopped`] if it was stopped, or if only its
    /// [metadata](crate::AddTorrent::metadata) was wanted.
    pub async fn completed(&self) -> Result<(), Error> {
        let mut phase = self.0.phases.clone();
        loop {
            let done = phase.wait_for(|p| !matches!(p, Phase::Running { complete: false })).await;
            // What is borrowed here locks the torrent out.
            let done = done.map_err(|_| Error::Stopped)?.clone();
            match done {
                Phase::Ended(result) => return result.and(Err(Error::Stopped)),
                // What was asked of it before takes effect before it answers.
                Phase::Running { .. } if self.stats().await.is_err() => return self.ended().await,
                Phase::Running { .. } => {}
            }
            if matches!(*phase.borrow(), Phase::Running { complete: true }) {
                return Ok(());
            }
        }
    }

    /// Waits until the torrent has ended.
    ///
    /// # Errors
    /// What ended it, unless it was asked to stop.
    pub async fn ended(&self) -> Result<(), Error> {
        let mut phase = self.0.phases.clone();
        match phase.wait_for(|p| matches!(p, Phase::Ended(_))).await.as_deref() {
            Ok(Phase::Ended(result)) => result.clone(),
            // The session was dropped.
            _ => Err(Error::Stopped),
        }
    }

    pub(super) async fn delete(&self) -> Result<(), Error> {
        self.command(Command::Delete);
        self.ended().await
    }

    /// Stops the torrent: connections end, trackers are told (for a few seconds at most), state is saved.
    /// Returns once that is done.
    ///
    /// # Errors
    /// What ended the torrent before, or what kept its state from being saved.
    pub async fn stop(&self) -> Result<(), Error> {
        self.command(Command::Stop);
        self.ended().await
    }
}

/// A stream of one torrent's events.
#[derive(Debug)]
pub struct EventReceiver(Option<Receiver<Event>>);

impl EventReceiver {
    /// The next event; `None` once the torrent has ended and every event was seen. A receiver that falls behind by more than 4,096 events
    /// loses the oldest, and gets [`Event::Missed`] in their place.
    pub async fn next(&mut self) -> Option<Event> {
        Some(match self.0.as_mut()?.next().await? {
            Received::Event(event) => event,
            Received::Missed(count) => Event::Missed { count },
        })
    }
}

/// A stream of the events of all torrents of a session.
#[derive(Debug)]
pub struct SessionEvents(pub(super) Receiver<(Option<TorrentId>, Event)>);

impl SessionEvents {
    /// The next event and its torrent; `None` once the session has ended and every event was seen. What concerns no torrent
    /// alone has none: [`Event::IpFilterLoaded`], [`Event::IpFilterBlocked`], [`Event::PortMapped`], [`Event::PortNotMapped`], some
    /// warnings, and [`Event::Missed`]: a receiver that falls behind by more than 4,096 events loses the oldest, and gets it in their
    /// place.
    pub async fn next(&mut self) -> Option<(Option<TorrentId>, Event)> {
        Some(match self.0.next().await? {
            Received::Event(event) => event,
            Received::Missed(count) => (None, Event::Missed { count }),
        })
    }
}
