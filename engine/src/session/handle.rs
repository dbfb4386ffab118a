//! Handles to a session's torrents, usable from any thread.

use super::event::{Event, TorrentStats};
use crate::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use swarm_core::id::InfoHash;
use swarm_core::metainfo::Metainfo;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// What a torrent's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Stats(oneshot::Sender<TorrentStats>),
    AddPeers(Vec<SocketAddr>),
    SetFiles(Option<Vec<bool>>),
    SetLimits { upload: Option<u64>, download: Option<u64> },
    Stop,
}

/// How a torrent's task stands, for those who wait for it.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Running { complete: bool },
    Ended(Result<(), Error>),
}

/// A torrent in a session. Clones are handles to the same torrent; dropping them changes nothing.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    info_hash: InfoHash,
    metainfo: watch::Receiver<Option<Arc<Metainfo>>>,
    commands: mpsc::UnboundedSender<Command>,
    events: broadcast::WeakSender<Event>,
    /// Has every event since the start, for the first who asks.
    first: Arc<Mutex<Option<broadcast::Receiver<Event>>>>,
    phase: watch::Receiver<Phase>,
}

impl TorrentHandle {
    pub(crate) fn new(
        info_hash: InfoHash,
        metainfo: watch::Receiver<Option<Arc<Metainfo>>>,
        commands: mpsc::UnboundedSender<Command>,
        events: broadcast::WeakSender<Event>,
        first: broadcast::Receiver<Event>,
        phase: watch::Receiver<Phase>,
    ) -> TorrentHandle {
        let first = Arc::new(Mutex::new(Some(first)));
        TorrentHandle { info_hash, metainfo, commands, events, first, phase }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// The torrent's info-hash.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// What the torrent is; `None` until the metadata of a link is here.
    pub fn metainfo(&self) -> Option<Arc<Metainfo>> {
        self.metainfo.borrow().clone()
    }

    /// Waits until it is known what the torrent is. Of a link trackers and web seeds are those of the link.
    ///
    /// # Errors
    /// What ended the torrent before that: [`Error::Metainfo`] if what peers have makes no usable torrent; [`Error::Stopped`] if it was
    /// stopped.
    pub async fn metadata(&self) -> Result<Arc<Metainfo>, Error> {
        let mut metainfo = self.metainfo.clone();
        let known = metainfo.wait_for(Option::is_some).await.map(|known| known.clone());
        match known {
            Ok(Some(metainfo)) => Ok(metainfo),
            _ => Err(self.ended().await.err().unwrap_or(Error::Stopped)),
        }
    }

    /// Says which files are wanted (`None`: all), of a torrent that [waits for that](crate::AddTorrent::hold).
    pub fn set_files(&self, wanted: Option<Vec<bool>>) {
        let _ = self.commands.send(Command::SetFiles(wanted));
    }

    /// The torrent as it stands.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has ended.
    pub async fn stats(&self) -> Result<TorrentStats, Error> {
        let (reply, stats) = oneshot::channel();
        self.commands.send(Command::Stats(reply)).map_err(|_| Error::Stopped)?;
        stats.await.map_err(|_| Error::Stopped)
    }

    /// What happens. The first receiver sees everything since the torrent was added (as far as it is still
    /// kept), later ones what happens from now on.
    pub fn events(&self) -> EventReceiver {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inner = first.or_else(|| self.events.upgrade().map(|sender| sender.subscribe()));
        EventReceiver { inner }
    }

    /// Tells the torrent of more peers.
    pub fn add_peers(&self, peers: Vec<SocketAddr>) {
        let _ = self.commands.send(Command::AddPeers(peers));
    }

    /// Sets or lifts this torrent's payload limits, in bytes/s.
    pub fn set_limits(&self, upload: Option<u64>, download: Option<u64>) {
        let _ = self.commands.send(Command::SetLimits { upload, download });
    }

    /// Waits until everything wanted is verified and in place.
    ///
    /// # Errors
    /// Whatever ended the torrent before that; [`Error::Stopped`] if it was stopped.
    pub async fn completed(&self) -> Result<(), Error> {
        let mut phase = self.phase.clone();
        let done = phase.wait_for(|p| !matches!(p, Phase::Running { complete: false })).await;
        match done.map_err(|_| Error::Stopped)?.clone() {
            Phase::Running { .. } => Ok(()),
            Phase::Ended(Ok(())) => Err(Error::Stopped),
            Phase::Ended(Err(error)) => Err(error),
        }
    }

    /// Waits until the torrent has ended.
    ///
    /// # Errors
    /// What ended it, unless it was asked to stop.
    pub async fn ended(&self) -> Result<(), Error> {
        let mut phase = self.phase.clone();
        match phase.wait_for(|p| matches!(p, Phase::Ended(_))).await.as_deref() {
            Ok(Phase::Ended(result)) => result.clone(),
            _ => Ok(()),
        }
    }

    /// Stops the torrent: connections end, trackers are told (for a few seconds at most), state is saved.
    /// Returns once that is done.
    ///
    /// # Errors
    /// What ended the torrent before, or what kept its state from being saved.
    pub async fn stop(&self) -> Result<(), Error> {
        let _ = self.commands.send(Command::Stop);
        self.ended().await
    }
}

/// A stream of one torrent's events.
#[derive(Debug)]
pub struct EventReceiver {
    pub(crate) inner: Option<broadcast::Receiver<Event>>,
}

impl EventReceiver {
    /// The next event; `None` once the torrent has ended and every event was seen.
    pub async fn next(&mut self) -> Option<Event> {
        let inner = self.inner.as_mut()?;
        loop {
            match inner.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
