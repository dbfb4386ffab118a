//! From a torrent that was added to one that runs: opening its storage, checking what is in doubt, reserving space.

use super::dht::resolve;
use super::disk::{DiskResult, SPACE_RETRY};
use super::event::{Event, State, TorrentStats};
use super::handle::{Command, Phase};
use super::hub::Hub;
use super::options::{AddTorrent, Mode, Source};
use super::torrent::{Channels, Next, TorrentEvents, TorrentShell};
use crate::Error;
use crate::hash::Lane;
use crate::storage::{self, OpenOptions, Opened, Storage, StorageError, Trust};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::{Info, Metainfo};
use swarm_core::picker::Priority;
use swarm_core::time::Duration;
use swarm_core::torrent::Totals;
use swarm_core::wire::peer_id;
use tokio::sync::{mpsc, oneshot};

/// How often the progress of a check is told.
const CHECK_EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// How many files that cannot be read are named.
const UNREADABLE_TOLD_MAX: usize = 100;

/// How far the check of a torrent's data is.
#[derive(Default)]
pub(super) struct Progress {
    checking: Cell<bool>,
    pieces_have: Cell<u32>,
    bytes_have: Cell<u64>,
}

impl Progress {
    fn add(&self, info: &Info, piece: PieceIndex) {
        self.pieces_have.set(self.pieces_have.get() + 1);
        self.bytes_have.set(self.bytes_have.get() + u64::from(info.payload_of(piece)));
    }

    pub(super) fn stats(&self, info: Option<&Info>) -> TorrentStats {
        TorrentStats {
            state: if self.checking.get() { State::Checking } else { State::Queued },
            bytes_total: info.map_or(0, Info::payload_len),
            bytes_verified: self.bytes_have.get(),
            bytes_unverified: 0,
            pieces: info.map_or(0, |info| info.geometry.pieces()),
            pieces_have: self.pieces_have.get(),
            rate_down: 0,
            rate_up: 0,
            peers: 0,
            seeds: 0,
            totals: Totals::default(),
            waiting: None,
            peer_list: Vec::new(),
            trackers: Vec::new(),
        }
    }
}

/// Runs a job on a worker and waits for what it returns.
pub(super) async fn on_worker<R: Send + 'static>(
    hub: &Hub,
    lane: Lane,
    job: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
    let (tx, rx) = oneshot::channel();
    hub.workers.submit(lane, move || {
        let _ = tx.send(job());
    });
    rx.await.map_err(|_| Error::Defect("a disk job panicked".to_owned()))
}

pub(super) fn storage_error(error: StorageError) -> Error {
    Error::Storage(Arc::new(error))
}

/// Runs a torrent to its end, through every pause.
pub(super) async fn start(
    hub: Rc<Hub>,
    mut options: Rc<AddTorrent>,
    mut channels: Channels,
) -> Result<(), Error> {
    let peer_id = peer_id(&mut hub.rng.borrow_mut().fork());
    let mut totals = Totals::default();
    let mut last_stats = None;
    if let Source::Mutable(link) = &options.source {
        let (link, stats) = (link.clone(), Box::new(Progress::default().stats(None)));
        let found = tokio::select! {
            found = Box::pin(resolve(&hub, &link)) => found?,
            () = Box::pin(stopped(&mut options, &stats, &mut channels.commands)) => return Ok(()),
        };
        channels.registry.claim(found, channels.id)?;
        let _ = channels.known.info_hash.set(found);
        Rc::make_mut(&mut options).source = found.into();
    }
    let Some(&info_hash) = channels.known.info_hash.get() else { return Err(Error::Stopped) };
    loop {
        let mut next = Next::Restart;
        if options.paused {
            let info = options.source.metainfo().map(|metainfo| &*metainfo.info);
            let mut stats = last_stats.take().unwrap_or_else(|| Box::new(Progress::default().stats(info)));
            stats.state = State::Paused;
            channels.events.send(Event::Paused);
            next = Box::pin(paused(&mut options, &stats, &mut channels.commands)).await;
            Rc::make_mut(&mut options).paused = false;
        }
        if next == Next::Restart {
            channels.phase.send_replace(Phase::Running { complete: false });
            let (results_tx, results) = mpsc::unbounded_channel();
            let carried = (peer_id, totals);
            let shell =
                TorrentShell::new(Rc::clone(&hub), options, info_hash, &channels, carried, results_tx);
            let shell = Rc::new(shell);
            next = run(&shell, results, &mut channels.commands).await?;
            let mut stats = Box::new(TorrentStats { rate_down: 0, rate_up: 0, ..shell.stats() });
            (stats.peers, stats.seeds, stats.waiting) = (0, 0, None);
            (stats.peer_list, stats.trackers) = (Vec::new(), Vec::new());
            totals = stats.totals;
            last_stats = (next == Next::Pause).then_some(stats);
            options = Rc::clone(&shell.changed.borrow());
            if let Some(metainfo) = channels.known.metainfo.get() {
                Rc::make_mut(&mut options).source = Arc::clone(metainfo).into();
            }
        }
        match next {
            Next::Stop => return Ok(()),
            Next::Delete => return Box::pin(delete(&hub, &options)).await,
            Next::Pause => Rc::make_mut(&mut options).paused = true,
            Next::Restart => {}
        }
    }
}

