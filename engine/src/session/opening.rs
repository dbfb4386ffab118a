//! From a torrent that was added to one that runs: opening its storage, checking what is in doubt, reserving space.

use super::announce::announcer;
use super::command::Command;
use super::context::Context;
use super::disk::DiskResult;
use super::event::{Event, State, TorrentStats};
use super::events::EventSender;
use super::handle::{self, Known, Phase, TorrentHandle};
use super::id::TorrentId;
use super::options::{AddTorrent, Mode, Source};
use super::progress::{Progress, Ready};
use super::readers::Readers;
use super::registry::Registry;
use super::services::resolve;
use super::storing::SPACE_RETRY;
use super::swarms::Swarm;
use super::torrent::{Carried, Channels, Inner, Next, TorrentDriver, TorrentEvents};
use crate::error::{Error, OptionError};
use crate::hash::Lane;
use crate::storage::{self, OpenOptions, Opened, Storage, StorageError, Trust};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{InfoHash, PieceIndex};
use swarm_core::metainfo::{Info, Metainfo};
use swarm_core::picker::Priority;
use swarm_core::time::Duration;
use swarm_core::torrent::Totals;
use swarm_core::wire::peer_id;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

/// How often the progress of a check is told.
const CHECK_EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// How many files that cannot be read are named.
const UNREADABLE_TOLD_MAX: usize = 100;

/// Starts a torrent's task and returns its handle.
pub(super) fn spawn(
    context: Rc<Context>,
    id: TorrentId,
    options: AddTorrent,
    registry: &Arc<Registry>,
) -> TorrentHandle {
    let (commands, inbox) = mpsc::unbounded_channel();
    let events = TorrentEvents { id, own: EventSender::default(), session: context.events.clone() };
    let phase = Arc::new(watch::Sender::new(Phase::Running { complete: false }));
    let known: Arc<Known> = Arc::default();
    if let Some(metainfo) = options.source.metainfo() {
        let _ = known.metainfo.set(Arc::clone(metainfo));
    }
    if let Some(info_hash) = options.source.info_hash() {
        let _ = known.info_hash.set(info_hash);
    }
    let handle = TorrentHandle::new(handle::Inner {
        id,
        known: Arc::clone(&known),
        commands,
        events: events.own.downgrade(),
        first: Mutex::new(Some(events.own.subscribe_unclaimed())),
        phase: Arc::downgrade(&phase),
        phases: phase.subscribe(),
    });
    let channels = Channels {
        id,
        registry: Arc::clone(registry),
        commands: inbox,
        events: events.clone(),
        phase: Arc::clone(&phase),
        known: Arc::clone(&known),
    };
    let registry = Arc::clone(registry);
    let task = spawn_local(start(Rc::clone(&context), Rc::new(options), channels));
    spawn_local(async move {
        let result = match task.await {
            Ok(result) => result,
            Err(panic) => {
                let torrent = known.info_hash.get().and_then(|hash| context.swarms.remove(*hash));
                if let Some(torrent) = torrent {
                    torrent.abandon();
                }
                Err(Error::Defect(panic.to_string()))
            }
        };
        registry.remove(id);
        events.send(match &result {
            Ok(()) => Event::Stopped,
            Err(error) => Event::Failed(error.clone()),
        });
        phase.send_replace(Phase::Ended(result));
    });
    handle
}

/// Runs a torrent to its end, through every pause.
pub(super) async fn start(
    context: Rc<Context>,
    mut options: Rc<AddTorrent>,
    mut channels: Channels,
) -> Result<(), Error> {
    let (mut last_stats, mut opened) = (None, None);
    if let Source::Mutable(link) = &options.source {
        let (link, stats) = (link.clone(), Box::new(Progress::default().stats(None)));
        let mut readers = Readers::default();
        let found = tokio::select! {
            found = Box::pin(resolve(&context, &link)) => found?,
            () = Box::pin(stopped(&mut options, &stats, &mut readers, &mut channels.commands)) => return Ok(()),
        };
        channels.registry.claim(found, channels.id)?;
        let _ = channels.known.info_hash.set(found);
        Rc::make_mut(&mut options).source = found.into();
    }
    let Some(&info_hash) = channels.known.info_hash.get() else { return Err(Error::Stopped) };
    let mut carried = first(&context, &options, info_hash);
    loop {
        let mut next = Next::Restart;
        if options.paused {
            let info = options.source.metainfo().map(|metainfo| &*metainfo.info);
            let mut stats = last_stats.take().unwrap_or_else(|| Box::new(Progress::default().stats(info)));
            stats.state = State::Paused;
            channels.events.send(Event::Paused);
            next = Box::pin(paused(&mut options, &stats, &mut carried.readers, &mut channels.commands)).await;
            Rc::make_mut(&mut options).paused = false;
        }
        if next == Next::Restart {
            channels.phase.send_replace(Phase::Running { complete: false });
            let (results_tx, results) = mpsc::unbounded_channel();
            carried.announcer.borrow_mut().handle_more_trackers(context.now(), &options.trackers);
            let torrent =
                TorrentDriver::new(Rc::clone(&context), options, info_hash, &channels, carried, results_tx);
            let torrent = Rc::new(torrent);
            let ended = run(&torrent, results, &mut channels.commands).await;
            // Whoever still holds the torrent holds no reader.
            carried = torrent.carry();
            next = ended?;
            let mut stats = Box::new(TorrentStats { rate_down: 0, rate_up: 0, ..torrent.stats() });
            (stats.peers, stats.seeds, stats.waiting) = (0, 0, None);
            (stats.peer_list, stats.trackers) = (Vec::new(), Vec::new());
            last_stats = (next == Next::Pause).then_some(stats);
            options = Rc::clone(&torrent.changed.borrow());
            opened = torrent.opened.get().cloned().or(opened);
            if let Some(metainfo) = channels.known.metainfo.get() {
                Rc::make_mut(&mut options).source = Arc::clone(metainfo).into();
            }
        }
        match next {
            Next::Stop => return Ok(()),
            Next::Delete => {
                // What was never opened is not known to be the torrent's.
                let Some(storage) = opened else { return Ok(()) };
                return Ok(context.on_worker(Lane::Transfer, move || storage.delete()).await??);
            }
            Next::Pause => Rc::make_mut(&mut options).paused = true,
            Next::Restart => {}
        }
    }
}