/// Runs a torrent until it ends or is to start again. One whose metainfo is known dials nobody before its data is known and checked.
async fn run(
    shell: &Rc<TorrentShell>,
    results: mpsc::UnboundedReceiver<Box<DiskResult>>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Result<Next, Error> {
    let hub = &shell.hub;
    if let Some(metainfo) = shell.options.source.metainfo().filter(|_| !shell.is_held.get()) {
        let prepared = tokio::select! {
            // What only lasts for a moment takes no room afterwards.
            prepared = Box::pin(shell.prepare_data(metainfo)) => prepared.map(Ok),
            next = Box::pin(commanded(shell, commands)) => Ok(Err(next)),
        };
        match prepared {
            Ok(Ok(ready)) => shell.take_up(metainfo, ready),
            Ok(Err(next)) => {
                Box::pin(shell.abandon_data()).await?;
                return Ok(next);
            }
            Err(error) => {
                Box::pin(shell.abandon_data()).await?;
                return Err(error);
            }
        }
    }
    hub.torrents.borrow_mut().insert(shell.info_hash, Rc::clone(shell));
    shell.begin();
    shell.announce_on_dht(true);
    // Private torrents are between the tracker and its peers (BEP 27).
    let local = hub.lsd.borrow().clone().filter(|_| !shell.is_private());
    if let Some(lsd) = &local {
        lsd.add(shell.info_hash);
    }
    let result = shell.run(results, commands).await;
    hub.torrents.borrow_mut().remove(&shell.info_hash);
    if let Some(lsd) = &local {
        lsd.remove(shell.info_hash);
    }
    result
}

/// Takes commands until one ends the run.
async fn commanded(shell: &Rc<TorrentShell>, commands: &mut mpsc::UnboundedReceiver<Box<Command>>) -> Next {
    loop {
        match commands.recv().await {
            Some(command) => {
                if let Some(next) = shell.on_command(*command) {
                    return next;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// Takes commands of a torrent that does not run, until it is to.
async fn paused(
    options: &mut Rc<AddTorrent>,
    stats: &TorrentStats,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Next {
    loop {
        let Some(command) = commands.recv().await else { std::future::pending().await };
        apply(options, &command);
        match *command {
            Command::Stats(reply) => drop(reply.send(stats.clone())),
            Command::Read(request) => request.refuse("the torrent is paused"),
            Command::Resume => return Next::Restart,
            Command::Stop => return Next::Stop,
            Command::Delete => return Next::Delete,
            _ => {}
        }
    }
}

/// Takes commands of a torrent whose info-hash is not known yet, until it is to end.
async fn stopped(
    options: &mut Rc<AddTorrent>,
    stats: &TorrentStats,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) {
    loop {
        match paused(options, stats, commands).await {
            Next::Stop | Next::Delete => return,
            _ => Rc::make_mut(options).paused = false,
        }
    }
}

/// What a command changes for when the torrent starts again.
pub(super) fn apply(options: &mut Rc<AddTorrent>, command: &Command) {
    if matches!(command, Command::Stats(_) | Command::Read(_)) {
        return;
    }
    let options = Rc::make_mut(options);
    match command {
        Command::AddPeers(peers) => options.peers.extend(peers),
        Command::AddTrackers(urls) => options.trackers.extend(urls.iter().cloned()),
        Command::SetFiles(files) => (options.files, options.hold) = (files.clone(), false),
        Command::SetOrder(order) => options.order = *order,
        Command::SetLimits { upload, download } => {
            (options.upload_limit, options.download_limit) = (*upload, *download);
        }
        Command::Recheck => options.recheck = true,
        Command::Pause => options.paused = true,
        _ => {}
    }
}

/// Deletes the files of a torrent that does not run.
async fn delete(hub: &Hub, options: &AddTorrent) -> Result<(), Error> {
    let Some(metainfo) = options.source.metainfo() else { return Ok(()) };
    let (info, dir) = (Arc::clone(&metainfo.info), options.dir.clone());
    let state_dir = hub.options.state_dir.clone();
    let deleted =
        on_worker(hub, Lane::Transfer, move || storage::delete(&info, &dir, state_dir.as_deref())).await?;
    deleted.map_err(storage_error)
}

/// A torrent's data, known and checked.
pub(super) struct Ready {
    pub(super) storage: Arc<Storage>,
    pub(super) have: Bitfield,
    /// What the wanted files need.
    pub(super) needed: Bitfield,
    /// The priority of each file; `None`: all are wanted alike.
    pub(super) files: Option<Vec<Priority>>,
    /// Blocks of pieces that are not complete, by index.
    pub(super) partial: Vec<(PieceIndex, Vec<u32>)>,
}

impl TorrentShell {
    /// Opens the storage, checks what is in doubt, and reserves space.
    pub(super) async fn prepare_data(&self, metainfo: &Arc<Metainfo>) -> Result<Ready, Error> {
        let (hub, options, events) = (&*self.hub, &self.options, &self.events);
        let info = Arc::clone(&metainfo.info);
        let files = self.changed.borrow().files.resolve(info.files.len())?;
        let mode = match options.mode {
            Mode::Seed => storage::Mode::Seed,
            Mode::Download | Mode::Metadata => {
                let wanted = |each: &Vec<Priority>| each.iter().map(|file| *file != Priority::SKIP).collect();
                storage::Mode::Download { wanted: files.as_ref().map(wanted) }
            }
        };
        let open = OpenOptions {
            state_dir: hub.options.state_dir.clone(),
            trust: if options.recheck { Trust::Nothing } else { Trust::State },
            overwrite: options.overwrite,
            handles: Arc::clone(&hub.handles),
            #[cfg(feature = "__hooks")]
            budget: options.space.clone(),
            ..OpenOptions::new(options.dir.clone(), mode)
        };
        let (storage, opened) = until_it_fits(hub, events, || {
            let (info, open) = (Arc::clone(&info), open.clone());
            move || Storage::open(info, open)
        })
        .await?;
        let storage = Arc::new(storage);
        let _ = self.opened.set(Arc::clone(&storage));
        for warning in &opened.warnings {
            events.send(Event::Warning(warning.clone()));
        }
        let info = &metainfo.info;
        opened.have.iter().for_each(|piece| self.progress.add(info, piece));
        let have = check(hub, info, &storage, &opened, events, &self.progress).await?;
        if options.mode == Mode::Download && needs_space(&have, &opened.needed) {
            until_it_fits(hub, events, || {
                let storage = Arc::clone(&storage);
                move || storage.reserve()
            })
            .await?;
        }
        if options.mode == Mode::Seed {
            for &file in &opened.absent {
                let path = info.files[file.idx()].path.join("/");
                events.send(Event::Warning(format!("{path}: the file is missing or too short")));
            }
            if have.count() == 0 && !have.is_empty() {
                let path = storage.path();
                return Err(Error::NothingToSeed { path });
            }
        }
        Ok(Ready { storage, have, needed: opened.needed, files, partial: opened.partial })
    }

    /// It does not run, and leaves nothing in anybody's way.
    pub(super) async fn abandon_data(&self) -> Result<(), Error> {
        let Some(storage) = self.opened.get().cloned() else { return Ok(()) };
        on_worker(&self.hub, Lane::Transfer, move || storage.abandon()).await
    }

    /// The torrent turns out to be private: it is between the trackers and their peers (BEP 27).
    pub(super) fn keep_private(&self) {
        self.inner.borrow_mut().announcer.handle_private();
        if let Some(lsd) = self.hub.lsd.borrow().as_ref() {
            lsd.remove(self.info_hash);
        }
        if let Some(dht) = self.hub.dht.borrow().as_ref() {
            dht.forget(self.info_hash);
        }
    }
}

fn needs_space(have: &Bitfield, needed: &Bitfield) -> bool {
    needed.iter().any(|piece| !have.has(piece))
}

/// Checks the pieces that are in doubt, several at a time, once it is this torrent's turn.
async fn check(
    hub: &Hub,
    info: &Info,
    storage: &Arc<Storage>,
    opened: &Opened,
    events: &TorrentEvents,
    progress: &Progress,
) -> Result<Bitfield, Error> {
    let mut have = opened.have.clone();
    let of = opened.recheck.count();
    if of == 0 {
        return Ok(have);
    }
    let _turn = hub.checks.acquire().await;
    progress.checking.set(true);
    events.send(Event::Checking { done: 0, of });
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut pieces = opened.recheck.iter();
    let submit = |piece: PieceIndex| {
        let (storage, tx) = (Arc::clone(storage), tx.clone());
        hub.workers.submit(Lane::Check, move || {
            let _ = tx.send((piece, storage.check_piece(piece)));
        });
    };
    let panics = hub.workers.panics();
    pieces.by_ref().take(hub.workers.threads() * 2).for_each(submit);
    let mut told_at = hub.now();
    let mut unreadable = BTreeSet::new();
    for done in 1..=of {
        let Some((piece, result)) = rx.recv().await else { break };
        let is_right = match result {
            // What cannot be read is not there; the rest may be.
            Err(ref error @ StorageError::Io { ref path, ref source, .. }) if !error.is_too_many_files() => {
                if unreadable.len() < UNREADABLE_TOLD_MAX && unreadable.insert(path.clone()) {
                    let warning = format!("{}: cannot be read: {source}", path.display());
                    events.send(Event::Warning(warning));
                }
                false
            }
            Err(error) if error.may_pass() => {
                until_it_fits(hub, events, || {
                    let storage = Arc::clone(storage);
                    move || storage.check_piece(piece)
                })
                .await?
            }
            result => result.map_err(storage_error)?,
        };
        if is_right {
            have.insert(piece);
            progress.add(info, piece);
        }
        if let Some(next) = pieces.next() {
            submit(next);
        }
        if hub.workers.panics() > panics {
            return Err(Error::Defect("a disk job panicked".to_owned()));
        }
        if hub.now().since(told_at) >= CHECK_EVENT_INTERVAL || done == of {
            told_at = hub.now();
            events.send(Event::Checking { done, of });
        }
    }
    Ok(have)
}

/// Does something on a worker, and again for as long as the disk is full or there are no descriptors.
async fn until_it_fits<R: Send + 'static, J: FnOnce() -> Result<R, StorageError> + Send + 'static>(
    hub: &Hub,
    events: &TorrentEvents,
    job: impl Fn() -> J,
) -> Result<R, Error> {
    let mut stalled = false;
    loop {
        match on_worker(hub, Lane::Check, job()).await? {
            Err(error) if error.is_no_space() || error.is_too_many_files() => {
                if !std::mem::replace(&mut stalled, true) {
                    events.send(Event::DiskStalled { error: Arc::new(error) });
                }
                tokio::time::sleep(SPACE_RETRY).await;
            }
            done => {
                if stalled && done.is_ok() {
                    events.send(Event::DiskResumed);
                }
                return done.map_err(storage_error);
            }
        }
    }
}