/// Runs a torrent until it ends or is to start again. One whose metainfo is known dials nobody before its data is known and checked.
async fn run(
    torrent: &Rc<TorrentDriver>,
    results: mpsc::UnboundedReceiver<Box<DiskResult>>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Result<Next, Error> {
    let context = &torrent.context;
    if let Some(metainfo) = &torrent.to_open() {
        // What only lasts for a moment takes no room afterwards.
        let mut preparing = Box::pin(torrent.prepare_data(metainfo));
        let prepared = tokio::select! {
            prepared = &mut preparing => prepared.map(Ok),
            next = Box::pin(commanded(torrent, commands)) => {
                torrent.progress.abort();
                let _ = preparing.as_mut().await;
                Ok(Err(next))
            }
        };
        drop(preparing);
        match prepared {
            Ok(Ok(ready)) => torrent.take_up(metainfo, ready),
            Ok(Err(next)) => {
                Box::pin(torrent.abandon_data()).await?;
                return Ok(next);
            }
            Err(error) => {
                Box::pin(torrent.abandon_data()).await?;
                return Err(error);
            }
        }
    }
    context.swarms.insert(torrent.info_hash, Rc::clone(torrent) as Rc<dyn Swarm>);
    torrent.begin();
    torrent.announce_on_dht(true);
    // Private torrents are between the tracker and its peers (BEP 27).
    let local = context.lsd.borrow().clone().filter(|_| !torrent.is_private());
    if let Some(lsd) = &local {
        lsd.add(torrent.info_hash);
    }
    let result = torrent.run(results, commands).await;
    context.swarms.remove(torrent.info_hash);
    if let Some(lsd) = &local {
        lsd.remove(torrent.info_hash);
    }
    result
}

/// Takes commands until one ends the run.
async fn commanded(
    torrent: &Rc<TorrentDriver>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Next {
    loop {
        match commands.recv().await {
            Some(command) => {
                if let Some(next) = torrent.on_command(*command) {
                    return next;
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// What a torrent begins with.
fn first(context: &Context, options: &AddTorrent, info_hash: InfoHash) -> Carried {
    let mut rng = context.rng.borrow_mut().fork();
    let peer_id = peer_id(&mut rng);
    let announcer = Rc::new(RefCell::new(announcer(context, options, info_hash, peer_id, rng)));
    Carried {
        peer_id,
        totals: Totals::default(),
        announcer,
        readers: Readers::default(),
        reconnect: Vec::new(),
    }
}

/// Takes commands of a torrent that does not run, until it is to.
async fn paused(
    options: &mut Rc<AddTorrent>,
    stats: &TorrentStats,
    readers: &mut Readers,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Next {
    loop {
        let Some(command) = commands.recv().await else { std::future::pending().await };
        command.apply(options);
        match *command {
            Command::Stats(reply) => drop(reply.send(stats.clone())),
            Command::Read(request) => drop(readers.take_up(request)),
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
    readers: &mut Readers,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) {
    loop {
        match paused(options, stats, readers, commands).await {
            Next::Stop | Next::Delete => return,
            _ => Rc::make_mut(options).paused = false,
        }
    }
}

impl TorrentDriver {
    /// Opens the storage, checks what is in doubt, and reserves space.
    pub(super) async fn prepare_data(&self, metainfo: &Arc<Metainfo>) -> Result<Ready, Error> {
        let (context, options, events) = (&*self.context, &self.options, &self.events);
        let info = &metainfo.info;
        let files = self.changed.borrow().files.resolve(info.files.len())?;
        let (piece_len, buffer_len) = (info.geometry.piece_len(), context.pool.limit_bytes());
        if options.storage.is_some() && 2 * u64::from(piece_len) > buffer_len as u64 {
            return Err(OptionError::BufferTooSmall { piece_len, buffer_len }.into());
        }
        let mode = match options.mode {
            Mode::Seed => storage::Mode::Seed,
            Mode::Download | Mode::Metadata => {
                let wanted = |each: &Vec<Priority>| each.iter().map(|file| *file != Priority::SKIP).collect();
                storage::Mode::Download { wanted: files.as_ref().map(wanted) }
            }
        };
        let open = OpenOptions {
            state_dir: context.options.state_dir.clone(),
            trust: if options.recheck { Trust::Nothing } else { Trust::State },
            overwrite: options.overwrite,
            handles: Arc::clone(&context.handles),
            #[cfg(feature = "__hooks")]
            budget: options.space.clone(),
            ..OpenOptions::new(options.dir.clone(), mode)
        };
        let (storage, opened) = until_it_fits(context, events, &self.progress, || {
            let (metainfo, custom, open) = (Arc::clone(metainfo), options.storage.clone(), open.clone());
            move || storage::open(&metainfo, custom, open)
        })
        .await?;
        let _ = self.opened.set(Arc::clone(&storage));
        for warning in &opened.warnings {
            events.send(Event::Warning(warning.clone()));
        }
        opened.have.iter().for_each(|piece| self.progress.add(info, piece));
        let have = check(context, info, &storage, &opened, events, &self.progress).await?;
        if options.mode == Mode::Download && needs_space(&have, &opened.needed) {
            until_it_fits(context, events, &self.progress, || {
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
        self.context.on_worker(Lane::Transfer, move || storage.abandon()).await
    }

    /// The torrent turns out to be private: it is between the trackers and their peers (BEP 27).
    pub(super) fn keep_private(&self, inner: &mut Inner) {
        inner.core.handle_private(self.context.now());
        self.announcer.borrow_mut().handle_private();
        if let Some(lsd) = self.context.lsd.borrow().as_ref() {
            lsd.remove(self.info_hash);
        }
        if let Some(dht) = self.context.dht.borrow().as_ref() {
            dht.forget(self.info_hash);
        }
    }
}

fn needs_space(have: &Bitfield, needed: &Bitfield) -> bool {
    needed.iter().any(|piece| !have.has(piece))
}

/// Checks the pieces that are in doubt, several at a time, once it is this torrent's turn.
async fn check(
    context: &Context,
    info: &Info,
    storage: &Arc<dyn Storage>,
    opened: &Opened,
    events: &TorrentEvents,
    progress: &Progress,
) -> Result<Bitfield, Error> {
    let mut have = opened.have.clone();
    let of = opened.recheck.count();
    if of == 0 {
        return Ok(have);
    }
    let _turn = progress.unless_aborted(context.checks.acquire()).await?;
    progress.checking.set(true);
    events.send(Event::Checking { done: 0, of });
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut pieces = opened.recheck.iter();
    let submit = |piece: PieceIndex| {
        let (storage, tx) = (Arc::clone(storage), tx.clone());
        context.workers.submit(Lane::Check, move || {
            let result = catch_unwind(AssertUnwindSafe(|| storage.check_piece(piece)));
            let _ = tx.send((piece, result));
        });
    };
    pieces.by_ref().take(context.workers.threads() * 2).for_each(submit);
    let mut told_at = context.now();
    let mut unreadable = BTreeSet::new();
    for done in 1..=of {
        let Some((piece, result)) = rx.recv().await else { break };
        if progress.is_aborted() {
            return Err(Error::Stopped);
        }
        let Ok(result) = result else { return Err(Error::Defect("a disk job panicked".to_owned())) };
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
                until_it_fits(context, events, progress, || {
                    let storage = Arc::clone(storage);
                    move || storage.check_piece(piece)
                })
                .await?
            }
            result => result?,
        };
        if is_right {
            have.insert(piece);
            progress.add(info, piece);
        }
        if let Some(next) = pieces.next() {
            submit(next);
        }
        if context.now().since(told_at) >= CHECK_EVENT_INTERVAL || done == of {
            told_at = context.now();
            events.send(Event::Checking { done, of });
        }
    }
    Ok(have)
}

/// Does something on a worker, and again for as long as the disk is full or there are no descriptors.
async fn until_it_fits<R: Send + 'static, J: FnOnce() -> Result<R, StorageError> + Send + 'static>(
    context: &Context,
    events: &TorrentEvents,
    progress: &Progress,
    job: impl Fn() -> J,
) -> Result<R, Error> {
    let mut stalled = false;
    loop {
        match context.on_worker(Lane::Check, job()).await? {
            Err(error) if error.is_no_space() || error.is_too_many_files() => {
                if !std::mem::replace(&mut stalled, true) {
                    events.send(Event::DiskStalled { error: Arc::new(error) });
                }
                progress.unless_aborted(tokio::time::sleep(SPACE_RETRY)).await?;
            }
            done => {
                if stalled && done.is_ok() {
                    events.send(Event::DiskResumed);
                }
                return Ok(done?);
            }
        }
    }
}
